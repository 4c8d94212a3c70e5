"""The policy in its thread: one batch, swapped between two chunks, errors told."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from robolearn.errors import SpecError, UnknownNameError
from robolearn.serving.inference import Answer, Inference
from robolearn.serving.shelf import PolicyShelf
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec
from robolearn.types import ActionChunk, Observation

ROBOT = RobotSpec("toy", ("pan", "grip"), (-1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec}, ROBOT.action_spec, 20.0)
SEEN: Observation = {"proprio": np.zeros(4, np.float32)}


class Constant:
    """Answers with one value; waits for `gate` if it has one."""

    def __init__(self, value: float, spec: InterfaceSpec = SPEC, gate: threading.Event | None = None) -> None:
        self.value, self.spec, self.gate = value, spec, gate
        self.seeds: list[int] = []
        self.batches: list[int] = []

    def reset(self, seed: int = 0) -> None:
        self.seeds.append(seed)

    def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
        return self.act_many([observation], [stamp_ns])[0]

    def act_many(self, observations: Sequence[Observation], stamps_ns: Sequence[int]) -> list[ActionChunk]:
        self.batches.append(len(observations))
        if self.gate is not None:
            assert self.gate.wait(30)
        return [ActionChunk(np.full((2, 2), self.value, np.float32), t, t, 10) for t in stamps_ns]


class Collector:
    """The answers of an inference, as they come."""

    def __init__(self, shelf: PolicyShelf) -> None:
        self.came = threading.Event()
        self.inference = Inference(shelf, self.came.set)

    def wait(self, count: int = 1) -> list[Answer]:
        answers: list[Answer] = []
        while len(answers) < count:
            assert self.came.wait(30)
            self.came.clear()
            answers += self.inference.take()
        return answers


@pytest.fixture
def made() -> Iterator[list[Collector]]:
    made: list[Collector] = []
    yield made
    for collector in made:
        collector.inference.close()


def start(made: list[Collector], policy: Any) -> tuple[Collector, PolicyShelf]:
    shelf = PolicyShelf("first", policy)
    made.append(Collector(shelf))
    return made[0], shelf


def test_robots_that_wait_together_are_one_batch_and_newer_observations_replace_older(made: list[Collector]) -> None:
    gate = threading.Event()
    policy = Constant(0.25, gate=gate)
    collector, _ = start(made, policy)
    collector.inference.ask("left", SEEN, 1)
    while not policy.batches:
        pass
    for robot, stamp in (("left", 2), ("right", 2), ("left", 3)):
        collector.inference.ask(robot, SEEN, stamp)
    gate.set()
    answers = collector.wait(3)
    assert [(a.robot, a.stamp_ns) for a in answers] == [("left", 1), ("left", 3), ("right", 2)]
    assert policy.batches == [1, 2]
    assert all(a.chunk is not None and a.problem == "" for a in answers)


def test_a_policy_is_swapped_between_two_chunks_and_reset_first(made: list[Collector]) -> None:
    collector, shelf = start(made, Constant(0.0))
    other = Constant(0.5)
    collector.inference.reset(7)
    collector.inference.ask("arm", SEEN, 1)
    (before,) = collector.wait()
    shelf.put("second", other)
    shelf.activate("second")
    collector.inference.ask("arm", SEEN, 2)
    (after,) = collector.wait()
    assert before.chunk is not None
    assert after.chunk is not None
    assert (before.chunk.actions[0, 0], after.chunk.actions[0, 0]) == (0.0, 0.5)
    assert other.seeds == [7]
    assert shelf.names == ["first", "second"]


def test_answers_of_the_episode_before_are_dropped(made: list[Collector]) -> None:
    gate = threading.Event()
    policy = Constant(0.0, gate=gate)
    collector, _ = start(made, policy)
    collector.inference.ask("arm", SEEN, 1)
    while not policy.batches:
        pass
    collector.inference.reset(1)
    gate.set()
    collector.inference.ask("arm", SEEN, 2)
    assert [a.stamp_ns for a in collector.wait()] == [2]


@pytest.mark.parametrize(("value", "text"), [(float("nan"), "not finite"), ("words", "ValueError")])
def test_a_policy_that_fails_says_why_and_is_asked_again(made: list[Collector], value: Any, text: str) -> None:
    policy = Constant(value)
    collector, _ = start(made, policy)
    collector.inference.ask("arm", SEEN, 1)
    (answer,) = collector.wait()
    assert answer.chunk is None
    assert text in answer.problem
    policy.value = 0.1
    collector.inference.ask("arm", SEEN, 2)
    assert collector.wait()[0].chunk is not None


def test_the_shelf_takes_only_what_fits() -> None:
    shelf = PolicyShelf("first", Constant(0.0))
    other = RobotSpec("other", ("pan", "tilt"), (-1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
    with pytest.raises(SpecError, match="train for this robot"):
        shelf.put("wrong", Constant(0.0, InterfaceSpec({"proprio": other.proprio_spec}, other.action_spec, 20.0)))
    seen = {"proprio": ArraySpec((4,), names=SPEC.observation["proprio"].names[::-1])}
    with pytest.raises(SpecError, match=r"proprio \(grip.velocity, .* has it as \(pan.position, .*use the robot"):
        shelf.put("wrong", Constant(0.0, InterfaceSpec(seen, SPEC.action, 20.0)))
    with pytest.raises(UnknownNameError, match="did you mean first"):
        shelf.activate("frst")
    assert shelf.active_name == "first"


def test_a_policy_that_could_not_be_reset_does_not_act_before_it_was(made: list[Collector]) -> None:
    class Unready(Constant):
        def reset(self, seed: int = 0) -> None:
            super().reset(seed)
            if len(self.seeds) == 1:
                raise RuntimeError("not yet")

    policy = Unready(0.25)
    collector, _ = start(made, policy)
    collector.inference.reset(7)
    for stamp_ns, problem in ((1, "RuntimeError: not yet"), (2, ""), (3, "")):
        collector.inference.ask("", SEEN, stamp_ns)
        (answer,) = collector.wait()
        assert answer.problem == problem
    assert policy.seeds == [7, 7]
