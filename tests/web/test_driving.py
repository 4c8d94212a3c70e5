"""Who has the wheel, and which hands count."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robolearn.errors import SpecError
from robolearn.web.driving import LOST, MOST_AGE_MS, WHEEL_MS, Hands, Wheel, parse

PUSH = {"axes": [0.0, -1.0], "held": [5]}


def hands(sequence: int, seen_ms: float = 0.0, **controls: Any) -> Hands:
    return parse({"sequence": sequence, "seen": seen_ms, **(controls or PUSH)})


def test_one_browser_drives_until_it_lifts_its_hands() -> None:
    wheel = Wheel()
    assert wheel.turn(1, hands(1), 0.0) == (hands(1), "")
    assert wheel.turn(2, hands(1), 10.0) == (None, "another browser drives")
    lifted = hands(2, held=[])
    assert wheel.turn(1, lifted, 20.0) == (lifted, "")
    assert wheel.turn(2, hands(2), 30.0)[1] == ""
    assert wheel.driver == 2


def test_a_browser_that_falls_silent_or_leaves_loses_the_wheel() -> None:
    wheel = Wheel()
    wheel.turn(1, hands(1), 0.0)
    assert wheel.turn(2, hands(1, WHEEL_MS + 1), WHEEL_MS + 1)[1] == ""
    assert wheel.turn(1, hands(2, WHEEL_MS + 2), WHEEL_MS + 2)[0] is None
    gone = wheel.leave(2)
    assert gone is not None
    assert not gone.busy
    assert wheel.leave(1) is None
    assert wheel.driver is None


def test_hands_that_were_on_when_the_connection_was_lost_must_be_lifted() -> None:
    wheel = Wheel()
    wheel.turn(1, hands(1), 0.0)
    assert wheel.turn(1, hands(2, WHEEL_MS + 1), WHEEL_MS + 1) == (None, LOST)  # it was not heard of meanwhile
    wheel.leave(1)
    assert wheel.turn(2, hands(3, 600.0), 600.0) == (None, LOST)  # the same page, by another connection
    assert wheel.turn(2, hands(4, 610.0), 610.0) == (None, LOST)
    wheel.turn(2, hands(5, 620.0, held=[]), 620.0)
    assert wheel.turn(2, hands(6, 630.0), 630.0) == (hands(6, 630.0), "")
    assert wheel.turn(3, hands(1, 630.0, held=[]), 630.0)[1] == ""  # a page that was just opened


def test_who_sees_the_past_lets_go_and_must_lift_the_hands() -> None:
    wheel = Wheel()
    assert wheel.turn(1, hands(1, 0.0), 0.0)[1] == ""
    off, why = wheel.turn(1, hands(2, 0.0), MOST_AGE_MS + 1)
    assert off is not None
    assert not off.busy
    assert "slow" in why
    assert wheel.turn(1, hands(3, 500.0), 500.0)[0] is None  # fresh again, and still on the stick
    wheel.turn(1, hands(4, 510.0, held=[]), 510.0)
    assert wheel.turn(1, hands(5, 520.0), 520.0)[1] == ""
    assert wheel.turn(1, hands(6, 1e9), 530.0)[1] != ""  # from the future


def test_nothing_goes_on_while_the_robot_is_stopped_nor_at_once_after() -> None:
    wheel = Wheel()
    wheel.turn(1, hands(1), 0.0)
    off, why = wheel.turn(1, hands(2), 10.0, "the robot is stopped")
    assert off is not None
    assert not off.busy
    assert "stopped" in why
    assert wheel.turn(1, hands(3), 20.0)[0] is None


def test_old_messages_count_for_nothing() -> None:
    wheel = Wheel()
    wheel.turn(1, hands(4, held=[]), 0.0)
    wheel.turn(1, hands(5), 0.0)
    assert wheel.turn(1, hands(5), 1.0) == (None, "late")
    assert wheel.turn(1, hands(4, held=[]), 1.0) == (None, "late")
    assert wheel.driver == 1


NUMBERS = st.floats() | st.integers() | st.none() | st.booleans() | st.text(max_size=3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["sequence", "seen", "axes", "held", "engaged", "position", "orientation", "grip"]),
        NUMBERS | st.lists(NUMBERS, max_size=6),
    )
)
def test_any_message_is_sane_hands_or_refused(message: dict[str, Any]) -> None:
    try:
        taken = parse(message)
    except SpecError:
        return
    assert all(-1 <= value <= 1 for value in taken.axes)
    assert len(taken.position) in (0, 3)
    assert 0 <= taken.grip <= 1
    json.dumps(taken.__dict__, allow_nan=False)


@pytest.mark.parametrize(
    "message", [{"axes": [2.0]}, {"held": [True]}, {"position": [0, 0, 0]}, {"seen": "now"}, {"grip": 9}]
)
def test_what_is_wrong_is_said(message: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="drive"):
        parse({"sequence": 1, "seen": 0.0, **message})
