"""Several reward models as one."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reward_settings import SETTINGS

from robolearn.cli import run
from robolearn.errors import CheckpointError, SpecError
from robolearn.networks.model_directory import read_model_config
from robolearn.recipes.rewards.combine import combine_rewards
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.label import label_dataset
from robolearn.recipes.rewards.training import train_reward
from robolearn.rewards.combine import CombineConfig
from robolearn.rewards.saved import load_reward, trained_episodes, trained_hz, trained_tasks


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
    told = json.loads(capsys.readouterr().out)
    assert (told["models"][0]["name"], told["episodes"]) == (f"ensemble-{made['version']}", 2)  # as held out from both
    assert trained_episodes(out) == trained_episodes(folders[0]) == trained_episodes(folders[1])
    assert trained_tasks(out) == {"reach-v1"}
    assert trained_hz(out) == data.store.spec.interface.control_hz
    assert read_model_config(out)["provenance"]["audit"]["episodes"] == 2
    shutil.rmtree(folders[1])
    train_reward("preference", dataset, folders[1], replace(SETTINGS, seed=2))
    with pytest.raises(CheckpointError, match=r"the ensemble was made of preference-.*; combine its models again"):
        run(["label", str(dataset), "--reward", str(out)])


def test_an_ensemble_of_classifiers_decides_what_all_decide(
    dataset: Path, success_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_reward("success", dataset, tmp_path / "other", replace(SETTINGS, seed=1))
    folders = [success_model, tmp_path / "other"]
    with pytest.raises(SpecError, match="one scale as they are, 0 to 1; leave --dataset out"):
        combine_rewards(folders, tmp_path / "both", CombineConfig(), dataset)
    combine_rewards(folders, tmp_path / "both", CombineConfig())
    episodes = RewardData(dataset).episodes([0, 1])
    one, other, both = (load_reward(folder).score(episodes) for folder in (*folders, tmp_path / "both"))
    torch.testing.assert_close(both.value, torch.minimum(one.value, other.value))
    assert torch.equal(both.raw["done"], one.raw["done"] & other.raw["done"])
    column = label_dataset(dataset, load_reward(tmp_path / "both"))["column"]
    run(["reward", "audit", str(dataset), "--reward", column, str(tmp_path / "both"), "--json"])
    as_column, as_folder = json.loads(capsys.readouterr().out)["models"]
    for distance in ("dard_distance", "epic_distance", "starc_distance"):  # of values in other batches
        assert as_column.pop(distance) == pytest.approx(as_folder.pop(distance), abs=1e-5)
    assert {**as_column, "name": ""} == {**as_folder, "name": ""}
