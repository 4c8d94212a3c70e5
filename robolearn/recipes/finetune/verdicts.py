"""What the judge says of an attempt, decision by decision: at once, or aside while the robot goes on.

A judge that takes long (pictures) is asked in a thread of its own and answers in order. In the twin the verdict on a
decision is waited for one decision later, so that runs repeat exactly; on a robot nothing waits: what has come by then
counts, and the rest later.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from robolearn.recipes.finetune.judges import Frames, Judge

DELAY = 1  # decisions by which a verdict from aside comes late in the twin


class Verdicts:
    """aside: whether the judge is asked in a thread; patient: whether its answers are waited for."""

    def __init__(self, judge: Judge, aside: bool, patient: bool) -> None:
        self._judge, self._patient = judge, patient
        self._thread = ThreadPoolExecutor(1, "judge") if aside else None
        self._asked: list[Future[NDArray[np.bool_]]] = []
        self._heard = 0

    def begin(self) -> None:
        """An attempt begins; the verdicts on the one before were all heard."""
        self._asked, self._heard = [], 0
        begin = getattr(self._judge, "begin", None)
        if begin is not None:
            begin()

    def ask(self, frames: Frames, task: int) -> None:
        """What does the judge say of the frames of the next decision?"""
        if self._thread is not None:
            self._asked.append(self._thread.submit(self._judge.done, frames, task))
            return
        answer: Future[NDArray[np.bool_]] = Future()
        answer.set_result(self._judge.done(frames, task))
        self._asked.append(answer)

    def hear(self, all_of_them: bool = False) -> list[tuple[int, NDArray[np.bool_]]]:
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
