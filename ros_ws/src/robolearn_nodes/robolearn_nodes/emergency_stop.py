"""Stopping whatever moves on this graph, by a service or by an empty message on the topic of the same name.

A node of a robot may die and be started again: that the robot was stopped lies on disk until somebody resumes it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rclpy.node import Node
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from robolearn.cell import stop_reason
from robolearn.errors import HardwareError, RobolearnError
from robolearn.robots.safety import SafetyFilter
from robolearn.types import RobotState
from robolearn_nodes import topics
from robolearn_nodes.node import Diagnostics

STOPPED = "emergency stop"  # how the reason begins for which a robot holds that a person has stopped


REFUSED = "the robot is stopped"  # how the answer begins of a robot that was asked to begin an episode


def refusal(safety: SafetyFilter, resume: str) -> str:
    """Why a robot begins no episode while it is stopped; empty where it is not. resume: the service that ends it."""
    return f"{REFUSED} ({safety.stopped}); call {resume} first" if safety.stopped else ""


class EmergencyStop:
    """Lets a node's safety filter be stopped and resumed, and says so at once. `measured` gives what the robot
    measures, or None, or raises HardwareError. `file` is there while the robot is stopped, and says why; None: nothing
    outlives the node."""

    def __init__(
        self,
        node: Node,
        safety: SafetyFilter,
        measured: Callable[[], RobotState | None],
        diagnostics: Diagnostics,
        file: Path | None = None,
    ) -> None:
        self._safety, self._measured, self._diagnostics = safety, measured, diagnostics
        self._node, self._file = node, file
        before = stop_reason(file) if file is not None else ""
        self._remembered = bool(before)
        if before:
            resume = node.resolve_service_name(topics.RESUME_ROBOT)
            safety.stop(f"{before}, before this node began; {resume} lets the robot move again")
        node.create_service(Trigger, topics.EMERGENCY_STOP, self._on_stop)
        node.create_service(Trigger, topics.RESUME_ROBOT, self._on_resume)
        node.create_subscription(Empty, topics.EMERGENCY_STOP, self._on_message, 10)

    def remember(self) -> None:
        """Write the file or take it away, where the filter has been stopped or resumed since the last call."""
        if self._file is None or self._remembered == bool(self._safety.stopped):
            return
        self._remembered = bool(self._safety.stopped)
        try:
            if self._remembered:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                self._file.write_text(f"{self._safety.stopped}\n", encoding="utf-8")
            else:
                self._file.unlink(missing_ok=True)
        except OSError as error:
            self._node.get_logger().warning(f"whether the robot is stopped cannot be kept in {self._file}: {error}")

    def _stop(self) -> None:
        self._safety.stop(STOPPED)
        self.remember()
        self._diagnostics.publish()

    def _on_message(self, message: Empty) -> None:
        self._stop()

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stop()
        response.success = True
        return response

    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            state = self._measured()
            if state is None:
                raise HardwareError("the robot has not measured yet")
            self._safety.resume(state)
            self.remember()
            self._diagnostics.publish()
            response.success = True
        except RobolearnError as error:
            response.message = str(error)
        return response
