"""Reward models from data: trained, saved, a dataset labelled, audited, through the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robolearn.cli import run
from robolearn.datasets.edit import split, tag
from robolearn.datasets.preferences import Moment, Preference, add_preference
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.tool_env import tool_space
from robolearn.errors import CheckpointError, DatasetError, RobolearnError, SpecError, UnknownNameError
from robolearn.networks.model_directory import read_model_config
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.finetune.data import decision_steps
from robolearn.recipes.rewards import label
from robolearn.recipes.rewards.audit import NEAR_MISS, audit_dataset
from robolearn.recipes.rewards.combine import combine_rewards
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.label import column_name, label_dataset
from robolearn.recipes.rewards.policy import policy_from_preferences
from robolearn.recipes.rewards.preference import draw_pairs
from robolearn.recipes.rewards.progress import single_stage
from robolearn.recipes.rewards.read_ahead import ReadAhead
from robolearn.recipes.rewards.settings import TrainingSettings
from robolearn.recipes.rewards.shape import shape_dataset
from robolearn.recipes.rewards.success import train_success
from robolearn.recipes.rewards.tool_policy import labelled_buffer
from robolearn.recipes.rewards.training import ONE_CAMERA, TRAINERS, split_episodes, train_reward
from robolearn.recipes.rewards.weights import weigh_dataset
from robolearn.rewards.audit import METRIC_WORDS
from robolearn.rewards.combine import CombineConfig
from robolearn.rewards.features import EncoderConfig
from robolearn.rewards.preference import EQUAL, SECOND, UNSURE
from robolearn.rewards.saved import load_reward, save_reward
from robolearn.rewards.success import SuccessConfig, SuccessReward
from robolearn.specs import ArraySpec

SETTINGS = TrainingSettings(
    encoder=EncoderConfig(channels=(8, 8)), steps=4, batch_size=8, held_out=0.25, pairs=60, false_positive_rate=0.2
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight episodes of mixed quality: of each four one is by a failing demonstrator."""
    path = tmp_path_factory.mktemp("recorded") / "mixed.zarr"
    collect_episodes(CollectConfig("reach-v1", manner="mixed", image_size=24), path, 8)
    return path


@pytest.fixture
def dataset(recorded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recorded, tmp_path / "mixed.zarr"))


@pytest.fixture(scope="module")
def success_model(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "success"
    train_reward("success", recorded, out, SETTINGS)
    return out


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


def test_a_labelling_that_was_interrupted_goes_on(dataset: Path, success_model: Path) -> None:
    model = load_reward(success_model)
    before = ZarrStore.open(dataset).read(1)

    class Stop(Exception):
        pass

    original, calls = model.score, []

    def score(episodes):  # type: ignore[no-untyped-def]
        calls.append(len(episodes.text))
        return original(episodes)

    model.score = score  # type: ignore[method-assign]
    name = column_name(model)
    store = ZarrStore.open(dataset)
    with store.column_writer(name, **_made_by(model)) as writer:
        writer.write(0, np.zeros(store.episodes[0].length, np.float32))
    told: list[int] = []
    answer = label_dataset(dataset, model, progress=lambda done, text: told.append(done))
    assert (answer["episodes"], answer["skipped"], told[-1]) == (7, 1, 8)  # the one of before counts as done
    assert sum(calls) == 7
    assert (ZarrStore.open(dataset).read(0, [name])[name] == 0).all()
    done = name.replace("success/", "done/")  # decided from what was there
    assert not ZarrStore.open(dataset).read(0, [done])[done].any()
    assert label_dataset(dataset, model)["episodes"] == 0
    for field, values in before.items():
        np.testing.assert_array_equal(ZarrStore.open(dataset).read(1)[field], values)


def _made_by(model):  # type: ignore[no-untyped-def]
    from robolearn.recipes.rewards.label import made_by
    from robolearn.specs import ArraySpec

    return {"spec": ArraySpec(()), "attributes": made_by(model)}


def test_column_names_say_who_made_them(success_model: Path) -> None:
    model = load_reward(success_model)
    version = model.version
    assert column_name(model) == f"success/success-{version}"
    assert column_name(model, "reward") == f"reward/success-{version}"
    assert column_name(model, "reward/mine") == f"reward/mine-{version}"
    assert column_name(model, f"reward/mine-{version}") == f"reward/mine-{version}"


def test_a_success_classifier_is_judged_alike_as_a_column_and_as_a_folder(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its probability is above one half on failures, but never above its threshold."""
    model = SuccessReward(SuccessConfig(encoder=EncoderConfig(image_height=24, image_width=24)))
    with torch.no_grad():
        model.head[-1].weight.zero_()  # type: ignore[union-attr, operator]
        model.head[-1].bias.fill_(1.0)  # type: ignore[union-attr, operator]
    save_reward(model, tmp_path / "model")
    name = label_dataset(dataset, model)["column"]
    run(["reward", "audit", str(dataset), "--reward", name, str(tmp_path / "model"), "--json"])
    one, two = json.loads(capsys.readouterr().out)["models"]
    assert one["false_positive_rate"] == two["false_positive_rate"] == 0.0
    assert {**one, "name": ""} == {**two, "name": ""}


def test_decisions_are_a_reward_and_the_probability_of_success_is_none(
    dataset: Path, success_model: Path, tmp_path: Path
) -> None:
    model = load_reward(success_model)
    model.config = replace(model.config, threshold=0.0)  # type: ignore[attr-defined]
    probability = label_dataset(dataset, model)["column"]
    done = probability.replace("success/", "done/")
    store = ZarrStore.open(dataset)
    length = store.episodes[0].length
    assert store.read(0, [done])[done].tolist() == [False] * 2 + [True] * (length - 2)
    train = ["train", "iql", "--dataset", str(dataset), "--steps", "1", "--out", str(tmp_path / "run")]
    with pytest.raises(DatasetError, match=f"no reward; learn from {done}$"):
        run([*train, "--reward", probability])
    assert run([*train, "--reward", done]) == 0
    with pytest.raises(DatasetError, match="is success, no potential; name a column of progress"):
        run(["reward", "weights", str(dataset), "--progress", probability])


def test_trust_is_gained_on_episodes_that_a_model_was_not_trained_on(
    dataset: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever they lie: the dataset is a copy of the one of the training."""
    model = tmp_path / "model"
    train_reward("hop", recorded, model, SETTINGS)
    before = read_model_config(model)["provenance"]
    run(["reward", "audit", str(dataset), "--reward", str(model)])
    assert "on the 2 of 8 episodes that it was not trained on, kept" in capsys.readouterr().err
    after = read_model_config(model)["provenance"]["audit"]
    assert after["progress_spearman"] == pytest.approx(before["audit"]["progress_spearman"])
    assert (after["missed"], after["dataset"], after["episodes"]) == (before["audit"]["missed"], str(dataset), 2)
    ids = [info.id for info in ZarrStore.open(dataset).episodes]
    split(dataset, {tmp_path / "seen.zarr": [ids.index(name) for name in before["train_episodes"]]})
    run(["reward", "audit", str(tmp_path / "seen.zarr"), "--reward", str(model)])
    assert "this audit is not kept; audit it on others" in capsys.readouterr().err
    assert read_model_config(model)["provenance"]["audit"] == after


def test_labelled_values_do_not_depend_on_what_is_scored_together(
    dataset: Path, success_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_reward(success_model)
    column = label_dataset(dataset, model, "success/together")["column"]
    monkeypatch.setattr("robolearn.recipes.rewards.data.IMAGES_AT_ONCE", 1)
    alone = label_dataset(dataset, model, "success/alone")["column"]
    store = ZarrStore.open(dataset)
    for index in range(8):
        both = store.read(index, [column, alone])
        np.testing.assert_allclose(both[column], both[alone], atol=1e-5)


def test_lost_images_are_seen_as_the_last_one_before_them(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = RewardData(dataset)
    whole = data.images(0, "front")
    lost = np.ones(len(whole), bool)
    lost[[0, 4, 5]] = False
    monkeypatch.setattr(data.store, "read_valid", lambda index: {"image_front": lost})
    seen = data.images(0, "front")
    np.testing.assert_array_equal(seen[4], whole[3])
    np.testing.assert_array_equal(seen[5], whole[3])
    np.testing.assert_array_equal(seen[0], whole[1])
    np.testing.assert_array_equal(seen[6], whole[6])


def test_stages_come_from_predicates_and_annotations_go_first(dataset: Path) -> None:
    from robolearn.datasets.edit import annotate
    from robolearn.datasets.store import Annotation

    data = RewardData(dataset)
    by_task = data.stage_targets(0)
    assert by_task is not None
    assert by_task[0] == data.truth(0).stages  # type: ignore[union-attr]
    length = data.store.episodes[0].length
    annotate(dataset, 0, [Annotation(0, 5, "go"), Annotation(5, length, "stay")])
    stages, targets = RewardData(dataset).stage_targets(0)  # type: ignore[misc]
    assert stages == ("go", "stay")
    assert targets.stage.tolist() == [0] * 5 + [1] * (length - 5)
    assert RewardData(dataset).stage_targets(3) is None  # by a failing demonstrator


def test_a_single_stage_needs_no_annotations(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = RewardData(dataset)
    known = single_stage(data, range(8))
    assert known.indices == [index for index, info in enumerate(data.store.episodes) if info.success]
    for targets, length in zip(known.targets, known.lengths, strict=True):
        np.testing.assert_allclose(targets.tau, np.linspace(0.0, 1.0, length), atol=1e-6)
        assert not targets.stage.any()
    with pytest.raises(DatasetError, match="none of 2 episodes succeeded"):
        single_stage(data, [3, 7])
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
    model = train_success(data, [*good, 3], replace(SETTINGS, steps=2), lambda done, text: said.append(text))
    assert "no failed episode is left" in said[-1]
    assert model.config.threshold == SuccessConfig().threshold


def test_wrong_answers_are_as_many_as_asked_for(dataset: Path) -> None:
    data = RewardData(dataset)
    settings = replace(SETTINGS, pairs=400)
    right = draw_pairs(data, range(8), settings, lambda done, text: None)
    some_wrong = draw_pairs(data, range(8), replace(settings, wrong_answers=0.2), lambda done, text: None)
    np.testing.assert_array_equal(right.first, some_wrong.first)
    sure = right.answer != UNSURE
    assert (some_wrong.answer[~sure] == UNSURE).all()
    assert (some_wrong.answer != right.answer)[sure].mean() == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize("labeller", ["task", "outcome", "factors"])
def test_rules_compare_segments_by_their_means(labeller: Any, dataset: Path) -> None:
    store = ZarrStore.open(dataset)
    with store.column_writer("reward/walk", ArraySpec(()), {"kind": "reward"}) as writer:
        for index, info in enumerate(store.episodes):
            writer.write(index, np.random.default_rng(index).normal(size=info.length).astype(np.float32))
    data = RewardData(dataset)
    settings = replace(SETTINGS, labeller=labeller, factors=("reward/walk",), pairs=200, segment=6)
    pairs = draw_pairs(data, range(8), settings, lambda done, text: None)

    def worth(index: int, step: int) -> float:
        info = data.store.episodes[index]
        assert step + 6 <= info.length
        every = {
            "task": data.truth(index).progress,  # type: ignore[union-attr]
            "outcome": np.linspace(0.0, 1.0, info.length) * (1.0 if info.success else 0.3),
            "factors": data.store.read(index, ["reward/walk"])["reward/walk"],
        }[labeller]
        return float(np.mean(every[step : step + 6]))

    a, b = (np.array([worth(*one) for one in side]) for side in (pairs.first, pairs.second))
    sure = pairs.answer != UNSURE
    assert 20 < sure.sum() < 200
    np.testing.assert_array_equal(pairs.answer[sure], (b > a)[sure])
    assert np.abs(b - a)[sure].min() >= np.abs(b - a)[~sure].max()
    steps, rows = pairs.steps()
    assert len(np.unique(steps, axis=0)) == len(steps)
    np.testing.assert_array_equal(steps[rows[1, :, 5]], pairs.second + np.array([0, 5]))
    lengths = [info.length for info in data.store.episodes]
    with pytest.raises(
        DatasetError, match=f"has {max(lengths)} steps, segments are to have {max(lengths) + 1}; give a sm"
    ):
        draw_pairs(data, range(8), replace(settings, segment=max(lengths) + 1), lambda done, text: None)


def test_ordered_factors_compare(dataset: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    store = ZarrStore.open(dataset)
    for name, values in (("reward/near", [0.0, 1.0]), ("reward/smooth", np.linspace(-100, 100, 9))):
        with store.column_writer(name, ArraySpec(()), {"kind": "reward"}) as writer:
            for index, info in enumerate(store.episodes):
                writer.write(index, rng.choice(values, info.length).astype(np.float32))
    data = RewardData(dataset)
    factors = ("reward/near", "reward/smooth")
    settings = replace(SETTINGS, labeller="factors", factors=factors, pairs=200)
    pairs = draw_pairs(data, range(8), settings, lambda done, text: None)
    sides = (pairs.first, pairs.second)
    a, b = (
        np.array([[float(data.store.read(i, [one])[one][step]) for one in factors] for i, step in side])
        for side in sides
    )
    sure = pairs.answer != UNSURE
    first_decides = a[:, 0] != b[:, 0]
    assert sure[first_decides].all()
    np.testing.assert_array_equal(pairs.answer[first_decides], b[first_decides, 0] > a[first_decides, 0])
    np.testing.assert_array_equal(pairs.answer[~first_decides & sure], (b > a)[~first_decides & sure, 1])
    assert (a == b)[~sure].all()
    train = ["reward", "train", "preference", "--dataset", str(dataset), "--out", str(tmp_path / "m"), "--steps", "2"]
    by = [*train, "--pairs", "60", "--labeller", "factors"]
    with pytest.raises(SpecError, match="wants --factors"):
        run(by)
    with pytest.raises(DatasetError, match="give a smaller --segment"):
        run([*by, "--segment", "500"])
    with pytest.raises(DatasetError, match=r"no column or field 'proprio' of one number a step; it has .*reward/near"):
        run([*by, "--factors", "proprio"])
    assert run([*by, "--factors", *factors]) == 0


def test_a_small_dataset_is_shared_among_the_cores(
    dataset: Path, success_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robolearn.recipes.rewards.side_by_side.LEAST", 1)
    model, asked = load_reward(success_model), []
    original = model.score
    monkeypatch.setattr(model, "score", lambda episodes: (asked.append(len(episodes.text)), original(episodes))[1])
    label_dataset(dataset, model)
    assert asked == [1] * 8  # they would fit into one picture of a single core


def test_split_holds_out_successes_and_failures(dataset: Path) -> None:
    data = RewardData(dataset)
    learn, held_out = split_episodes(data, TrainingSettings(held_out=0.5))
    assert sorted(learn + held_out) == list(range(8))
    assert {data.store.episodes[index].success for index in held_out} == {True, False}


def test_near_misses_are_tagged_or_known_by_progress(dataset: Path, success_model: Path) -> None:
    failed = [i for i, info in enumerate(ZarrStore.open(dataset).episodes) if not info.success]
    tag(dataset, failed[:1], {NEAR_MISS: True})
    tag(dataset, failed[1:], {NEAR_MISS: False})
    audits = audit_dataset(dataset, {"m": load_reward(success_model)})
    assert [one.near_miss for one in audits.facts].count(True) == 1
    assert audits.to_json()["near_misses"] == 1


def test_the_command_line(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    train = ["reward", "train", "hop", "--dataset", str(dataset), "--out", str(model), "--steps", "2", "--json"]
    assert run(train) == 0
    trained = json.loads(capsys.readouterr().out)
    assert run(["label", str(dataset), "--reward", str(model), "--as", "progress/mine", "--json"]) == 0
    column = json.loads(capsys.readouterr().out)["column"]
    assert column == f"progress/mine-{trained['version']}"
    code = run(
        ["reward", "audit", str(dataset), "--reward", column, str(model), "--out", str(tmp_path / "a"), "--json"]
    )
    audits = json.loads(capsys.readouterr().out)
    assert code == (0 if all(one["passed"] for one in audits["models"]) else 1)
    assert {one["name"] for one in audits["models"]} == {column, f"hop-{trained['version']}"}
    assert audits["agreement"][column][f"hop-{trained['version']}"] == pytest.approx(1.0)
    assert json.loads((tmp_path / "a" / "audit.json").read_text()) == audits
    page = (tmp_path / "a" / "audit.html").read_text()
    assert column in page
    assert "<svg" in page
    near = audits["near_misses"]
    counts = f"8 episodes of {dataset.name}: 6 successes, {near} {'near-miss' if near == 1 else 'near-misses'}<"
    assert counts in page
    assert METRIC_WORDS["voc_success"] in page
    assert "voc_success" not in page  # words, not the names of the code
    assert run(["reward", "leaderboard", str(dataset), "--json"]) == 0
    names = [one["name"] for one in json.loads(capsys.readouterr().out)["models"]]
    assert names == [column]
    with ZarrStore.open(dataset).column_writer("reward/half-1", ArraySpec(()), {"kind": "reward"}) as writer:
        writer.write(0, np.zeros(ZarrStore.open(dataset).episodes[0].length, np.float32))
    assert run(["reward", "leaderboard", str(dataset), "--json"]) == 0  # a labelling that was stopped spoils nothing
    answer = capsys.readouterr()
    assert [one["name"] for one in json.loads(answer.out)["models"]] == [column]
    assert "left out: reward/half-1 lacks 7 episodes of 8" in answer.err
    assert run(["dataset", "info", str(dataset)]) == 0
    shown = capsys.readouterr().out
    assert "{" not in shown  # words and tables, not JSON
    assert all(name in shown for name in ("image_front", column, "script"))


def test_pictures_of_several_cameras_lie_in_memory_that_is_given(dataset: Path) -> None:
    data = RewardData(dataset)
    group, cameras = [2, 0, 5], ("wrist", "front")
    alone = data.episodes(group, cameras)
    memory = np.full(data.picture_bytes(group, cameras) + 7, 99, np.uint8)
    given = data.episodes(group, cameras, memory)
    for camera in cameras:
        assert torch.equal(given.images[camera], alone.images[camera])
        assert np.shares_memory(given.images[camera].numpy(), memory)
    assert len({info.length for info in np.array(data.store.episodes)[group]}) > 1  # so some are padded
    assert (memory[-7:] == 99).all()
    assert memory[: given.images["wrist"].numel()].tobytes() == alone.images["wrist"].numpy().tobytes()


def on_the_cpu(data: RewardData, cameras: Sequence[str], score: Any, device: torch.device) -> ReadAhead:
    return ReadAhead(data, cameras, score, torch.device("cpu"))


@pytest.mark.slow
def test_what_is_read_ahead_for_a_gpu_in_processes_becomes_the_same_column(
    dataset: Path, success_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its way without one: the device is the CPU."""
    model = load_reward(success_model)
    here = label_dataset(dataset, model, "success/here")
    monkeypatch.setattr("robolearn.recipes.rewards.label.device_of", lambda model: torch.device("cuda"))
    monkeypatch.setattr("robolearn.recipes.rewards.label.ReadAhead", on_the_cpu)
    monkeypatch.setattr("robolearn.recipes.rewards.read_ahead.GROUP_STEPS", 1)
    there = label_dataset(dataset, model, "success/there")
    store = ZarrStore.open(dataset)
    for index in range(len(store.episodes)):
        one, two = (store.read(index, [told["column"]])[told["column"]] for told in (here, there))
        np.testing.assert_allclose(one, two, atol=1e-6)
    (file,) = (dataset / "image_front").glob("c.0.*")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DatasetError, match="field image_front"):
        label_dataset(dataset, model, "success/damaged")


@pytest.mark.slow
def test_a_dev_shm_without_room_is_told_in_one_line(dataset: Path, success_model: Path) -> None:
    """In a mount namespace of its own. The locks of the processes lie there; the pictures don't."""
    small = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=4k tmpfs /dev/shm && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*small, "true"], check=False).returncode:
        pytest.skip("no mount namespace can be had here")
    code = f"""
import torch
from pathlib import Path
from robolearn.errors import DatasetError
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.read_ahead import ReadAhead
if __name__ == "__main__":
    try:
        list(ReadAhead(RewardData(Path({str(dataset)!r})), ("front",), len, torch.device("cpu")).run([[0]]))
    except DatasetError as error:
        print(error)
"""
    child = subprocess.run([*small, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "give it more room" in child.stdout, child.stderr
    assert child.stdout.count("\n") == 1


def test_from_comparisons_to_a_policy(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "reach"
    answer = policy_from_preferences(dataset, out, SETTINGS, steps=3, episodes=2)
    assert answer["task"] == "reach-v1"
    assert answer["success_rate"] in (0.0, 0.5, 1.0)
    assert answer["column"] in ZarrStore.open(dataset).columns
    assert load_reward(out / "reward").id == "preference"
    assert read_model_config(Path(answer["checkpoint"]))["provenance"]["algorithm"] == "iql"


def test_neither_outcome_nor_end_reaches_the_learner_and_the_last_state_lasts(dataset: Path) -> None:
    store = ZarrStore.open(dataset)
    with store.column_writer("reward/steps", ArraySpec(()), {}) as writer:
        for index, info in enumerate(store.episodes):
            writer.write(index, np.arange(info.length, dtype=np.float32))
    state = labelled_buffer(dataset, "reward/steps", tool_space("reach-v1"), 0.97).state_dict()
    assert not state["terminated"].any()
    rewards = state["reward"][state["acted"]]
    at = decision_steps(store.episodes[0].length)
    expected = [np.mean(range(a + 1, b + 1)) for a, b in pairwise(at)]
    np.testing.assert_allclose(rewards[: len(expected)], expected)
    assert at[-1] <= rewards[len(expected)] <= store.episodes[0].length - 1
    still = state["observation.state"]
    np.testing.assert_array_equal(still[len(expected)], still[len(expected) + 1])


def test_a_labelling_that_scored_nothing_leaves_no_column(dataset: Path, success_model: Path) -> None:
    model = load_reward(success_model)

    def score(episodes):  # type: ignore[no-untyped-def]
        raise SpecError("the server is gone")

    model.score = score  # type: ignore[method-assign]
    with pytest.raises(SpecError, match="the server is gone"):
        label_dataset(dataset, model)
    assert not ZarrStore.open(dataset).columns


def test_a_write_that_fails_beside_the_scoring_is_told_and_the_rest_is_made_up_for(
    dataset: Path, success_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = label._write, []

    def fails_once(store: ZarrStore, scored: list, attributes: dict) -> None:
        if len(written) == 1:
            written.append([])
            raise DatasetError("no space is left on the disk")
        write(store, scored, attributes)
        written.append([index for group, _ in scored for index in group])

    monkeypatch.setattr(label, "_write", fails_once)
    monkeypatch.setattr(label, "WRITE_EVERY_S", 0.0)
    monkeypatch.setattr("robolearn.recipes.rewards.data.IMAGES_AT_ONCE", 1)  # an episode a group
    model = load_reward(success_model)
    with pytest.raises(DatasetError, match="no space is left"):
        label_dataset(dataset, model)
    kept = written[0]
    assert kept
    answer = label_dataset(dataset, model)
    assert (answer["skipped"], answer["episodes"]) == (len(kept), 8 - len(kept))
    assert sorted(kept + [index for one in written[2:] for index in one]) == list(range(8))


def test_weights_follow_a_dataset_that_grows_and_shaping_tells_all_of_it(dataset: Path) -> None:
    def label(store: ZarrStore) -> None:
        with store.column_writer("progress/mine", ArraySpec(()), {"kind": "potential"}) as writer:
            for index in writer.missing:
                length = store.episodes[index].length
                writer.write(index, np.linspace(0.0, 1.0 / (index + 1), length, dtype=np.float32))

    label(ZarrStore.open(dataset))
    before, shaped = weigh_dataset(dataset, "progress/mine"), shape_dataset(dataset, "progress/mine")
    assert shape_dataset(dataset, "progress/mine") == shaped  # though nothing was missing
    collect_episodes(CollectConfig("reach-v1", image_size=24), dataset, 1)
    label(ZarrStore.open(dataset))
    after = weigh_dataset(dataset, "progress/mine")
    assert (after["column"], after["mean_progress"] == before["mean_progress"]) == (before["column"], False)
    store = ZarrStore.open(dataset)
    written = np.concatenate([store.read(i, [after["column"]])[after["column"]] for i in range(9)])
    assert float(written.mean()) == pytest.approx(after["mean_weight"], abs=1e-5)


def test_progress_is_learned_from_as_a_difference_alone(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ZarrStore.open(dataset)
    with store.column_writer("progress/mine", ArraySpec(()), {"kind": "potential"}) as writer:
        for index, info in enumerate(store.episodes):
            writer.write(index, np.linspace(0.2, 0.9, info.length, dtype=np.float32))
    train = ["train", "iql", "--dataset", str(dataset), "--steps", "1", "--out", str(dataset.parent / "run")]
    with pytest.raises(DatasetError, match="stays near the goal; make a reward of it"):
        run([*train, "--reward", "progress/mine"])
    assert run(["reward", "shape", str(dataset), "--progress", "progress/mine", "--discount", "0.9", "--json"]) == 0
    column = json.loads(capsys.readouterr().out)["column"]
    store = ZarrStore.open(dataset)
    success = next(i for i, info in enumerate(store.episodes) if info.success and info.terminated)
    shaped = store.read(success, [column])[column].astype(np.float64)
    # Whatever way was taken, the discounted sum is that of the reward less the first potential.
    discounted = 0.9 ** np.arange(len(shaped))
    assert shaped @ discounted == pytest.approx(discounted[-1] - 0.2, abs=1e-5)
    with pytest.raises(SpecError, match=r"discounts by 0.9, the learner by 0.99; give both the same"):
        run([*train, "--reward", column])
    assert run([*train, "--reward", column, "--set", "discount=0.9"]) == 0
    with pytest.raises(DatasetError, match="no potential; learn from it as it is"):
        run(["reward", "shape", str(dataset), "--progress", column])


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


def test_a_classifier_overrides_keypoints(
    dataset: Path, success_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    eager = tmp_path / "eager"
    model = load_reward(success_model)
    model.config = replace(model.config, threshold=0.0)  # calls everything done after its first frames
    save_reward(model, eager)
    settings = {"waypoints": [[0.2, 0.3], [0.5, 0.5], [0.8, 0.5]], "colour": [220, 40, 40], "success_dir": str(eager)}
    file = tmp_path / "points.json"
    columns = []
    for one in (settings, {**settings, "success_dir": ""}):
        file.write_text(json.dumps(one))
        assert run(["label", str(dataset), "--reward", "keypoints", "--config", str(file), "--json"]) == 0
        columns.append(json.loads(capsys.readouterr().out)["column"])
    store = ZarrStore.open(dataset)
    overridden, alone = (store.read(0, [column])[column] for column in columns)
    assert (overridden[model.config.consecutive :] == 1.0).all()
    assert (alone < 1.0).all()
    assert store.columns[columns[0]].attributes["settings"]["success"] == f"success-{model.version}"
    assert columns[0] != columns[1]
    file.write_text(json.dumps({**settings, "success_dir": str(tmp_path / "none")}))
    with pytest.raises(CheckpointError, match="none is not a reward model"):
        run(["label", str(dataset), "--reward", "keypoints", "--config", str(file)])


def test_the_page_shows_the_calibration_of_a_classifier_and_the_distances(
    dataset: Path, success_model: Path, tmp_path: Path
) -> None:
    run(["reward", "audit", str(dataset), "--reward", str(success_model), "--out", str(tmp_path)])
    one = json.loads((tmp_path / "audit.json").read_text())["models"][0]
    assert sum(row["episodes"] for row in one["calibration"]) == 8
    page = (tmp_path / "audit.html").read_text()
    assert f"Calibration of {one['name']}" in page
    first = one["calibration"][0]
    assert f"<td class=n>{first['probability']:.2f}</td><td class=n>{first['successes']:.2f}</td>" in page
    assert 0.0 <= one["dard_distance"] <= 1.0
    assert f">{one['dard_distance']:.3f}<" in page


def test_several_models_become_one(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [tmp_path / f"preference-{seed}" for seed in range(2)]
    for seed, folder in enumerate(folders):
        train_reward("preference", dataset, folder, replace(SETTINGS, seed=seed))
    out = tmp_path / "ensemble"
    combine = ["reward", "combine", *map(str, folders), "--out", str(out)]
    with pytest.raises(SpecError, match="no scale in common; give --dataset"):
        run(combine)
    assert not out.exists()
    assert run([*combine, "--rule", "uncertainty", "--dataset", str(dataset), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert run(["label", str(dataset), "--reward", str(out), "--json"]) == 0
    column = json.loads(capsys.readouterr().out)["column"]
    assert column == f"reward/ensemble-{made['version']}"
    data = RewardData(dataset)
    count = len(data.store.episodes)
    steps = []
    for folder in folders:
        output = [load_reward(folder).score(data.episodes([index])).value[0] for index in range(count)]
        values = torch.cat(output)
        steps.append((values - values.mean()) / values.std(correction=0))
    two = torch.stack(steps)
    wanted = two.mean(0) - 0.5 * two.var(0, correction=0)
    labelled = np.concatenate([data.store.read(index, [column])[column] for index in range(count)])
    np.testing.assert_allclose(labelled, wanted, atol=1e-4)
    run(["reward", "audit", str(dataset), "--reward", str(out), "--json"])
    assert json.loads(capsys.readouterr().out)["models"][0]["name"] == f"ensemble-{made['version']}"
    assert "audit" in read_model_config(out)["provenance"]
    shutil.rmtree(folders[1])
    train_reward("preference", dataset, folders[1], replace(SETTINGS, seed=2))
    with pytest.raises(CheckpointError, match=r"the ensemble was made of preference-.*; combine its models again"):
        run(["label", str(dataset), "--reward", str(out)])


def test_an_ensemble_of_classifiers_decides_what_all_decide(dataset: Path, success_model: Path, tmp_path: Path) -> None:
    train_reward("success", dataset, tmp_path / "other", replace(SETTINGS, seed=1))
    folders = [success_model, tmp_path / "other"]
    with pytest.raises(SpecError, match="one scale as they are, 0 to 1; leave --dataset out"):
        combine_rewards(folders, tmp_path / "both", CombineConfig(), dataset)
    combine_rewards(folders, tmp_path / "both", CombineConfig())
    episodes = RewardData(dataset).episodes([0, 1])
    one, other, both = (load_reward(folder).score(episodes) for folder in (*folders, tmp_path / "both"))
    torch.testing.assert_close(both.value, torch.minimum(one.value, other.value))
    assert torch.equal(both.raw["done"], one.raw["done"] & other.raw["done"])


def test_each_way_to_shape_has_a_column_of_its_own_and_a_failed_one_has_none(dataset: Path) -> None:
    store = ZarrStore.open(dataset)
    for name, count in (("progress/mine", 8), ("reward/some", 3)):
        kind = "potential" if name == "progress/mine" else "reward"
        with store.column_writer(name, ArraySpec(()), {"kind": kind}) as writer:
            for index, info in enumerate(store.episodes[:count]):
                writer.write(index, np.linspace(0.2, 0.9, info.length, dtype=np.float32))
    words = ["reward", "shape", str(dataset), "--progress", "progress/mine"]
    before = set(ZarrStore.open(dataset).columns)
    for reward, message in (
        ("nosuch", "unknown dataset field 'nosuch'"),
        ("proprio", "proprio is float32 .* a step, no reward"),
        ("progress/mine", "stays near the goal"),
        ("reward/some", "has no values for episode"),
    ):
        with pytest.raises(RobolearnError, match=message):
            run([*words, "--reward", reward])
        assert set(ZarrStore.open(dataset).columns) == before
    ways = [["--scale", "100"], [], ["--scale", "1e6"], ["--reward", "reward/some"], ["--as", "reward/mine"]]
    with store.column_writer("reward/some", ArraySpec(()), {"kind": "reward"}) as writer:
        for index in writer.missing:
            writer.write(index, np.ones(store.episodes[index].length, np.float32))
    for way in ways:
        assert run([*words, *way]) == 0
    store = ZarrStore.open(dataset)
    suffixes = ("shaped-mine-0.99", "shaped-mine-0.99-x100", "shaped-mine-0.99-x1e06")
    names = [f"reward/{name}" for name in (*suffixes, "shaped-mine-0.99-reward-some", "mine")]
    assert set(store.columns) == {*before, *names}
    plain, scaled = (store.read(3, [name])[name] for name in names[:2])  # of a failure
    np.testing.assert_allclose(scaled, 100.0 * plain, rtol=1e-4)
    with pytest.raises(DatasetError, match="of other attributes"):
        run([*words, "--as", "reward/mine", "--scale", "2"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["label", "{d}", "--reward", "ensemble"], "robolearn reward combine MODEL MODEL"),
        (["reward", "combine", "none", "--out", "x"], "none is not a reward model"),
        (["reward", "policy", "{d}", "--out", "x"], "no model is named for the endpoint"),
        (["label", "{d}", "--reward", "sucess"], "did you mean success"),
        (["label", "{d}", "--reward", "progress"], "has to be trained first: robolearn reward train progress"),
        (["label", "{d}", "--reward", "keypoints"], "needs waypoints"),
        (["label", "{d}", "--reward", "keypoints", "--config", "{d}.json"], "0 waypoints came"),
        (["label", "{d}", "--reward", "keypoints", "--config", "{d}/none"], "does not hold the settings of keypoints"),
        *(
            (["label", "{d}", "--reward", name, "--config", "{d}.json"], f"has to be .* robolearn reward train {name} ")
            for name in sorted(set(TRAINERS) - {"vlm", "keypoints"})
        ),
        (["label", "{d}", "--reward", "{m}", "--config", "{d}.json"], "settings of its own; leave --config out"),
        (["label", "{d}", "--reward", "hop", "--endpoint-model", "q", "--every", "0"], "give at least 1"),
        (["label", "{d}", "--reward", "vlm", "--batch-size", "0"], "batches of 0 pictures; give at least 1"),
        (["label", "{d}", "--reward", "vlm", "--goal", ""], "a prompt of the goal or the baseline is empty"),
        (["reward", "audit", "{d}", "--reward", "vlm"], "name the folder of `robolearn reward train vlm"),
        (
            ["reward", "train", "progress", "--dataset", "{d}", "--out", "x", "--camera"],
            "looks at one camera or more; none came",
        ),
        *(
            (
                ["reward", "train", name, "--dataset", "{d}", "--out", "x", "--camera", "front", "wrist"],
                f"{name} looks at one camera; front, wrist came",
            )
            for name in ONE_CAMERA
        ),
        (["label", "{d}", "--reward", "{m}", "--as", "confidence/x"], "is written beside the value; name it otherwise"),
        (["label", "{d}", "--reward", "vlm", "--alpha", "0.5", "--goal", "x"], "without a baseline"),
        (["reward", "audit", "{d}", "--reward", "reward/none"], "unknown column or reward model 'reward/none'"),
        (["reward", "leaderboard", "{d}"], "there is nothing to audit"),
        (["reward", "train", "keypoints", "--dataset", "{d}", "--out", "x"], "no model is named for the endpoint"),
        (
            ["reward", "train", "keypoint", "--dataset", "{d}", "--out", "x"],
            "unknown trainable reward model 'keypoint'",
        ),
        (["reward", "train", "vlm", "--dataset", "{d}", "--out", "x", "--camera", "top"], "has no camera 'top'"),
        (["label", "{d}", "--reward", "http://127.0.0.1:x"], "cannot be reached"),
        (["reward", "train", "hop", "--dataset", "{d}", "--out", "{d}"], "exists and is not empty"),
        (["reward", "train", "hop", "--dataset", "{d}", "--out", "x", "--camera", "top"], "has no camera 'top'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    words: list[str],
    message: str,
    dataset: Path,
    success_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"{dataset}.json").write_text("{}")
    monkeypatch.setattr("robolearn.rewards.http_client.FIRST_PAUSE_S", 0.0)
    before = sorted(dataset.rglob("*"))
    with pytest.raises(RobolearnError, match=message) as error:
        run([word.format(d=dataset, m=success_model) for word in words])
    assert "\n" not in str(error.value)
    assert sorted(dataset.rglob("*")) == before
    assert not (tmp_path / "x").exists()


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


def test_a_model_is_not_written_over_another(dataset: Path, success_model: Path) -> None:
    before = {file: file.read_bytes() for file in success_model.iterdir()}
    with pytest.raises(CheckpointError, match="exists and is not empty; name another --out"):
        train_reward("success", dataset, success_model, SETTINGS)
    assert {file: file.read_bytes() for file in success_model.iterdir()} == before


def test_preferences_of_people_are_trained_on(dataset: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, labeller="people")
    store = ZarrStore.open(dataset)
    with pytest.raises(DatasetError, match="compare some on the page"):
        draw_pairs(RewardData(dataset), range(8), settings, lambda done, text: None)
    ids = [episode.id for episode in store.episodes]
    for number, said in enumerate(("first", "second", "equal", "unsure", "second")):
        moments = Moment(ids[number], 1), Moment(ids[7 - number], 2)
        add_preference(store, Preference(*moments, said, "ana"))  # type: ignore[arg-type]
    pairs = draw_pairs(RewardData(dataset), range(7), settings, lambda done, text: None)
    assert pairs.answer.tolist() == [
        SECOND,
        EQUAL,
        UNSURE,
        SECOND,
    ]  # the first one is about episode 7, which is held out
    assert (pairs.first[0].tolist(), pairs.second[0].tolist()) == ([1, 1], [6, 2])
    segments = replace(settings, segment=3)
    with pytest.raises(DatasetError, match=r"segments of 3 steps .*\(there are answers about a --segment of 1\)"):
        draw_pairs(RewardData(dataset), range(8), segments, lambda done, text: None)
    add_preference(store, Preference(Moment(ids[2], 4), Moment(ids[3], 0), "first", "ana", segment=3))
    pairs = draw_pairs(RewardData(dataset), range(8), segments, lambda done, text: None)
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.segment) == ([[2, 4]], [[3, 0]], 3)
    assert train_reward("preference", dataset, tmp_path / "model", replace(SETTINGS, segment=3)).train_episodes == 6
    assert read_model_config(tmp_path / "model")["provenance"]["settings"]["segment"] == 3
