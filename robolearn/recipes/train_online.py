"""Train a policy by its own experience: collect, learn, judge.

The environments take their step in a thread beside the update, whose batch was drawn before: it lacks the transition
that is being made, whatever the threads do. The thread also makes and closes them, because pictures are drawn where
their context is. With two processes it waits for the process that steps them.

Every draw depends on the seed and the step alone, and the environments are restored by repeating the episodes under
way, so a resumed run is, bit for bit, the run that was never interrupted.
"""

from __future__ import annotations

import contextlib
import copy
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.algorithms import algorithm_class
from robolearn.algorithms.algorithm import Algorithm, Batch, Metrics
from robolearn.algorithms.compute import Compute
from robolearn.datasets.replay_buffer import ReplayBufferConfig
from robolearn.datasets.sampler import SUCCESS
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import CheckpointError, SpecError
from robolearn.networks.normalizer import Statistics
from robolearn.policies.checkpoint import kind_of
from robolearn.policies.gaussian import GaussianPolicy, vector_spec
from robolearn.policies.policy import TrainablePolicy
from robolearn.recipes.check_settings import check_settings
from robolearn.recipes.collector import Collector, make_collector, random_actions
from robolearn.recipes.collector_process import CollectorProcess
from robolearn.recipes.demonstrations import Source, buffer_statistics, demonstrations
from robolearn.recipes.environments import REWARDS, is_gym, make_environments, seen_environments
from robolearn.recipes.judge import judge, summary
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
from robolearn.recipes.processes import started
from robolearn.recipes.run import Run, read_state
from robolearn.recipes.seeds import SELECTION_SEED
from robolearn.recipes.training_data import FrozenTrunk, episode_indices, mixed, outcomes_of, tensors
from robolearn.recipes.training_loop import (
    AVERAGE,
    SAVES,
    Progress,
    Stopwatch,
    diverged,
    due,
    interruptible,
    mean_follows,
    require_finite,
    scalars,
)
from robolearn.specs import InterfaceSpec

LOG_STEPS = 500
RANDOM_STEPS, BY_ORIGIN = 100, -1
COLLECTOR = "collector."  # before the names of the experience in what a resumed run needs
JUDGES = 10  # environments that evaluate side by side
STATISTICS_S = 20  # of random actions in each of JUDGES twins
EPISODE_COLUMNS = ("episode_return", "episode_steps", "episode_success")
AnyCollector = Collector | CollectorProcess
SUCCESS_COLUMNS = ("success_rate", "success_low", "success_high")  # where the environment knows success
EVALUATION_COLUMNS = ("return_mean", "return_std", "return_low", "return_high", *SUCCESS_COLUMNS)


@dataclass(frozen=True)
class OnlineConfig:
    """How experience is gathered and mixed."""

    num_envs: int = 1
    processes: int = 1  # 2: the environments are stepped in one of their own, which changes no number
    image_size: int = 0  # [pixels], height and width of the cameras, which are seen instead of poses; 0 for poses
    reward: str = ""  # `task`, `success` or `progress`; empty for `task` of a gym environment and `success` of a twin
    random_steps: int = BY_ORIGIN  # environment steps before learning, by uniform actions; 100, but 0 with init_from
    warmup_steps: int = 0  # environment steps before learning, by the policy as it is: for one that was trained before
    replay_capacity: int = 1_000_000  # observations
    num_steps: int = 1  # n of n-step returns
    offline_fraction: float = 0.5  # of every batch, where there is offline data; 0: as if the buffer held it too
    evaluation_episodes: int = 10
    evaluations: int = SAVES  # in a run; each is a checkpoint
    average: int = 1  # environment steps that have learned, of whose policies the one judged and kept is a running mean


@dataclass(frozen=True)
class _Work:
    """What is learned where: as asked for, or as a run was begun."""

    algorithm: str
    task: str
    out: Path
    settings: Any
    seed: int
    online: OnlineConfig
    offline_data: Path | None
    compute: Compute
    demonstrated: list[str] | None = None  # ids of episodes of `offline_data`; None: all


def train_online(
    algorithm: str,
    task: str,
    out: Path,
    steps: int | None = None,
    seed: int = 0,
    config: Any = None,
    online: OnlineConfig = OnlineConfig(),
    resume: Path | None = None,
    init_from: Path | None = None,
    offline_data: Path | None = None,
    keep_temperature: bool = True,
    compute: Compute = Compute(),  # noqa: B008, it is frozen
    progress: Progress = lambda done, text: None,
) -> dict[str, Any]:
    """Train in `task`, a twin or `gym:<id>`, for `steps` environment steps and write the run `out`, or continue the run
    `resume` as it was begun. Ctrl-C saves and returns.

    init_from: a run whose networks and statistics to begin with, in a policy that is judged first; `keep_temperature`:
    and whose temperature.
    offline_data: a dataset of demonstrations, of which `online.offline_fraction` of every batch is drawn.

    The result has `checkpoint` (the best by mean return), `latest_checkpoint`, `steps`, `gradient_steps`,
    `interrupted`, `return_mean`, `success_rate` and `success_ci95` (of the last evaluation; None where the environment
    knows no success), `best_return_mean`, `tasks`, `train_seconds` (of this call), `time_shares` (of them; of the
    environments only what the update had to wait for) and `overlap_share` (of the environments' time, what passed
    beside updates). Raises RobolearnError before anything is written when something does not fit, and when the training
    diverges.
    """
    if resume is None:
        settings = config or algorithm_class(algorithm).config_type()
        settings = replace(settings, steps=settings.steps if steps is None else steps)
        online = replace(online, reward=online.reward or ("task" if is_gym(task) else "success"))
        if online.random_steps == BY_ORIGIN:
            online = replace(online, random_steps=RANDOM_STEPS if init_from is None else 0)
        work = _Work(algorithm, task, out, settings, seed, online, offline_data, compute)
    else:
        work = _begun(resume)
    _check(work)
    return _train(work, resume, init_from, keep_temperature, progress)


def _train(
    work: _Work, resume: Path | None, init_from: Path | None, keep_temperature: bool, progress: Progress
) -> dict[str, Any]:
    made, task, out, seed, online = algorithm_class(work.algorithm), work.task, work.out, work.seed, work.online
    seen, device = online.image_size > 0, work.compute.device
    policy = replace(work.settings.policy, privileged=not (seen or is_gym(task)), images=seen)
    settings = replace(work.settings, policy=policy)

    started_s = time.perf_counter()
    watch, watch_beside = Stopwatch(), Stopwatch()
    with contextlib.ExitStack() as stack:
        beside = stack.enter_context(ThreadPoolExecutor(1, "collector"))
        buffer = ReplayBufferConfig(online.replay_capacity, online.num_steps, settings.discount)
        trunk = getattr(settings.policy, "trunk", "")
        how = (online.num_envs, online.image_size, buffer, online.reward, seed, trunk, device)
        make = partial(make_collector, task, *how)
        making: Future[AnyCollector] = beside.submit(make if online.processes == 1 else partial(CollectorProcess, make))
        stack.callback(lambda: beside.submit(_close, making).result())
        collector = making.result()
        spec = vector_spec(collector.interface, settings.policy.privileged, settings.policy.images)
        with watch("open"):
            prior = _prior(work, spec)
            if resume is None and init_from is not None:
                check_origin(init_from, work.algorithm, spec, task)
            source = resume or init_from
            statistics = statistics_of(source) if source else _widest(prior.statistics, _random_statistics(task, spec))
            learner = made(spec, statistics, settings, seed, device, work.compute.wrapper())
        columns = (*made.metrics, *EPISODE_COLUMNS, *EVALUATION_COLUMNS)
        facts = {"step": 0.0, "wall_s": 0.0, "best_return": -np.inf}
        if resume is not None:
            state, facts = read_state(resume)
            kept = beside.submit(_load_state, learner, collector, resume, state).result()
            run = Run.resume(out, columns, int(facts["step"]))
        else:
            if init_from is not None:
                initialise(learner, init_from, networks_of(init_from), keep_temperature)
            kept = learner.policy() if online.average == 1 else copy.deepcopy(learner.policy())
            kind_of(kept)  # told now, not when there is something to save
            about = {"task": task, "online": dict(vars(online)), "offline_data": str(work.offline_data or "")}
            about |= {"offline_episodes": prior.episodes, "init_from": str(init_from or "")}
            run = Run.create(out, run_config(work.algorithm, seed, settings, work.compute, **about), columns)
        shown = prior.seeds.union(seeds_shown(source) if source else ())
        provenance = {"algorithm": work.algorithm, "tasks": [task], "seed": seed, "episode_seeds": sorted(shown)}
        step, best = int(facts["step"]), facts["best_return"]
        judged: dict[str, float] = {}  # what the last evaluation found
        metrics: Metrics = {}
        interrupted = stack.enter_context(interruptible())
        stack.enter_context(run)
        if resume is None:
            if init_from is not None:  # with a policy that may stay the best
                with watch("evaluate"):
                    judged = _evaluate(kept, task, online, device)
                best = judged["return_mean"]
                run.log(0, time.perf_counter() - started_s, judged)
                progress(0, _text({}, judged, 0.0))
            run.save(kept, 0, {**provenance, **judged}, ("untrained", "latest", "best"))
        else:
            progress(step, "")
        stop = False
        while step < settings.steps and not stop:
            before = step
            with watch("act"):
                actions = _actions(learner, collector, online, seed, step, device)
            if not np.isfinite(actions).all():  # metrics are looked at less often
                raise diverged("the policy's action is not finite", out, step)
            step += online.num_envs
            batch: Batch = {}
            if step >= max(online.random_steps, online.warmup_steps) and len(collector):
                with watch("sample"):
                    batch = _batch(collector, prior.source, settings, online, np.random.default_rng((seed, step, 1)))
            stepping = beside.submit(watch_beside("environment")(collector.step), actions)
            if batch:
                with watch("update"):
                    metrics = learner.update({name: values.to(device) for name, values in batch.items()})
                    if kept is not learner.policy():  # at first the mean of all that learned: not of the untrained
                        learned = learner.gradient_step / settings.utd
                        share = online.num_envs / min(online.average, learned)
                        mean_follows(kept, learner.policy(), min(share, 1.0))
            with watch("environment"):
                stepping.result()
            stop = interrupted.is_set()
            evaluate = due(step, before, -(-settings.steps // online.evaluations), settings.steps)
            if not (evaluate or stop or due(step, before, LOG_STEPS, settings.steps)):
                continue
            with watch("update"):
                row = scalars(metrics, out, step) | collector.recent()
            names: tuple[str, ...] = ("latest",)
            if evaluate or stop:
                require_finite(kept, out, step)
            if evaluate:
                with watch("evaluate"):
                    judged = _evaluate(kept, task, online, device)
                row |= judged
                if judged["return_mean"] > best:
                    best, names = judged["return_mean"], ("latest", "best")
            wall_s = facts["wall_s"] + time.perf_counter() - started_s
            if evaluate or stop:
                with watch("save"):
                    run.save(kept, step, {**provenance, **row}, names)
                    saved = {"step": step, "wall_s": wall_s, "best_return": best}
                    run.save_state(_state(learner, kept, collector), saved)
            run.log(step, wall_s, row)
            rate = (step - facts["step"]) / (time.perf_counter() - started_s)
            progress(step, _text(collector.recent(), judged, rate * settings.utd if metrics else 0.0))
    checkpoints = out / "checkpoints"
    return {
        "checkpoint": checkpoints / "best",
        "latest_checkpoint": checkpoints / "latest",
        "steps": step,
        "gradient_steps": learner.gradient_step,
        "interrupted": step < settings.steps,
        "tasks": [task],
        "return_mean": judged.get("return_mean", float("nan")),
        "success_rate": judged.get("success_rate"),
        "success_ci95": [judged["success_low"], judged["success_high"]] if "success_low" in judged else None,
        "best_return_mean": best,
        "train_seconds": time.perf_counter() - started_s,
        "time_shares": watch.shares(),
        "overlap_share": _overlap(watch.seconds.get("environment", 0.0), watch_beside.seconds.get("environment", 0.0)),
    }


def _overlap(waited_s: float, worked_s: float) -> float:
    """Share of the work that nobody waited for."""
    return max(1.0 - waited_s / worked_s, 0.0) if worked_s else 0.0


def _begun(run: Path) -> _Work:
    """Raises CheckpointError for a run that learns from something else, or is of another robolearn."""
    begun, settings, compute = begun_config(run)
    if "task" not in begun:
        raise CheckpointError(f"{run} was not trained in a task; resume it with --dataset")
    try:
        online = OnlineConfig(**begun["online"])
        offline_data = Path(begun["offline_data"]) if begun["offline_data"] else None
        demonstrated = begun["offline_episodes"] if offline_data else None
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{run} cannot be resumed; config.yaml of another robolearn ({error})") from error
    return _Work(
        begun["algorithm"], begun["task"], run, settings, begun["seed"], online, offline_data, compute, demonstrated
    )


@dataclass(frozen=True)
class _Prior:
    """Demonstrations that are learned from beside the own experience; nothing where there are none."""

    source: Source | None = None
    statistics: Statistics | None = None
    episodes: list[str] = field(default_factory=list)  # their ids
    seeds: frozenset[int] = frozenset()  # from which they began


def _prior(work: _Work, spec: InterfaceSpec) -> _Prior:
    if work.offline_data is None:
        return _Prior()
    store = ZarrStore.open(work.offline_data)
    episodes = work.demonstrated or [info.id for info in store.episodes if info.length]
    used = episode_indices(store, episodes)
    seeds = frozenset(seed for seed in (store.episodes[index].seed for index in used) if seed is not None)
    name = getattr(work.settings.policy, "trunk", "")
    trunk = FrozenTrunk(name, work.compute.device) if name else None
    source, statistics = demonstrations(
        store, work.task, spec, work.settings.discount, work.online.num_steps, used, look=trunk
    )
    return _Prior(source, statistics, episodes, seeds)


def _check(work: _Work) -> None:
    """Raise SpecError for what does not fit together."""
    algorithm, task, settings, online = work.algorithm, work.task, work.settings, work.online
    check_settings(settings, work.seed)
    if (count := started()) > 1:
        raise SpecError(f"torchrun started {count} processes, which learn together on a --dataset alone; leave it out")
    if algorithm_class(algorithm).learns_from != "transitions" or outcomes_of(settings) == "any":
        raise SpecError(f"{algorithm} learns from demonstrations alone; give it a --dataset")
    if online.image_size and (is_gym(task) or not getattr(algorithm_class(algorithm), "sees_images", False)):
        raise SpecError(f"{task} shows no images, or {algorithm} does not look at them; leave online.image_size out")
    if getattr(settings.policy, "trunk", "") and not online.image_size:
        raise SpecError(f"policy.trunk is {settings.policy.trunk}, to look at images; set online.image_size, too")
    if getattr(settings.policy, "images", False) and not online.image_size:
        raise SpecError("policy.images is true; set online.image_size, which makes it so, to a number of pixels")
    if online.reward not in REWARDS or (is_gym(task) and online.reward != "task"):
        raise SpecError(f"reward is {online.reward!r}; expected `task` in gym:, else one of {', '.join(REWARDS)}")
    if work.offline_data is not None and not is_gym(task) and online.reward != SUCCESS:
        raise SpecError(
            f"reward is {online.reward!r}, and offline data of a twin are worth 1 at a success; leave one of them out"
        )
    if getattr(settings, "cloning_weight", 0.0) and work.offline_data is None:
        raise SpecError(
            f"setting cloning_weight is {settings.cloning_weight:g}, which holds the policy to demonstrations; give "
            "them by --offline-data, or set it to 0"
        )
    least = min(online.evaluation_episodes, online.evaluations, online.average, online.num_envs, online.num_steps)
    if min(online.random_steps, online.warmup_steps) < 0 or online.replay_capacity < 2:
        raise SpecError(
            f"random_steps {online.random_steps}, warmup_steps {online.warmup_steps}, replay_capacity "
            f"{online.replay_capacity}; expected at least 0, 0 and 2"
        )
    if online.processes not in (1, 2):
        raise SpecError(f"setting online.processes is {online.processes}; expected 1, or 2 for a collector beside")
    if not 0.0 <= online.offline_fraction <= 1.0 or least < 1:
        raise SpecError(
            f"offline_fraction {online.offline_fraction:g}, {online.evaluation_episodes} evaluation episodes, "
            f"{online.evaluations} evaluations, average {online.average}, {online.num_envs} environments, "
            f"{online.num_steps}-step returns; expected a share in [0, 1], and at least 1 of the others"
        )


def _actions(
    learner: Algorithm, collector: AnyCollector, online: OnlineConfig, seed: int, step: int, device: str
) -> NDArray[np.float32]:
    """What every environment does at this step (N, A)."""
    rng = np.random.default_rng((seed, step))
    if step < online.random_steps:
        return random_actions(collector.interface.action, collector.num_envs, rng)
    policy = learner.policy()
    assert isinstance(policy, GaussianPolicy)
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**63)))
    return policy.sample(tensors(collector.observation, device), generator).cpu().numpy()


def _batch(
    collector: AnyCollector, offline: Source | None, settings: Any, online: OnlineConfig, rng: np.random.Generator
) -> Batch:
    """Rows for the updates of one step of all environments, each update with its share of offline data (symmetric
    sampling: Ball et al. 2023, section 4.1), or with as much of it as there is."""
    size, updates = settings.batch_size, settings.utd * online.num_envs
    if offline is None:
        return tensors(collector.sample(updates * size, rng), "cpu")
    share = online.offline_fraction or len(offline) / (len(offline) + len(collector))
    prior = round(size * share)
    own = collector.sample(updates * (size - prior), rng) if prior < size else {}
    return tensors(mixed(updates, own, offline.sample(updates * prior, rng) if prior else {}), "cpu")


def _evaluate(policy: TrainablePolicy, task: str, online: OnlineConfig, device: str) -> dict[str, float]:
    """Episodes whose seeds neither training nor `evaluate` uses, by the most likely action."""
    assert isinstance(policy, GaussianPolicy)
    episodes = online.evaluation_episodes
    with contextlib.closing(seen_environments(task, min(episodes, JUDGES), online.image_size)) as envs:
        answer = summary(judge(policy, envs, episodes, SELECTION_SEED, REWARDS[online.reward], device))
    return {name: value for name, value in answer.items() if name in EVALUATION_COLUMNS}


def _widest(demonstrated: Statistics | None, explored: Statistics) -> Statistics:
    """The demonstrations' means with the larger spread of each entry: what an expert holds still, a learner moves."""
    if not demonstrated or not explored:
        return demonstrated or explored
    return {
        name: replace(seen, std=tuple(map(max, seen.std, explored[name].std))) for name, seen in demonstrated.items()
    }


def _random_statistics(task: str, spec: InterfaceSpec) -> Statistics:
    """Of random actions in a twin, whose pictures are not drawn for it: of a vector that is seen in part, the part is
    its beginning. The state of a gym environment goes in as it is."""
    if is_gym(task):
        return {}
    with contextlib.closing(make_environments(task, JUDGES)) as envs:
        steps = round(STATISTICS_S * envs.interface.control_hz)
        collector = Collector(envs, ReplayBufferConfig(JUDGES * steps * 2), REWARDS["success"], seed=0)
        rng = np.random.default_rng(0)
        for _ in range(steps):
            collector.step(random_actions(collector.interface.action, collector.num_envs, rng))
        found = buffer_statistics(*collector.buffers)
    seen = {name: range(field.shape[0]) for name, field in spec.observation.items() if len(field.shape) == 1}
    return {name: found[name].select(entries) for name, entries in seen.items()}


def _state(learner: Algorithm, kept: TrainablePolicy, collector: AnyCollector) -> dict[str, torch.Tensor]:
    collected = {COLLECTOR + k: torch.from_numpy(v) for k, v in collector.state_dict().items()}  # no second buffer
    average = {} if kept is learner.policy() else {AVERAGE + k: v for k, v in kept.state_dict().items()}
    return {**learner.state_dict(), **average, **collected}


def _close(making: Future[AnyCollector]) -> None:
    """End the collector, which may not be there yet, or never was."""
    if making.exception() is None:
        making.result().close()


def _load_state(
    learner: Algorithm, collector: AnyCollector, run: Path, state: dict[str, torch.Tensor]
) -> TrainablePolicy:
    """The policy that is kept."""
    mine = {k.removeprefix(COLLECTOR): v.numpy() for k, v in state.items() if k.startswith(COLLECTOR)}
    average = {k.removeprefix(AVERAGE): v for k, v in state.items() if k.startswith(AVERAGE)}
    restore(learner, run, {k: v for k, v in state.items() if not k.startswith((COLLECTOR, AVERAGE))})
    try:
        collector.load_state_dict(mine)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{run} cannot be resumed: its experience is of another task, num_envs or robolearn ({error})"
        ) from error
    if not average:
        return learner.policy()
    kept = copy.deepcopy(learner.policy())
    kept.load_state_dict(average)
    return kept


def _text(recent: dict[str, float], judged: dict[str, float], updates_per_s: float) -> str:
    """The end of the progress line."""
    parts = [f"return {recent['episode_return']:.1f}" if recent else "no episode yet"]
    parts += [f"success {recent['episode_success']:.2f}"] if "episode_success" in recent else []
    if judged:
        rate = "success {success_rate:.2f}, 95 %: {success_low:.2f} to {success_high:.2f}"
        told = f" ({rate.format(**judged)})" if "success_rate" in judged else ""
        parts.append(f"evaluated {judged['return_mean']:.1f}{told}")
    parts += [f"{updates_per_s:.0f} updates/s"] if updates_per_s else []
    return ", ".join(parts)
