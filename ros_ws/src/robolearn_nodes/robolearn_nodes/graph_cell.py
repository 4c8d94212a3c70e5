"""The robot or twin of the graph as a cell to practise in: joint states, pictures and poses in, commands out.

A command answers the newest tick (`graph_ticks.py`) and carries its stamp; it is over when the next one has come. While
pictures lack nobody commands, and so the robot holds. The safety filter stands with the robot: what it refuses is read
from what was sent. A robot that falls silent, that a person stops, or whose node begins anew, is away: nothing moves it
until whoever practises has noticed, and holds; then it is looked for. Legend: J joints, H W image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from robolearn.envs.device_cell import day_s
from robolearn.envs.practice_cell import Condition, Sent
from robolearn.envs.seen_scene import SeenScene
from robolearn.errors import LaunchError, SpecError
from robolearn.tasks.task import Facts, Task, TaskStatus
from robolearn.teleop.teleoperator import TeleopEvent
from robolearn.types import ActionSource
from robolearn_nodes import convert, topics
from robolearn_nodes.emergency_stop import STOPPED
from robolearn_nodes.graph_ticks import GraphTicks
from robolearn_nodes.heard_camera import HeardCamera, OnPicture
from robolearn_nodes.node import crowded, unheard

SILENT_S = 6.0  # of wall time without a joint state: the robot is away (a twin in lockstep waits 5 s for a command)
REFUSED_TICKS = 60  # on end, after which what refuses is a fault
LOOK_S = 0.5  # between two looks for a robot that is away
STAY_TICKS = 4  # for which it is asked to stay where it is, before it counts as back


@dataclass(frozen=True)
class GraphCellConfig:
    """How the cell takes part in the graph."""

    twin: bool = False  # all of a tick is stamped alike, and another episode puts things back; else somebody does
    with_person: bool = False  # the node `teleop` stands between: commands go through it
    unseen: bool = False  # nobody tells where things are
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # (H, W) of pictures that are wanted, by camera
    appear_s: float = 30.0  # for robot, cameras and poses to be there, or for pictures to come again
    away_s: float = 300.0  # that a robot may be away: a person starts its driver again, but is still there


class GraphCell:
    """`bell`: whether somebody has said, elsewhere, that things are put back. `report`: told what is waited for, and
    with an empty text that all is well. `asked`: whether a person has anything to say now. Waits for robot and cameras;
    raises LaunchError when they do not appear or do not fit, before anything moves, and what SeenScene raises."""

    def __init__(
        self,
        node: Node,
        task: Task,
        config: GraphCellConfig,
        bell: Callable[[], bool],
        report: Callable[[str], None] = lambda problem: None,
        asked: Callable[[], bool] = lambda: True,
    ) -> None:
        self._node, self._config, self._bell, self._report, self._person_asked = node, config, bell, report, asked
        self._scene = SeenScene(task, task.robot_spec, config.unseen)
        self.marks, self.day_s = self._scene.marks, day_s
        self._joints = task.robot_spec.joint_names
        self._commanded: tuple[NDArray, ActionSource] | None = None  # in this tick, by whoever is in charge
        self._target: NDArray | None = None  # the last one
        self._held, self._refused, self._fault = "", 0, ""
        self._away, self._away_since_s = "", 0.0  # why the robot is not there, and since when; 0: it is
        self._spec: String | None = None  # of the robot that began
        self._said: list[TeleopEvent] = []
        self._filmed: dict[str, NDArray[np.uint8]] = {}  # newest pictures that nothing depends on, by camera
        self._episode = self._asked = ""  # that runs, and that was asked for last
        self._began_ns: int | None = None  # stamp of its first tick
        topic = topics.POLICY_COMMAND if config.with_person else topics.COMMAND
        self._command = node.create_publisher(JointTrajectory, topic, topics.STREAM)
        period_ns = round(1e9 / task.control_hz)
        self._ticks = GraphTicks(node, self._joints, period_ns, config.sizes, config.twin)
        if not config.unseen:
            node.create_subscription(TFMessage, topics.GROUND_TRUTH, self._on_poses, topics.NEWEST)
        node.create_subscription(JointTrajectory, topics.COMMAND, self._on_command, topics.NEWEST)
        node.create_subscription(JointTrajectory, topics.COMMAND_SENT, self._on_sent, topics.NEWEST)
        node.create_subscription(EpisodeEvent, topics.EPISODE, self._on_event, topics.LATCHED)
        node.create_subscription(String, topics.ROBOT_SPEC, self._on_spec, topics.STATE)
        node.create_service(Trigger, topics.NEXT_EPISODE, self._on_next)
        self._start = node.create_client(StartEpisode, topics.START_EPISODE)
        self._task = task
        self._appear()
        self._scene.begin(task)

    @property
    def stamp_ns(self) -> int:
        return 0 if self._scene.state is None else self._scene.state.stamp_ns

    def facts(self) -> Facts:
        return self._scene.facts()

    def begin(self, task: Task) -> None:
        self._scene.begin(task)

    def status(self) -> TaskStatus | None:
        return self._scene.status()

    def rest(self) -> NDArray[np.float32]:
        self._spin(0.0)
        assert self._scene.state is not None
        return self._scene.state.joint_position

    def send(self, joints: NDArray | None) -> Sent:
        if self._away and joints is None and not self._fault:
            self._look_for_robot()
        elif not (self._episode or self._away or self._fault):
            self._lose(self._begin_episode(0, self._config.appear_s))
        if problem := self._fault or self._waits:
            return Sent(None, held=problem)
        if joints is not None or self._target is None:
            self._target = np.asarray(self.rest() if joints is None else joints, np.float64)
        self._commanded = None
        self._ask_for(self._target)
        if self._held.startswith(STOPPED):
            self._lose(f"the robot holds: {self._held}")
        self._refused = self._refused + 1 if self._held else 0
        if self._refused >= REFUSED_TICKS:
            self._fault = self._fault or f"the robot holds: {self._held}"
        self._scene.judge()
        said, self._said = tuple(self._said), []
        action, who = self._commanded or (self._target, ActionSource.POLICY)
        if who is ActionSource.INTERVENTION:
            self._target = action
        return Sent(None if joints is None and who is ActionSource.POLICY else action, who, self._held, said)

    def place(self, body: str, pose: NDArray) -> None:
        self._scene.place(body, pose)

    def put_back(self, seed: int) -> bool:
        said = self.send(None).said if self._away or not self._config.twin else ()
        if self._away or not (self._config.twin or TeleopEvent.SUCCESS in said or self._bell()):
            return False
        self._lose(self._begin_episode(seed, self._config.appear_s))
        return not (self._away or self._fault)

    def condition(self) -> Condition:
        return Condition(self._fault, self._waits, self._scene.unseen(self.stamp_ns))

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Of that camera at the newest tick; where pictures are wanted of others alone, of the first of them."""
        if self._config.sizes:
            return self._ticks.pictures[camera if camera in self._config.sizes else next(iter(self._config.sizes))]
        if camera not in self._filmed:
            self._filmed[camera] = np.zeros((2, 2, 3), np.uint8)  # until the first one has come
            film: OnPicture = lambda message: self._filmed.update({camera: convert.picture(message)})  # noqa: E731
            HeardCamera(self._node, topics.image_topic(camera), film, topics.VIEW)
        return self._filmed[camera]

    def freeze(self) -> dict[str, Any]:
        return self._scene.freeze()

    def thaw(self, frozen: Mapping[str, Any]) -> None:
        self._scene.thaw(frozen)

    def close(self) -> None:
        """Nobody commands any more: the robot holds."""

    # --- the graph ---

    def _appear(self) -> None:
        """Until the robot and its cameras are there, an episode runs and every thing was seen."""
        if not self._start.wait_for_service(self._config.appear_s):
            raise LaunchError(
                f"{self._start.srv_name} did not appear within {self._config.appear_s:g} s; is a robot or twin "
                "running, on this ROS_DOMAIN_ID and in this namespace?"
            )
        wanted = [self._ticks.states, *self._ticks.images]
        mixed, heard = lambda: crowded(self._node, wanted), self._command.get_subscription_count
        self._wait(
            lambda: not self._told(unheard(self._node, wanted) or mixed()) and heard() > 0, self._config.appear_s
        )
        if silent := unheard(self._node, wanted):
            among = f" Pictures are wanted of {', '.join(self._config.sizes)}" if self._config.sizes else ""
            raise LaunchError(silent + among)
        if several := mixed():
            raise LaunchError(several)
        if not heard():
            hears = "teleop (`launch practice teleop:=DEVICE`)" if self._config.with_person else "of the robot"
            raise LaunchError(f"nobody hears {self._command.topic_name}; is the node {hears} running?")
        if problem := self._begin_episode(0, self._config.appear_s) or self._fault:
            raise LaunchError(problem)
        self._wait(lambda: not self._scene.missing, self._config.appear_s)
        if lacks := self._scene.missing:
            raise LaunchError(
                f"{', '.join(lacks)} was not heard of within {self._config.appear_s:g} s; "
                f"{unheard(self._node, [topics.GROUND_TRUTH]) or 'see what is published there'}"
            )

    def _begin_episode(self, seed: int, patience_s: float) -> str:
        """Ask for one until the robot agrees, for nodes that have just started may not have found each other yet; why
        it did not agree."""
        end_s, message = time.monotonic() + patience_s, "no answer"
        self._episode, self._began_ns = "", None  # the end of the one before is no news
        while time.monotonic() < end_s:
            self._asked = episode = f"practice-{time.time_ns()}"
            self._ticks.reset()
            future = self._start.call_async(StartEpisode.Request(episode_id=episode, task=self._task.id, seed=seed))
            self._wait(future.done, SILENT_S)
            if future.done() and future.result().success:
                self._episode, self._target = episode, None
                self._until(lambda: self._began_ns is not None and self.stamp_ns >= self._began_ns)
                return self._away
            message = future.result().message if future.done() else message
            time.sleep(0.1)
        return f"{self._start.srv_name}: {message}"

    def _ask_for(self, target: NDArray) -> None:
        """These joint targets (J,) answer the newest tick; until the next whole one."""
        whole, source = self._ticks.whole, convert.source_name(ActionSource.POLICY)
        self._command.publish(convert.command_message(target, self.stamp_ns, self._joints, source))
        self._until(lambda: self._ticks.whole > whole)

    # --- a robot that is away ---

    @property
    def _waits(self) -> str:
        return self._away and f"for the robot, {self._config.away_s:g} s at most: {self._away}"

    def _lose(self, problem: str) -> None:
        """The robot is away, if there is a problem."""
        if problem:
            self._away_since_s = self._away_since_s or time.monotonic()
            self._away = problem
            self._report(self._waits)

    def _look_for_robot(self) -> None:
        """It is back once it begins an episode, and lets a command to stay where it is through."""
        self._wait(lambda: False, LOOK_S)
        self._fault = self._fault or self._ticks.fault
        self._away, states = "", [self._ticks.states]
        missing = unheard(self._node, states) or crowded(self._node, states)
        if not (missing or self._episode):
            missing = self._begin_episode(0, LOOK_S)
        self._lose(missing or self._refusal())
        if not self._away:
            self._report("")
            self._away_since_s, self._refused = 0.0, 0
            self._said.clear()
        elif time.monotonic() - self._away_since_s > self._config.away_s:
            self._fault = self._fault or f"it waited {self._waits}"

    def _refusal(self) -> str:
        """Why the robot does not let a command to stay where it is through."""
        self._target, self._held = self.rest().astype(np.float64), "it has answered no command yet"
        for _ in range(STAY_TICKS):
            self._ask_for(self._target)
        return self._away or (self._held and f"the robot holds: {self._held}")

    # --- what comes in ---

    def _until(self, done: Callable[[], bool]) -> None:
        """Or a fault, or the robot is away. What is lacking meanwhile is told."""
        ticks, heard, since_s = self._ticks, self._ticks.heard, time.monotonic()
        while not (done() or self._fault or self._away):
            self._spin(0.02)
            waited_s, lacks = time.monotonic() - since_s, ticks.lacking
            if not self._away_since_s:
                self._report(lacks)
            if ticks.fault:
                self._fault = ticks.fault
            elif ticks.heard == heard and waited_s > SILENT_S:
                self._episode = ""
                self._lose(f"{ticks.states} was silent for {SILENT_S:g} s")
            elif waited_s > self._config.appear_s:
                lacks = lacks or f"{ticks.states} brings nothing of the episode"
                self._fault = f"{lacks}; so it was for {self._config.appear_s:g} s"

    def _told(self, problem: str) -> str:
        self._report(problem)
        return problem

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> None:
        end_s = time.monotonic() + timeout_s
        while not done() and time.monotonic() < end_s:
            self._spin(0.02)

    def _spin(self, timeout_s: float) -> None:
        rclpy.spin_once(self._node, timeout_sec=timeout_s)
        if not rclpy.ok():
            raise ExternalShutdownException
        self._scene.state = self._ticks.state

    def _on_poses(self, message: TFMessage) -> None:
        try:
            stamp_ns, poses = convert.ground_truth(message)
        except SpecError as error:
            self._node.get_logger().warning(str(error))
            return
        for body, pose in poses.items():
            self._scene.see(body, stamp_ns, pose)

    def _on_command(self, message: JointTrajectory) -> None:
        source = convert.action_source(message.header.frame_id)
        if source is ActionSource.INTERVENTION:
            try:
                self._commanded = convert.command(message, self._joints), source
            except SpecError as error:
                self._node.get_logger().warning(str(error))

    def _on_sent(self, message: JointTrajectory) -> None:
        self._held = message.header.frame_id

    def _on_spec(self, spec: String) -> None:
        """A robot begins; the first one is that which the run is about."""
        before = self._spec = self._spec or spec
        if before is spec:
            return
        if differs := convert.spec_difference(before, spec):
            self._fault = self._fault or f"the robot that began anew is another one: {differs}"
        self._episode = ""
        self._lose("its node began anew")

    def _on_event(self, event: EpisodeEvent) -> None:
        if event.event == EpisodeEvent.STARTED and event.episode_id == self._asked:
            self._began_ns = convert.stamp_ns(event.header.stamp)
        if event.event == EpisodeEvent.ENDED and event.episode_id == self._episode:
            self._episode = ""
            self._said.append(TeleopEvent.SUCCESS if event.success else TeleopEvent.DISCARD)

    def _on_next(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.message = self._waits or ("" if self._person_asked() else "practice goes on; nobody is waited for")
        response.success = not response.message
        if response.success:
            self._said.append(TeleopEvent.SUCCESS)
        return response
