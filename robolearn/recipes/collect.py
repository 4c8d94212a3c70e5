"""Collect episodes of the twin into a dataset: in this process or in several, or as nodes on a ROS 2 graph."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from robolearn.datasets.store import DatasetSpec, EpisodeMeta, EpisodeWriter
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.robot_env import RobotEnv
from robolearn.envs.tool_expert import ToolExpert
from robolearn.envs.tool_space import DECISION_TICKS, TOOL
from robolearn.errors import DatasetError, RobolearnError, ServingError, SpecError
from robolearn.policies.demonstrator import Demonstrator, Manner
from robolearn.policies.policy import Policy
from robolearn.policies.scripted import ScriptedPolicy
from robolearn.recipes.environments import twin_task
from robolearn.recipes.graph import free_domain_id, run_graph
from robolearn.recipes.in_order import in_order
from robolearn.recipes.policies import open_robot_policy
from robolearn.recipes.workers import end_with_parent, leave_interrupts_to_starter, process_pool
from robolearn.serving.chunks import EXECUTE_STEPS
from robolearn.serving.loop import ControlLoop
from robolearn.specs import POSE_SPEC
from robolearn.tasks import make_task
from robolearn.types import EpisodeOutcome

SCRIPTED = "scripted"

Progress = Callable[[int, str], None]
"""Called with the episodes done and a short text."""


@dataclass(frozen=True)
class CollectConfig:
    """What is collected."""

    task: str  # with the prefix `tool:` the expert acts in the space of the tool, for what learns there
    policy: str = SCRIPTED  # or the path of a checkpoint
    manner: Manner = "expert"  # in which a scripted policy works, see policies/demonstrator.py
    image_size: int = 64  # [pixels], height and width; 0: no pictures, three times as fast, not on a graph
    perturbation: float = 0.2  # share of steps at which the expert is pushed off its path
    execute_steps: int = EXECUTE_STEPS  # of a chunk, before the policy is asked again


def collect_episodes(
    config: CollectConfig,
    out: Path,
    episodes: int,
    seed: int | None = None,
    graph: bool = False,
    num_envs: int = 1,
    progress: Progress = lambda done, text: None,
) -> list[dict[str, Any]]:
    """Append `episodes` with the seeds from `seed` on to the dataset `out`, which is made when it is not there.

    Without a seed they begin with the first one above those that the dataset holds. num_envs: twins side by side, each
    in a process of its own; the dataset is the same, whatever their number.

    Returns a dict an episode with at least `seed`, `success`, `num_steps`, `held_steps` and `reason`.
    """
    if episodes < 1:
        raise SpecError(f"{episodes} episodes; expected at least 1")
    if num_envs < 1 or (graph and num_envs > 1):
        raise SpecError(f"{num_envs} environments; expected at least 1, and 1 on a graph, which has one robot")
    if seed is not None and seed < 0:
        raise SpecError(f"seed is {seed}; expected at least 0")
    task = make_task(twin_task(config.task))  # what is wrong is told before anything is written
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        store = ZarrStore.open(out)
        if store.spec.tasks and task.id not in store.spec.tasks:
            raise DatasetError(
                f"{out} holds episodes of {', '.join(store.spec.tasks)}, not of {task.id}; name another one"
            )
        seed = max((i.seed for i in store.episodes if i.seed is not None), default=-1) + 1 if seed is None else seed
    seed = seed or 0
    if config.manner != "expert" and (graph or config.policy != SCRIPTED):
        raise SpecError(
            f"a manner ({config.manner}) is for the scripted policy, in this process; leave out one of them"
        )
    if config.task != task.id and (graph or config.policy != SCRIPTED or config.manner != "expert"):
        raise SpecError(f"{config.task} is for the scripted expert, in this process; leave the prefix {TOOL} away")
    if graph and not config.image_size:
        raise SpecError("the nodes of a graph record pictures; leave out --graph, or --image-size 0")
    if graph:
        return _collect_on_graph(config, out, episodes, seed, progress)
    return _collect_without_graph(config, out, episodes, seed, num_envs, progress)


def _collect_on_graph(
    config: CollectConfig, out: Path, episodes: int, seed: int, progress: Progress
) -> list[dict[str, Any]]:
    arguments = {
        "task": config.task,
        "policy": config.policy,
        "perturbation": config.perturbation,
        "image_size": config.image_size,
        "dataset": out,
        "episodes": episodes,
        "first_seed": seed,
    }
    folder = Path(tempfile.mkdtemp(prefix="robolearn-collect-"))  # kept when the graph fails: its error names the log
    successes = 0

    def on_episode(done: int, row: dict[str, Any]) -> None:
        nonlocal successes
        successes += bool(row["success"])
        progress(done, f"{successes} succeeded")

    results, log = folder / "results.jsonl", folder / "graph.log"
    rows = run_graph("collect", arguments, results, episodes, on_episode, log, free_domain_id())
    shutil.rmtree(folder)
    return rows


def _collect_without_graph(
    config: CollectConfig, out: Path, episodes: int, seed: int, num_envs: int, progress: Progress
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    seeds = range(seed, seed + episodes)
    with closing(_Player(config)) as player, _open_store(out, player.env).writer() as writer:
        for played in map(player.play, seeds) if num_envs == 1 else _played_side_by_side(config, seeds, num_envs):
            rows.append(_write(writer, played))
            progress(len(rows), f"{sum(row['success'] for row in rows)} succeeded")
    return rows


@dataclass(frozen=True)
class _Played:
    """An episode: a step is what was seen, what was commanded for it and what the safety filter sent, and its stamp."""

    meta: EpisodeMeta
    steps: list[tuple[dict[str, Any], int]]
    outcome: EpisodeOutcome
    held_steps: int


class _Player:
    """A twin and who acts in it."""

    def __init__(self, config: CollectConfig) -> None:
        policy = _policy(config)
        task = make_task(twin_task(config.task))
        cameras = task.cameras if config.image_size else ()
        self.env = RobotEnv(task.id, dict.fromkeys(cameras, (config.image_size, config.image_size)), privileged=True)
        try:
            policy.spec.require(self.env.interface, config.policy, config.task)
        except SpecError:
            self.close()
            raise
        execute_steps = DECISION_TICKS if isinstance(policy, ToolExpert) else config.execute_steps
        self._loop = ControlLoop(policy, execute_steps, task.instruction)

    def play(self, seed: int) -> _Played:
        """The episode of this seed."""
        env, loop = self.env, self._loop
        meta = EpisodeMeta(task=env.task.id, instruction=env.task.instruction, seed=seed, created_ns=time.time_ns())
        observation, info = env.reset(seed=seed)
        loop.reset(seed)
        nothing = np.full(env.interface.action.shape, np.nan, np.float32)
        steps: list[tuple[dict[str, Any], int]] = []
        refusal, terminated, truncated = "", False, False
        while not (terminated or truncated):
            stamp_ns, seen = info["stamp_ns"], observation
            command: dict[str, Any] = {}
            try:
                step = loop.step(seen, stamp_ns)
                command = {"action": step.action, "action_source": np.uint8(step.source)}
            except (SpecError, ServingError) as error:
                refusal = refusal or str(error)
            observation, _, terminated, truncated, info = env.step(command.get("action", nothing))
            sent = {"action_sent": info["action_sent"], "held": np.bool_(info["held"])}
            steps.append(({**seen, **command, **sent}, stamp_ns))
        outcome = EpisodeOutcome(bool(info["success"]), terminated, truncated, refusal or info["reason"])
        return _Played(meta, steps, outcome, int(info["held_steps"]))

    def close(self) -> None:
        self.env.close()


def _played_side_by_side(config: CollectConfig, seeds: Sequence[int], processes: int) -> Iterator[_Played]:
    """The episodes of the seeds, in their order, whichever process has played them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with process_pool(min(processes, len(seeds)), context, _begin_playing, remedy="leave out --num-envs") as pool:
        try:
            for ready in in_order(seeds, lambda seed: pool.submit(_play, config, seed), 2 * processes):
                for _, played in ready:
                    yield played
        except BrokenProcessPool as error:
            raise RobolearnError(
                "a process that plays episodes died; is memory short for so many --num-envs? What was finished is kept"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_playing() -> None:
    leave_interrupts_to_starter()
    end_with_parent()


def _play(config: CollectConfig, seed: int) -> _Played:
    return _player(config).play(seed)


@lru_cache(maxsize=1)
def _player(config: CollectConfig) -> _Player:
    player = _Player(config)
    if torch := sys.modules.get("torch"):  # the policy needs it
        torch.set_num_threads(1)
    return player


def _write(writer: EpisodeWriter, played: _Played) -> dict[str, Any]:
    """Write it, and say what it was."""
    writer.begin(played.meta)
    try:
        for row, stamp_ns in played.steps:
            writer.append(row, dict.fromkeys(row, stamp_ns))
    except KeyboardInterrupt:
        writer.discard()  # nobody misses half an episode of a twin
        raise
    writer.commit(played.outcome)
    return {
        "seed": played.meta.seed,
        "success": played.outcome.success,
        "num_steps": len(played.steps),
        "terminated": played.outcome.terminated,
        "truncated": played.outcome.truncated,
        "held_steps": played.held_steps,
        "reason": played.outcome.reason,
    }


def _policy(config: CollectConfig) -> Policy:
    if config.policy != SCRIPTED:
        return open_robot_policy(config.policy, task_id=config.task)
    if config.task.startswith(TOOL):
        return ToolExpert(twin_task(config.task), config.perturbation)
    if config.manner != "expert":
        return Demonstrator(config.task, config.manner)
    return ScriptedPolicy(config.task, perturbation=config.perturbation)


def _open_store(out: Path, env: RobotEnv) -> ZarrStore:
    """The dataset at `out`, refused when it is of another robot or image size; a new one takes all fields."""
    fields = env.interface.observation
    wanted = DatasetSpec(
        env.twin.robot_spec,
        type(env.interface)(
            {name: spec for name, spec in fields.items() if not name.startswith("pose_")},
            env.interface.action,
            env.interface.control_hz,
        ),
        tasks=(env.task.id,),
        extra={name: POSE_SPEC for name in fields if name.startswith("pose_")},
    )
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return ZarrStore.create(out, wanted)
    store = ZarrStore.open(out)
    store.spec.interface.require(wanted.interface, f"dataset {out}", env.task.id)
    return store
