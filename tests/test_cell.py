"""Cells: what a file gives, and what it says when it is wrong."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robolearn.cameras.opencv import OpenCVCameraConfig
from robolearn.cameras.video import VideoCamera
from robolearn.cell import load_cell
from robolearn.errors import CellError, RobolearnError
from robolearn.recipes.report import write_video
from robolearn.robots.calibration import Calibration
from robolearn.robots.safety import SafetyConfig
from robolearn.robots.servo_arm import ServoArm, ServoArmConfig
from robolearn.robots.standin import StandInBus
from robolearn.teleop.leader_arm import LeaderArmConfig

HARDWARE = Path(__file__).parents[1] / "hardware"
CELL = """\
name: bench
control_hz: 30
robot:
  driver: servo_arm
  port: /dev/arm
  calibration: arm.json
  bus: {retries: 1}
safety:
  max_jump: 0.2
cameras:
  front: {driver: opencv, device: /dev/front, height: 480, width: 640, rate_hz: 30}
  wrist: {driver: video, path: wrist.mp4}
teleop:
  driver: keyboard
  keys: [qa, ws]
"""


BOMB = "&a [x, x, x, x, x, x, x, x]"  # that stands for 8^9 letters
for _name, _inner in zip("bcdefghi", "abcdefgh", strict=True):
    BOMB = f"&{_name} [{BOMB}{f', *{_inner}' * 7}]"


def load(tmp_path: Path, text: str) -> object:
    path = tmp_path / "bench.yaml"
    path.write_text(text)
    return load_cell(path)


def test_everything_is_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "bench.yaml").write_text(CELL)
    cell = load_cell(tmp_path / "bench.yaml")
    assert isinstance(cell.robot.config, ServoArmConfig)
    assert cell.robot.config.calibration == tmp_path / "arm.json"
    assert (cell.robot.config.bus.retries, cell.robot.config.bus.baud_rate) == (1, 1_000_000)
    assert cell.safety == SafetyConfig(max_jump=0.2)
    front = cell.cameras["front"].config
    assert isinstance(front, OpenCVCameraConfig)
    assert (front.name, front.rate_hz) == ("front", 30.0)
    assert cell.teleop is not None
    assert cell.teleop.config.keys == ("qa", "ws")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("port:", "prot:", "bench.yaml:5: robot.prot is an unknown key 'prot'; did you mean port?"),
        ("control_hz: 30", "control_hz: fast", "bench.yaml:2: control_hz is 'fast', expected a number"),
        ("control_hz: 30", "control_hz: -1", "bench.yaml:2: control_hz is -1, expected more than 0"),
        ("control_hz: 30", "control_hz: .nan", "bench.yaml:2: control_hz is nan, expected a number"),
        ("  port: /dev/arm\n", "", "bench.yaml:3: robot lacks port"),
        ("name: bench\n", "", "bench.yaml: the cell lacks name"),
        ("driver: servo_arm", "driver: servoarm", "names an unknown driver 'servoarm'; did you mean servo_arm?"),
        ("driver: opencv", "driver: opencv2", "bench.yaml:11: cameras.front.driver names an unknown driver 'opencv2'"),
        ("driver: keyboard", "keys: []", "bench.yaml:15: teleop.keys is given twice; keep one"),
        ("  driver: keyboard\n", "", "bench.yaml:13: teleop has no driver; expected one of combined, gamepad"),
        ("height: 480", "height: 480.5", "bench.yaml:11: cameras.front.height is 480.5, expected a whole number"),
        ("retries: 1", "retries: true", "bench.yaml:7: robot.bus.retries is True, expected a whole number"),
        ("max_jump: 0.2", "max_jump: -1", "bench.yaml:8: safety safety max_jump is -1.0, expected"),
        ("max_jump: 0.2", "max_jumps: 1", "bench.yaml:9: safety.max_jumps is an unknown key 'max_jumps'"),
        ("keys: [qa, ws]", "keys: qa", "bench.yaml:15: teleop.keys is 'qa', expected a list"),
        ("keys: [qa, ws]", "keys: [qa, 3]", "bench.yaml:15: teleop.keys[1] is 3, expected text"),
        ("cameras:", "cameras: 3\nother:", "bench.yaml:11: other is an unknown key 'other'"),
        ("name: bench", "name: [", "bench.yaml is not YAML"),
        ("name: bench", "name: 2001-99-99", "bench.yaml is not YAML: month must be in 1..12"),
        ("name: bench", "name: &a [*a]", "bench.yaml is not YAML: it holds over"),
        ("name: bench", f"name: {BOMB}", "bench.yaml is not YAML: it holds over"),
        ("driver: video, path: wrist.mp4", "driver: [1]", "cameras.wrist.driver is [1], expected text"),
        ("rate_hz: 30", "rate_hz: 0", "bench.yaml:11: cameras.front rate_hz is 0, expected more than 0"),
        ("path: wrist.mp4", "path: wrist.mp4, rate_hz: -3", "bench.yaml:12: cameras.wrist rate_hz is -3,"),
        ("rate_hz: 30", "rate_hz: 30, fourcc: MJPEG", "cameras.front fourcc is 'MJPEG', expected four letters"),
        ("driver: video, path: wrist.mp4", "driver: opencv, device: /dev/../dev/front, height: 1, width: 1, rate_hz: 1",
         "bench.yaml:12: cameras.wrist.device is /dev/../dev/front, which cameras.front.device is already; give each"),
        ("driver: keyboard\n  keys: [qa, ws]", "driver: leader_arm\n  arm: {port: /dev/arm, calibration: a.json}",
         "bench.yaml:15: teleop.arm.port is /dev/arm, which robot.port is already"),
        ("keys: [qa, ws]", "speed_rad_s: 100", "bench.yaml:13: teleop speed_rad_s is 100, expected above 0 and"),
        ("driver: keyboard\n  keys: [qa, ws]", "driver: gamepad\n  arm: {speed_m_s: 150}", "speed_m_s is 150"),
        ("driver: keyboard\n  keys: [qa, ws]", "driver: gamepad\n  mapping: {dead_zone: 1}", "dead_zone is 1,"),
        ("max_jump: 0.2", "max_jump: 0.2\nobjects: {a: {tag: 99}}", "there is no tag 99; give a number from 0 to 49"),
        ("retries: 1", "baud_rate: 0", "bench.yaml:7: robot.bus baud_rate of the bus is 0, expected 1200 to 1e+07"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert CELL.count(old) == 1
    with pytest.raises(CellError) as caught:
        load(tmp_path, CELL.replace(old, new))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_in_a_file_is_no_file_again(tmp_path: Path) -> None:
    (tmp_path / "arm.yaml").write_text("arm.yaml")
    with pytest.raises(CellError, match=r"arm\.yaml: the device is 'arm\.yaml', expected keys and values"):
        load(tmp_path, "name: bench\ncontrol_hz: 30\nrobot: arm.yaml\n")


@pytest.mark.parametrize("text", ["", "[]", "3", "\x00", "name: bench"])
def test_a_file_that_is_no_cell(tmp_path: Path, text: str) -> None:
    with pytest.raises(CellError, match=r"bench\.yaml"):
        load(tmp_path, text)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CellError, match=r"no such file; name one, as hardware/cells/so101.yaml of the checkout is"):
        load_cell(tmp_path / "none.yaml")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(CELL)), st.integers(0, 12), st.text(alphabet=" :[]{},-\n&*!3.x\"'#", max_size=6))
def test_damage_is_an_error_of_ours_or_nothing(tmp_path: Path, at: int, gone: int, put: str) -> None:
    with contextlib.suppress(RobolearnError):
        load(tmp_path, CELL[:at] + put + CELL[at + gone :])


def test_the_cells_of_the_repository_load() -> None:
    cells = {path.stem: load_cell(path) for path in sorted((HARDWARE / "cells").glob("*.yaml"))}
    assert cells["so101"].name == "so101"
    assert cells["so101"].teleop is not None
    leader = cells["so101"].teleop.config
    assert isinstance(leader, LeaderArmConfig)
    assert leader.arm.calibration.resolve() == HARDWARE / "calibration" / "so101_leader.json"


def test_a_dry_run_of_the_stand_in_cell(tmp_path: Path) -> None:
    """The repository's stand-in cell on another port, with a video as its camera, under the safety filter."""
    write_video(tmp_path / "front.mp4", [np.full((48, 64, 3), 9, np.uint8)] * 10, 20.0, scale=1)
    text = (HARDWARE / "cells" / "so101_standin.yaml").read_text()
    text = text.replace("/tmp/robolearn-arm", str(tmp_path / "arm"))
    text = text.replace("/tmp/robolearn-front", str(tmp_path / "front")).replace("  wrist:", "  #")
    for folder in ("../../sim_assets", "../calibration", "../teleop"):
        text = text.replace(folder, str((HARDWARE / "cells" / folder).resolve()))
    path = tmp_path / "cell.yaml"
    path.write_text(text)
    cell = load_cell(path)
    with StandInBus("sts3215", path=tmp_path / "arm"):
        robot, cameras = cell.make_robot(), cell.make_cameras()
        assert isinstance(robot, ServoArm)
        assert isinstance(cameras["front"], VideoCamera)
        robot.connect()
        cameras["front"].connect()
        state = robot.read()
        safety = cell.make_safety(robot.spec)
        safety.reset(state)
        decision = safety.filter(state.joint_position + np.float32(0.05), state.stamp_ns, state.stamp_ns)
        assert not decision.held
        robot.write(decision.command)
        assert cameras["front"].read().image.shape == (48, 64, 3)
        robot.close()
    assert isinstance(robot.calibration, Calibration)
