"""Train a policy on a dataset: the loop, validation, checkpoints, resuming.

The batch of a step depends on the seed and the step alone, so a resumed run repeats what an uninterrupted one does.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import Any

from robolearn import __version__
from robolearn.algorithms import Algorithm, algorithm_class
from robolearn.algorithms.bc import BCConfig
from robolearn.errors import CheckpointError, RobolearnError, SpecError
from robolearn.networks.model_directory import config_from_json
from robolearn.recipes.run import Run, read_run_config, read_state
from robolearn.recipes.training_data import TrainingData

SAVES = 10  # validations and checkpoints in a run
LOG_STEPS = 20
COLUMNS = ("train_loss", "grad_norm", "learning_rate", "validation_loss")

Progress = Callable[[int, str], None]
"""Called with the steps done and a short text."""


def default_steps(algorithm: str) -> int:
    """Gradient steps of a run unless somebody asks for others."""
    return algorithm_class(algorithm).config_type().steps


def steps_of_run(run: Path) -> int:
    """Gradient steps that a run was begun for. Raises CheckpointError when it is not a run."""
    try:
        return int(read_run_config(run)["config"]["steps"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{run} cannot be resumed; its config.yaml has no number of steps") from error


def train_offline(
    algorithm: str,
    dataset: Path,
    out: Path,
    steps: int | None = None,
    seed: int = 0,
    config: BCConfig | None = None,
    resume: Path | None = None,
    device: str = "cpu",
    progress: Progress = lambda done, text: None,
) -> dict[str, Any]:
    """Train on the dataset and write the run `out`, or continue the run `resume` as it was begun.

    Ctrl-C saves and returns. The result has `checkpoint` (the best by validation loss), `latest_checkpoint`,
    `untrained_checkpoint`, `steps`, `interrupted`, `validation_loss` (of the best), `train_episodes`,
    `validation_episodes` and `train_seconds` (of this call). Raises DatasetError before anything is written when the
    dataset cannot be learned from, and RobolearnError when the loss stops being a number.
    """
    if resume is not None:
        begun = read_run_config(resume)
        out = resume
        try:
            algorithm, dataset, seed = begun["algorithm"], Path(begun["dataset"]), int(begun["seed"])
            settings: Any = config_from_json(algorithm_class(algorithm).config_type, begun["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{resume} cannot be resumed; config.yaml of another robolearn ({error})") from error
    else:
        settings = config or algorithm_class(algorithm).config_type()
        settings = replace(settings, steps=settings.steps if steps is None else steps)

    if settings.steps < 1 or seed < 0:
        raise SpecError(f"{settings.steps} steps with seed {seed}; expected at least 1 step and a seed of at least 0")
    started_s = time.perf_counter()
    data = TrainingData(dataset, settings.policy.chunk_steps, seed, device)
    learner = algorithm_class(algorithm)(data.spec, data.statistics, settings, seed, device)
    facts = {"step": 0.0, "wall_s": 0.0, "best_loss": math.inf}
    if resume is not None:
        tensors, facts = read_state(resume)
        learner.load_state_dict(tensors)
        run = Run.resume(out, COLUMNS, learner.gradient_step)
    else:
        about = {"algorithm": algorithm, "dataset": str(dataset), "seed": seed, "robolearn_version": __version__}
        run = Run.create(out, {**about, "config": _plain(asdict(settings))}, COLUMNS)

    provenance = {"algorithm": algorithm, "dataset": str(dataset), "seed": seed, "episode_seeds": data.episode_seeds}
    checkpoints = out / "checkpoints"
    with run, _interruptible() as interrupted:
        if resume is None:
            run.save(learner.policy(), 0, provenance, ("untrained", "latest", "best"))
        best_loss = facts["best_loss"]
        stop = False
        while learner.gradient_step < settings.steps and not stop:
            metrics = learner.update(data.batch(learner.gradient_step, settings.batch_size))
            step = learner.gradient_step
            stop = interrupted.is_set()
            save = stop or step == settings.steps or step % max(settings.steps // SAVES, 1) == 0
            if not save and step % LOG_STEPS:
                continue
            row = {"train_loss" if name == "loss" else name: float(value) for name, value in metrics.items()}
            if not math.isfinite(row["train_loss"]):
                raise RobolearnError(
                    f"training diverged: the loss is {row['train_loss']} at step {step}; look at metrics.csv of {out}, "
                    f"lower learning_rate, and use {checkpoints / 'best'} until then"
                )
            wall_s = facts["wall_s"] + time.perf_counter() - started_s
            if save:
                row["validation_loss"] = _validation_loss(learner, data)
                names = ("latest", "best") if row["validation_loss"] < best_loss else ("latest",)
                best_loss = min(best_loss, row["validation_loss"])
                run.save(learner.policy(), step, {**provenance, **row}, names)
                run.save_state(learner.state_dict(), {"step": step, "wall_s": wall_s, "best_loss": best_loss})
            run.log(step, wall_s, row)
            progress(step, f"loss {row['train_loss']:.4f}, validation {best_loss:.4f}")
    return {
        "checkpoint": checkpoints / "best",
        "latest_checkpoint": checkpoints / "latest",
        "untrained_checkpoint": checkpoints / "untrained",
        "steps": learner.gradient_step,
        "interrupted": learner.gradient_step < settings.steps,
        "validation_loss": best_loss,
        "train_episodes": len(data.train_episodes),
        "validation_episodes": len(data.validation_episodes),
        "train_seconds": time.perf_counter() - started_s,
    }


def _validation_loss(learner: Algorithm, data: TrainingData) -> float:
    losses = [float(learner.validate(batch)["loss"]) for batch in data.validation_batches]
    return sum(losses) / len(losses)


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML has a word for."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets, so that the step under way is finished; the second one interrupts."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread hears of signals
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
