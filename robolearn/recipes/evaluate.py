"""Judge a policy: run it in the twin, in process, on episodes that it was not shown."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.envs.robot_env import RobotEnv
from robolearn.errors import SpecError
from robolearn.policies.checkpoint import load_policy, read_config
from robolearn.policies.policy import Policy
from robolearn.policies.scripted import ScriptedPolicy
from robolearn.recipes.report import side_by_side, write_video
from robolearn.serving.loop import EXECUTE_STEPS, ControlLoop
from robolearn.tasks import make_task
from robolearn.twin.layout import IMAGE_SIZE

EVALUATION_SEED = 1_000_000  # demonstrations count up from 0
SCRIPTED = "scripted"
NORMAL_95 = 1.959964

Progress = Callable[[int, str], None]
"""Called with the episodes done and a short text."""


def evaluate_policy(
    checkpoint: str | Path,
    task_id: str,
    episodes: int,
    seed: int = EVALUATION_SEED,
    execute_steps: int = EXECUTE_STEPS,
    video: Path | None = None,
    device: str = "cpu",
    progress: Progress = lambda done, text: None,
) -> dict[str, Any]:
    """Run `episodes` with the seeds from `seed` on. `checkpoint` is a path, or `scripted` for the task's expert.

    The answer has `success_rate`, `success_ci95` (Wilson), `return_mean`, `return_std`, `mean_episode_steps`,
    `episodes`, `demonstrated_episodes` (those whose seed was in the training data: wanted 0), `held_steps`, `seed`,
    `task`, `checkpoint`, and `outcomes`, one dict an episode. `video` gets the first episode, all cameras.
    """
    if episodes < 1:
        raise SpecError(f"{episodes} episodes; expected at least 1")
    if seed < 0:
        raise SpecError(f"seed is {seed}; expected at least 0")
    if video is not None and (video.suffix != ".mp4" or not video.absolute().parent.is_dir()):
        raise SpecError(f"the video {video} cannot be written; name a file ending in .mp4 in a folder that exists")
    task = make_task(task_id)
    policy: Policy
    demonstrated: set[int] = set()
    if str(checkpoint) == SCRIPTED:
        policy = ScriptedPolicy(task.id)
        cameras = dict.fromkeys(task.cameras, IMAGE_SIZE) if video else {}
    else:
        policy = load_policy(Path(checkpoint), device)
        demonstrated = set(read_config(Path(checkpoint))["provenance"].get("episode_seeds", ()))
        images = {k.removeprefix("image_"): v.shape for k, v in policy.spec.observation.items() if k != "proprio"}
        cameras = {name: (shape[0], shape[1]) for name, shape in images.items()}
    env = RobotEnv(task.id, cameras, privileged=str(checkpoint) == SCRIPTED)
    try:
        policy.spec.require(env.interface, f"checkpoint {checkpoint}", task.id)
        loop = ControlLoop(policy, execute_steps)
        outcomes: list[dict[str, Any]] = []
        for episode in range(episodes):
            pictures: list[NDArray[np.uint8]] | None = [] if video and episode == 0 else None
            outcomes.append(_run_episode(env, loop, seed + episode, pictures))
            if video and pictures:
                write_video(video, pictures, task.control_hz)
            progress(episode + 1, f"{sum(row['success'] for row in outcomes)} succeeded")
    finally:
        env.close()
    successes = sum(row["success"] for row in outcomes)
    returns = [row["return"] for row in outcomes]
    return {
        "success_rate": successes / episodes,
        "success_ci95": [round(bound, 4) for bound in wilson_interval(successes, episodes)],
        "return_mean": float(np.mean(returns)),
        "return_std": float(np.std(returns)),
        "mean_episode_steps": float(np.mean([row["steps"] for row in outcomes])),
        "episodes": episodes,
        "demonstrated_episodes": sum(row["seed"] in demonstrated for row in outcomes),
        "held_steps": sum(row["held_steps"] for row in outcomes),
        "seed": seed,
        "task": task.id,
        "checkpoint": str(checkpoint),
        "outcomes": outcomes,
    }


def wilson_interval(successes: int, episodes: int) -> tuple[float, float]:
    """95 % interval of a success rate (Wilson 1927), which stays sensible at 0 and at 1."""
    rate, z2 = successes / episodes, NORMAL_95**2
    centre = (rate + z2 / (2 * episodes)) / (1 + z2 / episodes)
    half = NORMAL_95 / (1 + z2 / episodes) * math.sqrt(rate * (1 - rate) / episodes + z2 / (4 * episodes**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _run_episode(
    env: RobotEnv, loop: ControlLoop, seed: int, pictures: list[NDArray[np.uint8]] | None
) -> dict[str, Any]:
    """One episode; a policy whose answer is refused sends nothing, and the robot holds, as it does on the graph."""
    observation, info = env.reset(seed=seed)
    loop.reset(seed)
    nothing = np.full(env.twin.spec.action.shape, np.nan, np.float32)
    total, steps, refusal, ended = 0.0, 0, "", False
    while not ended:
        if pictures is not None:
            pictures.append(side_by_side([image for name, image in observation.items() if name.startswith("image_")]))
        try:
            action = loop.step(observation, info["stamp_ns"]).action
        except SpecError as error:
            action, refusal = nothing, refusal or str(error)
        observation, reward, terminated, truncated, info = env.step(action)
        total, steps, ended = total + reward, steps + 1, terminated or truncated
    return {
        "seed": seed,
        "success": bool(info["success"]),
        "return": float(total),
        "steps": steps,
        "held_steps": int(info["held_steps"]),
        "reason": refusal or info["reason"],
    }
