"""The twin on the graph: publishes what a cell would, and applies what the safety filter lets through.

Lockstep (`realtime_factor` 0): a step waits for the command that is stamped with the current tick, at most
`command_timeout_s` of wall time. Real time: a timer steps with the newest command, whose age the filter judges.
"""

from __future__ import annotations

import time

from numpy.typing import NDArray
from rclpy.node import Node
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from robolearn.errors import SpecError, TransportError
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.tasks import make_task
from robolearn.twin.twin import Twin
from robolearn.types import EpisodeOutcome
from robolearn_nodes import convert, topics
from robolearn_nodes.episode import RunningEpisode
from robolearn_nodes.node import Diagnostics, parameter, run, unheard

ALONE_CHECK_S = 1.0  # discovery on one host takes about a tenth of it


class TwinNode(Node):
    """One twin of one task. It steps only while an episode runs; before and after, it stands still."""

    def __init__(self) -> None:
        super().__init__("twin")
        task = make_task(parameter(self, "task", "pick_place-v1", "task id, see `robolearn tasks`"))
        size = parameter(self, "image_size", 96, "height and width of the images [pixels]")
        cameras = parameter(self, "cameras", "front,wrist", "cameras that are rendered, comma separated; may be empty")
        factor = parameter(self, "realtime_factor", 0.0, "simulated seconds a second; 0 is lockstep")
        self._timeout_s = parameter(self, "command_timeout_s", 5.0, "lockstep: wall time to wait for a command")
        max_age_s = parameter(self, "max_command_age_s", 0.08, "a command that answers an older observation is refused")
        self._max_held_steps = parameter(self, "max_held_steps", 10, "refusals in a row that truncate the episode")
        if factor < 0 or self._timeout_s <= 0:
            raise SpecError(
                f"twin: realtime_factor is {factor:g} and command_timeout_s {self._timeout_s:g}; "
                "expected at least 0, and more than 0"
            )
        self._twin = Twin(task, {name.strip(): (size, size) for name in cameras.split(",") if name.strip()})
        self._joints = self._twin.robot_spec.joint_names
        period_s = self._twin.period_ns / convert.NS
        self._safety = SafetyFilter(self._twin.robot_spec, SafetyConfig(max_command_age_s=max_age_s), period_s)
        self._lockstep = factor == 0
        self._running: RunningEpisode | None = None
        self._newest: tuple[int, NDArray | None, str] = (0, None, "")  # real time: stamp, command, why it is unusable

        self._clock_ticks = self.create_publisher(Clock, topics.CLOCK, topics.STREAM)
        self._joint_states = self.create_publisher(JointState, topics.JOINT_STATES, topics.STREAM)
        self._sent = self.create_publisher(JointTrajectory, topics.COMMAND_SENT, topics.STREAM)
        self._ground_truth = self.create_publisher(TFMessage, topics.GROUND_TRUTH, topics.STREAM)
        self._images = {
            camera: self.create_publisher(Image, topics.image_topic(camera), topics.STREAM)
            for camera in self._twin.camera_specs
        }
        self._events = self.create_publisher(EpisodeEvent, topics.EPISODE, topics.LATCHED)
        self._diagnostics = Diagnostics(self, self._figures)
        self.create_subscription(JointTrajectory, topics.COMMAND, self._on_command, topics.NEWEST)
        self.create_service(StartEpisode, topics.START_EPISODE, self._on_start)
        self._timer = self.create_timer(
            self._timeout_s if self._lockstep else period_s / factor,
            self._on_timeout if self._lockstep else self._on_tick,
        )
        self._timer.cancel()
        self.get_logger().info(f"{task.id} is ready; it starts when {topics.START_EPISODE} is called")
        self._alone_check = self.create_timer(ALONE_CHECK_S, self._check_alone)

    def _check_alone(self) -> None:
        """Once, when discovery has had its time: two robots must never answer to one command topic."""
        self.destroy_timer(self._alone_check)
        if self._has_rival():
            raise TransportError(
                f"another robot or twin publishes {topics.JOINT_STATES} on ROS domain {self.context.get_domain_id()}; "
                "stop it, or set ROS_DOMAIN_ID to another number"
            )

    def _has_rival(self) -> bool:
        return self.count_publishers(topics.JOINT_STATES) > 1

    def _on_start(self, request: StartEpisode.Request, response: StartEpisode.Response) -> StartEpisode.Response:
        task = self._twin.task
        if request.task not in ("", task.id) or request.seed < 0:
            response.success = False
            response.message = (
                f"asked for {request.task} with seed {request.seed}; this twin runs {task.id}, seeds from 0"
            )
            return response
        response.message = "two robots share this ROS domain" if self._has_rival() else unheard(self, [topics.COMMAND])
        if response.message:
            response.success = False
            return response
        if self._running is not None:
            self._end(EpisodeOutcome(False, False, True, "another episode was started"))
        self._twin.reset(request.seed)
        self._safety.reset(self._twin.robot_state())
        self._newest = (0, None, "")
        started = EpisodeEvent(
            header=convert.header(self._twin.stamp_ns),
            event=EpisodeEvent.STARTED,
            episode_id=request.episode_id,
            task=task.id,
            instruction=task.instruction,
            seed=request.seed,
        )
        self._running = RunningEpisode(started)
        self._events.publish(started)
        self._observe(self._running)
        self._timer.reset()
        response.success = True
        return response

    def _on_command(self, message: JointTrajectory) -> None:
        running = self._running
        if running is None:
            return
        stamp_ns = convert.stamp_ns(message.header.stamp)
        running.answered(stamp_ns, time.perf_counter_ns())
        action, refusal = None, ""
        try:
            action = convert.command(message, self._joints)
        except SpecError as error:
            refusal = str(error)
        if not self._lockstep:
            self._newest = max(self._newest, (stamp_ns, action, refusal), key=lambda command: command[0])
        elif stamp_ns == self._twin.stamp_ns:
            self._step(running, stamp_ns, action, refusal)

    def _on_tick(self) -> None:
        if self._running is not None:
            self._step(self._running, *self._newest)

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
        self._observe(running)
        if self._lockstep:
            self._timer.reset()
        status = self._twin.status()
        terminated = status.success or bool(status.failed and not status.diverged)
        give_up = give_up or status.diverged or running.held_in_a_row >= self._max_held_steps
        if terminated or give_up or running.num_steps >= self._twin.task.max_steps:
            self._end(EpisodeOutcome(status.success, terminated, not terminated, status.failed))

    def _observe(self, running: RunningEpisode) -> None:
        """Publish all that is seen at this instant."""
        stamp_ns = self._twin.stamp_ns
        images = {camera: self._twin.render(camera) for camera in self._images}
        running.observed(stamp_ns, time.perf_counter_ns())
        self._clock_ticks.publish(convert.clock_message(stamp_ns))
        self._joint_states.publish(convert.joint_state_message(self._twin.robot_state(), self._joints))
        self._ground_truth.publish(convert.ground_truth_message(self._twin.body_poses(), stamp_ns))
        for camera, image in images.items():
            self._images[camera].publish(convert.image_message(image, stamp_ns, camera))

    def _end(self, outcome: EpisodeOutcome) -> None:
        running, self._running = self._running, None
        assert running is not None
        self._timer.cancel()
        self._events.publish(running.ended(self._twin.stamp_ns, outcome))

    def _figures(self) -> dict[str, object]:
        running = self._running
        if running is None:
            return {"episode": ""}
        return {"episode": running.started.episode_id, "steps": running.num_steps, "held_steps": running.held_steps}

    def destroy_node(self) -> None:
        self._twin.close()
        super().destroy_node()


def main() -> int:
    return run(TwinNode)


if __name__ == "__main__":
    raise SystemExit(main())
