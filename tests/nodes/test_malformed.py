"""Nonsense on every input of every node: nobody dies, and the robot holds."""

from __future__ import annotations

import itertools
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import Typist, standin_cell
from ears import Ears, position
from geometry_msgs.msg import TransformStamped
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode, StopEpisode
from robolearn_nodes import convert, topics
from sensor_msgs.msg import Image, JointState
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from robolearn.rewards.saved import save_reward
from robolearn.rewards.success import SuccessConfig, SuccessReward

TASK = "reach-v1"


def nonsense(names: list[str], now_ns: int) -> list[tuple[str, Any]]:
    """Messages that the wire carries and no sane peer sends."""
    numbers = (math.nan, math.inf, -1e308, 1e308, 3.5)
    stamps = (now_ns, now_ns + 10**12, 0, -(10**9))
    commands = [
        JointTrajectory(header=convert.header(stamp), joint_names=joints, points=points)
        for stamp, joints, points in itertools.product(
            stamps,
            ([], names, names[:2], [*names, "x"], ["x"] * 6, [names[0]] * 6),
            ([], [JointTrajectoryPoint()], *([JointTrajectoryPoint(positions=[v] * 6)] for v in numbers)),
        )
    ]
    states = [
        JointState(header=convert.header(stamp), name=joints, position=p, velocity=v)
        for stamp, joints, p, v in itertools.product(
            stamps, ([], names, names[::-1], ["x"] * 3), ([], [math.nan] * 6, [1e308] * 6), ([], [math.nan] * 6)
        )
    ]
    images = [
        Image(header=convert.header(stamp, "front"), encoding=encoding, height=h, width=w, step=step, data=[7] * size)
        for stamp, encoding, h, w, step, size in itertools.product(
            (now_ns, 0), ("", "rgb8", "bgr8", "mono16"), (0, 2, 2**32 - 1), (0, 2, 2**32 - 1), (0, 6), (0, 12)
        )
    ]
    transform = TransformStamped(child_frame_id="tool")
    transform.transform.translation.x = math.nan
    frames = [TFMessage(), TFMessage(transforms=[transform]), TFMessage(transforms=[TransformStamped()] * 3)]
    events = [EpisodeEvent(header=convert.header(s), event=e, episode_id=i) for s, e, i in itertools.product(
        stamps, (0, 1, 7, 255), ("", "mine", "x" * 500)
    )]  # fmt: skip
    return [
        *((topics.COMMAND, m) for m in commands),
        *((topics.COMMAND_SENT, m) for m in commands),
        *((topics.JOINT_STATES, m) for m in states),
        *((topics.image_topic("front"), m) for m in images),
        *((topics.GROUND_TRUTH, m) for m in frames),
        *((topics.EPISODE, m) for m in events),
    ]


@pytest.mark.slow
def test_nonsense_kills_nobody_and_moves_nothing(graph: Any, tmp_path: Path, typist: Typist) -> None:
    save_reward(SuccessReward(SuccessConfig()), tmp_path / "model")
    with standin_cell(tmp_path) as (cell, bus):
        ears = Ears(graph)
        graph.start("robot", cell=cell)
        graph.start("teleop", cell=cell, terminal=typist.terminal)
        graph.start("recorder", cell=cell, dataset=tmp_path / "d.zarr")
        graph.start("twin", mode="mirror", task=TASK, cameras=" ")
        graph.start("reward", model=tmp_path / "model")
        graph.spin_until(lambda: "takes commands" in graph.log("robot"))
        time.sleep(1.5)  # by now it has looked whether it is alone
        publishers = {
            topics.COMMAND: graph.node.create_publisher(JointTrajectory, topics.COMMAND, topics.STREAM),
            topics.COMMAND_SENT: graph.node.create_publisher(JointTrajectory, topics.COMMAND_SENT, topics.STREAM),
            topics.JOINT_STATES: graph.node.create_publisher(JointState, topics.JOINT_STATES, topics.STREAM),
            topics.image_topic("front"): graph.node.create_publisher(Image, topics.image_topic("front"), topics.STREAM),
            topics.GROUND_TRUTH: graph.node.create_publisher(TFMessage, topics.GROUND_TRUTH, topics.STREAM),
            topics.EPISODE: graph.node.create_publisher(EpisodeEvent, topics.EPISODE, topics.LATCHED),
        }
        graph.agree(StartEpisode, topics.START_RECORDING, episode_id="mine")
        graph.agree(StartEpisode, topics.START_EPISODE, episode_id="mine")
        graph.spin_until(
            lambda: (
                publishers[topics.image_topic("front")].get_subscription_count()
                and publishers[topics.COMMAND_SENT].get_subscription_count() >= 3
                and len(ears.states) > 5
            )
        )
        names = list(ears.states[0].name)
        before = {i: motor.position for i, motor in bus.motors.items()}
        now_ns = graph.node.get_clock().now().nanoseconds
        for k, (topic, message) in enumerate(nonsense(names, now_ns)):
            publishers[topic].publish(message)
            if k % 10 == 0:
                graph.spin_once()
        seen = len(ears.sent)
        graph.spin_until(lambda: len(ears.sent) > seen + 10)
        assert all(child.poll() is None for child in graph.children.values())
        for motor_id, motor in bus.motors.items():
            assert abs(motor.position - before[motor_id]) <= 2, motor_id  # it has not moved
        graph.call(StopEpisode, topics.STOP_EPISODE, event=EpisodeEvent(truncated=True))
        graph.call(StopEpisode, topics.STOP_RECORDING, event=EpisodeEvent(truncated=True), discard=True)
        typist.hold("q")  # and all goes on as before
        graph.spin_until(lambda: len({position(m) for m in ears.sent[-30:] if m.points and not m.header.frame_id}) > 10)
        graph.agree(StartEpisode, topics.START_RECORDING, episode_id="afterwards")
        assert np.isfinite(position(ears.sent[-1])).all()
        graph.stop()
