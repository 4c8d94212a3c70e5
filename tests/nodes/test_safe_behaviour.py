"""The twin node under commands that must not reach a robot: it holds, says why, and marks the episode."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from typing import Any

from robolearn_nodes import convert, topics
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

Answer = Callable[[list[float], int], list[float] | None]


def nan_in_the_elbow(position: list[float], tick: int) -> list[float] | None:
    return [*position[:2], math.nan, *position[3:]] if tick >= 3 else position


def a_huge_step(position: list[float], tick: int) -> list[float] | None:
    return [position[0] - math.copysign(1.5, position[0]), *position[1:]] if tick >= 3 else position


def too_few_joints(position: list[float], tick: int) -> list[float] | None:
    return position[:5] if tick >= 3 else position


def nothing(position: list[float], tick: int) -> list[float] | None:
    return None if tick >= 3 else position


def test_refused_commands_hold_the_robot_and_mark_the_episode(graph: Any) -> None:
    graph.start("twin", cameras="", command_timeout_s=1.0, max_held_steps=4)
    commands = graph.node.create_publisher(JointTrajectory, topics.COMMAND, topics.STREAM)
    states: list[JointState] = []
    sent: list[JointTrajectory] = []
    answer: Answer = nothing

    def on_joint_states(message: JointState) -> None:
        states.append(message)
        positions = answer(list(states[0].position), len(states) - 1)
        if positions is not None:
            command = JointTrajectory(
                joint_names=list(message.name), points=[JointTrajectoryPoint(positions=positions)]
            )
            command.header.stamp = message.header.stamp
            commands.publish(command)

    graph.node.create_subscription(JointState, topics.JOINT_STATES, on_joint_states, topics.STREAM)
    graph.node.create_subscription(JointTrajectory, topics.COMMAND_SENT, sent.append, topics.STREAM)
    graph.spin_until(lambda: commands.get_subscription_count() == 1)

    for answer, reason, num_steps, held_steps in (  # noqa: B007  on_joint_states reads the answer
        (nan_in_the_elbow, "elbow_flex is nan rad, expected a finite number", 7, 4),
        (a_huge_step, "shoulder_pan is", 7, 4),
        (too_few_joints, "the command has 5 positions for 6 joints, expected 6 of each", 7, 4),
        (nothing, "no command within 1 s", 4, 1),
    ):
        states.clear()
        sent.clear()
        event = graph.run_episode()
        graph.spin_until(lambda: len(sent) == event.num_steps and len(states) == event.num_steps + 1)  # noqa: B023
        assert (event.num_steps, event.held_steps) == (num_steps, held_steps)
        assert (event.success, event.terminated, event.truncated) == (False, False, True)
        assert reason in event.reason
        assert all(math.isfinite(value) for message in sent for value in message.points[0].positions)
        for message in sent[3:]:
            assert reason in message.header.frame_id
            assert list(message.points[0].positions) == list(sent[2].points[0].positions)
    assert "the robot holds" in graph.log("twin")


def test_dead_policy_in_real_time_holds_within_100_ms(graph: Any) -> None:
    graph.start("twin", cameras="", realtime_factor=1.0, max_held_steps=6)
    policy = graph.start("policy", policy="scripted")
    commands: list[JointTrajectory] = []
    sent: list[JointTrajectory] = []
    graph.node.create_subscription(JointTrajectory, topics.COMMAND, commands.append, topics.STREAM)

    def on_sent(message: JointTrajectory) -> None:
        sent.append(message)
        if len(sent) == 20:
            policy.send_signal(signal.SIGKILL)

    graph.node.create_subscription(JointTrajectory, topics.COMMAND_SENT, on_sent, topics.STREAM)
    graph.spin_until(lambda: "is ready" in graph.log("policy"))
    event = graph.run_episode()

    policy.wait()
    assert event.truncated
    assert "s old, at most 0.080 s" in event.reason
    last_command_ns = stamp_ns(commands[-1])
    graph.spin_until(lambda: len(sent) == event.num_steps)
    moving = [m for m in sent if not m.header.frame_id]
    assert stamp_ns(moving[-1]) - last_command_ns <= 100_000_000
    assert len({tuple(m.points[0].positions) for m in sent if stamp_ns(m) - last_command_ns > 100_000_000}) == 1
    assert len({tuple(m.points[0].positions) for m in moving[:15]}) > 10  # it was in mid-motion


def stamp_ns(message: Any) -> int:

    return convert.stamp_ns(message.header.stamp)


def test_a_second_twin_on_the_domain_gives_way_with_one_line(graph: Any) -> None:
    graph.start("twin", task="reach-v1", cameras=" ")
    graph.spin_until(lambda: graph.node.count_publishers(topics.JOINT_STATES) == 1)
    time.sleep(2.0)  # the first one has looked around by now
    second = graph.start("twin", "second", task="reach-v1", cameras=" ")
    assert second.wait(30) == 2
    *_, line = graph.log("second").splitlines()
    assert line.startswith("TransportError: another robot or twin answers to /joint_command on ROS domain")
    assert graph.children["twin"].poll() is None
