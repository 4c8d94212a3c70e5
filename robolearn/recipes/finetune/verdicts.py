"""What the judge says of an attempt, decision by decision: at once, or aside while the robot goes on.

A judge that takes long (pictures) is asked in a thread of its own and answers in order. In the twin the verdict on a
decision is waited for one decision later, so that runs repeat exactly; on a robot nothing waits: what has come by then
counts, and the rest later.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robolearn.recipes.finetune.judges import Frames, Judge

DELAY = 1  # decisions by which a verdict from aside comes late in the twin


class Verdict(NamedTuple):
    """On a decision: which of its frames (N,) show the task done, and how far it is after the last one, if known."""

    done: NDArray[np.bool_]
    potential: float | None


class Verdicts:
    """aside: whether the judge is asked in a thread; patient: whether its answers are waited for."""

    def __init__(self, judge: Judge, aside: bool, patient: bool) -> None:
        self._judge, self._patient = judge, patient
        self._thread = ThreadPoolExecutor(1, "judge") if aside else None
        self._asked: list[Future[Verdict]] = []
        self._heard = 0
        self._start: Future[Verdict] | None = None

    def begin(self, first: Frames | None = None, task: int = 0) -> None:
        """An attempt begins; the verdicts on the one before were all heard. first: the frame that it begins with, where
        its potential is wanted."""
        self._asked, self._heard = [], 0
        begin = getattr(self._judge, "begin", None)
        if begin is not None:
            begin()
        self._start = None if first is None else self._submit(first, task)

    def ask(self, frames: Frames, task: int) -> None:
        """What does the judge say of the frames of the next decision?"""
        self._asked.append(self._submit(frames, task))

    def start(self) -> float | None:
        """The potential of the attempt's first frame, if it was asked for; waits for it."""
        return None if self._start is None else self._start.result().potential

    def _submit(self, frames: Frames, task: int) -> Future[Verdict]:
        if self._thread is not None:
            return self._thread.submit(self._judged, frames, task)
        answer: Future[Verdict] = Future()
        answer.set_result(self._judged(frames, task))
        return answer

    def _judged(self, frames: Frames, task: int) -> Verdict:
        done, potential = self._judge.done(frames, task), self._judge.potential(frames, task)
        return Verdict(done, None if potential is None else float(potential[-1]))

    def hear(self, all_of_them: bool = False) -> list[tuple[int, Verdict]]:
        """The verdicts that came in since the last call, oldest first, with the numbers of their decisions."""
        due = len(self._asked) if all_of_them or self._thread is None else len(self._asked) - DELAY
        came = []
        while self._heard < len(self._asked):
            answer, waits = self._asked[self._heard], self._heard < due and (self._patient or all_of_them)
            if not waits and (self._patient or not answer.done()) and self._thread is not None:
                break
            came.append((self._heard, answer.result()))
            self._heard += 1
        return came

    def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
