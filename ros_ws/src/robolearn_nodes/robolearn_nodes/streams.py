"""The streams that a recorder listens to, and the dataset whose fields they fill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from robolearn.datasets.contract import Contract, Stream
from robolearn.datasets.store import DatasetSpec
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import SpecError
from robolearn.messages import header_ns, is_depth
from robolearn.specs import POSE_SPEC, CameraSpec, InterfaceSpec, depth_spec, image_spec
from robolearn_nodes import topics
from robolearn_nodes.heard_camera import HeardCamera
from robolearn_nodes.interface import RobotInterface
from robolearn_nodes.node import Meter
from robolearn_nodes.own_rate import check_streams

COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
TYPES: dict[str, type] = {
    "sensor_msgs/msg/JointState": JointState,
    "sensor_msgs/msg/Image": Image,
    "tf2_msgs/msg/TFMessage": TFMessage,
    "trajectory_msgs/msg/JointTrajectory": JointTrajectory,
}

Push = Callable[[str, int, Callable[[], dict[str, Any]]], None]
"""Called with a stream, the stamp of its sample, and what reads the dataset fields out of it or raises SpecError."""


class Streams:
    """Subscribes to all topics of a contract."""

    def __init__(self, node: Node, contract: Contract, push: Push, lossy_images: bool) -> None:
        self._node, self._contract, self._push = node, contract, push
        # the contract names what a graph without a namespace has
        self.topics = [topic.removeprefix("/") for topic in contract.streams]
        self._meters = {topic: Meter() for topic in contract.streams}
        for name, (topic, stream) in zip(self.topics, contract.streams.items(), strict=True):
            if TYPES[stream.type] is Image:  # a reliable reader hears no lossy writer
                HeardCamera(node, name, self._on(topic), topics.SENSOR if lossy_images else topics.STREAM)
            else:
                node.create_subscription(TYPES[stream.type], name, self._on(topic), topics.STREAM)

    def figures(self) -> dict[str, str]:
        """Rate and age of each stream."""
        figures: dict[str, str] = {}
        for topic, meter in self._meters.items():
            figures |= meter.figures(topic)
        return figures

    def _on(self, topic: str) -> Callable[[Any], None]:
        contracted = self._contract.streams[topic].type

        def came(message: Any) -> None:
            kind = COMPRESSED_IMAGE if isinstance(message, CompressedImage) else contracted
            if kind == "tf2_msgs/msg/TFMessage" and not message.transforms:
                return
            stamp_ns = header_ns(message)
            self._meters[topic].note(self._node.get_clock().now().nanoseconds, stamp_ns)
            self._push(topic, stamp_ns, lambda: self._contract.read(topic, message, kind))

        return came


def open_store(
    path: Path,
    robot: RobotInterface,
    cameras: Sequence[str],
    depths: Sequence[str],
    size: tuple[int, int],
    own: Sequence[Stream] = (),
    bodies: Sequence[str] = (),
) -> ZarrStore:
    """The dataset at `path`; a new one takes all that the robot or twin publishes. depths: those of the cameras that
    give depth, too. `size`: (H, W) of a twin's images. A cell says all that itself.

    own: sensors that are recorded at their own rate. bodies: whose poses the graph tells. Raises SpecError when the
    dataset is of another robot, rate, image size, sensor or body, or of cameras with other depth.
    """
    specs = [CameraSpec(name, *size, robot.control_hz, name in depths) for name in cameras]
    if robot.cell is not None:
        specs = [replace(camera.spec, name=name) for name, camera in robot.cell.make_cameras().items()]
    images = {f"image_{spec.name}": image_spec(spec.height, spec.width) for spec in specs}
    depth = {f"depth_{spec.name}": depth_spec(spec.height, spec.width) for spec in specs if spec.depth}
    fields = {"proprio": robot.spec.proprio_spec, **images}
    interface = InterfaceSpec(fields, robot.spec.action_spec, robot.control_hz)
    extra = {**depth, **{f"pose_{body}": POSE_SPEC for body in bodies}}
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        store = ZarrStore.open(path)
        store.spec.interface.require(interface, f"dataset {path}", "the robot")
        check_streams(dict(store.spec.streams), own, path)
        if missing := extra.keys() - store.spec.fields.keys():
            raise SpecError(f"dataset {path} has no {', '.join(sorted(missing))}; record into another one")
        if gone := {name for name in store.spec.image_fields if is_depth(name)} - depth.keys():
            raise SpecError(
                f"dataset {path} has {', '.join(sorted(gone))}, which no camera gives; record into another one, or say "
                "which cameras give depth: `depth: true` in the cell, or the parameter depth_cameras"
            )
        return store
    streams = {stream.field: stream.own_spec for stream in own}
    tasks = (robot.task_id,) if robot.task_id else ()
    return ZarrStore.create(path, DatasetSpec(robot.spec, interface, tasks=tasks, extra=extra, streams=streams))
