"""Calibration: its numbers, its file, and the guided routine, also on stand-in motors that are turned by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import HardwareError
from robolearn.robots.calibration import Calibration, JointCalibration
from robolearn.robots.calibration_routine import CalibrationRoutine, JointSetup, RoutineConfig, Step
from robolearn.robots.dynamixel import DYNAMIXEL_X
from robolearn.robots.feetech import STS3215
from robolearn.robots.servo_arm import MODELS, ServoArm, ServoArmConfig
from robolearn.robots.servo_bus import ServoBus
from robolearn.robots.servo_setup import begin_calibration, read_positions, store_homing
from robolearn.robots.standin import StandInBus

from .conftest import JOINTS, PATIENT, calibration_of

TICKS_PER_RAD = 4096 / (2 * np.pi)
SETUP = (JointSetup("lift", 1, reference_rad=0.2), JointSetup("turn", 2, positive="to the left"))


# The numbers and the file


@given(st.lists(st.integers(-5000, 9000), min_size=6, max_size=6))
def test_ticks_come_back_from_angles(ticks: list[int]) -> None:
    calibration = calibration_of("sts3215")
    np.testing.assert_array_equal(calibration.to_ticks(calibration.to_rad(ticks)), ticks)


def test_directions_turn_angle_and_speed() -> None:
    calibration = calibration_of("sts3215")
    ahead = calibration.to_rad([2048 + 10 * i + 1024 for i in range(6)])
    np.testing.assert_allclose(ahead, np.array([1, -1, 1, 1, -1, 1]) * np.pi / 2)
    assert np.sign(calibration.to_rad_s(np.full(6, 10))).tolist() == [1, -1, 1, 1, -1, 1]


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    calibration = calibration_of("dynamixel_x")
    calibration.save(tmp_path / "new" / "arm.json")
    assert Calibration.load(tmp_path / "new" / "arm.json") == calibration
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["arm.json"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "robolearn-servo-calibration-0"}, "has the format 'robolearn-servo-calibration-0', expected"),
        ({"joints": []}, "each name and id must occur once"),
        ({"joints": [{"name": "a"}]}, "is damaged"),
        ({"residual_rad": "x"}, "is damaged"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    path = tmp_path / "arm.json"
    calibration_of("sts3215").save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(HardwareError, match=words):
        Calibration.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "arm.json").write_text(text)
    with pytest.raises(HardwareError, match=r"arm.json"):
        Calibration.load(tmp_path / "arm.json")


@pytest.mark.parametrize(
    "change", [{"direction": 0}, {"low_rad": 1.0, "high_rad": -1.0}, {"high_rad": float("nan")}, {"zero_ticks": 1.5}]
)
def test_a_joint_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "arm.json"
    calibration_of("sts3215").save(path)
    data = json.loads(path.read_text())
    data["joints"][2].update(change)
    path.write_text(json.dumps(data))
    with pytest.raises(HardwareError, match="elbow_flex"):
        Calibration.load(path)


# The guided routine, step by step


class Hands:
    """Somebody who moves the joints of a routine: encoders (J,) as ticks."""

    def __init__(self, routine: CalibrationRoutine, start: tuple[float, ...]) -> None:
        self.routine = routine
        self.encoder = np.array(start, float)

    @property
    def shown(self) -> np.ndarray:
        return np.rint(self.encoder - self.routine.homing_ticks).astype(int) % 4096

    def hold(self, *ticks: float) -> str:
        """Stand still at these encoder positions, then confirm."""
        self.encoder = np.array(ticks, float)
        for _ in range(12):
            self.routine.feed(self.shown)
        return self.routine.confirm()

    def sweep(self, low: tuple[float, ...], high: tuple[float, ...]) -> str:
        for share in np.concatenate([np.linspace(0, 1, 80), np.linspace(1, 0, 80)]):
            self.encoder = np.array(low) + share * (np.array(high) - np.array(low))
            self.routine.feed(self.shown)
        return self.routine.confirm()


def at_sweep(start: tuple[float, ...] = (3900.0, 1000.0)) -> Hands:
    hands = Hands(CalibrationRoutine(STS3215, SETUP), start)
    assert hands.hold(*start) == ""
    return hands


def at_direction() -> Hands:
    hands = at_sweep()
    assert hands.sweep((3000, 300), (4800, 1700)) == ""
    assert hands.hold(3800, 1100) == ""
    return hands


def test_the_whole_way() -> None:
    hands = at_direction()
    assert "Move only lift" in hands.routine.prompt
    assert hands.hold(3600, 1100) == ""  # backwards: lift counts the other way
    assert "Move only turn a little to the left" in hands.routine.prompt
    assert hands.hold(3800, 1300) == ""
    assert hands.routine.step is Step.CHECK
    assert hands.hold(3805, 1097) == ""
    calibration = hands.routine.result()
    lift, turn = calibration.joints
    assert (lift.direction, turn.direction) == (-1, 1)
    assert (lift.homing_ticks, turn.homing_ticks) == (3900 - 2048, 1000 - 2048)
    shown = np.array([3800 - lift.homing_ticks, 1100 - turn.homing_ticks])
    np.testing.assert_allclose(calibration.to_rad(shown), [0.2, 0.0], atol=0.001)
    assert turn.low_rad == pytest.approx((300 - 1100) / TICKS_PER_RAD, abs=0.002)
    assert turn.high_rad == pytest.approx((1700 - 1100) / TICKS_PER_RAD, abs=0.002)
    assert lift.low_rad == pytest.approx(0.2 - (4800 - 3800) / TICKS_PER_RAD, abs=0.002)
    assert calibration.residual_rad == pytest.approx(5 / TICKS_PER_RAD, abs=1e-6)
    assert hands.routine.confirm() == "the calibration is finished"


def test_nothing_is_confirmed_without_samples_or_while_moving() -> None:
    routine = CalibrationRoutine(STS3215, SETUP)
    assert "only 0 of 10 samples" in routine.confirm()
    for i in range(12):
        routine.feed([2000 + 20 * i, 1000])
    assert routine.confirm() == "lift was still moving; hold it still"
    assert routine.step is Step.MIDDLE


def test_a_middle_on_the_seam_is_no_motion() -> None:
    """As of a new motor that stands where it was put together."""
    hands = Hands(CalibrationRoutine(STS3215, SETUP), (0.0, 1000.0))
    for i in range(12):
        hands.encoder = np.array([-(i % 2), 1000.0])
        hands.routine.feed(hands.shown)
    assert hands.routine.confirm() == ""
    assert hands.routine.homing_ticks.tolist() in ([-2047, -1048], [2047, -1048])
    assert hands.sweep((-900, 300), (900, 1700)) == ""


def test_a_joint_that_was_not_swept_is_named() -> None:
    hands = at_sweep()
    assert "moved too little: turn 0.06 rad" in hands.sweep((3000, 1000), (4800, 1040))
    assert hands.sweep((3000, 300), (4800, 1700)) == ""


def test_a_seam_inside_the_range_starts_over() -> None:
    hands = at_sweep((3900.0, 1000.0))
    assert "lift passed the encoder's seam" in hands.sweep((1700, 300), (4800, 1700))
    assert hands.routine.step is Step.MIDDLE
    assert hands.hold(3250, 1000) == ""
    assert hands.sweep((1700, 300), (4800, 1700)) == ""


def test_a_joint_that_was_swept_through_more_than_a_turn_starts_over() -> None:
    """Before the old file has given way to one that no driver takes."""
    routine = CalibrationRoutine(DYNAMIXEL_X, SETUP)
    for _ in range(12):
        routine.feed([2000, 1000])
    assert routine.confirm() == ""
    for lift in (*range(0, 4300, 100), *range(4300, 2000, -100)):
        routine.feed([lift, lift // 4])
    assert "lift was swept through 6.60 rad, at most a turn" in routine.confirm()
    assert routine.step is Step.MIDDLE


def test_a_reference_outside_the_sweep_is_refused() -> None:
    hands = at_sweep()
    assert hands.sweep((3000, 300), (4800, 1700)) == ""
    assert "turn stands outside the range that was swept" in hands.hold(3800, 1900)


def test_the_wrong_joint_is_noticed() -> None:
    hands = at_direction()
    assert "lift moved 0.00 rad, expected at least" in hands.hold(3800, 1300)
    assert "turn moved too" in hands.hold(3600, 1300)
    assert hands.hold(3600, 1100) == ""


def test_a_reference_that_does_not_come_back_is_refused() -> None:
    hands = at_direction()
    assert hands.hold(3600, 1100) == ""
    assert hands.hold(3800, 1300) == ""
    assert "turn is 0.123 rad from where it was" in hands.hold(3800, 1180)
    with pytest.raises(HardwareError, match="at its step 'check'"):
        hands.routine.result()


def test_samples_of_another_arm_are_refused() -> None:
    with pytest.raises(HardwareError, match=r"\(3,\) positions, expected \(2,\)"):
        CalibrationRoutine(STS3215, SETUP).feed([1, 2, 3])


@given(
    st.lists(
        st.one_of(st.none(), st.tuples(st.integers(0, 4095), st.integers(0, 4095)).map(list)), min_size=1, max_size=60
    )
)
def test_no_sequence_of_samples_and_confirmations_breaks_it(events: list[list[int] | None]) -> None:
    routine = CalibrationRoutine(DYNAMIXEL_X, SETUP, config=RoutineConfig(still_samples=2))
    for event in events:
        if event is None:
            step = routine.step
            wrong = routine.confirm()
            assert not wrong or routine.step in (step, Step.MIDDLE)
        else:
            routine.feed(event)
    if routine.step is Step.DONE:
        assert routine.result().residual_rad <= 0.05


# On motors


def test_calibrates_stand_in_motors_and_then_drives_them(bus: StandInBus, kind: str, tmp_path: Path) -> None:
    model, ids = MODELS[kind], list(bus.motors)
    port = ServoBus(bus.port, model.protocol, PATIENT, dict(zip(ids, JOINTS, strict=True)))
    port.open()
    middles = np.array([3900.0, 150.0, 2048.0, 1000.0, 3000.0, 4095.0])
    for motor in bus.motors.values():
        motor.set("torque", 1)

    def place(encoders: np.ndarray) -> None:
        for motor, encoder in zip(bus.motors.values(), encoders, strict=True):
            motor.encoder = float(encoder)

    def hold(encoders: np.ndarray) -> str:
        place(encoders)
        for _ in range(10):
            routine.feed(read_positions(port, model, ids))
        return routine.confirm()

    homing = begin_calibration(port, model, ids)
    routine = CalibrationRoutine(model, [JointSetup(n, i) for n, i in zip(JOINTS, ids, strict=True)], homing)
    assert hold(middles) == ""
    store_homing(port, model, dict(zip(ids, routine.homing_ticks.tolist(), strict=True)))
    for way in (900, -900):
        for share in np.linspace(0, 1, 15):
            place(middles + share * way)
            routine.feed(read_positions(port, model, ids))
    assert routine.confirm() == ""
    assert hold(middles) == ""
    for i in range(6):
        assert hold(middles + np.where(np.arange(6) == i, 250 * (-1) ** i, 0)) == ""
    assert hold(middles + 3) == ""
    port.close()
    path = tmp_path / "calibration.json"
    routine.result().save(path)

    for motor in bus.motors.values():
        motor.restart()  # what was stored outlives the power
    arm = ServoArm(ServoArmConfig(bus.port, path, command_timeout_s=5.0, bus=PATIENT))
    arm.connect()
    np.testing.assert_allclose(arm.read().joint_position, np.array([1, -1] * 3) * 3 / TICKS_PER_RAD, atol=0.002)
    np.testing.assert_allclose(arm.spec.position_high, 900 / TICKS_PER_RAD, atol=0.003)
    arm.close()


def test_homing_is_not_stored_while_the_motor_holds(bus: StandInBus, kind: str) -> None:
    model = MODELS[kind]
    if model.homing is None:
        pytest.skip("stores no offset")
    port = ServoBus(bus.port, model.protocol, PATIENT, {1: "lift"})
    port.open()
    bus.motors[1].set("torque", 1)
    with pytest.raises(HardwareError, match=r"lift \(id 1\) .* holds with its torque on"):
        store_homing(port, model, {1: 5})
    port.close()


def test_another_ticks_per_turn_is_another_calibration() -> None:
    half = replace(calibration_of("sts3215"), ticks_per_turn=2048)
    assert half.to_rad([2048 + 512] + [0] * 5)[0] == pytest.approx(np.pi / 2)
    assert isinstance(half.joints[0], JointCalibration)
