"""A real cell to practise in, whose robot is the twin's and whose clock is simulated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robolearn.cameras.camera import Camera
from robolearn.cameras.fake import FakeCamera
from robolearn.envs.device_cell import DeviceCell
from robolearn.envs.practice_cell import Hands
from robolearn.envs.practice_world import PracticeConfig, PracticeWorld
from robolearn.envs.seen_scene import UNSEEN_S, marks_of
from robolearn.envs.tool_space import DECISION_TICKS, ToolSpace
from robolearn.errors import HardwareError, SpecError
from robolearn.robots.robot import Robot
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.specs import CameraSpec
from robolearn.teleop.intervention import InterventionConfig
from robolearn.teleop.scripted import ScriptedTeleop, ScriptedTeleopConfig
from robolearn.teleop.teleoperator import TeleopCommand, TeleopEvent
from robolearn.twin.devices import TwinRobot
from robolearn.twin.twin import Twin
from robolearn.types import ActionSource, Frame, RobotState

CONFIG = PracticeConfig()
SPACE = ToolSpace(("push-v1", "push_back-v1"), CONFIG.tool_low, CONFIG.tool_high)
TASK = SPACE.tasks[0]
PERIOD_S = 1 / TASK.control_hz
PERSON = InterventionConfig(release_s=0.0)


class Bench:
    """The twin as a machine: time passes when somebody sleeps."""

    def __init__(self) -> None:
        self.twin = Twin(TASK, {})
        self.hidden = self.broken = self.blind = False
        self._seen: dict[str, tuple[int, np.ndarray]] = {}

    def cell(
        self,
        *commands: TeleopCommand,
        bell: bool = False,
        unseen: bool = False,
        cameras: Mapping[str, Camera] = {},
        safety: SafetyConfig = SafetyConfig(),  # noqa: B008, it is frozen
    ) -> DeviceCell:
        spec = self.twin.robot_spec

        def hands(robot: Robot) -> Hands:
            device = ScriptedTeleop(ScriptedTeleopConfig(commands), robot.spec)
            return Hands(device, np.asarray(spec.max_speed) * PERIOD_S, PERSON)

        return DeviceCell(
            TASK,
            self,
            SafetyFilter(spec, safety, PERIOD_S),
            None if unseen else self,
            cameras,
            hands if commands else None,
            lambda: bell,
            clock=lambda: self.twin.stamp_ns,
            sleep=self.sleep,
            day=lambda: 0.0,
        )

    def sleep(self, seconds: float) -> None:
        for _ in range(round(seconds / PERIOD_S)):
            self.twin.advance()

    # --- robot ---

    @property
    def spec(self):
        return self.twin.robot_spec

    def connect(self) -> None:
        self._robot = TwinRobot(self.twin)
        self._robot.connect()

    def read(self) -> RobotState:
        if self.broken:
            raise HardwareError("the bus is silent; check its cable")
        return self._robot.read()

    def write(self, action: np.ndarray) -> None:
        self.written = action
        self._robot.write(action)

    def close(self) -> None:
        self._robot.close()

    # --- tracker ---

    def look(self) -> Mapping[str, tuple[int, np.ndarray]]:
        if self.blind:
            raise HardwareError("camera front is silent")
        if not self.hidden:
            self._seen = {"puck": (self.twin.stamp_ns, self.twin.body_poses()["puck"])}
        return self._seen


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_expert_does_the_task_on_a_robot_of_which_only_joints_and_tags_are_known(bench: Bench) -> None:
    assert marks_of(TASK) == ("goal",)
    bench.twin.reset(3)
    world = PracticeWorld(SPACE, CONFIG, bench.cell())
    rng = np.random.default_rng(0)
    for index in (0, 1):
        assert any(world.go_home() for _ in range(12))
        world.begin(index, rng)
        assert any(world.step(world.expert()).success for _ in range(35))
    marks = world.freeze()["marks"]
    np.testing.assert_allclose(marks["goal"], world.facts()["pose_goal"])


def test_the_arm_goes_home_in_one_motion_within_the_limits_of_its_cell(bench: Bench) -> None:
    """Those of hardware/cells/so101.yaml: each decision is no start of its own, soft and from rest."""
    limits = SafetyConfig(soft_start_s=1.0, max_acceleration=20.0)
    world = PracticeWorld(SPACE, CONFIG, bench.cell(safety=limits))
    world.reset(0)
    world.begin(0, np.random.default_rng(0))
    for _ in range(12):
        world.step(np.array([1, 1, 1, 0], np.float32))
    world.begin(1, np.random.default_rng(1))
    sent, write = [], bench.write

    def written(action: np.ndarray) -> None:
        sent.append(action)
        write(action)

    bench.write = written
    assert [world.go_home() for _ in range(8)].index(True) < 6
    assert np.abs(np.diff(sent, n=2, axis=0)).max() < 20.0 * PERIOD_S**2 + 1e-5


def test_a_silent_robot_is_held_then_given_up(bench: Bench) -> None:
    cell = bench.cell()
    cell.rest()
    bench.broken = True
    target = cell.facts()["proprio"][:6].astype(float)
    held = [cell.send(target).held for _ in range(25)]
    assert "0.1" in held[2]  # the measurement, and so the command, is too old
    assert cell.condition().fault == "the bus is silent; check its cable"


def test_after_a_failure_commands_go_on_from_where_the_arm_is(bench: Bench) -> None:
    cell = bench.cell()
    cell.rest()
    pushed = bench.read().joint_position + np.float32(0.3) * np.array([1, 0, 0, 0, 0, 0], np.float32)
    bench.broken = True
    cell.send(None)
    bench._robot.write(pushed)  # by somebody else
    bench.sleep(0.5)
    bench.broken = False
    bench.written = pushed
    for _ in range(3):
        cell.send(None)
        np.testing.assert_allclose(bench.written, pushed, atol=0.1)


def test_an_arm_that_is_found_outside_of_its_range_is_sent_nowhere(bench: Bench) -> None:
    cell = bench.cell()
    cell.rest()
    bench.broken = True
    cell.send(None)
    bench.broken = False
    outside = np.float32(bench.spec.position_high) + 1
    bench._robot.read = lambda: RobotState(outside, 0 * outside, bench.twin.stamp_ns)
    del bench.written
    for _ in range(25):
        cell.send(None)
    assert not hasattr(bench, "written")
    assert "move it inside by hand" in cell.condition().fault


def test_a_thing_that_is_hidden_for_long_is_told(bench: Bench) -> None:
    world = PracticeWorld(SPACE, CONFIG, bench.cell())
    bench.hidden = True
    for _ in range(round(UNSEEN_S * TASK.control_hz / DECISION_TICKS)):
        assert world.lost() == ""
        world.hold()
    world.hold()
    assert world.lost().startswith("the puck has not been seen for")


def test_a_thing_that_is_never_seen_is_told_at_the_start_and_nothing_stays_open(bench: Bench) -> None:
    bench.hidden = True
    with pytest.raises(HardwareError, match="puck is not seen"):
        bench.cell()
    with pytest.raises(HardwareError, match="connect"):
        bench.read()


def test_without_tags_nothing_is_known_but_where_the_arm_is(bench: Bench) -> None:
    bench.hidden = True
    space = ToolSpace(("push-v1", "push_back-v1"), CONFIG.tool_low, CONFIG.tool_high, unseen=True)
    said = (TeleopCommand(), TeleopCommand(events=(TeleopEvent.SUCCESS,)))
    world = PracticeWorld(space, CONFIG, bench.cell(*said, unseen=True))
    assert not world.recovers
    assert set(world.facts()) == {"proprio", "pose_tool"}
    world.begin(0, np.random.default_rng(0))  # draws no mark
    tick = world.step(np.full(4, 0.5, np.float32))
    assert (tick.reached, tick.success, tick.moved, tick.lost) == (None, False, True, "")
    assert tick.said_done.tolist() == [False, True, False, False]
    assert tick.states.shape == (DECISION_TICKS, SPACE.own_entries)
    world.thaw(world.freeze())


def test_another_robot_is_refused(bench: Bench) -> None:
    bench.twin.robot_spec = replace(bench.twin.robot_spec, joint_names=tuple("abcdef"))
    with pytest.raises(SpecError, match="has the joints a, b"):
        bench.cell()


def test_a_person_takes_over_in_the_middle_of_a_decision_and_it_is_theirs(bench: Bench) -> None:
    nobody, at = TeleopCommand(), bench.twin.robot_state().joint_position
    ahead = np.array([0.0, 0.01, 0.0, 0.0, 0.0])
    there = SPACE.joints(SPACE.command_of(at) + ahead).astype(np.float32)
    world = PracticeWorld(SPACE, CONFIG, bench.cell(nobody, nobody, TeleopCommand(there), nobody, nobody))
    stay = np.zeros(4, np.float32)
    tick = world.step(stay)
    assert tick.intervened
    assert not tick.held
    assert tick.action[1] == pytest.approx(0.01 / (4 * 0.008), abs=0.02)
    following = world.step(stay)
    assert not following.intervened
    np.testing.assert_array_equal(following.action, stay)


def test_where_a_person_lets_go_outside_of_the_limits_the_arm_stays_until_the_policy_moves_it(bench: Bench) -> None:
    """It does not swing back by itself, in a decision of which another action is stored."""
    command, script = SPACE.command_of(bench.twin.robot_state().joint_position), []
    for _ in range(40):
        command = command + np.array([0, 0.008, 0, 0, 0])
        script.append(TeleopCommand(SPACE.joints(command).astype(np.float32)))
    world = PracticeWorld(SPACE, CONFIG, bench.cell(*script, *[TeleopCommand()] * 40))
    while world.step(np.zeros(4, np.float32)).intervened:
        before = world.facts()["pose_tool"][:3]
    assert before[1] > CONFIG.tool_high[1] + 0.1
    np.testing.assert_allclose(world.facts()["pose_tool"][:3], before, atol=0.01)
    world.step(np.array([0, 1, 0, 0], np.float32))  # not further out
    np.testing.assert_allclose(world.facts()["pose_tool"][:3], before, atol=0.01)
    world.step(np.array([0, -1, 0, 0], np.float32))
    assert world.facts()["pose_tool"][1] == pytest.approx(before[1] - 0.032, abs=0.01)


class Eye(FakeCamera):
    """Falls silent for as long as it is told to."""

    silent = False

    def read(self) -> Frame:
        if self.silent:
            raise HardwareError(f"camera {self.spec.name} is silent")
        return super().read()


def test_the_arm_holds_while_a_camera_is_silent_and_then_stops_for_good(bench: Bench) -> None:
    """Whatever another one shows meanwhile; what was seen last is kept."""
    eyes = {name: Eye(CameraSpec(name, 4, 4, 20.0)) for name in ("front", "wrist")}
    cell = bench.cell(cameras=eyes)
    target = cell.rest() + np.float32([0.02, 0, 0, 0, 0, 0])
    seen = cell.render("front")
    assert cell.send(target).held == ""
    eyes["front"].silent = True
    np.testing.assert_array_equal(cell.render("front"), seen)
    assert cell.send(target).held == "camera front is silent"
    eyes["front"].silent = False
    assert [cell.send(target).held for _ in range(2)] == ["camera front is silent", ""]  # a held tick looks again
    eyes["front"].silent = True
    for _ in range(25):
        cell.render("front")
        cell.render("wrist")
        assert cell.send(target).held == "camera front is silent"
    assert cell.condition().fault == "camera front is silent"


def test_the_arm_holds_while_nobody_sees_where_things_are(bench: Bench) -> None:
    """A policy of states looks at no picture: its camera is that of the tags."""
    cell = bench.cell()
    target = cell.rest() + np.float32([0.02, 0, 0, 0, 0, 0])
    assert cell.send(target).held == ""
    bench.blind = True
    assert [cell.send(target).held for _ in range(2)] == ["", "camera front is silent"]
    bench.blind = False
    assert [cell.send(target).held for _ in range(2)] == ["camera front is silent", ""]  # a held tick looks again
    assert cell.condition().fault == ""


@pytest.mark.parametrize(
    ("event", "fault", "lost"),
    [
        (TeleopEvent.STOP, "stopped by the operator", ""),
        (TeleopEvent.FAILURE, "", "the operator gave the attempt up"),
    ],
)
def test_what_a_person_says_is_obeyed(bench: Bench, event: TeleopEvent, fault: str, lost: str) -> None:
    world = PracticeWorld(SPACE, CONFIG, bench.cell(TeleopCommand(events=(event,))))
    tick = world.step(np.ones(4, np.float32))
    assert (world.cell.condition().fault, tick.lost) == (fault, lost)
    assert tick.held is bool(fault)


@pytest.mark.parametrize("how", ["controls", "bell"])
def test_a_person_says_that_things_are_put_back(bench: Bench, how: str) -> None:
    commands = (TeleopCommand(), TeleopCommand(events=(TeleopEvent.SUCCESS,))) if how == "controls" else ()
    world = PracticeWorld(SPACE, CONFIG, bench.cell(*commands, bell=how == "bell"))
    before = world.facts()["proprio"]
    assert [world.reset(0) for _ in range(3)].index(True) == (1 if how == "controls" else 0)
    np.testing.assert_allclose(world.facts()["proprio"][:6], before[:6], atol=0.02)


joints = st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6)


@given(st.lists(st.tuples(st.booleans(), joints), max_size=40), joints)
@settings(max_examples=40, deadline=None)
def test_hands_give_back_the_robot_in_small_steps(script: list[tuple[bool, list[float]]], wanted: list[float]) -> None:
    spec, most = TASK.robot_spec, np.full(6, 0.1)
    middle = (np.array(spec.position_low) + spec.position_high) / 2
    targets = [(middle + 0.1 * np.array(at)).astype(np.float32) if acts else None for acts, at in script]
    commands = [TeleopCommand(target) for target in targets]
    hands = Hands(ScriptedTeleop(ScriptedTeleopConfig(tuple(commands)), spec), most, PERSON)
    policy, state = middle + np.array(wanted), RobotState(middle.astype(np.float32), np.zeros(6, np.float32), 0)
    last = None
    for tick, (acts, _) in enumerate(script):
        verdict, _ = hands.decide(policy, state, tick * 50_000_000)
        assert verdict.source is (ActionSource.INTERVENTION if acts else ActionSource.POLICY)
        if last is not None and not acts:
            assert (np.abs(verdict.action - last) <= most + 1e-5).all() or np.allclose(last, policy, atol=1e-5)
        if last is not None or acts:
            last = verdict.action
    for tick in range(40):
        verdict, _ = hands.decide(policy, state, (len(script) + tick) * 50_000_000)
    np.testing.assert_allclose(verdict.action, policy, atol=1e-5)
