"""Offline sets in the manner of D4RL, made of our own SAC, and how well each algorithm learns from them.

`python benchmarks/offline_sets.py gym:HalfCheetah-v5 --online-steps 20000 100000 --out runs/sets --json` trains SAC for
the first number of steps (medium) and for the second (expert) unless `--out` has those runs already, and makes of them

    random         uniform actions
    medium         the medium policy, with its noise
    medium-replay  all that the medium training saw
    expert         the expert policy, with its noise
    mixed          half of medium and half of expert

Each algorithm is trained on each set and judged on fresh episodes. A score is 100 (return - random) / (expert -
random), both measured here. With `--corl PYTHON CHECKOUT` the scripts of corl-team/CORL learn from the same
transitions. Results go to offline_<task>.json in --results as they come; what is there already is kept.
In a task of the twin, such as `tool:push-v1`, the reward is 1 at a success, RLPD from 20 demonstrations takes SAC's
place, returns are success rates, and CQL and Cal-QL have the task's settings, as in a training with `--task`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import statistics
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.algorithms.compute import Compute
from robolearn.datasets.replay_buffer import EpisodeLog, ReplayBuffer, ReplayBufferConfig
from robolearn.datasets.sampler import Sampler, SamplerConfig, TransitionConfig
from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.policies.checkpoint import load_policy
from robolearn.policies.gaussian import GaussianPolicy
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.environments import is_gym, make_environments
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.run import read_state
from robolearn.recipes.task_settings import SETTINGS
from robolearn.recipes.train import configure
from robolearn.recipes.train_offline import train_offline
from robolearn.recipes.train_online import train_online
from robolearn.recipes.train_request import TrainRequest
from robolearn.recipes.training_data import tensors
from robolearn.recipes.workers import end_with_parent
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec
from robolearn.types import EpisodeOutcome

RESULTS = Path(__file__).parent / "results"
SETS = ("random", "medium", "medium-replay", "expert", "mixed")
ALGORITHMS = ("state_bc", "td3_bc", "iql", "cql", "calql")
CORL = ("td3_bc", "iql", "cql", "calql")
JUDGED, MAKING_SEED = 20, 500_000

Act = Callable[[dict[str, NDArray]], NDArray]


class Set:
    """A dataset under way: episodes with their rewards and last observations."""

    def __init__(self, path: Path, interface: InterfaceSpec, task: str) -> None:
        names = tuple(f"a{i}" for i in range(interface.action.shape[0]))
        low, high = interface.action.low, interface.action.high
        assert low is not None
        assert high is not None
        robot = RobotSpec("gym", names, low, high, (1e9,) * len(names), unit="")
        self.store = ZarrStore.create(path, DatasetSpec(robot, interface, extra={"reward": ArraySpec(())}))
        self.task, self.period_ns = task, round(1e9 / interface.control_hz)
        self.steps = 0

    def add(self, log: EpisodeLog, rows: list[tuple[dict, NDArray, float, dict]], terminated: bool) -> None:
        log.begin(EpisodeMeta(task=self.task), rows[0][0])
        for t, (_, action, reward, following) in enumerate([*rows, rows[-1]]):
            stamps = dict.fromkeys(self.store.spec.stamped_fields, t * self.period_ns)
            if t == len(rows):
                log.commit(EpisodeOutcome(None, terminated=terminated, truncated=not terminated), stamps)
            else:
                log.append(action, reward, following, stamps)
        self.steps += len(rows)


def record(path: Path, task: str, acts: list[Act], steps: int) -> None:
    """Whole episodes of the policies in turns, until there are so many steps."""
    with contextlib.closing(make_environments(task, 1)) as envs:
        made, seed = Set(path, envs.interface, task), MAKING_SEED
        with made.store.writer() as writer:
            while made.steps < steps:
                seen, _ = envs.reset(seed=[seed])
                act, rows, ended = acts[seed % len(acts)], [], False
                seed += 1
                while not ended:
                    action = act(seen).astype(np.float32)
                    following, reward, terminated, truncated, info = envs.step(action)
                    worth = reward if is_gym(task) else info["success"]
                    rows.append((first(seen), action[0], float(worth[0]), first(following)))
                    seen, ended = following, bool(terminated[0] | truncated[0])
                made.add(EpisodeLog(writer), rows, bool(terminated[0]))


def first(rows: dict[str, NDArray]) -> dict[str, NDArray]:
    return {name: values[0].copy() for name, values in rows.items()}


def replay(path: Path, task: str, run: Path) -> None:
    """All that a training saw, as its resumable state keeps it."""
    with contextlib.closing(make_environments(task, 1)) as envs:
        interface = envs.interface
    part = "collector.buffer0."
    state = {k.removeprefix(part): v.numpy() for k, v in read_state(run)[0].items() if k.startswith(part)}
    buffer = ReplayBuffer(interface, ReplayBufferConfig(capacity=len(state["reward"]) + 1))
    buffer.load_state_dict(state)
    made = Set(path, interface, task)
    seen = {name: state[f"observation.{name}"] for name in interface.observation}
    with made.store.writer() as writer:
        rows: list[tuple[dict, NDArray, float, dict]] = []
        for slot, acted in enumerate(state["acted"]):
            if acted:
                now, after = ({n: v[i] for n, v in seen.items()} for i in (slot, slot + 1))
                rows.append((now, state["action"][slot], float(state["reward"][slot]), after))
            elif rows:  # the last observation of an episode
                made.add(EpisodeLog(writer), rows, bool(state["terminated"][slot - 1]))
                rows = []


def make_sets(
    task: str, out: Path, online_steps: tuple[int, int], steps: int, seed: int, compute: Compute
) -> dict[str, Path]:
    """The datasets by name. What is there already is taken as it is."""
    runs = {"medium": out / "online_medium", "expert": out / "online_expert"}
    demonstrations = None if is_gym(task) else out / "demonstrations.zarr"
    if demonstrations is not None and not demonstrations.exists():
        collect_episodes(CollectConfig(task, image_size=0), demonstrations, 20)
    for (name, run), number in zip(runs.items(), online_steps, strict=True):
        if not (run / "checkpoints" / "latest").exists():
            algorithm = "sac" if demonstrations is None else "rlpd"
            print(f"{algorithm}, {name}: {number} steps", file=sys.stderr)
            config, online = configure(TrainRequest(algorithm, task=task, offline_data=demonstrations))
            how = {"config": config, "online": replace(online, evaluations=2), "compute": compute}
            train_online(algorithm, task, run, number, seed, offline_data=demonstrations, **how)
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    with contextlib.closing(make_environments(task, 1)) as envs:
        action = envs.interface.action

    def noisy(run: Path) -> Act:
        policy = load_policy(run / "checkpoints" / "latest")
        assert isinstance(policy, GaussianPolicy)
        return lambda seen: policy.sample(tensors(seen, "cpu"), generator).numpy()

    def uniform(seen: dict[str, NDArray]) -> NDArray:
        return rng.uniform(action.low, action.high, (1, *action.shape))  # type: ignore[arg-type]

    paths = {name: out / f"{name}.zarr" for name in SETS}
    makers: dict[str, Callable[[Path], None]] = {
        "random": lambda path: record(path, task, [uniform], steps),
        "medium": lambda path: record(path, task, [noisy(runs["medium"])], steps),
        "medium-replay": lambda path: replay(path, task, runs["medium"]),
        "expert": lambda path: record(path, task, [noisy(runs["expert"])], steps),
        "mixed": lambda path: record(path, task, [noisy(run) for run in runs.values()], steps),
    }
    for name, make in makers.items():
        if not paths[name].exists():
            print(f"making {name}", file=sys.stderr)
            make(paths[name])
    return paths


def flat(dataset: Path, file: Path) -> Path:
    """Every transition of a dataset, as CORL reads them: `observations` (N, S), `actions` in [-1, 1], `rewards`,
    `next_observations`, `terminals`, and `mc_returns`, discounted to the end of the episode."""
    store = ZarrStore.open(dataset)
    sampler = Sampler(store, SamplerConfig(("state",), transition=TransitionConfig("reward")))
    batch = sampler.batch(sampler.starts)
    action = store.spec.interface.action
    low, high = np.asarray(action.low, np.float32), np.asarray(action.high, np.float32)
    np.savez(
        file,
        observations=batch["state"],
        actions=(batch["action"] - (low + high) / 2) / ((high - low) / 2),
        rewards=batch["reward"],
        next_observations=batch["next_state"],
        terminals=1.0 - batch["bootstrap"],
        mc_returns=batch["return_to_go"],
    )
    return file


def judge(checkpoint: Path, task: str, episodes: int) -> float:
    """The mean return of fresh episodes, where a success is worth 1 in a task of the twin."""
    return float(evaluate_policy(checkpoint, task, episodes)["return_mean" if is_gym(task) else "success_rate"])


def corl(args: argparse.Namespace, dataset: Path, algorithm: str, seed: int) -> float:
    """The mean return of what CORL's script learned."""
    script = Path(__file__).with_name("offline_sets_peers.py")
    python, checkout = args.corl
    data = flat(dataset, args.out / f"{dataset.stem}_{algorithm}_{seed}.npz")
    how = [str(each) for each in (args.steps, args.batch_size, seed, JUDGED, args.device)]
    command: list[str | Path] = [python, script, checkout, algorithm, args.task.removeprefix("gym:"), data, *how]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(answer.stdout.splitlines()[-1])


def learn(args: argparse.Namespace, dataset: Path, algorithm: str, seed: int) -> float:
    """The mean return of what an algorithm, ours or `corl ...`, learned of a set."""
    torch.set_num_threads(1)
    if algorithm.startswith("corl "):
        return corl(args, dataset, algorithm.removeprefix("corl "), seed)
    run = args.out / f"{dataset.stem}_{algorithm}_{seed}"
    wanted = (f"batch_size={args.batch_size}", *SETTINGS.get(args.task, {}).get(algorithm, ()), *args.set)
    config, _ = configure(TrainRequest(algorithm, dataset, settings=wanted))
    config = replace(config, episodes="all") if hasattr(config, "episodes") else config
    compute = Compute(args.device, args.compile, args.precision)
    train_offline(algorithm, dataset, run, args.steps, seed, config, reward="reward", compute=compute)
    return judge(run / "checkpoints" / "latest", args.task, JUDGED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", help="gym:<id>, or tool:<id>")
    parser.add_argument("--online-steps", type=int, nargs=2, default=[20_000, 100_000], metavar=("MEDIUM", "EXPERT"))
    parser.add_argument("--set-steps", type=int, default=100_000, help="of each set")
    parser.add_argument("--steps", type=int, default=100_000, help="gradient steps of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS)
    parser.add_argument("--corl", type=Path, nargs=2, metavar=("PYTHON", "CHECKOUT"))
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--set", nargs="*", default=[], help="settings of every training")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cpu", help="where algorithms learn of the sets")
    parser.add_argument("--processes", type=int, default=1, help="trainings at a time, each with one thread")
    parser.add_argument("--out", type=Path, default=Path("runs/offline_sets"), help="of sets and runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    args = parser.parse_args()
    if args.corl and not is_gym(args.task):
        parser.error("CORL's scripts judge in environments of Gymnasium alone; leave out --corl")
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    args.results.mkdir(parents=True, exist_ok=True)
    compute = Compute("cpu", args.compile, args.precision)
    sets = make_sets(args.task, args.out, tuple(args.online_steps), args.set_steps, 0, compute)
    file = args.results / f"offline_{args.task.removeprefix('gym:').replace(':', '_')}.json"
    known: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {"rows": []}
    if "expert_return" not in known:
        store = ZarrStore.open(sets["random"])
        totals = [float(store.read(i, ["reward"])["reward"].sum()) for i in range(len(store.episodes))]
        expert = judge(args.out / "online_expert" / "checkpoints" / "latest", args.task, 50)
        known |= {"random_return": statistics.mean(totals), "expert_return": expert}
    known |= {"task": args.task, "online_steps": args.online_steps, "set_steps": args.set_steps}
    jobs = [(name, algorithm, seed) for seed in args.seeds for name in args.sets for algorithm in args.algorithms]
    if args.corl:
        both = [each for each in CORL if each in args.algorithms]
        jobs += [(name, f"corl {each}", seed) for seed in args.seeds for name in args.sets for each in both]
    done = {(row["set"], row["algorithm"], row["seed"]) for row in known["rows"]}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.processes, mp_context=spawn, initializer=end_with_parent) as pool:
        under_way = {
            pool.submit(learn, args, sets[name], algorithm, seed): (name, algorithm, seed)
            for name, algorithm, seed in jobs
            if (name, algorithm, seed) not in done
        }
        for future in as_completed(under_way):
            name, algorithm, seed = under_way[future]
            mean = future.result()
            score = 100 * (mean - known["random_return"]) / (known["expert_return"] - known["random_return"])
            row = {"set": name, "algorithm": algorithm, "seed": seed, "return_mean": mean, "score": score}
            row |= {"steps": args.steps, "batch_size": args.batch_size, "settings": args.set}
            print(row, file=sys.stderr, flush=True)
            known["rows"].append(row)
            file.write_text(json.dumps(known, indent=1) + "\n")
    if args.json:
        print(json.dumps(known))


if __name__ == "__main__":
    main()
