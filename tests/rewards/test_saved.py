"""Reward models come back from disk as they were, or say why not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from robolearn.errors import CheckpointError, RobolearnError, UnknownNameError
from robolearn.networks.model_directory import read_model_config
from robolearn.rewards import REWARDS
from robolearn.rewards.saved import load_reward, require_trusted, save_audit, save_reward


@pytest.mark.parametrize("name", sorted(set(REWARDS) - {"vlm"}))
def test_a_model_comes_back_with_its_version(name: str, tmp_path: Path) -> None:
    settings = {"waypoints": ((0.2, 0.2), (0.8, 0.5))} if name == "keypoints" else {}
    model = REWARDS[name](REWARDS[name].config_type(**settings))
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            next(iter(model.parameters())).add_(0.01)
    save_reward(model, tmp_path / "model", {"dataset": "push.zarr"})
    loaded = load_reward(tmp_path / "model")
    assert (loaded.id, loaded.version) == (model.id, model.version)
    assert read_model_config(tmp_path / "model")["provenance"] == {"dataset": "push.zarr"}


def test_a_changed_file_is_found_out(tmp_path: Path) -> None:
    model = REWARDS["success"](REWARDS["success"].config_type())
    save_reward(model, tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    config["config"]["threshold"] = 0.1
    file.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="one of its files was changed"):
        load_reward(tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"reward": "sucess"}, UnknownNameError, "did you mean success"),
        ({"config": {"thresh": 1}}, CheckpointError, "does not fit"),
        ({"config": {"hidden_size": 8}}, CheckpointError, "by another version of robolearn, or edited"),
        ({"format": 7}, CheckpointError, "format 7, this robolearn reads 1"),
    ],
)
def test_another_config_is_told_in_one_line(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], words: str
) -> None:
    save_reward(REWARDS["success"](REWARDS["success"].config_type()), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(error, match=words) as caught:
        load_reward(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_policy_is_no_reward_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": 1, "kind": "chunking"}')
    with pytest.raises(CheckpointError, match="is not a reward model"):
        load_reward(tmp_path)
    with pytest.raises(CheckpointError, match="it does not exist"):
        load_reward(tmp_path / "nowhere")


def test_only_an_audit_that_was_passed_lets_a_model_near_a_robot(tmp_path: Path) -> None:
    model = REWARDS["success"](REWARDS["success"].config_type())
    save_reward(model, tmp_path / "m", {"dataset": "push.zarr"})
    with pytest.raises(RobolearnError, match="was never audited; it may label") as caught:
        require_trusted(tmp_path / "m")
    assert "\n" not in str(caught.value)
    save_audit(tmp_path / "m", {"passed": False, "missed": ["false_positive_rate 0.2, at most 0.01"]})
    with pytest.raises(RobolearnError, match=r"missed gates of its audit: false_positive_rate 0\.2"):
        require_trusted(tmp_path / "m")
    assert "somebody forced it" in require_trusted(tmp_path / "m", force=True)
    save_audit(tmp_path / "m", {"passed": True, "missed": []})
    assert require_trusted(tmp_path / "m") == ""
    assert load_reward(tmp_path / "m").version == model.version  # an audit changes nothing of the model
