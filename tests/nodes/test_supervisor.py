"""The supervisor beside a robot that answers by hand: another task is told to it, and an operator is too quick."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import SetTask, StartEpisode, StopEpisode
from robolearn_nodes import supervisor_node, topics
from std_msgs.msg import String
from std_srvs.srv import Trigger

from robolearn.recipes.graph import free_domain_id
from robolearn.tasks import make_task


@contextmanager
def supervised(
    monkeypatch: pytest.MonkeyPatch, start: Callable[[Any, Any, Any], Any], **parameters: object
) -> Iterator[tuple[Any, supervisor_node.SupervisorNode]]:
    """A robot node whose start_episode is `start(publish, request, response)`, and the supervisor."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    monkeypatch.setattr(sys, "argv", ["test", "--ros-args", "-p", "reset_service:=''", *words])
    monkeypatch.setattr(supervisor_node, "CONNECT_S", 0.2)
    rclpy.init()
    robot = rclpy.create_node("robot")
    events = robot.create_publisher(EpisodeEvent, topics.EPISODE, topics.LATCHED)
    robot.create_service(StartEpisode, topics.START_EPISODE, lambda *asked: start(events.publish, *asked))
    robot.create_service(StopEpisode, topics.STOP_EPISODE, lambda request, response: response)
    executor = SingleThreadedExecutor()
    executor.add_node(robot)
    spinning = threading.Thread(target=executor.spin)
    supervisor = supervisor_node.SupervisorNode()
    spinning.start()
    try:
        yield robot, supervisor
    finally:
        executor.shutdown()
        spinning.join()
        supervisor.destroy_node()
        robot.destroy_node()
        rclpy.shutdown()


def ended(request: Any, num_steps: int = 5) -> EpisodeEvent:
    return EpisodeEvent(event=EpisodeEvent.ENDED, episode_id=request.episode_id, success=True, num_steps=num_steps)


def test_the_task_of_the_next_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what they are asked for, unless the robot refuses it."""
    started: list[tuple[str, str]] = []
    wishes = [("reach-v1", "touch it"), ("fold-v1", ""), None]

    def start(publish: Callable[[EpisodeEvent], None], request: Any, response: Any) -> Any:
        if request.task == "fold-v1":
            response.message = "this twin runs another task"
            return response
        started.append((request.task, request.instruction))
        response.success = True
        wish, end = wishes.pop(0), ended(request)
        if wish is None:
            publish(end)
        else:
            asked = set_task.call_async(SetTask.Request(task=wish[0], instruction=wish[1]))
            asked.add_done_callback(lambda answered: answered.result().success and publish(end))
        return response

    with supervised(monkeypatch, start, task="push-v1", episodes=3) as (robot, supervisor):
        set_task = robot.create_client(SetTask, topics.SET_TASK)
        assert supervisor._figures()["instruction"] == make_task("push-v1").instruction
        assert not supervisor._on_task(SetTask.Request(task="no task; rm -rf"), SetTask.Response()).success
        supervisor.run_episodes()
        assert supervisor._figures()["instruction"] == "touch it"
    assert started == [("push-v1", ""), ("reach-v1", "touch it"), ("reach-v1", "touch it")]


def test_an_episode_that_its_operator_ended_before_its_first_step_is_begun_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by pressing the key twice. The recorder has nothing of it to keep, and would refuse."""
    recorded: list[tuple[bool, int]] = []
    lengths = [5, 0, 0, 7]

    def start(publish: Callable[[EpisodeEvent], None], request: Any, response: Any) -> Any:
        response.success = True
        publish(ended(request, lengths.pop(0)))
        return response

    def keep(request: StopEpisode.Request, response: StopEpisode.Response) -> StopEpisode.Response:
        recorded.append((request.discard, request.event.num_steps))
        response.success = request.discard or request.event.num_steps > 0
        return response

    def begin(request: StartEpisode.Request, response: StartEpisode.Response) -> StartEpisode.Response:
        response.success = True
        return response

    with supervised(monkeypatch, start, episodes=2, ask_operator="true", record="true") as (robot, supervisor):
        robot.create_service(StartEpisode, topics.START_RECORDING, begin)
        robot.create_service(StopEpisode, topics.STOP_RECORDING, keep)
        next_episode = robot.create_client(Trigger, topics.NEXT_EPISODE)
        robot.create_timer(0.05, lambda: next_episode.call_async(Trigger.Request()))  # who presses too often
        supervisor.run_episodes()
    assert recorded == [(False, 5), (True, 0), (True, 0), (False, 7)]


def test_an_episode_that_is_thrown_away_or_refused_is_begun_anew_and_what_is_kept_is_told_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told, recorded, results = list[str](), list[bool](), tmp_path / "results.jsonl"
    begins = ["discarded", "refused", "kept"]

    def start(publish: Callable[[EpisodeEvent], None], request: Any, response: Any) -> Any:
        response.success, response.message = begins[0] != "refused", "the cable is out"
        if response.success:
            event = ended(request)
            event.discarded = begins.pop(0) == "discarded"
            publish(event)
        return response

    def begin(request: StartEpisode.Request, response: StartEpisode.Response) -> StartEpisode.Response:
        response.success = True
        return response

    def keep(request: StopEpisode.Request, response: StopEpisode.Response) -> StopEpisode.Response:
        recorded.append(not request.discard)
        response.success, response.message = True, "" if request.discard else "2 steps lack image_front"
        return response

    def tell(text: str) -> None:
        told.append(text)
        if "is not recorded" in text:
            begins.remove("refused")

    with supervised(monkeypatch, start, ask_operator="true", record="true", results=results) as (robot, supervisor):
        robot.create_service(StartEpisode, topics.START_RECORDING, begin)
        robot.create_service(StopEpisode, topics.STOP_RECORDING, keep)
        next_episode = robot.create_client(Trigger, topics.NEXT_EPISODE)
        robot.create_timer(0.05, lambda: next_episode.call_async(Trigger.Request()))
        logger = SimpleNamespace(info=tell, warning=tell, error=tell)
        monkeypatch.setattr(supervisor, "get_logger", lambda: logger)
        supervisor.run_episodes()
    rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert [row["recorded"] for row in rows] == [False, True]
    assert recorded == [False, False, True]  # the second is what was begun before the robot refused
    waits, runs = "episode 1 of 1 is next; it waits for the operator", "episode 1 of 1 is being recorded"
    assert told == [
        *(waits, runs, "episode 1 of 1: thrown away, 5 steps"),
        *(waits, "the cable is out; it is tried again for 0.2 s"),
        "episode 1 of 1 is not recorded: /robot/start_episode: the cable is out",
        *(waits, runs, f"episode 1 of 1: success, 5 steps, saved as {rows[1]['episode_id']}; 2 steps lack image_front"),
    ]


def test_a_robot_that_is_killed_and_started_again_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is back before it was missed. A second one that comes ends nothing, nor does one between two episodes."""
    lengths, seconds = [5, 0, 7, 0], []
    publish_ended: list[Callable[[], None]] = []

    def start(publish: Callable[[EpisodeEvent], None], request: Any, response: Any) -> Any:
        response.success = True
        if num_steps := lengths.pop(0):
            publish(ended(request, num_steps))
        else:
            seconds.append(0)
            publish_ended.append(lambda: publish(ended(request)))
        return response

    with supervised(monkeypatch, start, episodes=5) as (robot, supervisor):
        specs = [robot.create_publisher(String, topics.ROBOT_SPEC, topics.STATE)]

        def tick() -> None:
            if not seconds:
                return
            seconds[-1] += 1
            if seconds[-1] == 1:
                specs.append(robot.create_publisher(String, topics.ROBOT_SPEC, topics.STATE))
            elif seconds[-1] == 3 and len(seconds) == 1:
                robot.destroy_publisher(specs.pop())  # the second one found that it is not alone
                publish_ended[0]()
            elif seconds[-1] == 3:
                robot.destroy_publisher(specs.pop(0))

        robot.create_timer(1.0, tick)
        with pytest.raises(supervisor_node.NoAnswerError, match=r"/robot/start_episode began anew \(episode 3-"):
            supervisor.run_episodes()
        assert supervisor._done == 3


@pytest.mark.parametrize(("judged", "how"), [(True, "no success"), (False, "not judged")])
def test_why_an_episode_was_no_success_is_told(monkeypatch: pytest.MonkeyPatch, judged: bool, how: str) -> None:
    def start(publish: Callable[[EpisodeEvent], None], request: Any, response: Any) -> Any:
        event = ended(request)
        event.success, event.judged, event.reason = False, judged, "longer than 5 s"
        publish(event)
        response.success = True
        return response

    told: list[str] = []
    with supervised(monkeypatch, start) as (_, supervisor):
        monkeypatch.setattr(supervisor, "get_logger", lambda: SimpleNamespace(info=told.append))
        supervisor.run_episodes()
    assert told[-1].endswith(f": {how} (longer than 5 s), 5 steps")
