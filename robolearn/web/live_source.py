"""What the live page needs of a graph: one Protocol, which a node of the graph implements (`web_node.py`).

The web server never imports ROS; the node hands over an object of this kind. All methods may be called from any thread.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class LiveSource(Protocol):
    """A running graph."""

    def state(self) -> dict[str, Any]:
        """What is known now, by topic of the page (`safety`, `episode`, `nodes` ...); every value is JSON."""
        ...

    def watch(self, camera: str, onlookers: int) -> None:
        """Take pictures of a camera while somebody looks, none when `onlookers` is 0."""
        ...

    def picture(self, camera: str) -> tuple[int, NDArray[np.uint8] | bytes] | None:
        """The newest picture with its stamp: RGB (H, W, 3), or JPEG as it came. None before the first."""
        ...
