"""ROS messages read by their attributes alone: messages of rclpy, of the embedded client and of `rosbags` do alike.

The functions that make values of messages are the nodes'; `READERS` makes the fields of a dataset of them, for the
recorder and for the converter of bags. Stamps are integer nanoseconds. Quaternions are wxyz here and xyzw in messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.types import ActionSource, RobotState, depth_mm

NS = 1_000_000_000
ACTIONS = ("action", "action_sent")
MAX_PICTURE_BYTES = 1 << 28  # of a decoded picture
DEPTH_ENCODINGS = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}  # [mm], [mm] and [m]
PNG = b"\x89PNG\r\n\x1a\n"
JPEG_FRAMES = [bytes([code]) for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC)]  # markers before a size


def stamp_ns(time: Any) -> int:
    return int(time.sec) * NS + int(time.nanosec)


def header_ns(message: Any) -> int:
    """The stamp in a message's header, or its first transform's. Raises SpecError when there is none."""
    found = getattr(message, "header", None)
    if found is None and getattr(message, "transforms", None):
        found = message.transforms[0].header
    if found is None:
        raise SpecError("the message has no header; say `time: receive` of its stream")
    return stamp_ns(found.stamp)


def robot_state(message: Any, joint_names: Sequence[str]) -> RobotState:
    """The joints of `joint_names`, in that order. Raises SpecError when one is absent, has no velocity, or is NaN."""
    order = _order("joint states", list(message.name), joint_names)
    if not len(message.position) == len(message.velocity) == len(message.name):
        raise SpecError(
            f"joint states have {len(message.name)} names, {len(message.position)} positions and "
            f"{len(message.velocity)} velocities; expected as many of each"
        )
    position, velocity = (float32(values)[order] for values in (message.position, message.velocity))
    if not (np.isfinite(position).all() and np.isfinite(velocity).all()):
        raise SpecError("joint states are not finite")
    return RobotState(position, velocity, stamp_ns(message.header.stamp))


def command(message: Any, joint_names: Sequence[str]) -> NDArray[np.float64]:
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


def action_source(name: str) -> ActionSource | None:
    """None for a name that is none."""
    return ActionSource.__members__.get(name.upper())


def image(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) RGB. Raises SpecError for another encoding than rgb8 and bgr8, or when bytes are missing."""
    if message.encoding not in ("rgb8", "bgr8"):
        raise SpecError(f"image of {message.header.frame_id} is {message.encoding!r}, expected rgb8 or bgr8")
    pixels = _rows(message, 3).reshape(int(message.height), int(message.width), 3)
    return pixels[..., ::-1] if message.encoding == "bgr8" else pixels


def depth(message: Any) -> NDArray[np.uint16]:
    """(H, W) [mm], 0: not measured. Raises SpecError for another encoding than those of depth, or when bytes are
    missing."""
    if message.encoding not in DEPTH_ENCODINGS:
        raise SpecError(
            f"depth of {message.header.frame_id} is {message.encoding!r}, expected {', '.join(DEPTH_ENCODINGS)}"
        )
    number = np.dtype(DEPTH_ENCODINGS[message.encoding]).newbyteorder(">" if message.is_bigendian else "<")
    measured = np.ascontiguousarray(_rows(message, number.itemsize)).view(number)
    return measured.astype(np.uint16, copy=False) if number.kind == "u" else depth_mm(measured, 1.0)


def _rows(message: Any, pixel_bytes: int) -> NDArray[np.uint8]:
    """The rows of an Image without their padding, (H, W * pixel_bytes). Raises SpecError when bytes are missing."""
    data = np.frombuffer(message.data, np.uint8)
    height, width, step = int(message.height), int(message.width), int(message.step)
    if step < pixel_bytes * width or data.size < height * step:
        raise SpecError(
            f"image of {message.header.frame_id} has {data.size} bytes in rows of {step}, "
            f"expected {height} rows of {pixel_bytes * width}"
        )
    return data[: height * step].reshape(height, step)[:, : pixel_bytes * width]


def compressed_image(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a JPEG or PNG. Raises SpecError when it cannot be decoded, or would be too large."""
    data = np.frombuffer(message.data, np.uint8)
    height, width = coded_size(data.tobytes()) or (0, 0)
    if 3 * height * width > MAX_PICTURE_BYTES:
        raise SpecError(
            f"image of {message.header.frame_id} ({message.format!r}) is {height}x{width}, wanted at most "
            f"{MAX_PICTURE_BYTES // 3} pixels"
        )
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB) if height * width else None
    if picture is None:
        raise SpecError(f"image of {message.header.frame_id} ({message.format!r}) cannot be decoded")
    return picture.astype(np.uint8, copy=False)


def coded_size(data: bytes) -> tuple[int, int] | None:
    """(H, W) that the head of a JPEG or PNG tells, before any of its pixels is decoded; None where it is neither."""
    if data[:8] == PNG and data[12:16] == b"IHDR" and len(data) >= 24:
        return int.from_bytes(data[20:24]), int.from_bytes(data[16:20])
    at = 2 if data[:2] == b"\xff\xd8" else -1
    while at > 0 and (at := data.find(b"\xff", at)) > 0:
        marker = data[at + 1 : at + 2]
        if marker in JPEG_FRAMES and len(data) >= at + 9:
            return int.from_bytes(data[at + 5 : at + 7]), int.from_bytes(data[at + 7 : at + 9])
        if marker in (b"", b"\xda", b"\xd9"):  # the pixels begin, or all has been
            break
        alone = marker in (b"\x00", b"\x01", b"\xff") or b"\xd0" <= marker <= b"\xd8"  # what no segment follows
        at += (1 if marker == b"\xff" else 2) if alone else 2 + max(int.from_bytes(data[at + 2 : at + 4]), 2)
    return None


def ground_truth(message: Any) -> tuple[int, dict[str, NDArray[np.float32]]]:
    """Stamp, and poses (7,) by body. Raises SpecError when there are none."""
    if not message.transforms:
        raise SpecError("the ground truth names no body")
    poses = {}
    for moved in message.transforms:
        to, turn = moved.transform.translation, moved.transform.rotation
        poses[moved.child_frame_id] = np.array([to.x, to.y, to.z, turn.w, turn.x, turn.y, turn.z], np.float32)
    return header_ns(message), poses


def read_path(message: Any, paths: Sequence[str]) -> NDArray[np.float32]:
    """Numbers of a message by paths such as `wrench.force.x` or `position.2` (an index); (number of paths,)."""
    values = []
    for path in paths:
        value = message
        for word in path.split("."):
            try:
                value = value[int(word)] if word.isdecimal() else getattr(value, word)
            except (AttributeError, IndexError, TypeError) as error:
                raise SpecError(f"the message has no {path!r}: it ends at {word!r}") from error
        values.append(value)
    try:
        numbers = float32(values)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{', '.join(paths)} are not all numbers") from error
    if numbers.shape != (len(paths),):
        raise SpecError(f"{', '.join(paths)} are not all single numbers; name an entry, as in `position.2`")
    return numbers


def float32(values: Any) -> NDArray[np.float32]:
    """What is too large becomes infinite, which the store masks."""
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float64).astype(np.float32)


def _order(what: str, names: list[str], wanted: Sequence[str]) -> list[int]:
    missing = [joint for joint in wanted if joint not in names]
    if missing:
        raise SpecError(f"{what} lacks {', '.join(missing)}; it has {', '.join(names) or 'no joints'}")
    return [names.index(joint) for joint in wanted]


# --- fields of a dataset: message, field, joints or bodies ------------------------------------------------------------


def _joint_state(message: Any, field: str, joints: Sequence[str]) -> dict[str, Any]:
    """Positions; velocities behind them where the field is `proprio`."""
    if field == "proprio":
        return {field: robot_state(message, joints).proprio()}
    order = _order("joint states", list(message.name), joints)
    if len(message.position) != len(message.name):
        raise SpecError(f"joint states have {len(message.name)} names and {len(message.position)} positions")
    return {field: float32(message.position)[order]}


def _trajectory(message: Any, field: str, joints: Sequence[str]) -> dict[str, Any]:
    """The frame_id of a command is its source; of one that was sent, why the robot was held."""
    values: dict[str, Any] = {field: float32(command(message, joints))}
    if field == "action_sent":
        return values | {"held": np.bool_(bool(message.header.frame_id))}
    source = action_source(message.header.frame_id)
    return values if source is None else values | {"action_source": np.uint8(source)}


def _multi_array(message: Any, field: str, joints: Sequence[str]) -> dict[str, Any]:
    if len(message.data) != len(joints):
        raise SpecError(f"the message has {len(message.data)} numbers, expected {len(joints)}: {', '.join(joints)}")
    return {field: float32(message.data)}


def is_depth(field: str) -> bool:
    """Whether a field that a picture fills is of depth; the others are of colours."""
    return field.startswith("depth_")


def _poses(message: Any, field: str, bodies: Sequence[str]) -> dict[str, Any]:
    poses = ground_truth(message)[1]
    return {f"{field}_{body}": poses[body] for body in bodies if body in poses}


READERS: Mapping[str, Callable[[Any, str, Sequence[str]], dict[str, Any]]] = {
    "sensor_msgs/msg/JointState": _joint_state,
    "trajectory_msgs/msg/JointTrajectory": _trajectory,
    "std_msgs/msg/Float64MultiArray": _multi_array,
    "std_msgs/msg/Float32MultiArray": _multi_array,
    "sensor_msgs/msg/Image": lambda message, field, _: {field: (depth if is_depth(field) else image)(message)},
    "sensor_msgs/msg/CompressedImage": lambda message, field, _: {field: compressed_image(message)},
    "tf2_msgs/msg/TFMessage": _poses,
}
"""How messages of a type fill a field, by the type's name; others are read by paths."""
