"""The main job in its smoke form: real nodes, a real graph, everything that the report promises."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from robolearn import cli
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import RobolearnError
from robolearn.policies.checkpoint import load_policy
from robolearn.recipes.demo import MARKER, OUTPUTS, DemoConfig, run_demo
from robolearn.recipes.seeds import EVALUATION_SEED

PROMISED = {
    "success_rate", "untrained_success_rate", "episodes", "demonstrations", "collect_seconds", "train_seconds",
    "control_hz", "loop_p50_ms", "loop_p99_ms",
}  # fmt: skip
MARK = "ROBOLEARN_TEST_MARK"


def start_demo(out: Path, mark: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "robolearn.cli", "demo", "--fast", "--out", str(out)],
        env=dict(os.environ, **{MARK: mark}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def marked_processes(mark: str) -> list[int]:
    """Processes that inherited the mark, other than zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue  # gone meanwhile, or not ours
    return found


@pytest.mark.timeout(300)
def test_smoke_form_does_all_that_the_demo_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    (out / "run").mkdir(parents=True)
    (out / "run" / "old").write_text("an earlier demo's")
    (out / "mine.txt").write_text("not the demo's")
    (out / MARKER).touch()
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    assert cli.run(["demo", "--fast", "--out", str(out)]) == 0
    assert marked_processes(mark) == []

    report = json.loads((out / "report.json").read_text())
    assert set(report) >= PROMISED
    assert report["demonstrations"] == 2
    assert report["episodes"] == 1
    assert 0 < report["loop_p50_ms"] <= report["loop_p99_ms"]
    assert all((out / name).exists() for name in OUTPUTS)
    assert (out / "mine.txt").exists()
    assert not (out / "run" / "old").exists()
    assert "untrained" in capsys.readouterr().out

    demonstrations, evaluation = ZarrStore.open(out / "demonstrations.zarr"), ZarrStore.open(out / "evaluation.zarr")
    assert verify(out / "demonstrations.zarr").ok
    demonstrated = {info.seed for info in demonstrations.episodes}
    judged = [info.seed for info in evaluation.episodes]
    assert judged == [EVALUATION_SEED]
    assert not demonstrated & set(judged)
    policy = load_policy(Path(report["checkpoint"]))
    assert sorted(policy.spec.observation) == ["image_front", "image_wrist", "proprio"]  # what a real cell would have


def test_a_folder_that_no_demo_wrote_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "mine.txt").write_text("not the demo's")
    with pytest.raises(RobolearnError, match="has logs that no demo wrote"):
        run_demo(DemoConfig.smoke(), tmp_path)
    assert (tmp_path / "logs" / "mine.txt").exists()


def test_seeds_that_are_judged_are_never_demonstrated(tmp_path: Path) -> None:
    with pytest.raises(RobolearnError, match="would demonstrate what is judged"):
        run_demo(DemoConfig.smoke(), tmp_path, seed=EVALUATION_SEED - 1)


@pytest.mark.timeout(120)
def test_ctrl_c_stops_every_process(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    child = start_demo(tmp_path / "demo", mark)
    log = tmp_path / "demo" / "logs" / "demonstrations.log"
    for _ in range(600):
        if log.exists() and "process started" in log.read_text():
            break
        time.sleep(0.1)
    assert len(marked_processes(mark)) > 2  # the demo, the launcher and nodes
    child.send_signal(signal.SIGINT)
    text, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in text
    for _ in range(100):
        if not marked_processes(mark):
            break
        time.sleep(0.1)
    assert marked_processes(mark) == []
