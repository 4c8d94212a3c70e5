"""The recorder keeps beside the steps: sensors at their own rate, one of them the topic that makes the steps, and what
a reward model said. It goes on when another process has written to the dataset between two episodes."""

from __future__ import annotations

import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import WrenchStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.executors import MultiThreadedExecutor
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode, StopEpisode
from robolearn_nodes import convert, topics
from robolearn_nodes.online_rewards import held
from robolearn_nodes.own_rate import BLOCK, HOLD_NS, OwnRates
from robolearn_nodes.recorder_node import RecorderNode
from std_srvs.srv import SetBool
from still_robot import StillRobot

from robolearn.datasets.contract import load_streams
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.recipes.graph import free_domain_id
from robolearn.specs import ArraySpec
from robolearn.tasks import make_task

TASK = make_task("reach-v1")
FILE = """
streams:
  /wrench: {field: wrench, type: geometry_msgs/msg/WrenchStamped, select: [wrench.force.x], rate_hz: 100}
  /joint_states: {field: fast, type: sensor_msgs/msg/JointState, select: [position.1], rate_hz: 100, align: hold}
"""
MS = 1_000_000
OTHER = """
import sys
from pathlib import Path
from robolearn.datasets.lock import WriterLock
from robolearn.errors import DatasetBusyError
print("waiting", flush=True)
while True:
    try:
        lock = WriterLock(Path(sys.argv[1]), Path(sys.argv[1]) / ".recording")
        break
    except DatasetBusyError:
        pass
print("taken", flush=True)
sys.stdin.read()
"""


class Written:
    """Stands where the writer does."""

    def __init__(self) -> None:
        self.stamps: list[int] = []

    def append_stream(self, name: str, values: Any, stamps: Any, received: Any) -> None:
        assert len(values) == len(stamps) == len(received) > 0
        self.stamps += stamps


@given(
    st.lists(st.integers(0, 3 * HOLD_NS // BLOCK), max_size=6 * BLOCK),
    st.integers(0, 5 * BLOCK),
    st.integers(0, 10 * HOLD_NS),
    st.integers(0, HOLD_NS),
)
def test_what_belongs_to_the_episode_is_written_once_in_order(
    gaps: list[int], begun_at: int, start_ns: int, early_ns: int
) -> None:
    stamps = np.cumsum(gaps, dtype=np.int64).tolist()
    written, own = Written(), OwnRates(["force"])
    for index, stamp_ns in enumerate(stamps):
        if index == begun_at:
            own.begin(written, start_ns)  # type: ignore[arg-type]
        own.push("force", stamp_ns, stamp_ns, np.zeros(1, np.float32))
    end_ns = (stamps[-1] if stamps else 0) - early_ns
    own.end(end_ns)
    kept = stamps[max(begun_at - BLOCK - 1, 0) :] if begun_at < len(stamps) else []
    wanted = [s for s in kept if start_ns <= s < end_ns]
    assert written.stamps[-len(wanted) :] == wanted if wanted else not written.stamps


def test_a_block_of_samples_waits_for_the_word_that_the_episode_has_started() -> None:
    written, own = Written(), OwnRates(["force"])
    for stamp_ns in range(2 * BLOCK):
        own.push("force", stamp_ns, stamp_ns, np.zeros(1, np.float32))
    own.begin(written, 0)  # type: ignore[arg-type]
    own.end(2 * BLOCK)
    assert written.stamps == list(range(BLOCK - 1, 2 * BLOCK))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.lists(st.integers(0, 60), min_size=1, max_size=30))
def test_a_score_holds_until_the_next_one(steps: list[int], stamps: list[int]) -> None:
    now = np.maximum.accumulate(np.array(steps))
    scores = [(stamp, float(stamp), 0.25 + stamp) for stamp in stamps]
    values, confidence = held(now, scores)
    before: int | None = None
    for step, value, sure in zip(now.tolist(), values.tolist(), confidence.tolist(), strict=True):
        known = [stamp for stamp in stamps if stamp <= step]
        newest = max(known, default=None)
        assert value == (newest or 0)
        assert sure == (0.25 + newest if newest is not None and newest != before else 0.0)
        before = newest


def test_streams_beside_the_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "streams.yaml").write_text(FILE)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    words = [f"dataset:={tmp_path / 'd.zarr'}", f"streams:={tmp_path / 'streams.yaml'}", "cameras:=''", "sync:=grid"]
    words += [f"task:={TASK.id}", "wait_for_started:=false", "stop_timeout_s:=0.5", "reward_wait_s:=0.5"]
    monkeypatch.setattr(sys, "argv", ["test", "--ros-args", *(word for pair in words for word in ("-p", pair))])
    rclpy.init()
    recorder, robot = RecorderNode(), rclpy.create_node("robot")
    heard = StillRobot(robot, TASK)
    wrenches = robot.create_publisher(WrenchStamped, "/wrench", topics.SENSOR)

    def say(tick: int, value: float, episode: str = "one", **other: str) -> None:
        heard.score(10**9 + tick * 10 * MS, episode, value, confidence=0.5, **other)

    executor = MultiThreadedExecutor(2)
    executor.add_node(recorder)
    spinning = threading.Thread(target=executor.spin)
    spinning.start()
    try:
        client = robot.create_client(StartEpisode, topics.START_RECORDING)
        stop = robot.create_client(StopEpisode, topics.STOP_RECORDING)
        executor.add_node(robot)
        assert client.wait_for_service(20)
        answer = client.call(StartEpisode.Request(episode_id="one", task=TASK.id), timeout_sec=30)
        assert answer.success, answer.message
        for tick in range(100):
            stamp_ns = 10**9 + tick * 10 * MS
            heard.measure(stamp_ns, tick / 100)
            wrench = WrenchStamped(header=convert.header(stamp_ns + MS))
            wrench.wrench.force.x, wrench.wrench.force.z = float(tick), -1.0
            wrenches.publish(wrench)
            if tick == 0:
                say(tick, 0.5, model="../../up")
            if tick % 15 == 0:
                say(tick, tick / 100)
            if tick % 5 == 0:
                heard.command(stamp_ns)
        wrenches.publish(WrenchStamped(header=convert.header(10**9)))  # runs backwards
        end = EpisodeEvent(header=convert.header(10**9 + 900 * MS), episode_id="one", judged=True, success=True)
        answer = stop.call(StopEpisode.Request(event=end), timeout_sec=30)
        assert answer.success, answer.message
        say(10, 0.11)  # late, but in time
        say(20, float("nan"))
        say(30, 7.0, "two")
        say(40, 7.0, kind="guess")
        with ZarrStore.open(tmp_path / "d.zarr").column_writer("mine", ArraySpec(()), {}):  # somebody is labelling
            time.sleep(1.0)
            busy = [name for name in ZarrStore.open(tmp_path / "d.zarr").columns if "toy" in name]
        deadline_s = time.monotonic() + 20
        while len(ZarrStore.open(tmp_path / "d.zarr").columns) < 3 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        mark = robot.create_client(SetBool, topics.MARK_RECORDING)  # of the last episode: the writer is put aside
        command = [sys.executable, "-c", OTHER, str(tmp_path / "d.zarr")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "waiting\n"
            for _ in range(100):
                mark.call(SetBool.Request(data=True), timeout_sec=30)
                if select.select([other.stdout], [], [], 0.1)[0]:
                    break
            answer = client.call(StartEpisode.Request(episode_id="two", task=TASK.id), timeout_sec=30)
            assert not answer.success
            assert f"is being written to by process {other.pid}; wait for it to end or stop it" in answer.message
            other.kill()
        answer = client.call(StartEpisode.Request(episode_id="two", task=TASK.id), timeout_sec=30)
        assert answer.success, answer.message
    finally:
        executor.shutdown()
        spinning.join()
        recorder.destroy_node()
        robot.destroy_node()
        rclpy.shutdown()
    store = ZarrStore.open(tmp_path / "d.zarr")
    assert not busy
    assert verify(tmp_path / "d.zarr").ok
    (info,) = store.episodes
    assert info.length <= 20
    for name, first_ns in (("wrench", 10**9 + MS), ("fast", 10**9)):
        values, stamps = store.read_stream(0, name)
        np.testing.assert_array_equal(stamps[:, 0], first_ns + np.arange(90) * 10 * MS)
        column = values[:, 0] if name == "wrench" else values[:, 0] * 100
        np.testing.assert_allclose(column, np.arange(90), atol=1e-4)
        assert (stamps[:, 1] > 10**18).all()  # received: wall time
    assert info.tags["backwards"] == {"wrench": 1}
    assert sorted(store.columns) == ["confidence/online_toy-abc", "mine", "progress/online_toy-abc"]
    now = np.arange(info.length) * 5  # ticks
    newest = now // 15 * 15
    newest[now == 10] = 10
    wanted = np.where(newest == 10, 0.11, newest / 100)
    np.testing.assert_allclose(store.read(0, ["progress/online_toy-abc"])["progress/online_toy-abc"], wanted, atol=1e-6)
    sure = store.read(0, ["confidence/online_toy-abc"])["confidence/online_toy-abc"]
    np.testing.assert_allclose(sure, np.where(now == newest, 0.5, 0.0), atol=1e-6)
    np.testing.assert_allclose(store.read(0, fields=["fast"])["fast"][:3, 0], [0.0, 0.05, 0.1], atol=1e-6)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("streams: {/a: {field: f, type: a/msg/B, select: [x.y]}}", "wants a rate_hz"),
        ("streams: {/a: {field: f, select: [x.y], rate_hz: 3}}", "and a type"),
        ("streams: {/a: {field: f, type: a/msg/B, rate_hz: 3}}", "select names no numbers"),
        ("streams: {/a: {field: f, type: a/msg/B, select: [x.y], rate: 3}}", "did you mean rate_hz"),
        ("stream: {}", "unknown key of file 'stream'"),
        ("]", "is no YAML"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(DatasetError, match=reason):
        load_streams(tmp_path / "s.yaml")


def test_another_dataset_is_refused(tmp_path: Path) -> None:
    from robolearn_nodes.own_rate import check_streams

    (tmp_path / "s.yaml").write_text(FILE)
    streams = load_streams(tmp_path / "s.yaml")
    check_streams({stream.field: stream.own_spec for stream in streams}, streams, "d.zarr")
    with pytest.raises(SpecError, match=r"d\.zarr has streams wrench, and not fast"):
        check_streams({"wrench": streams[0].own_spec}, streams, "d.zarr")
