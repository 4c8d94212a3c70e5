"""A robot that stands still, and a reward model, as a recorder hears them."""

from __future__ import annotations

from typing import Any

import numpy as np
from robolearn_msgs.msg import Reward
from robolearn_nodes import convert, topics
from sensor_msgs.msg import JointState
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from robolearn.tasks.task import Task
from robolearn.types import RobotState


class StillRobot:
    """Publishes on a node what belongs to this task."""

    def __init__(self, node: Any, task: Task) -> None:
        self._joints, self._bodies = task.robot_spec.joint_names, task.bodies
        self._zeros = np.zeros(len(self._joints), np.float32)
        self._states = node.create_publisher(JointState, topics.JOINT_STATES, topics.STREAM)
        self._commands = [
            node.create_publisher(JointTrajectory, topic, topics.STREAM)
            for topic in (topics.COMMAND, topics.COMMAND_SENT)
        ]
        self._poses = node.create_publisher(TFMessage, topics.GROUND_TRUTH, topics.STREAM)
        self._rewards = node.create_publisher(Reward, topics.REWARD, topics.STREAM)

    def measure(self, stamp_ns: int, position: float = 0.0) -> None:
        """All joints are there."""
        state = RobotState(self._zeros + np.float32(position), self._zeros, stamp_ns)
        self._states.publish(convert.joint_state_message(state, self._joints))

    def command(self, stamp_ns: int) -> None:
        """A script wants it to stay, it does, and nothing else moves either."""
        poses = {body: [0, 0, 0, 1, 0, 0, 0] for body in self._bodies}
        self._poses.publish(convert.ground_truth_message(poses, stamp_ns))
        for publisher in self._commands:
            publisher.publish(convert.command_message(self._zeros, stamp_ns, self._joints, "script"))

    def score(self, stamp_ns: int, episode: str, value: float, confidence: float, **other: str) -> None:
        """What the model says of that moment."""
        who = {"model": "toy", "version": "abc", "kind": "potential", **other}
        header = convert.header(stamp_ns)
        self._rewards.publish(Reward(header=header, episode_id=episode, value=value, confidence=confidence, **who))
