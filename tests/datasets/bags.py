"""Bags as the graph of the twin would fill them, written by the library of rosbags."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from painted import CAMERAS, ROBOT, SIZE, paint
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from robolearn.datasets.contract import COMMAND, COMMAND_SENT, EPISODE, JOINT_STATES, image_topic

TYPES = get_typestore(Stores.ROS2_JAZZY)
EVENT = "robolearn_msgs/msg/EpisodeEvent"
MESSAGES = Path(__file__).parents[2] / "ros_ws/src/robolearn_msgs/msg"
TYPES.register(get_types_from_msg((MESSAGES / "EpisodeEvent.msg").read_text(), EVENT))

PERIOD_NS = 33_333_333
Sample = tuple[str, str, int, Any]
"""Topic, type, when it was received, message."""


def message(kind: str, **fields: Any) -> Any:
    return TYPES.types[kind](**fields)


def header(stamp_ns: int, frame_id: str = "") -> Any:
    time = message("builtin_interfaces/msg/Time", sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return message("std_msgs/msg/Header", stamp=time, frame_id=frame_id)


def joint_states(number: float, stamp_ns: int) -> Any:
    names = ["gripper", "shoulder"]  # not in the order of the robot
    numbers = np.array([number, number], np.float64)
    return message(
        "sensor_msgs/msg/JointState",
        header=header(stamp_ns), name=names, position=numbers, velocity=numbers, effort=np.zeros(0),
    )  # fmt: skip


def picture(number: int, stamp_ns: int) -> Any:
    return message(
        "sensor_msgs/msg/Image",
        header=header(stamp_ns), height=SIZE, width=SIZE, encoding="rgb8", is_bigendian=0, step=3 * SIZE,
        data=paint(number).reshape(-1),
    )  # fmt: skip


def command(number: float, stamp_ns: int, told: str) -> Any:
    nothing = np.zeros(0)
    duration = message("builtin_interfaces/msg/Duration", sec=0, nanosec=0)
    point = message(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        positions=np.full(2, number, np.float64), velocities=nothing, accelerations=nothing, effort=nothing,
        time_from_start=duration,
    )  # fmt: skip
    names = list(ROBOT.joint_names)
    return message(
        "trajectory_msgs/msg/JointTrajectory", header=header(stamp_ns, told), joint_names=names, points=[point]
    )


def event(kind: int, name: str, stamp_ns: int, num_steps: int = 0) -> Any:
    return message(
        EVENT,
        STARTED=0, ENDED=1, header=header(stamp_ns), event=kind, episode_id=name, task="push-v1", instruction="push it",
        seed=7, num_steps=num_steps, judged=True, success=True, terminated=True, truncated=False, discarded=False,
        reason="", loop_p50_ms=0.0, loop_p99_ms=0.0, held_steps=0,
    )  # fmt: skip


def twin_episode(name: str, first: int, length: int, jitter: Callable[[], int] = lambda: 0) -> Iterator[Sample]:
    """What the twin's graph publishes in an episode: the number of its step in everything; one picture is lost."""
    joint, image, trajectory = (
        "sensor_msgs/msg/JointState",
        "sensor_msgs/msg/Image",
        "trajectory_msgs/msg/JointTrajectory",
    )
    for step in range(length + 1):
        number, stamp = first + step, (first + step + 1) * PERIOD_NS
        received = stamp + 1_000_000
        if step == 0:
            yield EPISODE, EVENT, received, event(0, name, stamp)
        yield JOINT_STATES, joint, received, joint_states(number, stamp + jitter())
        for camera in CAMERAS:
            if (camera, step) != (CAMERAS[1], 2):
                topic = image_topic(camera.removeprefix("image_"))
                yield topic, image, received + 1, picture(number, stamp + min(jitter(), 0))
        if step < length:
            yield COMMAND, trajectory, received + 2, command(number, stamp + jitter(), "script")
            yield COMMAND_SENT, trajectory, received + 3, command(-number, stamp + jitter(), "")
        else:
            yield EPISODE, EVENT, received + 4, event(1, name, stamp, length)


def write_bag(path: Path, samples: Iterator[Sample], storage: str = "mcap", packed: bool = False) -> None:
    """Write a bag: `storage` is mcap or sqlite3."""
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    writer = Writer(path, version=9, storage_plugin=plugin)
    if packed:
        writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    connections: dict[str, Any] = {}
    with writer:
        for topic, kind, received, body in samples:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], received, TYPES.serialize_cdr(body, kind))
