"""The twin as robot and cameras: publishes what a cell would, and applies what the safety filter lets through.

Lockstep (`realtime_factor` 0): a step waits for the command that is stamped with the current tick, at most
`command_timeout_s` of wall time. Real time: a timer steps with the newest command, whose age the filter judges, and
between two episodes the robot stands still and is seen.
"""

from __future__ import annotations

import time

from numpy.typing import NDArray
from rclpy.node import Node
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode, StopEpisode
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from robolearn.errors import SpecError
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.twin.twin import Twin
from robolearn.types import EpisodeOutcome
from robolearn_nodes import convert, topics
from robolearn_nodes.commands import NewestCommand
from robolearn_nodes.emergency_stop import EmergencyStop, refusal
from robolearn_nodes.episode import RunningEpisode, asked_outcome, new_episode_id
from robolearn_nodes.node import Alone, Diagnostics, Meter, parameter, rival, unheard, warn_of_crowd


class Simulation:
    """The part of the twin's node that stands in for robot and cameras."""

    def __init__(self, node: Node, twin: Twin) -> None:
        factor = parameter(node, "realtime_factor", 0.0, "simulated seconds a second; 0 is lockstep")
        self._timeout_s = parameter(node, "command_timeout_s", 5.0, "lockstep: wall time to wait for a command")
        max_age_s = parameter(node, "max_command_age_s", 0.08, "a command that answers an older observation is refused")
        self._max_held_steps = parameter(
            node, "max_held_steps", 10, "refusals in a row that truncate the episode; 0: any number"
        )
        max_steps = parameter(node, "max_steps", 0, "steps that truncate an episode; 0: as many as the task has")
        self._reset_free = parameter(
            node, "reset_free", False, "an episode begins where things are, and goes on until another one is asked for"
        )
        self._max_steps = max_steps or twin.task.max_steps
        if factor < 0 or self._timeout_s <= 0 or max_steps < 0:
            raise SpecError(
                f"twin: realtime_factor is {factor:g}, command_timeout_s {self._timeout_s:g}, max_steps {max_steps}; "
                "expected at least 0, more than 0, and at least 0"
            )
        self._node, self._twin = node, twin
        self._joints = self._twin.robot_spec.joint_names
        period_s = self._twin.period_ns / convert.NS
        limits = SafetyConfig(max_command_age_s=max_age_s)
        self._safety = SafetyFilter(self._twin.robot_spec, limits, period_s)
        self._lockstep = factor == 0
        self._running: RunningEpisode | None = None
        self._newest = NewestCommand(self._joints)  # real time
        self._ticks = Meter()  # of wall time

        self._clock_ticks = self._node.create_publisher(Clock, topics.CLOCK, topics.STREAM)
        self._joint_states = self._node.create_publisher(JointState, topics.JOINT_STATES, topics.STREAM)
        self._sent = self._node.create_publisher(JointTrajectory, topics.COMMAND_SENT, topics.STREAM)
        self._ground_truth = self._node.create_publisher(TFMessage, topics.GROUND_TRUTH, topics.STREAM)
        self._images = {
            camera: self._node.create_publisher(Image, topics.image_topic(camera), topics.STREAM)
            for camera in self._twin.camera_specs
        }
        self._infos = {
            camera: self._node.create_publisher(CameraInfo, topics.camera_info_topic(camera), topics.STREAM)
            for camera in self._twin.camera_specs
        }
        self._spec = self._node.create_publisher(String, topics.ROBOT_SPEC, topics.STATE)
        self._spec.publish(convert.spec_message(twin.robot_spec, twin.task.control_hz, limits))
        self._events = self._node.create_publisher(EpisodeEvent, topics.EPISODE, topics.LATCHED)
        self._diagnostics = Diagnostics(self._node, self._figures)
        self._node.create_subscription(JointTrajectory, topics.COMMAND, self._on_command, topics.NEWEST)
        self._node.create_service(StartEpisode, topics.START_EPISODE, self._on_start)
        self._node.create_service(StopEpisode, topics.STOP_EPISODE, self._on_stop)
        self._stopping = EmergencyStop(node, self._safety, twin.robot_state, self._diagnostics)
        self._timer = self._node.create_timer(
            self._timeout_s if self._lockstep else period_s / factor,
            self._on_timeout if self._lockstep else self._on_tick,
        )
        if self._lockstep:
            self._timer.cancel()
        start = self._node.resolve_service_name(topics.START_EPISODE)
        self._node.get_logger().info(f"{twin.task.id} is ready; it starts when {start} is called")
        Alone(self._node)

    def _on_start(self, request: StartEpisode.Request, response: StartEpisode.Response) -> StartEpisode.Response:
        task = self._twin.task
        if request.task not in ("", task.id) or request.seed < 0:
            response.success = False
            response.message = (
                f"asked for {request.task} with seed {request.seed}; this twin runs {task.id}, seeds from 0"
            )
            return response
        resume = self._node.resolve_service_name(topics.RESUME_ROBOT)
        response.message = rival(self._node) or unheard(self._node, [topics.COMMAND])
        response.message = response.message or refusal(self._safety, resume)
        if response.message:
            response.success = False
            return response
        warn_of_crowd(self._node)
        goes_on = self._reset_free and self._running is None and not self._twin.status().diverged
        self._end(EpisodeOutcome(False, False, True, "another episode was started"))
        if not goes_on:
            self._twin.reset(request.seed)
        self._safety.reset(self._twin.robot_state())
        self._newest.clear()
        started = EpisodeEvent(
            header=convert.header(self._twin.stamp_ns),
            event=EpisodeEvent.STARTED,
            episode_id=request.episode_id or new_episode_id(task.id, request.seed),
            task=task.id,
            instruction=request.instruction or task.instruction,
            seed=request.seed,
        )
        self._running = RunningEpisode(started, request.max_duration_s)
        self._events.publish(started)
        self._observe()
        self._timer.reset()
        response.success, response.episode_id = True, started.episode_id
        return response

    def _on_stop(self, request: StopEpisode.Request, response: StopEpisode.Response) -> StopEpisode.Response:
        response.success = self._running is not None
        response.message = "" if response.success else "no episode is running"
        self._end(asked_outcome(request.event), request.discard)
        return response

    def _on_command(self, message: JointTrajectory) -> None:
        running = self._running
        if running is None:
            return
        stamp_ns = convert.stamp_ns(message.header.stamp)
        running.answered(stamp_ns, time.perf_counter_ns())
        if not self._lockstep:
            self._newest.put(message, self._twin.stamp_ns)
        elif stamp_ns == self._twin.stamp_ns:
            try:
                self._step(running, stamp_ns, convert.command(message, self._joints), "")
            except SpecError as error:
                self._step(running, stamp_ns, None, str(error))

    def _on_tick(self) -> None:
        if self._running is not None:
            self._step(self._running, *self._newest.get())
        else:
            self._twin.advance()
            self._observe()
        self._ticks.note(time.monotonic_ns(), self._twin.stamp_ns)

    def _on_timeout(self) -> None:
        if self._running is not None:
            self._step(self._running, 0, None, f"no command within {self._timeout_s:g} s", give_up=True)

    def _step(
        self, running: RunningEpisode, stamp_ns: int, action: NDArray | None, refusal: str, give_up: bool = False
    ) -> None:
        """Filter, apply for one period, publish, and end the episode if it is over."""
        now_ns = self._twin.stamp_ns
        decision = self._safety.filter(action, stamp_ns, now_ns)
        held = (refusal or decision.reason) if decision.held else ""
        self._twin.step(decision.command)
        running.stepped(held)
        self._sent.publish(convert.command_message(decision.command, now_ns, self._joints, held))
        self._diagnostics.report(f"the robot holds: {held}" if held else "")
        self._observe()
        if self._lockstep:
            self._timer.reset()
        if too_long := running.too_long():
            self._end(too_long)
            return
        status = self._twin.status()
        if self._reset_free and not status.diverged:
            return
        terminated = status.success or bool(status.failed and not status.diverged)
        give_up = give_up or status.diverged or 0 < self._max_held_steps <= running.held_in_a_row
        if terminated or give_up or running.num_steps >= self._max_steps:
            self._end(EpisodeOutcome(status.success, terminated, not terminated, status.failed))

    def _observe(self) -> None:
        """Publish all that is seen at this instant."""
        stamp_ns = self._twin.stamp_ns
        images = {camera: self._twin.render(camera) for camera in self._images}
        if self._running is not None:
            self._running.observed(stamp_ns, time.perf_counter_ns())
        self._clock_ticks.publish(convert.clock_message(stamp_ns))
        self._joint_states.publish(convert.joint_state_message(self._twin.robot_state(), self._joints))
        self._ground_truth.publish(convert.ground_truth_message(self._twin.body_poses(), stamp_ns))
        for camera, image in images.items():
            self._images[camera].publish(convert.image_message(image, stamp_ns, camera))
            if self._infos[camera].get_subscription_count():
                info = convert.camera_info(self._twin.camera_specs[camera], self._twin.camera_matrix(camera))
                info.header.stamp = convert.time_message(stamp_ns)
                self._infos[camera].publish(info)

    def _end(self, outcome: EpisodeOutcome, discarded: bool = False) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        if self._lockstep:
            self._timer.cancel()
        self._diagnostics.report("")
        self._events.publish(running.ended(self._twin.stamp_ns, outcome, discarded))

    def _figures(self) -> dict[str, object]:
        running, kept = self._running, {} if self._lockstep else self._ticks.figures("ticks")
        if running is None:
            return {"stopped": self._safety.stopped, "episode": "", **kept}
        return {
            "stopped": self._safety.stopped,
            **kept,
            "episode": running.started.episode_id,
            "steps": running.num_steps,
            "held_steps": running.held_steps,
        }
