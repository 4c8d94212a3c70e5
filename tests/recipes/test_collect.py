"""Collecting in process: what the dataset holds is what happened."""

from __future__ import annotations

import errno
import itertools
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robolearn import cli
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.robot_env import RobotEnv
from robolearn.errors import RobolearnError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.types import ActionSource

CONFIG = CollectConfig(task="reach-v1", image_size=32, perturbation=0.3)


def test_dataset_holds_what_happened_and_is_continued(tmp_path: Path) -> None:
    out = tmp_path / "demos.zarr"
    told: list[tuple[int, str]] = []
    first = collect_episodes(CONFIG, out, 2, seed=5, progress=lambda done, text: told.append((done, text)))
    second = collect_episodes(CONFIG, out, 1, seed=7)
    store = ZarrStore.open(out)
    assert [info.seed for info in store.episodes] == [5, 6, 7]
    assert [info.success for info in store.episodes] == [row["success"] for row in first + second]
    assert [info.length for info in store.episodes] == [row["num_steps"] for row in first + second]
    assert told[-1][0] == 2
    period_ns = round(1e9 / store.spec.interface.control_hz)
    for index, info in enumerate(store.episodes):
        episode, stamps = store.read(index), store.read_stamps(index)
        assert info.instruction
        assert episode["image_front"].shape == (info.length, 32, 32, 3)
        np.testing.assert_array_equal(np.diff(stamps["proprio"][:, 0]), period_ns)
        assert all(valid.all() for valid in store.read_valid(index).values())
        quiet = ~episode["held"]
        assert set(np.unique(episode["action_source"])) <= {ActionSource.SCRIPT, ActionSource.PERTURBATION}
        assert np.abs(episode["action_sent"] - episode["action"])[quiet].max() < 0.5


def test_ctrl_c_keeps_what_is_finished_and_leaves_a_whole_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, steps = tmp_path / "demos.zarr", itertools.count()
    step = RobotEnv.step

    def interrupted(env: RobotEnv, action: np.ndarray) -> Any:
        if out.exists() and ZarrStore.open(out).episodes and next(steps) == 3:
            raise KeyboardInterrupt
        return step(env, action)

    monkeypatch.setattr(RobotEnv, "step", interrupted)
    assert cli.run(["collect", "reach-v1", "--episodes", "3", "--image-size", "0", "--out", str(out)]) == 130
    assert "what was finished is in" in capsys.readouterr().err
    assert len(ZarrStore.open(out).episodes) == 1
    assert verify(out).ok


def test_a_seed_fixes_the_data(tmp_path: Path) -> None:
    for name in ("a", "b"):
        collect_episodes(CONFIG, tmp_path / name, 1, seed=11)
    one, other = (ZarrStore.open(tmp_path / name).read(0) for name in ("a", "b"))
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_twins_side_by_side_make_the_same_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["collect", "reach-v1", "--episodes", "3", "--image-size", "16", "--seed", "11", "--json"]
    answers = []
    for name, more in (("a", []), ("b", ["--num-envs", "2"])):
        assert cli.run([*quick, "--out", str(tmp_path / name), *more]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert [answer.pop("dataset") for answer in answers] == [str(tmp_path / name) for name in ("a", "b")]
    assert answers[0] == answers[1]
    assert [row["seed"] for row in answers[0]["outcomes"]] == [11, 12, 13]
    for episode in range(3):
        one, other = (ZarrStore.open(tmp_path / name).read(episode) for name in ("a", "b"))
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


@pytest.mark.parametrize(
    ("task", "more", "told"),
    [
        ("reach-v1@arm.urdf", [], "robolearn twin view reach-v1@arm.urdf; a YAML file beside the robot's"),
        ("tool:push-v1", [], "robolearn twin view push-v1\n"),
        ("push-v1", ["--manner", "failing"], ""),
    ],
)
def test_an_expert_that_never_succeeds_is_remarked(
    task: str, more: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("robolearn.recipes.collect.collect_episodes", lambda *args, **more: [{"success": False}] * 2)
    assert cli.run(["collect", task, "--out", "x.zarr", *more]) == 0
    said = capsys.readouterr().err
    assert "2 episodes added to x.zarr, 0 successful" in said
    assert ("remark: the expert succeeded in none" in said) is bool(told)
    assert told in said


def test_a_process_that_dies_leaves_what_was_finished(tmp_path: Path) -> None:
    out = tmp_path / "demos.zarr"

    def kill(done: int, text: str) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(RobolearnError, match="died; is memory short for so many --num-envs"):
        collect_episodes(replace(CONFIG, image_size=0), out, 40, num_envs=2, progress=kill)
    assert ZarrStore.open(out).episodes
    assert verify(out).ok


def test_locks_that_have_no_place_are_told_with_what_goes_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("robolearn.recipes.workers.ProcessPoolExecutor", refuse)
    with pytest.raises(RobolearnError, match=r"locks in /dev/shm \(.*Read-only file system\); .*leave out --num-envs"):
        collect_episodes(replace(CONFIG, image_size=0), tmp_path / "demos.zarr", 2, num_envs=2)


def test_without_pictures_the_data_are_the_same_but_for_them(tmp_path: Path) -> None:
    collect_episodes(CONFIG, tmp_path / "a", 1, seed=11)
    collect_episodes(replace(CONFIG, image_size=0), tmp_path / "b", 1, seed=11)
    one, other = (ZarrStore.open(tmp_path / name).read(0) for name in ("a", "b"))
    assert {name for name in one if name not in other} == {"image_front", "image_wrist"}
    for name, values in other.items():
        np.testing.assert_array_equal(values, one[name])
    with pytest.raises(RobolearnError, match="leave out --graph"):
        collect_episodes(replace(CONFIG, image_size=0), tmp_path / "c", 1, graph=True)


def test_a_dataset_of_another_kind_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "demos.zarr"
    collect_episodes(CONFIG, out, 1)
    with pytest.raises(RobolearnError, match=r"image_front of shape .*; use an image size of \d+ x \d+"):
        collect_episodes(CollectConfig(task="reach-v1", image_size=48), out, 1)
    assert len(ZarrStore.open(out).episodes) == 1


@pytest.mark.parametrize(
    ("config", "episodes", "wanted"),
    [
        (CollectConfig(task="raech-v1"), 1, "did you mean reach-v1"),
        (CONFIG, 0, "expected at least 1"),
        (CollectConfig(task="reach-v1", policy="nowhere"), 1, "nowhere"),
    ],
)
def test_bad_input_writes_nothing(tmp_path: Path, config: CollectConfig, episodes: int, wanted: str) -> None:
    with pytest.raises(RobolearnError, match=wanted):
        collect_episodes(config, tmp_path / "demos.zarr", episodes)
    assert not (tmp_path / "demos.zarr").exists()


def test_seeds_go_on_where_the_dataset_ends_and_other_tasks_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "demos.zarr"
    collect_episodes(CONFIG, out, 2)
    collect_episodes(CONFIG, out, 1)
    assert [info.seed for info in ZarrStore.open(out).episodes] == [0, 1, 2]
    with pytest.raises(RobolearnError, match=r"holds episodes of reach-v1, not of push-v1"):
        collect_episodes(CollectConfig(task="push-v1", image_size=32), out, 1)


@pytest.mark.parametrize("image_size", [1, 100000])
def test_an_impossible_image_size_writes_nothing(tmp_path: Path, image_size: int) -> None:
    with pytest.raises(RobolearnError, match="pixels, expected 8 to 640"):
        collect_episodes(CollectConfig(task="reach-v1", image_size=image_size), tmp_path / "demos.zarr", 1)
    assert not (tmp_path / "demos.zarr").exists()
