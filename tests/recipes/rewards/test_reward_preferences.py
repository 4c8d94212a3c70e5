"""Comparisons by rules and by people, and what is learned from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reward_settings import SETTINGS

from robolearn.cli import run
from robolearn.datasets.edit import mark
from robolearn.datasets.preferences import Moment, Preference, add_preference
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.networks.model_directory import read_model_config
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.policy import policy_from_preferences
from robolearn.recipes.rewards.preference import draw_pairs
from robolearn.recipes.rewards.training import train_reward
from robolearn.rewards.preference import EQUAL, SECOND, UNSURE
from robolearn.rewards.saved import load_reward
from robolearn.specs import ArraySpec


def test_wrong_answers_are_as_many_as_asked_for(dataset: Path) -> None:
    data = RewardData(dataset)
    settings = replace(SETTINGS, pairs=400)
    right = draw_pairs(data, range(8), settings, lambda done, text: None)
    some_wrong = draw_pairs(data, range(8), replace(settings, wrong_answers=0.2), lambda done, text: None)
    np.testing.assert_array_equal(right.first, some_wrong.first)
    sure = right.answer != UNSURE
    assert (some_wrong.answer[~sure] == UNSURE).all()
    assert (some_wrong.answer != right.answer)[sure].mean() == pytest.approx(0.2, abs=0.06)
    ends = [step == data.store.episodes[int(index)].length - 1 for index, step in right.first]
    assert np.mean(ends) == pytest.approx(0.5, abs=0.1)  # a task that was done is seen in few other steps


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


def test_unknown_outcomes_are_not_compared(dataset: Path) -> None:
    mark(dataset, [0, 3], None)
    settings = replace(SETTINGS, labeller="outcome", pairs=200)
    pairs = draw_pairs(RewardData(dataset), range(8), settings, lambda done, text: None)
    unknown = np.isin(pairs.first[:, 0], (0, 3)) | np.isin(pairs.second[:, 0], (0, 3))
    assert (pairs.answer[unknown] == UNSURE).all()
    assert (pairs.answer[~unknown] != UNSURE).mean() > 0.5


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


def test_from_comparisons_to_a_policy(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "reach"
    with pytest.raises(SpecError, match="judged on 0 episodes; expected at least 1"):
        policy_from_preferences(dataset, out, SETTINGS, episodes=0)
    assert not out.exists()
    answer = policy_from_preferences(dataset, out, SETTINGS, steps=3, episodes=2)
    assert answer["task"] == "reach-v1"
    assert answer["success_rate"] in (0.0, 0.5, 1.0)
    assert answer["column"] in ZarrStore.open(dataset).columns
    assert load_reward(out / "reward").id == "preference"
    assert read_model_config(Path(answer["checkpoint"]))["provenance"]["algorithm"] == "iql"


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
