from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from robolearn.errors import CheckpointError, RobolearnError, SpecError, UnknownNameError
from robolearn.networks.model_directory import write_tensors
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.checkpoint import load_policy, save_policy
from robolearn.policies.checkpoint_config import read_config
from robolearn.policies.chunking import ChunkPolicy, ChunkPolicyConfig
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec, image_spec

ROBOT = RobotSpec("toy", ("pan", "grip"), (-1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec, "image_a": image_spec(16, 16)}, ROBOT.action_spec, 10.0)
NARROW = FieldStatistics((0.1,) * 4, (1 / 3,) * 4, (-1.0,) * 4, (1.0,) * 4)
STATISTICS = {"proprio": NARROW, "action": NARROW.select([0, 1])}


def make(seed: int = 0) -> ChunkPolicy:
    return ChunkPolicy(SPEC, STATISTICS, ChunkPolicyConfig(encoder_channels=(4, 4), hidden_sizes=(8,)), seed)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_policy(make(), tmp_path / "c", {"algorithm": "bc", "seed": 4})
    return tmp_path / "c"


def edit(checkpoint: Path, **changes: object) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, **changes}))


def test_it_holds_all_that_a_server_needs_as_plain_text(checkpoint: Path) -> None:
    assert sorted(p.name for p in checkpoint.iterdir()) == ["config.json", "weights.safetensors"]
    config = read_config(checkpoint)
    assert config["kind"] == "chunking"
    assert config["provenance"] == {"algorithm": "bc", "seed": 4}
    loaded = load_policy(checkpoint)
    assert loaded.spec == SPEC
    assert loaded.statistics == STATISTICS  # to the last bit
    assert not loaded.training


def test_saving_again_replaces_and_leaves_nothing_else(checkpoint: Path) -> None:
    save_policy(make(1), checkpoint)
    assert read_config(checkpoint)["provenance"] == {}
    assert [p.name for p in checkpoint.parent.iterdir()] == ["c"]


def test_a_failed_save_leaves_the_old_checkpoint(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_policy(make(1), checkpoint)
    monkeypatch.undo()
    assert read_config(checkpoint)["provenance"]["seed"] == 4
    save_policy(make(1), checkpoint)  # and the leftovers are in nobody's way
    assert [p.name for p in checkpoint.parent.iterdir()] == ["c"]


def test_weights_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    with pytest.raises(CheckpointError, match=r"weights cannot be written: .*; make room for it") as error:
        write_tensors(tmp_path / "weights", {"weight": torch.zeros(3)})
    assert "\n" not in str(error.value)


def test_who_may_read_the_config_may_read_the_weights(tmp_path: Path) -> None:
    save_policy(make(1), tmp_path / "c")
    modes = {file.stat().st_mode & 0o044 for file in (tmp_path / "c").iterdir()}
    assert len(modes) == 1


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a checkpoint; it does not exist"):
        load_policy(tmp_path / "none")


def test_a_run_directory_is_told_apart(checkpoint: Path) -> None:
    (checkpoint.parent / "best").symlink_to(checkpoint.name)
    with pytest.raises(CheckpointError, match=r"did you mean .*/best\?"):
        load_policy(checkpoint.parent)


@pytest.mark.parametrize("cut", [0, 4, 100, -10])
@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_damage_is_told_in_one_line(checkpoint: Path, name: str, cut: int) -> None:
    file = checkpoint / name
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load_policy(checkpoint)
    assert "\n" not in str(caught.value)


def test_missing_weights(checkpoint: Path) -> None:
    (checkpoint / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match="damaged"):
        load_policy(checkpoint)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"format": 99}, CheckpointError, "format 99, this robolearn reads 1"),
        ({"kind": "chunkin"}, UnknownNameError, "did you mean chunking"),
        ({"config": {"horizon": 3}}, CheckpointError, "horizon"),
        ({"config": {"hidden_sizes": [9]}}, CheckpointError, r"another version.*Missing key"),
        ({"spec": {}}, CheckpointError, "does not fit"),
        ({"statistics": {"action": {}}}, CheckpointError, "does not fit"),
        ({"statistics": None}, CheckpointError, "does not fit"),
        ({"statistics": {"proprio": {**NARROW.to_json(), "mean": [0.0]}}}, CheckpointError, "does not fit"),
        ({"statistics": dict.fromkeys(STATISTICS, dict.fromkeys(NARROW.to_json(), ()))}, CheckpointError, "not fit"),
        ({"spec": {**SPEC.to_json(), "observation": {"proprio": None}}}, CheckpointError, "does not fit"),
        ({"kind": ["chunking"]}, CheckpointError, "names no kind of policy"),
        ({"provenance": None}, CheckpointError, "has no provenance"),
    ],
)
def test_another_config_is_told_in_one_line(
    checkpoint: Path, changes: dict[str, object], error: type[RobolearnError], words: str
) -> None:
    edit(checkpoint, **changes)
    with pytest.raises(error, match=words) as caught:
        load_policy(checkpoint)
    assert "\n" not in str(caught.value)


def test_a_json_file_that_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="names no format"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("interface", "words"),
    [
        (replace(SPEC, action=ArraySpec((1,), names=("pan",))), "train for this robot"),
        (replace(SPEC, action=replace(SPEC.action, unit="deg")), "wants them in deg"),
        (replace(SPEC, observation={**SPEC.observation, "image_a": image_spec(32, 32)}), "image_a of shape"),
        (replace(SPEC, observation={"proprio": ROBOT.proprio_spec}), "needs observation field 'image_a'"),
        (replace(SPEC, control_hz=50.0), "10 Hz"),
    ],
)
def test_a_robot_that_it_does_not_fit(checkpoint: Path, interface: InterfaceSpec, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        load_policy(checkpoint, interface=interface)


def test_weights_of_another_version_are_not_called_damaged(checkpoint: Path) -> None:
    weights = load_file(checkpoint / "weights.safetensors")
    renamed = {name.replace("features.encoders", "encoders"): value for name, value in weights.items()}
    save_file(renamed, checkpoint / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"written by another version .*Missing key.*train again") as caught:
        load_policy(checkpoint)
    assert "damaged" not in str(caught.value)
    assert "\n" not in str(caught.value)
