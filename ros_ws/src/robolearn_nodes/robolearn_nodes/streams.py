"""The streams that a recorder listens to, and the dataset whose fields they fill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from robolearn.datasets.store import DatasetSpec
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.specs import POSE_SPEC, InterfaceSpec, image_spec
from robolearn_nodes import convert, topics
from robolearn_nodes.interface import RobotInterface
from robolearn_nodes.node import Meter

Push = Callable[[str, Any, Callable[[], dict[str, Any]]], None]
"""Called with a stream, the header of its sample, and what reads the dataset fields out of it or raises SpecError."""


class Streams:
    """Subscribes to all that fills the fields of `spec`."""

    def __init__(self, node: Node, spec: DatasetSpec, push: Push) -> None:
        self._node = node
        self._push = push
        self._joints = spec.robot.joint_names
        cameras = [name.removeprefix("image_") for name in spec.fields if name.startswith("image_")]
        self._bodies = [name.removeprefix("pose_") for name in spec.fields if name.startswith("pose_")]
        self.images = [topics.image_topic(camera) for camera in cameras]
        self.observed = [topics.JOINT_STATES, *self.images, *([topics.GROUND_TRUTH] if self._bodies else [])]
        self.topics = [*self.observed, topics.COMMAND, topics.COMMAND_SENT]
        self._meters = {topic: Meter() for topic in self.topics}
        node.create_subscription(JointState, topics.JOINT_STATES, self._on_joint_states, topics.STREAM)
        for camera in cameras:
            node.create_subscription(Image, topics.image_topic(camera), self._on_image(camera), topics.STREAM)
        if self._bodies:
            node.create_subscription(TFMessage, topics.GROUND_TRUTH, self._on_ground_truth, topics.STREAM)
        node.create_subscription(JointTrajectory, topics.COMMAND, self._on_command, topics.STREAM)
        node.create_subscription(JointTrajectory, topics.COMMAND_SENT, self._on_sent, topics.STREAM)

    def figures(self) -> dict[str, str]:
        """Rate and age of each stream."""
        figures: dict[str, str] = {}
        for topic, meter in self._meters.items():
            figures |= meter.figures(topic)
        return figures

    def _came(self, stream: str, header: Any, read: Callable[[], dict[str, Any]]) -> None:
        self._meters[stream].note(self._node.get_clock().now().nanoseconds, convert.stamp_ns(header.stamp))
        self._push(stream, header, read)

    def _on_joint_states(self, message: JointState) -> None:
        def read() -> dict[str, Any]:
            return {"proprio": convert.robot_state(message, self._joints).proprio()}

        self._came(topics.JOINT_STATES, message.header, read)

    def _on_image(self, camera: str) -> Callable[[Image], None]:
        def on_image(message: Image) -> None:
            self._came(topics.image_topic(camera), message.header, lambda: {f"image_{camera}": convert.image(message)})

        return on_image

    def _on_ground_truth(self, message: TFMessage) -> None:
        def read() -> dict[str, Any]:
            poses = convert.ground_truth(message)[1]
            return {f"pose_{body}": poses[body] for body in self._bodies if body in poses}

        if message.transforms:
            self._came(topics.GROUND_TRUTH, message.transforms[0].header, read)

    def _on_command(self, message: JointTrajectory) -> None:
        def read() -> dict[str, Any]:
            source = convert.action_source(message.header.frame_id)
            known = {} if source is None else {"action_source": np.uint8(source)}
            return {"action": _float32(convert.command(message, self._joints)), **known}

        self._came(topics.COMMAND, message.header, read)

    def _on_sent(self, message: JointTrajectory) -> None:
        def read() -> dict[str, Any]:
            held = bool(message.header.frame_id)
            return {"action_sent": _float32(convert.command(message, self._joints)), "held": np.bool_(held)}

        self._came(topics.COMMAND_SENT, message.header, read)


def _float32(values: Any) -> np.ndarray:
    with np.errstate(over="ignore"):  # too large for a float is infinite, and the store masks it
        return np.asarray(values).astype(np.float32)


def open_store(path: Path, robot: RobotInterface, cameras: Sequence[str], size: tuple[int, int]) -> ZarrStore:
    """The dataset at `path`; a new one takes all that the robot or twin publishes. `size`: (H, W) of a twin's images.

    Raises SpecError when the dataset is of another robot, rate or image size.
    """
    images = {f"image_{camera}": image_spec(*size) for camera in cameras}
    if robot.cell is not None:
        specs = {name: camera.spec for name, camera in robot.cell.make_cameras().items()}
        images = {f"image_{name}": image_spec(spec.height, spec.width) for name, spec in specs.items()}
    fields = {"proprio": robot.spec.proprio_spec, **images}
    interface = InterfaceSpec(fields, robot.spec.action_spec, robot.control_hz)
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        store = ZarrStore.open(path)
        store.spec.interface.require(interface, f"dataset {path}", "the robot")
        return store
    poses = {f"pose_{body}": POSE_SPEC for body in robot.task.bodies} if robot.task else {}
    return ZarrStore.create(
        path, DatasetSpec(robot.spec, interface, tasks=(robot.task_id,) if robot.task_id else (), extra=poses)
    )
