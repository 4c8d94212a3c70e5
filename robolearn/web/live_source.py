"""What the live page needs of a graph: one Protocol, which the web node of the graph implements.

The web server never imports ROS. All methods may be called from any thread; none but `ask` waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.web.driving import Hands

Row = list[float | None]
"""One instant: stamp [s], then position and command of each joint [rad], then the newest reward; None: not known."""


class LiveSource(Protocol):
    """A running graph."""

    def state(self) -> dict[str, Any]:
        """What is known now, by subject (`safety`, `episode`, `nodes` ...); every value is JSON."""
        ...

    def rows(self, after: int) -> tuple[int, list[Row]]:
        """The rows that came after number `after` (-1: all that are kept), and the number of the last one."""
        ...

    def stopped(self) -> bool:
        """Whether somebody stopped the robot and nobody has resumed it."""
        ...

    def stop(self) -> None:
        """Emergency stop."""
        ...

    def drive(self, browser: int, hands: Hands) -> None:
        """Pass on what a person does."""
        ...

    def ask(self, what: str) -> str:
        """Ask a node for something ("start", "success", "discard" ...) and wait for its answer.

        Raises RobolearnError with the reason when it is refused.
        """
        ...

    def look(self, cameras: Iterable[str], on_picture: Callable[[str], None]) -> None:
        """Take pictures of these cameras, and of no other, from now on; `on_picture` is called for each that came."""
        ...

    def picture(self, camera: str) -> tuple[int, NDArray[np.uint8] | bytes] | None:
        """The newest picture: its stamp [ns], and RGB (H, W, 3), or JPEG as it came. None before the first."""
        ...
