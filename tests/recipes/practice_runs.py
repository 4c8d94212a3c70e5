"""A small prepared run of reset-free practice, and the processes of one."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np

from robolearn.algorithms.calql import CalQLConfig
from robolearn.algorithms.rlpd import RLPDConfig
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.policies.gaussian import GaussianPolicyConfig
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.finetune.recipe import begin, practise
from robolearn.recipes.finetune.settings import FinetuneConfig

ACTOR = GaussianPolicyConfig(hidden_sizes=(16,))
SMALL = {"policy": ACTOR, "critic_hidden_sizes": (16,), "critic_layer_norm": True, "num_critics": 2, "batch_size": 16}
SHARED = {**SMALL, "discount": 0.97}


def small_config(steps: int, seed: int = 0) -> FinetuneConfig:
    config = FinetuneConfig("push-v1", reward="true", seed=seed, evaluate_every=0, film_every=0)
    return replace(
        config,
        pretraining_steps=3,
        rlpd=RLPDConfig(**SHARED, utd=1),
        calql=CalQLConfig(**SHARED, num_actions=2),
        supervisor=replace(config.supervisor, max_steps=steps, max_attempt_steps=12),
    )


def demonstrations(folder: Path, episodes: int = 1) -> list[Path]:
    """Of push and of its way back."""
    for task in ("push-v1", "push_back-v1"):
        collect_episodes(CollectConfig(task, image_size=0), folder / f"{task}.zarr", episodes, seed=0)
    return [folder / "push-v1.zarr", folder / "push_back-v1.zarr"]


def prepared(config: FinetuneConfig, demos: list[Path], run: Path) -> Path:
    """A run that has not practised yet."""
    begin(replace(config, supervisor=replace(config.supervisor, max_steps=1)), [], demos, run)
    practise(run, processes=False)
    for name in ("replay.zarr", "stopped.txt", "resume.safetensors", "state", "weights"):
        subprocess.run(["rm", "-rf", str(run / name)], check=True)
    config.write(run)
    return run


def recorded_arrays(run: Path) -> list[dict[str, np.ndarray]]:
    """All that was written of every attempt, but when."""
    store = ZarrStore.open(run / "replay.zarr")
    episodes = []
    for index, info in enumerate(store.episodes):
        facts = {"task": info.task, "success": info.success, "reason": info.reason, **info.tags}
        episodes.append({**store.read(index), "facts": np.array(repr(sorted(facts.items())))})
    return episodes


def same(one: list[dict[str, np.ndarray]], other: list[dict[str, np.ndarray]]) -> bool:
    def equal(a: np.ndarray, b: np.ndarray) -> bool:
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")

    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a) for a, b in zip(one, other, strict=True)
    )


def pids(run: Path, role: str = "") -> list[int]:
    """Living processes of the run: `collector`, `learner`, or both."""
    found = subprocess.run(["pgrep", "-f", f"finetune.worker {role}.*{run}$"], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
