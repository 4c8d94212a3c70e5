"""Connecting to a servo arm of stand-in motors: what is found there, what is refused, and what to do about it."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from robolearn.errors import HardwareError
from robolearn.robots.calibration import Calibration, JointCalibration
from robolearn.robots.servo_arm import ServoArm, ServoArmConfig
from robolearn.robots.servo_bus import BusConfig
from robolearn.robots.standin import Motor, StandInBus

from .conftest import encoders

Make = Callable[..., ServoArm]


def test_only_one_driver_may_have_the_port(arm: ServoArm, make_arm: Make) -> None:
    with pytest.raises(HardwareError, match="another process holds it"):
        make_arm().connect()
    arm.close()
    make_arm().connect()


def test_a_port_that_is_not_there_says_what_to_do(make_arm: Make) -> None:
    with pytest.raises(HardwareError, match="there is no such port; plug the adapter in"):
        make_arm(port="/dev/robolearn-no-such-port").connect()


# What connect refuses


def test_a_motor_that_takes_its_time_at_power_up(make_arm: Make, bus: StandInBus) -> None:
    for motor in bus.motors.values():
        motor.present = False

    def power() -> None:
        for motor in bus.motors.values():
            motor.present = True

    timer = threading.Timer(0.4, power)
    timer.start()
    make_arm().connect()
    timer.join()


def test_a_missing_motor(make_arm: Make, bus: StandInBus) -> None:
    bus.motors[5].present = False
    with pytest.raises(HardwareError, match=r"no answer from wrist_roll \(id 5\) .*only from shoulder_pan"):
        make_arm().connect()


def test_an_arm_without_power(make_arm: Make, bus: StandInBus) -> None:
    for motor in bus.motors.values():
        motor.present = False
    with pytest.raises(HardwareError, match="is the arm's power on"):
        make_arm(bus=BusConfig(retries=0)).connect()


def test_a_motor_of_another_kind(make_arm: Make, bus: StandInBus) -> None:
    bus.motors[5].set("model", 29)
    with pytest.raises(HardwareError, match=r"wrist_roll \(id 5\) .* model number 29, expected"):
        make_arm().connect()


def test_a_motor_calibrated_elsewhere(make_arm: Make, bus: StandInBus, kind: str) -> None:
    if kind == "dynamixel_x":
        pytest.skip("stores no offset")
    bus.motors[2].set("homing", -77)
    with pytest.raises(HardwareError, match=r"shoulder_lift \(id 2\) .* stores the homing offset -77.* has 0"):
        make_arm().connect()


def test_a_joint_outside_its_calibrated_range(make_arm: Make, bus: StandInBus) -> None:
    bus.motors[2].encoder = 3400.0
    with pytest.raises(HardwareError, match=r"shoulder_lift \(id 2\) .* stands at -2.06 rad.*-1.50..1.50"):
        make_arm().connect()
    assert not bus.motors[2].get("torque")


def test_a_joint_a_little_outside_stays_there_until_it_is_told_otherwise(make_arm: Make, bus: StandInBus) -> None:
    bus.motors[1].encoder = 2048 + 1.6 / (2 * np.pi) * 4096  # the range ends at 1.5
    arm = make_arm()
    arm.connect()
    stands = bus.motors[1].encoder
    arm.write(arm.read().joint_position)
    time.sleep(0.1)
    assert encoders(bus)[0] == pytest.approx(stands, abs=2.0)


def test_settings_are_stored_once_and_never_from_under_a_holding_arm(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm()
    arm.connect()
    assert all(motor.wire.get(motor.stored, "delay") == 0 for motor in bus.motors.values())
    arm.close()
    bus.motors[2].set("delay", 20)
    with pytest.raises(HardwareError, match=r"shoulder_lift \(id 2\) .* holds with its torque on"):
        make_arm().connect()
    assert bus.motors[2].get("torque")


def test_an_arm_that_is_to_be_led_by_hand_and_holds_is_refused(make_arm: Make, bus: StandInBus) -> None:
    bus.motors[2].set("torque", 1)
    with pytest.raises(
        HardwareError, match=r"shoulder_lift \(id 2\) .* holds with its torque on, where limp was wanted"
    ):
        make_arm(torque=False).connect()
    assert bus.motors[2].get("torque")


def test_a_connect_that_fails_half_way_says_what_holds(
    make_arm: Make, bus: StandInBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Motor.store

    def unplugged_by_the_load(motor: Motor, address: int, data: bytes) -> int:
        motor.present = motor.motor_id != 3 or address != motor.wire.registers["torque"].address
        return store(motor, address, data) if motor.present else 0

    monkeypatch.setattr(Motor, "store", unplugged_by_the_load)
    with pytest.raises(
        HardwareError, match=r"elbow_flex .*support the arm: shoulder_pan \(id 1\), shoulder_lift \(id 2"
    ):
        make_arm(bus=BusConfig(answer_timeout_s=0.05, retries=0)).connect()


def test_a_connect_that_is_interrupted_half_way_says_what_holds(
    make_arm: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arm = make_arm()
    write, left = arm.bus.write, [8]

    def ctrl_c(*args: int) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("robolearn.robots.servo_arm.check_motors", lambda *args: None)
    monkeypatch.setattr(arm.bus, "write", ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        arm.connect()
    assert not arm.bus.is_open
    assert "support the arm: shoulder_pan (id 1)" in caplog.text


def test_a_motor_that_is_too_hot_takes_no_hold(make_arm: Make, bus: StandInBus) -> None:
    bus.motors[2].temperature_c = 66
    arm = make_arm()
    with pytest.raises(HardwareError, match=r"shoulder_lift \(id 2\) .* is at 66 C, at most 65: let it cool$"):
        arm.connect()
    assert not any(motor.get("torque") for motor in bus.motors.values())
    bus.motors[2].temperature_c = 60
    arm.connect()
    assert all(motor.get("torque") for motor in bus.motors.values())


def test_a_hot_arm_that_another_left_stiff_is_told_of_with_what_cools_it(make_arm: Make, bus: StandInBus) -> None:
    before = make_arm()
    before.connect()
    before.close()
    bus.motors[2].temperature_c = 66
    again = make_arm()
    with pytest.raises(HardwareError, match="holds with its torque on; support it, switch its power off and let it"):
        again.connect()


def test_connecting_anew_leaves_a_hot_arm_to_the_driver_that_holds_it(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm()
    arm.connect()
    bus.motors[2].temperature_c = 66
    for _ in range(2):
        with pytest.raises(HardwareError, match="is at 66 C, at most 65: the arm holds; let it cool"):
            arm.connect()
    bus.motors[2].temperature_c = 60
    arm.read()
    arm.write(np.zeros(6, np.float32))


def test_a_hot_arm_whose_cable_was_pulled_is_connected_anew(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm()
    arm.connect()
    bus.motors[2].temperature_c = 66
    with pytest.raises(HardwareError, match="is at 66 C"):
        arm.connect()
    bus.motors[2].temperature_c = 60
    bus.pull_cable()
    with pytest.raises(HardwareError, match="there is no such port"):
        arm.connect()
    bus.plug_in()
    arm.connect()
    arm.write(np.zeros(6, np.float32))


def test_an_arm_that_is_hot_and_half_limp_is_held_until_it_has_cooled(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm()
    arm.connect()
    bus.motors[2].temperature_c = 66
    bus.motors[3].restart()
    for _ in range(2):
        with pytest.raises(HardwareError, match="is at 66 C, at most 65: the arm holds; let it cool"):
            arm.connect()
    bus.motors[2].temperature_c = 60
    with pytest.raises(HardwareError, match=r"elbow_flex .* went limp .*; support the arm, then connect again"):
        arm.read()
    arm.connect()
    assert all(motor.get("torque") for motor in bus.motors.values())


def test_an_arm_that_is_led_by_hand_is_asked_once_a_read(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm(torque=False, health_period_s=1e-9)
    arm.connect()
    before = arm.bus.counts["exchanges"]
    arm.read()
    assert arm.bus.counts["exchanges"] == before + 1


def test_closing_says_whether_the_arm_stays_stiff(
    make_arm: Make, bus: StandInBus, caplog: pytest.LogCaptureFixture
) -> None:
    arm = make_arm()
    arm.close()
    arm.connect()
    arm.connect()
    assert "torque" not in caplog.text
    bus.pull_cable()
    with pytest.raises(HardwareError, match="lost"):
        arm.read()
    with pytest.raises(HardwareError, match="there is no such port"):
        arm.connect()
    bus.plug_in()
    bus.motors[2].temperature_c = 66
    with pytest.raises(HardwareError, match="is at 66 C"):
        arm.connect()
    bus.motors[2].temperature_c = 60
    arm.close()
    arm.close()
    assert caplog.text.count("with its torque on") == 1
    assert re.search(r"so101 on .* stays where it stands, with its torque on; .*cell park", caplog.text)
    caplog.clear()
    arm.connect()
    for motor in bus.motors.values():
        motor.restart()  # the power was gone
    arm._health_due_ns = 0
    with pytest.raises(HardwareError, match="went limp"):
        arm.read()
    arm.close()
    assert "torque on" not in caplog.text


def test_a_motor_that_reports_a_fault(make_arm: Make, bus: StandInBus) -> None:
    bus.motors[1].fault_bits = 0b100000
    with pytest.raises(HardwareError, match=r"shoulder_pan \(id 1\) .* reports overload"):
        make_arm().connect()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"max_speed_rad_s": 150.0}, "max_speed_rad_s is 150, expected above 0 and at most 20; is it in degrees"),
        ({"max_speed_rad_s": -1.0}, "max_speed_rad_s is -1"),
        ({"command_timeout_s": 0.0}, "command_timeout_s is 0"),
        ({"hold_tolerance_rad": -0.1}, "hold_tolerance_rad is -0.1"),
    ],
)
def test_settings_that_no_arm_can_have_are_refused(changes: dict[str, float], why: str) -> None:
    with pytest.raises(HardwareError, match=why):
        ServoArmConfig("port", Path("calibration.json"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ticks", "high", "why"),
    [(1024, 1.5, "1024 ticks in a turn"), (float("inf"), 1.5, "is damaged"), (4096, 5.0, "more than a turn")],
)
def test_a_calibration_that_no_motor_can_have_is_refused(tmp_path: Path, ticks: int, high: float, why: str) -> None:
    joint = JointCalibration("pan", 1, 2048, 1, -1.5, high)
    Calibration("sts3215", ticks, 0.0, (joint,)).save(tmp_path / "c.json")
    with pytest.raises(HardwareError, match=why):
        ServoArm(ServoArmConfig("port", tmp_path / "c.json"))


@pytest.mark.parametrize("changes", [{"baud_rate": 0}, {"answer_timeout_s": -1.0}, {"retries": -1}])
def test_a_bus_that_cannot_be_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(HardwareError, match=f"{next(iter(changes))} of the bus is .*, expected"):
        BusConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"motor_id": 300}, "pan has motor id 300, expected 0 to 252"),
        ({"zero_ticks": 600}, "pan has a range across the encoder's seam"),
        ({"zero_ticks": 10**12}, "pan has a range across the encoder's seam"),
    ],
)
def test_a_joint_that_no_encoder_can_follow_is_refused(tmp_path: Path, changes: dict[str, int], why: str) -> None:
    path = tmp_path / "c.json"
    Calibration("sts3215", 4096, 0.0, (JointCalibration("pan", 1, 2048, 1, -1.5, 1.5),)).save(path)
    data = json.loads(path.read_text())
    data["joints"][0] |= changes
    path.write_text(json.dumps(data))
    with pytest.raises(HardwareError, match=why):
        ServoArm(ServoArmConfig("port", path))


def test_a_calibration_that_is_missing(make_arm: Make, tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="robolearn cell calibrate"):
        make_arm(calibration=tmp_path / "none.json")
