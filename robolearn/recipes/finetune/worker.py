"""`python -m robolearn.recipes.finetune.worker collector|learner RUN`: one process of a run, started by `recipe.py`.

It ends when its standard input does, that is, when whoever started it is gone. So does the node `practice`, which
collects on the ROS graph.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from robolearn.envs.practice_cell import PracticeCell
from robolearn.errors import RobolearnError
from robolearn.recipes.finetune.collector import REPLAY, STOPPED, Collector
from robolearn.recipes.finetune.learner import Learner, follow
from robolearn.recipes.finetune.recipe import old_data
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.workers import leave_interrupts_to_starter

GRACE_S = 5.0  # when the starter has gone, for a decision to end and devices to be closed, or for an update and a save


def main() -> None:
    role, run = sys.argv[1], Path(sys.argv[2])
    leave_interrupts_to_starter(signal.SIGTERM)
    torch.set_num_threads(1)
    left = starter_gone()
    config = FinetuneConfig.read(run)
    try:
        {"collector": collect, "learner": _learn}[role](config, run, left)
    except RobolearnError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


def starter_gone() -> threading.Event:
    """Set when standard input ends; GRACE_S later so does this process."""
    left = threading.Event()
    threading.Thread(target=_watch, args=(left,), daemon=True).start()
    return left


def _watch(left: threading.Event) -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock the end of the process wants
        pass
    left.set()
    threading.Event().wait(GRACE_S)
    os._exit(1)


def collect(
    config: FinetuneConfig,
    run: Path,
    left: threading.Event,
    make: Callable[[Mapping[str, tuple[int, int]]], PracticeCell] | None = None,
) -> None:
    """Attempt after attempt, until the supervisor stops for good; exits with 1 when `left` is set before. make: as of
    the Collector."""
    collector = Collector(config, run, alive=lambda: not left.is_set(), make=make)
    try:
        while collector.attempt():
            pass
    except InterruptedError:
        sys.exit(1)  # it has not stopped by itself
    finally:
        collector.close()


def _learn(config: FinetuneConfig, run: Path, left: threading.Event) -> None:
    learner = Learner(config, run, old_data(config, run), alive=lambda: not left.is_set())
    with contextlib.suppress(InterruptedError):
        follow(learner, run / REPLAY, lambda: not left.is_set() and not (run / STOPPED).exists())
    learner.close()


if __name__ == "__main__":
    main()
