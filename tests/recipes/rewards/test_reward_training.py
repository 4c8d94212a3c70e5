"""Reward models from data: trained, saved, and what they cannot be made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reward_settings import SETTINGS

from robolearn.cli import run
from robolearn.datasets.edit import mark, relabel, split
from robolearn.datasets.store import DatasetSpec, EpisodeMeta, EpisodeOutcome
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import CheckpointError, DatasetError, UnknownNameError
from robolearn.networks.model_directory import read_model_config
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.label import label_dataset
from robolearn.recipes.rewards.preference import draw_pairs
from robolearn.recipes.rewards.progress import OTHER_TASKS, single_stage
from robolearn.recipes.rewards.settings import TrainingSettings
from robolearn.recipes.rewards.success import train_success
from robolearn.recipes.rewards.training import TRAINERS, split_episodes, train_reward
from robolearn.rewards.preference import FIRST, SECOND
from robolearn.rewards.saved import load_reward
from robolearn.rewards.success import SuccessConfig
from robolearn.specs import ArraySpec, InterfaceSpec
from robolearn.tasks import make_task


@pytest.mark.parametrize("name", sorted(set(TRAINERS) - {"vlm", "keypoints"}))  # which want a CLIP, or an endpoint
def test_every_trainer_makes_a_model_that_labels(name: str, dataset: Path, tmp_path: Path) -> None:
    said: list[int] = []
    trained = train_reward(name, dataset, tmp_path / "model", SETTINGS, lambda done, text: said.append(done))
    assert (trained.train_episodes, trained.held_out_episodes) == (6, 2)
    assert said[-1] == (2 if name == "progress" else 1) * SETTINGS.steps  # the bar is full at the end
    model = load_reward(tmp_path / "model")
    assert (model.id, model.version) == (name, trained.version)
    provenance = read_model_config(tmp_path / "model")["provenance"]
    assert provenance["audit"]["name"] == f"{name}-{trained.version}"
    assert len(provenance["train_episodes"]) == 6
    answer = label_dataset(dataset, model)
    store = ZarrStore.open(dataset)
    values = store.read(0, [answer["column"]])[answer["column"]]
    assert values.shape == (store.episodes[0].length,)
    assert store.columns[answer["column"]].attributes["version"] == trained.version


def test_the_same_seed_makes_the_same_model(dataset: Path, tmp_path: Path) -> None:
    versions = {train_reward("progress", dataset, tmp_path / str(i), SETTINGS).version for i in range(2)}
    assert len(versions) == 1


def test_a_single_stage_needs_no_annotations(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = RewardData(dataset)
    known = single_stage(data, range(8))
    assert known.indices == [index for index, info in enumerate(data.store.episodes) if info.success]
    for targets, length in zip(known.targets, known.lengths, strict=True):
        np.testing.assert_allclose(targets.tau, np.linspace(0.0, 1.0, length), atol=1e-6)
        assert not targets.stage.any()
    with pytest.raises(DatasetError, match="none of 2 episodes succeeded"):
        single_stage(data, [3, 7])
    relabel(dataset, range(8), {"instruction": OTHER_TASKS[0]})  # which is not another task here
    words = ["--dataset", str(dataset), "--out", str(tmp_path / "m"), "--steps", "2", "--json"]
    assert run(["reward", "train", "progress", *words, "--single-stage"]) == 0
    assert json.loads(capsys.readouterr().out)["audit"]["stage_accuracy"] is None  # its stage is none of the task's
    model = load_reward(tmp_path / "m")
    assert model.config.stages == ("task",)  # type: ignore[attr-defined]
    kinds = [column.partition("/")[0] for column in label_dataset(dataset, model)["columns"]]
    assert kinds == ["confidence", "progress"]


def test_a_threshold_is_chosen_on_failed_episodes_and_says_what_they_show(dataset: Path) -> None:
    data = RewardData(dataset)
    said: list[str] = []
    model = train_success(data, range(8), replace(SETTINGS, steps=2), lambda done, text: said.append(text))
    threshold = model.config.threshold
    assert said[-1] == (
        f"threshold {threshold:.3f}: 0 of 1 failed episodes are called done, which says below 95 % of all at 95 % "
        "confidence"
    )
    called = [bool(model.score(data.episodes([index])).raw["done"].any()) for index in (3, 7)]
    assert not all(called)
    good = [index for index, info in enumerate(data.store.episodes) if info.success]
    mark(dataset, [7], None)  # of which nothing is known, so that it is no failure
    data = RewardData(dataset)
    model = train_success(data, [*good, 3, 7], replace(SETTINGS, steps=2), lambda done, text: said.append(text))
    assert "no failed episode is left" in said[-1]
    assert model.config.threshold == SuccessConfig().threshold


def test_split_holds_out_successes_and_failures(dataset: Path) -> None:
    data = RewardData(dataset)
    learn, held_out = split_episodes(data, TrainingSettings(held_out=0.5))
    assert sorted(learn + held_out) == list(range(8))
    assert {data.store.episodes[index].success for index in held_out} == {True, False}
    assert split_episodes(data, TrainingSettings(held_out=0.5, seed=1)) == (learn, held_out)
    seen = [data.store.episodes[index].id for index in held_out[:3]]
    _, others = split_episodes(data, TrainingSettings(held_out=0.5), seen)
    assert len(others) == 4
    assert not set(others) & set(held_out[:3])
    with pytest.raises(DatasetError, match="was not trained on; record more"):
        split_episodes(data, TrainingSettings(success_dir="x"), [info.id for info in data.store.episodes])


def test_matching_by_transport_and_the_discount_that_it_gives(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["reward", "train", "matching", "--dataset", str(dataset), "--steps", "2", "--json"]
    for method in ("nearest", "transport"):
        assert run([*train, "--method", method, "--out", str(tmp_path / method)]) == 0
    models = {method: load_reward(tmp_path / method) for method in ("nearest", "transport")}
    assert (models["nearest"].causal, models["transport"].causal) == (True, False)
    capsys.readouterr()
    assert run(["label", str(dataset), "--reward", str(tmp_path / "nearest"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    store = ZarrStore.open(dataset)
    followed = told["column"].replace("reward/", "followed/")
    last = [store.read(index, [followed])[followed][-1] for index in range(len(store.episodes))]
    middle = round(float(np.median(last)))
    assert told["discount"] == pytest.approx(0.2 ** (1 / middle) if middle else 0.9)
    learned = read_model_config(tmp_path / "nearest")["provenance"]["train_episodes"]
    shortest = min(
        (i for i, one in enumerate(store.episodes) if one.success and one.id in learned),
        key=lambda i: store.episodes[i].length,
    )
    assert last[shortest] > 0.8 * store.episodes[shortest].length  # it was demonstrated
    assert run(["label", str(dataset), "--reward", str(tmp_path / "nearest")]) == 0  # again, from the column
    assert f"--reward {told['column']} --set discount={told['discount']:.3f}" in capsys.readouterr().err
    assert run(["reward", "leaderboard", str(dataset), "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["models"]] == [told["column"]]


def test_datasets_that_cannot_be_learned_from(dataset: Path, tmp_path: Path) -> None:
    split(dataset, {tmp_path / "one.zarr": [3]})
    with pytest.raises(DatasetError, match="too few to hold 25% of them out"):
        train_reward("success", tmp_path / "one.zarr", tmp_path / "x", SETTINGS)
    split(dataset, {tmp_path / "failed.zarr": [3, 7]})
    half = replace(SETTINGS, held_out=0.5)
    with pytest.raises(DatasetError, match="none of 1 episodes succeeded"):
        train_reward("matching", tmp_path / "failed.zarr", tmp_path / "x", half)
    with pytest.raises(DatasetError, match="passes its stages once and in order"):
        train_reward("progress", tmp_path / "failed.zarr", tmp_path / "x", half)
    with pytest.raises(UnknownNameError):
        train_reward("progres", dataset, tmp_path / "x", SETTINGS)


def made_up(path: Path, lengths: Sequence[int], sizes: Mapping[str, tuple[int, int]]) -> Path:
    """Episodes of a task that nobody knows, every second one a success, of cameras of these sizes."""
    robot, rng = make_task("reach-v1").robot_spec, np.random.default_rng(0)
    cameras = {f"image_{name}": ArraySpec((*size, 3), "uint8") for name, size in sizes.items()}
    interface = InterfaceSpec({"proprio": robot.proprio_spec, **cameras}, robot.action_spec, 20.0)
    with ZarrStore.create(path, DatasetSpec(robot, interface)).writer() as writer:
        for number, length in enumerate(lengths):
            writer.begin(EpisodeMeta("unknown", "do it"))
            for _ in range(length):
                seen = {name: rng.integers(256, size=spec.shape, dtype=np.uint8) for name, spec in cameras.items()}
                writer.append({"proprio": rng.normal(size=12), "action": np.zeros(6), **seen}, {})
            writer.commit(EpisodeOutcome(number % 2 == 0, True, False))
    return path


@pytest.mark.parametrize("name", ["progress", "success", "preference"])
def test_cameras_are_there_and_of_one_size_before_anything_is_learned(name: str, tmp_path: Path) -> None:
    data = made_up(tmp_path / "d.zarr", [12] * 8, {"front": (24, 24), "wrist": (16, 32)})
    settings = replace(SETTINGS, labeller="endpoint", single_stage=name == "progress")  # which nobody gets to ask
    for cameras, message in (
        (("front", "top"), "has no camera 'top'; it has front, wrist"),
        (("front", "wrist"), r"several sizes \(front of 24 x 24, wrist of 16 x 32\), and the small encoder takes one"),
    ):
        with pytest.raises(DatasetError, match=message):
            train_reward(name, data, tmp_path / "x", replace(settings, cameras=cameras))


def test_a_success_of_one_step_is_its_end(tmp_path: Path) -> None:
    """And no beginning, which is worth less than the end of a failure."""
    data = RewardData(made_up(tmp_path / "d.zarr", [1, 12, 1, 12], {"front": (24, 24)}))
    pairs = draw_pairs(data, range(4), replace(SETTINGS, labeller="outcome"), lambda done, text: None)
    success = np.array([data.store.episodes[index].success for index in pairs.first[:, 0]])
    against = success != np.array([data.store.episodes[index].success for index in pairs.second[:, 0]])
    assert against.any()
    np.testing.assert_array_equal(pairs.answer[against], np.where(success, FIRST, SECOND)[against])


def test_steps_are_found_in_the_demonstrations_that_can_hold_them(tmp_path: Path) -> None:
    data = made_up(tmp_path / "d.zarr", [12, 12, 1, 1, 2, 12, 12, 12, 3, 1], {"front": (24, 24)})
    train_reward("perceptual_steps", data, tmp_path / "m", replace(SETTINGS, seed=1))
    short = made_up(tmp_path / "short.zarr", [8] * 8, {"front": (24, 24)})
    with pytest.raises(DatasetError, match="no success has the 9 steps that 3 steps of a task take"):
        train_reward("perceptual_steps", short, tmp_path / "x", SETTINGS)


def test_a_model_is_not_written_over_another(dataset: Path, success_model: Path) -> None:
    before = {file: file.read_bytes() for file in success_model.iterdir()}
    with pytest.raises(CheckpointError, match="exists and is not empty; name another --out"):
        train_reward("success", dataset, success_model, SETTINGS)
    assert {file: file.read_bytes() for file in success_model.iterdir()} == before
