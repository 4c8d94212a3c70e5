"""The twin that follows a real robot: its cameras show what the model sees, the residual how far the model is off."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from robolearn.errors import SpecError
from robolearn.twin.follow import Follower
from robolearn.twin.twin import Twin
from robolearn.types import RobotState
from robolearn_nodes import convert, topics
from robolearn_nodes.node import Diagnostics, Meter


class Mirror:
    """The part of the twin's node that follows. It publishes nothing that a robot or its cameras publish."""

    def __init__(self, node: Node, twin: Twin) -> None:
        self._node, self._twin = node, twin
        self._joints = twin.robot_spec.joint_names
        self._follower = Follower(twin)
        self._target: NDArray | None = None  # what the robot was sent last
        self._states = Meter()
        self._worst = 0.0
        self._residual = node.create_publisher(JointState, topics.RESIDUAL, topics.STREAM)
        self._images = {
            camera: node.create_publisher(Image, topics.mirror_topic(camera), topics.SENSOR)
            for camera in twin.camera_specs
        }
        self._diagnostics = Diagnostics(node, self._figures)
        node.create_subscription(JointTrajectory, topics.COMMAND_SENT, self._on_sent, topics.NEWEST)
        node.create_subscription(JointState, topics.JOINT_STATES, self._on_state, topics.VIEW)
        node.create_timer(twin.period_ns * 1e-9, self._show)
        self._shown_ns = twin.stamp_ns

    def _on_sent(self, message: JointTrajectory) -> None:
        try:
            self._target = convert.command(message, self._joints)
        except SpecError as error:
            self._diagnostics.report(f"unusable command: {error}")

    def _on_state(self, message: JointState) -> None:
        try:
            state = convert.robot_state(message, self._joints)
            residual = self._follower.follow(state, self._target)
        except SpecError as error:
            self._diagnostics.report(f"unusable joint states: {error}")
            return
        self._states.note(self._node.get_clock().now().nanoseconds, state.stamp_ns)
        self._diagnostics.report("")
        self._worst = float(abs(residual).max())
        off = RobotState(residual, 0 * residual, state.stamp_ns)
        self._residual.publish(convert.joint_state_message(off, self._joints))

    def _show(self) -> None:
        """Publish what the cameras of the model see, once for each state."""
        stamp_ns = self._twin.stamp_ns
        if stamp_ns == self._shown_ns:
            return
        self._shown_ns = stamp_ns
        for camera, publisher in self._images.items():
            if publisher.get_subscription_count():
                publisher.publish(convert.image_message(self._twin.render(camera), stamp_ns, camera))

    def _figures(self) -> dict[str, Any]:
        return {"residual_max_rad": f"{self._worst:.4f}", **self._states.figures("states")}
