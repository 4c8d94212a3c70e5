"""How well the scripted experts do, and what random commands do to each task: `python benchmarks/tasks.py [TASK ...]`.

Expert: 100 episodes of seeds that no test uses. Random: episodes of drifting random joint targets; counted are crashes,
diverged simulations, objects lost (the task says so), objects that fell without the task noticing, and penetrations of
more than 5 mm that last longer than three control steps. Writes the figures of each task to sim_assets/measured.json,
which `robolearn tasks` shows.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from robolearn.tasks import TASKS, make_task
from robolearn.twin.twin import Twin

MEASURED = Path(__file__).resolve().parent.parent / "sim_assets" / "measured.json"
FIRST_SEED = 500_000
DEEP_M, DEEP_STEPS = 0.005, 3
FELL_M = -0.02  # below the table's top


def expert(twin: Twin, episodes: int) -> dict[str, Any]:
    task, successes, steps = twin.task, 0, []
    fields = ["proprio", *(f"pose_{body}" for body in task.bodies)]
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        twin.reset(seed)
        status = twin.status()
        for step in range(task.max_steps):
            twin.step(task.expert(twin.observe(fields)))
            status = twin.status()
            if status.success or status.failed:
                steps.append(step + 1)
                break
        successes += status.success
    return {"episodes": episodes, "success_rate": successes / episodes, "mean_steps": round(float(np.mean(steps)), 1)}


def random_commands(twin: Twin, episodes: int) -> dict[str, Any]:
    robot, tools = twin.robot_spec, {arm.tool for arm in twin.task.arms}
    low, high = np.array(robot.position_low), np.array(robot.position_high)
    stride = np.array(robot.max_speed) / twin.control_hz
    count = dict.fromkeys(("success", "lost", "diverged", "fell_unnoticed", "deep_penetrations"), 0)
    deepest = 0.0
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        rng = np.random.default_rng(seed)
        twin.reset(seed)
        command, drift = twin.robot_state().joint_position.astype(np.float64), np.zeros(len(low))
        deep_steps = worst_steps = 0
        for _ in range(twin.task.max_steps):
            drift = 0.8 * drift + 0.6 * rng.uniform(-1, 1, len(low))
            command = np.clip(command + np.clip(drift, -1, 1) * stride, low, high)
            twin.step(command)
            status = twin.status()
            if status.success or status.failed:
                break
            depth = -float(min(twin.data.contact.dist, default=0.0))
            deepest = max(deepest, depth)
            deep_steps = deep_steps + 1 if depth > DEEP_M else 0
            worst_steps = max(worst_steps, deep_steps)
            heights = [pose[2] for body, pose in twin.body_poses().items() if body not in tools]
            if min(heights, default=0.0) < FELL_M:
                count["fell_unnoticed"] += 1
                break
        count["success"] += status.success
        count["diverged"] += status.diverged
        count["lost"] += bool(status.failed) and not status.diverged
        count["deep_penetrations"] += worst_steps > DEEP_STEPS
    return {"episodes": episodes, **count, "deepest_mm": round(deepest * 1000, 1)}


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
    answer = {}
    for task_id in args.tasks or [*TASKS, *variants]:
        twin = Twin(make_task(task_id), {})
        figures: dict[str, Any] = {"robot": twin.task.robot}
        if args.expert:
            figures["expert"] = expert(twin, args.expert)
        if args.random:
            figures["random"] = random_commands(twin, args.random)
        save(task_id, figures)
        answer[task_id] = figures
        print(task_id, json.dumps(figures), file=sys.stderr, flush=True)
    if args.json:
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
