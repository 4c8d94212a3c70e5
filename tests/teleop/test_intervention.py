"""Who is in charge: every change of hands, and that a stop stops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from robolearn.plugins import Device
from robolearn.robots.servo_arm import ServoArmConfig
from robolearn.teleop.combined import CombinedTeleopConfig
from robolearn.teleop.intervention import IDLE_S, Intervention, InterventionConfig, beside_a_policy
from robolearn.teleop.keyboard import KeyboardConfig
from robolearn.teleop.leader_arm import LeaderArmConfig
from robolearn.teleop.scripted import ScriptedTeleopConfig
from robolearn.teleop.teleoperator import TeleopCommand, TeleopEvent
from robolearn.types import ActionSource

POLICY, HAND = np.zeros(6, np.float32), np.ones(6, np.float32)
NOBODY, MOVES, STOP = TeleopCommand(), TeleopCommand(HAND), TeleopCommand(events=(TeleopEvent.STOP,))


def at(seconds: float) -> int:
    return round(seconds * 1e9)


def test_the_policy_runs_until_a_hand_comes_and_again_after_it_went() -> None:
    charge = Intervention(InterventionConfig(release_s=0.5), with_policy=True)
    first = charge.decide(POLICY, NOBODY, at(0.0))
    assert (first.source, first.policy_returns) == (ActionSource.POLICY, False)
    assert charge.decide(POLICY, MOVES, at(0.1)).source is ActionSource.INTERVENTION
    held = charge.decide(POLICY, NOBODY, at(0.5))
    assert held.action is HAND
    assert held.source is ActionSource.INTERVENTION
    back = charge.decide(POLICY, NOBODY, at(0.7))
    assert (back.source, back.policy_returns) == (ActionSource.POLICY, True)
    assert not charge.decide(POLICY, NOBODY, at(0.8)).policy_returns
    charge.decide(POLICY, MOVES, at(0.9))
    assert charge.decide(POLICY, NOBODY, at(0.1)).action is POLICY  # the clock went back: no hand of a time to come


def test_a_policy_that_begins_an_episode_has_planned_for_it_unless_a_hand_is_still_there() -> None:
    charge = Intervention(InterventionConfig(release_s=0.5), with_policy=True)
    charge.decide(POLICY, MOVES, at(0.0))  # tidies up between two episodes
    charge.decide(None, NOBODY, at(1.0))
    charge.begin()
    assert not charge.decide(POLICY, NOBODY, at(2.0)).policy_returns
    charge.decide(POLICY, MOVES, at(2.1))
    charge.begin()
    assert charge.decide(POLICY, NOBODY, at(2.2)).action is HAND
    assert charge.decide(POLICY, NOBODY, at(3.0)).policy_returns


def test_a_hand_without_a_policy_demonstrates() -> None:
    charge = Intervention(InterventionConfig(), with_policy=False)
    assert charge.decide(None, MOVES, 0).source is ActionSource.HUMAN


def test_nobody_in_charge_holds_and_says_why() -> None:
    charge = Intervention(InterventionConfig(), with_policy=False)
    assert charge.decide(None, NOBODY, 0).reason == "nobody is in charge"
    assert charge.decide(None, TeleopCommand(reason="bring it nearer"), 0).reason == "bring it nearer"


def test_a_stop_holds_until_it_is_resumed() -> None:
    charge = Intervention(InterventionConfig(), with_policy=True)
    charge.decide(POLICY, MOVES, at(0.0))
    for command in (STOP, NOBODY, MOVES):
        verdict = charge.decide(POLICY, command, at(0.1))
        assert verdict.action is None
        assert "resume" in verdict.reason
    charge.resume()
    back = charge.decide(POLICY, NOBODY, at(0.2))
    assert back.action is POLICY
    assert back.policy_returns


@given(
    st.lists(st.tuples(st.sampled_from([NOBODY, MOVES, STOP]), st.booleans(), st.integers(0, 10**9)), max_size=40),
    st.booleans(),
)
def test_no_order_of_events_moves_a_stopped_robot(
    events: list[tuple[TeleopCommand, bool, int]], with_policy: bool
) -> None:
    charge, now_ns, stopped, policy_before = Intervention(InterventionConfig(), with_policy), 0, False, True
    for command, has_action, elapsed_ns in events:
        now_ns += elapsed_ns
        stopped |= command is STOP
        verdict = charge.decide(POLICY if has_action and with_policy else None, command, now_ns)
        if stopped:
            assert verdict.action is None
        elif command is MOVES:
            assert verdict.action is HAND
        assert (verdict.action is None) == (verdict.source is None)
        assert verdict.action is not None or verdict.reason
        assert verdict.policy_returns == (verdict.source is ActionSource.POLICY and not policy_before)
        if verdict.source is not None or stopped:
            policy_before = verdict.source is ActionSource.POLICY


def test_a_leader_that_lies_still_does_not_keep_the_robot_from_the_policy() -> None:
    leader = LeaderArmConfig(ServoArmConfig("/dev/leader", Path("leader.json")))
    pair = CombinedTeleopConfig({"left": Device("leader_arm", leader), "right": Device("keyboard", KeyboardConfig())})
    assert beside_a_policy(leader) == LeaderArmConfig(leader.arm, idle_s=IDLE_S)
    assert beside_a_policy(LeaderArmConfig(leader.arm, idle_s=7.0)).idle_s == 7.0
    assert [part.config.idle_s for part in beside_a_policy(pair).parts.values()] == [IDLE_S, IDLE_S]
    assert beside_a_policy(ScriptedTeleopConfig()) == ScriptedTeleopConfig()
