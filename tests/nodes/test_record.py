"""A person records, on a cell of stand-ins and on the twin: driven by keys, and read back. That what was recorded on a
cell can be replayed there, and `robolearn record` itself, are in tests/hardware/test_walkthrough.py."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cells import CONTROL_HZ, ROOT, Typist, standin_cell
from robolearn_msgs.msg import DatasetInfo, EpisodeEvent
from robolearn_msgs.srv import AnnotateEpisode, DiscardEpisode, StartEpisode, StopEpisode
from robolearn_nodes import convert, topics
from robolearn_nodes.node import COMPRESSED
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from robolearn.cameras.standin import MjpegServer
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.robots.standin import StandInBus
from robolearn.specs import depth_spec
from robolearn.tasks.bar import PAIR
from robolearn.types import ActionSource

HEIGHT, WIDTH, CAMERA_HZ = 48, 64, 25.0
PRESS_AGAIN_S = 5.0  # a second press that comes when the episode has begun would end it


def camera_section(url: str) -> str:
    return (
        f"cameras:\n  front: {{driver: opencv, device: '{url}', height: {HEIGHT}, width: {WIDTH}, "
        f"rate_hz: {CAMERA_HZ}, max_age_s: 2.0}}\n"
    )


def begin_episode(graph: Any, typist: Typist) -> None:
    graph.events.clear()
    pressed_s = -PRESS_AGAIN_S

    def begun() -> bool:
        nonlocal pressed_s
        if not graph.events and time.monotonic() > pressed_s + PRESS_AGAIN_S:  # the nodes may not have met yet
            pressed_s = time.monotonic()
            typist.press("\r")
        return bool(graph.events)

    graph.spin_until(begun)


def play_episode(
    graph: Any,
    typist: Typist,
    sent: list[JointTrajectory],
    key: str,
    end: str,
    steps: int,
    move: Callable[[], None] = lambda: None,
) -> Any:
    """The person begins an episode, holds a key until the robot has moved for so many steps, and ends it. move: what
    they do meanwhile."""
    begin_episode(graph, typist)
    assert graph.events[0].event == EpisodeEvent.STARTED
    sent.clear()
    typist.hold(key)
    graph.spin_until(lambda: move() or sum(not m.header.frame_id for m in sent) > steps)
    typist.hold("")
    typist.press(end)
    graph.spin_until(lambda: graph.events[-1].event == EpisodeEvent.ENDED)
    return graph.events[-1]


def test_person_records_on_a_cell(graph: Any, tmp_path: Path, typist: Typist) -> None:
    dataset, results = tmp_path / "demos.zarr", tmp_path / "results.jsonl"
    sent: list[JointTrajectory] = []
    infos: list[DatasetInfo] = []
    graph.node.create_subscription(JointTrajectory, topics.COMMAND_SENT, sent.append, topics.STREAM)
    graph.node.create_subscription(DatasetInfo, topics.DATASET, infos.append, topics.LATCHED)
    with (
        MjpegServer(HEIGHT, WIDTH, CAMERA_HZ) as camera,
        standin_cell(tmp_path, camera_section(camera.url)) as (cell, _),
    ):
        graph.start_all(
            "record", dataset=dataset, cell=cell, episodes=2, task="wave-v1", instruction="wave",
            terminal=typist.terminal, results=results,
        )  # fmt: skip
        graph.spin_until(lambda: "it waits for the operator" in graph.log("supervisor"))
        play_episode(graph, typist, sent, "q", "\r", 30)
        discarded = play_episode(graph, typist, sent, "w", "\x7f", 5)
        failed = play_episode(graph, typist, sent, "a", "x", 15)
        graph.spin_until(lambda: graph.children["supervisor"].poll() is not None)
        assert graph.children["supervisor"].returncode == 0, graph.log("supervisor")
        graph.stop()
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(row["success"], row["recorded"]) for row in rows] == [(True, True), (False, False), (False, True)]
    assert (discarded.discarded, failed.discarded, failed.judged) == (True, False, True)

    store = ZarrStore.open(dataset)
    assert verify(dataset).ok
    assert [(info.success, info.task, info.instruction) for info in store.episodes] == [
        (True, "wave-v1", "wave"),
        (False, "wave-v1", "wave"),
    ]
    assert (store.spec.interface.control_hz, store.spec.robot.name) == (CONTROL_HZ, "so101")
    info, episode, stamps, valid = store.episodes[0], store.read(0), store.read_stamps(0), store.read_valid(0)
    assert info.length >= 30
    assert info.tags["sync"] == "grid"
    moving = valid["action"] & ~episode["held"]
    assert moving.sum() >= 15  # a busy machine is late with some of the 30
    assert set(episode["action_source"][moving]) == {ActionSource.HUMAN}
    assert np.ptp(episode["action"][moving][:, 0]) > 0.2
    assert np.ptp(episode["proprio"][valid["proprio"]][:, 0]) > 0.1
    assert valid["image_front"].mean() > 0.8
    assert episode["image_front"].shape[1:] == (HEIGHT, WIDTH, 3)
    period_ns = 1e9 / CONTROL_HZ
    ticks = stamps["proprio"][0, 0] + np.arange(info.length) * period_ns
    for name, most_ns in {"proprio": period_ns / 2, "action": period_ns / 2, "action_sent": period_ns / 2}.items():
        off = np.abs(stamps[name][:, 0] - ticks)[valid[name]]
        assert off.max() <= most_ns + info.length, name
    age = (ticks - stamps["image_front"][:, 0])[valid["image_front"]]
    assert (age >= -info.length).all()
    assert (stamps["proprio"][:, 1] >= stamps["proprio"][:, 0])[
        valid["proprio"]
    ].all()  # received after it was captured
    assert [message.episodes for message in infos][-1] == 2
    assert infos[-1].last_episode == store.episodes[1].id


@pytest.mark.slow
def test_two_arms_are_led_by_two_and_the_keys_say_what_becomes_of_the_episode(
    graph: Any, tmp_path: Path, typist: Typist
) -> None:
    dataset, cell = tmp_path / "demos.zarr", tmp_path / "pair.yaml"
    text = (ROOT / "hardware" / "cells" / "so101_pair_standin.yaml").read_text(encoding="utf-8")
    text = text.replace("../calibration", str(ROOT / "hardware" / "calibration")).replace("../..", str(ROOT))
    text = text.replace("/tmp/robolearn-", f"{tmp_path}/").replace("max_command_age_s: 0.2", "max_command_age_s: 3.0")
    cell.write_text(text[: text.index("cameras:")] + text[text.index("teleop:") :], encoding="utf-8")
    sent: list[JointTrajectory] = []
    graph.node.create_subscription(JointTrajectory, topics.COMMAND_SENT, sent.append, topics.STREAM)
    with contextlib.ExitStack() as stack:
        arms = {
            name: stack.enter_context(StandInBus("sts3215", path=tmp_path / name))
            for name in ("left", "right", "left-leader", "right-leader")
        }
        hands = {"left-leader": 3.0, "right-leader": -2.0}  # encoder ticks at a time

        def move() -> None:
            for name, step in hands.items():
                arms[name].motors[1].encoder += step

        graph.start_all(
            "record", dataset=dataset, cell=cell, episodes=1, task="lift", instruction="lift",
            terminal=typist.terminal,
        )  # fmt: skip
        graph.spin_until(lambda: "it waits for the operator" in graph.log("supervisor"))
        play_episode(graph, typist, sent, "", "\r", 30, move)
        graph.spin_until(lambda: graph.children["supervisor"].poll() is not None)
        graph.stop()
    store = ZarrStore.open(dataset)
    assert store.spec.robot.name == "so101_pair"
    assert store.spec.robot == replace(PAIR, max_speed=store.spec.robot.max_speed)
    (info,) = store.episodes
    assert (info.success, info.task) == (True, "lift")
    episode, valid = store.read(0), store.read_valid(0)
    led = episode["action"][valid["action"] & ~episode["held"]]
    turned = led[-1] - led[0]
    assert set(episode["action_source"][valid["action"]]) == {ActionSource.HUMAN}
    assert turned[0] > 0.02
    assert turned[6] < -0.02
    np.testing.assert_allclose(np.delete(turned, [0, 6]), 0.0, atol=0.01)


def test_episodes_begin_and_end_by_the_clock_but_not_while_the_robot_is_stopped(
    graph: Any, tmp_path: Path, typist: Typist
) -> None:
    """For a person with a leader in each hand."""
    dataset = tmp_path / "demos.zarr"
    with standin_cell(tmp_path, max_command_age_s=3.0) as (cell, _):
        graph.start_all(
            "record", dataset=dataset, cell=cell, episodes=3, task="wave", terminal=typist.terminal,
            max_episode_s=1.0, reset_s=0.5,
        )  # fmt: skip
        graph.spin_until(lambda: "it waits for the operator" in graph.log("supervisor"))
        typist.hold("q")

        def ended() -> int:
            return sum(event.event == EpisodeEvent.ENDED for event in graph.events)

        begin_episode(graph, typist)
        graph.spin_until(lambda: ended() == 1)
        typist.press(" ")
        graph.spin_until(lambda: "the next episode waits: the robot is stopped" in graph.log("supervisor"))
        assert len(graph.events) == 2
        typist.press("\r")
        graph.spin_until(lambda: graph.children["supervisor"].poll() is not None)
        assert graph.children["supervisor"].returncode == 0, graph.log("supervisor")
        graph.stop()
    log = graph.log("supervisor")
    assert log.count("it waits for the operator") == 1
    assert log.count("it begins in 0.5 s, or when the operator says") == 2
    assert log.count("not judged (") == 3
    store = ZarrStore.open(dataset)
    assert [info.success for info in store.episodes] == [None] * 3
    for info in store.episodes:
        assert 0.5 * CONTROL_HZ < info.length < 2 * CONTROL_HZ


DEPTH_CAMERA = """
import sys
from robolearn.cameras.standin import StandInRealSense
from robolearn_nodes.camera_node import main
sys.modules["pyrealsense2"] = StandInRealSense("42")
sys.exit(main())
"""


def test_depth_is_recorded_as_it_was_sent(graph: Any, tmp_path: Path, typist: Typist) -> None:
    dataset = tmp_path / "demos.zarr"
    states: list[JointState] = []
    sent: dict[int, np.ndarray] = {}
    graph.node.create_subscription(JointState, topics.JOINT_STATES, states.append, topics.STREAM)
    graph.node.create_subscription(
        Image,
        topics.depth_topic("front"),
        lambda message: sent.update({convert.stamp_ns(message.header.stamp): convert.depth(message)}),
        topics.STREAM,
    )
    device = f"driver: realsense, serial: '42', height: {HEIGHT}, width: {WIDTH}, rate_hz: {CAMERA_HZ:g}"
    cameras = f"cameras:\n  front: {{{device}, max_age_s: 2.0, depth: true}}\n"
    with standin_cell(tmp_path, cameras) as (cell, _):
        graph.start("robot", cell=cell)
        with (tmp_path / "camera.log").open("wb") as log:
            command = [sys.executable, "-c", DEPTH_CAMERA, "--ros-args", "-p", f"cell:={cell}"]
            graph.children["camera"] = subprocess.Popen(command, stdout=log, stderr=log)
        graph.start("teleop", cell=cell, terminal=typist.terminal)
        typist.hold("q")
        graph.start("recorder", cell=cell, dataset=dataset, task="wave-v1")
        graph.agree(StartEpisode, topics.START_RECORDING, episode_id="first")
        graph.spin_until(lambda: sent)
        graph.agree(StartEpisode, topics.START_EPISODE, episode_id="first")
        states.clear()
        graph.spin_until(lambda: len(states) > 30)
        assert graph.call(StopEpisode, topics.STOP_EPISODE, event=EpisodeEvent(terminated=True)).success
        graph.spin_until(lambda: graph.events[-1].event == EpisodeEvent.ENDED)
        assert graph.call(StopEpisode, topics.STOP_RECORDING, event=graph.events[-1]).success
        graph.stop()
    store = ZarrStore.open(dataset)
    assert verify(dataset).ok
    assert store.spec.fields["depth_front"] == depth_spec(HEIGHT, WIDTH)
    assert set(store.spec.interface.observation) == {"proprio", "image_front"}  # what a policy may see
    depth, stamps, valid = store.read(0)["depth_front"], store.read_stamps(0), store.read_valid(0)
    assert valid["depth_front"].mean() > 0.8
    for step in np.flatnonzero(valid["depth_front"]):
        np.testing.assert_array_equal(depth[step], sent[stamps["depth_front"][step, 0]])
    assert len({picture.tobytes() for picture in depth}) > 10
    both = valid["depth_front"] & valid["image_front"]
    np.testing.assert_array_equal(stamps["depth_front"][both, 0], stamps["image_front"][both, 0])


@pytest.mark.slow
def test_person_records_on_the_twin_in_real_time(graph: Any, tmp_path: Path, typist: Typist) -> None:
    dataset = tmp_path / "demos.zarr"
    sent: list[JointTrajectory] = []
    states: list[JointState] = []
    graph.node.create_subscription(JointTrajectory, topics.COMMAND_SENT, sent.append, topics.STREAM)
    graph.node.create_subscription(JointState, topics.JOINT_STATES, states.append, topics.STREAM)
    launched = graph.launch(
        "record", dataset=dataset, twin="true", task="reach-v1", teleop="keyboard", image_size=32, episodes=1,
        terminal=typist.terminal,
    )  # fmt: skip
    graph.spin_until(lambda: "it waits for the operator" in graph.log("launch") and len(states) > 20)
    event = play_episode(graph, typist, sent, "q", "\r", 20)
    graph.spin_until(lambda: launched.poll() is not None)
    assert launched.returncode == 0, graph.log("launch")
    store = ZarrStore.open(dataset)
    (info,) = store.episodes
    assert info.length == event.num_steps
    assert info.success is True
    stamps, valid = store.read_stamps(0), store.read_valid(0)
    assert stamps["proprio"][0, 0] == convert.stamp_ns(graph.events[0].header.stamp)  # nothing from before the start
    assert valid["proprio"].all()
    assert valid["action_sent"].all()
    np.testing.assert_array_equal(np.diff(stamps["proprio"][:, 0]), 50_000_000)


@pytest.mark.slow
def test_stopped_recorder_holds_up_nobody_and_kept_episodes_can_be_changed(
    graph: Any, tmp_path: Path, typist: Typist
) -> None:
    dataset = tmp_path / "demos.zarr"
    states: list[JointState] = []
    images: list[Image] = []
    jpegs: list[CompressedImage] = []
    infos: list[CameraInfo] = []
    with (
        MjpegServer(HEIGHT, WIDTH, CAMERA_HZ) as camera,
        standin_cell(tmp_path, camera_section(camera.url)) as (cell, _),
    ):
        graph.start("robot", cell=cell)
        graph.start("camera", cell=cell, compressed=True)
        teleop = graph.start("teleop", cell=cell, terminal=typist.terminal)
        recorder = graph.start("recorder", cell=cell, dataset=dataset, task="wave-v1")
        graph.node.create_subscription(JointState, topics.JOINT_STATES, states.append, topics.STREAM)
        graph.node.create_subscription(Image, topics.image_topic("front"), images.append, topics.VIEW)
        graph.node.create_subscription(
            CompressedImage, topics.image_topic("front") + COMPRESSED, jpegs.append, topics.VIEW
        )
        graph.node.create_subscription(CameraInfo, topics.camera_info_topic("front"), infos.append, topics.VIEW)
        typist.hold("q")
        for name in ("first", "second"):
            graph.agree(StartEpisode, topics.START_RECORDING, episode_id=name)
            graph.agree(StartEpisode, topics.START_EPISODE, episode_id=name)
            states.clear()
            if name == "second":
                assert graph.call(AnnotateEpisode, topics.ANNOTATE_RECORDING, key="light", value="[1, 2]").success
                recorder.send_signal(signal.SIGSTOP)
                graph.spin_until(lambda: len(states) > 5 * CONTROL_HZ)
                gaps = np.diff([convert.stamp_ns(m.header.stamp) for m in states[-5 * CONTROL_HZ :]])
                assert np.median(gaps) < 1.5e9 / CONTROL_HZ  # nobody waits for it
                recorder.send_signal(signal.SIGCONT)
            graph.spin_until(lambda: len(states) > 30)
            assert graph.call(StopEpisode, topics.STOP_EPISODE, event=EpisodeEvent(terminated=True)).success
            graph.spin_until(lambda: graph.events[-1].event == EpisodeEvent.ENDED)
            assert graph.call(StopEpisode, topics.STOP_RECORDING, event=graph.events[-1]).success
        assert [info.success for info in ZarrStore.open(dataset).episodes] == [None, None]
        assert ZarrStore.open(dataset).episodes[1].tags["light"] == [1, 2]
        for service, name, request in (
            (SetBool, topics.MARK_RECORDING, {"data": True}),
            (AnnotateEpisode, topics.ANNOTATE_RECORDING, {"episode_id": "first", "key": "note", "value": "dim"}),
            (DiscardEpisode, topics.DISCARD_RECORDING, {"episode_id": "first"}),
        ):
            response = graph.call(service, name, **request)
            assert response.success, response.message
        (kept,) = ZarrStore.open(dataset).episodes
        assert (kept.id, kept.success) == ("second", True)
        assert not graph.call(DiscardEpisode, topics.DISCARD_RECORDING, episode_id="third").success
        graph.agree(StartEpisode, topics.START_RECORDING, episode_id="third")  # and it still records
        assert graph.call(DiscardEpisode, topics.DISCARD_RECORDING).success
        assert graph.call(StopEpisode, topics.STOP_RECORDING, event=EpisodeEvent(episode_id="third")).success
        assert not graph.call(StopEpisode, topics.STOP_RECORDING, event=EpisodeEvent(episode_id="fourth")).success
        assert teleop.poll() is None
        graph.stop()
    assert (images[-1].height, images[-1].width, images[-1].encoding) == (HEIGHT, WIDTH, "rgb8")
    assert images[-1].header.frame_id == infos[-1].header.frame_id == "front_optical_frame"
    assert (infos[-1].height, infos[-1].width, list(infos[-1].k)) == (HEIGHT, WIDTH, [0.0] * 9)
    assert bytes(jpegs[-1].data[:2]) == b"\xff\xd8"
    stamps = [convert.stamp_ns(message.header.stamp) for message in images]
    assert stamps == sorted(set(stamps))  # each frame once
