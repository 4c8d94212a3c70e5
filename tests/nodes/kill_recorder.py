"""Runs recorders that die by SIGKILL while a reward model speaks, each in a forked child, and prints where they died.

    python kill_recorder.py DATASET SEED KILLS

Of episode `<n>` the model says n at every step. A child is killed by its own hand before a change of a file that the
writer of columns makes beside the recording; which one, the seed draws. One more child ends well.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
from kill_writer import die_before, in_child

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy
from rclpy.executors import MultiThreadedExecutor
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode, StopEpisode
from robolearn_nodes import convert, topics
from robolearn_nodes.recorder_node import RecorderNode
from still_robot import StillRobot

from robolearn.tasks import make_task

TASK = make_task("reach-v1")
STEPS, STEP_NS = 4, 50_000_000
CHANGES = 80  # about as many as the columns of two episodes take
EPISODES = 4  # of a child that lives


def record(first: int, kill_before: int, told: int) -> None:
    """Episodes `first`, `first` + 1, ... of a recorder and a robot in this process; tells when that ended well."""
    die_before(kill_before, "rewards")
    rclpy.init()
    recorder, robot = RecorderNode(), rclpy.create_node("robot")
    heard = StillRobot(robot, TASK)
    start = robot.create_client(StartEpisode, topics.START_RECORDING)
    stop = robot.create_client(StopEpisode, topics.STOP_RECORDING)
    executor = MultiThreadedExecutor(2)
    for node in (recorder, robot):
        executor.add_node(node)
    spinning = threading.Thread(target=executor.spin, daemon=True)
    spinning.start()
    assert start.wait_for_service(20)
    assert stop.wait_for_service(20)
    for episode in range(first, first + EPISODES):
        answer = start.call(StartEpisode.Request(episode_id=str(episode), task=TASK.id), timeout_sec=30)
        assert answer.success, answer.message
        for step in range(STEPS + 2):
            stamp_ns = 10**9 + step * STEP_NS
            heard.score(stamp_ns, str(episode), float(episode), confidence=1.0)
            heard.measure(stamp_ns)
            heard.command(stamp_ns)
        end = EpisodeEvent(header=convert.header(10**9 + STEPS * STEP_NS), judged=True, success=True)
        answer = stop.call(StopEpisode.Request(event=end), timeout_sec=30)
        assert answer.success, answer.message
    executor.shutdown()
    spinning.join()
    recorder.destroy_node()
    robot.destroy_node()
    rclpy.shutdown()
    os.write(told, bytes([1]))


def main() -> None:
    path, seed, kills = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    words = [f"dataset:={path}", f"task:={TASK.id}", "cameras:=''", "sync:=grid", "wait_for_started:=false"]
    words += ["reward_wait_s:=0.2"]
    sys.argv = ["test", "--ros-args", *(word for pair in words for word in ("-p", pair))]
    before = [*np.random.default_rng(seed).integers(1, CHANGES, kills).tolist(), sys.maxsize]
    for number, kill_before in enumerate(before):
        first = 1 + number * EPISODES
        ended, killed = in_child(lambda told: record(first, kill_before, told), None)  # noqa: B023
        print("killed" if killed else "ended" if ended else "failed", kill_before, flush=True)


if __name__ == "__main__":
    main()
