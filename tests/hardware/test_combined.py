"""Two arms as one robot, each on a stand-in bus of its own, and their leaders."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.cell import Cell, load_cell, opened
from robolearn.errors import CellError, HardwareError, SpecError
from robolearn.plugins import Device
from robolearn.recipes.cell_check import check_cell
from robolearn.robots.combined import CombinedRobot, CombinedRobotConfig
from robolearn.robots.servo_arm import ServoArmConfig
from robolearn.robots.standin import StandInBus
from robolearn.specs import RobotSpec
from robolearn.teleop.combined import CombinedTeleop, CombinedTeleopConfig
from robolearn.teleop.scripted import ScriptedTeleopConfig
from robolearn.teleop.teleoperator import TeleopCommand, TeleopEvent
from robolearn.types import RobotState

from .conftest import JOINTS, PATIENT, calibration_of, wait_until

ROOT = Path(__file__).parents[2]
SIDES = ("left", "right")


@pytest.fixture
def buses(tmp_path: Path) -> Iterator[dict[str, StandInBus]]:
    with StandInBus("sts3215", path=tmp_path / "left") as left, StandInBus("sts3215", path=tmp_path / "right") as right:
        yield {"left": left, "right": right}


@pytest.fixture
def config(buses: dict[str, StandInBus], tmp_path: Path) -> CombinedRobotConfig:
    calibration_of("sts3215").save(tmp_path / "calibration.json")
    arms = {
        name: ServoArmConfig(bus.port, tmp_path / "calibration.json", command_timeout_s=5.0, bus=PATIENT)
        for name, bus in buses.items()
    }
    return CombinedRobotConfig("pair", {name: Device("servo_arm", arm) for name, arm in arms.items()})


@pytest.fixture
def pair(config: CombinedRobotConfig) -> Iterator[CombinedRobot]:
    pair = CombinedRobot(config)
    yield pair
    pair.close()


def test_both_arms_are_one_robot(pair: CombinedRobot, buses: dict[str, StandInBus]) -> None:
    assert pair.spec.joint_names == tuple(f"{side}_{joint}" for side in SIDES for joint in JOINTS)
    assert pair.health is None
    pair.connect()
    state = pair.read()
    target = state.joint_position + np.float32(0.1)
    target[6:] -= np.float32(0.3)
    pair.write(target)
    before = {name: bus.motors[1].encoder for name, bus in buses.items()}
    wait_until(lambda: bool(np.allclose(pair.read().joint_position, target, atol=0.01)))
    moved = pair.read()
    assert buses["left"].motors[1].encoder > before["left"]
    assert buses["right"].motors[1].encoder < before["right"]
    assert moved.stamp_ns > state.stamp_ns
    assert pair.health is not None
    assert pair.health.temperature_c.shape == (12,)


def test_a_fault_of_one_is_a_fault_of_both_and_the_other_is_not_let_go(
    pair: CombinedRobot, buses: dict[str, StandInBus], caplog: pytest.LogCaptureFixture
) -> None:
    pair.connect()
    state = pair.read()
    buses["right"].pull_cable()
    with pytest.raises(HardwareError, match=r"^right: .*right"):
        pair.read()
    with pytest.raises(HardwareError, match=r"^right: ") as both:
        pair.write(state.joint_position + np.float32(0.05))
    assert "left:" not in str(both.value)
    with pytest.raises(HardwareError, match=r"^right: "):
        pair.connect()
    buses["right"].plug_in()
    pair.parts["left"].read()  # what was written before has come by now
    heard = buses["left"].heard
    pair.connect()
    assert buses["left"].heard == heard  # nobody has touched it
    pair.write(pair.read().joint_position)
    assert not any(motor.limp for bus in buses.values() for motor in bus.motors.values())


def test_where_one_cannot_be_connected_the_other_is_named_as_holding(
    pair: CombinedRobot, buses: dict[str, StandInBus], caplog: pytest.LogCaptureFixture
) -> None:
    buses["right"].motors[3].present = False
    with caplog.at_level(logging.WARNING), pytest.raises(HardwareError, match=r"^right: .*elbow_flex"):
        pair.connect()
    assert "stays where it stands, with its torque on" in caplog.text
    with pytest.raises(HardwareError, match=r"left: .*connect.*; right: .*connect"):
        pair.read()
    buses["right"].motors[3].present = True
    pair.connect()
    pair.read()


def test_they_are_released_together(config: CombinedRobotConfig, buses: dict[str, StandInBus]) -> None:
    assert config.rest_rad is None
    rest = (0.0,) * 6
    arms = {name: replace(part, config=replace(part.config, rest_rad=rest)) for name, part in config.parts.items()}
    resting = CombinedRobotConfig("pair", {**config.parts, "left": arms["left"]})
    assert resting.rest_rad is None
    resting = CombinedRobotConfig("pair", arms)
    assert resting.rest_rad == rest * 2
    assert resting.max_temperature_c == 65.0
    pair = CombinedRobot(resting)
    pair.connect()
    middle = np.zeros(12, np.float32)
    middle[6] = 0.5  # the right one does not rest there
    pair.write(middle)
    wait_until(lambda: bool(np.allclose(pair.read().joint_position, middle, atol=0.01)))
    with pytest.raises(HardwareError, match=r"^right: .*would fall"):
        pair.release()
    pair.release()
    assert all(motor.limp for bus in buses.values() for motor in bus.motors.values())
    pair.close()


def test_what_cannot_be_combined(config: CombinedRobotConfig) -> None:
    with pytest.raises(SpecError, match="parts has left; expected two or more, such as left and right"):
        CombinedRobotConfig("pair", {"left": config.parts["left"]})
    with pytest.raises(SpecError, match="a part is named 'Left arm'; expected small letters"):
        CombinedRobotConfig("pair", {"Left arm": config.parts["left"], "right": config.parts["right"]})
    gone = replace(config.parts["left"], config=replace(config.parts["left"].config, calibration=Path("none.json")))
    with pytest.raises((HardwareError, SpecError), match=r"^left: .*none\.json"):
        CombinedRobot(CombinedRobotConfig("pair", {"left": gone, "right": config.parts["right"]}))


# -- the cell's file ---------------------------------------------------------------------------------------------------


@pytest.fixture
def cell_file(tmp_path: Path) -> Iterator[Path]:
    """The cell of hardware/, with four stand-in arms."""
    text = (ROOT / "hardware" / "cells" / "so101_pair_standin.yaml").read_text(encoding="utf-8")
    text = text.replace("../calibration", str(ROOT / "hardware" / "calibration"))
    text = text.replace("../../sim_assets", str(ROOT / "sim_assets"))
    text = text.replace("/tmp/robolearn-", f"{tmp_path}/")
    text = text[: text.index("cameras:")] + text[text.index("teleop:") :]  # one with cameras is recorded in tests/nodes
    (tmp_path / "pair.yaml").write_text(text, encoding="utf-8")
    names = [f"{side}{kind}" for side in SIDES for kind in ("", "-leader")]
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(StandInBus("sts3215", path=tmp_path / name))
        yield tmp_path / "pair.yaml"


def test_a_cell_of_two_arms_is_checked(cell_file: Path) -> None:
    checks = {check.name: check for check in check_cell(cell_file, move=True)}
    assert [
        name for name, check in checks.items() if not check.ok and name != "bus"
    ] == []  # a busy machine misses its rate
    assert "0 reads failed" in checks["bus"].found
    assert checks["robot"].found == "so101_pair, 12 joints, all answer and hold"
    for side in SIDES:
        assert f"{side}_gripper moved" in checks[f"motion {side}"].found
    assert checks["teleop combined"].found == "it connects"
    places = opened(load_cell(cell_file))
    assert sorted(places) == [
        "robot.parts.left.port", "robot.parts.right.port",
        "teleop.parts.left.arm.port", "teleop.parts.right.arm.port",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("/right\n", "/left\n", r"robot.parts.right.port is .*/left, which robot.parts.left.port is already"),
        ("/right-leader,", "/left,", "teleop.parts.right.arm.port is .*/left, which robot.parts.left.port is already"),
        ("    right:\n      driver: servo_arm", "    right:\n      driver: arm", "robot.parts.right.driver names an"),
        ("rest_rad: [0,", "rest: [0,", r"robot.parts.left.rest is an unknown key 'rest'; did you mean rest_rad"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_part_is_named_by_its_line(cell_file: Path, old: str, new: str, said: str) -> None:
    text = cell_file.read_text(encoding="utf-8")
    assert old in text
    cell_file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(CellError, match=rf"pair.yaml:\d+: {said}"):
        load_cell(cell_file)


def test_one_arm_may_not_come_near_the_other(cell_file: Path) -> None:
    cell: Cell = load_cell(cell_file)
    robot = cell.make_robot()
    robot.connect()
    safety = cell.make_safety(robot.spec)
    state = robot.read()
    safety.reset(state)
    target = state.joint_position.copy()
    reason, now_ns = "", state.stamp_ns
    for _ in range(400):  # both turn to the middle, stretched
        now_ns += 33_000_000
        target[[0, 6]] += np.array([0.01, -0.01], np.float32)
        decision = safety.filter(np.clip(target, robot.spec.position_low, robot.spec.position_high), now_ns, now_ns)
        if decision.held:
            reason = decision.reason
            break
    robot.close()
    assert reason.startswith("left_gripper and right_gripper would be ")


# -- who moves them ----------------------------------------------------------------------------------------------------

SPEC = RobotSpec("pair", ("left_a", "left_b", "right_a"), (-1.0,) * 3, (1.0,) * 3, (1.0,) * 3)
IDLE = TeleopCommand()


def command(*action: float, **more: object) -> TeleopCommand:
    return TeleopCommand(np.array(action, np.float32) if action else None, **more)  # type: ignore[arg-type]


def hands(left: list[TeleopCommand], right: list[TeleopCommand]) -> CombinedTeleop:
    parts = {"left": left, "right": right}
    config = {name: Device("scripted", ScriptedTeleopConfig(tuple(said))) for name, said in parts.items()}
    teleop = CombinedTeleop(CombinedTeleopConfig(config), SPEC)
    teleop.connect()
    return teleop


def state(*position: float) -> RobotState:
    return RobotState(np.array(position, np.float32), np.zeros(3, np.float32), 0)


def test_a_hand_that_lies_still_keeps_its_arm_where_it_is() -> None:
    left = [IDLE, command(0.1, 0.2), command(0.3, 0.4), IDLE, IDLE, IDLE]
    right = [IDLE, IDLE, IDLE, command(-0.5), IDLE, command(-0.6)]
    teleop = hands(left, right)
    found = [teleop.read(state(0.0, 0.0, 0.1 * tick), tick).action for tick in range(6)]
    assert found[0] is None
    np.testing.assert_allclose(found[1], [0.1, 0.2, 0.1])  # where the right one stood
    np.testing.assert_allclose(found[2], [0.3, 0.4, 0.1])  # not where it has sagged to since
    np.testing.assert_allclose(found[3], [0.3, 0.4, -0.5])
    assert found[4] is None  # nobody is in charge
    np.testing.assert_allclose(found[5], [0.0, 0.0, -0.6])  # and it is where it stands again that counts


def test_nobody_is_in_charge_while_one_asks_for_something() -> None:
    teleop = hands(
        [command(0.1, 0.2), command(0.1, 0.2, events=(TeleopEvent.SUCCESS,))],
        [TeleopCommand(reason="bring it near"), command(0.3, events=(TeleopEvent.STOP,))],
    )
    first, second = teleop.read(state(0, 0, 0), 0), teleop.read(state(0, 0, 0), 1)
    assert first.action is None
    assert first.reason == "right: bring it near"
    np.testing.assert_allclose(second.action, [0.1, 0.2, 0.3])
    assert second.events == (TeleopEvent.SUCCESS, TeleopEvent.STOP)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(-1, 1, width=32)), min_size=1, max_size=20))
def test_each_joint_goes_where_its_own_hand_says_or_stays(ticks: list[tuple[bool, bool, float]]) -> None:
    left = [command(value, -value) if here else IDLE for here, _, value in ticks]
    right = [command(value / 2) if here else IDLE for _, here, value in ticks]
    teleop = hands(left, right)
    last: np.ndarray | None = None
    for tick, (of_left, of_right, value) in enumerate(ticks):
        seen = state(0.7, -0.7, 0.3)
        found = teleop.read(seen, tick).action
        if not (of_left or of_right):
            assert found is None
            last = None
            continue
        before = seen.joint_position if last is None else last
        wanted = [*([value, -value] if of_left else before[:2]), value / 2 if of_right else before[2]]
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        last = found


def test_who_moves_which_joint_has_to_be_clear() -> None:
    scripted = Device("scripted", ScriptedTeleopConfig())
    with pytest.raises(SpecError, match="do not share out the joints left_a, left_b, right_a: each name has to begin"):
        CombinedTeleop(CombinedTeleopConfig({"left": scripted, "third": scripted}), SPEC)
    with pytest.raises(SpecError, match="do not share out"):
        CombinedTeleop(CombinedTeleopConfig({"left": scripted, "left_a": scripted, "right": scripted}), SPEC)
    phone = Device("phone", None)
    with pytest.raises(SpecError, match="right: phone moves a whole robot alone"):
        CombinedTeleop(CombinedTeleopConfig({"left": scripted, "right": phone}), SPEC)
