"""How fast the vectorised twin is: against the raw physics, AsyncVectorEnv of Gymnasium, and mujoco.Renderer.

    python benchmarks/sim_speed.py --json

vector_env_over_raw_batch: environment steps a second of RobotVectorEnv (observation, reward, termination, autoreset)
over those of `mujoco.batch.Batch.step` alone, from the same states with the same commands, turn about, so that both see
the same contacts and the same load of the machine. vector_env_over_async_gym: over AsyncVectorEnv around RobotEnv with
the same arguments, with the same seeds and actions. render_over_renderer: images a second of TwinBatch.render into one
array over a loop of `mujoco.Renderer` with the same scene options, turn about; the value is the worst of the three
sizes, by CPU time, so that other work on the machine does not tip it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from time import perf_counter, process_time
from typing import Any

import robolearn.twin  # noqa: F401, settles which OpenGL MuJoCo takes

import mujoco  # isort: skip
import numpy as np
from gymnasium.vector import AsyncVectorEnv, VectorEnv
from mujoco.batch import Batch

from robolearn.envs.robot_env import RobotEnv
from robolearn.envs.vector_env import RobotVectorEnv
from robolearn.tasks import make_task
from robolearn.twin.batch import TwinBatch
from robolearn.twin.layout import Layout

SIZES_PX = (64, 128, 224)
TURNS = 60  # of eight pictures each, ours and a bare loop's; the medians count


def actions_of(env: VectorEnv, count: int) -> np.ndarray:
    """A smooth random walk in joint velocities (count, N, A)."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 0.5, (count, *(env.action_space.shape or ())))
    for k in range(1, count):
        noise[k] = 0.8 * noise[k - 1] + 0.6 * noise[k]
    return np.clip(noise, -1, 1).astype(np.float32)


def against_raw_batch(task_id: str, num_envs: int, steps: int) -> tuple[float, float]:
    """Environment steps a second of the vector environment, and of the raw batch."""
    env = RobotVectorEnv(task_id, num_envs, privileged=True, flat=True, control="joint_velocity")
    env.reset(seed=0)
    raw = Batch(env.twins.model, num_envs)
    substeps = Layout(env.task, {}).substeps
    ours_s = raw_s = 0.0
    for action in actions_of(env, steps):
        raw.state[:] = env.twins.batch.state
        started = perf_counter()
        env.step(action)
        ours_s += perf_counter() - started
        raw.bind("ctrl")[:] = env._filter.sent
        started = perf_counter()
        raw.step(nstep=substeps)
        raw_s += perf_counter() - started
    env.close()
    return num_envs * steps / ours_s, num_envs * steps / raw_s


def rate_of(env: VectorEnv, steps: int) -> float:
    """Environment steps a second."""
    env.reset(seed=0)
    actions = actions_of(env, steps)
    started = perf_counter()
    for action in actions:
        env.step(action)
    return env.num_envs * steps / (perf_counter() - started)


def seconds_of(draw: Callable[[], Any]) -> tuple[float, float]:
    """By the clock, and of CPU time."""
    started, cpu = perf_counter(), process_time()
    draw()
    return perf_counter() - started, process_time() - cpu


def rendering(task_id: str, size: int, num_twins: int = 8) -> dict[str, float]:
    """Images a second of the twins, and of a bare loop over the same states. Turn about."""
    twins = TwinBatch(make_task(task_id), num_twins, {"front": (size, size)})
    out = np.empty((num_twins, size, size, 3), np.uint8)
    model = twins.model
    states = [twins.batch.get_data(i, mujoco.MjData(model)) for i in range(num_twins)]
    for state in states:
        mujoco.mj_forward(model, state)
    bare = mujoco.Renderer(model, size, size)
    bare.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    bare.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0

    def loop() -> None:
        for row, state in zip(out, states, strict=True):
            bare.update_scene(state, "front")
            bare.render(out=row)

    draw = partial(twins.render, "front", out)
    draw()  # the first pictures make the OpenGL contexts
    loop()
    turns, rng = np.empty((TURNS, 2, 2)), np.random.default_rng(0)
    for turn in turns:
        for who in rng.permutation(2):  # who comes second finds warm caches
            turn[who] = seconds_of((draw, loop)[who])
    bare.close()
    twins.close()
    (ours, ours_cpu), (theirs, theirs_cpu) = np.median(turns, axis=0)
    return {
        "images_per_s": round(float(num_twins / ours), 1),
        "renderer_images_per_s": round(float(num_twins / theirs), 1),
        "ratio": round(float(theirs_cpu / ours_cpu), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--task", default="push-v1")
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=150, help="control steps of each measurement")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    arguments: dict[str, Any] = {"privileged": True, "flat": True, "control": "joint_velocity"}
    ours, raw = against_raw_batch(options.task, options.num_envs, options.steps)
    pairs = []
    for _ in range(2):
        vector = RobotVectorEnv(options.task, options.num_envs, **arguments)
        mine = rate_of(vector, options.steps)
        vector.close()
        workers = AsyncVectorEnv([partial(RobotEnv, options.task, **arguments)] * options.num_envs)
        theirs = rate_of(workers, max(options.steps // 5, 20))
        workers.close()
        pairs.append((mine, theirs))
    pictures = {str(size): rendering(options.task, size) for size in SIZES_PX}
    answer = {
        "vector_env_over_raw_batch": round(ours / raw, 3),
        "vector_env_over_async_gym": round(max(mine for mine, _ in pairs) / max(theirs for _, theirs in pairs), 2),
        "render_over_renderer": min(row["ratio"] for row in pictures.values()),
        "env_steps_per_s": round(max(mine for mine, _ in pairs)),
        "raw_batch_env_steps_per_s": round(raw),
        "async_gym_env_steps_per_s": round(max(theirs for _, theirs in pairs)),
        "images_px": pictures,
        "task": options.task,
        "num_envs": options.num_envs,
        "cpus": os.cpu_count(),
    }
    if options.json:
        print(json.dumps(answer))
        return
    for name, value in answer.items():
        print(f"{name:28s} {value}")


if __name__ == "__main__":
    main()
