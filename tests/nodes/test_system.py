"""The whole graph from its launch file: a policy that is killed in mid-motion, and a person who intervenes."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from cells import Typist
from robolearn_msgs.msg import EpisodeEvent
from robolearn_nodes import convert
from test_robot import Ears, position

from robolearn.datasets.zarr_store import ZarrStore
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
