"""Datasets are labelled by reward models: what a column holds, and what an interrupted labelling leaves."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from robolearn.cli import run
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import CheckpointError, DatasetError, SpecError
from robolearn.recipes.rewards import label
from robolearn.recipes.rewards.label import column_name, label_dataset
from robolearn.rewards.saved import load_reward, save_reward
from robolearn.specs import ArraySpec


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


def test_who_labels_waits_for_others_who_write_columns(
    dataset: Path, success_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, store = load_reward(success_model), ZarrStore.open(dataset)
    closing = threading.Timer(0.2, store.column_writer("reward/other-1", ArraySpec(()), {"kind": "reward"}).close)
    closing.start()
    assert label_dataset(dataset, model)["episodes"] == 8
    closing.join()
    monkeypatch.setattr(label, "PATIENCE_S", 0.0)
    with (
        store.column_writer("reward/other-1", ArraySpec(()), {"kind": "reward"}),
        pytest.raises(DatasetError, match="is being written to by process"),
    ):
        label_dataset(dataset, model)


def _made_by(model):  # type: ignore[no-untyped-def]
    from robolearn.recipes.rewards.label import made_by

    return {"spec": ArraySpec(()), "attributes": made_by(model)}


def test_column_names_say_who_made_them(success_model: Path) -> None:
    model = load_reward(success_model)
    version = model.version
    assert column_name(model) == f"success/success-{version}"
    assert column_name(model, "reward") == f"reward/success-{version}"
    assert column_name(model, "reward/mine") == f"reward/mine-{version}"
    assert column_name(model, f"reward/mine-{version}") == f"reward/mine-{version}"


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


def test_a_small_dataset_is_shared_among_the_cores(
    dataset: Path, success_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robolearn.recipes.rewards.side_by_side.LEAST", 1)
    model, asked = load_reward(success_model), []
    original = model.score
    monkeypatch.setattr(model, "score", lambda episodes: (asked.append(len(episodes.text)), original(episodes))[1])
    label_dataset(dataset, model)
    assert asked == [1] * 8  # they would fit into one picture of a single core


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
