"""The robot node in this process, step by step: who may move its arm, and when."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
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
from std_msgs.msg import Empty
from std_srvs.srv import Trigger

from robolearn.recipes.graph import free_domain_id

AHEAD = np.array([0.02, 0, 0, 0, 0, 0])


def test_a_policy_moves_the_arm_in_an_episode_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    with standin_cell(tmp_path, max_command_age_s=1.0) as (cell, _), active_robot(cell) as (node, sent):

        def moves(who: str) -> bool:
            node._on_tick()
            before = np.array(sent[-1].points[0].positions)
            stamp_ns, joints = node._now_ns(), node._interface.spec.joint_names
            node._on_command(convert.command_message(before + AHEAD, stamp_ns, joints, who))
            assert bool(sent[-1].header.frame_id) == np.allclose(sent[-1].points[0].positions, before)
            return not sent[-1].header.frame_id

        for other in ("policy", "script", "perturbation", "", "base_link"):
            assert not moves(other)
            assert sent[-1].header.frame_id.startswith("no episode is running")
        assert moves("human")
        assert node._on_start(StartEpisode.Request(task="wave"), StartEpisode.Response()).episode_id.startswith("wave-")
        assert moves("policy")
        node._on_stop(StopEpisode.Request(), StopEpisode.Response())
        assert not moves("policy")
        assert moves("intervention")
        node._on_start(StartEpisode.Request(max_duration_s=0.2), StartEpisode.Response())
        assert moves("policy")
        time.sleep(0.2)  # and whoever started it is gone
        node._on_tick()
        assert not moves("policy")


@pytest.mark.parametrize("who", ["policy", "human"])
def test_what_was_commanded_last_in_an_episode_is_followed_on_after_it_if_a_person_commanded_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    with standin_cell(tmp_path, max_command_age_s=5.0) as (cell, _), active_robot(cell) as (node, sent):
        node._on_start(StartEpisode.Request(), StartEpisode.Response())
        before = np.array(sent[-1].points[0].positions)
        far = before + 10 * AHEAD  # which takes several ticks
        node._on_command(convert.command_message(far, node._now_ns(), node._interface.spec.joint_names, who))
        assert sent[-1].header.frame_id == ""
        node._on_stop(StopEpisode.Request(), StopEpisode.Response())
        for _ in range(2):  # the first tick is that of the command
            node._on_tick()
        assert sent[-1].header.frame_id.startswith("no episode is running") == (who == "policy")


@contextlib.contextmanager
def active_robot(cell: Path) -> Iterator[tuple[RobotNode, list[Any]]]:
    """A robot node that takes commands, and what it sends."""
    rclpy.init(args=["--ros-args", "-p", f"cell:={cell}"])
    node = RobotNode()
    sent: list[Any] = []
    node._sent.publish = sent.append
    try:
        node.trigger_configure()
        node.trigger_activate()
        node._on_tick()
        yield node, sent
    finally:
        node.destroy_node()
        rclpy.shutdown()


def held(node: RobotNode, sent: list[Any]) -> str:
    """Why a command of a person moves nothing; empty where it does."""
    ahead = np.array(sent[-1].points[0].positions) + AHEAD
    node._on_command(convert.command_message(ahead, node._now_ns(), node._interface.spec.joint_names, "human"))
    return str(sent[-1].header.frame_id)


def test_a_stop_outlives_the_node_that_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    with standin_cell(tmp_path, max_command_age_s=1.0) as (cell, _):
        file = cell.with_suffix(".stopped")
        with active_robot(cell) as (node, sent):
            assert held(node, sent) == ""
            node._stopping._on_message(Empty())
            assert file.read_text() == "emergency stop\n"  # at once: the node may die before its next tick
            refused = node._on_start(StartEpisode.Request(), StartEpisode.Response())
            assert refused.message == "the robot is stopped (emergency stop); call /robot/resume first"
            assert not refused.success
        with active_robot(cell) as (node, sent):
            assert held(node, sent).startswith("emergency stop, before this node began; /robot/resume lets")
            node._on_tick()
            assert file.exists()
            node._on_tick()
            assert node._stopping._on_resume(Trigger.Request(), Trigger.Response()).success
            assert not file.exists()
            assert held(node, sent) == ""
        with active_robot(cell) as (node, sent):
            assert held(node, sent) == ""


def test_a_stop_that_cannot_be_kept_stops_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    with standin_cell(tmp_path, max_command_age_s=1.0) as (cell, _), active_robot(cell) as (node, sent):
        (tmp_path / "cell.stopped").mkdir()  # nothing can be written here
        node._stopping._on_message(Empty())
        node._on_tick()
        assert held(node, sent) == "emergency stop"
