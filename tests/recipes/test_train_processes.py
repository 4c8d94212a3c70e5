"""Two processes that torchrun starts learn what one learns from batches of twice the size."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import distributed

from robolearn.algorithms.compute import Compute
from robolearn.algorithms.parallel import averaged, weighted_mean
from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import SpecError
from robolearn.recipes.processes import Processes
from robolearn.recipes.train_online import train_online
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec
from robolearn.types import EpisodeOutcome


def dataset(path: Path) -> Path:
    robot = RobotSpec("point", ("x", "y"), (-1.0, -1.0), (1.0, 1.0), (1.0, 1.0))
    action = ArraySpec((2,), low=(-1.0, -1.0), high=(1.0, 1.0))
    interface = InterfaceSpec({"state": ArraySpec((3,))}, action, control_hz=10.0)
    store = ZarrStore.create(path, DatasetSpec(robot, interface, extra={"reward": ArraySpec(())}))
    rng = np.random.default_rng(0)
    with store.writer() as writer:
        for _ in range(3):
            writer.begin(EpisodeMeta(task="toy"))
            for step in range(20):
                action_now = rng.uniform(-1, 1, 2).astype(np.float32)
                fields = {"state": rng.normal(size=3).astype(np.float32), "action": action_now}
                fields |= {"action_sent": action_now, "reward": np.float32(rng.normal()), "held": np.bool_(False)}
                writer.append(fields, dict.fromkeys(store.spec.stamped_fields, step * 10**8))
            writer.commit(EpisodeOutcome(None, terminated=False, truncated=True))
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    data = dataset(tmp_path / "toy.zarr")
    small = ["policy.hidden_sizes=16", "critic_hidden_sizes=16"]
    common = ["-m", "robolearn.cli", "train", "iql", "--dataset", str(data), "--reward", "reward", "--steps", "6"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    runs = {}
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    compiled = ["--compile", "--precision", "float32"]
    for name, launcher, size, how in (
        ("one", [sys.executable], 32, []),
        ("two", two, 16, []),
        ("two compiled", two, 16, compiled),
    ):
        out = tmp_path / name
        command = [*launcher, *common, *how, "--out", str(out), "--set", f"batch_size={size}", *small]
        subprocess.run(command, check=True, env=env, timeout=500, capture_output=True)
        runs[name] = load_file(out / "checkpoints" / "latest" / "weights.safetensors")
    untrained = load_file(tmp_path / "one" / "checkpoints" / "untrained" / "weights.safetensors")
    for key, value in runs["one"].items():
        for name in ("two", "two compiled"):
            np.testing.assert_allclose(runs[name][key], value, rtol=1e-4, atol=1e-6, err_msg=key)
    assert any(not np.allclose(value, untrained[key], atol=1e-4) for key, value in runs["one"].items())


def gradient_of_a_share(store: Path, number: int, count: int) -> list[float]:
    """Of a weighted mean by the values' factor, and whether the plain mean of a process stays its own."""
    distributed.init_process_group("gloo", init_method=store.as_uri(), world_size=count, rank=number)
    factor = torch.ones(2, requires_grad=True)
    values, weights = (rows[number::count] for rows in (ROWS, WEIGHTS))
    loss = weighted_mean((values * factor).sum(-1), weights)
    (gradient,) = averaged(torch.autograd.grad(loss, [factor]))
    with torch.no_grad():
        assert weighted_mean(values.sum(-1), weights) == (values.sum(-1) * weights).sum() / weights.sum()
    distributed.destroy_process_group()
    return gradient.tolist()


ROWS = torch.tensor([[1.0, 2.0], [3.0, 5.0], [8.0, -1.0], [0.5, 4.0]])
WEIGHTS = torch.tensor([1.0, 0.0, 3.0, 0.5])


def test_a_mean_by_weights_is_that_of_the_rows_of_all_processes(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = [pool.submit(gradient_of_a_share, tmp_path / "store", number, 2) for number in range(2)]
        gradients = [future.result(60) for future in found]
    wanted = (ROWS * WEIGHTS[:, None]).sum(0) / WEIGHTS.sum()
    for gradient in gradients:
        np.testing.assert_allclose(gradient, wanted, rtol=1e-6)


def test_several_processes_refuse_a_captured_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SpecError, match="--compile"):
        Processes.join(Compute("cuda", compile=True))


def test_several_processes_refuse_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SpecError, match="torchrun started 2 processes"):
        train_online("sac", "gym:Pendulum-v1", tmp_path / "run", steps=1)


def test_every_row_is_somebodys() -> None:
    batch = {"reward": np.arange(7)}
    shares = [Processes(3, number).share(batch)["reward"] for number in range(3)]  # type: ignore[arg-type]
    assert sorted(np.concatenate(shares)) == list(range(7))
    assert Processes().share(batch) is batch  # type: ignore[arg-type, comparison-overlap]
