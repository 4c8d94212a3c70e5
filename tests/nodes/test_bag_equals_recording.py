"""A bag of the running graph, converted, is what the recorder of that graph wrote."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rclpy.serialization import serialize_message
from robolearn_msgs.msg import EpisodeEvent
from robolearn_nodes import topics
from robolearn_nodes.streams import TYPES
from rosbags.rosbag2 import StoragePlugin, Writer

from robolearn.datasets.convert import import_dataset
from robolearn.datasets.convert.source import ImportSettings
from robolearn.datasets.diff import diff
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.tasks import make_task

sys.path.insert(0, str(Path(__file__).parents[1] / "datasets"))
from bags import EVENT
from bags import TYPES as DEFINITIONS

SIZE = 32
NOT_IN_A_BAG = {"created_ns", "tags"}  # the recorder's clock, and what it counted


def test_two_episodes_of_the_twin(graph: Any, tmp_path: Path) -> None:
    dataset, results = tmp_path / "demos.zarr", tmp_path / "results.jsonl"
    task = make_task("reach-v1")
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as bag:

        def keep(topic: str, kind: str) -> None:
            connection = bag.add_connection(topic, kind, typestore=DEFINITIONS)

            def write(message: Any) -> None:
                bag.write(connection, graph.node.get_clock().now().nanoseconds, serialize_message(message))

            cls = EpisodeEvent if kind == EVENT else TYPES[kind]
            graph.node.create_subscription(cls, topic, write, topics.STREAM)

        joint, image, moved, command = TYPES  # in the order of the table
        keep(topics.EPISODE, EVENT)
        keep(topics.JOINT_STATES, joint)
        for camera in ("front", "wrist"):
            keep(topics.image_topic(camera), image)
        keep(topics.GROUND_TRUTH, moved)
        keep(topics.COMMAND, command)
        keep(topics.COMMAND_SENT, command)
        graph.start("twin", task=task.id, image_size=SIZE)
        graph.start("policy", task=task.id, perturbation=0.1, seed=3)
        graph.start("recorder", dataset=dataset, task=task.id, image_size=SIZE)
        supervisor = graph.start("supervisor", task=task.id, episodes=2, first_seed=3, results=results, record=True)
        graph.spin_until(lambda: supervisor.poll() is not None)
        assert supervisor.returncode == 0, graph.log("supervisor")
        graph.spin_until(lambda: len([event for event in graph.events if event.event == EpisodeEvent.ENDED]) == 2)
    graph.stop()

    settings = ImportSettings(contract=dataset)
    done = import_dataset("rosbag", tmp_path / "bag", tmp_path / "converted.zarr", settings)
    live = ZarrStore.open(dataset)
    assert (done.episodes, done.steps) == (2, sum(row.length for row in live.episodes))
    differences = [each for each in diff(dataset, tmp_path / "converted.zarr") if each.field not in NOT_IN_A_BAG]
    assert not differences, [str(each) for each in differences]
