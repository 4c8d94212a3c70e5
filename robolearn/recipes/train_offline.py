"""Train a policy on a dataset."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from robolearn.algorithms import algorithm_class
from robolearn.algorithms.algorithm import Algorithm
from robolearn.algorithms.compute import Compute
from robolearn.algorithms.optimizer import OVER_A_RUN
from robolearn.datasets.sampler import SUCCESS
from robolearn.errors import CheckpointError, SpecError
from robolearn.recipes.check_settings import check_settings
from robolearn.recipes.demonstrations import TaskData
from robolearn.recipes.environments import is_gym
from robolearn.recipes.goal_data import GoalData
from robolearn.recipes.origin import (
    begun_config,
    check_origin,
    initialise,
    networks_of,
    restore,
    run_config,
    seeds_shown,
    statistics_of,
)
from robolearn.recipes.processes import Processes
from robolearn.recipes.run import Run, read_state
from robolearn.recipes.training_data import Data, Split, remark, shrunk, training_data, unlooked, unread
from robolearn.recipes.training_loop import (
    SAVES,
    Progress,
    Stopwatch,
    Tell,
    due,
    interruptible,
    require_finite,
    scalars,
)

LOG_STEPS = 20


@dataclass(frozen=True)
class _Work:
    """What is learned from what: as asked for, or as a run was begun."""

    algorithm: str
    dataset: Path
    out: Path
    settings: Any
    seed: int
    reward: str
    task: str | None
    compute: Compute
    split: Split | None = None  # None: by the seed
    processes: int | None = None  # that share a step; None: as many as there are


def train_offline(
    algorithm: str,
    dataset: Path,
    out: Path,
    steps: int | None = None,
    seed: int = 0,
    config: Any = None,
    resume: Path | None = None,
    init_from: Path | None = None,
    keep_temperature: bool = True,
    reward: str = SUCCESS,
    task: str | None = None,
    compute: Compute = Compute(),  # noqa: B008, it is frozen
    progress: Progress = lambda done, text: None,
    tell: Tell = lambda text: None,
) -> dict[str, Any]:
    """Train on the dataset and write the run `out`, or continue the run `resume` as it was begun.

    reward: of transitions, a field or column of the dataset, or `success`. task: read the dataset as the environments
    of this task would show it, so that the training can go on there; `success` is then the field `reward` where there
    is one. init_from: a run whose networks to begin with; `keep_temperature`: and whose temperature. Ctrl-C saves and
    returns. `tell` is called with what one should know before it begins. In several processes, which `torchrun` starts,
    each learns from its share of a batch that many times as large, and the first one writes the run.

    The result has `checkpoint` (of chunks the best by validation loss, else the latest), `latest_checkpoint`,
    `untrained_checkpoint`, `steps`, `process` (its number), `interrupted`, `tasks` (that can judge the
    policy), `validation_loss` (of the best), `train_episodes`, `validation_episodes`, `train_seconds` (of this call)
    and `time_shares`. Raises DatasetError before anything is written when the dataset cannot be learned from, and
    RobolearnError when the training diverges.
    """
    if resume is None:
        settings = _settings(algorithm, config, steps, task)
        work = _Work(algorithm, dataset, out, settings, seed, reward, task, compute)
    else:
        work = _begun(resume)
    settings, out = work.settings, work.out
    check_settings(settings, work.seed)
    processes = Processes.join(work.compute)
    _require_as_many(work, processes.count)
    made = algorithm_class(work.algorithm)
    if getattr(settings.policy, "images", False) and not getattr(made, "sees_images", False):
        raise SpecError(f"{work.algorithm} learns from vectors; leave policy.images out")

    started_s = time.perf_counter()
    watch = Stopwatch()
    with watch("open"):
        data, unjudged, advice = _open(work)
        if resume is None and advice:
            tell(advice)
        if init_from is not None:
            check_origin(init_from, work.algorithm, data.spec, str(work.task or work.dataset))
        source = resume or init_from
        statistics = data.statistics if source is None else statistics_of(source)
        learner = made(data.spec, statistics, settings, work.seed, work.compute.device, work.compute.wrapper())
    columns = ("train_loss" if name == "loss" else name for name in made.metrics)
    facts = {"step": 0.0, "wall_s": 0.0, "best_loss": math.inf}
    run: Run | None = None  # which the first process alone writes
    if resume is not None:
        tensors, facts = read_state(resume)
        restore(learner, resume, tensors)
        if processes.first:
            run = Run.resume(out, (*columns, "validation_loss"), learner.gradient_step)
        progress(learner.gradient_step, "")
    else:
        if init_from is not None:
            initialise(learner, init_from, networks_of(init_from), keep_temperature)
        origin: dict[str, Any] = {"dataset": str(work.dataset), "reward": work.reward, "data_task": work.task}
        origin |= {"episodes": dict(data.split), "init_from": str(init_from or ""), "processes": processes.count}
        about = run_config(work.algorithm, work.seed, settings, work.compute, **origin)
        if processes.first:
            run = Run.create(out, about, (*columns, "validation_loss"))

    provenance = {"algorithm": work.algorithm, "dataset": str(work.dataset), "seed": work.seed}
    seeds = {*data.seeds, *(seeds_shown(source) if source else ())}
    provenance |= {"tasks": data.tasks, "episode_seeds": sorted(seeds)}
    best_loss = facts["best_loss"]
    with run or contextlib.nullcontext(), interruptible() as interrupted:
        if resume is None and run is not None:
            run.save(learner.policy(), 0, provenance, ("untrained", "latest", "best"))
        stop = False
        while learner.gradient_step < settings.steps and not stop:
            before = learner.gradient_step
            with watch("sample"):
                batch = processes.share(data.batch(before, settings.batch_size * processes.count))
            with watch("update"):
                metrics = learner.update(batch)
            step = learner.gradient_step
            stop = processes.any(interrupted.is_set())
            save = stop or due(step, before, max(-(-settings.steps // SAVES), LOG_STEPS), settings.steps)
            if run is None or (not save and not due(step, before, LOG_STEPS, settings.steps)):
                continue
            with watch("update"):
                row = scalars(metrics, out, step)
            row = {"train_loss" if name == "loss" else name: value for name, value in row.items()}
            wall_s = facts["wall_s"] + time.perf_counter() - started_s
            if save:
                with watch("validate"):
                    loss = _validation_loss(learner, data)
                row |= {} if loss is None else {"validation_loss": loss}
                names = ("latest", "best") if loss is None or loss < best_loss else ("latest",)
                best_loss = min(best_loss, math.inf if loss is None else loss)
                with watch("save"):
                    require_finite(learner.policy(), out, step)
                    run.save(learner.policy(), step, {**provenance, **row}, names)
                    run.save_state(learner.state_dict(), {"step": step, "wall_s": wall_s, "best_loss": best_loss})
            run.log(step, wall_s, row)
            told = next(iter(row))
            progress(
                step,
                f"{told.removeprefix('train_')} {row[told]:.4f}"
                + (f", validation {best_loss:.4f}" if math.isfinite(best_loss) else ""),
            )
    processes.leave()
    checkpoints = out / "checkpoints"
    return {
        "checkpoint": checkpoints / "best",
        "latest_checkpoint": checkpoints / "latest",
        "untrained_checkpoint": checkpoints / "untrained",
        "steps": learner.gradient_step,
        "process": processes.number,
        "interrupted": learner.gradient_step < settings.steps,
        "tasks": [] if unjudged else data.tasks,
        "validation_loss": best_loss,
        "train_episodes": len(data.split["train"]),
        "validation_episodes": len(data.split["validation"]),
        "train_seconds": time.perf_counter() - started_s,
        "time_shares": watch.shares(),
    }


def _settings(algorithm: str, config: Any, steps: int | None, task: str | None) -> Any:
    """The algorithm's, as a new run has them. Raises SpecError for a task that it cannot learn from."""
    check_task(algorithm, task)
    settings = config or algorithm_class(algorithm).config_type()
    settings = replace(settings, steps=settings.steps if steps is None else steps)
    if getattr(settings, "decay_steps", 0) == OVER_A_RUN:
        settings = replace(settings, decay_steps=settings.steps)
    if task is not None and not is_gym(task) and not settings.policy.images:
        settings = replace(settings, policy=replace(settings.policy, privileged=True))
    return settings


def _begun(run: Path) -> _Work:
    """Raises CheckpointError for a run that learns from something else."""
    begun, settings, compute = begun_config(run)
    if "dataset" not in begun:
        raise CheckpointError(f"{run} was not trained on a dataset; resume it with --task")
    return _Work(
        begun["algorithm"],
        Path(begun["dataset"]),
        run,
        settings,
        begun["seed"],
        begun.get("reward", SUCCESS),
        begun.get("data_task"),
        compute,
        begun.get("episodes"),
        begun.get("processes", 1),
    )


def _require_as_many(work: _Work, now: int) -> None:
    """Raise CheckpointError unless a run that was begun goes on with as many processes."""
    count = work.processes
    if count is not None and now != count:
        remedy = f"by torchrun --nproc-per-node {count}" if count > 1 else "without torchrun"
        raise CheckpointError(
            f"{work.out} was begun with {count} times its batch_size a step, by as many processes, and this is one of "
            f"{now}; resume it {remedy}"
        )


def _open(work: _Work) -> tuple[Data, str, str]:
    """The data; why no task takes what is learned from it; and what a person should know of it, which that is first."""
    learns_from, device = algorithm_class(work.algorithm).learns_from, work.compute.device
    if work.task is not None:
        return TaskData(work.dataset, work.task, work.settings, work.seed, device, work.split, work.reward), "", ""
    if learns_from == "goals":
        return GoalData(work.dataset, work.settings, work.seed, device, work.split), "", ""
    data = training_data(learns_from, work.dataset, work.settings, work.seed, device, work.reward, work.split)
    unjudged = remark(work.dataset, work.algorithm, data) if learns_from == "transitions" else ""
    told = (
        unjudged or unread(work.dataset, work.algorithm, data) or unlooked(work.dataset, work.algorithm, data),
        shrunk(work.dataset, data, work.settings.policy),
    )
    return data, unjudged, "\n".join(filter(None, told))


def check_task(algorithm: str, task: str | None) -> None:
    """Raise SpecError for an algorithm that cannot read a dataset as a task would show it."""
    learns_from = algorithm_class(algorithm).learns_from
    if task is not None and learns_from != "transitions":
        raise SpecError(f"{algorithm} learns from {learns_from}, which no task shows; leave --task out")


def _validation_loss(learner: Algorithm, data: Data) -> float | None:
    losses = [float(learner.validate(batch)["loss"]) for batch in data.validation_batches]
    return sum(losses) / len(losses) if losses else None
