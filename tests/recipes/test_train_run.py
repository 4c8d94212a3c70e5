from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robolearn.errors import CheckpointError
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.checkpoint import load_policy
from robolearn.policies.checkpoint_config import read_config
from robolearn.policies.chunking import ChunkPolicy, ChunkPolicyConfig
from robolearn.recipes.run import Run, read_run_config, read_state
from robolearn.recipes.training_loop import interruptible
from robolearn.specs import InterfaceSpec, RobotSpec, image_spec

ROBOT = RobotSpec("toy", ("pan", "grip"), (-1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec, "image_a": image_spec(16, 16)}, ROBOT.action_spec, 10.0)
WIDE = FieldStatistics((0.0,) * 4, (1.0,) * 4, (-1.0,) * 4, (1.0,) * 4)
NAMES = ("train_loss", "validation_loss")


def policy(seed: int = 0) -> ChunkPolicy:
    config = ChunkPolicyConfig(encoder_channels=(4, 4), hidden_sizes=(8,))
    return ChunkPolicy(SPEC, {"proprio": WIDE, "action": WIDE.select([0, 1])}, config, seed)


def test_a_run_writes_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with Run.create(path, {"algorithm": "bc", "seed": 3}, NAMES) as run:
        run.log(10, 0.5, {"train_loss": 0.25})
        assert "10,0.500,0.25," in (path / "metrics.csv").read_text()  # at once, not at the end
        run.log(20, 1.0, {"train_loss": 0.125, "validation_loss": 0.5})
        run.save(policy(1), 10, {"seed": 3}, ("latest", "best"))
        run.save(policy(2), 20, {"seed": 3}, ("latest",))
    assert read_run_config(path) == {"algorithm": "bc", "seed": 3}
    assert (path / "metrics.csv").read_text().splitlines()[0] == "step,wall_s,train_loss,validation_loss"
    assert list(path.glob("events.out.tfevents.*"))
    assert read_config(path / "checkpoints" / "latest")["provenance"] == {"seed": 3, "step": 20}
    assert read_config(path / "checkpoints" / "best")["provenance"] == {"seed": 3, "step": 10}
    load_policy(path / "checkpoints" / "best")


def test_a_run_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"exists and is not empty; name another --out"):
        Run.create(tmp_path, {}, NAMES)
    with Run.create(tmp_path / "run", {}, NAMES):
        pass
    with pytest.raises(CheckpointError, match=r"exists and is not empty; resume it with --resume"):
        Run.create(tmp_path / "run", {}, NAMES)
    with pytest.raises(CheckpointError, match="not empty"):
        Run.create(tmp_path / "thesis.txt", {}, NAMES)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_on_a_full_disk_it_says_which_file_wants_room(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").symlink_to("/dev/full")
    with (
        pytest.raises(CheckpointError, match=r"metrics\.csv cannot be written: No space left .*; make room for it"),
        Run(tmp_path, {}, NAMES) as run,
    ):
        run.log(10, 0.5, {"train_loss": 0.25})


def test_the_second_ctrl_c_interrupts_and_an_echo_of_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(one_press_s: float) -> bool:
        monkeypatch.setattr("robolearn.recipes.training_loop.ONE_PRESS_S", one_press_s)
        with interruptible() as interrupted:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            return interrupted.is_set()

    assert pressed(1e9)
    with pytest.raises(KeyboardInterrupt):
        pressed(-1.0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_resuming_drops_the_metrics_that_will_be_made_again(tmp_path: Path) -> None:
    with Run.create(tmp_path, {}, NAMES) as run:
        for step in (10, 20, 30):
            run.log(step, step / 10, {"train_loss": step})
    with Run.resume(tmp_path, NAMES, 20) as run:
        run.log(30, 9.0, {"train_loss": 31})
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows == ["step,wall_s,train_loss,validation_loss", "10,1.000,10,", "20,2.000,20,", "30,9.000,31,"]


@pytest.mark.parametrize(
    ("damaged", "kept"),
    [
        (lambda text: text[:-3], [10]),  # the last row was not written to its end
        (lambda text: text.replace("20,2.000", "20"), [10]),
        (lambda text: text.replace("20,2.000", "2\x00,2.000") + "\x00\x00", [10]),
        (lambda text: "", []),
        (lambda text: text[20:], []),
        (lambda text: text.splitlines()[0], []),
    ],
)
def test_damaged_rows_of_metrics_are_dropped(tmp_path: Path, damaged: Callable[[str], str], kept: list[int]) -> None:
    with Run.create(tmp_path, {}, NAMES) as run:
        for step in (10, 20):
            run.log(step, step / 10, {"train_loss": step, "validation_loss": 12345})
    file = tmp_path / "metrics.csv"
    file.write_bytes(damaged(file.read_text()).encode() + b"\xff")
    with Run.resume(tmp_path, NAMES, 20) as run:
        run.log(30, 9.0, {"train_loss": 31})
    header, *rows = file.read_text().splitlines()
    assert header == "step,wall_s,train_loss,validation_loss"
    assert rows == [*(f"{step},{step / 10:.3f},{step},12345" for step in kept), "30,9.000,31,"]


def test_the_state_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    tensors = {"a": torch.rand(3), "generator": torch.Generator().manual_seed(1).get_state(), "step": torch.tensor(7)}
    facts = {"best_loss": 1 / 3, "wall_s": float("inf")}
    with Run.create(tmp_path, {}, NAMES) as run:
        run.save_state(tensors, facts)
    back, back_facts = read_state(tmp_path)
    assert back_facts == facts
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_what_a_run_replaces_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, int]] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(("sync", os.fstat(fd).st_ino)), sync(fd)))
    monkeypatch.setattr(
        os, "replace", lambda old, new: (done.append(("name", Path(old).lstat().st_ino)), replace(old, new))
    )
    path = tmp_path / "runs" / "new"
    with Run.create(path, {}, NAMES) as run:
        run.save(policy(), 1, {}, ("latest",))
        run.save_state({"a": torch.zeros(3)}, {"step": 1})
    checkpoints = path / "checkpoints"
    for file in (path / "config.yaml", path / "resume.safetensors"):
        at = done.index(("name", file.stat().st_ino))
        assert done[at - 1 : at + 2] == [("sync", file.stat().st_ino), done[at], ("sync", path.stat().st_ino)]
    link = done.index(("name", (checkpoints / "latest").lstat().st_ino))
    assert done[link + 1] == ("sync", checkpoints.stat().st_ino)
    for folder in (tmp_path, path.parent, path):  # in which something was made
        assert ("sync", folder.stat().st_ino) in done


def test_what_cannot_be_resumed_says_why(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"it has no config\.yaml"):
        read_run_config(tmp_path)
    with pytest.raises(CheckpointError, match="saved nothing yet"):
        read_state(tmp_path)
    (tmp_path / "config.yaml").write_text("a: [1")
    with pytest.raises(CheckpointError, match="not a run to resume"):
        read_run_config(tmp_path)
    (tmp_path / "resume.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        read_state(tmp_path)


def test_a_run_on_very_many_episodes_goes_on(tmp_path: Path) -> None:
    config = {"algorithm": "bc", "episodes": {"train": [letter * 400_000 for letter in "abc"]}}
    with Run.create(tmp_path / "run", config, NAMES):
        assert read_run_config(tmp_path / "run") == config


def test_a_run_without_rows_goes_on_with_other_columns(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", {}, ("loss", "value")):
        pass
    with Run.resume(tmp_path / "run", ("return_mean",), -1) as run:
        run.log(0, 0.0, {"return_mean": 0.5})
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines() == ["step,wall_s,return_mean", "0,0.000,0.5"]
