"""The supervisor is told another task: it is what the next episodes are asked for, unless the robot refuses it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import SetTask, StartEpisode, StopEpisode
from robolearn_nodes import supervisor_node, topics

from robolearn.recipes.graph import free_domain_id


def test_the_task_of_the_next_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    words = ["--ros-args", "-p", "reset_service:=''", "-p", "task:=push-v1", "-p", "episodes:=3"]
    monkeypatch.setattr(sys, "argv", ["test", *words])
    monkeypatch.setattr(supervisor_node, "CONNECT_S", 0.2)
    rclpy.init()
    robot = rclpy.create_node("robot")
    events = robot.create_publisher(EpisodeEvent, topics.EPISODE, topics.LATCHED)
    started: list[tuple[str, str]] = []
    wishes = [("reach-v1", "touch it"), ("fold-v1", ""), None]

    def start(request: Any, response: Any) -> Any:
        if request.task == "fold-v1":
            response.message = "this twin runs another task"
            return response
        started.append((request.task, request.instruction))
        response.success = True
        wish = wishes.pop(0)
        asked = set_task.call_async(SetTask.Request(task=wish[0], instruction=wish[1])) if wish else None
        end = EpisodeEvent(event=EpisodeEvent.ENDED, episode_id=request.episode_id, success=True)
        if asked is None:
            events.publish(end)
        else:
            asked.add_done_callback(lambda answered: answered.result().success and events.publish(end))
        return response

    robot.create_service(StartEpisode, topics.START_EPISODE, start)
    robot.create_service(StopEpisode, topics.STOP_EPISODE, lambda request, response: response)
    set_task = robot.create_client(SetTask, topics.SET_TASK)
    executor = SingleThreadedExecutor()
    executor.add_node(robot)
    spinning = threading.Thread(target=executor.spin)
    supervisor = supervisor_node.SupervisorNode()
    wrong: Callable[[str], Any] = lambda task: supervisor._on_task(  # noqa: E731
        SetTask.Request(task=task), SetTask.Response()
    )
    try:
        assert not wrong("no task; rm -rf").success
        spinning.start()
        supervisor.run_episodes()
    finally:
        executor.shutdown()
        spinning.join()
        supervisor.destroy_node()
        robot.destroy_node()
        rclpy.shutdown()
    assert started == [("push-v1", ""), ("reach-v1", "touch it"), ("reach-v1", "touch it")]
