"""What is seen at each tick of a robot or twin of the graph: its joint states and the pictures of its cameras.

A picture belongs to a tick as for the node `policy`: of a twin that of the very stamp, of a robot the newest one at or
before it. Legend: H W image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState

from robolearn.datasets.contract import MAX_IMAGE_AGE_S
from robolearn.errors import SpecError
from robolearn.sync import ExactJoin, Tick
from robolearn.types import RobotState
from robolearn_nodes import convert, topics
from robolearn_nodes.commands import LiveJoin
from robolearn_nodes.heard_camera import HeardCamera, OnPicture
from robolearn_nodes.node import heard_topic


class GraphTicks:
    """Hears the joint states, and the cameras of `sizes` and no other."""

    def __init__(
        self, node: Node, joints: Sequence[str], period_ns: int, sizes: Mapping[str, tuple[int, int]], twin: bool
    ) -> None:
        """sizes: (H, W) that the pictures of each camera have to have. twin: all of a tick is stamped alike."""
        self.state: RobotState | None = None  # of the newest whole tick
        self.pictures: dict[str, NDArray[np.uint8]] = {}  # and its pictures (H, W, 3), by camera
        self.whole = self.heard = 0  # ticks that were whole, and all of them
        self.lacking = ""  # which pictures the newest tick has not, and why
        self.fault = ""  # what does not fit the run, and will not by waiting
        self._node, self._joints = node, joints
        self.states = node.resolve_topic_name(topics.JOINT_STATES)
        self.images = {node.resolve_topic_name(topics.image_topic(camera)): camera for camera in sizes}
        self._unread: dict[str, str] = {}  # why the newest picture of a topic cannot be read
        self._came_ns: dict[str, int] = {}  # stamp of the newest picture since the last whole tick, by topic
        self._wanted = "of the same stamp" if twin else f"of the last {MAX_IMAGE_AGE_S:g} s"
        streams = [self.states, *self.images]
        self._join: ExactJoin | LiveJoin = ExactJoin(streams, depth=4)
        if not twin:
            self._join = LiveJoin(streams, self.states, period_ns, round(MAX_IMAGE_AGE_S * 1e9))
        node.create_subscription(JointState, self.states, self._on_state, topics.NEWEST)
        for topic, camera in self.images.items():
            quality = topics.NEWEST if twin else topics.SENSOR  # which hears every camera, the lossy too
            HeardCamera(node, topic, self._on_image(topic, sizes[camera]), quality)

    def reset(self) -> None:
        """Another episode begins: what came before it is of none of its ticks."""
        self._join.reset()

    def _on_state(self, message: JointState) -> None:
        try:
            state = convert.robot_state(message, self._joints)
        except SpecError as error:
            self.fault = self.fault or str(error)
            return
        self._push(self.states, state.stamp_ns, state)

    def _on_image(self, topic: str, wanted: tuple[int, int]) -> OnPicture:
        def on_image(message: Image | CompressedImage) -> None:
            try:
                image = convert.picture(message)
            except SpecError as error:
                self._unread[topic] = str(error)
                return
            self._unread.pop(topic, None)
            if image.shape[:2] != wanted:
                (height, width), (wanted_height, wanted_width) = image.shape[:2], wanted
                self.fault = self.fault or (
                    f"{heard_topic(self._node, topic)} has pictures of {width} x {height}, the demonstrations of "
                    f"{wanted_width} x {wanted_height}; set that size there, or record demonstrations with this one"
                )
                return
            stamp_ns = convert.stamp_ns(message.header.stamp)
            self._came_ns[topic] = stamp_ns
            self._push(topic, stamp_ns, image)

        return on_image

    def _push(self, topic: str, stamp_ns: int, sample: RobotState | NDArray[np.uint8]) -> None:
        for tick in self._join.push(topic, stamp_ns, sample):
            self.heard += 1
            self.lacking = self._why(tick)
            if not tick.missing:
                self.whole += 1
                self._came_ns.clear()
                self.state = tick.samples[self.states]
                self.pictures = {camera: tick.samples[name] for name, camera in self.images.items()}

    def _why(self, tick: Tick) -> str:
        for topic in self.images.keys() & set(tick.missing):
            name = heard_topic(self._node, topic)
            if topic in self._unread:
                return f"{name}: {self._unread[topic]}"
            if topic not in self._came_ns:
                return f"{name} brings no pictures; see its camera"
            off_s = (self._came_ns[topic] - tick.stamp_ns) * 1e-9
            return (
                f"{name} has pictures stamped {abs(off_s):.1f} s {'after' if off_s > 0 else 'before'} the joint "
                f"states; wanted are those {self._wanted}: see its camera, and both clocks"
            )
        return ""
