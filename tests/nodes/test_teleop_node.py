"""The teleoperation node in this process: resuming after a stop, and a page whose clock is ahead."""

from __future__ import annotations

import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cells import Typist
from robolearn_msgs.msg import EpisodeEvent, OperatorInput
from robolearn_nodes import convert
from robolearn_nodes.teleop_node import TeleopNode, open_terminal
from std_srvs.srv import Trigger

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy
from rclpy.exceptions import NameValidationException
from rclpy.task import Future

from robolearn.errors import HardwareError
from robolearn.recipes.graph import free_domain_id
from robolearn.tasks.kinematics import SO101
from robolearn.teleop.teleoperator import TeleopCommand
from robolearn.types import RobotState

TICK_NS = 50_000_000
REST = np.array([0.0, -0.4, 0.6, 0.6, 0.0, 0.3], np.float32)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., TeleopNode]]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    nodes = []

    def make(**parameters: str) -> TeleopNode:
        rclpy.init(
            args=["--ros-args", *(word for key, value in parameters.items() for word in ("-p", f"{key}:={value}"))]
        )
        nodes.append(TeleopNode())
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown()


def answers(node: TeleopNode, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[float] | None]:
    """What it commands at the tick of that number, of a robot that stands at REST."""
    sent: list[Any] = []
    monkeypatch.setattr(node._command, "publish", sent.append)

    def answer(tick: int) -> list[float] | None:
        sent.clear()
        state = RobotState(REST, np.zeros(6, np.float32), 10**9 + tick * TICK_NS)
        node._on_state(convert.joint_state_message(state, SO101.joint_names))
        return list(sent[0].points[0].positions) if sent else None

    return answer


def test_what_was_typed_at_a_robot_that_stood_is_forgotten_when_it_is_resumed(
    make: Callable[..., TeleopNode], typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make(teleop="keyboard", terminal=typist.terminal)
    answer = answers(node, monkeypatch)
    for tick in range(20):  # somebody else has stopped the robot: it stays where it is
        typist.press("q")
        command = answer(tick)
    assert command is not None
    assert command[0] > 0.2
    assert node._on_resume(Trigger.Request(), Trigger.Response()).success
    assert answer(20) is None
    typist.press("q")
    np.testing.assert_allclose(answer(21), REST, atol=1e-6)


def test_a_key_counts_for_the_episode_in_which_it_was_pressed(
    make: Callable[..., TeleopNode], typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make(teleop="keyboard", terminal=typist.terminal)
    answer, called = answers(node, monkeypatch), list[str]()
    monkeypatch.setattr(node, "_call", lambda client, request: called.append(client.srv_name.rpartition("/")[2]))
    ticks = iter(range(0, 1000, 20))  # a second apart: no key of a tick repeats that of the one before

    def after(key: str, event: int | None) -> list[str]:
        """What is called when a key is pressed, then this is heard, and then the keys are read."""
        called.clear()
        typist.press(key)
        if event is not None:
            node._on_event(EpisodeEvent(event=event))
        answer(next(ticks))
        return list(called)

    begins, ends = EpisodeEvent.STARTED, EpisodeEvent.ENDED
    assert after("\r", None) == ["next_episode"]
    for key in ("\r", "x", "\x7f"):
        assert after(key, begins) == []
        assert after(key, None) == ["stop_episode"]
        assert after(key, ends) == []
    assert after("\r", None) == ["next_episode"]
    for event in (begins, ends):
        assert after(" ", event) == ["emergency_stop"]


def test_beside_another_device_the_keys_of_a_terminal_say_what_becomes_of_the_episode(
    make: Callable[..., TeleopNode], typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(typist.terminal) as terminal:
        before = termios.tcgetattr(terminal)
        node = make(teleop="scripted", terminal=typist.terminal)
        assert termios.tcgetattr(terminal) != before
        answer, called = answers(node, monkeypatch), list[str]()
        monkeypatch.setattr(node, "_call", lambda client, request: called.append(client.srv_name.rpartition("/")[2]))
        command = TeleopCommand(REST + np.float32(0.01))
        says: list[TeleopCommand | HardwareError] = [command, command, HardwareError("the leader is gone"), command]

        def read(state: RobotState, now_ns: int) -> TeleopCommand:
            said = says.pop(0)
            if isinstance(said, HardwareError):
                raise said
            return said

        monkeypatch.setattr(node._device, "read", read)
        typist.press("q\r")
        np.testing.assert_allclose(answer(0), REST + 0.01, atol=1e-6)
        node._on_event(EpisodeEvent(event=EpisodeEvent.STARTED))
        answer(20)
        assert called == ["next_episode"]
        typist.press(" ")
        assert answer(40) is None  # nor is there a device, but the stop was heard
        assert called == ["next_episode", "emergency_stop"]
        assert answer(60) is None
        node._keys.give_back()  # type: ignore[union-attr]  as at its end
        assert termios.tcgetattr(terminal) == before


@pytest.mark.parametrize("driver", ["keyboard", "scripted"])
def test_a_robot_that_has_fallen_silent_is_stopped_resumed_and_its_episode_ended(
    make: Callable[..., TeleopNode], typist: Typist, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    """As one whose cable was pulled: nothing but a stop and a resume connects it again."""
    node = make(teleop=driver, terminal=typist.terminal)
    answer, called = answers(node, monkeypatch), list[str]()
    monkeypatch.setattr(node, "_call", lambda client, request: called.append(client.srv_name.rpartition("/")[2]))
    answer(0)
    node._on_event(EpisodeEvent(event=EpisodeEvent.STARTED))
    answer(20)
    typist.press(" ")
    node._on_silence()
    assert called == []  # it has just been heard
    for keys, heeded in ((" ", "emergency_stop"), ("\r", "resume"), ("\x7f", "stop_episode")):
        node._heard_s -= 2.0
        typist.press(keys.strip(" "))
        node._on_silence()
        assert called.pop() == heeded
    assert called == []
    assert "the robot is silent" in node._diagnostics.problem


def test_a_robot_that_could_not_be_resumed_is_stopped_still(
    make: Callable[..., TeleopNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the key that is pressed again would end the episode as a success."""
    node, logged = make(teleop="scripted"), list[str]()
    monkeypatch.setattr(node, "get_logger", lambda: SimpleNamespace(warning=logged.append, info=logged.append))
    node._intervention.stopped = True
    for response in (Trigger.Response(message="the cable is out"), Trigger.Response(success=True)):
        answered = Future()
        asked = SimpleNamespace(
            service_is_ready=lambda: True, call_async=lambda request, a=answered: a, srv_name="/robot/resume"
        )
        node._resume_robot = asked
        node._resume()
        answered.set_result(response)
        rclpy.spin_once(node, timeout_sec=0.1)
        assert node._intervention.stopped is not response.success
    assert logged == ["/robot/resume: the cable is out", "the robot may move again"]


def test_a_stop_is_told_of_a_leader_that_is_far_away_too(
    make: Callable[..., TeleopNode], typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make(teleop="scripted", terminal=typist.terminal)
    monkeypatch.setattr(node._device, "read", lambda state, now_ns: TeleopCommand(reason="bring the leader nearer"))
    answer = answers(node, monkeypatch)
    assert answer(0) is None
    assert node._diagnostics.problem == "bring the leader nearer"
    typist.press(" ")
    answer(1)
    assert node._diagnostics.problem.startswith("stopped by the operator")


def test_the_terminal_of_a_launch_is_left_to_its_shell_beside_another_device(
    make: Callable[..., TeleopNode], typist: Typist
) -> None:
    assert make(teleop="scripted", terminal="/dev/tty")._terminal is None


def test_a_policy_plans_anew_when_a_person_lets_go_but_not_for_what_was_tidied_up_before_its_episode(
    make: Callable[..., TeleopNode], typist: Typist, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make(teleop="keyboard", terminal=typist.terminal, with_policy="true")
    answer, called = answers(node, monkeypatch), list[str]()
    monkeypatch.setattr(node, "_call", lambda client, request: called.append(client.srv_name))
    told: list[str] = []
    monkeypatch.setattr(node, "get_logger", lambda: SimpleNamespace(info=told.append))

    def act(tick: int) -> list[float] | None:
        command = convert.command_message(REST, 10**9 + tick * TICK_NS, SO101.joint_names, "policy")
        node._on_policy(command)
        return answer(tick)

    def a_hand_at(tick: int) -> None:
        typist.press("q")
        assert answer(tick) is not None

    node._on_event(EpisodeEvent(event=EpisodeEvent.ENDED))
    a_hand_at(0)
    node._on_event(EpisodeEvent(event=EpisodeEvent.STARTED))
    assert act(40) is not None
    assert called == []
    a_hand_at(41)
    assert act(80) is not None
    assert called == ["/policy/reset"]
    assert told == ["a person has taken over", "the policy acts"] * 2


def test_a_page_whose_clock_is_ahead_lets_go_when_it_falls_silent(
    make: Callable[..., TeleopNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make(teleop="web")
    answer = answers(node, monkeypatch)
    assert answer(0) is None
    ahead_ns = int(node.get_clock().now().nanoseconds) + 60 * 10**9
    node._on_input(OperatorInput(header=convert.header(ahead_ns), axes=[0.0, -1.0], held=[5]))
    assert answer(1) is not None
    assert answer(20) is None


def test_another_problem_is_logged_and_the_same_one_in_other_numbers_is_not(
    make: Callable[..., TeleopNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make(teleop="web")
    logged: list[str] = []
    monkeypatch.setattr(node, "get_logger", lambda: SimpleNamespace(warning=logged.append, info=logged.append))
    late, limp = "the command is {} s old", "elbow_flex (id 3) went limp; support the arm"
    for problem in (late.format(0.1), late.format(12), limp, late.format(0.3), "", late.format(0.1)):
        node._diagnostics.report(problem)
    assert logged == [late.format(0.1), limp, "all is well again", late.format(0.1)]
    node._diagnostics.report(late.format(7))
    node._on_event(EpisodeEvent(event=EpisodeEvent.STARTED))
    assert logged.pop() == late.format(7)  # who begins an episode is told again
    node._on_event(EpisodeEvent(event=EpisodeEvent.ENDED))
    assert len(logged) == 4


def test_a_node_that_cannot_be_made_leaves_the_terminal_as_it_was(
    make: Callable[..., TeleopNode], typist: Typist
) -> None:
    with open(typist.terminal) as terminal:
        before = termios.tcgetattr(terminal)
        with pytest.raises(NameValidationException):
            make(teleop="keyboard", terminal=typist.terminal, with_policy="true", policy_command="a b")
        assert termios.tcgetattr(terminal) == before


def test_the_terminal_is_found_from_a_session_of_its_own(typist: Typist) -> None:
    """As a node of `robolearn launch` is started."""
    node = (
        "import os; from robolearn_nodes.teleop_node import open_terminal; print(os.ttyname(open_terminal('/dev/tty')))"
    )
    launch = "import subprocess, sys; subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)"
    with open(typist.terminal, encoding="utf-8") as terminal:
        command = ["setsid", "--ctty", "--wait", sys.executable, "-c", launch, sys.executable, "-c", node]
        found = subprocess.run(command, stdin=terminal, capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == typist.terminal, found.stderr


def test_a_terminal_that_is_not_there_is_named() -> None:
    with pytest.raises(HardwareError, match="cannot open the terminal /dev/pts/none for its keys; name one"):
        open_terminal("/dev/pts/none")
