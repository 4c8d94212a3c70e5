"""Half a minute of everything going wrong at random, at 100 Hz."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from robolearn.errors import HardwareError
from robolearn.robots.servo_arm import ServoArm
from robolearn.robots.standin import StandInBus

STEPS = 2000


def break_something(bus: StandInBus, rng: np.random.Generator, counts: Counter[str]) -> None:
    what = str(rng.choice(["damage", "lose", "noise", "late", "vanish", "restart", "heat", "overload", "cable"]))
    motor = bus.motors[int(rng.integers(1, 7))]
    counts[what] += 1
    if what == "damage":
        bus.damage_next = int(rng.integers(1, 8))
    elif what == "lose":
        bus.lose_next = int(rng.integers(1, 8))
    elif what == "noise":
        bus.noise = rng.bytes(int(rng.integers(1, 12)))
    elif what == "late":
        bus.latency_s = 0.03
    elif what == "vanish":
        motor.present = False
    elif what == "restart":
        motor.restart()
    elif what == "heat":
        motor.temperature_c = 90
    elif what == "overload":
        motor.fault_bits = 0b100000
    elif what == "cable":
        bus.pull_cable()


def mend(bus: StandInBus) -> None:
    bus.damage_next = bus.lose_next = 0
    bus.noise, bus.latency_s = b"", 0.0003
    for motor in bus.motors.values():
        motor.present, motor.temperature_c, motor.fault_bits = True, 30, 0
    bus.plug_in()


@pytest.mark.slow
def test_every_state_is_true_or_refused_and_the_arm_recovers(
    make_arm: Callable[..., ServoArm], bus: StandInBus
) -> None:
    rng = np.random.default_rng(0)
    arm = make_arm(max_speed_rad_s=2.0, health_period_s=0.05)
    arm.connect()
    counts: Counter[str] = Counter()
    broken_at, good = -1, 0
    for step in range(STEPS):
        started = time.monotonic()
        if broken_at < 0 and rng.random() < 0.05:
            break_something(bus, rng, counts)
            broken_at = step
        elif broken_at >= 0 and step > broken_at + 10:
            mend(bus)
            broken_at = -1
        try:
            state = arm.read()
            bus.settle()
            truth = arm.calibration.to_rad([motor.get("position") for motor in bus.motors.values()])
            elapsed_s = time.monotonic() - started
            np.testing.assert_allclose(state.joint_position, truth, atol=0.005 + 2.2 * elapsed_s)
            arm.write(np.full(6, 0.8 * np.sin(step / 50), np.float32))
            good += 1
        except HardwareError as error:
            counts["refused"] += 1
            counts["unnamed"] += bus.port not in str(error)
            if broken_at < 0:
                arm.connect()
        time.sleep(max(0.0, started + 0.01 - time.monotonic()))
    print(dict(counts), "good", good)
    assert min(counts[what] for what in ("damage", "lose", "vanish", "restart", "heat", "overload", "cable")) > 0
    assert counts["unnamed"] == 0  # every refusal names the port
    assert good > STEPS / 3
