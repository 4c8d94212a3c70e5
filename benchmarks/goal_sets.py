"""Getting anywhere in OGBench's point mazes and to any place of its cubes: data made here by its oracles, HIQL and OTA
trained on it and judged.

`python benchmarks/goal_sets.py pointmaze-medium --episodes 1000 --steps 100000 --json`, by a Python that has ogbench
(Park et al., "OGBench: benchmarking offline goal-conditioned RL", ICLR 2025). Of a maze the data is its kind
`navigate`: 1000 steps an episode, from anywhere in the maze to one corner or crossing after another, with noise of 0.5
in the actions. Of `cube-single` it is its kind `play`: episodes as long of an arm that carries the cube from one place
to another, by a plan with smooth noise of 0.1. Judged as there: the environment's own five tasks, drawn at random, by
`robolearn evaluate`. Results go to benchmarks/results/goals_<name>.json as they come; what is there already is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from offline_sets import RESULTS, Set

from robolearn.algorithms.compute import Compute
from robolearn.datasets.replay_buffer import EpisodeLog
from robolearn.envs.gym_env import GymVectorEnv
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.train import train_policy
from robolearn.recipes.train_request import TrainRequest

EPISODE_STEPS, NOISE, PLAN_NOISE = 1000, 0.5, 0.1
OPTION_STEPS = {"hiql": 0, "ota": 5}

Cell = tuple[int, int]


def neighbours(maze: NDArray, cell: Cell) -> list[Cell]:
    """The free cells beside one."""
    i, j = cell
    return [there for there in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)) if maze[there] == 0]


def is_vertex(maze: NDArray, cell: Cell) -> bool:
    """Whether a free cell is anything but the middle of a straight corridor."""
    beside = neighbours(maze, cell)
    return not (len(beside) == 2 and (beside[0][0] == beside[1][0] or beside[0][1] == beside[1][1]))


def distances(maze: NDArray, goal: Cell) -> dict[Cell, int]:
    """Cells to go to the goal from every free cell."""
    known, edge = {goal: 0}, [goal]
    for cell in edge:
        for there in neighbours(maze, cell):
            if there not in known:
                known[there] = known[cell] + 1
                edge.append(there)
    return known


def empty(path: Path, task: str) -> Set:
    """A dataset for the environment, without episodes."""
    with contextlib.closing(GymVectorEnv(task, 1)) as envs:
        return Set(path, envs.interface, task)


def transition(seen: NDArray, action: NDArray, reward: Any, following: NDArray) -> tuple[dict, NDArray, float, dict]:
    """A step as `Set` takes it."""
    before, after = ({"state": np.asarray(each, np.float32)} for each in (seen, following))
    return before, action, float(reward), after


def navigate(task: str, path: Path, episodes: int, seed: int) -> None:
    """Episodes of the oracle, which makes for the next cell on the way."""
    env: Any = gymnasium.make(task.removeprefix("gym:"), terminate_at_goal=False, max_episode_steps=EPISODE_STEPS)
    world, maze = env.unwrapped, env.unwrapped.maze_map
    cells = [(int(i), int(j)) for i, j in np.argwhere(maze == 0)]
    vertices = [cell for cell in cells if is_vertex(maze, cell)]
    made, rng = empty(path, task), np.random.default_rng(seed)
    far = cache(lambda goal: distances(maze, goal))

    def subgoal(cell: Cell, goal: Cell) -> NDArray:
        return np.array(world.ij_to_xy(min([cell, *neighbours(maze, cell)], key=lambda there: far(goal)[there])))

    np.random.seed(seed)
    with made.store.writer() as writer:
        for _ in range(episodes):
            start, goal = cells[rng.integers(len(cells))], vertices[rng.integers(len(vertices))]
            seen, _ = env.reset(options={"task_info": {"init_ij": start, "goal_ij": goal}})
            rows, ended = [], False
            while not ended:
                at = world.get_xy()
                way = subgoal(world.xy_to_ij(at), goal) - at
                action = way / (np.linalg.norm(way) + 1e-6) + rng.normal(0, NOISE, 2)
                action = action.clip(-1, 1).astype(np.float32)
                following, reward, terminated, truncated, info = env.step(action)
                rows.append(transition(seen, action, reward, following))
                seen, ended = following, terminated or truncated
                if info["success"]:
                    goal = vertices[rng.integers(len(vertices))]
                    world.set_goal(goal)
            made.add(EpisodeLog(writer), rows, False)


def play(task: str, path: Path, episodes: int, seed: int) -> None:
    """Episodes of the oracle that plans how to carry a cube to a place, and to the next when it is there."""
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle

    env: Any = gymnasium.make(
        task.removeprefix("gym:"), terminate_at_goal=False, mode="data_collection", max_episode_steps=EPISODE_STEPS
    )
    oracle = CubePlanOracle(env=env, noise=PLAN_NOISE, noise_smoothing=0.5)
    made = empty(path, task)
    np.random.seed(seed)
    with made.store.writer() as writer:
        for number in range(episodes):
            seen, info = env.reset(seed=seed + number)
            oracle.reset(seen, info)
            rows, ended = [], False
            while not ended:
                action = np.clip(oracle.select_action(seen, info), -1, 1).astype(np.float32)
                following, reward, terminated, truncated, info = env.step(action)
                rows.append(transition(seen, action, reward, following))
                seen, ended = following, terminated or truncated
                if oracle.done:
                    oracle.reset(*env.unwrapped.set_new_target(return_info=True, p_stack=0.0))
            made.add(EpisodeLog(writer), rows, False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="such as pointmaze-medium or cube-single")
    parser.add_argument("--episodes", type=int, default=1000, help="of the data")
    parser.add_argument("--steps", type=int, default=1_000_000, help="gradient steps of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--algorithms", nargs="+", default=list(OPTION_STEPS), choices=OPTION_STEPS)
    parser.add_argument("--judged", type=int, default=250, help="episodes of the evaluation")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--set", nargs="*", default=[], help="settings of the algorithm")
    parser.add_argument("--out", type=Path, default=Path("runs/goal_sets"))
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    task, data = f"gym:ogbench:{args.name}-v0", args.out / f"{args.name}.zarr"
    if not data.exists():
        make = play if args.name.startswith("cube") else navigate
        make(task, data, args.episodes, 0)
    file = RESULTS / f"goals_{args.name}.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"rows": []}
    known |= {"task": task, "episodes": args.episodes, "settings": args.set}
    for seed in args.seeds:
        for name in args.algorithms:
            about = {"algorithm": name, "seed": seed, "steps": args.steps, "precision": args.precision}
            if any(about.items() <= row.items() for row in known["rows"]):
                continue
            request = TrainRequest(
                "hiql",
                data,
                out=args.out / f"{args.name}_{name}_{seed}",
                steps=args.steps,
                seed=seed,
                compute=Compute(args.device, args.compile, args.precision),
                settings=[*args.set, f"option_steps={OPTION_STEPS[name]}"],
            )
            result = train_policy(request, lambda step, text: print(f"{step} {text}", file=sys.stderr))
            answer = evaluate_policy(result["latest_checkpoint"], task, args.judged)
            row = {**about, "train_seconds": result["train_seconds"]}
            row |= {key: answer[key] for key in ("success_rate", "success_ci95", "mean_episode_steps", "episodes")}
            print(row, file=sys.stderr, flush=True)
            known["rows"].append(row)
            file.write_text(json.dumps(known, indent=1) + "\n")
    if args.json:
        print(json.dumps(known))


if __name__ == "__main__":
    main()
