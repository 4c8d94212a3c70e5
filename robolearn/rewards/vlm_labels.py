"""What a vision-language model is asked: which of two pictures is nearer to the goal, where stages begin, how far a
hop goes, how far a task is, on which way a thing has to move.

Pairs in two questions, as in RL-VLM-F (Wang et al. 2024): one about both pictures, then one that reduces the analysis
to a word; what cannot be read is unsure, and pictures that are the same are never asked about. Of segments film strips
are compared. Stages as in SARM (Chen et al. 2025): first frames of a film strip, refused unless each stage comes once
and in order. Hops as in Robo-Dopamine (Tan et al. 2025), three signals as in Large Reward Models (2026). Keypoint and
waypoints as in KAGI (Lee et al. 2024), by marks on the picture (`marks.py`). Answers are parsed, never trusted, and
asked for twice; where that does not help a hop or signal is not known (NaN), a preference unsure, and stages and ways
are an error.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robolearn.errors import SpecError
from robolearn.rewards.endpoint import AGAIN, VisionClient
from robolearn.rewards.marks import CELLS, GRID, Place, Thing, cell_of, coloured_things, marked
from robolearn.rewards.preference import FIRST, SECOND, UNSURE

Image = NDArray[np.uint8]

STRIP_LINE_PX = 2  # between two pictures of a film strip

LOOK = (
    'Two pictures of a robot at work are shown. Its goal is: "{goal}". Say in a few sentences what the first picture '
    "shows, what the second shows, and how far each of them is from the goal."
)
LOOK_AT_STRIPS = (
    "Two film strips of a robot at work are shown; in each of them time runs from left to right. Its goal is: "
    '"{goal}". Say in a few sentences what happens in the first strip, what happens in the second, and how far each of '
    "them is from the goal, over its whole length."
)
DECIDE = (
    'Somebody compared two {what}s of a robot whose goal is "{goal}" and wrote:\n\n{analysis}\n\n'
    "Which {what} is nearer to the goal? Answer with one word: first, second or unsure."
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

WAY = (
    'The picture shows a robot at work. Its goal is: "{goal}". Things in it are marked by the numbers 1 to {count}; a '
    "grid divides it into columns {columns} from left to right and rows {rows} from top to bottom. Which marked thing "
    "has to be moved, and through which cells does its centre have to go, one after the other, until the goal is "
    "reached? Begin with the first cell after the one that it is in, name a cell wherever the way turns, and end with "
    'the one where it is to stay. Answer with nothing but a JSON object like {{"mark": 1, "cells": ["A1", "B2"]}}'
)


def compare(client: VisionClient, goal: str, first: Image, second: Image) -> int:
    """FIRST, SECOND or UNSURE: which of two segments (L, H, W, 3) is nearer to the goal. Of one step they are shown as
    pictures, of more as film strips."""
    if np.array_equal(first, second):
        return UNSURE
    look, what = (LOOK, "picture") if len(first) == 1 else (LOOK_AT_STRIPS, "film strip")
    shown = [film_strip(first), film_strip(second)]
    analysis = client.ask(look.format(goal=goal), shown, wanted="a few sentences")
    if not analysis.strip():
        return UNSURE
    question = DECIDE.format(what=what, goal=goal, analysis=analysis)
    decision = client.ask(question, (), lambda answer: len(_named(answer)) == 1, "one word: first, second or unsure")
    return {frozenset({"first"}): FIRST, frozenset({"second"}): SECOND}.get(_named(decision), UNSURE)


def film_strip(images: Image, pictures: int = 4) -> Image:
    """At most so many of the images (L, H, W, 3), evenly spaced from the first to the last, side by side with white
    lines between them: (H, W', 3)."""
    shown = np.unique(np.linspace(0, len(images) - 1, pictures).round().astype(int))
    line = np.full((images.shape[1], STRIP_LINE_PX, 3), 255, np.uint8)
    parts = [part for step in shown for part in (line, images[step])]
    return np.concatenate(parts[1:], axis=1)


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
        except (ValueError, TypeError, OverflowError):
            return []
        growing = all(a < b for a, b in pairwise(starts))
        fits = len(starts) == len(stages) and starts[0] == 0 and growing and starts[-1] < len(shown)
        return starts if fits else []

    wanted = f"a JSON list of {len(stages)} growing numbers from 0 to {len(shown) - 1}"
    answer = client.ask(question, [images[step] for step in shown], lambda answer: bool(starts_in(answer)), wanted)
    starts = starts_in(answer)
    if not starts:
        raise SpecError(
            f"the model answers {answer[:60]!r} for the stages {', '.join(stages)}; expected {wanted}; annotate this "
            "episode by hand"
        )
    return tuple(int(shown[number]) for number in starts)


def marked_way(client: VisionClient, goal: str, image: Image) -> tuple[Thing, tuple[Place, ...]]:
    """The thing in an image (H, W, 3) that has to move, and the places, centres of cells, that it has to pass.

    Raises SpecError when nothing in the image can be marked, or the answer names what is not marked there.
    """
    things = coloured_things(image)
    if not things:
        raise SpecError("nothing in the picture has a strong colour that could be followed; take another camera")
    columns, rows = f"A to {chr(ord('A') + GRID - 1)}", f"1 to {GRID}"
    question = WAY.format(goal=goal, count=len(things), columns=columns, rows=rows)

    def read(answer: str) -> tuple[Thing, tuple[Place, ...]] | None:
        objects = re.findall(r"\{[^{}]*\}", answer)
        try:
            said = json.loads(objects[0]) if len(objects) == 1 else {}
        except (ValueError, RecursionError):
            return None
        mark, cells = said.get("mark"), said.get("cells")
        if type(mark) is not int or not 1 <= mark <= len(things) or not isinstance(cells, list):
            return None
        thing = things[mark - 1]
        if cells[:1] == [cell_of(thing.centre)]:  # where it is already
            cells = cells[1:]
        fits = cells and all(isinstance(cell, str) and cell in CELLS for cell in cells)
        if not fits or any(a == b for a, b in pairwise(cells)):
            return None
        return thing, tuple(CELLS[cell] for cell in cells)

    wanted = (
        f"a JSON object with a mark from 1 to {len(things)} and cells of columns {columns} and rows {rows}, none twice "
        "in a row"
    )
    answer = client.ask(question, [marked(image, things)], lambda answer: read(answer) is not None, wanted)
    found = read(answer)
    if found is None:
        raise SpecError(
            f"the model answers {answer[:60]!r} for a way; expected {wanted}; ask again, or give waypoints in a file, "
            "see docs/rewards.md"
        )
    return found


def asked_name(model: str, questions: Sequence[str]) -> str:
    """By what a model of this name goes that is asked this: other words make another version of what it says."""
    return f"{model}, questions {hashlib.sha256(chr(0).join(questions).encode()).hexdigest()[:8]}"


class AskedHops:
    """A HopModel (`hop.py`) behind a VisionClient."""

    questions = (HOP, AGAIN)

    def __init__(self, client: VisionClient) -> None:
        self._client = client

    def hops(self, before: Tensor, after: Tensor, text: Sequence[str]) -> Tensor:
        pictures = (one.cpu().numpy() for one in (before, after))
        answers = [self._hop(goal, *shown) for goal, *shown in zip(text, *pictures, strict=True)]
        return torch.tensor(answers, device=before.device)

    def _hop(self, goal: str, before: Image, after: Image) -> float:
        if np.array_equal(before, after):
            return 0.0
        return _told(self._client, HOP.format(goal=goal), [before, after], _hop_in, "one number from -100 to 100")


class AskedSignals:
    """A SignalModel (`three_signals.py`) behind a VisionClient."""

    questions = (PROCESS, COMPLETION, CONTRAST, AGAIN)

    def __init__(self, client: VisionClient) -> None:
        self._client = client

    def signals(self, start: Tensor, before: Tensor, now: Tensor, text: Sequence[str]) -> Tensor:
        pictures = (one.cpu().numpy() for one in (start, before, now))
        answers = [self._signals(goal, *shown) for goal, *shown in zip(text, *pictures, strict=True)]
        return torch.tensor(answers, device=now.device).T

    def _signals(self, goal: str, start: Image, before: Image, now: Image) -> tuple[float, float, float]:
        def told(question: str, images: Sequence[Image], read: Reader, wanted: str) -> float:
            return _told(self._client, question.format(goal=goal), images, read, wanted)

        process = told(PROCESS, [start, now], _share, "one number from 0 to 100")
        completion = told(COMPLETION, [now], _meaning({"yes": 1.0, "no": 0.0}), "one word: yes or no")
        if np.array_equal(before, now):
            return process, completion, 0.0
        nearer = _meaning({"first": -1.0, "second": 1.0, "same": 0.0})
        return process, completion, told(CONTRAST, [before, now], nearer, "one word: first, second or same")


Reader = Callable[[str], float | None]
"""What an answer means; None where it cannot be read."""


def _told(client: VisionClient, question: str, images: Sequence[Image], read: Reader, wanted: str) -> float:
    """What the answer means; NaN where it cannot be read."""
    value = read(client.ask(question, images, lambda answer: read(answer) is not None, wanted))
    return math.nan if value is None else value


def _hop_in(answer: str) -> float | None:
    """The hop that an answer gives in percent; None where there is no number from -100 to 100, or several, as "in
    picture 2 it is at 40"."""
    numbers = {float(one) for one in re.findall(r"[-+]?\d+(?:\.\d+)?", answer.replace("\N{MINUS SIGN}", "-"))}
    return next(iter(numbers)) / 100.0 if len(numbers) == 1 and all(abs(one) <= 100.0 for one in numbers) else None


def _share(answer: str) -> float | None:
    """The share of 1 that an answer gives in percent."""
    share = _hop_in(answer)
    return share if share is not None and share >= 0.0 else None


def _meaning(meanings: Mapping[str, float]) -> Reader:
    """Reads the one of these words that an answer holds; not where it holds several."""

    def read(answer: str) -> float | None:
        named = set(re.findall(r"[a-z]+", answer.lower())) & set(meanings)
        return meanings[named.pop()] if len(named) == 1 else None

    return read
