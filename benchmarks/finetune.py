"""Reset-free fine-tuning on the twin: `python benchmarks/finetune.py --variants learned perfect --compile --json`.

In D5RL's shape (Rafailov et al. 2024): `success_start` is what learning offline alone came to, `success_end` what
`--steps` decisions of practice made of it. The old data are scripted demonstrations, episodes of mixed quality, and
play; they are collected when they are not there. Every variant of a seed begins with the same classifier and the same
policy: Cal-QL is pre-trained in pieces, and stops at the first after which 30 to 60 % of the evaluation episodes
succeed, whatever the seed. Runs lie under --runs and go on where they were stopped; what they came to is kept in
benchmarks/results, a file a task and one row a variant and seed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robolearn.algorithms.compute import Compute
from robolearn.datasets.store import EpisodeInfo
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.policies.checkpoint import load_policy
from robolearn.policies.demonstrator import Manner
from robolearn.policies.gaussian import GaussianPolicy
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.finetune.collector import STOPPED
from robolearn.recipes.finetune.evaluation import true_success
from robolearn.recipes.finetune.prepare import PRETRAINED, offline_buffer, old_episodes, pretrain
from robolearn.recipes.finetune.recipe import begin, practise
from robolearn.recipes.finetune.recipe import prepare as make_ready
from robolearn.recipes.finetune.report import summary
from robolearn.recipes.finetune.settings import FILE, FinetuneConfig
from robolearn.recipes.train import read_settings, with_settings
from robolearn.runs import read_metrics
from robolearn.tasks import make_task

RESULTS = Path(__file__).parent / "results"
START_LOW, START_HIGH = 0.3, 0.6  # success that the practice shall begin with
STRETCH = 500  # decisions of practice that are summed up
PIECE, MOST = 250, 5000  # steps of pre-training between two looks, and at the most
DATA: dict[str, tuple[bool, Manner, int, int]] = {
    "demos_f": (False, "expert", 20, 0),
    "demos_b": (True, "expert", 20, 0),
    "prior_f": (False, "mixed", 40, 1000),
    "prior_b": (True, "mixed", 40, 1000),
    "play": (False, "play", 20, 2000),
}
"""By name: whether of the backward task, in which manner, episodes, first seed. The first two are demonstrations."""
TASKS: dict[str, tuple[str, ...]] = {
    "push-v1": (),
    "pick_place-v1": ("supervisor.max_attempt_steps=50",),
    "drawer_open-v1": ("supervisor.max_attempt_steps=60",),
}
"""The tasks in D5RL's shape, and settings of each: how long its expert may take."""
CONVERGED = ("pretraining_steps=4000", "calql.polyak=0.02")
"""Pre-training until values are of the size of what is to come: WSRL's start."""
ONLINE_ALONE = (
    *CONVERGED,
    "reward=true",
    "online=warm_up",
    "rlpd.utd=4",
    "rlpd.actor_learning_rate=1e-4",
)
"""WSRL's own settings."""
PLAIN = (
    "false_positives=0.1",
    "supervisor.max_recoveries=0",
    "supervisor.failed_attempts=1000000",
    "supervisor.stuck_attempts=1000000",
)
"""RoboFuME's own loop: nothing but a success or a time-out gets it on, and a person brings back what is lost."""
RLIF = (
    "reward=true",
    "rewards=intervention",
    "interventions.ratio=0.99",
    "interventions.noise=0.38",
    "rlpd.actor_learning_rate=1e-4",
)
"""A person of whose own attempts 55 % succeed; a policy that follows every change of the values is unsteady."""
VARIANTS: dict[str, tuple[str, ...]] = {
    "learned": (),
    "perfect": ("reward=true",),
    "erring": ("false_positives=0.1",),
    "erring_no_timeout": ("false_positives=0.1", "supervisor.switch_on_timeout=false"),
    "erring_plain": PLAIN,
    "erring_plain_no_timeout": (*PLAIN, "supervisor.switch_on_timeout=false"),
    "rlif": RLIF,
    "wsrl": (*ONLINE_ALONE, "warmup_steps=1000"),
    "naive_sac": ONLINE_ALONE,
    "calql": ("reward=true", "algorithm=calql"),
    "calql_not_retained": ("reward=true", "algorithm=calql", "online=warm_up"),
    "iql": ("reward=true", "algorithm=iql", "pretrained_by=iql"),
    "rlpd": ("reward=true", "pretrained_by=nothing"),
    "sac": ("reward=true", "algorithm=sac", "pretrained_by=nothing", "online=warm_up", "warmup_steps=500"),
}
"""Settings of each, on top of the defaults."""


def collect(args: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Demonstrations and prior data, collected where they are not there yet."""
    paths = []
    for name, (backward, manner, episodes, seed) in DATA.items():
        path = args.data / f"{name}.zarr"
        have = len(ZarrStore.open(path).episodes) if path.exists() else 0
        if have < episodes:
            say(f"collecting {path}")
            task = make_task(args.task).backward if backward else args.task
            collect_episodes(CollectConfig(task, manner=manner, image_size=0), path, episodes - have, seed + have)
        paths.append(path)
    return paths[:2], paths[2:]


def prepare(args: argparse.Namespace, variant: str, seed: int) -> Path:
    """The pre-trained run of a seed that the variant begins with, made once."""
    settings = [each for each in VARIANTS[variant] if each.partition("=")[0] in ("algorithm", "pretrained_by")]
    kind = str(with_settings(FinetuneConfig(args.task), read_settings(settings)).pretrained_by)
    if kind == "calql":
        kind, settings = ("converged", list(CONVERGED)) if set(CONVERGED) <= set(VARIANTS[variant]) else (kind, [])
    run = args.runs / f"prepared_{variant if kind == 'nothing' else kind}_{seed}"
    if not (run / FILE).exists():
        config = FinetuneConfig(args.task, seed=seed, compute=Compute(compile=args.compile))
        settings = [*TASKS[args.task], *settings, f"supervisor.max_steps={args.steps}", *args.set]
        config = with_settings(config, read_settings(settings))
        demos, prior = collect(args)
        begin(config, prior, demos, run)
    make_ready(run, lambda step, text: say(f"{run.name}: {text}"))
    if kind == "calql" and not (run / "start.json").exists():
        pretrain_to_start(run)
    return run


def pretrain_to_start(run: Path) -> None:
    """Go on pre-training, piece by piece, until the success lies where it shall begin."""
    config = FinetuneConfig.read(run)
    buffer, world = offline_buffer(config, run, old_episodes(config, run)), config.world()
    seen: list[tuple[int, float]] = []
    for steps in range(config.pretraining_steps, MOST + 1, PIECE):
        pretrain(replace(config, pretraining_steps=steps), run, buffer)
        policy = load_policy(run / PRETRAINED / "checkpoints" / "latest")
        assert isinstance(policy, GaussianPolicy)
        rate = true_success(policy, world, config.evaluation_episodes, config.supervisor.max_attempt_steps)
        seen.append((steps, rate))
        say(f"{run.name}: {rate:.2f} after {steps} steps")
        if START_LOW <= rate <= START_HIGH:
            break
    world.close()
    (run / "start.json").write_text(json.dumps(seen))


def practised(args: argparse.Namespace, variant: str, seed: int) -> dict[str, Any]:
    run = args.runs / f"{variant}_{seed}"
    if not (run / "begun").exists():
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(prepare(args, variant, seed), run, symlinks=True)
        settings = [*VARIANTS[variant], *args.set]
        if variant == "rlif":  # the person judges by the critics of a run that got good by the perfect reward
            practised(args, "perfect", seed)
            settings.insert(0, f"interventions.critic={(args.runs / f'perfect_{seed}').absolute()}")
        with_settings(FinetuneConfig.read(run), read_settings(settings)).write(run)
        (run / "begun").touch()
    if not (run / STOPPED).exists():
        started_s, wall_s = time.process_time(), time.perf_counter()
        answer = practise(run, processes=False, progress=lambda step, text: say(f"{variant} {seed}: {step} {text}"))
        before = json.loads((run / "took.json").read_text()) if (run / "took.json").exists() else {}
        took = {"cpu_s": time.process_time() - started_s, "wall_s": time.perf_counter() - wall_s}
        total = {name: round(each + before.get(name, 0)) for name, each in took.items()}
        (run / "took.json").write_text(json.dumps(total))
        if answer["interrupted"]:
            raise SystemExit(f"{run} was interrupted; the same command goes on with it")
    return row_of(run, variant, seed)


def row_of(run: Path, variant: str, seed: int) -> dict[str, Any]:
    """What a run came to."""
    config = FinetuneConfig.read(run)
    curves = read_metrics(run / "metrics.csv")
    episodes = ZarrStore.open(run / "replay.zarr").episodes
    steps, rates = curves["success_rate"]
    row = {"algorithm": variant, "seed": seed, **summary(config, episodes, curves)}
    row["success_end"] = row.pop("success_rate")
    row |= json.loads((run / "took.json").read_text())
    row["pretraining"] = json.loads((run / "start.json").read_text()) if (run / "start.json").exists() else []
    row["practice"] = practice(episodes)
    row["curve"] = [[int(step), float(rate)] for step, rate in zip(steps, rates, strict=True)]
    return row


def practice(episodes: Sequence[EpisodeInfo]) -> list[tuple[int, float, int]]:
    """By stretches of decisions: how far, the share of attempts at both tasks that truly succeeded, and how many."""
    ends = np.cumsum([info.num_actions for info in episodes])
    truth = np.array([float(info.tags["truth"]) for info in episodes])
    parts = [(end, truth[(ends > end - STRETCH) & (ends <= end)]) for end in range(STRETCH, ends[-1] + 1, STRETCH)]
    return [(end, round(float(part.mean()), 3), len(part)) for end, part in parts if len(part)]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=TASKS, default="push-v1")
    parser.add_argument("--data", type=Path, help="folder of the old data; RUNS/data by default")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench_finetune"))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=10_000, help="decisions of practice")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.data = args.data or args.runs / "data"
    rows = []
    for seed in args.seeds:
        for variant in args.variants:
            rows.append(practised(args, variant, seed))
            row = rows[-1]
            say(f"{variant} {seed}: {row['success_start']} -> {row['success_end']}, worst {row['success_worst']}")
            keep(rows)
    if args.json:
        print(json.dumps({"rows": rows}, indent=1))


def keep(rows: list[dict[str, Any]]) -> None:
    """Of every task a file of its own."""
    task = rows[0]["task"]
    file = RESULTS / ("finetune.json" if task == "push-v1" else f"finetune_{task}.json")
    known = json.loads(file.read_text())["rows"] if file.is_file() else []
    new = {(row["algorithm"], row["seed"]) for row in rows}
    merged = [row for row in known if (row["algorithm"], row["seed"]) not in new] + rows
    merged.sort(key=lambda row: (row["algorithm"], row["seed"]))
    means = {
        name: float(np.mean([row["success_end"] for row in merged if row["algorithm"] == name]))
        for name in sorted({row["algorithm"] for row in merged})
    }
    file.write_text(json.dumps({"success_end_mean": means, "rows": merged}, indent=1) + "\n")


if __name__ == "__main__":
    main()
