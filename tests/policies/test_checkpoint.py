from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from robolearn import durable
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
    with pytest.raises(CheckpointError, match="No space"):
        save_policy(make(1), checkpoint)
    monkeypatch.undo()
    assert read_config(checkpoint)["provenance"]["seed"] == 4
    save_policy(make(1), checkpoint)  # and the leftovers are in nobody's way
    assert [p.name for p in checkpoint.parent.iterdir()] == ["c"]


REPLACING = """
import errno, sys
from pathlib import Path
import torch
from kill_writer import die_before, in_child
from robolearn import durable
from robolearn.networks.model_directory import read_model_config, read_weights, write_model

def refuse(first, second):
    raise OSError(errno.EINVAL, "Invalid argument")

def write(number):
    write_model(path, {"number": number}, {"weights": torch.full((4,), number)})

def work(told):
    if not swaps:
        durable.exchange = refuse
    die_before(number)
    write(number)

path, swaps, killed, number = Path(sys.argv[1]), sys.argv[2] == "swaps", True, 0
write(0)
while killed:
    number += 1
    _, killed = in_child(work, None)
    print(read_model_config(path)["number"], int(read_weights(path)["weights"][0]), int(path.exists()))
"""


@pytest.mark.parametrize("swaps", [True, False], ids=["swaps", "renames"])
def test_killed_at_any_moment_the_old_or_the_new_one_is_there(tmp_path: Path, swaps: bool) -> None:
    """Also where the file system cannot swap two names: the old one may be aside for a moment then."""
    tests = Path(__file__).parents[1] / "datasets"
    done = subprocess.run(
        [sys.executable, "-c", REPLACING, tmp_path / "c", "swaps" if swaps else "renames"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
    )
    assert done.returncode == 0, done.stderr
    seen = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    before = 0
    for number, (config, weights, in_place) in enumerate(seen, start=1):
        assert config == weights
        assert config in (before, number)
        assert in_place or not swaps
        before = config
    assert len(seen) > 8  # each change of a file had its turn
    assert before == len(seen)
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]


def test_the_old_one_goes_when_the_new_one_is_on_disk_for_good(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    exchange, sync, remove = durable.exchange, durable.sync, shutil.rmtree
    monkeypatch.setattr(durable, "sync", lambda path: (done.append(f"sync {path.name}"), sync(path)))
    monkeypatch.setattr(durable, "exchange", lambda *names: (done.append("exchange"), exchange(*names)))
    monkeypatch.setattr(shutil, "rmtree", lambda *args, **named: (done.append("remove"), remove(*args, **named)))
    save_policy(make(1), checkpoint)
    files = [f"sync {name}" for name in ("config.json", "weights.safetensors", ".c.partial")]
    assert sorted(done[2:4]) == files[:2]
    assert done[4:] == [files[2], "exchange", f"sync {checkpoint.parent.name}", "remove", "remove"]


def test_a_link_to_a_checkpoint_stays_one(checkpoint: Path) -> None:
    latest = checkpoint.with_name("latest")
    latest.symlink_to(checkpoint.name)
    for seed in (1, 2):
        save_policy(make(seed), latest, {"seed": seed})
    assert latest.is_symlink()
    assert read_config(checkpoint)["provenance"] == {"seed": 2}
    assert sorted(entry.name for entry in checkpoint.parent.iterdir()) == ["c", "latest"]


def test_weights_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    with pytest.raises(CheckpointError, match=r"weights cannot be written: .*; make room for it, or name") as error:
        write_tensors(tmp_path / "weights", {"weight": torch.zeros(3)})
    assert "\n" not in str(error.value)


def test_who_may_read_the_config_may_read_the_weights(tmp_path: Path) -> None:
    save_policy(make(1), tmp_path / "c")
    modes = {file.stat().st_mode & 0o044 for file in (tmp_path / "c").iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize("file", ["config.json", "weights.safetensors"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != file)  # whoever runs this may be root
    with pytest.raises(CheckpointError, match=rf"may not be read by you: {file}; have its owner allow it"):
        load_policy(checkpoint)


@pytest.mark.parametrize(("mask", "others"), [(0o002, 0o064), (0o077, 0)])
def test_weights_are_for_whom_the_umask_says(tmp_path: Path, mask: int, others: int) -> None:
    before = os.umask(mask)
    try:
        save_policy(make(1), tmp_path / "c")
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o077 for file in (tmp_path / "c").iterdir()} == {others}


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"not a checkpoint; it does not exist"):
        load_policy(tmp_path / "none")


def test_a_run_directory_is_told_apart(checkpoint: Path) -> None:
    (checkpoint.parent / "best").symlink_to(checkpoint.name)
    with pytest.raises(CheckpointError, match=r"did you mean .*/best\?"):
        load_policy(checkpoint.parent)


def test_of_a_run_without_a_best_the_latest_is_told(tmp_path: Path) -> None:
    save_policy(make(1), tmp_path / "online" / "checkpoints" / "latest")
    for asked in ("online", "online/checkpoints", "online/checkpoints/best"):
        with pytest.raises(CheckpointError, match=r"did you mean .*/online/checkpoints/latest\?"):
            load_policy(tmp_path / asked)


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
