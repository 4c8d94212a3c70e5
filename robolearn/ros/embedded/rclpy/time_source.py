"""`rclpy.time_source`: sets a node's clock from /clock while `use_sim_time` holds."""

from __future__ import annotations

from typing import Any

from robolearn.ros.messages import message_class

from .callback_groups import ReentrantCallbackGroup
from .clock import ROSClock
from .parameter import Parameter
from .parameter_store import result
from .qos import QoSProfile, ReliabilityPolicy
from .time import Time

CLOCK_TOPIC = "/clock"
USE_SIM_TIME_NAME = "use_sim_time"
QOS_CLOCK = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class TimeSource:
    """Belongs to one node."""

    def __init__(self, *, node: Any, clock: ROSClock) -> None:
        self._node, self._clock = node, clock
        self._subscription: Any = None
        self._group = ReentrantCallbackGroup()  # time goes on while another callback of the node runs
        if not node.has_parameter(USE_SIM_TIME_NAME):
            node.declare_parameter(USE_SIM_TIME_NAME, False)
        self._use(node.get_parameter(USE_SIM_TIME_NAME).value)
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._changed)

    @property
    def ros_time_is_active(self) -> bool:
        return self._subscription is not None

    def _check(self, parameters: list[Parameter]) -> Any:
        for parameter in parameters:
            if parameter.name == USE_SIM_TIME_NAME and parameter.type_ is not Parameter.Type.BOOL:
                return result(False, f"{USE_SIM_TIME_NAME} is {parameter.value!r}, wanted a bool")
        return result(True)

    def _changed(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == USE_SIM_TIME_NAME:
                self._use(parameter.value)

    def _use(self, enabled: bool) -> None:
        if enabled and self._subscription is None:
            self._clock._set_ros_time_is_active(True)
            self._subscription = self._node.create_subscription(
                message_class("rosgraph_msgs/msg/Clock"),
                CLOCK_TOPIC,
                self._on_clock,
                QOS_CLOCK,
                callback_group=self._group,
            )
        elif not enabled and self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None
            self._clock._set_ros_time_is_active(False)

    def _on_clock(self, message: Any) -> None:
        self._clock.set_ros_time_override(Time.from_msg(message.clock))
