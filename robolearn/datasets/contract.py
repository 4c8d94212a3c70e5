"""Which message of which ROS topic becomes which field of a dataset, and how streams are joined to steps.

One contract serves the recorder of a running graph and the converter of bags (`robolearn.sync` has the rules), so that
a bag that is converted equals what was recorded live. Messages are read by their attributes alone: nothing of ROS is
imported, and messages of rclpy, of the embedded client and of `rosbags` do alike. A contract as YAML:

    task: pick_place-v1
    control_hz: 20
    robot: {name: so101, joints: [shoulder_pan, ...], position_low: [...], position_high: [...], max_speed: [...]}
    sync: grid                  # or exact: everything of a tick has one and the same stamp
    clock: /joint_states        # grid: its first sample begins the grid
    episodes: /episode          # robolearn_msgs/EpisodeEvent; without it all is one episode
    streams:
      /joint_states: {field: proprio}
      /camera/front/image_raw: {field: image_front, align: hold, tolerance_s: 0.2}
      /camera/front/aligned_depth_to_color/image_raw: {field: depth_front}
      /wrench: {field: wrench, select: [wrench.force.x, wrench.force.y, wrench.force.z], unit: N, rate_hz: 500}
      /leader/joint_states: {field: action}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import yaml

from robolearn.datasets.store import DatasetSpec, StreamSpec
from robolearn.errors import DatasetError, RobolearnError, SpecError, UnknownNameError
from robolearn.messages import ACTIONS, READERS, is_depth, read_path
from robolearn.specs import POSE_SPEC, ArraySpec, InterfaceSpec, RobotSpec, depth_spec, image_spec
from robolearn.sync import ExactJoin, GridJoin, Join, StreamRule
from robolearn.yaml_text import load_yaml

JOINT_STATES = "/joint_states"
COMMAND = "/joint_command"
COMMAND_SENT = "/joint_command_sent"
GROUND_TRUTH = "/twin/ground_truth"
EPISODE = "/episode"
DEPTH = 64  # ticks that may wait for a sample before they are written without it
MAX_IMAGE_AGE_S = 0.2  # of a picture that is held
MAX_SAMPLE_AGE_S = 0.1  # of a sensor of its own rate

Look = Callable[["Stream"], tuple[int, int]]
"""Called with a topic of pictures or depth whose size the contract does not say: (H, W)."""


def image_topic(camera: str) -> str:
    return f"/camera/{camera}/image_raw"


def depth_topic(camera: str) -> str:
    return f"/camera/{camera}/depth/image_raw"


@dataclass(frozen=True)
class Stream:
    """One topic."""

    topic: str
    field: str  # `pose` of a TFMessage fills pose_<body>, for every body of `select`
    type: str = ""  # of its messages, such as sensor_msgs/msg/Image; empty: as the bag or graph has it
    select: tuple[str, ...] = ()  # joints, bodies, or paths of numbers in the message such as `wrench.force.x`
    align: Literal["hold", "nearest", "interpolate", ""] = ""  # empty: pictures and depth are held, all else nearest
    tolerance_s: float | None = None  # grid; none: half a period, for pictures and depth MAX_IMAGE_AGE_S
    time: Literal["header", "receive"] = "header"  # which stamp is the capture stamp
    size: tuple[int, int] | None = None  # (H, W) of pictures and depth
    unit: str = ""  # of a field that is made by paths
    rate_hz: float = 0.0  # of a sensor that is stored at its own rate, and aligned when it is read; 0: joined to steps

    @property
    def is_image(self) -> bool:
        return self.field.startswith("image_") or self.is_depth

    @property
    def is_depth(self) -> bool:
        return is_depth(self.field) and not self.select

    @property
    def own_spec(self) -> StreamSpec:
        """Of a sensor of its own rate."""
        array = ArraySpec((len(self.select),), unit=self.unit, names=self.select)
        age_s = MAX_SAMPLE_AGE_S if self.tolerance_s is None else self.tolerance_s
        return StreamSpec(array, float(self.rate_hz), self.align or "nearest", age_s)

    def rule(self, period_ns: int) -> StreamRule:
        """The rule by which a grid takes its samples."""
        default_s = MAX_IMAGE_AGE_S if self.is_image else 0.5e-9 * period_ns
        tolerance_s = default_s if self.tolerance_s is None else self.tolerance_s
        held = self.align == "hold" or (self.is_image and not self.align)
        return StreamRule(int(tolerance_s * 1e9), "hold" if held else "nearest")


@dataclass(frozen=True)
class Contract:
    """What is recorded, from where, and by which rule it is joined."""

    spec: DatasetSpec
    streams: Mapping[str, Stream]
    sync: Literal["exact", "grid"] = "exact"
    clock: str = JOINT_STATES
    episodes: str = EPISODE
    instruction: str = ""

    def make_join(self) -> Join:
        """The join of one episode."""
        if self.sync == "exact":
            return ExactJoin(self.joined, DEPTH)
        period_ns = round(1e9 / self.spec.interface.control_hz)
        return GridJoin({t: self.streams[t].rule(period_ns) for t in self.joined}, self.clock, period_ns)

    @property
    def joined(self) -> list[str]:
        """Topics that are joined to steps; the others keep their own rate."""
        return [topic for topic, stream in self.streams.items() if not stream.rate_hz]

    @property
    def observed(self) -> list[str]:
        """Topics of what is observed, not commanded."""
        return [topic for topic in self.joined if self.streams[topic].field not in ACTIONS]

    def topic_of(self, name: str) -> str:
        """The topic that fills a field; empty where none does."""
        return next((topic for topic, stream in self.streams.items() if stream.field == name), "")

    def read(self, topic: str, message: Any, kind: str) -> dict[str, Any]:
        """The fields that a message of type `kind` brings. Raises SpecError when it does not fit."""
        stream = self.streams[topic]
        reader = READERS.get(kind)
        if reader is None or any("." in path for path in stream.select):
            found = {stream.field: read_path(message, stream.select)}
        else:
            found = reader(message, stream.field, stream.select or self.spec.robot.joint_names)
        for name, value in found.items():
            wanted = self.spec.fields.get(name)
            if wanted is not None and np.shape(value) != wanted.shape:
                raise SpecError(f"{name} is {np.shape(value)}, the dataset wants {wanted.shape}")
        return found


def graph_contract(
    spec: DatasetSpec, sync: Literal["exact", "grid"] = "exact", max_image_age_s: float = MAX_IMAGE_AGE_S
) -> Contract:
    """The contract of robolearn's own graph, for a dataset of this spec."""
    bodies = tuple(name.removeprefix("pose_") for name in spec.fields if name.startswith("pose_"))
    cameras = [name.removeprefix("image_") for name in spec.fields if name.startswith("image_")]
    trajectory = "trajectory_msgs/msg/JointTrajectory"
    streams = [Stream(JOINT_STATES, "proprio", "sensor_msgs/msg/JointState")]
    streams += [
        Stream(image_topic(name), f"image_{name}", "sensor_msgs/msg/Image", tolerance_s=max_image_age_s)
        for name in cameras
    ]
    streams += [
        Stream(depth_topic(name.removeprefix("depth_")), name, "sensor_msgs/msg/Image", tolerance_s=max_image_age_s)
        for name in spec.image_fields
        if is_depth(name)
    ]
    streams += [Stream(GROUND_TRUTH, "pose", "tf2_msgs/msg/TFMessage", bodies)] if bodies else []
    streams += [Stream(COMMAND, "action", trajectory), Stream(COMMAND_SENT, "action_sent", trajectory)]
    return Contract(spec, {stream.topic: stream for stream in streams}, sync)


@dataclass(frozen=True)
class _File:
    """The keys of a contract's file."""

    control_hz: float
    robot: Mapping[str, Any]
    streams: Mapping[str, Mapping[str, Any]]
    task: str = ""
    instruction: str = ""
    sync: str = "grid"
    clock: str = JOINT_STATES
    episodes: str = ""


@dataclass(frozen=True)
class _Streams:
    """The keys of a recorder's file of streams."""

    streams: Mapping[str, Mapping[str, Any]]


def load_contract(file: Path, look: Look) -> Contract:
    """Read a contract's YAML file. Raises DatasetError naming the key that is wrong."""
    return _of_file(file, lambda data: _contract(_checked(_File, data, "contract"), look))


def load_streams(file: Path) -> list[Stream]:
    """Read the sensors of their own rate that a recorder takes beside the steps: YAML, `streams` as in a contract.

    They need `type`, `select` and `rate_hz`. Raises DatasetError naming the key that is wrong.
    """

    def read(data: Any) -> list[Stream]:
        streams = [_stream(str(topic), entry) for topic, entry in _checked(_Streams, data, "file").streams.items()]
        for stream in streams:
            if not (stream.rate_hz and stream.type.count("/") == 2):
                raise DatasetError(f"streams: {stream.topic} wants a rate_hz, and a type such as sensor_msgs/msg/Imu")
        if len({stream.field for stream in streams}) < len(streams):
            raise DatasetError("streams: a field is filled by more than one topic")
        return streams

    return _of_file(file, read)


Read = TypeVar("Read")


def _of_file(file: Path, read: Callable[[Any], Read]) -> Read:
    try:
        return read(load_yaml(file.read_text()))
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} is no YAML: {str(error).splitlines()[0]}") from error
    except RobolearnError as error:
        raise DatasetError(f"{file}: {error}") from error
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DatasetError(f"{file}: a value has the wrong type ({error})") from error


def _contract(data: Any, look: Look) -> Contract:
    joints = tuple(str(name) for name in data.robot["joints"])
    low, high, speed = (
        tuple(float(number) for number in data.robot[key]) for key in ("position_low", "position_high", "max_speed")
    )
    if not joints or not len(joints) == len(low) == len(high) == len(speed):
        raise DatasetError("robot: joints, position_low, position_high and max_speed want one entry a joint each")
    robot = RobotSpec(
        str(data.robot.get("name", "robot")), joints, low, high, speed, str(data.robot.get("unit", "rad"))
    )
    streams = {str(topic): _stream(str(topic), entry) for topic, entry in data.streams.items()}
    names = [stream.field for stream in streams.values()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DatasetError(f"streams: {', '.join(sorted(twice))} is filled by more than one topic")
    if data.sync not in ("exact", "grid"):
        raise UnknownNameError("sync", data.sync, ("exact", "grid"))
    if data.sync == "grid" and data.clock not in streams:
        raise DatasetError(f"clock: {data.clock} is none of the streams: {', '.join(streams)}")
    observation: dict[str, ArraySpec] = {}
    extra: dict[str, ArraySpec] = {}
    own: dict[str, StreamSpec] = {}
    for stream in streams.values():
        if stream.rate_hz:
            own[stream.field] = stream.own_spec
        elif stream.field == "proprio":
            observation["proprio"] = _proprio(robot, stream)
        elif stream.is_depth:
            extra[stream.field] = depth_spec(*(stream.size or look(stream)))
        elif stream.is_image:
            observation[stream.field] = image_spec(*(stream.size or look(stream)))
        elif stream.field == "pose":
            extra |= {f"pose_{body}": POSE_SPEC for body in stream.select}
        elif stream.field not in ACTIONS:
            extra[stream.field] = ArraySpec((len(stream.select),), unit=stream.unit, names=stream.select)
    interface = InterfaceSpec(observation, robot.action_spec, float(data.control_hz))
    spec = DatasetSpec(robot, interface, (data.task,) if data.task else (), extra=extra, streams=own)
    return Contract(spec, streams, data.sync, data.clock, data.episodes or "", data.instruction)


def _proprio(robot: RobotSpec, stream: Stream) -> ArraySpec:
    """Joint positions and velocities of the robot; or the numbers that paths select."""
    if any("." in path for path in stream.select):
        return ArraySpec((len(stream.select),), unit=stream.unit, names=stream.select)
    return robot.proprio_spec


def _stream(topic: str, entry: Any) -> Stream:
    stream = _checked(Stream, {"topic": topic, **(entry or {})}, f"streams: {topic}")
    rules = ("hold", "nearest", *(("interpolate",) if stream.rate_hz else ()))  # between samples: when read, not joined
    if stream.align not in (*rules, ""):
        raise UnknownNameError("align", stream.align, rules)
    if stream.time not in ("header", "receive"):
        raise UnknownNameError("time", stream.time, ("header", "receive"))
    known = stream.is_image or stream.field in ("proprio", *ACTIONS)
    if stream.rate_hz and (known or stream.rate_hz < 0):
        raise DatasetError(f"streams: {topic}: {stream.field} has no rate_hz of its own; leave that key away")
    if not stream.select and not known:
        raise DatasetError(f"streams: {topic}: select names no numbers of the message for the field {stream.field}")
    return stream


def _checked(kind: type, data: Any, where: str) -> Any:
    """Make a dataclass of a mapping; lists become tuples."""
    known = {each.name: each for each in fields(kind)}
    if not isinstance(data, Mapping):
        raise DatasetError(f"{where} is no mapping of keys to values")
    for key in data:
        if key not in known:
            raise UnknownNameError(f"key of {where}", str(key), known)
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in data.items()})
    except TypeError as error:
        raise DatasetError(f"{where} lacks a key ({error})") from error
