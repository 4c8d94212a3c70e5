"""Reset-free practice on the graph, with the twin's node as the robot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from cells import Typist, standin_cell
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StopEpisode
from robolearn_nodes import convert, topics
from robolearn_nodes.episode import ENDINGS
from robolearn_nodes.graph_cell import GraphCell, GraphCellConfig
from std_msgs.msg import String
from std_srvs.srv import Trigger
from websockets.sync.client import connect

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy

from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.practice_world import PracticeConfig, PracticeWorld
from robolearn.envs.tool_space import ToolSpace
from robolearn.errors import LaunchError
from robolearn.robots.safety import SafetyConfig
from robolearn.teleop.teleoperator import TeleopEvent
from robolearn.types import ActionSource

CONFIG = PracticeConfig()
SPACE = ToolSpace(("push-v1", "push_back-v1"), CONFIG.tool_low, CONFIG.tool_high)
TWIN = {"task": "push-v1", "cameras": "' '", "reset_free": True}


def test_the_expert_practises_on_the_twin_of_the_graph_and_nothing_is_reset(graph: Any) -> None:
    graph.start("twin", **TWIN, realtime_factor=0.0)
    cell = GraphCell(graph.node, SPACE.tasks[0], GraphCellConfig(twin=True), lambda: False)
    world = PracticeWorld(SPACE, CONFIG, cell)
    assert world.reset(3)
    rng = np.random.default_rng(0)
    for index in (0, 1):
        assert any(world.go_home() for _ in range(12))
        world.begin(index, rng)
        assert any(world.step(world.expert()).success for _ in range(35))
    before = world.facts()["pose_puck"]
    world.hold()
    np.testing.assert_allclose(world.facts()["pose_puck"][:2], before[:2], atol=0.01)
    assert [event.event for event in graph.events].count(EpisodeEvent.ENDED) == 1  # for the one that was asked for
    assert world.cell.condition().fault == ""


@pytest.mark.slow
def test_what_the_robot_refuses_is_held_and_told_and_one_that_stays_away_is_a_fault(graph: Any) -> None:
    twin = graph.start("twin", **TWIN, realtime_factor=1.0)
    cell = GraphCell(graph.node, SPACE.tasks[0], GraphCellConfig(), lambda: False)
    world = PracticeWorld(SPACE, CONFIG, cell)
    assert not world.reset(0)  # nobody has said so yet
    while not cell.condition().fault:
        assert cell.send(np.full(6, np.nan)).held
    assert cell.condition().fault.startswith("the robot holds: shoulder_pan is nan rad")
    other = GraphCell(graph.node, SPACE.tasks[0], GraphCellConfig(away_s=7.0), lambda: True)
    assert other.put_back(1)
    twin.kill()
    twin.wait()
    del graph.children["twin"]
    while not other.condition().away:
        other.send(None)
    assert other.condition().away == "for the robot, 7 s at most: /joint_states was silent for 6 s"
    while not other.condition().fault:
        assert not other.put_back(2)
    assert other.condition().fault.startswith("it waited for the robot, 7 s at most: nobody publishes /joint_states")


def test_a_robot_that_a_person_stops_is_waited_for_and_another_one_is_a_fault(graph: Any, tmp_path: Path) -> None:
    told: list[str] = []
    with standin_cell(tmp_path, control_hz=20, max_command_age_s=0.3) as (file, _):
        graph.start("robot", cell=file)
        cell = GraphCell(graph.node, SPACE.tasks[0], GraphCellConfig(unseen=True), lambda: False, told.append)
        stay = np.asarray(cell.rest(), np.float64)
        assert not cell.send(stay).held
        graph.call(Trigger, topics.EMERGENCY_STOP)
        while not cell.condition().away:
            cell.send(stay)
        del told[:-1]
        for _ in range(3):  # nothing moves before somebody holds: what goes on is the decision of before
            assert cell.send(stay).action is None
        assert not graph.call(Trigger, topics.NEXT_EPISODE).success  # nobody takes *Start* for anything meanwhile
        cell.send(None)
        assert cell.condition().away == "for the robot, 300 s at most: the robot holds: emergency stop"
        graph.call(Trigger, topics.RESUME_ROBOT)
        while cell.condition().away:
            cell.send(None)
        assert not any(told[told.index("") :])  # all the time before it was told what is waited for
        assert not cell.send(stay).held
        specs = graph.node.create_publisher(String, topics.ROBOT_SPEC, topics.STATE)
        other = replace(SPACE.tasks[0].robot_spec, position_low=(-3.0,) * 6)
        specs.publish(convert.spec_message(other, 20.0, SafetyConfig()))
        while not (fault := cell.condition().fault):
            cell.send(stay)
        assert fault.startswith("the robot that began anew is another one: its position_low is [-3.0, -3.0, ")
        graph.stop()


@pytest.mark.slow
def test_a_robot_that_is_started_again_is_waited_for_until_it_is_resumed_and_another_one_is_a_fault(
    graph: Any, tmp_path: Path
) -> None:
    told: list[str] = []
    with standin_cell(tmp_path, control_hz=20, max_command_age_s=0.3) as (file, _):
        graph.start("robot", cell=file)
        cell = GraphCell(graph.node, SPACE.tasks[0], GraphCellConfig(unseen=True), lambda: False, told.append)
        stay = np.asarray(cell.rest(), np.float64)

        def again(**parameters: Any) -> None:
            graph.children["robot"].kill()
            graph.children["robot"].wait(10)
            graph.start("robot", cell=file, **parameters)
            while not cell.condition().away:
                cell.send(stay)

        graph.call(Trigger, topics.EMERGENCY_STOP)
        again()
        while "emergency stop, before this node began" not in told[-1]:
            cell.send(None)
        graph.call(Trigger, topics.RESUME_ROBOT)
        while cell.condition().away:
            cell.send(None)
        assert not cell.send(stay).held
        again(max_command_age_s=0.4)
        why = "the robot that began anew is another one: its max_command_age_s is 0.4, and was 0.3"
        assert cell.condition().fault == why
        graph.stop()


def test_a_robot_that_is_not_there_is_told(graph: Any) -> None:
    with pytest.raises(LaunchError, match="is a robot or twin running, on this"):
        GraphCell(graph.node, SPACE.tasks[0], GraphCellConfig(appear_s=0.2), lambda: False)


def test_practice_in_a_namespace_is_with_the_robot_of_that_one(graph: Any) -> None:
    graph.start("twin", namespace="left", **TWIN, realtime_factor=1.0)
    left, right = (rclpy.create_node("practice", namespace=name) for name in ("left", "right"))
    cell = GraphCell(left, SPACE.tasks[0], GraphCellConfig(), lambda: False)
    assert not cell.send(None).held
    with pytest.raises(LaunchError, match=r"^/right/robot/start_episode did not appear"):
        GraphCell(right, SPACE.tasks[0], GraphCellConfig(appear_s=0.2), lambda: False)
    for node in (left, right):
        node.destroy_node()


def test_an_episode_that_somebody_ends_is_followed_by_one_that_begins_where_things_are(graph: Any) -> None:
    graph.start("twin", **TWIN, realtime_factor=1.0)
    cell = GraphCell(graph.node, SPACE.tasks[0], GraphCellConfig(), lambda: True)
    assert cell.put_back(5)
    wanted = SPACE.tasks[0].initial_state(np.random.default_rng(5)).poses["puck"][:2]
    cell.send(None)
    np.testing.assert_allclose(cell.facts()["pose_puck"][:2], wanted, atol=2e-3)
    graph.agree(StopEpisode, topics.STOP_EPISODE, event=EpisodeEvent(truncated=True))
    said = [event for _ in range(3) for event in cell.send(None).said]
    assert said == [TeleopEvent.DISCARD]
    graph.agree(StopEpisode, topics.STOP_EPISODE, event=ENDINGS["success"])  # as the operator's page asks for it
    graph.agree(Trigger, topics.NEXT_EPISODE)
    assert {event for _ in range(3) for event in cell.send(None).said} == {TeleopEvent.SUCCESS}
    np.testing.assert_allclose(cell.facts()["pose_puck"][:2], wanted, atol=2e-3)
    assert [event.event for event in graph.events].count(EpisodeEvent.STARTED) == 4


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_person_takes_over_gives_back_and_gives_up_on_the_graph(graph: Any, typist: Typist) -> None:
    graph.start("twin", **TWIN, realtime_factor=1.0)
    graph.start("teleop", task="push-v1", teleop="keyboard", terminal=typist.terminal, with_policy=True)
    graph.agree(Trigger, topics.RESUME_TELEOP)  # it is there: what is sent to it arrives
    cell = GraphCell(graph.node, SPACE.tasks[0], GraphCellConfig(with_person=True, twin=True), lambda: False)
    world = PracticeWorld(SPACE, CONFIG, cell)
    world.begin(0, np.random.default_rng(0))
    still = np.zeros(4, np.float32)
    assert not world.step(still).intervened
    typist.hold("q")  # the shoulder turns
    while not (tick := world.step(still)).intervened:
        pass
    for _ in range(4):
        tick = world.step(still)
    typist.hold("")
    assert tick.intervened
    turned = world.facts()["proprio"][0]
    assert abs(turned) > 0.1
    assert np.abs(tick.action[:2]).max() > 0.1  # the tool's motion that it was
    while world.step(still).intervened:
        pass
    assert not world.step(still).intervened
    typist.press("x")
    while not (lost := world.step(still).lost):
        pass
    assert lost == "the operator gave the attempt up"


def a_run(folder: Path, steps: int, **settings: Any) -> Path:
    """One that is prepared, and judged by a classifier."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
    from practice_runs import demonstrations, prepared, small_config
    from test_practice_cell import write_classifier

    config = replace(small_config(steps), film_every=0)
    run = prepared(config, demonstrations(folder), folder / "run")
    replace(config, reward="success", **settings).write(run)
    write_classifier(config, run)
    return run


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_run_goes_on_with_a_robot_that_has_died_and_is_started_again(graph: Any, tmp_path: Path) -> None:
    run = a_run(tmp_path, 24, graph="robot", lag=100)
    replay = run / "replay.zarr"
    twin = graph.start("twin", **TWIN, realtime_factor=1.0, max_held_steps=0)
    practice = graph.start("practice", run=run)
    graph.spin_until(lambda: (replay / "zarr.json").exists() and ZarrStore.open(replay).episodes)
    twin.kill()
    twin.wait()
    del graph.children["twin"]
    graph.spin_until((run / "waits.txt").exists)
    assert (run / "waits.txt").read_text().startswith("for the robot, 300 s at most: /joint_states was silent for 6 s")
    before = [info.id for info in ZarrStore.open(replay).episodes]
    graph.start("twin", "again", **TWIN, realtime_factor=1.0, max_held_steps=0)
    assert practice.wait(60) == 0
    infos = ZarrStore.open(replay).episodes
    assert [info.id for info in infos][: len(before)] == before
    assert sum(info.length - 1 for info in infos) == 24
    assert "fault" not in {info.tags["end"] for info in infos}
    assert not (run / "waits.txt").exists()


def ask(page: str, what: str) -> str:
    """What the operator's page answers to a press of a button."""
    headers = {"Content-Type": "application/json", "Origin": page}
    request = Request(f"{page}/api/live/ask/{what}", b"{}", headers, method="POST")
    try:
        with urlopen(request, timeout=20) as answer:
            return str(json.load(answer)["answer"])
    except HTTPError as refused:
        return str(json.load(refused)["error"])


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_stop_on_the_page_interrupts_an_attempt_and_resume_lets_the_run_go_on(graph: Any, tmp_path: Path) -> None:
    run = a_run(tmp_path, 100_000, graph="robot", lag=100_000)
    replay, waits = run / "replay.zarr", run / "waits.txt"
    graph.launch("practice", task="push-v1", twin="true", run=run, image_size=16, web="true", web_port=0)

    def attempts() -> int:
        return len(ZarrStore.open(replay).episodes) if (replay / "zarr.json").exists() else 0

    graph.spin_until(attempts, 100.0)
    page = next(word for word in graph.log("launch").split() if word.startswith("http://")).rstrip("/")
    assert ask(page, "start") == "/supervisor/next_episode: practice goes on; nobody is waited for"
    with connect(f"{page.replace('http', 'ws')}/api/live/state", origin=page) as socket:  # type: ignore[arg-type]
        state: dict[str, Any] = {}

        def practice() -> str:
            state.update(json.loads(socket.recv(30)).get("changes", {}))
            return next((node["message"] for node in state["nodes"] if node["name"] == "practice"), "")

        socket.send(json.dumps({"stop": True}))
        while not practice().startswith("for the robot, 300 s at most: the robot holds: emergency stop"):
            pass
        assert state["safety"]["state"] == "stopped"
        graph.spin_until(waits.exists)
        before = attempts()
        assert ask(page, "start") == "the robot is stopped; resume it first"
        assert ask(page, "resume") == ""
        while practice() != "OK":
            pass
    graph.spin_until(lambda: attempts() > before + 1)
    assert not waits.exists()
    assert not (run / "stopped.txt").exists()
    ends = [info.tags["end"] for info in ZarrStore.open(replay).episodes]
    assert set(ends) <= {"success", "timeout", "lost"}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_on_the_graph_survives_its_node_and_keeps_what_a_person_does(
    graph: Any, typist: Typist, tmp_path: Path
) -> None:
    folder = tmp_path / "night #1"  # ` #` begins a comment in YAML, as which parameters are read
    folder.mkdir()
    run = a_run(folder, 60, graph="twin", teleop="node", namespace="/left")
    started = graph.launch(
        "namespaced", file="practice", namespace="left", task="push-v1", twin="true", teleop="keyboard",
        terminal=typist.terminal, run=run, image_size=16,
    )  # fmt: skip
    replay = run / "replay.zarr"
    while not (replay / "zarr.json").exists() or not ZarrStore.open(replay).episodes:
        assert started.poll() is None, graph.log("launch")[-3000:]
        typist.hold("q" if time.monotonic() % 4 < 1 else "")  # a hand that stays keeps the arm from home, too
        time.sleep(0.1)
    typist.hold("")  # from now on nobody is there
    node = subprocess.run(["pgrep", "-f", f"robolearn_nodes.practice_node.*{run}"], capture_output=True, text=True)
    os.kill(int(node.stdout), signal.SIGKILL)
    assert started.wait(200) == 0, graph.log("launch")[-3000:]
    store = ZarrStore.open(replay)
    assert sum(info.length - 1 for info in store.episodes) == 60
    assert {info.task for info in store.episodes} == {"push-v1", "push_back-v1"}
    assert [info.id for info in store.episodes] == [f"attempt-{i:07d}" for i in range(len(store.episodes))]
    source = np.concatenate([store.read(i)["action_source"][:-1] for i in range(len(store.episodes))])
    assert set(source.tolist()) == {ActionSource.POLICY, ActionSource.INTERVENTION}
    assert sum(info.tags["human_steps"] for info in store.episodes) == (source == ActionSource.INTERVENTION).sum()
    assert "60 steps were asked for" in (run / "stopped.txt").read_text()
    assert list((run / "weights").glob("*.safetensors"))
