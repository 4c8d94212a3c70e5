"""Messages to the library's types and back: the only file that knows both worlds.

Stamps are integer nanoseconds inside. Quaternions are wxyz inside and xyzw in messages.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from robolearn_msgs.msg import ActionChunk as ActionChunkMessage
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, Header
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robolearn.errors import SpecError
from robolearn.specs import CameraSpec
from robolearn.types import ActionChunk, ActionSource, RobotState

NS = 1_000_000_000


def time_message(stamp_ns: int) -> Time:
    return Time(sec=stamp_ns // NS, nanosec=stamp_ns % NS)


def stamp_ns(time: Time) -> int:
    return time.sec * NS + time.nanosec


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


def robot_state(message: JointState, joint_names: Sequence[str]) -> RobotState:
    """The joints of `joint_names`, in that order. Raises SpecError when one is absent, has no velocity, or is NaN."""
    order = _order("joint states", list(message.name), joint_names)
    if not len(message.position) == len(message.velocity) == len(message.name):
        raise SpecError(
            f"joint states have {len(message.name)} names, {len(message.position)} positions and "
            f"{len(message.velocity)} velocities; expected as many of each"
        )
    position, velocity = (np.array(v, np.float32)[order] for v in (message.position, message.velocity))
    if not (np.isfinite(position).all() and np.isfinite(velocity).all()):
        raise SpecError("joint states are not finite")
    return RobotState(position, velocity, stamp_ns(message.header.stamp))


def command_message(
    action: NDArray, stamp: int, joint_names: Sequence[str], source_or_reason: str = ""
) -> JointTrajectory:
    """One point: joint targets (J,) for the tick at `stamp`; the text is the source, or why the robot holds."""
    return JointTrajectory(
        header=header(stamp, source_or_reason),
        joint_names=list(joint_names),
        points=[JointTrajectoryPoint(positions=action.tolist())],
    )


def command(message: JointTrajectory, joint_names: Sequence[str]) -> NDArray[np.float64]:
    """Joint targets (J,) in the order of `joint_names`, as they came: whether they are sane, the SafetyFilter judges.

    Raises SpecError unless the message has one point with one position for each of these joints.
    """
    if len(message.points) != 1:
        raise SpecError(f"the command has {len(message.points)} points, expected 1")
    positions = np.array(message.points[0].positions, np.float64)
    order = _order("the command", list(message.joint_names), joint_names)
    if not len(positions) == len(message.joint_names) == len(joint_names):
        raise SpecError(
            f"the command has {len(positions)} positions for {len(message.joint_names)} joints, "
            f"expected {len(joint_names)} of each"
        )
    return positions[order]


def forward_command(action: NDArray) -> Float64MultiArray:
    """Joint targets (J,) as ros2_control's forward_command_controller takes them, in the order of its joints."""
    return Float64MultiArray(data=action.tolist())


def trajectory_command(action: NDArray, joint_names: Sequence[str], reach_in_ns: int) -> JointTrajectory:
    """Joint targets (J,) as the joint_trajectory_controller of ros2_control takes them: to be reached in so long."""
    seconds, nanoseconds = divmod(reach_in_ns, NS)
    point = JointTrajectoryPoint(positions=action.tolist(), time_from_start=Duration(sec=seconds, nanosec=nanoseconds))
    return JointTrajectory(joint_names=list(joint_names), points=[point])  # stamp 0 is now


def _order(what: str, names: list[str], wanted: Sequence[str]) -> list[int]:
    missing = [joint for joint in wanted if joint not in names]
    if missing:
        raise SpecError(f"{what} lacks {', '.join(missing)}; it has {', '.join(names) or 'no joints'}")
    return [names.index(joint) for joint in wanted]


def source_name(source: ActionSource) -> str:
    return source.name.lower()


def action_source(name: str) -> ActionSource | None:
    """None for a name that is none."""
    return ActionSource.__members__.get(name.upper())


def image_message(image: NDArray[np.uint8], stamp: int, camera: str) -> Image:
    height, width, _ = image.shape
    return Image(
        header=header(stamp, f"{camera}_optical_frame"),
        height=height,
        width=width,
        encoding="rgb8",
        step=3 * width,
        data=array("B", image.tobytes()),
    )


def compressed_image_message(image: NDArray[np.uint8], stamp: int, camera: str, quality: int = 90) -> CompressedImage:
    """As JPEG."""
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return CompressedImage(
        header=header(stamp, f"{camera}_optical_frame"),
        format="rgb8; jpeg compressed bgr8",
        data=array("B", jpeg.tobytes()),
    )


def camera_info_message(spec: CameraSpec, stamp: int) -> CameraInfo:
    """Size alone: a K of zeros says that the camera is not calibrated."""
    return CameraInfo(header=header(stamp, f"{spec.name}_optical_frame"), height=spec.height, width=spec.width)


def image(message: Image) -> NDArray[np.uint8]:
    """(H, W, 3) RGB. Raises SpecError for another encoding than rgb8 and bgr8, or when bytes are missing."""
    if message.encoding not in ("rgb8", "bgr8"):
        raise SpecError(f"image of {message.header.frame_id} is {message.encoding!r}, expected rgb8 or bgr8")
    data = np.frombuffer(message.data, np.uint8)
    height, width, step = message.height, message.width, message.step
    if step < 3 * width or data.size < height * step:
        raise SpecError(
            f"image of {message.header.frame_id} has {data.size} bytes in rows of {step}, "
            f"expected {height} rows of {3 * width}"
        )
    pixels = data[: height * step].reshape(height, step)[:, : 3 * width].reshape(height, width, 3)
    return pixels[..., ::-1] if message.encoding == "bgr8" else pixels


def ground_truth_message(poses: Mapping[str, NDArray], stamp: int) -> TFMessage:
    """Poses (7,) of bodies in the world, by name."""
    transforms = []
    for body, pose in poses.items():
        moved = TransformStamped(header=header(stamp, "world"), child_frame_id=body)
        to, turn = moved.transform.translation, moved.transform.rotation
        to.x, to.y, to.z, turn.w, turn.x, turn.y, turn.z = (float(value) for value in pose)
        transforms.append(moved)
    return TFMessage(transforms=transforms)


def ground_truth(message: TFMessage) -> tuple[int, dict[str, NDArray[np.float32]]]:
    """Stamp, and poses (7,) by body. Raises SpecError when there are none."""
    if not message.transforms:
        raise SpecError("the ground truth names no body")
    poses = {}
    for moved in message.transforms:
        to, turn = moved.transform.translation, moved.transform.rotation
        poses[moved.child_frame_id] = np.array([to.x, to.y, to.z, turn.w, turn.x, turn.y, turn.z], np.float32)
    return stamp_ns(message.transforms[0].header.stamp), poses


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
