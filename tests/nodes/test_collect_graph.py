"""Episodes recorded through the graph: the dataset is what happened, and what a bag of the same graph becomes."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.serialization import serialize_message
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode, StopEpisode
from robolearn_nodes import convert, topics
from robolearn_nodes.streams import TYPES
from rosbags.rosbag2 import StoragePlugin, Writer
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robolearn.datasets.convert import import_dataset
from robolearn.datasets.convert.source import ImportSettings
from robolearn.datasets.diff import diff
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.robot_env import RobotEnv
from robolearn.policies.scripted import ScriptedPolicy
from robolearn.serving.loop import ControlLoop
from robolearn.types import ActionSource

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from bags import EVENT
from bags import TYPES as DEFINITIONS

NOT_IN_A_BAG = {"created_ns", "tags"}  # the recorder's clock, and what it counted
TASK, SIZE, SEED, PERTURBATION = "reach-v1", 32, 11, 0.2


def in_process(seed: int) -> tuple[list[np.ndarray], list[int]]:
    """Actions and sources of the same episode without a graph."""
    env = RobotEnv(TASK, cameras={}, privileged=True)
    loop = ControlLoop(ScriptedPolicy(TASK, PERTURBATION))
    observation, info = env.reset(seed=seed)
    loop.reset(seed)
    actions, sources, ended = [], [], False
    while not ended:
        step = loop.step(observation, info["stamp_ns"])
        actions.append(step.action)
        sources.append(int(step.source))
        observation, _, terminated, truncated, info = env.step(step.action)
        ended = terminated or truncated
    env.close()
    return actions, sources


def keep_all(graph: Any, bag: Writer) -> None:
    """Write to the bag what the recorder listens to."""

    def keep(topic: str, kind: str) -> None:
        topic = graph.node.resolve_topic_name(topic)
        connection = bag.add_connection(topic, kind, typestore=DEFINITIONS)

        def write(message: Any) -> None:
            bag.write(connection, graph.node.get_clock().now().nanoseconds, serialize_message(message))

        graph.node.create_subscription(EpisodeEvent if kind == EVENT else TYPES[kind], topic, write, topics.STREAM)

    joint, image, moved, command = TYPES  # in the order of the table
    keep(topics.EPISODE, EVENT)
    keep(topics.JOINT_STATES, joint)
    for camera in ("front", "wrist"):
        keep(topics.image_topic(camera), image)
    keep(topics.GROUND_TRUTH, moved)
    keep(topics.COMMAND, command)
    keep(topics.COMMAND_SENT, command)


def test_two_episodes_through_the_graph_equal_what_happened(graph: Any, tmp_path: Path) -> None:
    dataset, results = tmp_path / "demos.zarr", tmp_path / "out" / "results.jsonl"
    commands: dict[int, list[float]] = {}

    def on_command(message: JointTrajectory) -> None:
        commands[convert.stamp_ns(message.header.stamp)] = list(message.points[0].positions)

    graph.node.create_subscription(JointTrajectory, topics.COMMAND, on_command, topics.STREAM)
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        keep_all(graph, bag)
        graph.start("twin", task=TASK, image_size=SIZE)
        graph.start("policy", task=TASK, perturbation=PERTURBATION, seed=SEED)
        graph.start("recorder", dataset=dataset, task=TASK, image_size=SIZE)
        supervisor = graph.start("supervisor", task=TASK, episodes=2, first_seed=SEED, results=results, record=True)
        graph.spin_until(lambda: supervisor.poll() is not None)
        assert supervisor.returncode == 0, graph.log("supervisor")
        graph.spin_until(lambda: len([event for event in graph.events if event.event == EpisodeEvent.ENDED]) == 2)
    graph.stop()

    rows = [json.loads(line) for line in results.read_text().splitlines()]
    store = ZarrStore.open(dataset)
    assert len(rows) == len(store.episodes) == 2
    assert not store.unfinished
    for index, (row, info) in enumerate(zip(rows, store.episodes, strict=True)):
        assert (row["seed"], row["recorded"], row["held_steps"], row["reason"]) == (SEED + index, True, 0, "")
        assert 0 < row["loop_p50_ms"] <= row["loop_p99_ms"]
        assert (info.id, info.seed, info.success, info.length) == (
            row["episode_id"],
            row["seed"],
            row["success"],
            row["num_steps"],
        )
        assert (info.task, info.masked, info.dropped) == (TASK, {}, {})
        episode, stamps = store.read(index), store.read_stamps(index)
        captured = stamps["proprio"][:, 0]
        np.testing.assert_array_equal(np.diff(captured), 50_000_000)
        for name, columns in stamps.items():
            np.testing.assert_array_equal(columns[:, 0], captured, err_msg=name)
        np.testing.assert_array_equal(episode["action"], np.float32([commands[stamp] for stamp in captured]))
        actions, sources = in_process(SEED + index)
        np.testing.assert_array_equal(episode["action"], np.stack(actions))
        np.testing.assert_array_equal(episode["action_source"], sources)
        assert ActionSource.PERTURBATION in sources
        assert not episode["held"].any()
        for camera in ("front", "wrist"):
            images = episode[f"image_{camera}"]
            assert images.shape == (info.length, SIZE, SIZE, 3)
            assert (images.reshape(info.length, -1).std(axis=1) > 5).all()
            assert (images[0] != images[-1]).any()
        assert np.linalg.norm(episode["pose_tool"][0, :3] - episode["pose_tool"][-1, :3]) > 0.01

    done = import_dataset("rosbag", tmp_path / "bag", tmp_path / "converted.zarr", ImportSettings(contract=dataset))
    assert (done.episodes, done.steps) == (2, sum(info.length for info in store.episodes))
    differences = [each for each in diff(dataset, tmp_path / "converted.zarr") if each.field not in NOT_IN_A_BAG]
    assert not differences, [str(each) for each in differences]


def test_killed_recorder_leaves_every_finished_episode_and_reports_the_other(graph: Any, tmp_path: Path) -> None:

    dataset = tmp_path / "demos.zarr"
    task = "pick_place-v1"  # whose episodes are long enough to be cut
    graph.start("twin", task=task, image_size=SIZE)
    graph.start("policy", task=task)
    recorder = graph.start("recorder", dataset=dataset, task=task, image_size=SIZE)
    sent: list[JointTrajectory] = []
    graph.node.create_subscription(JointTrajectory, topics.COMMAND_SENT, sent.append, topics.STREAM)

    for episode_id in ("whole", "half"):
        graph.agree(Trigger, topics.RESET_POLICY)
        graph.agree(StartEpisode, topics.START_RECORDING, episode_id=episode_id, task=task, seed=0)
        if episode_id == "whole":
            event = graph.run_episode(episode_id=episode_id)
            response = graph.call(StopEpisode, topics.STOP_RECORDING, event=event)
            assert (response.success, response.message) == (True, "")
    before = len(sent)
    graph.agree(StartEpisode, topics.START_EPISODE, episode_id="half", seed=1)
    graph.spin_until(lambda: len(sent) > before + 30)
    recorder.send_signal(signal.SIGKILL)
    recorder.wait()

    store = ZarrStore.open(dataset)
    assert [info.id for info in store.episodes] == ["whole"]
    assert store.read(0)["action"].shape == (event.num_steps, 6)
    (unfinished,) = store.unfinished
    assert unfinished.id == "half"
    assert unfinished.length > 0


def test_supervisor_ends_with_one_line_when_the_twin_dies(graph: Any) -> None:
    twin = graph.start("twin", task=TASK, cameras="", realtime_factor=1.0)
    graph.start("policy", task=TASK)
    supervisor = graph.start("supervisor", task=TASK)
    sent: list[JointTrajectory] = []
    graph.node.create_subscription(JointTrajectory, topics.COMMAND_SENT, sent.append, topics.STREAM)
    graph.spin_until(lambda: len(sent) > 3)
    twin.send_signal(signal.SIGKILL)
    graph.spin_until(lambda: supervisor.poll() is not None)
    assert supervisor.returncode == 2
    assert "NoAnswerError: the node of /robot/start_episode is gone (episode reach-v1-0-" in graph.log("supervisor")
