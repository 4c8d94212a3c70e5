"""Collect episodes of the twin into a dataset: in this process, or as nodes on a ROS 2 graph."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robolearn.datasets.store import DatasetSpec, EpisodeMeta, EpisodeWriter
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.robot_env import RobotEnv
from robolearn.envs.tool_expert import ToolExpert
from robolearn.envs.tool_space import DECISION_TICKS, TOOL
from robolearn.errors import DatasetError, SpecError
from robolearn.policies.demonstrator import Demonstrator, Manner
from robolearn.policies.policy import Policy
from robolearn.policies.scripted import ScriptedPolicy
from robolearn.recipes.environments import twin_task
from robolearn.recipes.graph import free_domain_id, run_graph
from robolearn.recipes.policies import open_robot_policy
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
    progress: Progress = lambda done, text: None,
) -> list[dict[str, Any]]:
    """Append `episodes` with the seeds from `seed` on to the dataset `out`, which is made when it is not there.

    Without a seed they begin with the first one above those that the dataset holds.

    Returns a dict an episode with at least `seed`, `success`, `num_steps`, `held_steps` and `reason`.
    """
    if episodes < 1:
        raise SpecError(f"{episodes} episodes; expected at least 1")
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
    return _collect_in_process(config, out, episodes, seed, progress)


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


def _collect_in_process(
    config: CollectConfig, out: Path, episodes: int, seed: int, progress: Progress
) -> list[dict[str, Any]]:
    policy = _policy(config)
    size = (config.image_size, config.image_size)
    task = make_task(twin_task(config.task))
    cameras = task.cameras if config.image_size else ()
    env = RobotEnv(task.id, dict.fromkeys(cameras, size), privileged=True)
    try:
        policy.spec.require(env.interface, config.policy, config.task)
        store = _open_store(out, env)
        execute_steps = DECISION_TICKS if isinstance(policy, ToolExpert) else config.execute_steps
        loop = ControlLoop(policy, execute_steps, env.task.instruction)
        rows: list[dict[str, Any]] = []
        with store.writer() as writer:
            for episode_seed in range(seed, seed + episodes):
                rows.append(_collect_episode(env, loop, writer, episode_seed))
                progress(len(rows), f"{sum(row['success'] for row in rows)} succeeded")
    finally:
        env.close()
    return rows


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


def _collect_episode(env: RobotEnv, loop: ControlLoop, writer: EpisodeWriter, seed: int) -> dict[str, Any]:
    """One episode; a step is what was seen, what was commanded for it and what the safety filter sent."""
    observation, info = env.reset(seed=seed)
    loop.reset(seed)
    writer.begin(EpisodeMeta(task=env.task.id, instruction=env.task.instruction, seed=seed, created_ns=time.time_ns()))
    nothing = np.full(env.interface.action.shape, np.nan, np.float32)
    steps, refusal, terminated, truncated = 0, "", False, False
    try:
        while not (terminated or truncated):
            stamp_ns, seen = info["stamp_ns"], observation
            command: dict[str, Any] = {}
            try:
                step = loop.step(seen, stamp_ns)
                command = {"action": step.action, "action_source": np.uint8(step.source)}
            except SpecError as error:
                refusal = refusal or str(error)
            observation, _, terminated, truncated, info = env.step(command.get("action", nothing))
            row = {**seen, **command, "action_sent": info["action_sent"], "held": np.bool_(info["held"])}
            writer.append(row, dict.fromkeys(row, stamp_ns))
            steps += 1
    except KeyboardInterrupt:
        writer.discard()  # nobody misses half an episode of a twin
        raise
    reason = refusal or info["reason"]
    writer.commit(EpisodeOutcome(bool(info["success"]), terminated, truncated, reason))
    return {
        "seed": seed,
        "success": bool(info["success"]),
        "num_steps": steps,
        "terminated": terminated,
        "truncated": truncated,
        "held_steps": int(info["held_steps"]),
        "reason": reason,
    }
