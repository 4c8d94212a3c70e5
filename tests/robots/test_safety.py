"""The safety filter: each rule once, and the promise for every stream."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import SpecError
from robolearn.robots.robot import Health
from robolearn.robots.safety import SafetyConfig, SafetyDecision, SafetyFilter
from robolearn.specs import RobotSpec
from robolearn.types import RobotState

PERIOD_NS = 50_000_000
SPEC = RobotSpec("arm", ("pan", "lift", "gripper"), (-1.9, -1.7, -0.1), (1.9, 1.7, 1.7), (2.0, 1.0, 4.0))
LOW, HIGH, SPEED = (np.asarray(v) for v in (SPEC.position_low, SPEC.position_high, SPEC.max_speed))


def started(config: SafetyConfig | None = None, position: tuple[float, ...] = (0.0, 0.0, 0.0)) -> SafetyFilter:
    safety = SafetyFilter(SPEC, config or SafetyConfig(), PERIOD_NS * 1e-9)
    safety.reset(RobotState(np.float32(position), np.zeros(3, np.float32), 0))
    return safety


def send(safety: SafetyFilter, *values: float, tick: int = 0) -> SafetyDecision:
    return safety.filter(np.float32(values), tick * PERIOD_NS, tick * PERIOD_NS)


def test_good_command_passes_unchanged() -> None:
    decision = send(started(), 0.05, -0.02, 0.1)
    assert (decision.held, decision.limited, decision.reason) == (False, False, "")
    np.testing.assert_array_equal(decision.command, np.float32([0.05, -0.02, 0.1]))
    assert decision.command.dtype == np.float32


def test_fast_command_is_slowed_to_the_speed_of_each_joint() -> None:
    decision = send(started(), 0.3, -0.3, 0.1)
    assert decision.limited
    assert not decision.held
    assert decision.reason.startswith("pan is 0.3 rad, limited to 0.1")
    np.testing.assert_allclose(decision.command, [0.1, -0.05, 0.1], atol=1e-6)


def test_small_overshoot_is_clamped_and_gross_one_refused() -> None:
    safety = started(position=(1.85, 0.0, 0.0))
    decision = send(safety, 2.0, 0.0, 0.0)
    assert decision.limited
    assert decision.command[0] == pytest.approx(1.9)
    decision = send(safety, 2.4, 0.0, 0.0, tick=1)
    assert decision.held
    assert decision.reason == "pan is 2.4 rad, outside -1.9..1.9"


def test_margin_narrows_the_range() -> None:
    decision = send(started(SafetyConfig(position_margin=0.1), (1.75, 0, 0)), 1.9, 0.0, 0.0)
    assert decision.command[0] == pytest.approx(1.8)


def test_jump_is_refused_with_joint_value_and_limit() -> None:
    safety = started()
    decision = send(safety, 0.0, 1.2, 0.0)
    assert decision.held
    assert decision.reason == "lift is 1.2 rad, a jump of 1.2, at most 0.85"
    np.testing.assert_array_equal(decision.command, np.zeros(3))
    assert not send(safety, 0.02, 0.0, 0.0, tick=1).held


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (None, "no command"),
        (np.float32([0, np.nan, 0]), "lift is nan rad, expected a finite number"),
        (np.float32([0, 0, -np.inf]), "gripper is -inf rad, expected a finite number"),
        (np.zeros(2, np.float32), r"the command has shape \(2,\), expected \(3,\)"),
        (np.zeros((1, 3), np.float32), "shape"),
        (np.array(["a", "b", "c"]), "expected float32"),
        (np.zeros(3, np.complex64), "the command is complex64"),
        (np.zeros(3, bool), "the command is bool"),
        ([0.0, 0.0, 0.0], "the command is list"),
        (np.array([0, 1e300, 0]), "lift is 1e.300 rad, outside"),
    ],
)
def test_unusable_command_holds_and_the_next_good_one_resumes(action: np.ndarray | None, reason: str) -> None:
    safety = started()
    sent = send(safety, 0.05, 0.02, 0.1).command
    decision = safety.filter(action, PERIOD_NS, PERIOD_NS)
    assert decision.held
    np.testing.assert_array_equal(decision.command, sent)
    assert re.search(reason, decision.reason), decision.reason
    assert not send(safety, 0.1, 0.02, 0.1, tick=2).held


@pytest.mark.parametrize(
    ("stamp_ns", "now_ns", "reason"),
    [
        (PERIOD_NS + 1, PERIOD_NS, "the command is stamped 0.000 s ahead of the clock"),
        (0, 2 * PERIOD_NS, "the command is 0.100 s old, at most 0.080 s"),
        (-3 * PERIOD_NS, -2 * PERIOD_NS, "the clock went back by 0.100 s"),
    ],
)
def test_bad_stamp_holds(stamp_ns: int, now_ns: int, reason: str) -> None:
    safety = started()
    send(safety, 0.0, 0.0, 0.0)
    decision = safety.filter(np.float32([0.05, 0, 0]), stamp_ns, now_ns)
    assert (decision.held, decision.reason) == (True, reason)
    assert not safety.filter(np.float32([0.05, 0, 0]), now_ns + PERIOD_NS, now_ns + PERIOD_NS).held


def test_two_commands_in_one_period_move_no_further_than_one() -> None:
    safety = started()
    first = safety.filter(np.float32([0.4, 0, 0]), 0, 0).command
    again = safety.filter(np.float32([0.4, 0, 0]), 0, 0)
    assert again.limited
    np.testing.assert_array_equal(again.command, first)


@pytest.mark.parametrize(
    ("spec", "config", "period_s"),
    [
        (SPEC, SafetyConfig(position_margin=1.0), 0.05),
        (SPEC, SafetyConfig(), 0.1),
        (SPEC, SafetyConfig(), 0.0),
        (RobotSpec("arm", ("a",), (0.0,), (np.inf,), (1.0,)), SafetyConfig(), 0.05),
        (RobotSpec("arm", ("a",), (0.0,), (1.0,), (0.0,)), SafetyConfig(), 0.05),
    ],
)
def test_impossible_limits_are_refused(spec: RobotSpec, config: SafetyConfig, period_s: float) -> None:
    with pytest.raises(SpecError):
        SafetyFilter(spec, config, period_s)


@pytest.mark.parametrize("position", [(3.0, 0.0, 0.0), (np.nan, 0.0, 0.0), (0.0, 0.0)])
def test_reset_refuses_a_robot_that_stands_nowhere_legal(position: tuple[float, ...]) -> None:
    with pytest.raises(SpecError):
        started(position=position)


def test_config_refuses_nonsense() -> None:
    with pytest.raises(SpecError, match="max_jump is nan"):
        SafetyConfig(max_jump=float("nan"))


def test_filter_before_reset_is_refused() -> None:
    with pytest.raises(SpecError, match="reset"):
        SafetyFilter(SPEC, SafetyConfig(), 0.05).filter(np.zeros(3, np.float32), 0, 0)


nasty = st.one_of(
    st.floats(-2.5, 2.5, width=32),
    st.sampled_from([np.nan, np.inf, -np.inf, 1e38, -1e38, 1.9, -1.9, 1.7, 0.0]),
)
commands = st.one_of(
    st.none(),
    st.lists(nasty, min_size=3, max_size=3).map(np.float32),
    st.lists(nasty, min_size=3, max_size=3).map(np.array),
    st.lists(nasty, min_size=0, max_size=4).map(np.float32),
    st.just(np.array([None, "x", 1], dtype=object)),
)
clock_steps = st.one_of(st.just(PERIOD_NS), st.integers(-2 * PERIOD_NS, 3 * PERIOD_NS), st.just(10**18))
ages = st.one_of(st.just(0), st.integers(-PERIOD_NS, 4 * PERIOD_NS))


@given(
    start=st.tuples(st.floats(-1.9, 1.9), st.floats(-1.7, 1.7), st.floats(-0.1, 1.7)),
    margin=st.sampled_from([0.0, 0.05]),
    stream=st.lists(st.tuples(commands, clock_steps, ages), max_size=40),
)
def test_no_stream_leaves_the_limits_or_the_speed(start: tuple[float, ...], margin: float, stream: list) -> None:
    safety = started(SafetyConfig(position_margin=margin), start)
    previous, now_ns, previous_ns = None, 0, 0
    before = np.array(start, np.float32).astype(np.float64)
    for action, step_ns, age_ns in stream:
        decision = safety.filter(action, now_ns - age_ns, now_ns)
        command = decision.command.astype(np.float64)
        low, high = np.minimum(LOW + margin, before), np.maximum(HIGH - margin, before)
        assert (command >= low).all()  # further out than it is, it never goes
        assert (command <= high).all()
        before = command
        assert bool(decision.reason) == (decision.held or decision.limited)
        assert not (decision.held and decision.limited)
        if previous is not None:
            allowed_s = min(max(now_ns - previous_ns, 0), PERIOD_NS) * 1e-9
            assert (np.abs(command - previous) <= SPEED * allowed_s + 1e-15).all()
        if decision.held and previous is not None:
            np.testing.assert_array_equal(command, previous)
        if not decision.held:
            assert 0 <= age_ns <= 80_000_000
            assert np.isfinite(action).all()
        decision.command[:] = 99.0  # the caller's copy is the caller's
        previous, previous_ns = command, now_ns
        now_ns += step_ns


@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=60))
def test_a_command_that_stays_is_reached_at_full_speed(targets: list[float]) -> None:
    safety = started()
    for tick, target in enumerate(targets):
        send(safety, 0.4 * target, 0.0, 0.0, tick=tick)
    for tick in range(len(targets), len(targets) + 8):  # 0.8 rad at most, 0.1 rad a tick
        decision = send(safety, 0.4, 0.0, 0.0, tick=tick)
    assert decision.command[0] == pytest.approx(0.4, abs=1e-6)  # eight roundings may leave a last unit to go


SMOOTH = SafetyConfig(max_acceleration=15.0, max_jerk=400.0, max_command_age_s=0.08)


def test_refused_command_brakes_within_its_limits_and_stops() -> None:
    safety = started(SafetyConfig(max_acceleration=15.0))
    for tick in range(10):
        moving = send(safety, 0.08 * (tick + 1), 0.0, 0.0, tick=tick).command
    sent = [moving[0]]
    for tick in range(10, 18):
        decision = safety.filter(None, 0, tick * PERIOD_NS)
        assert decision.held
        sent.append(decision.command[0])
    steps = np.diff(sent)
    assert steps[0] > 0.01  # no jolt
    assert (np.diff(steps) >= -15.0 * 0.05**2 - 1e-6).all()
    assert (steps[-3:] == 0).all()
    assert safety.max_braking_s == pytest.approx(4.0 / 15.0)


def test_soft_start_begins_at_a_tenth_of_the_speed() -> None:
    safety = started(SafetyConfig(soft_start_s=1.0))
    moves = np.diff([0.0] + [send(safety, 0.9, 0.0, 0.0, tick=tick).command[0] for tick in range(25)])
    assert moves[0] == pytest.approx(0.1 * 2.0 * 0.05, abs=1e-6)
    assert moves[9] == pytest.approx(0.5 * 2.0 * 0.05, abs=1e-6)
    assert moves.max() <= 0.1 + 1e-6


def test_what_was_held_for_long_starts_softly() -> None:
    safety = started(SafetyConfig(soft_start_s=0.5))
    for tick in range(20):
        send(safety, 0.0, 0.0, 0.0, tick=tick)
    for tick in range(20, 24):  # 0.2 s without a command: a late one is no start
        safety.filter(None, 0, tick * PERIOD_NS)
    assert send(safety, 0.9, 0.0, 0.0, tick=24).command[0] == pytest.approx(0.1)
    for tick in range(25, 32):
        safety.filter(None, 0, tick * PERIOD_NS)
    assert send(safety, 0.9, 0.0, 0.0, tick=32).command[0] == pytest.approx(0.1 + 0.1 * 2.0 * 0.05)


def test_a_stop_lasts_until_it_is_resumed_from_where_the_robot_is() -> None:
    safety = started(SafetyConfig(max_acceleration=15.0))
    send(safety, 0.05, 0.0, 0.0)
    safety.stop("the red button")
    safety.stop("later ones add nothing")
    state = RobotState(np.float32([0.3, 0, 0]), np.zeros(3, np.float32), 4 * PERIOD_NS)
    with pytest.raises(SpecError, match="still braking"):
        safety.resume(state)
    for tick in range(1, 4):
        decision = send(safety, 0.05, 0.0, 0.0, tick=tick)
        assert (decision.held, decision.reason) == (True, "the red button")
    safety.resume(state)
    decision = safety.filter(np.float32([0.31, 0, 0]), 5 * PERIOD_NS, 5 * PERIOD_NS)
    assert decision.command[0] == pytest.approx(0.31, abs=0.002)


def test_old_state_and_hot_motors_hold_and_load_stops() -> None:
    safety = started(SafetyConfig(max_state_age_s=0.1, max_temperature_c=60, max_load=500))
    still = np.zeros(3, np.float32)

    def measure(tick: int, load: float = 0.0, heat: float = 40.0) -> str:
        state = RobotState(still, still, tick * PERIOD_NS)
        safety.watch(state, Health(np.float32([0, load, 0]), still, np.float32([30, 30, heat]), state.stamp_ns))
        return send(safety, 0.0, 0.0, 0.0, tick=tick).reason

    assert measure(0) == ""
    assert send(safety, 0.0, 0.0, 0.0, tick=2).reason == ""
    assert send(safety, 0.0, 0.0, 0.0, tick=3).reason == "arm has not measured for 0.150 s, at most 0.1 s"
    assert measure(4, heat=61.0) == "gripper has a temperature of 61 C, at most 60"
    assert measure(5, heat=np.nan) == "gripper has a temperature of nan C, at most 60"
    assert measure(6, heat=59.0) == ""
    assert measure(7, load=-600.0) == "lift has a load of 600, at most 500"
    assert measure(8) == "lift has a load of 600, at most 500"
    assert safety.stopped


STREAMS = {"plain": SafetyConfig(), "accelerated": SafetyConfig(max_acceleration=15.0), "smooth": SMOOTH}


@pytest.mark.parametrize("name", STREAMS)
def test_a_command_runs_no_further_ahead_of_a_blocked_joint_than_it_may(name: str) -> None:
    """The first joint is blocked at 0, the second follows, the gripper squeezes as far as it wants."""
    safety = started(replace(STREAMS[name], max_lag=(0.2, 0.2, 3.0)))
    sent, ahead, wanted = np.zeros(3), [], np.zeros(3)
    for tick in range(60):
        measured = np.float32([0.0, sent[1], 0.0])
        safety.watch(RobotState(measured, np.zeros(3, np.float32), tick * PERIOD_NS))
        wanted = np.minimum(wanted + np.array([0.05, 0.04, 0.1]), [sent[0] + 0.3, 1.5, 1.5])
        decision = send(safety, *wanted, tick=tick)
        assert not decision.held
        sent = decision.command
        ahead.append(sent[0])
    brakes = 0.0 if name == "plain" else 1.0**2 / (2 * 15.0) + 0.05  # from 1 rad/s, and a step
    assert max(ahead) <= 0.2 + brakes + 1e-6
    assert ahead[-20:] == pytest.approx([ahead[-1]] * 20, abs=1e-4)  # it does not creep
    assert "pan is" in decision.reason
    np.testing.assert_allclose(sent[1:], [1.5, 1.5], atol=1e-5)
    for tick in range(60, 70):  # free again: from where it was sent, at its speed
        safety.watch(RobotState(np.float32([sent[0], 1.5, 1.5]), np.zeros(3, np.float32), tick * PERIOD_NS))
        before, sent = sent, send(safety, 0.6, 1.5, 1.5, tick=tick).command
        assert sent[0] - before[0] <= SPEED[0] * PERIOD_NS * 1e-9 + 1e-6
    assert sent[0] == pytest.approx(0.6, abs=1e-4)


@pytest.mark.parametrize("measured", [-0.5, np.nan])
def test_an_arm_that_is_pulled_away_or_measures_nothing_is_not_followed(measured: float) -> None:
    safety = started(SafetyConfig(max_lag=(0.2, 0.2, 0.2)), (0.3, 0.0, 0.0))
    for tick in range(20):
        safety.watch(RobotState(np.float32([measured, 0, 0]), np.zeros(3, np.float32), tick * PERIOD_NS))
        assert send(safety, 0.3, 0.0, 0.0, tick=tick).command[0] == pytest.approx(0.3)
        assert send(safety, 0.4, 0.0, 0.0, tick=tick).command[0] == pytest.approx(0.3)  # nor led further
    back = [send(safety, 0.0, 0.0, 0.0, tick=tick).command[0] for tick in range(20, 30)]
    assert back[-1] == pytest.approx(0.0 if measured == measured else 0.3)


@pytest.mark.parametrize("lag", [(0.2, 0.2), (0.2, 0.2, 0.0), (0.2, 0.2, np.inf)])
def test_a_lag_is_a_number_for_each_joint(lag: tuple[float, ...]) -> None:
    with pytest.raises(SpecError, match="max_lag"):
        started(SafetyConfig(max_lag=lag))


@pytest.mark.parametrize("config", [{"max_jerk": 5.0}, {"max_load": 0.0}, {"workspace_low": (0.0, 0.0, 0.0)}])
def test_config_that_cannot_be_kept_is_refused(config: dict) -> None:
    with pytest.raises(SpecError):
        SafetyConfig(**config)


def drive(config: SafetyConfig, rng: np.random.Generator, steps: int) -> int:
    """A filter through `steps` hostile commands, every promise checked at each. Returns how many it followed."""
    safety = started(config, tuple(rng.uniform(LOW, HIGH)))
    now_ns, followed, sent, was_ns, target = 0, 0, None, 0, rng.uniform(LOW, HIGH)
    curve: list[tuple[float, np.ndarray]] = []  # (time that counts, what was sent)
    for _ in range(steps):
        kind = rng.integers(12)
        if kind < 6:
            target = (target if kind < 3 or sent is None else sent) + rng.normal(0, 0.08, 3)
            action: object = target.astype(np.float32)
        elif kind < 8:
            target = rng.uniform(LOW - 0.3, HIGH + 0.3)
            action = target
        else:
            action = (
                None,
                np.float32([rng.choice([np.nan, np.inf, -np.inf, 1e38]), 0, 0]),
                np.zeros(rng.integers(0, 6), np.float32),
                np.array([None, "x", 1], dtype=object),
            )[kind - 8]
        if config.max_lag is not None:
            measured = rng.uniform(LOW, HIGH) if rng.integers(4) else rng.choice([np.nan, 1e30, 0.0], 3)
            safety.watch(RobotState(np.float32(measured), np.zeros(3, np.float32), now_ns))
        age_ns = int(rng.choice([0, 0, 0, PERIOD_NS, 81_000_000, -1, 10**15]))
        decision = safety.filter(action, now_ns - age_ns, now_ns)  # type: ignore[arg-type]
        command = decision.command.astype(np.float64)
        rounding = 2.4e-7
        assert np.isfinite(command).all()
        assert (command >= LOW).all()
        assert (command <= HIGH).all()
        since_ns = now_ns - was_ns
        elapsed_s = min(max(since_ns, 0), PERIOD_NS) * 1e-9
        if since_ns > 80_000_000:
            curve.clear()
        if sent is not None:
            tolerance = 1e-15 if config.max_acceleration is None else rounding
            assert (np.abs(command - sent) <= SPEED * elapsed_s + tolerance).all()
        if elapsed_s or not curve:
            curve = [*curve[-3:], ((curve[-1][0] if curve else 0.0) + elapsed_s, command)]
        if config.max_acceleration is not None and len(curve) >= 3:
            (t0, p0), (t1, p1), (t2, p2) = curve[-3:]
            change = (p2 - p1) / (t2 - t1) - (p1 - p0) / (t1 - t0)
            allowed = config.max_acceleration * max(t2 - t1, (t2 - t0) / 2 if config.max_jerk else 0.0)
            slack = 2 * rounding * (1 / (t2 - t1) + 1 / (t1 - t0))
            assert (np.abs(change) <= allowed + slack).all()
        if config.max_jerk is not None and len(curve) == 4 and np.ptp(np.diff([t for t, _ in curve])) < 1e-12:
            third = np.diff([p for _, p in curve], n=3, axis=0)[0]
            assert (np.abs(third) <= config.max_jerk * (PERIOD_NS * 1e-9) ** 3 + 8 * rounding).all()
        followed += not decision.held
        sent, was_ns = command, now_ns
        now_ns += int(rng.choice([PERIOD_NS] * 12 + [PERIOD_NS // 3, 0, -PERIOD_NS, 3 * PERIOD_NS, 10**12]))
    return followed


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("max_lag", [None, (0.1, 0.3, 2.0)])
def test_hostile_streams_keep_every_limit(name: str, max_lag: tuple[float, ...] | None) -> None:
    assert drive(replace(STREAMS[name], max_lag=max_lag), np.random.default_rng(1), 2500) > 250


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_million_hostile_commands_keep_every_limit() -> None:
    followed = 0
    for name, steps in (("plain", 5000), ("accelerated", 4000), ("smooth", 1000)):
        for seed in range(100):
            followed += drive(STREAMS[name], np.random.default_rng(seed), steps)
    assert followed > 100_000


@pytest.mark.parametrize("name", STREAMS)
def test_a_robot_outside_its_range_comes_back_at_its_speed(name: str) -> None:
    start = np.array([LOW[0] - 0.2, 0.0, HIGH[2] + 0.1])
    safety, curve = started(STREAMS[name], tuple(start)), [start]
    decision = safety.filter(None, 0, 0)
    np.testing.assert_allclose(decision.command, start, atol=1e-6)  # it stands
    for tick in range(1, 60):
        now_ns = tick * PERIOD_NS
        curve.append(safety.filter(np.float32([LOW[0], 0.0, HIGH[2]]), now_ns, now_ns).command)
    assert (np.abs(np.diff(curve, axis=0)) <= SPEED * PERIOD_NS * 1e-9 + 1e-6).all()
    np.testing.assert_allclose(curve[-1], [LOW[0], 0.0, HIGH[2]], atol=1e-5)


@pytest.mark.parametrize("name", STREAMS)
def test_an_arm_stands_as_soon_as_it_promises(name: str) -> None:
    """From the fastest streams, the newest command repeated until it is stale."""
    rng, slowest = np.random.default_rng(0), 0
    for _ in range(12):
        safety = started(STREAMS[name], tuple(rng.uniform(LOW, HIGH)))
        way, now_ns = rng.choice([-1, 1], 3), 0
        command = safety.filter(None, 0, 0).command
        for _ in range(int(rng.integers(3, 30))):
            now_ns += PERIOD_NS
            ahead = np.clip(command + 0.2 * (HIGH - LOW) * way, LOW, HIGH).astype(np.float32)
            command, last_ns = safety.filter(ahead, now_ns, now_ns).command, now_ns
        for _ in range(30):
            now_ns += PERIOD_NS
            before, command = command, safety.filter(ahead, last_ns, now_ns).command
            slowest = max(slowest, now_ns - last_ns if (command != before).any() else 0)
    assert 0 < slowest * 1e-9 <= 0.08 + PERIOD_NS * 1e-9 + safety.max_braking_s
