"""Listens to a robot on the graph."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from robolearn_nodes import topics
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory


class Ears:
    """What the robot says."""

    def __init__(self, graph: Any) -> None:
        self.states: list[JointState] = []
        self.sent: list[JointTrajectory] = []
        self.commands: list[JointTrajectory] = []
        self.problems: dict[str, list[str]] = {}
        self.figures: dict[str, dict[str, str]] = {}  # the newest of each node
        graph.node.create_subscription(JointState, topics.JOINT_STATES, self.states.append, topics.STREAM)
        graph.node.create_subscription(JointTrajectory, topics.COMMAND_SENT, self.sent.append, topics.STREAM)
        graph.node.create_subscription(JointTrajectory, topics.COMMAND, self.commands.append, topics.STREAM)
        graph.node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.problems.setdefault(status.name, []).append(status.message)
            self.figures[status.name] = {figure.key: figure.value for figure in status.values}


def position(message: JointTrajectory) -> tuple[float, ...]:
    return tuple(message.points[0].positions)
