"""`rclpy.action`."""

from .client import ActionClient
from .server import ActionServer, CancelResponse, GoalResponse

__all__ = ["ActionClient", "ActionServer", "CancelResponse", "GoalResponse"]
