"""Weights and shaped rewards from a column of progress."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from robolearn.cli import run
from robolearn.datasets.edit import relabel, tag
from robolearn.datasets.store import CLOSING_ROW
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, RobolearnError, SpecError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.rewards.shape import shape_dataset
from robolearn.recipes.rewards.weights import weigh_dataset
from robolearn.rewards.shaping import ShapingConfig
from robolearn.specs import ArraySpec


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


def test_weights_of_progress_that_grows_nowhere_are_refused(dataset: Path) -> None:
    store = ZarrStore.open(dataset)
    with store.column_writer("progress/flat", ArraySpec(()), {"kind": "potential"}) as writer:
        for index, info in enumerate(store.episodes):
            writer.write(index, np.full(info.length, 0.3, np.float32))
    with pytest.raises(DatasetError, match="progress/flat grows in no 16 steps of 8 episodes, so all weights would"):
        weigh_dataset(dataset, "progress/flat")


@pytest.mark.parametrize("terminated", [True, False])
def test_a_row_that_closes_an_episode_is_no_transition(terminated: bool, dataset: Path) -> None:
    tag(dataset, [0], {CLOSING_ROW: True})
    relabel(dataset, [0], {"success": True, "terminated": terminated})
    store = ZarrStore.open(dataset)
    potential = np.linspace(0.2, 0.9, store.episodes[0].length, dtype=np.float32)
    with store.column_writer("progress/mine", ArraySpec(()), {"kind": "potential"}) as writer:
        for index, info in enumerate(store.episodes):
            writer.write(index, potential if index == 0 else np.zeros(info.length, np.float32))
    column = shape_dataset(dataset, "progress/mine", ShapingConfig(0.9))["column"]
    shaped = ZarrStore.open(dataset).read(0, [column])[column]
    np.testing.assert_allclose(shaped[:-2], 0.9 * potential[1:-1] - potential[:-2], atol=1e-6)
    assert shaped[-2] == pytest.approx(1.0 - potential[-2] + (0.0 if terminated else 0.9 * potential[-1]))
    assert shaped[-1] == 0.0
    relabel(dataset, [0], {"success": False})  # it is made anew where the outcome is another one
    shape_dataset(dataset, "progress/mine", ShapingConfig(0.9))
    assert ZarrStore.open(dataset).read(0, [column])[column][-2] == pytest.approx(shaped[-2] - 1.0)
    relabel(dataset, [0], {"success": None})
    with pytest.raises(DatasetError, match="nobody said whether episode"):
        shape_dataset(dataset, "progress/mine", ShapingConfig(0.9))


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
    assert "checkpoints/best\n" in capsys.readouterr().err
    with pytest.raises(DatasetError, match="no potential; learn from it as it is"):
        run(["reward", "shape", str(dataset), "--progress", column])


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
