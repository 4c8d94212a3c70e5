"""The pictures of one camera of the graph, raw or compressed: how every node hears them that controls or records."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from robolearn_nodes.node import COMPRESSED, heard_topic

LOOK_S = 0.5  # between two looks at who publishes

OnPicture = Callable[[Image | CompressedImage], None]
"""Called with a picture, which `convert.picture` reads."""


class HeardCamera:
    """Subscribes to the topic of pictures, or where nobody publishes it to that of its compressed ones (JPEG, PNG), and
    to the other one when that changes. A topic whose own name ends as theirs has compressed ones alone."""

    def __init__(self, node: Node, topic: str, on_picture: OnPicture, qos: QoSProfile) -> None:
        self._node, self._topic, self._on_picture, self._qos = node, topic, on_picture, qos
        self._subscribe()
        self._timer = node.create_timer(LOOK_S, self._look)

    def close(self) -> None:
        """Let go of the topic."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._subscription)

    def _subscribe(self) -> None:
        self._heard = heard_topic(self._node, self._topic)
        kind = CompressedImage if self._heard.endswith(COMPRESSED) else Image
        self._subscription = self._node.create_subscription(kind, self._heard, self._on_picture, self._qos)

    def _look(self) -> None:
        if heard_topic(self._node, self._topic) != self._heard:
            self._node.destroy_subscription(self._subscription)
            self._subscribe()
