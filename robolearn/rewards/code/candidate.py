"""A written reward and what came of training with it, and how that is told to the author of the next one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRACE_POINTS = 10


@dataclass(frozen=True)
class Training:
    """What came of training with one reward: traces of the run, and the task's metric where one is measured."""

    traces: dict[str, NDArray[np.float64]]  # of each component over the training
    metric: float | None = None  # larger is better
    run: str = ""  # where it is kept, if anywhere
    film: str = ""  # what the policy does, if anybody is shown it


@dataclass(frozen=True)
class Candidate:
    """One written reward, with its training or with what was wrong with it."""

    round: int
    number: int  # of all rounds, from 1 on, in the order in which they were written
    answer: str
    code: str
    training: Training | None
    error: str


def trace_text(training: Training) -> str:
    """Each trace at ten points with its maximum, mean and minimum, a line each, and which of them hardly change."""
    lines = []
    for name, trace in training.traces.items():
        points = trace[np.linspace(0, len(trace) - 1, min(TRACE_POINTS, len(trace))).round().astype(int)]
        values = ", ".join(f"{value:.3g}" for value in points)
        lines.append(f"{name}: [{values}], max {trace.max():.3g}, mean {trace.mean():.3g}, min {trace.min():.3g}")
    constant = [name for name, trace in training.traces.items() if np.ptp(trace) < 1e-9]
    if constant:
        lines.append(f"Hardly changing, so rescale, rewrite or drop: {', '.join(constant)}.")
    return "\n".join(lines)


def failure_text(candidate: Candidate) -> str:
    """What is told of one that could not be used, when nothing else is there to go on from."""
    return f"The reward could not be used: {candidate.error}\nWrite one that keeps to the rules."


def failures_text(candidates: Iterable[Candidate]) -> str:
    """A line for each that could not be used; empty where all could."""
    return "".join(f"\nAnother reward could not be used: {one.error}" for one in candidates if one.training is None)
