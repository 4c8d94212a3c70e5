"""The whole graph from its launch file: a policy that is killed in mid-motion, and a person who intervenes."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from cells import CONTROL_HZ, Typist, standin_cell
from ears import Ears, position
from robolearn_msgs.msg import EpisodeEvent
from robolearn_nodes import convert
from test_record import HEIGHT, WIDTH, camera_section

from robolearn.cameras.standin import MjpegServer
from robolearn.cell import load_cell
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.checkpoint import save_policy
from robolearn.policies.chunking import ChunkPolicy, ChunkPolicyConfig
from robolearn.specs import InterfaceSpec, image_spec
from robolearn.types import ActionSource

TASK = "reach-v1"


@pytest.mark.slow
def test_killed_policy_holds_the_robot_and_is_started_again(graph: Any, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    ears = Ears(graph)
    launched = graph.launch(
        "system", policy="scripted", twin="true", task=TASK, episodes=2, image_size=32, results=results
    )
    graph.spin_until(lambda: len([m for m in ears.sent if not m.header.frame_id]) > 5)
    (pid,) = re.findall(r"\[policy_node-\d+\]: process started with pid \[(\d+)\]", graph.log("launch"))
    os.kill(int(pid), signal.SIGKILL)
    graph.spin_until(lambda: graph.events[-1].event == EpisodeEvent.ENDED)
    last_ns = convert.stamp_ns(ears.commands[-1].header.stamp)
    moved = [m for m in ears.sent if not m.header.frame_id and convert.stamp_ns(m.header.stamp) > last_ns - 10**9]
    assert convert.stamp_ns(moved[-1].header.stamp) - last_ns <= 100_000_000
    assert len({position(m) for m in ears.sent if convert.stamp_ns(m.header.stamp) > last_ns + 100_000_000}) == 1
    graph.spin_until(lambda: launched.poll() is not None)
    assert launched.returncode == 0, graph.log("launch")
    first, second = (json.loads(line) for line in results.read_text().splitlines())
    assert (first["success"], first["truncated"]) == (False, True)
    assert "old, at most 0.080 s" in first["reason"]
    assert second["success"]


@pytest.mark.slow
def test_person_takes_over_from_the_policy_and_gives_back(graph: Any, tmp_path: Path, typist: Typist) -> None:
    dataset = tmp_path / "d.zarr"
    ears = Ears(graph)
    launched = graph.launch(
        "system", policy="scripted", twin="true", task=TASK, episodes=1, image_size=32, dataset=dataset,
        teleop="keyboard", terminal=typist.terminal,
    )  # fmt: skip
    graph.spin_until(lambda: graph.events)
    ears.commands.clear()
    typist.hold("q")
    graph.spin_until(lambda: "intervention" in [m.header.frame_id for m in ears.commands])
    typist.hold("")
    typist.press("\x04")  # lets go
    ears.commands.clear()
    graph.spin_until(lambda: "policy" in [m.header.frame_id for m in ears.commands])
    graph.spin_until(lambda: launched.poll() is not None)
    assert launched.returncode == 0, graph.log("launch")
    (info,) = ZarrStore.open(dataset).episodes
    sources = ZarrStore.open(dataset).read(0)["action_source"].tolist()
    assert info.length == len(sources)
    assert sources.index(ActionSource.INTERVENTION) < len(sources) - sources[::-1].index(ActionSource.POLICY)


@pytest.mark.slow
def test_policy_drives_a_cell_by_live_pictures(graph: Any, tmp_path: Path) -> None:
    dataset, results, checkpoint = tmp_path / "d.zarr", tmp_path / "results.jsonl", tmp_path / "checkpoint"
    ears = Ears(graph)
    with (
        MjpegServer(HEIGHT, WIDTH, 25.0) as camera,
        standin_cell(tmp_path, camera_section(camera.url)) as (cell, _),
    ):
        robot = load_cell(cell).make_robot().spec
        fields = {"proprio": robot.proprio_spec, "image_front": image_spec(HEIGHT, WIDTH)}
        statistics = {
            name: FieldStatistics((0.0,) * size, (1.0,) * size, (-1.0,) * size, (1.0,) * size)
            for name, size in (("proprio", 12), ("action", 6))
        }
        config = ChunkPolicyConfig(chunk_steps=8, encoder_channels=(4,), hidden_sizes=(8,))
        spec = InterfaceSpec(fields, robot.action_spec, float(CONTROL_HZ))
        save_policy(ChunkPolicy(spec, statistics, config), checkpoint)
        launched = graph.launch(
            "system", policy=checkpoint, cell=cell, task="wave-v1", instruction="wave", episodes=2, max_episode_s=3.0,
            dataset=dataset, results=results, image_qos="sensor",
        )  # fmt: skip
        graph.spin_until(lambda: launched.poll() is not None)
        assert launched.returncode == 0, graph.log("launch")
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert all("longer than 3 s" in row["reason"] and row["truncated"] for row in rows)
    moving = [m for m in ears.sent if not m.header.frame_id]
    assert len(moving) > 60
    assert {m.header.frame_id for m in ears.commands} == {"policy"}
    for index in range(2):
        valid = ZarrStore.open(dataset).read_valid(index)
        assert valid["image_front"].mean() > 0.7
        assert valid["action"].mean() > 0.5
