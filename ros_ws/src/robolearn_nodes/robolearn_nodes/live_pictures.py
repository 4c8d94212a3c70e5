"""Pictures for onlookers: subscribed to while somebody looks, the newest of each camera kept, nobody held up."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from robolearn.datasets.pictures import grey_depth
from robolearn.errors import SpecError
from robolearn_nodes import convert, topics
from robolearn_nodes.live_discovery import Ends

CAMERA = re.compile(r"(?P<twin>twin/)?camera/(?P<name>[^/]+(?P<depth>/depth)?)/image_raw(?P<compressed>/compressed)?")
APPLY_S = 0.1


class LivePictures:
    """A camera's name is that of its topic; the twin that mirrors a robot adds `twin/NAME`, depth `NAME/depth`."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._namespace = f"{node.get_namespace().rstrip('/')}/"
        self._topics: dict[str, tuple[str, type]] = {}  # of each camera: topic and type
        self._wanted: frozenset[str] = frozenset()
        self._heard: dict[str, tuple[tuple[str, type], Any]] = {}  # topic and subscription
        self._newest: dict[str, Any] = {}
        self._on_picture: Callable[[str], None] = lambda camera: None
        self._changed = threading.Event()
        node.create_timer(APPLY_S, self._apply)

    @property
    def cameras(self) -> list[str]:
        return sorted(self._topics)

    def find(self, types: Mapping[str, list[str]], ends: Mapping[str, Ends]) -> None:
        """Which cameras there are, of the topics that somebody writes; one that publishes JPEG is heard so."""
        found: dict[str, tuple[str, type]] = {}
        for topic, (writers, _) in sorted(ends.items()):
            match = CAMERA.fullmatch(topic.removeprefix(self._namespace))
            if match is None or not writers or (match["depth"] and match["compressed"]):
                continue
            camera = (match["twin"] or "") + match["name"]
            if match["compressed"] and "sensor_msgs/msg/CompressedImage" in types.get(topic, ()):
                found[camera] = (topic, CompressedImage)
            elif not match["compressed"] and "sensor_msgs/msg/Image" in types.get(topic, ()):
                found.setdefault(camera, (topic, Image))
        if found != self._topics:
            self._topics = found
            self._changed.set()

    def look(self, cameras: Iterable[str], on_picture: Callable[[str], None]) -> None:
        self._wanted, self._on_picture = frozenset(cameras), on_picture
        self._changed.set()

    def picture(self, camera: str) -> tuple[int, NDArray[np.uint8] | bytes] | None:
        message = self._newest.get(camera)
        if message is None:
            return None
        stamp_ns = convert.stamp_ns(message.header.stamp)
        try:
            if camera.endswith("/depth"):
                grey = grey_depth(convert.depth(message))
                return stamp_ns, np.repeat(grey[:, :, None], 3, axis=2)
            return stamp_ns, bytes(message.data) if isinstance(message, CompressedImage) else convert.picture(message)
        except SpecError:
            return None

    def _apply(self) -> None:
        """In the node's own thread: subscribe to what is looked at, and to nothing else."""
        if not self._changed.is_set():
            return
        self._changed.clear()
        wanted = {camera: self._topics[camera] for camera in self._wanted if camera in self._topics}
        for camera, (topic, subscription) in list(self._heard.items()):
            if wanted.get(camera) != topic:
                self._node.destroy_subscription(subscription)
                del self._heard[camera]
                self._newest.pop(camera, None)
        for camera, (topic, kind) in wanted.items():
            if camera not in self._heard:
                subscription = self._node.create_subscription(kind, topic, self._on(camera), topics.VIEW)
                self._heard[camera] = ((topic, kind), subscription)

    def _on(self, camera: str) -> Callable[[Any], None]:
        def came(message: Any) -> None:
            self._newest[camera] = message
            self._on_picture(camera)

        return came
