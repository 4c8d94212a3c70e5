"""The servo arm driver against stand-in motors: control at 100 Hz, and every fault that a bench has."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from robolearn.errors import HardwareError, SpecError
from robolearn.robots.moves import park
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.robots.servo_arm import ServoArm
from robolearn.robots.servo_bus import BusConfig, ServoBus
from robolearn.robots.standin import StandInBus

from .conftest import DIRECTIONS, JOINTS, calibration_of, encoders, wait_until

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


def test_a_line_that_is_never_silent_blocks_nobody(make_arm: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of another device than an arm, that talks without being asked."""
    arm, found = make_arm(bus=BusConfig(answer_timeout_s=0.02)), list[str]()
    arm.connect()

    def talk(bus: ServoBus, wait_s: float) -> bytes:
        time.sleep(0.001)
        return bytes(8)

    monkeypatch.setattr(ServoBus, "_receive", talk)

    def ask() -> None:
        with pytest.raises(HardwareError) as caught:
            arm.read()
        found.append(str(caught.value))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10.0)
    blocked = asking.is_alive()
    monkeypatch.undo()
    asking.join(10.0)
    assert not blocked
    assert found[0].startswith("no answer from shoulder_pan (id 1), ")


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


def test_of_an_arm_that_is_led_by_hand_no_fault_says_that_it_holds(make_arm: Make, bus: StandInBus) -> None:
    arm = make_arm(torque=False)
    arm.connect()
    bus.motors[2].fault_bits = 1 << 5
    with pytest.raises(HardwareError, match="reports overload; check its load"):
        arm.read()


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
    with pytest.raises(HardwareError, match=r"lost .*port.*plug its cable in again.*: the motors hold meanwhile"):
        run(arm, 10)
    assert not arm.bus.is_open  # while the port is held, its adapter comes back by another name
    with pytest.raises(HardwareError, match=r"lost .*port.*plug its cable in again"):
        arm.read()
    held = encoders(bus)
    assert all(motor.get("torque") for motor in bus.motors.values())
    bus.plug_in()
    arm.connect()
    np.testing.assert_allclose(arm.calibration.to_ticks(arm.read().joint_position), encoders(bus), atol=2)
    np.testing.assert_allclose(encoders(bus), held, atol=120)
    run(arm, 10)


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


def test_wrong_commands_are_refused(arm: ServoArm) -> None:
    with pytest.raises(SpecError, match=JOINTS[0]):
        arm.write(np.zeros(5, np.float32))


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
