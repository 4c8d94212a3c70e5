"""The servo arm driver against stand-in motors: control at 100 Hz, and every fault that a bench has."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from robolearn.errors import HardwareError, SpecError
from robolearn.robots.calibration import Calibration, JointCalibration
from robolearn.robots.moves import park
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.robots.servo_arm import ServoArm, ServoArmConfig
from robolearn.robots.servo_bus import BusConfig
from robolearn.robots.standin import Motor, StandInBus

from .conftest import DIRECTIONS, JOINTS, calibration_of

Make = Callable[..., ServoArm]


def ticks(at: float = 0.0) -> Iterator[int]:
    """100 Hz, by the clock."""
    start = time.monotonic()
    for step in range(1_000_000):
        yield step
        time.sleep(max(0.0, start + (step + 1) * 0.01 - time.monotonic()))


def run(arm: ServoArm, steps: int, target: float = 0.3) -> list[np.ndarray]:
    """A slow move of all joints; the positions that were read."""
    seen = []
    for step in ticks():
        if step == steps:
            return seen
        seen.append(arm.read().joint_position)
        arm.write(np.full(6, target * (step + 1) / steps, np.float32))
    return seen


def wait_until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def encoders(bus: StandInBus) -> np.ndarray:
    bus.settle()
    return np.array([motor.encoder for motor in bus.motors.values()])


def test_connecting_moves_nothing_and_takes_hold(make_arm: Make, bus: StandInBus) -> None:
    for motor in bus.motors.values():
        motor.encoder = 1900.0
    make_arm().connect()
    np.testing.assert_allclose(encoders(bus), 1900.0, atol=1.0)
    assert all(motor.get("torque") for motor in bus.motors.values())


def test_goes_where_it_is_told_at_100_hz(arm: ServoArm, bus: StandInBus) -> None:
    run(arm, 60)
    wait_until(lambda: bool(np.allclose(arm.read().joint_position, 0.3, atol=0.003)))
    wanted = 2048 + 10 * np.arange(6) + np.array(DIRECTIONS) * 0.3 / (2 * np.pi) * 4096
    np.testing.assert_allclose(encoders(bus), wanted, atol=3.0)


def test_velocity_has_the_sign_of_the_motion(arm: ServoArm) -> None:
    arm.write(np.full(6, 0.8, np.float32))
    time.sleep(0.1)
    arm.read()
    assert (arm.read().joint_velocity > 0.2).all()


def test_motors_keep_the_speed_limit_themselves(make_arm: Make) -> None:
    arm = make_arm(max_speed_rad_s=0.5)
    arm.connect()
    arm.write(np.full(6, 1.4, np.float32))
    for _ in range(20):
        time.sleep(0.01)
        assert (np.abs(arm.read().joint_velocity) < 0.52).all()


def test_a_target_outside_the_range_goes_to_its_end(arm: ServoArm, bus: StandInBus) -> None:
    arm.write(np.full(6, 9.0, np.float32))
    arm.bus.ping(1)  # the answer comes after the goals are taken
    ends = calibration_of(arm.model.name).to_ticks(np.full(6, 1.5))
    assert [motor.get("goal") for motor in bus.motors.values()] == ends.tolist()


def test_slow_measurements_come_along(arm: ServoArm, bus: StandInBus) -> None:
    bus.motors[4].temperature_c = 41
    wait_until(lambda: arm.read() is not None and arm.health is not None and arm.health.temperature_c[3] == 41)
    assert arm.health is not None
    np.testing.assert_allclose(arm.health.voltage_v, 12.0)


# Faults on the wire


def test_damaged_and_lost_answers_are_asked_for_again(arm: ServoArm, bus: StandInBus) -> None:
    for step in ticks():
        if step == 40:
            break
        bus.damage_next, bus.lose_next = int(step % 5 == 0), int(step % 7 == 0)
        arm.read()
        arm.write(np.zeros(6, np.float32))
    assert arm.bus.counts["corrupt"] >= 8
    assert arm.bus.counts["retries"] >= 8


def test_noise_before_answers_changes_nothing(arm: ServoArm, bus: StandInBus) -> None:
    bus.noise = b"\xff\x00\xff\xff\x13\xfd"
    assert len(run(arm, 20)) == 20


def test_late_answers_are_waited_for_or_asked_for_again(arm: ServoArm, bus: StandInBus) -> None:
    bus.latency_s = 0.02
    assert np.isfinite(run(arm, 5)).all()


def test_an_answer_that_never_comes_names_everything(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm()
    arm.connect()
    bus.lose_next = 10**6
    with pytest.raises(HardwareError, match=r"no answer from shoulder_pan \(id 1\), .*port.* in 3 tries"):
        arm.read()
    bus.lose_next = 0
    assert np.isfinite(arm.read().joint_position).all()


# Faults of motors


def test_a_motor_that_vanishes_is_named_and_its_return_is_noticed(arm: ServoArm, bus: StandInBus) -> None:
    bus.motors[3].present = False
    with pytest.raises(HardwareError, match=r"no answer from elbow_flex \(id 3\) on") as caught:
        arm.read()
    assert "id 4" not in str(caught.value)
    bus.motors[3].present = True  # a loose plug: it never lost its power
    assert len(run(arm, 5)) == 5


def test_a_motor_that_restarted_is_not_jerked_up(arm: ServoArm, bus: StandInBus) -> None:
    bus.motors[3].present = False
    with pytest.raises(HardwareError):
        arm.read()
    bus.motors[3].restart()
    bus.motors[3].encoder = 1700.0  # it fell
    bus.motors[3].present = True
    for _ in range(2):
        with pytest.raises(HardwareError, match=r"elbow_flex \(id 3\) .*went limp.*connect again"):
            arm.read()
        with pytest.raises(HardwareError, match="went limp"):
            arm.write(np.zeros(6, np.float32))
    np.testing.assert_allclose(encoders(bus)[2], 1700.0)
    arm.connect()
    run(arm, 5, target=0.0)


def test_a_motor_that_restarted_gets_its_speed_limit_with_the_next_goal(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm(max_speed_rad_s=0.5)
    arm.connect()
    bus.motors[3].restart()
    bus.motors[3].set("torque", 1)  # should a motor take a goal as a reason to hold
    arm.write(np.full(6, 1.4, np.float32))
    time.sleep(0.05)
    bus.settle()
    assert 0.1 < bus.motors[3].speed * 2 * np.pi / 4096 < 0.52


def test_a_motor_that_went_limp_is_told_to_stay_where_it_lies(arm: ServoArm, bus: StandInBus) -> None:
    bus.motors[3].restart()
    bus.motors[3].encoder += 40.0  # near its goal, to which a motor that holds would be told to go back
    arm._health_due_ns = 0
    with pytest.raises(HardwareError, match="went limp"):
        arm.read()
    arm.bus.ping(1)  # the answer comes after the goals are taken
    assert bus.motors[3].get("goal") == pytest.approx(bus.motors[3].encoder, abs=1)


@pytest.mark.parametrize(("bit", "name"), [(2, "overheating"), (5, "overload"), (0, "wrong voltage")])
def test_a_fault_flag_stops_the_arm_until_it_is_gone(arm: ServoArm, bus: StandInBus, bit: int, name: str) -> None:
    run(arm, 5)
    arm.write(np.full(6, 1.2, np.float32))  # far away: the fault comes in motion
    bus.motors[2].fault_bits = 1 << bit
    with pytest.raises(HardwareError, match=rf"shoulder_lift \(id 2\) on .* reports {name}: the arm holds"):
        arm.read()
    with pytest.raises(HardwareError, match=name):
        arm.write(np.zeros(6, np.float32))
    stopped = encoders(bus)
    time.sleep(0.1)
    np.testing.assert_allclose(np.delete(encoders(bus), 1), np.delete(stopped, 1), atol=40.0)
    assert (np.abs(encoders(bus) - 2048) < 400).all()  # 1.2 rad would be 782
    bus.motors[2].fault_bits = 0
    run(arm, 5)


def test_a_hot_motor_stops_the_arm_until_it_has_cooled(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm(health_period_s=0.02)
    arm.connect()
    bus.motors[6].temperature_c = 70
    time.sleep(0.03)
    with pytest.raises(HardwareError, match=r"gripper \(id 6\) on .* is at 70 C, at most 65"):
        arm.read()
    bus.motors[6].temperature_c = 50
    arm.read()
    arm.write(np.zeros(6, np.float32))


# The cable and the port


def test_a_cable_pulled_in_motion(arm: ServoArm, bus: StandInBus) -> None:
    run(arm, 10)
    bus.pull_cable()
    with pytest.raises(HardwareError, match=r"lost .*port.*plug its cable in again"):
        run(arm, 10)
    held = encoders(bus)
    assert all(motor.get("torque") for motor in bus.motors.values())
    bus.plug_in()
    arm.connect()
    np.testing.assert_allclose(arm.calibration.to_ticks(arm.read().joint_position), encoders(bus), atol=2)
    np.testing.assert_allclose(encoders(bus), held, atol=120)
    run(arm, 10)


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


def test_closing_says_whether_the_arm_stays_stiff(
    make_arm: Make, bus: StandInBus, caplog: pytest.LogCaptureFixture
) -> None:
    arm = make_arm()
    arm.close()
    arm.connect()
    arm.connect()
    assert "torque" not in caplog.text
    arm.close()
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


def test_a_motor_that_woke_up_a_turn_away(make_arm: Make, bus: StandInBus, kind: str) -> None:
    if kind == "sts3215":
        pytest.skip("counts one turn only")
    bus.motors[1].encoder += 4096
    arm = make_arm()
    arm.connect()
    run(arm, 30)
    wait_until(lambda: bool(np.allclose(arm.read().joint_position, 0.3, atol=0.003)))
    assert encoders(bus)[0] == pytest.approx(2048 + 4096 + 0.3 / (2 * np.pi) * 4096, abs=3)


# Stopping by itself


def test_stops_when_no_command_comes(make_arm: Make, bus: StandInBus, caplog: pytest.LogCaptureFixture) -> None:
    arm = make_arm(command_timeout_s=0.1, max_speed_rad_s=1.0)
    arm.connect()
    arm.write(np.full(6, 1.4, np.float32))
    wait_until(lambda: arm.stops == 1)
    time.sleep(0.15)
    stopped = encoders(bus)
    assert (np.abs(stopped - 2048) < 700).all()  # 1.4 rad would be 913
    time.sleep(0.1)
    np.testing.assert_allclose(encoders(bus), stopped, atol=1.0)
    assert "no command came for 0.1 s" in caplog.text
    assert arm.stops == 1
    run(arm, 10, target=0.2)  # and goes on when asked


def test_a_stop_that_fails_is_tried_again(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm(command_timeout_s=0.1, max_speed_rad_s=0.4, bus=BusConfig(answer_timeout_s=0.03, retries=1))
    arm.connect()
    bus.lose_next = 10**6
    arm.write(np.full(6, 1.4, np.float32))
    time.sleep(0.4)
    bus.lose_next = 0
    wait_until(lambda: arm.stops > 0)
    time.sleep(0.3)
    stopped = encoders(bus)
    time.sleep(0.2)
    np.testing.assert_allclose(encoders(bus), stopped, atol=1.0)


def test_a_stop_that_cannot_be_sent_is_tried_again(make_arm: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    arm = make_arm(command_timeout_s=0.1)
    arm.connect()
    arm.write(np.zeros(6, np.float32))
    send, failures = arm.bus.sync_write, [HardwareError("lost the port")]

    def fail_once(*goal: object) -> None:
        if failures:
            raise failures.pop()
        send(*goal)  # type: ignore[arg-type]

    monkeypatch.setattr(arm.bus, "sync_write", fail_once)
    wait_until(lambda: arm.stops > 0)
    assert not failures


def test_reading_does_not_keep_it_moving(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm(command_timeout_s=0.1)
    arm.connect()
    arm.write(np.full(6, 0.1, np.float32))
    for step in ticks():
        arm.read()
        if arm.stops == 1:
            break
        assert step < 300


DRIVE = """
import sys, time
from pathlib import Path
import numpy as np
from robolearn.robots.servo_arm import ServoArm, ServoArmConfig

arm = ServoArm(ServoArmConfig(sys.argv[1], Path(sys.argv[2]), command_timeout_s=0.3, max_speed_rad_s=0.5))
arm.connect()
print("driving", flush=True)
while True:
    arm.write(np.full(6, 1.4, np.float32))
    arm.read()
    time.sleep(0.01)
"""


def test_a_driver_killed_in_motion(make_arm: Make, bus: StandInBus, kind: str) -> None:
    arm = make_arm()
    child = subprocess.Popen(
        [sys.executable, "-c", DRIVE, bus.port, str(arm.config.calibration)], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == b"driving\n"
        wait_until(lambda: bool((np.abs(encoders(bus) - 2048) > 60).all()))
        child.kill()
    time.sleep(0.5)
    stopped = encoders(bus)
    assert all(motor.get("torque") for motor in bus.motors.values())
    if kind == "dynamixel_x":  # their bus watchdog stopped them; the others finish their last goal
        assert all(motor.get("watchdog") == 0xFF for motor in bus.motors.values())
        assert (np.abs(stopped - 2048) < 700).all()  # 1.4 rad would be 913
        time.sleep(0.2)
        np.testing.assert_allclose(encoders(bus), stopped, atol=1.0)
    arm.connect()  # the port is free again
    run(arm, 10, target=0.0)


def test_closing_leaves_the_motors_holding(arm: ServoArm, bus: StandInBus) -> None:
    run(arm, 20)
    arm.close()
    time.sleep(0.5)
    held = encoders(bus)
    assert all(motor.get("torque") for motor in bus.motors.values())
    assert not any("watchdog" in motor.wire.registers and motor.get("watchdog") for motor in bus.motors.values())
    arm.connect()
    np.testing.assert_allclose(encoders(bus), held, atol=1.0)


def test_release_makes_it_limp(arm: ServoArm, bus: StandInBus) -> None:
    with pytest.raises(HardwareError, match="ask again"):
        arm.release()
    arm.release()
    assert not any(motor.get("torque") for motor in bus.motors.values())
    bus.motors[1].encoder = 2148.0  # by hand
    assert arm.read().joint_position[0] > 0.1
    with pytest.raises(HardwareError, match="it was released: connect again"):
        arm.write(np.zeros(6, np.float32))
    arm.connect()
    run(arm, 5)


def test_an_arm_led_by_hand_takes_no_commands(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm(torque=False)
    arm.connect()
    bus.motors[1].encoder = 2148.0
    assert arm.read().joint_position[0] == pytest.approx(100 / 4096 * 2 * np.pi, abs=0.002)
    with pytest.raises(HardwareError, match="led by hand"):
        arm.write(np.zeros(6, np.float32))
    assert not any(motor.get("torque") for motor in bus.motors.values())


def test_two_threads_do_not_mix_their_exchanges(arm: ServoArm) -> None:
    failed: list[Exception] = []

    def write() -> None:
        try:
            for _ in range(60):
                arm.write(np.zeros(6, np.float32))
                time.sleep(0.002)
        except HardwareError as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(60):
        np.testing.assert_allclose(arm.read().joint_position, 0.0, atol=0.1)
    writer.join()
    assert failed == []


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


def test_wrong_commands_are_refused(arm: ServoArm) -> None:
    with pytest.raises(SpecError, match=JOINTS[0]):
        arm.write(np.zeros(5, np.float32))


def test_a_calibration_that_is_missing(make_arm: Make, tmp_path: Path) -> None:
    with pytest.raises(HardwareError, match="calibrate the arm first"):
        make_arm(calibration=tmp_path / "none.json")


def test_torque_goes_off_where_the_arm_rests_and_elsewhere_when_asked_twice(
    make_arm: Callable[..., ServoArm], bus: StandInBus
) -> None:
    rest = (0.3, -0.2, 0.2, 0.1, 0.0, 0.1)
    arm = make_arm(rest_rad=rest)
    arm.connect()
    with pytest.raises(HardwareError, match="would fall; hold it, then ask again"):
        arm.release()
    assert all(motor.get("torque") for motor in bus.motors.values())
    arm.release()
    assert not any(motor.get("torque") for motor in bus.motors.values())
    arm.connect()
    safety = SafetyFilter(arm.spec, SafetyConfig(max_command_age_s=2.0), 0.02)
    park(arm, safety, 1.0, 0.02)
    assert not any(motor.get("torque") for motor in bus.motors.values())
    arm.connect()
    bus.motors[3].present = False
    for words in ("would fall|no answer", r"no answer .*its id; elbow_flex \(id 3\) may hold still"):
        with pytest.raises(HardwareError, match=words):
            arm.release()
    assert [bool(motor.get("torque")) for motor in bus.motors.values()] == [i == 3 for i in bus.motors]
    with pytest.raises(HardwareError, match="2 angles in rest_rad, expected 6"):
        make_arm(rest_rad=(0.0, 0.0))
    with pytest.raises(HardwareError, match=r"rest_rad has -90 for shoulder_lift, whose range is .* in degrees"):
        make_arm(rest_rad=(0.0, -90.0, 0.0, 0.0, 0.0, 0.0))
