"""What a vision-language model is asked: which of two pictures is nearer to the goal, where stages begin, how far a
hop goes.

Pairs in two questions, as in RL-VLM-F (Wang et al. 2024): one about both pictures, then one that reduces the analysis
to a word; what cannot be read is unsure, and pictures that are the same are never asked about. Stages as in SARM (Chen
et al. 2025): first frames of a film strip, refused unless each stage comes once and in order. Hops as in Robo-Dopamine
(Tan et al. 2025). Answers are parsed, never trusted: an unreadable hop is an error, an unreadable preference is unsure;
either is asked again the next time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robolearn.errors import SpecError
from robolearn.rewards.endpoint import VisionClient
from robolearn.rewards.preference import FIRST, SECOND, UNSURE

Image = NDArray[np.uint8]

LOOK = (
    'Two pictures of a robot at work are shown. Its goal is: "{goal}". Say in a few sentences what the first picture '
    "shows, what the second shows, and how far each of them is from the goal."
)
DECIDE = (
    'Somebody compared two pictures of a robot whose goal is "{goal}" and wrote:\n\n{analysis}\n\n'
    "Which picture is nearer to the goal? Answer with one word: first, second or unsure."
)
STAGES = (
    "The {count} pictures are a film strip of a robot that does: {instruction}. They are numbered from 0. The task has "
    "these stages, in this order: {stages}. At which picture does each stage begin? Answer with nothing but a JSON "
    "list of {number} growing whole numbers, the first of which is 0."
)
HOP = (
    'A robot has to: "{goal}". The first picture was taken before the second. By how many percent of what was still '
    "missing did it get nearer to the goal? Use negative numbers, in percent of what had been reached, where it got "
    "farther away. Answer with one number from -100 to 100."
)


def compare(client: VisionClient, goal: str, first: Image, second: Image) -> int:
    """FIRST, SECOND or UNSURE: which of two images (H, W, 3) is nearer to the goal."""
    if np.array_equal(first, second):
        return UNSURE
    analysis = client.ask(LOOK.format(goal=goal), [first, second], lambda answer: bool(answer.strip()))
    decision = client.ask(DECIDE.format(goal=goal, analysis=analysis), (), lambda answer: len(_named(answer)) == 1)
    return {frozenset({"first"}): FIRST, frozenset({"second"}): SECOND}.get(_named(decision), UNSURE)


def _named(answer: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z]+", answer.lower())) & {"first", "second", "unsure"}


def stage_starts(
    client: VisionClient, instruction: str, stages: Sequence[str], images: Image, pictures: int = 16
) -> tuple[int, ...]:
    """First step of each stage of an episode with images (T, H, W, 3), to the accuracy of `pictures` in a strip.

    Raises SpecError when the answer is not one growing number a stage.
    """
    shown = np.unique(np.linspace(0, len(images) - 1, pictures).round().astype(int))
    question = STAGES.format(count=len(shown), instruction=instruction, stages=", ".join(stages), number=len(stages))

    def starts_in(answer: str) -> list[int]:
        """Empty where there are none."""
        match = re.search(r"\[[^\[\]]*\]", answer)
        try:
            starts = [int(number) for number in json.loads(match[0])] if match else []
        except (ValueError, TypeError):
            return []
        growing = all(a < b for a, b in pairwise(starts))
        fits = len(starts) == len(stages) and starts[0] == 0 and growing and starts[-1] < len(shown)
        return starts if fits else []

    answer = client.ask(question, [images[step] for step in shown], lambda answer: bool(starts_in(answer)))
    starts = starts_in(answer)
    if not starts:
        raise SpecError(
            f"the model answers {answer[:60]!r} for the stages {', '.join(stages)}; expected {len(stages)} growing "
            f"numbers from 0 to {len(shown) - 1}; annotate this episode by hand"
        )
    return tuple(int(shown[number]) for number in starts)


class UnreadableHopError(SpecError):
    """A hop that cannot be read; `pair` is its number among those that were asked for."""

    def __init__(self, answer: str, pair: int) -> None:
        super().__init__(f"the model answers {answer[:60]!r} for a hop; expected a number from -100 to 100; ask again")
        self.pair = pair


class AskedHops:
    """A HopModel (`hop.py`) behind a VisionClient."""

    def __init__(self, client: VisionClient) -> None:
        self._client = client

    def hops(self, before: Tensor, after: Tensor, text: Sequence[str]) -> Tensor:
        answers = [
            self._hop(goal, one, two, pair)
            for pair, (goal, one, two) in enumerate(zip(text, before.cpu().numpy(), after.cpu().numpy(), strict=True))
        ]
        return torch.tensor(answers, device=before.device)

    def _hop(self, goal: str, before: Image, after: Image, pair: int) -> float:
        if np.array_equal(before, after):
            return 0.0
        question = HOP.format(goal=goal)
        answer = self._client.ask(question, [before, after], lambda answer: _percent(answer) is not None)
        percent = _percent(answer)
        if percent is None:
            raise UnreadableHopError(answer, pair)
        return percent / 100.0


def _percent(answer: str) -> float | None:
    """The first number of an answer; None where there is none from -100 to 100."""
    number = re.search(r"[-+]?\d+(?:\.\d+)?", answer.replace("\N{MINUS SIGN}", "-"))
    return float(number[0]) if number is not None and abs(float(number[0])) <= 100.0 else None
