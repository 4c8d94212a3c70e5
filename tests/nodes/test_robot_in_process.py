"""The robot node in this process, step by step: who may move its arm, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import standin_cell
from robolearn_msgs.srv import StartEpisode, StopEpisode
from robolearn_nodes import convert
from robolearn_nodes.robot_node import RobotNode

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy

from robolearn.recipes.graph import free_domain_id

AHEAD = np.array([0.02, 0, 0, 0, 0, 0])


def test_a_policy_moves_the_arm_in_an_episode_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    with standin_cell(tmp_path) as (cell, _):
        rclpy.init(args=["--ros-args", "-p", f"cell:={cell}"])
        node = RobotNode()
        sent: list[Any] = []
        monkeypatch.setattr(node._sent, "publish", sent.append)
        try:
            node.trigger_configure()
            node.trigger_activate()

            def moves(who: str) -> bool:
                node._on_tick()
                before = np.array(sent[-1].points[0].positions)
                stamp_ns, joints = node._now_ns(), node._interface.spec.joint_names
                node._on_command(convert.command_message(before + AHEAD, stamp_ns, joints, who))
                assert bool(sent[-1].header.frame_id) == np.allclose(sent[-1].points[0].positions, before)
                return not sent[-1].header.frame_id

            assert not moves("policy")
            assert sent[-1].header.frame_id.startswith("no episode is running")
            assert moves("human")
            node._on_start(StartEpisode.Request(), StartEpisode.Response())
            assert moves("policy")
            node._on_stop(StopEpisode.Request(), StopEpisode.Response())
            assert not moves("policy")
            assert moves("intervention")
        finally:
            node.destroy_node()
            rclpy.shutdown()
