"""Messages and types: what goes in comes out, over the wire's bytes where the messages are ours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from robolearn_nodes import convert
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robolearn.errors import SpecError
from robolearn.specs import CameraSpec
from robolearn.tasks.kinematics import SO101
from robolearn.teleop.web import Web, WebConfig
from robolearn.types import ActionChunk, ActionSource, RobotState
from robolearn.web.driving import parse

JOINTS = ("pan", "lift", "gripper")
stamps = st.integers(0, 2**31 * 10**9 - 1)
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def over_the_wire(message: Any) -> Any:
    serialization = pytest.importorskip("rclpy.serialization")
    return serialization.deserialize_message(serialization.serialize_message(message), type(message))


@given(stamps)
def test_stamp_survives(stamp: int) -> None:
    assert convert.stamp_ns(convert.time_message(stamp)) == stamp
    assert convert.stamp_ns(convert.clock_message(stamp).clock) == stamp


@given(st.lists(floats, min_size=6, max_size=6), stamps)
def test_robot_state_survives(values: list[float], stamp: int) -> None:
    state = RobotState(np.float32(values[:3]), np.float32(values[3:]), stamp)
    back = convert.robot_state(over_the_wire(convert.joint_state_message(state, JOINTS)), JOINTS)
    np.testing.assert_array_equal(back.proprio(), state.proprio())
    assert back.stamp_ns == stamp


def test_joints_are_found_by_name_not_by_place() -> None:
    message = JointState(name=["gripper", "extra", "pan", "lift"], position=[3.0, 9.0, 1.0, 2.0], velocity=[0.0] * 4)
    np.testing.assert_array_equal(convert.robot_state(message, JOINTS).joint_position, [1, 2, 3])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (JointState(name=["pan", "lift"], position=[0.0] * 2, velocity=[0.0] * 2), "joint states lacks? gripper"),
        (JointState(name=list(JOINTS), position=[0.0] * 3), "3 names, 3 positions and 0 velocities"),
        (JointState(), "no joints"),
    ],
)
def test_incomplete_joint_states_are_refused(message: JointState, expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        convert.robot_state(message, JOINTS)


@given(st.lists(st.floats(), min_size=3, max_size=3), stamps)
def test_command_survives_whatever_its_values(values: list[float], stamp: int) -> None:
    message = over_the_wire(convert.command_message(np.array(values), stamp, JOINTS, "script"))
    np.testing.assert_array_equal(convert.command(message, JOINTS), values)
    np.testing.assert_array_equal(convert.command(message, JOINTS[::-1]), values[::-1])
    assert convert.stamp_ns(message.header.stamp) == stamp
    assert convert.action_source(message.header.frame_id) is ActionSource.SCRIPT


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (JointTrajectory(joint_names=list(JOINTS)), "0 points"),
        (JointTrajectory(points=[JointTrajectoryPoint()]), "lacks pan, lift, gripper"),
        (JointTrajectory(joint_names=["pan", "lift", "x"], points=[JointTrajectoryPoint()]), "lacks gripper"),
        (JointTrajectory(joint_names=list(JOINTS), points=[JointTrajectoryPoint(positions=[1.0])]), "has 1 positions"),
        (
            JointTrajectory(joint_names=[*JOINTS, "x"], points=[JointTrajectoryPoint(positions=[1.0] * 4)]),
            "has 4 positions for 4 joints, expected 3",
        ),
        (
            JointTrajectory(joint_names=["x", *JOINTS], points=[JointTrajectoryPoint(positions=[1.0] * 3)]),
            "has 3 positions for 4 joints, expected 3",
        ),
    ],
)
def test_malformed_command_is_refused(message: JointTrajectory, expected: str) -> None:
    with pytest.raises(SpecError, match=expected):
        convert.command(message, JOINTS)


def test_unknown_source_is_none() -> None:
    assert convert.action_source("robot") is None
    assert all(convert.action_source(convert.source_name(source)) is source for source in ActionSource)


def test_image_survives() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    message = over_the_wire(convert.image_message(image, 5, "front"))
    np.testing.assert_array_equal(convert.picture(message), image)
    assert (message.encoding, message.header.frame_id) == ("rgb8", "front_optical_frame")
    turned = over_the_wire(convert.image_message(image.transpose(1, 0, 2), 5, "front"))
    np.testing.assert_array_equal(convert.picture(turned), image.transpose(1, 0, 2))


def test_padded_bgr_image_is_read() -> None:
    image = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3)
    rows = np.zeros((2, 8), np.uint8)
    rows[:, :6] = image[..., ::-1].reshape(2, 6)
    message = Image(height=2, width=2, step=8, encoding="bgr8", data=rows.tobytes())
    np.testing.assert_array_equal(convert.picture(message), image)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"encoding": "mono8"}, "'mono8', expected rgb8"),
        ({"encoding": "rgb8", "data": bytes(11)}, "has 11 bytes"),
        ({"encoding": "rgb8", "step": 5, "data": bytes(12)}, "rows of 5"),
    ],
)
def test_unusable_image_is_refused(fields: dict[str, Any], expected: str) -> None:
    message = Image(**{"header": Header(frame_id="front"), "height": 2, "width": 2, "step": 6, **fields})
    with pytest.raises(SpecError, match=expected):
        convert.picture(message)


def test_depth_survives() -> None:
    depth = np.random.default_rng(0).integers(0, 65_536, (5, 7), dtype=np.uint16)
    for seen in (depth, depth.T, depth[:, ::-1].astype(">u2")):
        message = over_the_wire(convert.image_message(seen, 5, "front"))
        back = convert.depth(message)
        np.testing.assert_array_equal(back, seen)
        assert (back.dtype, message.encoding, message.step) == (np.uint16, "16UC1", 2 * seen.shape[1])
        assert message.header.frame_id == "front_optical_frame"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("encoding", ["16UC1", "mono16", "32FC1"])
def test_depth_of_other_drivers_is_read(encoding: str, padding: int, order: str) -> None:
    sent = {"16UC1": [[0, 1, 300], [1234, 65_535, 7]], "mono16": [[0, 1, 300], [1234, 65_535, 7]]}
    sent["32FC1"] = [[0.0, -1.0, 0.3], [1.2344, np.nan, np.inf]]
    wanted = sent[encoding] if encoding != "32FC1" else [[0, 0, 300], [1234, 0, 0]]
    numbers = np.array(sent[encoding], f"{order}{'f4' if encoding == '32FC1' else 'u2'}")
    rows = np.full((2, numbers[0].nbytes + padding), 99, np.uint8)
    rows[:, : numbers[0].nbytes] = numbers.view(np.uint8)
    message = Image(
        height=2, width=3, step=rows.shape[1], encoding=encoding, is_bigendian=order == ">", data=rows.tobytes()
    )
    back = convert.depth(message)
    assert back.dtype == np.uint16
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, wanted)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"encoding": "rgb8"}, "depth of front is 'rgb8', expected 16UC1, mono16, 32FC1"),
        ({"data": bytes(7)}, "has 7 bytes"),
        ({"step": 3, "data": bytes(8)}, "rows of 3, expected 2 rows of 4"),
        ({"encoding": "32FC1", "data": bytes(8)}, "rows of 4, expected 2 rows of 8"),
        ({"width": 2**32 - 1, "step": 2**32 - 1}, "expected 2 rows of 8589934590"),
    ],
)
def test_unusable_depth_is_refused(fields: dict[str, Any], expected: str) -> None:
    sound = {"header": Header(frame_id="front"), "height": 2, "width": 2, "step": 4, "encoding": "16UC1"}
    with pytest.raises(SpecError, match=expected):
        convert.depth(Image(**{**sound, **fields}))
    for empty in ({"height": 0, "data": b""}, {"width": 0, "step": 0, "data": b""}):
        assert not convert.depth(Image(**{**sound, **empty})).size


def test_ground_truth_survives_and_turns_its_quaternion() -> None:
    poses = {"cube": np.float32([1, 2, 3, 0.5, 0.1, 0.2, 0.3]), "tool": np.float32([0, 0, 0, 1, 0, 0, 0])}
    message = over_the_wire(convert.ground_truth_message(poses, 7))
    rotation = message.transforms[0].transform.rotation
    assert (rotation.w, rotation.x) == pytest.approx((0.5, 0.1))
    stamp, back = convert.ground_truth(message)
    assert stamp == 7
    assert back.keys() == poses.keys()
    for body, pose in poses.items():
        np.testing.assert_array_equal(back[body], pose)
    with pytest.raises(SpecError, match="no body"):
        convert.ground_truth(TFMessage())


def test_chunk_message_holds_the_actions_row_by_row() -> None:
    chunk = ActionChunk(np.arange(6, dtype=np.float32).reshape(2, 3), 5, 10**9 + 7, 50_000_000)
    message = over_the_wire(convert.chunk_message(chunk, JOINTS))
    np.testing.assert_array_equal(np.array(message.actions).reshape(message.num_actions, -1), chunk.actions)
    assert convert.stamp_ns(message.start) == 10**9 + 7
    assert (message.period.nanosec, message.source, list(message.joint_names)) == (50_000_000, "policy", list(JOINTS))


@pytest.mark.parametrize("problem", ["", "the robot holds: no command"])
def test_diagnostics_warn_when_there_is_a_problem(problem: str) -> None:
    message = convert.diagnostic_message("twin", problem, {"steps": 3}, convert.time_message(0))
    (status,) = message.status
    assert (status.level == status.OK) == (not problem)
    assert (status.message, status.values[0].key, status.values[0].value) == (problem or "OK", "steps", "3")


def test_camera_info_tells_the_lens_or_that_it_is_unknown() -> None:
    spec = CameraSpec("front", 480, 640, 30.0)
    matrix = np.array([[600.0, 0.0, 320.0], [0.0, 610.0, 240.0], [0.0, 0.0, 1.0]])
    known = over_the_wire(convert.camera_info(spec, matrix, (0.1, -0.2, 0.001, 0.002)))
    assert (known.height, known.width, known.distortion_model) == (480, 640, "plumb_bob")
    assert list(known.d) == [0.1, -0.2, 0.001, 0.002, 0.0]
    np.testing.assert_array_equal(np.reshape(known.k, (3, 3)), matrix)
    np.testing.assert_array_equal(np.reshape(known.p, (3, 4)), np.hstack([matrix, np.zeros((3, 1))]))
    np.testing.assert_array_equal(np.reshape(known.r, (3, 3)), np.eye(3))
    unknown = over_the_wire(convert.camera_info(spec, None))
    assert (unknown.distortion_model, list(unknown.d), list(unknown.k)) == ("", [], [0.0] * 9)


def test_hands_on_the_page_reach_the_teleoperator() -> None:
    pose = {"engaged": True, "position": [0.1, 1.2, 0.3], "orientation": [1, 0, 0, 0], "grip": 0.5}
    for more in ({}, pose):
        hands = parse({"sequence": 7, "seen": 1.0, "axes": [0.0, -1.0], "held": [5, 7], **more})
        message = over_the_wire(convert.operator_message(5, 1, hands))
        fed = convert.operator_input(message)
        assert (message.browser, message.sequence) == (1, 7)
        assert (fed["axes"], fed["held"]) == ([0.0, -1.0], [5, 7])
        assert {name: fed[name] for name in more} == more
        web = Web(WebConfig(), SO101)
        web.connect()
        web.feed(fed, 5)
        assert web.read(RobotState(np.zeros(6, np.float32), np.zeros(6, np.float32), 5), 5).action is not None
