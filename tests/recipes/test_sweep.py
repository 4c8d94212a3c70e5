from __future__ import annotations

import json
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from robolearn.errors import RobolearnError, SpecError, UnknownNameError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.run import read_run_config
from robolearn.recipes.seeds import SELECTION_SEED
from robolearn.recipes.sweep import Choice, sweep
from robolearn.recipes.train import train_policy
from robolearn.recipes.train_request import TrainRequest

SMALL = ("batch_size=8", "policy.hidden_sizes=8", "critic_hidden_sizes=8", "online.random_steps=10")
SMALL_ENDS = ("online.evaluations=1", "online.evaluation_episodes=1", "online.replay_capacity=500")


def request(out: Path) -> TrainRequest:
    return TrainRequest("sac", task="gym:Pendulum-v1", out=out, steps=20, settings=(*SMALL, *SMALL_ENDS))


def test_a_sweep_tries_ranks_and_goes_on(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    search = ["critic_learning_rate=1e-4..1e-2:log", "utd=1|2"]
    first = sweep(request(tmp_path / "sweep"), search, trials=2)
    assert first["trials"] == 2
    told: list[int] = []
    again = sweep(request(tmp_path / "sweep"), search, trials=1, progress=lambda done, text: told.append(done))
    assert told == [1]
    rows = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert again["trials"] == len(rows) == 3
    values = [row["value"] for row in rows]
    assert values == sorted(values, reverse=True)
    assert again["best_value"] == values[0]
    assert again["best_settings"] == rows[0]["settings"]
    assert len({row["settings"]["critic_learning_rate"] for row in rows}) == 3
    others: list[tuple[dict[str, Any], str]] = [
        ({"steps": 21}, "other steps"),
        ({"seed": 1}, "other seed"),
        ({"settings": (*SMALL, *SMALL_ENDS, "polyak=0.1")}, "other settings"),
    ]
    for other, words in others:
        with pytest.raises(SpecError, match=words):
            sweep(replace(request(tmp_path / "sweep"), **other), search, trials=1)
    with pytest.raises(SpecError, match="other search"):
        sweep(request(tmp_path / "sweep"), ["critic_learning_rate=1e-3|1e-4"], trials=1)
    for row in rows:
        assert 1e-4 <= row["settings"]["critic_learning_rate"] <= 1e-2
        config = (tmp_path / "sweep" / f"trial_{row['number']:03d}" / "config.yaml").read_text()
        assert f"utd: {row['settings']['utd']}" in config


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("batch_size=32..256", Choice("batch_size", (), 32, 256, whole=True)),
        ("learning_rate=1e-5..1e-2:log", Choice("learning_rate", (), 1e-5, 1e-2, log=True)),
        ("policy.hidden_sizes=64,64|256,256", Choice("policy.hidden_sizes", ("64,64", "256,256"))),
    ],
)
def test_what_may_be_searched(text: str, wanted: Choice) -> None:
    assert Choice.parse(text) == wanted


@pytest.mark.parametrize("text", ["batch_size", "=3", "a=2..1", "a=x..y", "a=0..1:log", "a=1..2:linear", "a=1..inf"])
def test_a_search_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="search"):
        Choice.parse(text)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "reach.zarr"
    collect_episodes(CollectConfig(task="reach-v1", image_size=0), path, 2)
    return path


def offline(algorithm: str, dataset: Path, out: Path, task: str | None) -> TrainRequest:
    critics = "critic_hidden_sizes=8" if algorithm == "iql" else "value_hidden_sizes=8"
    settings = ("batch_size=8", "policy.hidden_sizes=8", critics, "online.evaluation_episodes=1")
    return TrainRequest(algorithm, dataset, task, out, steps=2, settings=settings)


@pytest.mark.parametrize("algorithm", ["iql", "hiql"])
def test_what_a_dataset_cannot_judge_is_judged_in_a_task(algorithm: str, dataset: Path, tmp_path: Path) -> None:
    answer = sweep(offline(algorithm, dataset, tmp_path / "sweep", "reach-v1"), ["expectile=0.6..0.9"], trials=1)
    assert answer["best_value"] in (0, 1)
    told = read_run_config(tmp_path / "sweep" / "trial_000")
    assert told["dataset"] == str(dataset)
    assert told["data_task"] == ("reach-v1" if algorithm == "iql" else None)


def test_the_most_successes_are_the_best(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([(0.25, 9.0), (0.75, 1.0), (None, 0.5)])

    def judged(checkpoint: Path, task: str, episodes: int, seed: int, device: str) -> dict[str, float | None]:
        assert (checkpoint.exists(), task, episodes, seed) == (True, "reach-v1", 1, SELECTION_SEED)
        return dict(zip(("success_rate", "return_mean"), next(answers), strict=True))

    monkeypatch.setattr("robolearn.recipes.sweep.evaluate_policy", judged)
    sweep(offline("iql", dataset, tmp_path / "sweep", "reach-v1"), ["expectile=0.6..0.9"], trials=3)
    rows = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert [row["value"] for row in rows] == [0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    ("algorithm", "task", "error", "words"),
    [
        ("iql", None, SpecError, "has no validation loss; name the --task"),
        ("hiql", None, SpecError, "has no validation loss; name the --task"),
        ("hiql", "reech-v1", UnknownNameError, "did you mean reach-v1"),
        ("bc", "reach-v1", SpecError, "learns from chunks, which no task shows"),
    ],
)
def test_a_sweep_that_nothing_judges_is_refused_before_the_first_trial(
    algorithm: str, task: str | None, error: type[RobolearnError], words: str, dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=words):
        sweep(offline(algorithm, dataset, tmp_path / "sweep", task), ["steps=1|2"], trials=1)
    assert not (tmp_path / "sweep").exists()


def test_ctrl_c_leaves_what_was_tried_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = iter([False, True, False])

    def train(request: TrainRequest) -> dict[str, Any]:
        if next(again):
            signal.raise_signal(signal.SIGINT)
        return train_policy(request)

    monkeypatch.setattr("robolearn.recipes.sweep.train_policy", train)
    answer = sweep(request(tmp_path / "sweep"), ["utd=1|2"], trials=9)
    rows = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert answer["interrupted"]
    assert [row["value"] for row in rows] == [answer["best_value"], None]
    assert not sweep(request(tmp_path / "sweep"), ["utd=1|2"], trials=1)["interrupted"]


def test_a_wrong_setting_is_told_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="critic_learning_rate"):
        sweep(request(tmp_path / "sweep"), ["critic_learning_rat=1e-4..1e-2"], trials=1)
    with pytest.raises(SpecError, match="batch_size"):
        sweep(request(tmp_path / "sweep"), ["batch_size=4|many"], trials=1)
    with pytest.raises(SpecError, match=r"discount is 1\.5; expected a number from 0 to 1"):
        sweep(request(tmp_path / "sweep"), ["discount=0.9..1.5"], trials=1)
    with pytest.raises(SpecError, match="utd is searched twice"):
        sweep(request(tmp_path / "sweep"), ["utd=1..2", "utd=1..3"], trials=1)
    assert not (tmp_path / "sweep").exists()


def test_without_optuna_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RobolearnError, match=r"pip install 'robolearn\[sweep\]'"):
        sweep(request(tmp_path / "sweep"), ["utd=1|2"], trials=1)
