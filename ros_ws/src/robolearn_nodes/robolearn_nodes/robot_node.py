"""A robot on the graph: publishes what it measures, and moves it by what the safety filter lets through.

A command is applied when it comes; outside of an episode only one that says that a person gives it, for between two of
them people put things back.
When none has come for `max_command_age_s`, the robot holds, and the graph is told why. A lifecycle node: configured it
measures, active it takes commands.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import rclpy
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode, StopEpisode
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from robolearn import cell
from robolearn.errors import HardwareError, RobolearnError, SpecError
from robolearn.robots.robot import Robot
from robolearn.types import PEOPLE, EpisodeOutcome, RobotState
from robolearn_nodes import convert, ros2_control, topics
from robolearn_nodes.commands import NewestCommand
from robolearn_nodes.emergency_stop import EmergencyStop, refusal
from robolearn_nodes.episode import RunningEpisode, asked_outcome, new_episode_id
from robolearn_nodes.interface import robot_interface
from robolearn_nodes.node import Alone, Diagnostics, Meter, parameter, run, warn_of_crowd

NO_EPISODE = (
    "no episode is running, in which others than people might act; call {start}, or let the command's frame_id say who "
    "commands"
)


class RobotNode(LifecycleNode):
    """One robot behind its safety filter."""

    def __init__(self) -> None:
        super().__init__("robot")
        self._interface = robot_interface(self)
        self._controller = parameter(
            self, "controller", "", "`forward` or `trajectory`: use a robot that ros2_control drives, by its topics"
        )
        self._command_topic = parameter(self, "command_topic", "", "of that controller")
        self._state_topic = parameter(self, "state_topic", topics.JOINT_STATES, "where that robot's joint states are")
        self._autostart = parameter(self, "autostart", True, "whether it configures and activates itself")
        self._max_held_steps = parameter(
            self, "max_held_steps", 0, "refusals in a row that truncate an episode; 0: any number"
        )
        self._joints = self._interface.spec.joint_names
        self._safety = self._interface.make_safety()
        self._command = NewestCommand(self._joints)
        self._resume = self.resolve_service_name(topics.RESUME_ROBOT)
        self._no_episode = NO_EPISODE.format(start=self.resolve_service_name(topics.START_EPISODE))
        self._robot: Robot | None = None
        self._measured: RobotState | None = None
        self._active = self._decided = False
        self._by_hand = False  # whether the newest command is a person's
        self._held = ""
        self._lost = ""  # why nobody knows whether the robot is where it was told to be
        self._failure = RobolearnError()  # why the last transition failed
        self._running: RunningEpisode | None = None
        self._meters = {name: Meter() for name in ("states", "commands")}

        joint_states = self.resolve_topic_name(topics.JOINT_STATES)
        theirs = bool(self._controller) and self.resolve_topic_name(self._state_topic) == joint_states
        self._joint_states = None if theirs else self.create_publisher(JointState, joint_states, topics.STREAM)
        self._sent = self.create_publisher(JointTrajectory, topics.COMMAND_SENT, topics.STREAM)
        self._spec = self.create_publisher(String, topics.ROBOT_SPEC, topics.STATE)
        self._events = self.create_publisher(EpisodeEvent, topics.EPISODE, topics.LATCHED)
        self._diagnostics = Diagnostics(self, self._figures)
        self.create_subscription(JointTrajectory, topics.COMMAND, self._on_command, topics.NEWEST)
        self.create_service(StartEpisode, topics.START_EPISODE, self._on_start)
        self.create_service(StopEpisode, topics.STOP_EPISODE, self._on_stop)
        self._stopping = EmergencyStop(self, self._safety, self._standing, self._diagnostics, self._stop_file())
        self.create_timer(self._interface.period_ns * 1e-9, self._on_tick)
        self._deadman = self.create_timer(self._interface.safety.max_command_age_s, self._on_silence)
        self._deadman.cancel()
        self._alone = Alone(self)

    def _stop_file(self) -> Path | None:
        if self._interface.cell_file is not None:
            return cell.stop_file(self._interface.cell_file)
        return ros2_control.stop_file(self, self._command_topic) if self._command_topic else None

    def work(self) -> None:
        """Start by itself unless told otherwise, then serve. Raises the reason when it cannot start."""
        for trigger in (self.trigger_configure, self.trigger_activate) if self._autostart else ():
            end_s = time.monotonic() + 5.0  # joint states of another node take a moment to be found
            while trigger() != TransitionCallbackReturn.SUCCESS:
                if not (self._controller and isinstance(self._failure, HardwareError)) or time.monotonic() > end_s:
                    raise self._failure
                rclpy.spin_once(self, timeout_sec=0.1)
        rclpy.spin(self)

    # --- lifecycle ---

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt(self._connect)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt(self._take_over)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._active = False
        self._end(EpisodeOutcome(None, False, True, "the robot was deactivated"))
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._attempt(self._disconnect)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.on_deactivate(state)
        return self._attempt(self._disconnect)

    def _attempt(self, step: Any) -> TransitionCallbackReturn:
        try:
            step()
        except RobolearnError as error:
            self._failure = error
            self._diagnostics.report(str(error))
            return TransitionCallbackReturn.FAILURE
        self._diagnostics.report("")
        return TransitionCallbackReturn.SUCCESS

    def _connect(self) -> None:
        interface = self._interface
        if self._controller:
            robot: Robot = self._robot or ros2_control.Ros2ControlRobot(
                self, interface.spec, self._controller, self._state_topic, self._command_topic, interface.period_ns
            )
        elif interface.cell is None:
            raise HardwareError("the robot node has no robot; set cell, or controller with joint_names and limits")
        else:
            robot = interface.cell.make_robot(clock=self._now_ns)
        robot.connect()
        self._robot = robot

    def _take_over(self) -> None:
        assert self._robot is not None
        self._measured = self._robot.read()
        self._safety.start_anew(self._measured)  # who stopped the robot before has to resume it
        self._command.clear()
        self._active, self._held, self._lost = True, "", ""
        about = self._interface
        self._spec.publish(convert.spec_message(about.spec, about.control_hz, about.safety))
        self.get_logger().info(
            f"{self._interface.spec.name} takes commands on {self.resolve_topic_name(topics.COMMAND)}"
        )

    def _disconnect(self) -> None:
        robot, self._robot = self._robot, None
        if robot is not None:
            robot.close()

    # --- the control path ---

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _on_tick(self) -> None:
        """Measure and publish; where no command came since the last tick, decide without one."""
        if self._robot is None:
            return
        try:
            self._measured = self._robot.read()
        except HardwareError as error:
            self._lost = f"{error} ({self._resume} connects it again)"
            self._mark(self._lost)
        else:
            self._safety.watch(self._measured, getattr(self._robot, "health", None))
            if self._running is not None:
                self._running.observed(self._measured.stamp_ns, time.perf_counter_ns())
            if self._joint_states is not None:
                self._joint_states.publish(convert.joint_state_message(self._measured, self._joints))
            self._meters["states"].note(self._now_ns(), self._measured.stamp_ns)
            if self._active and (self._lost or not self._command.count):
                self._regain(self._measured)
            if self._active and not self._decided:
                self._decide()
        self._decided = False
        self._stopping.remember()
        if self._running is not None:
            self._running.stepped(self._held)
            if 0 < self._max_held_steps <= self._running.held_in_a_row:
                self._end(EpisodeOutcome(None, False, True))
            elif too_long := self._running.too_long():
                self._end(too_long)

    def _regain(self, state: RobotState) -> None:
        """From where the robot is now: not to where it was on its way when it failed, nor, before the first command, to
        where it stood when this node began, for others may have moved it since."""
        try:
            self._safety.start_anew(state)
            self._lost = ""
        except SpecError as error:
            self._lost = str(error)

    def _standing(self) -> RobotState | None:
        """What the robot measures now; one whose device has failed is connected anew, as somebody asks for it who sees
        the robot. Raises HardwareError while it does not measure."""
        if self._lost and self._robot is not None:
            self._robot.connect()
            self._measured = self._robot.read()
            self._regain(self._measured)
        if self._lost:
            raise HardwareError(self._lost)
        return self._measured

    def _on_command(self, message: JointTrajectory) -> None:
        stamp_ns, now_ns = convert.stamp_ns(message.header.stamp), self._now_ns()
        if self._running is not None:
            self._running.answered(stamp_ns, time.perf_counter_ns())
        self._meters["commands"].note(now_ns, stamp_ns)
        by_hand = convert.action_source(message.header.frame_id) in PEOPLE
        refusal = "" if by_hand or self._running is not None else self._no_episode
        newest = self._command.put(message, now_ns, refusal)
        if newest:
            self._by_hand = by_hand
        if newest and self._active:
            self._decide()
            silent_ns = stamp_ns + round(self._interface.safety.max_command_age_s * 1e9) - now_ns
            self._deadman.timer_period_ns = max(silent_ns, 1)
            self._deadman.reset()

    def _on_silence(self) -> None:
        self._deadman.cancel()
        if self._active:
            self._decide()

    def _decide(self) -> None:
        """Let the filter judge the newest command, and send what it says."""
        self._decided = True
        if problem := self._lost or self._alone.problem():
            self._mark(problem)
            return
        stamp_ns, action, refusal = self._command.get()
        decision = self._safety.filter(action, stamp_ns, self._now_ns())
        held = (refusal or decision.reason) if decision.held else ""
        if self._command.count and self._robot is not None:
            try:
                self._robot.write(decision.command)
            except HardwareError as error:
                held = self._lost = str(error)
        self._mark(held, decision.command)

    def _mark(self, held: str, command: Any = None) -> None:
        """Tell the graph what was sent, and why the robot holds if it does."""
        self._held = held
        if command is not None:
            self._sent.publish(convert.command_message(command, self._now_ns(), self._joints, held))
        if self._command.count or command is None:  # before the first command nobody wants it to move
            self._diagnostics.report(f"the robot holds: {held}" if held else "", passing=held == self._no_episode)

    # --- episodes ---

    def _on_start(self, request: StartEpisode.Request, response: StartEpisode.Response) -> StartEpisode.Response:
        if not self._active or self._measured is None:
            response.message = "the robot is not active"
        else:
            response.message = refusal(self._safety, self._resume) or self._lost or self._alone.problem()
        if response.message:
            return response
        warn_of_crowd(self)
        self._end(EpisodeOutcome(None, False, True, "another episode was started"))
        started = EpisodeEvent(
            header=convert.header(self._measured.stamp_ns + 1),  # the next observation is its first
            event=EpisodeEvent.STARTED,
            episode_id=request.episode_id or new_episode_id(request.task),
            task=request.task,
            instruction=request.instruction,
            seed=request.seed,
        )
        self._running = RunningEpisode(started, request.max_duration_s)
        self._events.publish(started)
        response.success, response.episode_id = True, started.episode_id
        return response

    def _on_stop(self, request: StopEpisode.Request, response: StopEpisode.Response) -> StopEpisode.Response:
        response.success = self._running is not None
        response.message = "" if response.success else "no episode is running"
        self._end(asked_outcome(request.event), request.discard)
        return response

    def _end(self, outcome: EpisodeOutcome, discarded: bool = False) -> None:
        running, self._running = self._running, None
        if running is not None and not self._by_hand:
            self._command.refuse(self._no_episode)
        if running is not None and self._measured is not None:
            self._events.publish(running.ended(self._measured.stamp_ns, outcome, discarded))

    def _figures(self) -> dict[str, Any]:
        figures: dict[str, Any] = {
            "stopped": self._safety.stopped,
            "active": self._active,
            "commands": self._command.count,
        }
        for name, meter in self._meters.items():
            figures |= meter.figures(name)
        if self._running is not None:
            figures |= {"episode": self._running.started.episode_id, "held_steps": self._running.held_steps}
        return figures

    def destroy_node(self) -> None:
        self._disconnect()
        super().destroy_node()


def main() -> int:
    return run(RobotNode, RobotNode.work)


if __name__ == "__main__":
    raise SystemExit(main())
