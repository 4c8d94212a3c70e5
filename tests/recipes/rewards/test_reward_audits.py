"""Reward models are audited on datasets, and the page of an audit."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from reward_settings import SETTINGS

from robolearn.cli import run
from robolearn.datasets.edit import relabel, split, tag
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, RobolearnError
from robolearn.networks.model_directory import read_model_config
from robolearn.recipes.report import FRAMES
from robolearn.recipes.rewards.audit import NEAR_MISS, audit_dataset, learned_from
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.label import column_name, label_dataset, made_by
from robolearn.recipes.rewards.shape import shape_dataset
from robolearn.recipes.rewards.training import split_episodes, train_reward
from robolearn.rewards.audit import GATES, Gate
from robolearn.rewards.features import EncoderConfig
from robolearn.rewards.hop import HopConfig, HopReward
from robolearn.rewards.reward_model import trained_on
from robolearn.rewards.saved import load_reward, save_reward
from robolearn.rewards.success import SuccessConfig, SuccessReward
from robolearn.specs import ArraySpec


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


def test_trust_is_gained_on_episodes_that_a_model_was_not_trained_on(
    dataset: Path, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever they lie: the dataset is a copy of the one of the training."""
    model = tmp_path / "model"
    train_reward("hop", recorded, model, SETTINGS)
    before = read_model_config(model)["provenance"]
    run(["reward", "audit", str(dataset), "--reward", str(model)])
    assert "on 2 of 8 episodes, which it was not trained on, kept" in capsys.readouterr().err
    after = read_model_config(model)["provenance"]["audit"]
    assert after["progress_spearman"] == pytest.approx(before["audit"]["progress_spearman"])
    assert (after["missed"], after["dataset"], after["episodes"]) == (before["audit"]["missed"], str(dataset), 2)
    ids = [info.id for info in ZarrStore.open(dataset).episodes]
    split(dataset, {tmp_path / "seen.zarr": [ids.index(name) for name in before["train_episodes"]]})
    run(["reward", "audit", str(tmp_path / "seen.zarr"), "--reward", str(model)])
    assert "this audit is not kept; audit it on others" in capsys.readouterr().err
    assert read_model_config(model)["provenance"]["audit"] == after


def test_models_are_judged_on_what_none_of_them_was_trained_on(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As folders and columns; on all episodes where somebody wants it, or nothing is left."""
    ids = [info.id for info in ZarrStore.open(dataset).episodes]
    encoder = EncoderConfig(image_height=24, image_width=24)
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for seed, (path, seen) in enumerate(zip(folders, (ids[:3], ids[2:5], ids[5:]), strict=True)):
        save_reward(HopReward(HopConfig(encoder=encoder, seed=seed)), path, {"train_episodes": [*seen, "of another"]})
    assert run(["label", str(dataset), "--reward", str(folders[0])]) == 0
    capsys.readouterr()

    def judged(*words: str) -> tuple[int, str]:
        run(["reward", *words, "--json"])
        told = capsys.readouterr()
        answer = json.loads(told.out)
        assert answer["chosen"] in told.err
        return answer["episodes"], answer["chosen"]

    board = ["leaderboard", str(dataset)]
    assert judged(*board) == (5, "judged on the 5 of 8 episodes that no model was trained on")
    assert judged(*board, "--reward", str(folders[1]))[0] == 3
    flattered = "judged on all 8 episodes, of which models were trained on {}, which flatters them"
    assert judged("audit", str(dataset), "--reward", str(folders[1]), "--all-episodes") == (8, flattered.format(3))
    assert judged(*board, "--reward", *map(str, folders[1:])) == (8, flattered.format(8))


def test_a_shaped_reward_is_not_judged_by_the_outcome_that_it_pays(
    dataset: Path, success_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last value holds whether the episode succeeded, whatever the progress is worth."""
    encoder = EncoderConfig(image_height=24, image_width=24)
    column = label_dataset(dataset, HopReward(HopConfig(encoder=encoder)))["column"]
    shaped = shape_dataset(dataset, column)["column"]
    with pytest.raises(DatasetError, match=f"say nothing of how an episode ended; audit {column}$"):
        run(["reward", "audit", str(dataset), "--reward", shaped])
    assert run(["reward", "leaderboard", str(dataset), "--json"]) == 0
    told = capsys.readouterr()
    assert f"left out: {shaped} is made of differences" in told.err
    assert [one["name"] for one in json.loads(told.out)["models"]] == [column]


def test_a_model_keeps_the_verdict_of_its_own_task(
    dataset: Path, success_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = {"passed": True, "missed": []}
    for task, kept in (("push-v1", True), ("reach-v1", False), ("", False)):  # of no name: nobody knows of which task
        folder = tmp_path / (task or "unnamed")
        save_reward(load_reward(success_model), folder, {"train_tasks": [task], "audit": verdict})
        code = run(["reward", "audit", str(dataset), "--reward", str(folder)])
        assert (read_model_config(folder)["provenance"]["audit"] == verdict) is kept
        told = f"{folder} has learned push-v1, of which {dataset} has no episode that it does not know: this audit"
        assert (told in capsys.readouterr().err) is kept
        assert code == 1 or not kept
    ids = [info.id for info in ZarrStore.open(dataset).episodes]
    relabel(dataset, ids[:3], {"task": "push-v1"})
    run(["reward", "audit", str(dataset), "--reward", str(tmp_path / "push-v1")])
    assert "on 3 of 8 episodes, those of its task that it was not trained on, kept" in capsys.readouterr().err
    assert read_model_config(tmp_path / "push-v1")["provenance"]["audit"]["episodes"] == 3


@pytest.mark.parametrize(
    ("facts", "remark"),
    [
        ({"train_tasks": ["push-v1"]}, "other has learned push-v1; "),
        ({"train_tasks": [""], "control_hz": 30.0}, "other has learned at 30 steps a second, "),
        ({"train_tasks": ["reach-v1"], "control_hz": 30.0}, "other has learned at 30 steps a second, "),
    ],
)
def test_a_model_that_has_learned_from_other_data_is_remarked(
    dataset: Path,
    success_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    facts: dict[str, object],
    remark: str,
) -> None:
    save_reward(load_reward(success_model), tmp_path / "other", facts)
    for command in (["label"], ["reward", "audit"], ["reward", "leaderboard"]):
        for folder in (tmp_path / "other", success_model):
            run([*command, str(dataset), "--reward", str(folder)])
            said = capsys.readouterr().err
            assert said.count("remark: ") == (folder.name == "other")
            assert (remark in said) is (folder.name == "other")


def test_a_device_that_computes_nothing_is_refused(dataset: Path) -> None:
    encoder = EncoderConfig(image_height=24, image_width=24)
    column = label_dataset(dataset, HopReward(HopConfig(encoder=encoder)))["column"]
    for command, name in (("audit", "http://127.0.0.1:9"), ("leaderboard", "http://127.0.0.1:9"), ("audit", column)):
        with pytest.raises(RobolearnError, match="--device does nothing"):
            run(["reward", command, str(dataset), "--reward", name, "--device", "cuda"])


def test_what_was_made_of_a_models_values_was_learned_from_what_the_model_was(
    dataset: Path, success_model: Path, tmp_path: Path
) -> None:
    """Its decisions, a reward that was shaped of them, and a model whose comparisons go by them."""
    seen = trained_on(load_reward(success_model))
    value = label_dataset(dataset, load_reward(success_model))["column"]
    done = value.replace("success/", "done/", 1)
    assert audit_dataset(dataset, {}, [done]).chosen == audit_dataset(dataset, {}, [value]).chosen
    settings = replace(SETTINGS, labeller="factors", factors=(value,), held_out=0.5)
    data = RewardData(dataset)
    assert split_episodes(data, settings)[1] != split_episodes(data, SETTINGS)[1]
    train_reward("preference", dataset, tmp_path / "ordered", settings)
    assert trained_on(load_reward(tmp_path / "ordered")) == seen
    encoder = EncoderConfig(image_height=24, image_width=24)
    hop = HopReward(HopConfig(encoder=encoder))
    hop.trained_on = frozenset({"another"})
    shaped = shape_dataset(dataset, label_dataset(dataset, hop)["column"], reward=done)["column"]
    assert set(learned_from(RewardData(dataset), shaped) or ()) == {*seen, "another"}


def test_a_column_that_does_not_say_what_was_trained_on_is_told_and_gone_on_with(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = HopReward(HopConfig(encoder=EncoderConfig(image_height=24, image_width=24)))
    name = column_name(model)
    with ZarrStore.open(dataset).column_writer(name, ArraySpec(()), made_by(model)) as writer:
        writer.write(0, np.zeros(ZarrStore.open(dataset).episodes[0].length, np.float32))
    assert label_dataset(dataset, model)["skipped"] == 1
    assert run(["reward", "leaderboard", str(dataset), "--json"]) == 0
    told = f"older columns do not say what their models were trained on: {name}"
    assert json.loads(capsys.readouterr().out)["chosen"] == told


def test_what_a_model_passes_on_episodes_of_its_training_alone_is_no_pass(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One unseen episode shows nothing of how successes and failures are told apart."""
    monkeypatch.setitem(GATES, "success", (Gate("success_auroc", 0.0),))
    model = SuccessReward(SuccessConfig(encoder=EncoderConfig(image_height=24, image_width=24)))
    ids = [info.id for info in ZarrStore.open(dataset).episodes]
    for number, (seen, code) in enumerate(((ids[:0], 0), (ids[1:], 1), (ids, 1))):
        path = tmp_path / str(number)
        save_reward(model, path, {"train_episodes": seen})
        assert run(["reward", "audit", str(dataset), "--reward", str(path), "--json"]) == code


def test_near_misses_are_tagged_or_known_by_progress(dataset: Path, success_model: Path) -> None:
    failed = [i for i, info in enumerate(ZarrStore.open(dataset).episodes) if not info.success]
    tag(dataset, failed[:1], {NEAR_MISS: True})
    tag(dataset, failed[1:], {NEAR_MISS: False})
    audits = audit_dataset(dataset, {"m": load_reward(success_model)}, all_episodes=True)
    assert [one.near_miss for one in audits.facts].count(True) == 1
    assert audits.to_json()["near_misses"] == 1


def test_the_page_shows_the_calibration_of_a_classifier_and_the_distances(
    dataset: Path, success_model: Path, tmp_path: Path
) -> None:
    unknown = ZarrStore.open(dataset).episodes[0].id
    relabel(dataset, [unknown], {"success": None})
    run(["reward", "audit", str(dataset), "--reward", str(success_model), "--all-episodes", "--out", str(tmp_path)])
    one = json.loads((tmp_path / "audit.json").read_text())["models"][0]
    assert sum(row["episodes"] for row in one["calibration"]) == 7
    page = (tmp_path / "audit.html").read_text()
    strip = page.partition(f"<small>{unknown}</small>")[2].partition("base64,")[2].partition("'")[0]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(strip), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert tuple(picture[0, 0]) == FRAMES[None]
    assert f"Calibration of {one['name']}" in page
    first = one["calibration"][0]
    assert f"<td class=n>{first['probability']:.2f}</td><td class=n>{first['successes']:.2f}</td>" in page
    assert 0.0 <= one["dard_distance"] <= 1.0
    assert f">{one['dard_distance']:.3f}<" in page
