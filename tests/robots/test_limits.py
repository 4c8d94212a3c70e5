"""The arithmetic of the motion limits, over batches of joints: the promises for every stream, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robolearn.robots.limits import (
    FINE,
    JUMP,
    NOT_FINITE,
    OUTSIDE,
    Motion,
    MotionLimits,
    advance,
    at_rest,
    brake,
    braking_time_s,
    judge,
)

BATCH = 64


def limits(acceleration: float = np.inf, jerk: float = np.inf, speed: float = 2.0, joints: int = 1) -> MotionLimits:
    full = np.ones(joints)
    return MotionLimits(-full, full, speed * full, acceleration * full, jerk * full)


KINDS = [(np.inf, np.inf), (20.0, np.inf), (20.0, 400.0), (5.0, 300.0), (60.0, 80.0)]


@pytest.mark.parametrize(("acceleration", "jerk"), KINDS)
@settings(max_examples=6, deadline=None)  # of 64 streams each
@given(seed=st.integers(0, 2**32 - 1), steady=st.booleans())
@example(seed=882, steady=True)  # comes to a speed of rounding alone, which once took days to brake
@example(seed=217312, steady=True)  # follows a target that comes back from a limit, and once leapt there
def test_no_stream_of_targets_breaks_a_limit(acceleration: float, jerk: float, seed: int, steady: bool) -> None:
    """Jumps, ramps, bursts, stops; steps of any length up to one period. The batch is 64 streams."""
    rng, bound = np.random.default_rng(seed), limits(acceleration, jerk)
    motion = at_rest(rng.uniform(-1, 1, (BATCH, 1)))
    target = motion.position
    curve, times = [motion.position], [0.0]
    for _ in range(60):
        dt = 0.02 if steady else float(rng.choice([0.02, 0.013, 0.004, 0.0]))
        kind = rng.integers(4, size=(BATCH, 1))
        target = np.choose(kind, [target, rng.uniform(-1.5, 1.5, (BATCH, 1)), np.sign(target) * 9, target + 0.03])
        speed = rng.uniform(-3, 3, (BATCH, 1)) * rng.integers(2, size=(BATCH, 1))
        before = motion
        motion = brake(motion, bound, dt) if rng.random() < 0.1 else advance(motion, target, speed, bound, dt)
        assert (np.abs(motion.position) <= 1).all()
        assert (np.abs(motion.position - before.position) <= 2.0 * dt + 1e-12).all()
        if np.isfinite(acceleration) and not np.isfinite(jerk):
            assert (np.abs(motion.speed - before.speed) <= acceleration * dt + 1e-9).all()
        if dt:
            curve.append(motion.position)
            times.append(times[-1] + dt)
    if np.isfinite(jerk) and len(times) > 4:
        assert (np.abs(divided(curve, times, 2)) * 2 <= acceleration * (1 + 1e-6)).all()
        assert (np.abs(divided(curve, times, 3)) * 6 <= jerk * (1 + 1e-4)).all()
    rest = braking_time_s(motion, bound)
    assert rest.max() < 2.0
    for _ in range(int(rest.max() / 0.02) + 2):
        motion = brake(motion, bound, 0.02)
        assert (np.abs(motion.position) <= 1).all()
    assert not motion.speed.any()


def divided(values: list[np.ndarray], times: list[float], order: int) -> np.ndarray:
    """Divided differences: n! times the n-th is a mean of the n-th derivative, so it keeps that one's bounds."""
    table, t = np.array(values), np.array(times)
    for n in range(1, order + 1):
        table = np.diff(table, axis=0) / (t[n:] - t[:-n])[:, None, None]
    return table


@pytest.mark.parametrize(("acceleration", "jerk"), KINDS)
def test_a_target_is_reached_and_not_overshot(acceleration: float, jerk: float) -> None:
    bound, target = limits(acceleration, jerk), np.linspace(-1, 1, 41)[:, None]
    motion = at_rest(np.full((41, 1), 0.3))
    for _ in range(300):
        motion = advance(motion, target, np.zeros((41, 1)), bound, 0.02)
        assert (np.abs(motion.position - 0.3) <= np.abs(target - 0.3) + 1e-6).all()
    np.testing.assert_allclose(motion.position, target, atol=2e-7)
    np.testing.assert_allclose(motion.speed, 0, atol=1e-6)


@pytest.mark.parametrize(("acceleration", "jerk"), KINDS)
def test_a_steady_motion_is_followed_without_a_lag(acceleration: float, jerk: float) -> None:
    bound, motion = limits(acceleration, jerk), at_rest(np.zeros(1))
    for tick in range(1, 80):
        target = np.array([0.01 * tick])
        motion = advance(motion, target, np.array([0.5]), bound, 0.02)
        if tick > 40:
            assert motion.position == pytest.approx(target, abs=1e-6)


def test_without_a_limit_of_acceleration_a_step_goes_straight_to_its_target() -> None:
    motion = advance(at_rest(np.zeros(2)), np.array([0.02, 0.9]), np.zeros(2), limits(joints=2), 0.02)
    np.testing.assert_allclose(motion.position, [0.02, 0.04])


def test_braking_takes_as_long_as_it_says() -> None:
    for acceleration, jerk, expected in ((20.0, np.inf, 0.1), (20.0, 400.0, 0.15)):
        motion = Motion(np.zeros(1), np.full(1, 2.0), np.zeros(1))
        assert braking_time_s(motion, limits(acceleration, jerk)) == pytest.approx(expected)


def test_commands_are_judged_one_by_one() -> None:
    wanted = np.array([[0.1, np.nan, 0.0], [1.3, 0.6, -np.inf]])
    verdict = judge(wanted, np.zeros((2, 3)), limits(joints=3), np.full(3, 0.2), np.full(3, 0.5))
    np.testing.assert_array_equal(verdict, [[FINE, NOT_FINITE, FINE], [OUTSIDE, JUMP, NOT_FINITE]])
