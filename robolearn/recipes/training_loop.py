"""What every training has in common: when to log and save, what stops it, and where its time goes."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import torch

from robolearn.algorithms import algorithm_class
from robolearn.algorithms.algorithm import Metrics, TrainablePolicy
from robolearn.algorithms.optimizer import polyak_update
from robolearn.errors import RobolearnError

SAVES = 10  # checkpoints, with a validation or evaluation, in a run
DIVERGED = 1e9  # of any metric
ONE_PRESS_S = 0.3
AVERAGE = "average."  # before the names of the policy that is kept, in what a resumed run needs

Progress = Callable[[int, str], None]
"""Called with the steps done and a short text."""
Tell = Callable[[str], None]
"""Called with what a person should know, a line."""


class Stopwatch:
    """Sums up where time goes: `with watch("update"): ...`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        started_s = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started_s

    def shares(self) -> dict[str, float]:
        """Share of each part, the largest first."""
        total = sum(self.seconds.values()) or 1.0
        return {name: s / total for name, s in sorted(self.seconds.items(), key=lambda item: -item[1])}


def due(step: int, before: int, every: int, total: int) -> bool:
    """Whether a multiple of `every`, or the end, lies in (before, step]."""
    return step // every > before // every or step >= total


def scalars(metrics: Metrics, out: Path, step: int) -> dict[str, float]:
    """The metrics as numbers. Raises RobolearnError when the training has diverged."""
    values = {name: float(value) for name, value in metrics.items()}
    for name, value in values.items():
        if not math.isfinite(value) or abs(value) > DIVERGED:
            raise diverged(f"{name} is {value:g}", out, step)
    return values


def require_finite(policy: TrainablePolicy, out: Path, step: int) -> None:
    """Raise RobolearnError before a policy is saved that the last update ruined, which no metric tells yet."""
    for name, value in policy.state_dict().items():
        if not torch.isfinite(value).all():
            raise diverged(f"{name} of the policy is not finite", out, step)


def diverged(what: str, out: Path, step: int) -> RobolearnError:
    """The error of a training that has diverged, with what to look at."""
    best = out / "checkpoints" / "best"
    return RobolearnError(
        f"training diverged: {what} at step {step}; look at metrics.csv of {out} for what grew first, lower the "
        f"learning rates, check the scale of rewards and observations, and use {best} until then"
    )


def mean_follows(kept: TrainablePolicy, newest: TrainablePolicy, share: float) -> None:
    """Move the policy that is kept a share of the way to the newest, for what learns online swings (Polyak and Juditsky
    1992)."""
    there = newest.state_dict()
    here = {
        name: value for name, value in kept.state_dict().items() if value.is_floating_point()
    }  # no version's number
    polyak_update(list(here.values()), [there[name] for name in here], share)


def default_steps(algorithm: str) -> int:
    """Steps of a run unless somebody asks for others: of the environment online, of the gradient offline."""
    return algorithm_class(algorithm).config_type().steps


@contextlib.contextmanager
def interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that the step under way is finished; the second one interrupts. What
    follows within ONE_PRESS_S is the same one: `torchrun` passes on what its processes heard themselves."""
    asked = threading.Event()
    asked_s = 0.0

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked_s
        if not asked.is_set():
            asked_s = time.monotonic()
            asked.set()
        elif time.monotonic() - asked_s > ONE_PRESS_S:
            signal.signal(signal.SIGINT, before)
            signal.raise_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread hears of signals
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
