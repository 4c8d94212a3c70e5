"""Names that user code takes from rclpy's C++ module."""

from .exceptions import InvalidHandle, RCLError

__all__ = ["InvalidHandle", "RCLError"]
