"""A person's hands on the graph: one command for each joint state, and what the person says of the episode.

With `with_policy` the person intervenes: the policy's commands come in on `policy_command`, and go on to the robot
while nobody is at the controls.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from robolearn_msgs.msg import EpisodeEvent, OperatorInput
from robolearn_msgs.srv import StopEpisode
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from robolearn.errors import CellError, HardwareError, SpecError
from robolearn.teleop import TELEOPERATORS
from robolearn.teleop.intervention import Intervention, InterventionConfig, beside_a_policy
from robolearn.teleop.teleoperator import Fed, TeleopCommand, Teleoperator, TeleopEvent
from robolearn.teleop.terminal import EVENTS, Terminal
from robolearn.types import ActionSource
from robolearn_nodes import convert, topics
from robolearn_nodes.commands import NewestCommand, Pace
from robolearn_nodes.episode import ENDINGS
from robolearn_nodes.interface import RobotInterface, robot_interface
from robolearn_nodes.node import Diagnostics, Meter, parameter, run

REPEAT_NS = 600_000_000  # terminals wait half a second before they repeat a key
OWN_TERMINAL = "/dev/tty"
IN_CHARGE = {
    ActionSource.HUMAN: "a person leads the robot",
    ActionSource.INTERVENTION: "a person has taken over",
    ActionSource.POLICY: "the policy acts",
}
SILENT_S = 1.0  # without a joint state: the robot's device has failed, or its node is gone
NO_STATES = (
    "the robot is silent, and its node tells why; when that is mended, stop it and let it go on, which connects it "
    "again (space, then Enter, in a terminal)"
)


def open_terminal(name: str) -> int:
    """A terminal's file descriptor. /dev/tty is also that of who started this process in a session of its own, which
    has none, as `robolearn launch` does. Raises HardwareError."""
    names = [name, *(_terminals_above() if name == OWN_TERMINAL else ())]
    for each in names:
        with contextlib.suppress(OSError):
            return os.open(each, os.O_RDWR | os.O_NOCTTY)
    raise HardwareError(
        f"cannot open the terminal {name} for its keys; name one, as `tty` tells it: terminal:=/dev/pts/3"
    )


def _terminals_above() -> Iterator[str]:
    """Those that the processes above this one talk to, the nearest first."""
    above = os.getppid()
    while above > 1:
        for number in range(3):
            with contextlib.suppress(OSError):
                path = os.readlink(f"/proc/{above}/fd/{number}")
                if path.startswith(("/dev/pts/", OWN_TERMINAL)):
                    yield path
        try:
            above = int(Path(f"/proc/{above}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            return


class TeleopNode(Node):
    """Between two episodes, the key that ends one as a success begins the next, or lets a stopped robot go on."""

    def __init__(self) -> None:
        super().__init__("teleop")
        self._interface = robot_interface(self)
        driver = parameter(self, "teleop", "", "device, see TELEOPERATORS; empty: that of the cell")
        terminal = parameter(
            self,
            "terminal",
            "",
            "the terminal to listen to, as /dev/pts/3; empty: this one for a keyboard, none beside another device",
        )
        with_policy = parameter(self, "with_policy", False, "whether a policy acts while nobody is at the controls")
        policy_topic = parameter(self, "policy_command", topics.POLICY_COMMAND, "where that policy's commands are")
        self._joints = self._interface.spec.joint_names
        cell = self._interface.cell
        typed = (driver or (cell.teleop.driver if cell and cell.teleop else "")) == "keyboard"
        beside = terminal not in ("", OWN_TERMINAL) and not typed  # keys that say something of the episode
        self._terminal = open_terminal(terminal) if (terminal and typed) or beside else None
        self._keys = Terminal(self._terminal) if beside and self._terminal is not None else None
        self._device = _make(driver, self._interface, self._terminal if typed else None, with_policy)
        self._intervention = Intervention(InterventionConfig(), with_policy)
        self._policy = NewestCommand(self._joints)
        self._pace = Pace(self._interface.period_ns)
        self._in_episode = self._was_in_episode = False  # now, and when the device was read last
        self._said_ns: dict[TeleopEvent, int] = {}
        self._commands = 0
        self._in_charge: ActionSource | None = None  # who commanded last
        self._states = Meter()
        self._newest: JointState | None = None  # what the robot measured last
        self._heard_s = 0.0  # and when that came [s of wall time]
        self._ahead_ns = 0  # of the stamps of joint states, which may be the twin's, to this computer's clock

        self._command = self.create_publisher(JointTrajectory, topics.COMMAND, topics.STREAM)
        self._diagnostics = Diagnostics(self, self._figures)
        self._stop = self.create_client(StopEpisode, topics.STOP_EPISODE)
        self._emergency_stop = self.create_client(Trigger, topics.EMERGENCY_STOP)
        self._resume_robot = self.create_client(Trigger, topics.RESUME_ROBOT)
        self._next = self.create_client(Trigger, topics.NEXT_EPISODE)
        self._replan = self.create_client(Trigger, topics.RESET_POLICY)
        self.create_service(Trigger, topics.RESUME_TELEOP, self._on_resume)
        self.create_subscription(EpisodeEvent, topics.EPISODE, self._on_event, topics.LATCHED)
        if with_policy:
            self.create_subscription(JointTrajectory, policy_topic, self._on_policy, topics.NEWEST)
        if isinstance(self._device, Fed):
            self.create_subscription(OperatorInput, topics.OPERATOR_INPUT, self._on_input, topics.NEWEST)
        self.create_subscription(JointState, topics.JOINT_STATES, self._on_state, topics.NEWEST)
        self.create_timer(SILENT_S / 10, self._on_silence)
        self._device.connect()  # last: nobody would give the terminal back of a node that could not be made
        if self._keys is not None:
            self._keys.take()

    def _on_state(self, message: JointState) -> None:
        """Answer the state with a command; of a faster stream, those states that the control rate asks for."""
        now_ns = convert.stamp_ns(message.header.stamp)
        self._ahead_ns = now_ns - int(self.get_clock().now().nanoseconds)
        self._newest, self._heard_s = message, time.monotonic()
        if not self._pace.due(now_ns):
            return
        self._states.note(int(self.get_clock().now().nanoseconds), now_ns)
        said, problem = self._read(message, now_ns)
        stamp_ns, policy_action, _ = self._policy.get()
        fresh = not problem and 0 <= now_ns - stamp_ns <= self._interface.safety.max_command_age_s * 1e9
        verdict = self._intervention.decide(policy_action if fresh else None, said, now_ns)
        self._diagnostics.report(problem or (verdict.reason if self._intervention.stopped else said.reason))
        if verdict.policy_returns:
            self._call(self._replan, Trigger.Request())
        if problem or verdict.action is None or verdict.source is None:
            return
        if verdict.source is not self._in_charge:
            self._in_charge = verdict.source
            self.get_logger().info(IN_CHARGE[verdict.source])
        source = convert.source_name(verdict.source)
        self._command.publish(convert.command_message(verdict.action, now_ns, self._joints, source))
        self._commands += 1

    def _on_silence(self) -> None:
        """Of a robot that measures no more nothing is commanded, but who is there can still stop it, let it go on, by
        which its device is connected again, and end the episode."""
        if self._newest is None or time.monotonic() - self._heard_s < SILENT_S:
            return
        now_ns = int(self.get_clock().now().nanoseconds) + self._ahead_ns
        said, _ = self._read(self._newest, now_ns)
        self._intervention.decide(None, replace(said, action=None), now_ns)
        self._diagnostics.report(NO_STATES, passing=True)

    def _read(self, message: JointState, now_ns: int) -> tuple[TeleopCommand, str]:
        """What the person wants of the robot that is in that state, of whose episode what they say is passed on, and
        why they cannot command it."""
        typed: tuple[TeleopEvent, ...] = ()
        problem = ""
        try:
            if self._keys is not None:
                typed = tuple(EVENTS[key] for key in self._keys.typed() if key in EVENTS)
            state = convert.robot_state(message, self._joints)
            said = self._device.read(state, now_ns)
        except (SpecError, HardwareError) as error:
            said, problem = TeleopCommand(), f"no command: {error}"  # but what was typed counts
        said = replace(said, events=(*typed, *said.events))
        passed, self._was_in_episode = self._in_episode != self._was_in_episode, self._in_episode
        for event in said.events:
            since_ns, self._said_ns[event] = now_ns - self._said_ns.get(event, 0), now_ns
            # a held key repeats, and says it once; what was typed before an episode began, or ended, is not of after it
            if event is TeleopEvent.STOP or not (passed or 0 <= since_ns < REPEAT_NS):
                self._say(event)
        return said, problem

    def _on_input(self, message: OperatorInput) -> None:
        now_ns = int(self.get_clock().now().nanoseconds)
        sent_ns = min(convert.stamp_ns(message.header.stamp), now_ns)  # the page's clock may be ahead of ours
        try:
            self._device.feed(convert.operator_input(message), sent_ns + self._ahead_ns)
        except SpecError as error:
            self._diagnostics.report(f"unusable input of the operator's page: {error}")

    def _on_policy(self, message: JointTrajectory) -> None:
        self._policy.put(message, convert.stamp_ns(message.header.stamp))

    def _say(self, event: TeleopEvent) -> None:
        """Pass on what the person said of the episode."""
        if event is TeleopEvent.STOP:
            if not self._emergency_stop.service_is_ready():
                self.get_logger().error(
                    f"nobody serves {self._emergency_stop.srv_name}: no command goes on, but no more is done"
                )
            self._call(self._emergency_stop, Trigger.Request())
        elif event is TeleopEvent.SUCCESS and self._intervention.stopped:
            self._resume()
        elif event is TeleopEvent.SUCCESS and not self._in_episode:
            self._call(self._next, Trigger.Request())
        elif self._in_episode:
            ending = ENDINGS[event.value]
            self._call(self._stop, StopEpisode.Request(event=ending, discard=event is TeleopEvent.DISCARD))

    def _call(self, client: Client, request: Any) -> None:
        """Without waiting for the answer: the robot must be commanded meanwhile."""
        if client.service_is_ready():
            client.call_async(request).add_done_callback(lambda answer: self._on_answer(client, answer))

    def _on_answer(self, client: Client, answer: Future) -> None:
        response = answer.result()
        if response is None:
            return
        if not response.success:
            self.get_logger().warning(f"{client.srv_name}: {response.message}")
            if client is self._resume_robot:  # or the key that resumes it would come to mean a success
                self._intervention.stopped = True
        elif client is self._resume_robot:
            self.get_logger().info("the robot may move again")

    def _on_event(self, event: EpisodeEvent) -> None:
        self._in_episode = event.event == EpisodeEvent.STARTED
        if self._in_episode:
            self._intervention.begin()
            if self._diagnostics.problem:  # which was said long ago
                self.get_logger().warning(self._diagnostics.problem)

    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._resume()
        response.success = True
        return response

    def _resume(self) -> None:
        """Who is at the controls takes over anew, from where the robot is: what they did meanwhile is forgotten."""
        try:
            self._device.connect()
        except HardwareError as error:
            self._diagnostics.report(f"no command: {error}")
        self._intervention.resume()
        self._call(self._resume_robot, Trigger.Request())

    def _figures(self) -> dict[str, Any]:
        return {"commands": self._commands, "stopped": self._intervention.stopped, **self._states.figures("states")}

    def destroy_node(self) -> None:
        self._device.close()
        if self._keys is not None:
            self._keys.give_back()
        if self._terminal is not None:
            os.close(self._terminal)
        super().destroy_node()


def _make(driver: str, interface: RobotInterface, terminal: int | None, with_policy: bool) -> Teleoperator:
    cell = interface.cell
    if cell is not None and cell.teleop is not None and driver in ("", cell.teleop.driver):
        driver, config = cell.teleop.driver, cell.teleop.config
    elif driver in TELEOPERATORS:
        try:
            config = TELEOPERATORS[driver].config_type()
        except TypeError:
            raise CellError(f"teleop {driver} needs settings; give them in a cell's file") from None
    else:
        raise SpecError(f"teleop is {driver!r}, expected one of {', '.join(TELEOPERATORS)}, or a cell that has one")
    if with_policy:
        config = beside_a_policy(config)
    options = {} if terminal is None else {"fd": terminal}
    return TELEOPERATORS[driver](config, interface.spec, **options)


def main() -> int:
    return run(TeleopNode)


if __name__ == "__main__":
    raise SystemExit(main())
