"""Practice from pictures on the graph: which picture belongs to a tick, cameras that are missing, wrong, late or fall
silent, and a run of the node `practice` in which nobody knows where things are."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from robolearn_nodes import convert, topics
from robolearn_nodes.graph_cell import GraphCell, GraphCellConfig
from sensor_msgs.msg import CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.practice_world import PracticeConfig, PracticeWorld
from robolearn.envs.tool_space import ToolSpace
from robolearn.errors import LaunchError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.finetune.cells import TASK_DONE, THINGS_BACK
from robolearn.recipes.finetune.collector import REPLAY, STOPPED, WAITS
from robolearn.recipes.finetune.data import camera_sizes
from robolearn.recipes.finetune.film import FOLDER
from robolearn.recipes.finetune.recipe import begin, prepare
from robolearn.recipes.finetune.settings import FinetuneConfig

CONFIG = PracticeConfig()
SIZE = (16, 16)
SPACE = ToolSpace(
    ("push-v1", "push_back-v1"), CONFIG.tool_low, CONFIG.tool_high, cameras={"front": (8, 8)}, unseen=True
)
TASK = SPACE.tasks[0]
FRONT = "/camera/front/image_raw"
JPEGS = f"{FRONT}/compressed"


def test_pictures_are_those_of_their_tick_and_a_camera_that_is_missing_or_of_another_size_is_told(graph: Any) -> None:
    shown: dict[int, Any] = {}
    commands: list[Any] = []
    graph.node.create_subscription(
        Image, FRONT, lambda image: shown.update({convert.stamp_ns(image.header.stamp): image}), topics.STREAM
    )
    graph.node.create_subscription(JointTrajectory, topics.COMMAND, commands.append, topics.STREAM)
    graph.start("twin", task=TASK.id, cameras="front", image_size=SIZE[0], reset_free=True, realtime_factor=0.0)
    options = GraphCellConfig(twin=True, unseen=True, appear_s=20.0)
    for sizes, appear_s, why in (
        ({"front": SIZE, "side": SIZE}, 1.0, r"publishes /camera/side/image_raw .* of front, side$"),
        ({"front": (24, 32)}, 20.0, "front/image_raw has pictures of 16 x 16, the demonstrations of 32 x 24; set that"),
    ):
        with pytest.raises(LaunchError, match=why):
            GraphCell(graph.node, TASK, replace(options, sizes=sizes, appear_s=appear_s), lambda: False)
    with pytest.raises(LaunchError, match=r"nobody hears /policy/joint_command; is the node teleop"):
        GraphCell(graph.node, TASK, replace(options, with_person=True, appear_s=0.5), lambda: False)
    second = graph.node.create_publisher(Image, FRONT, topics.STREAM)
    with pytest.raises(LaunchError, match="2 nodes publish /camera/front/image_raw; stop all but one"):
        GraphCell(graph.node, TASK, replace(options, sizes={"front": SIZE}, appear_s=0.5), lambda: False)
    graph.node.destroy_publisher(second)
    assert commands == []
    cell = GraphCell(graph.node, TASK, replace(options, sizes={"front": SIZE}), lambda: False)
    world = PracticeWorld(SPACE, CONFIG, cell, ("front",))
    assert world.reset(3)
    seen = []
    for _ in range(4):
        tick = world.step(np.full(4, 0.8, np.float32))
        np.testing.assert_array_equal(tick.images[-1]["front"], convert.picture(shown[cell.stamp_ns]))
        seen.append(world.observe()["image_front"])
    assert {picture.shape for picture in seen} == {(8, 8, 3)}
    assert any((picture != seen[0]).any() for picture in seen)  # the arm moves in them
    assert cell.render("any") is cell.render("front")  # for the film
    assert set(world.facts()) == {"proprio", "pose_tool"}
    assert tick.reached is None


class Eye:
    """A camera of the test's own node: a picture for each joint state, while it is not told otherwise, as JPEG."""

    def __init__(self, node: Any) -> None:
        self.shows: Callable[[], bool] = lambda: True
        self.off_ns = 0
        self._images = node.create_publisher(CompressedImage, JPEGS, topics.SENSOR)  # lossy, as real ones may be
        node.create_subscription(JointState, topics.JOINT_STATES, self._on_state, topics.NEWEST)

    def _on_state(self, message: JointState) -> None:
        if self.shows():
            stamp_ns = convert.stamp_ns(message.header.stamp) + self.off_ns
            image = np.full((*SIZE, 3), 90, np.uint8)
            self._images.publish(convert.compressed_image_message(image, stamp_ns, "front"))


def test_the_robot_holds_while_pictures_lack_and_it_is_told_why(graph: Any) -> None:
    eye, told, sent = Eye(graph.node), list[str](), list[str]()
    graph.node.create_subscription(
        JointTrajectory, topics.COMMAND_SENT, lambda message: sent.append(message.header.frame_id), topics.STREAM
    )
    graph.start("twin", task=TASK.id, cameras="' '", reset_free=True, realtime_factor=1.0, max_held_steps=0)
    options = GraphCellConfig(unseen=True, sizes={"front": SIZE}, appear_s=20.0)
    cell = GraphCell(graph.node, TASK, options, lambda: False, told.append)
    world = PracticeWorld(SPACE, CONFIG, cell)
    for _ in range(2):
        world.hold()
    told.clear()
    sent.clear()
    back_s = time.monotonic() + 0.7
    eye.shows = lambda: time.monotonic() > back_s
    while time.monotonic() < back_s:
        assert cell.send(np.asarray(cell.rest(), np.float64)).action is not None
    assert f"{JPEGS} brings no pictures; see its camera" in told
    assert any("old" in why for why in sent)  # the robot's filter held
    assert any(not world.step(np.zeros(4, np.float32)).held for _ in range(10))
    assert told[-1] == ""
    eye.off_ns = -5 * 10**9
    with pytest.raises(LaunchError, match=r"stamped 5.\d s before the joint states; wanted are those of the last 0.2"):
        GraphCell(graph.node, TASK, replace(options, appear_s=0.5), lambda: False)
    eye.off_ns = 0
    strict = GraphCell(graph.node, TASK, replace(options, appear_s=0.8), lambda: False)
    eye.shows = lambda: False
    while not strict.condition().fault:
        strict.send(None)
    assert strict.condition().fault == f"{JPEGS} brings no pictures; see its camera; so it was for 0.8 s"
    assert strict.send(np.asarray(strict.rest(), np.float64)).action is None


def attended(graph: Any, run: Path, node: Any) -> None:
    """Somebody puts things back when asked, and calls all attempts but the first done."""
    while node.poll() is None:
        if (run / WAITS).exists():
            (run / THINGS_BACK).touch()
        elif (run / FOLDER).exists():
            (run / TASK_DONE).touch()
        graph.spin_once()


@pytest.mark.slow
def test_the_node_practises_from_pictures_a_person_judges_and_puts_back_and_the_run_goes_on(
    graph: Any, tmp_path: Path
) -> None:
    """The twin plays a robot: of that nobody knows where things are, nor whether the task is done."""
    graph.start("twin", task=TASK.id, cameras="front", image_size=SIZE[0], reset_free=True, realtime_factor=1.0)
    sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))
    from practice_runs import small_config

    demos, run = tmp_path / "push.zarr", tmp_path / "run"
    collect_episodes(CollectConfig(TASK.id, image_size=SIZE[0]), demos, 1, seed=0)
    small = replace(small_config(6), pretrained_by="nothing", image_size=8, cameras="front", lag=100, film_every=1)
    rules = replace(small.supervisor, tasks=1, max_attempt_steps=4, max_home_steps=40)
    config = replace(small, supervisor=rules, things="unseen", reward="person", graph="robot")
    begin(config, [], [demos], run)
    prepare(run)
    assert camera_sizes(config, run, ["front"]) == {"front": SIZE}
    said: dict[str, set[str]] = defaultdict(set)

    def hear(message: Any) -> None:
        for pair in (pair for status in message.status if status.name == "practice" for pair in status.values):
            said[pair.key].add(pair.value)

    graph.node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, hear, topics.STREAM)
    attended(graph, run, graph.start("practice", run=run))
    assert TASK.instruction in said["now"]
    assert (run / STOPPED).read_text() == "6 steps were asked for, and are done", graph.log("practice")
    first = ZarrStore.open(run / REPLAY)
    assert [info.success for info in first.episodes[:2]] == [False, True]
    assert [info.tags["resets"] for info in first.episodes[:2]] == [0, 1]
    assert {info.tags["truth"] for info in first.episodes} == {None}
    rows = first.read(0)
    assert rows["image_front"].shape == (5, 8, 8, 3)
    assert rows["image_front"].std() > 5
    assert rows["state"].shape[1] == SPACE.own_entries
    assert len(list((run / FOLDER).iterdir())) == len(first.episodes)
    replace(FinetuneConfig.read(run), supervisor=replace(rules, max_steps=8)).write(run)
    (run / STOPPED).unlink()
    attended(graph, run, graph.start("practice", "again", run=run))
    store = ZarrStore.open(run / REPLAY)
    assert sum(info.length - 1 for info in store.episodes) == 8, graph.log("again")
    assert [info.id for info in store.episodes][: len(first.episodes)] == [info.id for info in first.episodes]
