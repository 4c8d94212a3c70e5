"""One robot that the policy server drives: its observations in, its commands out, both by stamp."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from robolearn_msgs.msg import ActionChunk, EpisodeEvent
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from robolearn.errors import CheckpointError, SpecError
from robolearn.serving.chunks import ChunkTimeline
from robolearn.serving.context import Context
from robolearn.serving.inference import Answer
from robolearn.specs import INSTRUCTION, InterfaceSpec, RobotSpec
from robolearn.sync import ExactJoin, Tick
from robolearn.types import ActionSource, Observation
from robolearn_nodes import convert, topics
from robolearn_nodes.commands import LiveJoin
from robolearn_nodes.heard_camera import HeardCamera, OnPicture
from robolearn_nodes.node import crowded, heard_topic

REMEMBERED = 1000  # latencies
SILENCE_S = 0.5  # without an observation, after which the robot is elsewhere than a chunk of before has it


class DrivenRobot:
    """Subscribes to the fields that the policies' spec names and to nothing else, below the robot's `namespace`.

    `ask(namespace, observation, stamp_ns)` is called when a tick wants a chunk, `report(namespace, problem, passing)`
    when there is no command, `passing` of what is usual at a start, and with an empty problem when there is one again.
    What was seen and planned is forgotten after a silence, in which the robot held, or a twin put things back, and when
    the clock goes back, as that of a twin that began anew, but not that of a second one beside it.
    From the end of an episode until `reset` or the start of the next nothing is asked or commanded: no robot would
    follow, and a policy may take all of a small computer. So it is before the first, once the policy has answered, of a
    robot that tells of its episodes.
    Raises CheckpointError, which ends the node, when the robot publishes other joints, units or image sizes than the
    policy was made for.
    """

    def __init__(
        self,
        node: Node,
        namespace: str,
        spec: InterfaceSpec,
        timeline: ChunkTimeline,
        ask: Callable[[str, Observation, int], None],
        report: Callable[..., None],
        image_qos: QoSProfile = topics.NEWEST,
        max_image_age_ns: int | None = None,
        instruction: str = "",
    ) -> None:
        """max_image_age_ns: of a picture beside joint states of another stamp; None where a tick has but one stamp."""
        self.namespace, self.acting = namespace, False
        self._rests: bool | None = None  # while no episode runs; None before anything was told
        self._node, self._spec, self._timeline, self._ask, self._report = node, spec, timeline, ask, report
        self.context = Context(spec, instruction)
        self._joints = spec.action.names
        self._unit = "rad"  # of the robot's joints that turn, unless it says otherwise
        measured = RobotSpec("", self._joints, (), (), ()).proprio_spec.names
        wanted = spec.observation["proprio"].names if "proprio" in spec.observation else ()
        if unknown := [name for name in wanted if name not in measured]:
            raise CheckpointError(
                f"the policy looks at {', '.join(unknown)} of proprio; a robot on the graph tells position and "
                "velocity of the joints that it is commanded by; let the robot's own program ask `robolearn serve`"
            )
        self._seen = [measured.index(name) for name in wanted or measured]  # of what the robot tells
        self._few_ns = round(3e9 / spec.control_hz)  # a few ticks
        self._silence_ns = max(round(1e9 * SILENCE_S), self._few_ns)
        self.commands = self.chunks = self.missed_ticks = 0
        self._latency_ms: deque[float] = deque(maxlen=REMEMBERED)
        self.newest_ns = self._state_ns = 0  # stamps of the newest complete observation, and of its joint states
        self._heard_ns = 0  # wall time of these
        self._came_ns: int | None = None  # wall time of it, while it has no command
        self.command_topic = self._name(topics.COMMAND)
        self._command = node.create_publisher(JointTrajectory, self.command_topic, topics.STREAM)
        self._action_chunk = node.create_publisher(ActionChunk, self._name(topics.ACTION_CHUNK), topics.STREAM)
        self._subscriptions: list[Any] = []
        self._cameras: list[HeardCamera] = []
        self.streams: list[str] = []
        self._subscriptions += [
            node.create_subscription(EpisodeEvent, self._name(topics.EPISODE), self._on_event, topics.LATCHED),
            node.create_subscription(String, self._name(topics.ROBOT_SPEC), self._on_robot_spec, topics.STATE),
        ]
        self._hear(JointState, topics.JOINT_STATES, self._on_joint_states)
        for field in spec.observation:
            if field.startswith("image_"):
                topic = self._name(topics.image_topic(field.removeprefix("image_")))
                self.streams.append(topic)
                self._cameras.append(HeardCamera(node, topic, self._on_image(field), image_qos))
        if any(name.startswith("pose_") for name in spec.observation):
            self._hear(TFMessage, topics.GROUND_TRUTH, self._on_ground_truth)
        self._join: ExactJoin | LiveJoin = ExactJoin(self.streams, depth=4)
        if max_image_age_ns is not None:
            period_ns = round(1e9 / spec.control_hz)
            self._join = LiveJoin(self.streams, self._name(topics.JOINT_STATES), period_ns, max_image_age_ns)

    def _name(self, topic: str) -> str:
        return f"{self.namespace}/{topic}" if self.namespace else topic

    def _hear(self, kind: Any, topic: str, callback: Callable[[Any], None]) -> None:
        name = self._name(topic)
        self.streams.append(name)
        self._subscriptions.append(self._node.create_subscription(kind, name, callback, topics.NEWEST))

    def heard(self) -> bool:
        """Whether somebody listens to the commands."""
        return self._command.get_subscription_count() > 0

    def reset(self) -> None:
        """Forget the episode."""
        self._timeline.reset()
        self._join.reset()
        self.context.clear()
        self._came_ns = None
        self._rests = False
        self.commands = self.missed_ticks = 0
        self._latency_ms.clear()

    def _on_event(self, event: EpisodeEvent) -> None:
        if event.event == EpisodeEvent.ENDED:
            self._rest()
        else:
            self._rests = False

    def _rest(self) -> None:
        self._rests = True
        self._timeline.reset()
        self.context.clear()
        self._came_ns = None
        self._report(self.namespace, "")

    def _resting(self) -> bool:
        if self._rests is None and self.chunks:  # whatever a first answer loads is there when an episode begins
            episodes = self._node.resolve_topic_name(self._name(topics.EPISODE))
            if self._node.count_publishers(episodes):  # who runs one has told so to whoever came later
                self._rest()
        return bool(self._rests)

    # -- observations --------------------------------------------------------------------------------------------

    def _on_robot_spec(self, message: String) -> None:
        try:
            self._unit = convert.spec_unit(message)
        except SpecError as error:
            self._report(self.namespace, str(error))
            return
        if not self._in_unit():
            raise CheckpointError(
                f"the policy acts in {self._spec.action.unit or 'an unknown unit'}, the robot wants "
                f"{self._unit or 'an unknown unit'}; train on data in that unit, or use a driver that takes the data's"
            )

    def _in_unit(self) -> bool:
        """Whether the policy is of the robot's unit. Who has sliders beside may say so: `rad, gripper m`."""
        return self._unit.split(",")[0] == self._spec.action.unit.split(",")[0]

    def _on_joint_states(self, message: JointState) -> None:
        if set(message.name) != set(self._joints):
            raise CheckpointError(
                f"the policy was made for the joints {', '.join(self._joints)}; the robot publishes "
                f"{', '.join(message.name)}; use a policy of this robot"
            )
        if not self._in_unit():
            topic = self._node.resolve_topic_name(self._name(topics.ROBOT_SPEC))
            self._report(
                self.namespace, f"no command: {topic} has not said that the robot is in the policy's unit", True
            )
            return
        try:
            state = convert.robot_state(message, self._joints)
        except SpecError as error:
            self._report(self.namespace, f"no command: {error}")
            return
        now_ns = time.perf_counter_ns()
        if state.stamp_ns < self._state_ns - self._few_ns:  # of another clock, as of a twin that began anew
            states = [self._name(topics.JOINT_STATES)]  # one that was killed is in the graph for a while, but silent
            if now_ns - self._heard_ns < self._few_ns and crowded(self._node, states):
                return  # of a second one, which has to give way
            self._timeline.reset()
            self._join.reset()
            self.context.clear()
            self.newest_ns, self._came_ns = 0, None
        self._state_ns, self._heard_ns = state.stamp_ns, now_ns
        self._on_sample(topics.JOINT_STATES, state.stamp_ns, {"proprio": state.proprio()[self._seen]})

    def _on_image(self, field: str) -> OnPicture:
        topic = topics.image_topic(field.removeprefix("image_"))

        def on_image(message: Image | CompressedImage) -> None:
            try:
                image = convert.picture(message)
            except SpecError as error:
                self._report(self.namespace, f"no command: {error}")
                return
            self._on_sample(topic, convert.stamp_ns(message.header.stamp), {field: image})

        return on_image

    def _on_ground_truth(self, message: TFMessage) -> None:
        if not message.transforms:
            return
        stamp_ns, poses = convert.ground_truth(message)
        self._on_sample(topics.GROUND_TRUTH, stamp_ns, {f"pose_{body}": pose for body, pose in poses.items()})

    def _on_sample(self, topic: str, stamp_ns: int, fields: Observation) -> None:
        ticks = self._join.push(self._name(topic), stamp_ns, fields)
        if not ticks or not self.acting or self._resting():
            return
        for tick in ticks:
            if not tick.missing:
                self._on_tick(tick)
            else:
                silent = ", ".join(heard_topic(self._node, topic) for topic in tick.missing)
                self._report(self.namespace, f"no command: nothing fresh came on {silent}", True)

    def _observation(self, tick: Tick) -> Observation:
        observation: Observation = {}
        for fields in tick.samples.values():
            observation |= fields
        for name, spec in self._spec.observation.items():
            if name == INSTRUCTION:
                continue
            if name not in observation:
                raise CheckpointError(f"the policy needs {name}; the robot publishes {', '.join(observation)}")
            try:
                observation[name] = spec.check(f"the robot's {name}", observation[name])
            except SpecError as error:
                raise CheckpointError(
                    f"{error}; use the robot and the image size that the policy was made for"
                ) from None
        return observation

    def _on_tick(self, tick: Tick) -> None:
        observation = self._observation(tick)
        if tick.stamp_ns - self.newest_ns > self._silence_ns:  # it held meanwhile, or was put back
            self._timeline.reset()
            self.context.clear()
        self.context.add(observation)
        if self._came_ns is not None and tick.stamp_ns > self.newest_ns:
            self.missed_ticks += 1
            self._report(self.namespace, "no command: the policy has not answered in time")
        self.newest_ns, self._came_ns = tick.stamp_ns, time.perf_counter_ns()
        if self._timeline.tick(tick.stamp_ns):
            self._ask(self.namespace, self.context.shown(), tick.stamp_ns)
        self._act()

    # -- commands ------------------------------------------------------------------------------------------------

    def on_answer(self, answer: Answer) -> None:
        """The policy answered to an observation of this robot; to one before its episode ended, nobody listens."""
        if not self._timeline.awaits(answer.stamp_ns):
            return
        if answer.chunk is None:
            self._timeline.failed(answer.stamp_ns)
            self._report(self.namespace, f"no command: {answer.problem}")
            return
        next_ns = self.newest_ns + (0 if self._came_ns is not None else answer.chunk.period_ns)
        if not self._timeline.add(answer.chunk, next_ns):
            self._report(self.namespace, "a chunk came when it was over: the policy is slower than its chunks are long")
            return
        self.chunks += 1
        self._action_chunk.publish(convert.chunk_message(answer.chunk, self._joints))
        self._act()

    def _act(self) -> None:
        """Command the newest tick, once, if there is an action for it."""
        plan = self._timeline.plan
        action = self._timeline.action(self.newest_ns)
        if self._came_ns is None or action is None or not self.acting:
            return
        source = convert.source_name(ActionSource.POLICY if plan is None else plan.source)
        self._command.publish(convert.command_message(action, self.newest_ns, self._joints, source))
        self._latency_ms.append((time.perf_counter_ns() - self._came_ns) * 1e-6)
        self._came_ns = None
        self.commands += 1
        self._report(self.namespace, "")

    def latency_ms(self) -> tuple[float, float]:
        """Median and 99th percentile of observation in to command out."""
        p50, p99 = np.percentile(self._latency_ms or [0.0], [50, 99])
        return float(p50), float(p99)

    def figures(self) -> dict[str, Any]:
        p50_ms, p99_ms = self.latency_ms()
        figures = {
            "commands": self.commands,
            "chunks": self.chunks,
            "missed_ticks": self.missed_ticks,
            "loop_p50_ms": f"{p50_ms:.2f}",
            "loop_p99_ms": f"{p99_ms:.2f}",
            "incomplete_observations": self._join.counts.missing.total(),
            "late_samples": self._join.counts.late.total(),
        }
        return {f"{self.namespace}/{key}" if self.namespace else key: value for key, value in figures.items()}

    def close(self) -> None:
        """Let go of the topics."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for camera in self._cameras:
            camera.close()
        for publisher in (self._command, self._action_chunk):
            self._node.destroy_publisher(publisher)
