"""A person at a keyboard beside a policy in the twin: what they type is bytes on a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from robolearn.envs.practice_cell import Hands
from robolearn.envs.practice_world import PracticeConfig, PracticeWorld
from robolearn.envs.tool_space import DECISION_TICKS, ToolSpace
from robolearn.envs.twin_cell import TwinCell
from robolearn.teleop.intervention import IDLE_S, InterventionConfig
from robolearn.teleop.keyboard import Keyboard, KeyboardConfig

CONFIG = PracticeConfig()
SPACE = ToolSpace(("push-v1", "push_back-v1"), CONFIG.tool_low, CONFIG.tool_high)
STILL = np.zeros(4, np.float32)


class Person:
    """Types into a terminal; its clock goes on when the cell sleeps."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.held = b""
        self._master, self._slave = os.openpty()
        task = SPACE.tasks[0]
        keyboard = Keyboard(KeyboardConfig(idle_s=IDLE_S), task.robot_spec, self._slave)
        hands = Hands(keyboard, np.asarray(task.robot_spec.max_speed) / task.control_hz, InterventionConfig())
        self.world = PracticeWorld(SPACE, CONFIG, TwinCell(task, None, hands, lambda: self.now_ns, self._sleep))
        self.world.reset(3)
        self.world.begin(0, np.random.default_rng(0))

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def _sleep(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)
        if self.held:
            self.type(self.held)

    def close(self) -> None:
        self.world.close()
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def person() -> Iterator[Person]:
    made = Person()
    yield made
    made.close()


def test_keys_take_over_and_idle_hands_give_back(person: Person) -> None:
    world = person.world
    assert not world.step(STILL).intervened
    person.held = b"q"  # the shoulder turns
    ticks = [world.step(STILL) for _ in range(4)]
    assert all(tick.intervened for tick in ticks[1:])
    assert world.facts()["proprio"][0] > 0.1
    assert max(abs(tick.action[1]) for tick in ticks) > 0.1  # the tool's motion that it was
    person.held = b""
    seconds = 0.0
    while world.step(STILL).intervened:
        seconds += DECISION_TICKS / SPACE.tasks[0].control_hz
        assert seconds < IDLE_S + 1.0
    assert seconds > IDLE_S - 0.3


@pytest.mark.parametrize(("key", "lost"), [(b"x", True), (b"\x7f", True), (b"\r", False), (b"\x1b[A", False)])
def test_a_person_gives_an_attempt_up_by_a_key(person: Person, key: bytes, lost: bool) -> None:
    person.type(key)
    assert (person.world.step(STILL).lost == "the operator gave the attempt up") is lost


def test_space_stops_for_good(person: Person) -> None:
    person.type(b" ")
    before = person.world.facts()["proprio"][:6]
    tick = person.world.step(np.ones(4, np.float32))
    assert tick.held
    np.testing.assert_allclose(person.world.facts()["proprio"][:6], before, atol=5e-3)
    assert person.world.cell.condition().fault == "stopped by the operator"
