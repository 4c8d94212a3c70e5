"""What a vision-language model is asked: which of two pictures is nearer to the goal, where stages begin, how far a
hop goes, how far a task is.

Pairs in two questions, as in RL-VLM-F (Wang et al. 2024): one about both pictures, then one that reduces the analysis
to a word; what cannot be read is unsure, and pictures that are the same are never asked about. Stages as in SARM (Chen
et al. 2025): first frames of a film strip, refused unless each stage comes once and in order. Hops as in Robo-Dopamine
(Tan et al. 2025), three signals as in Large Reward Models (2026). Answers are parsed, never trusted: an unreadable hop
or signal is an error, an unreadable preference is unsure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
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
PROCESS = (
    'A robot has to: "{goal}". The first picture shows where it began, the second where it is now. How many percent of '
    "the task are done? Answer with one number from 0 to 100."
)
COMPLETION = (
    'A robot has to: "{goal}". The picture shows where it is now. Is that done? Answer with one word: yes or no.'
)
CONTRAST = (
    'A robot has to: "{goal}". In which of the two pictures is it nearer to having done that? Answer with one word: '
    "first, second or same."
)


def compare(client: VisionClient, goal: str, first: Image, second: Image) -> int:
    """FIRST, SECOND or UNSURE: which of two images (H, W, 3) is nearer to the goal."""
    if np.array_equal(first, second):
        return UNSURE
    analysis = client.ask(LOOK.format(goal=goal), [first, second])
    words = set(re.findall(r"[a-z]+", client.ask(DECIDE.format(goal=goal, analysis=analysis)).lower()))
    named = words & {"first", "second", "unsure"}
    return {frozenset({"first"}): FIRST, frozenset({"second"}): SECOND}.get(frozenset(named), UNSURE)


def stage_starts(
    client: VisionClient, instruction: str, stages: Sequence[str], images: Image, pictures: int = 16
) -> tuple[int, ...]:
    """First step of each stage of an episode with images (T, H, W, 3), to the accuracy of `pictures` in a strip.

    Raises SpecError when the answer is not one growing number a stage.
    """
    shown = np.unique(np.linspace(0, len(images) - 1, pictures).round().astype(int))
    question = STAGES.format(count=len(shown), instruction=instruction, stages=", ".join(stages), number=len(stages))
    answer = client.ask(question, [images[step] for step in shown])
    match = re.search(r"\[[^\[\]]*\]", answer)
    try:
        starts = [int(number) for number in json.loads(match[0])] if match else []
    except (ValueError, TypeError):
        starts = []
    growing = all(a < b for a, b in pairwise(starts))
    if len(starts) != len(stages) or starts[0] != 0 or not growing or starts[-1] >= len(shown):
        raise SpecError(
            f"the model answers {answer[:60]!r} for the stages {', '.join(stages)}; expected {len(stages)} growing "
            f"numbers from 0 to {len(shown) - 1}; annotate this episode by hand"
        )
    return tuple(int(shown[number]) for number in starts)


class AskedHops:
    """A HopModel (`hop.py`) behind a VisionClient."""

    def __init__(self, client: VisionClient) -> None:
        self._client = client

    def hops(self, before: Tensor, after: Tensor, text: Sequence[str]) -> Tensor:
        answers = [
            self._hop(goal, one, two)
            for goal, one, two in zip(text, before.cpu().numpy(), after.cpu().numpy(), strict=True)
        ]
        return torch.tensor(answers, device=before.device)

    def _hop(self, goal: str, before: Image, after: Image) -> float:
        if np.array_equal(before, after):
            return 0.0
        return _percent(self._client.ask(HOP.format(goal=goal), [before, after]), "a hop", -100)


class AskedSignals:
    """A SignalModel (`three_signals.py`) behind a VisionClient."""

    def __init__(self, client: VisionClient) -> None:
        self._client = client

    def signals(self, start: Tensor, before: Tensor, now: Tensor, text: Sequence[str]) -> Tensor:
        pictures = (one.cpu().numpy() for one in (start, before, now))
        answers = [self._signals(goal, *moment) for goal, *moment in zip(text, *pictures, strict=True)]
        return torch.tensor(answers, device=now.device).T

    def _signals(self, goal: str, start: Image, before: Image, now: Image) -> tuple[float, float, float]:
        ask = self._client.ask
        process = _percent(ask(PROCESS.format(goal=goal), [start, now]), "the process", 0)
        completion = _word(ask(COMPLETION.format(goal=goal), [now]), "the completion", {"no": 0.0, "yes": 1.0})
        if np.array_equal(before, now):
            return process, completion, 0.0
        nearer = {"first": -1.0, "second": 1.0, "same": 0.0}
        return process, completion, _word(ask(CONTRAST.format(goal=goal), [before, now]), "the contrast", nearer)


def _percent(answer: str, what: str, least: int) -> float:
    """The share of 1 that an answer gives in percent. Raises SpecError for what is no number from `least` to 100."""
    number = re.search(r"[-+]?\d+(?:\.\d+)?", answer.replace("\N{MINUS SIGN}", "-"))
    if number is None or not least <= float(number[0]) <= 100.0:
        raise SpecError(f"the model answers {answer[:60]!r} for {what}; expected a number from {least} to 100")
    return float(number[0]) / 100.0


def _word(answer: str, what: str, meanings: Mapping[str, float]) -> float:
    """What the one word means that an answer holds. Raises SpecError where it holds none of them or several."""
    named = set(re.findall(r"[a-z]+", answer.lower())) & set(meanings)
    if len(named) != 1:
        raise SpecError(f"the model answers {answer[:60]!r} for {what}; expected one word of {', '.join(meanings)}")
    return meanings[named.pop()]
