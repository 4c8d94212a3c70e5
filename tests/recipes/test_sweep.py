from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from robolearn.errors import RobolearnError, SpecError, UnknownNameError
from robolearn.recipes.sweep import Choice, sweep
from robolearn.recipes.train import TrainRequest

SMALL = ("batch_size=8", "policy.hidden_sizes=8", "critic_hidden_sizes=8", "online.random_steps=10")
SMALL_ENDS = ("online.evaluations=1", "online.evaluation_episodes=1", "online.replay_capacity=500")


def request(out: Path) -> TrainRequest:
    return TrainRequest("sac", task="gym:Pendulum-v1", out=out, steps=20, settings=(*SMALL, *SMALL_ENDS))


def test_a_sweep_tries_ranks_and_goes_on(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    search = ["critic_learning_rate=1e-4..1e-2:log", "utd=1|2"]
    first = sweep(request(tmp_path / "sweep"), search, trials=2)
    assert first["trials"] == 2
    again = sweep(request(tmp_path / "sweep"), search, trials=1)
    rows = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert again["trials"] == len(rows) == 3
    values = [row["value"] for row in rows]
    assert values == sorted(values, reverse=True)
    assert again["best_value"] == values[0]
    assert again["best_settings"] == rows[0]["settings"]
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


def test_a_wrong_setting_is_told_before_anything_is_run(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="critic_learning_rate"):
        sweep(request(tmp_path / "sweep"), ["critic_learning_rat=1e-4..1e-2"], trials=1)
    with pytest.raises(SpecError, match="batch_size"):
        sweep(request(tmp_path / "sweep"), ["batch_size=4|many"], trials=1)
    assert not (tmp_path / "sweep").exists()


def test_without_optuna_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RobolearnError, match=r"pip install 'robolearn\[sweep\]'"):
        sweep(request(tmp_path / "sweep"), ["utd=1|2"], trials=1)
