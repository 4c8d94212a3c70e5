"""How well the scripted experts do, and what random commands do to each task: `python benchmarks/tasks.py [TASK ...]`.

Expert: 100 episodes of seeds that no test uses, in the environment, safety filter included. Random: episodes of
drifting random joint targets; counted are crashes, diverged simulations (`deep_penetrations` are those that ended
because things stayed more than 5 mm deep in each other), objects lost (the task says so) and objects that fell without
the task noticing. Writes the figures of each task to
sim_assets/measured.json, which `robolearn tasks --json` tells.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from robolearn.envs.robot_env import RobotEnv
from robolearn.tasks import TASKS, Task, make_task
from robolearn.twin.batch import TwinBatch
from robolearn.twin.layout import DEPTH, PRESSED

MEASURED = Path(__file__).resolve().parent.parent / "sim_assets" / "measured.json"
FIRST_SEED = 500_000
FELL_M = -0.02  # below the table's top
ROWS = 25  # random episodes that run together


def expert(task_id: str, episodes: int) -> dict[str, Any]:
    env, successes, steps = RobotEnv(task_id, {}, privileged=True), 0, []
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        facts, _ = env.reset(seed=seed)
        terminated = truncated = False
        taken = 0
        while not (terminated or truncated):
            facts, _, terminated, truncated, info = env.step(env.task.expert(facts))
            taken += 1
        successes += info["success"]
        if terminated:
            steps.append(taken)
    return {"episodes": episodes, "success_rate": successes / episodes, "mean_steps": round(float(np.mean(steps)), 1)}


def commands(twins: TwinBatch, seeds: range) -> np.ndarray:
    """Drifting joint targets (steps, N, J), within the joints' limits and speeds."""
    robot = twins.robot_spec
    low, high, stride = np.array(robot.position_low), np.array(robot.position_high), np.array(robot.max_speed)
    shape = (twins.task.max_steps, len(low))
    pushes = np.stack([np.random.default_rng(seed).uniform(-1, 1, shape) for seed in seeds], axis=1)
    command, drift, answer = twins.joint_positions().astype(np.float64), np.zeros((len(seeds), len(low))), []
    for push in pushes:
        drift = 0.8 * drift + 0.6 * push
        command = np.clip(command + np.clip(drift, -1, 1) * stride / twins.control_hz, low, high)
        answer.append(command)
    return np.array(answer)


def random_commands(task: Task, seeds: range) -> dict[str, Any]:
    """What drifting commands do in the episodes of these seeds, which run together."""
    tools = {f"pose_{arm.tool}" for arm in task.arms}
    watched = [f"pose_{body}" for body in task.bodies if f"pose_{body}" not in tools]
    twins = TwinBatch(task, len(seeds), {}, threads=1)
    twins.reset(seeds)
    depth = twins.batch.sensor(DEPTH).data
    goes_on, fell, deepest = np.ones(len(seeds), bool), np.zeros(len(seeds), bool), 0.0
    for command in commands(twins, seeds):
        twins.command(command)
        twins.advance(goes_on)
        deepest = max(deepest, float(np.where(goes_on, -depth[:, 0], 0.0).max()))
        status = twins.status()
        goes_on &= ~status.success & (status.failed == "")
        heights = [rows[:, 2] for rows in twins.observe(watched).values()]
        fell |= goes_on & (np.min(heights, axis=0, initial=0.0) < FELL_M)
        goes_on &= ~fell
        if not goes_on.any():
            break
    return {
        "episodes": len(seeds),
        "success": int(status.success.sum()),
        "lost": int(((status.failed != "") & ~status.diverged).sum()),
        "diverged": int(status.diverged.sum()),
        "fell_unnoticed": int(fell.sum()),
        "deep_penetrations": int((status.failed == PRESSED).sum()),
        "deepest_mm": round(deepest * 1000, 1),
    }


def together(before: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    """Counts of two rounds."""
    added = {name: before.get(name, 0) + count for name, count in then.items()}
    return {**added, "deepest_mm": max(before.get("deepest_mm", 0.0), then["deepest_mm"])}


def save(task_id: str, figures: dict[str, Any]) -> None:
    """Merge into the file, which several of us may write."""
    with MEASURED.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        measured = json.loads(file.read() or "{}")
        measured[task_id] = {**measured.get(task_id, {}), **figures}
        file.truncate(0)
        file.write(json.dumps(dict(sorted(measured.items())), indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", help="ids, such as push-v1 or push-v1@panda; all by default")
    parser.add_argument("--expert", type=int, default=100, help="episodes")
    parser.add_argument("--random", type=int, default=1000, help="episodes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    variants = [f"{name}@{robot}" for name, task in TASKS.items() for robot in task.robots[1:]]
    tasks = {task_id: make_task(task_id) for task_id in args.tasks or [*TASKS, *variants]}
    answer: dict[str, dict[str, Any]] = {task_id: {"robot": task.robot} for task_id, task in tasks.items()}

    def keep(task_id: str, **figures: dict[str, Any]) -> None:
        answer[task_id] |= figures
        save(task_id, answer[task_id])
        print(task_id, json.dumps(figures), file=sys.stderr, flush=True)

    if args.expert:
        for task_id in tasks:
            keep(task_id, expert=expert(task_id, args.expert))
    for first in range(0, args.random, ROWS):  # in rounds, so that who stops it has as many episodes of every task
        seeds = range(FIRST_SEED + first, FIRST_SEED + min(first + ROWS, args.random))
        for task_id, task in tasks.items():
            keep(task_id, random=together(answer[task_id].get("random", {}), random_commands(task, seeds)))
    if args.json:
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
