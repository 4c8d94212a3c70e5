"""From power-up to a recorded and replayed episode: the README's commands, on a stand-in arm with two video cameras."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.recipes.graph import free_domain_id

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PATIENCE_S = 90.0
PRESS_AGAIN_S = 5.0


class Bench:
    """A shell of a person at the bench: commands of the README, moved into a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.children: list[subprocess.Popen[str]] = []
        self.environment = dict(
            os.environ, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", ROS_DOMAIN_ID=str(free_domain_id())
        )
        for name in ("cells", "teleop", "calibration"):
            (folder / "hardware" / name).mkdir(parents=True)
            for file in (ROOT / "hardware" / name).iterdir():
                text = file.read_text(encoding="utf-8").replace("/tmp/robolearn-", f"{folder}/")
                text = text.replace("../../sim_assets", str(ROOT / "sim_assets"))
                text = text.replace("max_command_age_s: 0.2", "max_command_age_s: 3.0")  # the machine may be busy
                text = text.replace("  driver: servo_arm\n", "  driver: servo_arm\n  bus: {answer_timeout_s: 0.2}\n")
                (folder / "hardware" / name / file.name).write_text(text, encoding="utf-8")

    def start(self, command: str, **how: object) -> subprocess.Popen[str]:
        words = shlex.split(command.replace("/tmp/robolearn-", f"{self.folder}/"))
        child = subprocess.Popen(
            words, cwd=self.folder, env=self.environment, text=True, start_new_session=True, **how  # type: ignore[call-overload]
        )  # fmt: skip
        self.children.append(child)
        return child

    def run(self, command: str, codes: tuple[int, ...] = (0,)) -> str:
        child = self.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = child.communicate(timeout=PATIENCE_S)
        assert child.returncode in codes, f"{command}\n{out}\n{err}"
        return out


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    for child in bench.children:
        if child.poll() is None:
            child.terminate()
            child.wait(20)


def type_episode(bench: Bench, command: str) -> str:
    """Run `record` on a terminal of its own and play one episode on it. Returns what it showed."""
    master, slave = os.openpty()
    log = bench.folder / "record.log"
    with log.open("wb") as output:
        child = bench.start(command, stdin=slave, stdout=output, stderr=output)

    def wait_for(words: str, press: bytes = b"") -> None:
        """Press a key until these words are there: the nodes may not have met yet."""
        end_s = time.monotonic() + PATIENCE_S
        pressed_s = -PRESS_AGAIN_S
        while words not in log.read_text(encoding="utf-8", errors="replace"):
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < end_s, log.read_text()
            if press and time.monotonic() > pressed_s + PRESS_AGAIN_S:
                pressed_s = time.monotonic()
                os.write(master, press)
            time.sleep(0.05)

    wait_for("it waits for the operator")
    assert "process started" not in log.read_text(encoding="utf-8")
    wait_for("episode 1 of 1 is being recorded", press=b"\n")
    for _ in range(40):
        os.write(master, b"q")
        time.sleep(0.04)
    os.write(master, b"\n")
    child.wait(PATIENCE_S)
    os.close(master)
    os.close(slave)
    assert child.returncode == 0, log.read_text()
    return log.read_text()


@pytest.mark.timeout(400)
def test_from_power_up_to_a_replayed_episode(bench: Bench) -> None:
    (block,) = [text for text in re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL) if "standin" in text]
    commands = [line.split(" #")[0].strip() for line in block.splitlines()]
    dataset = bench.folder / "runs" / "bench.zarr"
    replayed = {}
    for command in commands:
        if command.endswith("&"):
            bench.start(command.removesuffix("&"))
        elif command.startswith("robolearn cell check"):
            checks = {c["name"]: c for c in json.loads(bench.run(command + " --json", (0, 1)))["checks"]}
            assert checks["motion"]["ok"], checks  # the rates a busy machine may miss
        elif command.startswith("robolearn record"):
            type_episode(bench, command)
            store = ZarrStore.open(dataset)
            assert verify(dataset).ok
            (info,) = store.episodes
            rows, valid = store.read(0), store.read_valid(0)
            assert info.success is True
            assert info.length > 20
            assert np.ptp(rows["proprio"][valid["proprio"]][:, 0]) > 0.1
            for camera in ("front", "wrist"):
                assert valid[f"image_{camera}"].mean() > 0.5
                assert rows[f"image_{camera}"][valid[f"image_{camera}"]].any()
        elif command.startswith("robolearn replay"):
            replayed = json.loads(bench.run(command + " --json"))
        else:
            bench.run(command)
    assert replayed["complete"]
    assert replayed["success"] is None  # nobody judged it
    assert replayed["steps"] > replayed["recorded_steps"] / 2
    assert 0 < replayed["error_rms_rad"] < 0.05  # the arm goes where it went
