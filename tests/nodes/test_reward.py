"""A reward model that looks on: what it says is what it says of the same pictures offline, and it stops nobody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kill_writer
import numpy as np
import pytest
import torch
from kill_recorder import EPISODES
from robolearn_msgs.msg import EpisodeEvent, Reward, StageProgress
from robolearn_nodes import convert, topics
from sensor_msgs.msg import Image, JointState

from robolearn.datasets.repair import repair
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import BAD_INPUT_EXIT_CODE, DatasetError
from robolearn.recipes.graph import free_domain_id
from robolearn.rewards import Episodes
from robolearn.rewards.progress import ProgressConfig, ProgressReward
from robolearn.rewards.saved import save_reward
from robolearn.types import RobotState

JOINTS = ("a", "b")


@pytest.mark.slow
def test_progress_is_published_as_the_model_says_it(graph: Any, tmp_path: Path) -> None:
    model = ProgressReward(
        ProgressConfig(cameras=("front", "wrist"), proprio_size=4, stages=("one", "two"), priors=(0.5, 0.5))
    )
    save_reward(model, tmp_path / "model", {"control_hz": 20.0})
    rewards: list[Reward] = []
    stages: list[StageProgress] = []
    node = graph.node
    node.create_subscription(Reward, topics.REWARD, rewards.append, topics.STREAM)
    node.create_subscription(StageProgress, topics.STAGE_PROGRESS, stages.append, topics.STREAM)
    images = {
        camera: node.create_publisher(Image, topics.image_topic(camera), topics.STREAM) for camera in ("front", "wrist")
    }
    states = node.create_publisher(JointState, topics.JOINT_STATES, topics.STREAM)
    events = node.create_publisher(EpisodeEvent, topics.EPISODE, topics.LATCHED)
    graph.start("reward", model=tmp_path / "model", max_steps=4)
    graph.spin_until(lambda: images["front"].get_subscription_count() and states.get_subscription_count())

    rng = np.random.default_rng(0)
    front = rng.integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)
    wrist = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
    proprio = rng.normal(size=4).astype(np.float32)
    events.publish(
        EpisodeEvent(header=convert.header(10**9), event=EpisodeEvent.STARTED, episode_id="e", instruction="do it")
    )
    graph.spin_until(lambda: graph.events)
    images["front"].publish(Image(encoding="mono8", height=2, width=2, step=2, data=[0] * 4))  # refused, and told
    for k in range(6):
        stamp = 10**9 + k * 50_000_000
        count = len(rewards)
        while len(rewards) == count:  # until it has been seen, for pictures are sent best effort
            if not rewards:  # these two stay as they are, so that it does not matter what comes first
                states.publish(convert.joint_state_message(RobotState(proprio[:2], proprio[2:], stamp), JOINTS))
                images["wrist"].publish(convert.image_message(wrist, stamp, "wrist"))
            images["front"].publish(convert.image_message(front[k], stamp, "front"))
            for _ in range(5):
                graph.spin_once()
    remembered = torch.from_numpy(front)[[0, 3, 4, 5]][None]  # the first and the newest
    shown = {"front": remembered, "wrist": torch.from_numpy(wrist).expand(1, 4, -1, -1, -1)}
    expected = model.score(Episodes(shown, ["do it"], torch.from_numpy(proprio).expand(1, 4, -1)))
    assert rewards[-1].value == pytest.approx(float(expected.value[0, -1]), abs=1e-5)
    assert rewards[-1].confidence == pytest.approx(float(expected.confidence[0, -1]), abs=1e-5)
    assert (rewards[-1].model, rewards[-1].version, rewards[-1].kind) == ("progress", model.version, "potential")
    assert convert.stamp_ns(rewards[-1].header.stamp) == 10**9 + 5 * 50_000_000
    assert (stages[-1].episode_id, list(stages[-1].stages)) == ("e", ["one", "two"])
    assert stages[-1].stage == int(expected.raw["stage"][0, -1])

    end, count = 10**9 + 6 * 50_000_000, len(rewards)
    events.publish(EpisodeEvent(header=convert.header(end), event=EpisodeEvent.ENDED, episode_id="e"))
    graph.spin_until(lambda: len(graph.events) > 1)
    while len(rewards) == count:  # the last picture comes late, and shows what the episode is worth
        images["front"].publish(convert.image_message(front[0], end, "front"))
        for _ in range(5):
            graph.spin_once()
    for _ in range(5):
        images["front"].publish(convert.image_message(front[0], end + 50_000_000, "front"))  # which is none of it
        graph.spin_once()
    assert {convert.stamp_ns(one.header.stamp) for one in rewards[count:]} == {end}


@pytest.mark.slow
def test_what_is_said_of_an_episode_is_kept_with_it(graph: Any, tmp_path: Path) -> None:
    model = ProgressReward(ProgressConfig(cameras=("front",), stages=("one", "two"), priors=(0.5, 0.5)))
    save_reward(model, tmp_path / "model", {"control_hz": 20.0})
    dataset, heard = tmp_path / "d.zarr", dict[int, Reward]()
    graph.node.create_subscription(
        Reward, topics.REWARD, lambda m: heard.update({convert.stamp_ns(m.header.stamp): m}), topics.STREAM
    )
    graph.start("reward", model=tmp_path / "model")
    graph.spin_until(lambda: graph.node.count_publishers(topics.REWARD))
    graph.start("twin", image_size=32)
    graph.start("policy")
    graph.start("recorder", dataset=dataset, image_size=32)
    supervisor = graph.start("supervisor", episodes=1, record=True)
    graph.spin_until(lambda: supervisor.poll() is not None)
    assert supervisor.returncode == 0, graph.log("supervisor")
    graph.stop()  # which writes what is still waiting
    store = ZarrStore.open(dataset)
    assert verify(dataset).ok
    name = f"online_progress-{model.version}"
    values, sure = (store.read(0, [f"{kind}/{name}"])[f"{kind}/{name}"] for kind in ("progress", "confidence"))
    stamps = store.read_stamps(0)["image_front"][:, 0]
    scored = [row for row, stamp in enumerate(stamps.tolist()) if stamp in heard]
    assert scored
    for row in scored:
        said = heard[int(stamps[row])]
        assert (values[row], sure[row]) == pytest.approx((said.value, said.confidence), abs=1e-6)
    assert (sure > 0).sum() <= len(scored)


@pytest.mark.parametrize(
    "kills", [3, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.timeout(600)])], ids=["some", "many"]
)
def test_of_an_episode_a_killed_recorder_leaves_all_that_was_said_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    monkeypatch.setenv("PYTHONPATH", str(Path(kill_writer.__file__).parent), prepend=os.pathsep)
    dataset, script = tmp_path / "d.zarr", Path(__file__).with_name("kill_recorder.py")
    done = subprocess.run(
        [sys.executable, script, dataset, "0", str(kills)], capture_output=True, text=True, timeout=500, check=False
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["killed"] * kills + ["ended"], done.stderr
    store = ZarrStore.open(dataset)
    assert list(store.columns) == ["confidence/online_toy-abc", "progress/online_toy-abc"]
    had = []
    for index, info in enumerate(store.episodes):
        there = [column.has(info.id, info.start, info.stop) for column in store.columns.values()]
        for (name, has), said in zip(zip(store.columns, there, strict=True), (1.0, float(info.id)), strict=True):
            if has:
                np.testing.assert_array_equal(store.read(index, [name])[name], np.full(info.length, said, np.float32))
            else:
                with pytest.raises(DatasetError, match=f"{name} has no values for episode {info.id}"):
                    store.read(index, [name])
        assert there[0] >= there[1]  # no value without its confidence
        had.append(all(there))
    assert not all(had[:-EPISODES])  # some were killed in time,
    assert all(had[-EPISODES:])  # and whoever comes after them is not held up
    assert all("was not finished" in problem for problem in verify(dataset).problems)
    repair(dataset, "salvage")
    assert verify(dataset).ok


@pytest.mark.slow
def test_a_model_that_was_never_audited_judges_no_real_cell_unless_forced(graph: Any, tmp_path: Path) -> None:
    model = ProgressReward(ProgressConfig(stages=("one", "two"), priors=(0.5, 0.5)))
    save_reward(model, tmp_path / "model")
    refused = graph.start("reward", model=tmp_path / "model", cell="cell.yaml")
    assert refused.wait(60) == BAD_INPUT_EXIT_CODE
    assert "was never audited" in graph.log("reward")
    graph.start("reward", model=tmp_path / "model", cell="cell.yaml", force=True)
    graph.spin_until(lambda: "somebody forced it" in graph.log("reward"))
