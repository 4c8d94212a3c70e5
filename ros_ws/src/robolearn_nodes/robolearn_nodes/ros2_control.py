"""A robot that ros2_control drives already, as a Robot: its joint states in, its controller's topic out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from robolearn.errors import HardwareError, SpecError, UnknownNameError
from robolearn.specs import RobotSpec
from robolearn.types import RobotState
from robolearn_nodes import convert, topics

CONTROLLERS = {"forward": Float64MultiArray, "trajectory": JointTrajectory}
MAX_STATE_AGE_NS = 200_000_000


def stop_file(node: Node, commands: str) -> Path:
    """What is there while the robot of this controller's topic is stopped: in ROS_HOME, for no file tells of the robot.
    Each domain has its own, for on another one a topic of this name is another robot's."""
    home = Path(os.environ.get("ROS_HOME") or Path.home() / ".ros")
    robot = f"{node.resolve_topic_name(commands).lstrip('/')}.stopped"
    return home / "robolearn" / f"domain_{node.context.get_domain_id()}" / robot


class Ros2ControlRobot:
    """Implements Robot. `controller`: `forward` for forward_command_controller, `trajectory` for
    joint_trajectory_controller; both take the joints in the order of the spec."""

    def __init__(
        self, node: Node, spec: RobotSpec, controller: str, states: str, commands: str, period_ns: int
    ) -> None:
        if controller not in CONTROLLERS:
            raise UnknownNameError("controller", controller, CONTROLLERS)
        if not commands:
            raise SpecError("a robot of ros2_control has no command_topic; set it to the topic of its controller")
        self.spec = spec
        self._node, self._period_ns = node, period_ns
        self._states, self._commands = map(node.resolve_topic_name, (states, commands))
        self._state: RobotState | None = None
        self._problem = f"nobody publishes {self._states} yet"
        self._publisher = node.create_publisher(CONTROLLERS[controller], commands, 1)
        self._subscription = node.create_subscription(JointState, states, self._on_state, topics.VIEW)

    def connect(self) -> None:
        """Nothing to open: the subscription is there."""

    def read(self) -> RobotState:
        """The newest joint states. Raises HardwareError when there are none, or they do not fit."""
        if self._state is None:
            raise HardwareError(self._problem)
        age_ns = self._node.get_clock().now().nanoseconds - self._state.stamp_ns
        if age_ns > MAX_STATE_AGE_NS:
            raise HardwareError(
                f"the newest joint states on {self._states} are {age_ns * 1e-9:.2f} s old; {self._problem}"
            )
        return self._state

    def write(self, action: NDArray[np.float32]) -> None:
        """Publish joint targets (J,)."""
        if not self._publisher.get_subscription_count():
            raise HardwareError(f"no controller listens to {self._commands}; is it active?")
        if self._publisher.msg_type is Float64MultiArray:
            self._publisher.publish(convert.forward_command(action))
        else:
            self._publisher.publish(convert.trajectory_command(action, self.spec.joint_names, self._period_ns))

    def close(self) -> None:
        """The controller holds its last command."""

    def _on_state(self, message: JointState) -> None:
        try:
            self._state, self._problem = (
                convert.robot_state(message, self.spec.joint_names),
                "are they still published?",
            )
        except SpecError as error:
            self._problem = str(error)
