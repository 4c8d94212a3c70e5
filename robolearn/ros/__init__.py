"""ROS 2 where ROS 2 is not: after `import robolearn.ros`, `import rclpy` and the message packages work.

With a ROS 2 installation sourced, its own rclpy and messages are used and nothing is added.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_EMBEDDED = str(Path(__file__).with_name("embedded"))


def is_native() -> bool:
    """Whether `import rclpy` gives the one of a ROS 2 installation."""
    spec = importlib.util.find_spec("rclpy")
    return spec is not None and not str(spec.origin).startswith(_EMBEDDED)


def _provide() -> None:
    if importlib.util.find_spec("rclpy") is not None:
        return
    from robolearn.ros import finder

    sys.path.append(_EMBEDDED)
    finder.install()


_provide()
