"""Messages to the library's types and back: the only file that knows both worlds.

Reading them is `robolearn.messages`, which converters of bags use too; making them is here. Stamps are integer
nanoseconds inside. Quaternions are wxyz inside and xyzw in messages.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from robolearn_msgs.msg import ActionChunk as ActionChunkMessage
from robolearn_msgs.msg import OperatorInput
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, Header, String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robolearn.errors import SpecError
from robolearn.messages import (
    action_source,
    command,
    compressed_image,
    depth,
    ground_truth,
    image,
    robot_state,
    stamp_ns,
)
from robolearn.robots.safety import SafetyConfig
from robolearn.specs import CameraSpec, RobotSpec
from robolearn.types import ActionChunk, ActionSource, RobotState
from robolearn.web.driving import Hands

__all__ = ["action_source", "command", "depth", "ground_truth", "robot_state", "stamp_ns"]  # and all that is made here

NS = 1_000_000_000


def picture(message: Image | CompressedImage) -> NDArray[np.uint8]:
    """(H, W, 3) RGB. Raises SpecError when it cannot be read."""
    return compressed_image(message) if isinstance(message, CompressedImage) else image(message)


def time_message(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // NS, nanosec=stamp_ns % NS)


def header(stamp: int, frame_id: str = "") -> Header:
    return Header(stamp=time_message(stamp), frame_id=frame_id)


def clock_message(stamp: int) -> Clock:
    return Clock(clock=time_message(stamp))


def joint_state_message(state: RobotState, joint_names: Sequence[str]) -> JointState:
    return JointState(
        header=header(state.stamp_ns),
        name=list(joint_names),
        position=state.joint_position.tolist(),
        velocity=state.joint_velocity.tolist(),
    )


def command_message(
    action: NDArray, stamp: int, joint_names: Sequence[str], source_or_reason: str = ""
) -> JointTrajectory:
    """One point: joint targets (J,) for the tick at `stamp`; the text is the source, or why the robot holds."""
    return JointTrajectory(
        header=header(stamp, source_or_reason),
        joint_names=list(joint_names),
        points=[JointTrajectoryPoint(positions=action.tolist())],
    )


def spec_message(spec: RobotSpec, control_hz: float, safety: SafetyConfig) -> String:
    """Which robot it is, and the limits within which it moves, as one JSON object."""
    return String(data=json.dumps({**asdict(spec), "control_hz": control_hz, **asdict(safety)}, default=str))


def spec_unit(message: String) -> str:
    """The unit of the joints in a `spec_message`. Raises SpecError for what is none."""
    try:
        return str(json.loads(message.data)["unit"])
    except (ValueError, TypeError, KeyError) as error:
        raise SpecError(f"the robot's spec names no unit of its joints: {error!r}") from None


def spec_difference(before: String, now: String) -> str:
    """The first thing in which two `spec_message`s differ, in words; nothing where they are of the same robot."""
    was, known = json.loads(before.data), json.loads(now.data)
    differ = [key for key in was | known if was.get(key) != known.get(key)]
    return f"its {differ[0]} is {known.get(differ[0])}, and was {was.get(differ[0])}" if differ else ""


def forward_command(action: NDArray) -> Float64MultiArray:
    """Joint targets (J,) as ros2_control's forward_command_controller takes them, in the order of its joints."""
    return Float64MultiArray(data=action.tolist())


def trajectory_command(action: NDArray, joint_names: Sequence[str], reach_in_ns: int) -> JointTrajectory:
    """Joint targets (J,) as the joint_trajectory_controller of ros2_control takes them: to be reached in so long."""
    seconds, nanoseconds = divmod(reach_in_ns, NS)
    point = JointTrajectoryPoint(positions=action.tolist(), time_from_start=Duration(sec=seconds, nanosec=nanoseconds))
    return JointTrajectory(joint_names=list(joint_names), points=[point])  # stamp 0 is now


def operator_input(message: OperatorInput) -> dict[str, Any]:
    """As the teleoperators `web` and `phone` are fed it."""
    pose = {}
    if len(message.position):
        pose = {
            "engaged": message.engaged,
            "position": [float(value) for value in message.position],
            "orientation": [float(value) for value in message.orientation],
            "grip": float(message.grip),
        }
    axes, held = [float(value) for value in message.axes], [int(button) for button in message.held]
    return {"axes": axes, "held": held, **pose}


def operator_message(stamp: int, browser: int, hands: Hands) -> OperatorInput:
    return OperatorInput(
        header=header(stamp),
        browser=browser,
        sequence=hands.sequence,
        axes=list(hands.axes),
        held=list(hands.held),
        engaged=hands.engaged,
        position=list(hands.position),
        orientation=list(hands.orientation),
        grip=hands.grip,
    )


def source_name(source: ActionSource) -> str:
    return source.name.lower()


def image_message(image: NDArray[np.uint8 | np.uint16], stamp: int, camera: str) -> Image:
    """Of a picture (H, W, 3) uint8 RGB, or of depth (H, W) uint16 [mm]."""
    height, width = image.shape[:2]
    encoding, pixel_bytes = ("rgb8", 3) if image.ndim == 3 else ("16UC1", 2)
    pixels = np.ascontiguousarray(image, image.dtype.newbyteorder("<"))
    data = array("B")
    data.frombytes(pixels.view(np.uint8).data)  # `array` of its bytes takes twenty times as long
    return Image(
        header=header(stamp, f"{camera}_optical_frame"),
        height=height,
        width=width,
        encoding=encoding,
        step=pixel_bytes * width,
        data=data,
    )


def compressed_image_message(image: NDArray[np.uint8], stamp: int, camera: str, quality: int = 90) -> CompressedImage:
    """As JPEG."""
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return CompressedImage(
        header=header(stamp, f"{camera}_optical_frame"),
        format="rgb8; jpeg compressed bgr8",
        data=array("B", jpeg.tobytes()),
    )


def camera_info(spec: CameraSpec, matrix: NDArray | None, distortion: Sequence[float] = ()) -> CameraInfo:
    """What is known of a camera, without a stamp; a K of zeros says that it is not calibrated.

    matrix: K (3, 3). distortion: k1 k2 p1 p2 of OpenCV, which are ROS' plumb_bob with k3 0. A picture is rectified with
    R the identity and the same K.
    """
    info = CameraInfo(header=header(0, f"{spec.name}_optical_frame"), height=spec.height, width=spec.width)
    if matrix is not None:
        info.distortion_model = "plumb_bob"
        info.d = [*(float(value) for value in distortion), *[0.0] * (5 - len(distortion))]
        info.k = np.asarray(matrix, np.float64).ravel()
        info.r = np.eye(3).ravel()
        info.p = np.hstack([matrix, np.zeros((3, 1))]).ravel()
    return info


def ground_truth_message(poses: Mapping[str, NDArray], stamp: int) -> TFMessage:
    """Poses (7,) of bodies in the world, by name."""
    transforms = []
    for body, pose in poses.items():
        moved = TransformStamped(header=header(stamp, "world"), child_frame_id=body)
        to, turn = moved.transform.translation, moved.transform.rotation
        to.x, to.y, to.z, turn.w, turn.x, turn.y, turn.z = (float(value) for value in pose)
        transforms.append(moved)
    return TFMessage(transforms=transforms)


def chunk_message(chunk: ActionChunk, joint_names: Sequence[str]) -> ActionChunkMessage:
    return ActionChunkMessage(
        header=header(chunk.stamp_ns),
        start=time_message(chunk.start_ns),
        period=Duration(sec=chunk.period_ns // NS, nanosec=chunk.period_ns % NS),
        source=source_name(chunk.source),
        joint_names=list(joint_names),
        num_actions=len(chunk.actions),
        actions=array("f", np.ascontiguousarray(chunk.actions, np.float32).tobytes()),
    )


def diagnostic_message(name: str, problem: str, values: Mapping[str, Any], stamp: Time) -> DiagnosticArray:
    """One status: WARN with the problem, or OK."""
    status = DiagnosticStatus(
        level=DiagnosticStatus.WARN if problem else DiagnosticStatus.OK,
        name=name,
        message=problem or "OK",
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
    return DiagnosticArray(header=Header(stamp=stamp), status=[status])
