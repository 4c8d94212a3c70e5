"""Stopping whatever moves on this graph, by a service or by an empty message on the topic of the same name."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from robolearn.errors import HardwareError, RobolearnError
from robolearn.robots.safety import SafetyFilter
from robolearn.types import RobotState
from robolearn_nodes import topics
from robolearn_nodes.node import Diagnostics


class EmergencyStop:
    """Lets a node's safety filter be stopped and resumed, and says so at once. `measured` gives what the robot
    measures, or None, or raises HardwareError."""

    def __init__(
        self, node: Node, safety: SafetyFilter, measured: Callable[[], RobotState | None], diagnostics: Diagnostics
    ) -> None:
        self._safety, self._measured, self._diagnostics = safety, measured, diagnostics
        node.create_service(Trigger, topics.EMERGENCY_STOP, self._on_stop)
        node.create_service(Trigger, topics.RESUME_ROBOT, self._on_resume)
        node.create_subscription(Empty, topics.EMERGENCY_STOP, self._on_message, 10)

    def _on_message(self, message: Empty) -> None:
        self._safety.stop("emergency stop")
        self._diagnostics.publish()

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._safety.stop("emergency stop")
        self._diagnostics.publish()
        response.success = True
        return response

    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            state = self._measured()
            if state is None:
                raise HardwareError("the robot has not measured yet")
            self._safety.resume(state)
            self._diagnostics.publish()
            response.success = True
        except RobolearnError as error:
            response.message = str(error)
        return response
