"""The robot node with an arm of stand-in servos, and with a robot that ros2_control drives."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cells import Typist, standin_cell
from diagnostic_msgs.msg import DiagnosticArray
from robolearn_nodes import convert, topics
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory


@pytest.fixture
def typist() -> Iterator[Typist]:
    someone = Typist()
    yield someone
    someone.close()


class Ears:
    """What the robot says."""

    def __init__(self, graph: Any) -> None:
        self.states: list[JointState] = []
        self.sent: list[JointTrajectory] = []
        self.commands: list[JointTrajectory] = []
        self.problems: dict[str, list[str]] = {}
        graph.node.create_subscription(JointState, topics.JOINT_STATES, self.states.append, topics.STREAM)
        graph.node.create_subscription(JointTrajectory, topics.COMMAND_SENT, self.sent.append, topics.STREAM)
        graph.node.create_subscription(JointTrajectory, topics.COMMAND, self.commands.append, topics.STREAM)
        graph.node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, 10)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.problems.setdefault(status.name, []).append(status.message)


def position(message: JointTrajectory) -> tuple[float, ...]:
    return tuple(message.points[0].positions)


def test_dead_commander_holds_the_arm_within_100_ms_and_is_marked(graph: Any, tmp_path: Path, typist: Typist) -> None:
    with standin_cell(tmp_path) as (cell, bus):
        ears = Ears(graph)
        graph.start("robot", cell=cell)
        teleop = graph.start("teleop", cell=cell, terminal=typist.terminal)
        typist.hold("q")
        graph.spin_until(lambda: len({position(m) for m in ears.sent if not m.header.frame_id}) > 20)
        assert bus.motors[1].get("torque")
        teleop.send_signal(signal.SIGKILL)
        teleop.wait()
        graph.spin_until(lambda: len(ears.sent) > 10 and all(m.header.frame_id for m in ears.sent[-10:]))
        last_ns = convert.stamp_ns(ears.commands[-1].header.stamp)
        moved = [m for m in ears.sent if not m.header.frame_id]
        held = [m for m in ears.sent if m.header.frame_id and convert.stamp_ns(m.header.stamp) > last_ns]
        assert {position(m) for m in held} == {position(moved[-1])}
        assert "the command is" in held[0].header.frame_id
        assert " s old" in held[0].header.frame_id
        graph.spin_until(lambda: "the robot holds: the command is" in ears.problems["robot"][-1])
        print("held after", (convert.stamp_ns(held[0].header.stamp) - last_ns) * 1e-6, "ms")
        assert convert.stamp_ns(moved[-1].header.stamp) - last_ns <= 100_000_000
        graph.stop()
        assert bus.motors[1].get("torque")  # it still holds
