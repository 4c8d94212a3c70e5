"""The policy server on the graph: swapped in mid-motion, several robots, lifecycle, goals."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from robolearn_msgs.action import RunPolicy
from robolearn_msgs.msg import ActionChunk, EpisodeEvent
from robolearn_msgs.srv import LoadPolicy, StartEpisode
from robolearn_nodes import convert, driven_robot, topics
from robolearn_nodes.driven_robot import DrivenRobot
from robolearn_nodes.policy_node import PolicyNode
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from robolearn.errors import CheckpointError
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.checkpoint import save_policy
from robolearn.policies.chunking import ChunkPolicy, ChunkPolicyConfig
from robolearn.robots.safety import SafetyConfig
from robolearn.serving.chunks import ChunkTimeline
from robolearn.serving.inference import Answer
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec, image_spec
from robolearn.tasks import make_task
from robolearn.types import ActionChunk as ActionChunkOfPolicy
from robolearn.types import RobotState

TASK = "reach-v1"


def save_still(path: Path, lift: float) -> Path:
    """A policy that asks for the positions that it sees, plus `lift` rad."""
    robot = make_task(TASK).robot_spec
    spec = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, make_task(TASK).control_hz)
    statistics = {
        name: FieldStatistics((0.0,) * size, (1.0,) * size, (-1.0,) * size, (1.0,) * size)
        for name, size in (("proprio", 12), ("action", 6))
    }
    policy = ChunkPolicy(spec, statistics, ChunkPolicyConfig(chunk_steps=8, hidden_sizes=(8,)))
    last = [module for module in policy.head if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(lift)
    save_policy(policy, path)
    return path


def say_states(graph: Any, namespaces: list[str], stop: threading.Event) -> None:
    """Robots that stand still, at the control rate of the task."""
    names = list(make_task(TASK).robot_spec.joint_names)
    publishers = [graph.node.create_publisher(JointState, f"{n}/joint_states", topics.STREAM) for n in namespaces]
    tick = 0
    while not stop.wait(0.05):
        tick += 1
        for index, publisher in enumerate(publishers):
            message = JointState(name=names, position=[0.1 * index] * 6, velocity=[0.0] * 6)
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(tick * 50_000_000, 10**9)
            publisher.publish(message)


@pytest.fixture
def robots(graph: Any) -> Any:
    stop = threading.Event()
    thread = threading.Thread(target=say_states, args=(graph, ["/left", "/right"], stop))
    thread.start()
    yield ["left", "right"]
    stop.set()
    thread.join()


def test_robots_share_a_server_that_acts_when_it_is_active_and_swaps_its_policy_without_a_missed_tick(
    graph: Any, robots: list[str], tmp_path: Path
) -> None:
    commands: dict[str, list[JointTrajectory]] = {name: [] for name in robots}
    for name in robots:
        graph.node.create_subscription(JointTrajectory, f"/{name}/joint_command", commands[name].append, topics.STREAM)
    figures: dict[str, str] = {}

    def on_diagnostics(message: DiagnosticArray) -> None:
        figures.update({value.key: value.value for value in message.status[0].values})

    graph.node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, on_diagnostics, 10)
    first, second = save_still(tmp_path / "first", 0.0), save_still(tmp_path / "second", 0.5)
    graph.start(
        "policy", policy=first, task=TASK, robots="left,right", autostart="false", wait_for_chunk="false", blend_steps=3
    )

    def go(transition: int) -> str:
        assert graph.call(ChangeState, "/policy/change_state", transition=Transition(id=transition)).success
        return str(graph.call(GetState, "/policy/get_state").current_state.label)

    assert go(Transition.TRANSITION_CONFIGURE) == "inactive"
    end = time.monotonic() + 0.5
    graph.spin_until(lambda: time.monotonic() > end)
    assert not any(commands.values())
    assert go(Transition.TRANSITION_ACTIVATE) == "active"
    graph.spin_until(lambda: all(len(c) > 10 for c in commands.values()))
    response = graph.call(LoadPolicy, topics.LOAD_POLICY, path=str(second), activate=True)
    assert (response.success, response.active, len(response.loaded)) == (True, str(second), 2), response.message
    graph.spin_until(lambda: all(c[-1].points[0].positions[0] > 0.4 for c in commands.values()))
    refused = graph.call(LoadPolicy, topics.LOAD_POLICY, path=str(tmp_path), activate=True)
    assert (refused.success, refused.active) == (False, str(second))
    assert "is not a checkpoint" in refused.message
    graph.spin_until(lambda: "left/commands" in figures and int(figures["left/commands"]) > 20)
    assert figures["policy"] == str(second)
    for index, name in enumerate(robots):
        stamps = [topics_ns(m) for m in commands[name]]
        assert stamps == sorted(set(stamps))
        gaps = {later - earlier for earlier, later in itertools.pairwise(stamps[1:])}
        assert gaps == {50_000_000}  # every tick has its command
        moves = [m.points[0].positions[0] - 0.1 * index for m in commands[name]]
        assert max(abs(b - a) for a, b in itertools.pairwise(moves)) < 0.2  # blended: never the whole 0.5
    assert go(Transition.TRANSITION_DEACTIVATE) == "inactive"
    assert go(Transition.TRANSITION_CLEANUP) == "unconfigured"
    graph.spin_until(lambda: graph.node.count_publishers("/left/joint_command") == 0)


def topics_ns(message: JointTrajectory) -> int:
    return int(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)


def test_a_goal_runs_the_policy_until_the_episode_ends(graph: Any) -> None:
    chunks: list[ActionChunk] = []
    feedback: list[Any] = []
    graph.node.create_subscription(ActionChunk, topics.ACTION_CHUNK, chunks.append, topics.STREAM)
    graph.start("twin", task=TASK, cameras=" ")
    graph.start("policy", policy="scripted", task=TASK, on_goal="true")
    client = ActionClient(graph.node, RunPolicy, topics.RUN_POLICY)
    assert client.wait_for_server(60)
    for goal in (RunPolicy.Goal(policy="none"), RunPolicy.Goal(task="fold-v1"), RunPolicy.Goal(timeout_s=-1.0)):
        refused = client.send_goal_async(goal)
        graph.spin_until(refused.done)
        assert not refused.result().accepted
    sent = client.send_goal_async(RunPolicy.Goal(seed=3), feedback_callback=lambda m: feedback.append(m.feedback))
    graph.spin_until(sent.done)
    assert sent.result().accepted
    outcome = sent.result().get_result_async()
    graph.agree(StartEpisode, topics.START_EPISODE, episode_id="a", seed=3)
    graph.spin_until(outcome.done)
    result = outcome.result().result
    assert (result.success, result.reason) == (True, "")
    assert result.num_steps > 5
    assert result.loop_p50_ms > 0
    assert {each.state for each in feedback} <= {"acting", "waiting for an observation"}  # it may be over in a moment
    seen = len(chunks)
    cancelled = client.send_goal_async(RunPolicy.Goal(timeout_s=30.0))
    graph.spin_until(cancelled.done)
    graph.spin_until(cancelled.result().cancel_goal_async().done)
    ended = cancelled.result().get_result_async()
    graph.spin_until(ended.done)
    assert ended.result().result.reason == "cancelled"
    assert len(chunks) >= seen
    client.destroy()


def test_a_node_that_was_deactivated_is_not_let_act_by_a_goal(ros: None) -> None:
    node, executor = PolicyNode(), SingleThreadedExecutor()
    client = ActionClient(node, RunPolicy, topics.RUN_POLICY)
    executor.add_node(node)

    def done(future: Any) -> Any:
        executor.spin_until_future_complete(future, timeout_sec=20)
        return future.result()

    def acts() -> bool:
        return any(robot.acting for robot in node._robots.values())

    try:
        node.trigger_configure()
        assert client.wait_for_server(20)
        assert not done(client.send_goal_async(RunPolicy.Goal())).accepted
        assert not acts()
        node.trigger_activate()
        goal = done(client.send_goal_async(RunPolicy.Goal()))
        assert goal.accepted
        node.trigger_deactivate()
        assert done(goal.get_result_async()).result.reason == "the policy was deactivated"
        assert not done(client.send_goal_async(RunPolicy.Goal())).accepted
        assert not acts()
        node.trigger_activate()
        assert acts()
    finally:
        client.destroy()
        node.trigger_shutdown()
        node.destroy_node()


def test_a_policy_of_other_units_and_of_positions_alone_acts_where_the_robot_is_of_them(ros: None) -> None:
    """As one that learned from a dataset of somebody else, whose unit nobody knows."""
    robot = RobotSpec("theirs", ("pan", "grip"), (-100.0, 0.0), (100.0, 100.0), (50.0, 50.0), unit="")
    proprio = ArraySpec((2,), names=("grip.position", "pan.position"))
    spec = InterfaceSpec({"proprio": proprio}, robot.action_spec, 20.0)
    asked, told = list[Any](), list[str]()
    node = rclpy.create_node("driver")
    driven = DrivenRobot(
        node, "", spec, ChunkTimeline(), lambda name, seen, stamp_ns: asked.append(seen["proprio"]),
        lambda name, problem, passing=False: told.append(problem), max_image_age_ns=100_000_000,
    )  # fmt: skip
    driven.acting = True
    message = JointState(name=["pan", "grip"], position=[30.0, 90.0], velocity=[1.0, 2.0])
    message.header.stamp.nanosec = 50_000_000
    driven._on_joint_states(message)
    assert told == ["no command: /robot/spec has not said that the robot is in the policy's unit"]
    driven._on_robot_spec(String(data="?"))
    assert "names no unit" in told[-1]
    driven._on_robot_spec(convert.spec_message(robot, 20.0, SafetyConfig()))
    driven._on_joint_states(message)
    np.testing.assert_array_equal(asked, [[90.0, 30.0]])
    with pytest.raises(
        CheckpointError, match=r"acts in an unknown unit, the robot wants rad; train on data in that unit"
    ):
        driven._on_robot_spec(convert.spec_message(replace(robot, unit="rad"), 20.0, SafetyConfig()))
    seen = {"proprio": ArraySpec((3,), names=("pan.position", "grip.position", "effort.0"))}
    with pytest.raises(CheckpointError, match=r"looks at effort.0 of proprio; .* `robolearn serve`"):
        DrivenRobot(node, "", replace(spec, observation=seen), ChunkTimeline(), lambda *_: None, lambda *_: None)
    node.destroy_node()


def test_between_two_episodes_a_policy_neither_thinks_nor_commands(ros: None) -> None:
    robot, asked, sent = make_task(TASK).robot_spec, list[int](), list[int]()
    spec = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, 20.0)
    node = rclpy.create_node("driver")
    driven = DrivenRobot(
        node, "", spec, ChunkTimeline(execute_steps=1, wait=False), lambda name, seen, stamp_ns: asked.append(stamp_ns),
        lambda *_: None,
    )  # fmt: skip
    driven.acting = True
    still = np.zeros(6, np.float32)
    driven._command.publish = lambda message: sent.append(topics_ns(message))
    ticks = itertools.count(50_000_000, 50_000_000)

    def tick() -> tuple[bool, bool]:
        """Whether the policy was asked at the next tick, and whether its answer was commanded."""
        stamp_ns, counts = next(ticks), (len(asked), len(sent))
        driven._on_joint_states(convert.joint_state_message(RobotState(still, still, stamp_ns), robot.joint_names))
        chunk = ActionChunkOfPolicy(np.zeros((2, 6), np.float32), stamp_ns, stamp_ns, 50_000_000)
        driven.on_answer(Answer("", stamp_ns, chunk))
        return len(asked) > counts[0], len(sent) > counts[1]

    def tell(event: int) -> None:
        driven._on_event(EpisodeEvent(event=event))

    assert tick() == (True, True)  # of an episode nobody has told: as where a robot has none
    tell(EpisodeEvent.STARTED)
    assert tick() == (True, True)
    tell(EpisodeEvent.ENDED)
    assert tick() == tick() == (False, False)
    tell(EpisodeEvent.STARTED)
    assert tick() == (True, True)
    tell(EpisodeEvent.ENDED)
    driven.reset()  # before the next episode, whose start may be told later than its first observation
    assert tick() == (True, True)
    node.destroy_node()


def test_an_answer_to_an_episode_that_is_over_is_neither_commanded_nor_a_problem(ros: None) -> None:
    robot, asked, sent, problems = make_task(TASK).robot_spec, list[int](), list[int](), list[str]()
    spec = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, 20.0)
    node = rclpy.create_node("driver")
    driven = DrivenRobot(
        node, "", spec, ChunkTimeline(wait=False), lambda name, seen, stamp_ns: asked.append(stamp_ns),
        lambda name, problem, passing=False: problems.append(problem),
    )  # fmt: skip
    driven.acting = True
    still = np.zeros(6, np.float32)
    driven._command.publish = lambda message: sent.append(topics_ns(message))

    def tick(stamp_ns: int) -> None:
        driven._on_joint_states(convert.joint_state_message(RobotState(still, still, stamp_ns), robot.joint_names))

    def chunk(stamp_ns: int) -> ActionChunkOfPolicy:
        return ActionChunkOfPolicy(np.zeros((9, 6), np.float32), stamp_ns, stamp_ns, 50_000_000)

    for late in (Answer("", 50_000_000, None, "a policy that failed"), Answer("", 50_000_000, chunk(50_000_000))):
        driven.reset()
        tick(50_000_000)
        driven._on_event(EpisodeEvent(event=EpisodeEvent.ENDED))
        driven.on_answer(late)
        driven._on_event(EpisodeEvent(event=EpisodeEvent.STARTED))
        tick(100_000_000)
        driven.on_answer(late)
        assert (sent, set(problems)) == ([], {""})
    assert asked == [50_000_000, 100_000_000] * 2
    driven.on_answer(Answer("", 100_000_000, chunk(100_000_000)))
    assert sent == [100_000_000]
    driven._on_event(EpisodeEvent(event=EpisodeEvent.ENDED))
    driven._on_event(EpisodeEvent(event=EpisodeEvent.STARTED))
    tick(150_000_000)  # which the chunk of before covers
    assert sent == [100_000_000]
    assert asked[-1] == 150_000_000
    node.destroy_node()


@pytest.mark.parametrize(
    ("later_s", "max_image_age_ns"), [(1.0, None), (-3.0, None), (-3.0, 100_000_000), (-5.4, None), (-0.4, None)]
)
def test_after_a_silence_a_long_chunk_of_before_moves_nothing(
    later_s: float, max_image_age_ns: int | None, ros: None
) -> None:
    """As of a robot whose node began anew, or a twin that puts things back between `reset` and the start."""
    robot, shown, sent = make_task(TASK).robot_spec, list[list[float]](), list[float]()
    spec = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, 20.0, observation_steps=2)
    node = rclpy.create_node("driver")
    driven = DrivenRobot(
        node, "", spec, ChunkTimeline(wait=False),
        lambda name, seen, stamp_ns: shown.append(seen["proprio"][:, 0].tolist()), lambda *_: None,
        max_image_age_ns=max_image_age_ns,
    )  # fmt: skip
    driven._command.publish = lambda message: sent.append(message.points[0].positions[0])

    def tick(stamp_ns: int, position: float) -> None:
        state = RobotState(np.full(6, position, np.float32), np.zeros(6, np.float32), stamp_ns)
        driven._on_joint_states(convert.joint_state_message(state, robot.joint_names))

    def answer(stamp_ns: int, position: float) -> None:
        chunk = ActionChunkOfPolicy(np.full((100, 6), position, np.float32), stamp_ns, stamp_ns, 50_000_000)
        driven.on_answer(Answer("", stamp_ns, chunk))

    before_ns = 5_000_000_000
    tick(10 * before_ns, 1.0)  # of a twin of before, for which nobody acted
    driven.acting = True
    tick(before_ns, 0.5)
    answer(before_ns, 0.5)
    tick(before_ns + 400_000_000, 0.5)  # so long it is in use, while the next one is waited for
    assert sent == [0.5, 0.5]
    after_ns = before_ns + 400_000_000 + round(later_s * 1e9)
    tick(after_ns, 0.25)
    answer(before_ns + 400_000_000, 0.5)  # which was on its way
    assert sent == [0.5, 0.5]
    answer(after_ns, 0.25)
    assert sent == [0.5, 0.5, 0.25]
    assert shown == [[0.5, 0.5], [0.5, 0.5], [0.25, 0.25]]
    node.destroy_node()


@pytest.mark.parametrize("first", ["leaves", "was killed"])
def test_a_second_robot_that_comes_disturbs_no_policy_that_is_slow(
    first: str, ros: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clock begins anew beside that of the first. Where that one is silent it is answered, and at once: one that
    was killed stays in the graph for a while."""
    now_ns = [10**12]
    monkeypatch.setattr(driven_robot, "time", SimpleNamespace(perf_counter_ns=lambda: now_ns[0]))
    robot, asked, sent = make_task(TASK).robot_spec, list[int](), list[int]()
    spec = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, 20.0)
    node = rclpy.create_node("driver")
    states = [node.create_publisher(JointState, topics.JOINT_STATES, topics.STREAM) for _ in range(2)]
    driven = DrivenRobot(
        node, "", spec, ChunkTimeline(wait=False), lambda name, seen, stamp_ns: asked.append(stamp_ns), lambda *_: None
    )
    driven.acting = True
    driven._command.publish = lambda message: sent.append(convert.stamp_ns(message.header.stamp))

    def tick(stamp_ns: int) -> None:
        state = RobotState(np.zeros(6, np.float32), np.zeros(6, np.float32), stamp_ns)
        driven._on_joint_states(convert.joint_state_message(state, robot.joint_names))

    def answer(stamp_ns: int) -> None:
        driven.on_answer(Answer("", stamp_ns, ActionChunkOfPolicy(np.zeros((9, 6)), stamp_ns, stamp_ns, 50_000_000)))

    first_ns = [100_000_000_000 + 50_000_000 * step for step in range(6)]
    for step, stamp_ns in enumerate(first_ns):
        now_ns[0] += 50_000_000
        tick(stamp_ns)
        tick(50_000_000 * step)
        if step == 1:  # a tick late
            answer(first_ns[0])
    assert sent == first_ns[1:]
    if first == "leaves":
        node.destroy_publisher(states.pop())
    else:
        now_ns[0] += 150_000_000
    tick(50_000_000)
    answer(50_000_000)
    assert (sent[-1], asked) == (50_000_000, [first_ns[0], first_ns[4], 50_000_000])
    node.destroy_node()


def test_before_the_first_episode_of_a_robot_a_policy_answers_once(ros: None) -> None:
    robot, asked = make_task(TASK).robot_spec, list[int]()
    spec = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, 20.0)
    node = rclpy.create_node("driver")
    driven = DrivenRobot(
        node, "left", spec, ChunkTimeline(execute_steps=1), lambda name, seen, stamp_ns: asked.append(stamp_ns),
        lambda *_: None,
    )  # fmt: skip
    driven.acting = True
    still = np.zeros(6, np.float32)

    def tick(stamp_ns: int) -> None:
        driven._on_joint_states(convert.joint_state_message(RobotState(still, still, stamp_ns), robot.joint_names))
        chunk = ActionChunkOfPolicy(np.zeros((1, 6), np.float32), stamp_ns, stamp_ns, 50_000_000)
        driven.on_answer(Answer("left", stamp_ns, chunk))

    for stamp_ns in (1, 2, 3):
        tick(stamp_ns * 50_000_000)
    assert len(asked) == 3  # nobody tells of episodes
    told = node.create_publisher(EpisodeEvent, "left/episode", topics.LATCHED)
    for stamp_ns in (4, 5, 6):
        tick(stamp_ns * 50_000_000)
    assert len(asked) == 3
    driven.reset()
    tick(350_000_000)
    assert len(asked) == 4
    node.destroy_publisher(told)
    node.destroy_node()


@pytest.mark.parametrize("namespace", ["", "left"])
def test_a_camera_that_falls_silent_is_named(ros: None, namespace: str) -> None:
    robot, asked, told = make_task(TASK).robot_spec, list[int](), list[str]()
    spec = InterfaceSpec({"proprio": robot.proprio_spec, "image_top": image_spec(2, 2)}, robot.action_spec, 20.0)
    node = rclpy.create_node("driver")
    driven = DrivenRobot(
        node, namespace, spec, ChunkTimeline(), lambda name, seen, stamp_ns: asked.append(stamp_ns),
        lambda name, problem, passing=False: told.append(problem), max_image_age_ns=100_000_000,
    )  # fmt: skip
    driven.acting = True
    for tick in range(1, 6):
        if tick < 3:
            picture = convert.image_message(np.zeros((2, 2, 3), np.uint8), tick * 50_000_000, "top")
            driven._on_image("image_top")(picture)
        message = JointState(name=list(robot.joint_names), position=[0.0] * 6, velocity=[0.0] * 6)
        message.header.stamp.nanosec = tick * 50_000_000
        driven._on_joint_states(message)
    topic = f"/{namespace}/camera/top/image_raw".replace("//", "/")
    assert asked == [50_000_000]
    assert told[-1] == f"no command: nothing fresh came on {topic}"
    assert sum("fresh" in problem for problem in told) == 1  # the picture of tick 2 was fresh until tick 4
    node.destroy_node()
