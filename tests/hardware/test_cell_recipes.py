"""Checking, calibrating and setting up a cell of stand-ins; the person at the bench is a thread or a function."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from robolearn.cameras.calibration import CameraCalibration
from robolearn.cameras.charuco import BoardConfig
from robolearn.cameras.fake import FakeCamera
from robolearn.cameras.standin import write_videos
from robolearn.cell import Cell, load_cell, stop_file
from robolearn.cli import run
from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import HardwareError, RobolearnError, SpecError
from robolearn.recipes import calibrate, cell_check, find
from robolearn.recipes.calibrate import calibrate_joints, calibrate_lens, calibrate_place, joint_setups, positive_sides
from robolearn.recipes.cell_check import _check_camera, check_cell
from robolearn.recipes.doctor import Check
from robolearn.recipes.find import Found, describe_motors, find_cameras, find_controls, with_names
from robolearn.recipes.finetune.cells import make_cell
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.robots import servo_setup
from robolearn.robots.calibration import Calibration
from robolearn.robots.servo_arm import MODELS, ServoArm, ServoArmConfig
from robolearn.robots.servo_bus import ServoBus
from robolearn.robots.servo_setup import set_up_motor
from robolearn.robots.standin import StandInBus
from robolearn.specs import CameraSpec, InterfaceSpec
from robolearn.types import EpisodeOutcome, Frame, RobotState

from .boards import CAMERA, TRUTH, H, W, arm_poses, photograph, pictures
from .conftest import JOINTS, PATIENT

ROOT = Path(__file__).parents[2]
BUSY_S = 0.3  # to wait for an answer, on a machine that may be busy
BUSY = replace(PATIENT, answer_timeout_s=BUSY_S)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has hands to wait for, and the motors have low ids."""
    monkeypatch.setattr(calibrate, "SAMPLE_S", 0.005)
    monkeypatch.setattr(cell_check, "READS", 40)
    monkeypatch.setattr(servo_setup, "SEARCHED_IDS", range(4))
    monkeypatch.setattr(find, "PROBED_IDS", (1, 2, 5))


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    path = tmp_path / "cells" / "cell.yaml"
    path.parent.mkdir()
    write_videos([tmp_path / "front.mp4"], 1.0)
    path.write_text(
        "name: standin\ncontrol_hz: 50\n"
        f"robot: {{driver: servo_arm, name: so101, port: {tmp_path}/arm, bus: {{answer_timeout_s: 0.1}},\n"
        f"  calibration: {ROOT}/hardware/calibration/so101_standin.json}}\n"
        "safety: {max_acceleration: 20, max_command_age_s: 0.2}\n"
        f"cameras: {{front: {{driver: video, path: {tmp_path}/front.mp4}}}}\n"
        "teleop: {driver: keyboard}\n",
        encoding="utf-8",
    )
    return path


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_a_sound_cell_passes_and_its_latency_is_measured(cell: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with StandInBus("sts3215", path=cell.parent.parent / "arm") as bus:
        before = bus.motors[6].encoder
        cell.write_text(cell.read_text().replace("safety: {", "safety: {max_state_age_s: 0.1, "))
        checks = by_name(check_cell(cell, move=True, seconds=0.5))
        names = ["file", "robot", "voltage", "temperature", "bus", "position", "motion", "camera front"]
        assert list(checks) == [*names, "teleop keyboard"]
        for name in set(names) - {"bus", "camera front"}:  # whose rates a busy machine may miss
            assert checks[name].ok, checks[name]
        assert "ms after the command" in checks["motion"].found
        assert bus.motors[6].encoder == pytest.approx(before, abs=20)  # it came back
        assert run(["cell", "check", str(cell), "--json", "--pictures", str(cell.parent / "seen")]) in (0, 1)
    assert cv2.imread(str(cell.parent / "seen" / "front.png"))[0, 0].tolist() == pytest.approx([150, 110, 60], abs=8)
    answer = json.loads(capsys.readouterr().out)
    assert {check["name"] for check in answer["checks"]} >= {"robot", "voltage", "motion"}


def test_an_arm_is_parked(cell: Path) -> None:
    with StandInBus("sts3215", path=cell.parent.parent / "arm") as bus:
        with pytest.raises(HardwareError, match="rest_rad"):
            run(["cell", "park", str(cell)])
        cell.write_text(cell.read_text().replace("name: so101,", "name: so101, rest_rad: [0, -0.3, 0.3, 0.2, 0, 0],"))
        cell.write_text(cell.read_text().replace("max_command_age_s: 0.2", "max_command_age_s: 2.0"))
        assert run(["cell", "park", str(cell), "--speed-rad-s", "1.0"]) == 0
        assert not any(motor.get("torque") for motor in bus.motors.values())
        assert bus.motors[2].encoder == pytest.approx(2048 - 0.3 * 4096 / (2 * np.pi), abs=70)


def test_an_arm_that_somebody_has_stopped_is_moved_by_no_program(cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cell, "make_robot", lambda *_: pytest.fail("nothing is to be opened"))
    stop_file(cell).write_text("emergency stop\n")
    tries = [
        lambda: run(["cell", "park", str(cell)]),
        lambda: check_cell(cell, move=True),
        lambda: make_cell(FinetuneConfig("push-v1", cell=str(cell)), cell.parent, {}),
    ]
    for attempt in tries:
        with pytest.raises(HardwareError, match=r"was stopped \(emergency stop\); see .* delete .*cell\.stopped"):
            attempt()


@pytest.mark.parametrize("changes", [{"unit": "deg"}, {"joint_names": tuple("abcdef")}])
def test_an_episode_of_another_unit_or_arm_is_not_replayed(cell: Path, changes: dict[str, Any]) -> None:
    robot = replace(load_cell(cell).make_robot().spec, **changes)
    interface = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, 50.0)
    rest = np.zeros(6, np.float32)
    with ZarrStore.create(cell.parent / "other.zarr", DatasetSpec(robot, interface)).writer() as writer:
        writer.begin(EpisodeMeta("", ""))
        row = {"proprio": np.zeros(12, np.float32), "action": rest, "action_sent": rest}
        writer.append({**row, "action_source": 0, "held": False}, dict.fromkeys(row, 0))
        writer.commit(EpisodeOutcome(True, True, False))
    with pytest.raises(SpecError, match="replay what was recorded of such a robot"):
        run(["replay", str(cell.parent / "other.zarr"), "--on", str(cell)])


def test_what_is_wrong_is_told_with_its_remedy(cell: Path) -> None:
    with StandInBus("sts3215", path=cell.parent.parent / "arm") as bus:
        bus.motors[3].temperature_c = 55
        bus.motors[5].volts = 10.9
        bus.motors[2].encoder = 2048 - 1150  # 1.76 rad from the middle: just outside
        cell.write_text(cell.read_text().replace("front.mp4", "none.mp4"))
        checks = by_name(check_cell(cell, seconds=0.2))
        assert checks["temperature"].remedy.startswith("let elbow_flex cool")
        assert "before wrist_roll" in checks["voltage"].remedy
        assert checks["position"].remedy.startswith("move shoulder_lift inside")
        assert not checks["cameras"].ok
        assert "none.mp4" in checks["cameras"].found
        assert checks["motion"].required is False
        bus.motors[4].present = False
        checks = by_name(check_cell(cell, seconds=0.2))
        assert not checks["robot"].ok
        assert "wrist_flex (id 4)" in checks["robot"].found
        assert "check cables" in checks["robot"].remedy


def test_joints_are_calibrated_by_a_person_who_moves_them(tmp_path: Path, kind: str) -> None:
    middles = np.array([3900.0, 150.0, 2048.0, 1000.0, 3000.0, 4000.0])
    shown: list[str] = []
    outages: list[str] = []
    with StandInBus(kind, path=tmp_path / "arm") as bus:

        def show(text: str) -> None:
            if text.startswith(("Not heard", "Heard again")):
                outages.append(text)
                bus.plug_in()
            else:
                shown.append(text)

        def place(encoders: np.ndarray) -> None:
            for motor, encoder in zip(bus.motors.values(), encoders, strict=True):
                motor.encoder = float(encoder)

        pending: list[np.ndarray] = []  # poses to go through before Enter is pressed
        handled, waited = 0, 0

        def confirmed() -> bool:
            """Called once a sample: do what the newest prompt says, then press Enter."""
            nonlocal handled, waited
            if len(shown) > handled:
                handled, waited = len(shown), 0
                prompt = shown[-1]
                if "from one end" in prompt:
                    shares = np.concatenate([np.linspace(0, 1, 6), np.linspace(1, -1, 10)])
                    pending.extend(middles + 900 * share for share in shares)
                elif "Move only" in prompt:
                    if not outages:
                        bus.pull_cable()
                    moved = np.array([name in prompt for name in JOINTS])
                    pending.append(middles + np.where(moved, 250, 0))
                else:
                    pending.append(middles)
            if pending:
                place(pending.pop(0))
                return False
            waited += 1
            return waited == 12

        place(middles)
        config = ServoArmConfig(bus.port, tmp_path / "new" / "arm.json", bus=BUSY)
        found = calibrate_joints(config, kind, joint_setups(JOINTS, {}), show, confirmed)
    assert re.match("Not heard: lost .*arm .*What was done is kept", outages[0])
    assert outages[1:] == ["Heard again, go on."]
    assert Calibration.load(config.calibration) == found
    for joint in found.joints:
        assert joint.direction == 1
        assert (joint.low_rad, joint.high_rad) == pytest.approx(
            (-900 * 2 * np.pi / 4096, 900 * 2 * np.pi / 4096), abs=0.01
        )


class Photos:
    """A camera whose pictures a test takes; None: it is silent."""

    spec = CameraSpec("front", H, W, 30.0)

    def __init__(self, images: list[np.ndarray | None]) -> None:
        self.images = list(images)

    def connect(self) -> None: ...
    def close(self) -> None: ...
    def read(self) -> Frame:
        image = self.images.pop(0)
        if image is None:
            raise HardwareError("camera front is silent")
        return Frame(image, 0)


def always() -> bool:
    return True


def test_a_lens_and_a_place_are_calibrated_and_bad_views_are_asked_for_again(tmp_path: Path) -> None:
    path, shown = tmp_path / "calibration" / "cell_front.json", list[str]()
    blank = np.full((H, W, 3), 90, np.uint8)
    camera = Photos([blank, *pictures()[:5], None, pictures()[4], *pictures()[5:]])
    found = calibrate_lens(camera, path, BoardConfig(), 8, shown.append, always)
    assert found.intrinsics.residual_px < 0.4
    assert sum("Not this one" in line for line in shown) == 2
    assert any("camera front is silent. What was done is kept" in line for line in shown)
    assert path.with_suffix(".png").stat().st_size > 10_000

    tools, boards, truth = arm_poses("eye_in_hand", 8)
    CameraCalibration("front", TRUTH).save(path)
    poses = iter(tools)
    photos = Photos([photograph(board, i) for i, board in enumerate(boards)])
    args = (photos, "eye_in_hand", path, BoardConfig(), 8, lambda: next(poses), shown.append, always)
    placed = calibrate_place(*args)  # type: ignore[arg-type]
    assert placed.extrinsics is not None
    np.testing.assert_allclose(placed.extrinsics.T_parent_camera, truth, atol=0.006)
    np.testing.assert_array_equal(truth, CAMERA)
    again = CameraCalibration.load(path)
    assert again.extrinsics is not None
    assert again.intrinsics.matrix.tolist() == TRUTH.matrix.tolist()


def test_a_calibration_that_could_not_be_kept_is_refused_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "full").write_text("no folder")
    path, shown = tmp_path / "full" / "arm.json", list[str]()
    with pytest.raises(HardwareError, match=r"cannot write .*arm\.json"):
        calibrate_joints(ServoArmConfig("none", path), "sts3215", joint_setups(JOINTS, {}), shown.append, always)
    with pytest.raises(HardwareError, match=r"cannot write .*arm\.json"):
        calibrate_lens(Photos([]), path, BoardConfig(), 8, shown.append, always)
    assert not shown


def test_a_port_that_another_process_holds_is_not_one_without_motors(tmp_path: Path) -> None:
    with StandInBus("sts3215", path=tmp_path / "arm") as bus:
        port = ServoBus(bus.port, MODELS["sts3215"].protocol, BUSY, {})
        port.open()
        assert "another process holds it" in describe_motors(bus.port)
        port.close()
        assert describe_motors(bus.port, 0.1).startswith("sts3215 motors 1, 2")


def test_a_place_wants_the_lens_first(tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="intrinsics first"):
        calibrate_place(
            Photos([]), "eye_in_hand", tmp_path / "a.json", BoardConfig(), 8, lambda: np.eye(4), print, always
        )


@pytest.mark.parametrize("rate", [1_000_000, 57_600])
def test_a_new_motor_gets_its_id_and_rate(kind: str, rate: int) -> None:
    model = MODELS[kind]
    with StandInBus(kind, [1]) as bus:
        bus.motors[1].stored[:] = bus.motors[1].memory
        assert set_up_motor(bus.port, model, 5, rate, 1, BUSY_S) == (1, 1_000_000)
        bus.motors[1].restart()  # it was stored
        port = ServoBus(bus.port, model.protocol, replace(BUSY, baud_rate=rate), {})
        port.open()
        assert port.ping(5)
        assert not port.ping(1)
        port.close()
        assert set_up_motor(bus.port, model, 2, 1_000_000, 5, BUSY_S) == (5, rate)


def test_set_up_wants_one_motor_and_numbers_that_exist(kind: str) -> None:
    with StandInBus(kind, [1, 2]) as bus:
        with pytest.raises(HardwareError, match="2 motors answer"):
            set_up_motor(bus.port, MODELS[kind], 5, 1_000_000, patience_s=0.1)
        with pytest.raises(HardwareError, match=r"is id 2 already, and two of one id answer at once; unplug it"):
            set_up_motor(bus.port, MODELS[kind], 2, 1_000_000, 1, BUSY_S)
        bus.motors[2].set("torque", 1)
        with pytest.raises(HardwareError, match=r"motor \(id 2\) on .* holds with its torque on"):
            set_up_motor(bus.port, MODELS[kind], 5, 1_000_000, 2, BUSY_S)
        assert [motor.get("id") for motor in bus.motors.values()] == [1, 2]
        bus.motors[2].set("torque", 0)
        assert set_up_motor(bus.port, MODELS[kind], 5, 1_000_000, 2, BUSY_S) == (2, 1_000_000)
        assert f"{kind} motors 1, 5 at 1000000 baud" in describe_motors(bus.port, 0.1)
        for new_id, rate in ((0, 1_000_000), (5, 12)):
            with pytest.raises(HardwareError, match="expected an id of 1 to 252"):
                set_up_motor(bus.port, MODELS[kind], new_id, rate)
        for motor in bus.motors.values():
            motor.present = False
        with pytest.raises(HardwareError, match=r"no .* answers"):
            set_up_motor(bus.port, MODELS[kind], 5, 1_000_000, old_id=1)


def test_a_camera_is_checked_for_the_depth_that_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[Check] = []
    camera = FakeCamera(CameraSpec("front", 4, 10, 100.0, depth=True))
    _check_camera(checks, "cameras.front", camera, 0.05, None)
    assert checks[-1].found.endswith(", depth of 90% of the picture")
    assert "depth" not in checks[-1].remedy
    monkeypatch.setattr(camera, "_depth", lambda: np.zeros((4, 10), np.uint16))
    _check_camera(checks, "cameras.front", camera, 0.05, None)
    assert "it measures no depth" in checks[-1].remedy
    assert not checks[-1].ok


def test_cameras_and_controls_are_found_by_what_the_kernel_says(tmp_path: Path) -> None:
    for name, index in (("video0", "0"), ("video1", "1")):
        (tmp_path / "v4l" / name).mkdir(parents=True)
        (tmp_path / "v4l" / name / "index").write_text(index)
        (tmp_path / "v4l" / name / "name").write_text("A camera\n")
    assert [(c.device, c.description) for c in find_cameras(tmp_path / "v4l")] == [("/dev/video0", "A camera")]
    assert find_cameras(tmp_path / "none") == []
    (tmp_path / "input" / "js0" / "device").mkdir(parents=True)
    (tmp_path / "input" / "js0" / "device" / "name").write_text("Xbox pad\n")
    for name, facts in (
        ("hidraw0", "HID_NAME=A keyboard\n"),
        ("hidraw3", "HID_ID=0003:0000256F:0000C635\nHID_NAME=Cap\n"),
    ):
        (tmp_path / "hidraw" / name / "device").mkdir(parents=True)
        (tmp_path / "hidraw" / name / "device" / "uevent").write_text(facts)
    found = find_controls(tmp_path)
    assert [(c.device, c.description) for c in found] == [("/dev/input/js0", "Xbox pad"), ("/dev/hidraw3", "Cap")]


def test_which_side_of_a_joint_is_positive_is_seen_at_the_tool() -> None:
    words = positive_sides(ROOT / "sim_assets/robots/so101/so101.xml", JOINTS)
    down = "so that the tool goes down"
    roll = "anticlockwise, seen from behind the arm"
    assert list(words.values()) == ["so that the tool goes to the right", down, down, down, roll, "open"]
    setups = joint_setups(JOINTS, words)
    assert setups[0].positive == "so that the tool goes to the right"
    assert joint_setups(["rail"], words)[0].positive == "towards its positive side"
    with pytest.raises(SpecError, match="no joint rail"):
        positive_sides(ROOT / "sim_assets/robots/so101/so101.xml", ["rail"])


def test_devices_that_are_alike_go_by_their_usb_ports(tmp_path: Path) -> None:
    """Two cameras of one kind without a serial number have one name by id, which the last one has taken."""
    for folder, link, device in (
        ("by-id", "cheap", "b"), ("by-path", "usb-1", "a"), ("by-path", "usb-2", "b"),
        ("by-id", "good-123", "c"), ("by-path", "usb-3", "c"),
    ):  # fmt: skip
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / device).touch()
        (tmp_path / folder / link).symlink_to(tmp_path / device)
    found = [
        Found(str(tmp_path / device), "", kind) for device, kind in (("a", "cheap"), ("b", "cheap"), ("c", "good"))
    ]
    steady = [Path(device.steady).relative_to(tmp_path) for device in with_names(found, tmp_path)]
    assert [str(name) for name in steady] == ["by-path/usb-1", "by-path/usb-2", "by-id/good-123"]


def test_a_motor_that_falls_silent_meanwhile_is_named_and_nothing_is_moved(
    cell: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StandInBus("sts3215", path=cell.parent.parent / "arm") as bus:
        read, seen = ServoArm.read, []

        def then_silent(arm: ServoArm) -> RobotState:
            seen.append(read(arm))
            bus.motors[3].present = len(seen) < 10
            return seen[-1]

        monkeypatch.setattr(ServoArm, "read", then_silent)
        cell.write_text(cell.read_text().replace("answer_timeout_s: 0.1", "answer_timeout_s: 0.02"))
        checks = by_name(check_cell(cell, move=True, seconds=0.1))
    assert "5 reads failed: no answer from elbow_flex (id 3)" in checks["bus"].found
    assert not {"motion", "position"} & checks.keys()
    assert "camera front" in checks


def test_a_name_that_may_change_is_noted(cell: Path) -> None:
    cell.write_text(cell.read_text().replace(f"{cell.parent.parent}/arm", "/dev/ttyACM9"))
    noted = by_name(check_cell(cell, seconds=0.1))["robot.port"]
    assert noted.found.startswith("/dev/ttyACM9 may be another device")
    assert not noted.required


def test_commands_answer_in_one_line(tmp_path: Path, cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["cell", "board", str(tmp_path / "board.png")]) == 0
    assert (tmp_path / "board.png").stat().st_size > 1000
    for what in ("ports", "cameras", "controls"):
        assert run(["cell", "find", what, "--json"]) == 0
    bare, out = cell.with_name("bare.yaml"), tmp_path / "a.zarr"
    bare.write_text(cell.read_text(encoding="utf-8").partition("teleop:")[0], encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    wrong: list[tuple[list[str], str]] = [
        (["cell", "calibrate", str(cell), "--camera", "back"], "has no camera 'back'; it has front"),
        (["cell", "calibrate", str(cell), "--leader"], "no leader arm of servo motors"),
        (
            ["cell", "calibrate", str(cell), "--place", "eye_in_hand"],
            "--place does nothing for joints, and no --camera",
        ),
        (["cell", "calibrate", str(cell), "--leader", "--camera", "front"], "--leader does nothing for a camera"),
        (["cell", "motor", "/dev/none", "--id", "3"], "cannot open /dev/none"),
        (["cell", "motor", "/dev/none", "--id", "3", "--model", "x"], "no servo model 'x'"),
        (["record", "--out", "a.zarr"], "either --cell FILE or --twin TASK"),
        (["record", "--twin", "reach-v1", "--out", str(out)], "the keyboard needs a terminal"),
        (
            ["record", "--twin", "reach-v1", "--task", "wave", "--out", str(out)],
            "--task does nothing for the twin, whose",
        ),
        (
            ["record", "--twin", "reach-v1", "--terminal", "/dev/pts/3", "--web-port", "1", "--out", str(out)],
            "--web-port does nothing for who records without --web; leave it out",
        ),
        (["record", "--cell", str(bare), "--out", str(out)], "has no teleop; add one to it, or name one"),
    ]
    for words, message in wrong:
        with pytest.raises(RobolearnError, match=re.escape(message)):
            run(words)
    assert not out.exists()
