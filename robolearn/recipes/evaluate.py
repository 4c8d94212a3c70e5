"""Judge a policy: run it in the twin, in process, on episodes that it was not shown.

A policy that is told where to get to is shown, in an environment of Gymnasium, the goal that this names; in a twin what
the task's expert ends with from the same start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from robolearn.envs.robot_env import RobotEnv
from robolearn.envs.stochastic import STORI, Stochasticity
from robolearn.envs.tool_policy import robot_policy
from robolearn.errors import ServingError, SpecError, UnknownNameError, quoted
from robolearn.networks.model_directory import CONFIG_FILE
from robolearn.policies.checkpoint_config import read_config
from robolearn.policies.policy import Policy, TrainablePolicy
from robolearn.policies.scripted import ScriptedPolicy
from robolearn.recipes.environments import REWARDS, camera_sizes, is_gym, make_environments, twin_task
from robolearn.recipes.judge import judge, summary
from robolearn.recipes.report import side_by_side, write_video
from robolearn.recipes.seeds import EVALUATION_SEED
from robolearn.runs import wilson_interval
from robolearn.serving.chunks import EXECUTE_STEPS
from robolearn.serving.client import RemotePolicy, open_policy
from robolearn.serving.loop import ControlLoop
from robolearn.specs import GOAL_PREFIX
from robolearn.tasks import make_task
from robolearn.twin.layout import IMAGE_SIZE
from robolearn.twin.randomize import Randomization
from robolearn.types import Observation

SCRIPTED = "scripted"
SIDE_BY_SIDE = 10  # environments that judge a policy of vectors

Progress = Callable[[int, str], None]
"""Called with the episodes done and a short text."""


def _require_task(checkpoint: str | Path, task: str) -> None:
    """Raise UnknownNameError where the twin has no such task, SpecError where a policy learned it on a robot."""
    try:
        make_task(twin_task(task))
    except UnknownNameError:
        path = Path(checkpoint)
        if (path / CONFIG_FILE).is_file() and task in read_config(path)["provenance"].get("tasks", ()):
            raise SpecError(
                f"{task} is no task of the twin, so that nothing here can judge it; let {checkpoint} act where it was "
                f"recorded: robolearn launch system cell:=CELL task:={quoted(task)} policy:={quoted(checkpoint)}"
            ) from None
        raise


def evaluate_policy(
    checkpoint: str | Path,
    task: str,
    episodes: int,
    seed: int = EVALUATION_SEED,
    execute_steps: int = EXECUTE_STEPS,
    video: Path | None = None,
    device: str = "cpu",
    engine: str = "mujoco",
    randomization: Randomization | None = None,
    stochasticity: Stochasticity = STORI["none"],
    progress: Progress = lambda done, text: None,
) -> dict[str, Any]:
    """Run `episodes` with the seeds from `seed` on. `checkpoint` is a path, or `scripted` for the task's expert; `task`
    a twin's, or `gym:<id>`. engine: of the twin, see `twin.engines.ENGINES`. randomization, stochasticity: how twins
    differ, and what disturbs the policy.

    The answer has `success_rate`, `success_ci95` (Wilson; both None where the environment knows no success),
    `return_mean`, `return_std`, `return_ci95`, `mean_episode_steps`, `episodes`, `demonstrated_episodes` (those whose
    seed was in the training data: wanted 0), `held_steps`, `seed`, `task`, `checkpoint`, `trained_for` (tasks),
    `remark` (why the numbers may mislead, else empty) and `outcomes`, one dict an episode. `video` gets the first
    episode, all cameras.
    """
    if episodes < 1:
        raise SpecError(f"{episodes} episodes; expected at least 1")
    if seed < 0:
        raise SpecError(f"seed is {seed}; expected at least 0")
    if video is not None and (video.suffix != ".mp4" or not video.absolute().parent.is_dir()):
        raise SpecError(f"the video {video} cannot be written; name a file ending in .mp4 in a folder that exists")
    if not is_gym(task):
        _require_task(checkpoint, task)  # told first
    policy: Policy | None = None
    provenance: dict[str, Any] = {}
    if str(checkpoint) != SCRIPTED:
        policy = open_policy(str(checkpoint), device)
        if not isinstance(policy, RemotePolicy):
            provenance = read_config(Path(checkpoint))["provenance"]
            if task == twin_task(task) and not is_gym(task):
                policy = robot_policy(policy, provenance, task)
    world = {"engine": engine, "randomization": randomization, "stochasticity": stochasticity}
    if _of_vectors(policy, task):
        outcomes = _judge_vectors(policy, str(checkpoint), task, episodes, seed, video, device, world, progress)
    elif is_gym(task):
        raise SpecError(f"{checkpoint} is no policy of vectors; {task} shows nothing else")
    elif task != twin_task(task):
        raise SpecError(f"{checkpoint} commands the joints; judge it on {twin_task(task)}, not in the tool's space")
    else:
        outcomes = _judge_in_loop(policy, str(checkpoint), task, episodes, seed, execute_steps, video, world, progress)

    returns = summary(outcomes)
    known = [row["success"] for row in outcomes if row["success"] is not None]
    trained_for = list(provenance.get("tasks", ()))
    twins = {twin_task(each) for each in trained_for}
    demonstrated = set(provenance.get("episode_seeds", ())) if twin_task(task) in twins or not twins else set()
    return {
        "success_rate": sum(known) / len(known) if known else None,
        "success_ci95": [round(bound, 4) for bound in wilson_interval(sum(known), len(known))] if known else None,
        "return_mean": returns["return_mean"],
        "return_std": returns["return_std"],
        "return_ci95": [returns["return_low"], returns["return_high"]] if episodes > 1 else None,
        "mean_episode_steps": returns["mean_episode_steps"],
        "episodes": episodes,
        "demonstrated_episodes": sum(row["seed"] in demonstrated for row in outcomes),
        "held_steps": sum(row.get("held_steps", 0) for row in outcomes),
        "seed": seed,
        "task": task,
        "checkpoint": str(checkpoint),
        "engine": engine,
        "trained_for": trained_for,
        "remark": f"trained for {', '.join(trained_for)}, judged on {task}" if twins - {twin_task(task)} else "",
        "outcomes": outcomes,
    }


def _of_vectors(policy: Policy | None, task: str) -> TypeGuard[TrainablePolicy]:
    """Whether it is judged in many environments at once. A policy of joint positions, as one that learned offline from
    a robot's demonstrations, is not: what learns in a twin commands velocities."""
    if policy is None or isinstance(policy, RemotePolicy):
        return False
    if not is_gym(task) and policy.spec.action.names == make_task(twin_task(task)).robot_spec.joint_names:
        return False
    from robolearn.policies.gaussian import GaussianPolicy  # these bring torch, which the expert does without
    from robolearn.policies.hierarchical import HierarchicalPolicy

    return isinstance(policy, GaussianPolicy) or (isinstance(policy, HierarchicalPolicy) and is_gym(task))


def _judge_vectors(
    policy: TrainablePolicy,
    name: str,
    task: str,
    episodes: int,
    seed: int,
    video: Path | None,
    device: str,
    world: dict[str, Any],
    progress: Progress,
) -> list[dict[str, Any]]:
    """A policy of vectors, in as many environments as it takes; the reward is the environment's."""
    pictures: list[NDArray[np.uint8]] = []
    film = (lambda shown: pictures.append(np.asarray(shown[0]))) if video else None
    count = 1 if video else min(episodes, SIDE_BY_SIDE)
    cameras = camera_sizes(policy.spec)
    with contextlib.closing(make_environments(task, count, video is not None, cameras, **world)) as envs:
        policy.spec.require(envs.interface, f"checkpoint {name}", task)
        with _global_seed(seed):
            outcomes = judge(policy, envs, episodes, seed, REWARDS["task"], device, film, progress)
        if video:
            scale = 1 if is_gym(task) else 4  # a twin's cameras are small
            write_video(video, pictures, envs.interface.control_hz, scale)
    return outcomes


@contextlib.contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """NumPy's global numbers, from which some environments draw (OGBench's places and goals), put back afterwards."""
    before = np.random.get_state()
    np.random.set_state(np.random.RandomState(seed % 2**32).get_state())
    try:
        yield
    finally:
        np.random.set_state(before)


def _judge_in_loop(
    policy: Policy | None,
    name: str,
    task_id: str,
    episodes: int,
    seed: int,
    execute_steps: int,
    video: Path | None,
    world: dict[str, Any],
    progress: Progress,
) -> list[dict[str, Any]]:
    """A policy of chunks or with a goal, or without one the expert, one episode after another through the control
    loop."""
    task = make_task(task_id)
    judged = policy or ScriptedPolicy(task.id)
    goals = [field for field in judged.spec.observation if field.startswith(GOAL_PREFIX)]
    cameras = camera_sizes(judged.spec)
    if video and not cameras:
        cameras = dict.fromkeys(task.cameras, IMAGE_SIZE)
    poses = bool(goals) or any(field.startswith("pose_") for field in judged.spec.observation)
    env = RobotEnv(task.id, cameras, privileged=poses, **world)
    try:
        judged.spec.require(env.interface, f"checkpoint {name}", task.id)
        loop = ControlLoop(judged, execute_steps, task.instruction)
        guide = ControlLoop(ScriptedPolicy(task.id)) if goals else None
        outcomes: list[dict[str, Any]] = []
        for episode in range(episodes):
            pictures: list[NDArray[np.uint8]] | None = [] if video and episode == 0 else None
            goal: Observation = {}
            if guide is not None:
                last = _run_episode(env, guide, seed + episode)[1]
                goal = {field: last[field.removeprefix(GOAL_PREFIX)] for field in goals}
            outcomes.append(_run_episode(env, loop, seed + episode, pictures, goal)[0])
            if video and pictures:
                write_video(video, pictures, task.control_hz)
            progress(episode + 1, f"{sum(row['success'] for row in outcomes)} succeeded")
        return outcomes
    finally:
        env.close()


def _run_episode(
    env: RobotEnv,
    loop: ControlLoop,
    seed: int,
    pictures: list[NDArray[np.uint8]] | None = None,
    goal: Observation = {},  # noqa: B006, nobody writes to it
) -> tuple[dict[str, Any], Observation]:
    """How one episode went, and what was seen last. A policy whose answer is refused, or does not come from its server,
    sends nothing, and the robot holds, as it does on the graph. goal: shown beside every observation."""
    observation, info = env.reset(seed=seed)
    loop.reset(seed)
    nothing = np.full(env.twin.spec.action.shape, np.nan, np.float32)
    total, steps, refusal, ended = 0.0, 0, "", False
    while not ended:
        if pictures is not None:
            pictures.append(side_by_side([image for name, image in observation.items() if name.startswith("image_")]))
        try:
            action = loop.step({**observation, **goal}, info["stamp_ns"]).action
        except (SpecError, ServingError) as error:
            action, refusal = nothing, refusal or str(error)
        observation, reward, terminated, truncated, info = env.step(action)
        total, steps, ended = total + reward, steps + 1, terminated or truncated
    row = {
        "seed": seed,
        "success": bool(info["success"]),
        "return": float(total),
        "steps": steps,
        "held_steps": int(info["held_steps"]),
        "reason": refusal or info["reason"],
    }
    return row, observation
