"""The robot node with an arm of stand-in servos, and with a robot that ros2_control drives."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from cells import Typist, standin_cell
from ears import Ears, position
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from robolearn_msgs.srv import StartEpisode
from robolearn_nodes import convert, topics
from std_srvs.srv import Trigger


def test_dead_commander_holds_the_arm_within_100_ms_and_is_marked(graph: Any, tmp_path: Path, typist: Typist) -> None:
    with standin_cell(tmp_path) as (cell, bus):
        ears = Ears(graph)
        graph.start("robot", cell=cell)
        teleop = graph.start("teleop", cell=cell, terminal=typist.terminal)
        typist.hold("q")
        graph.spin_until(lambda: len({position(m) for m in ears.sent if not m.header.frame_id}) > 20)
        assert bus.motors[1].get("torque")
        teleop.send_signal(signal.SIGKILL)
        teleop.wait()
        graph.spin_until(lambda: len(ears.sent) > 10 and all(m.header.frame_id for m in ears.sent[-10:]))
        last_ns = convert.stamp_ns(ears.commands[-1].header.stamp)
        moved = [m for m in ears.sent if not m.header.frame_id]
        held = ears.sent[ears.sent.index(moved[-1]) + 1 :]
        assert {position(m) for m in held} == {position(moved[-1])}
        assert "the command is" in held[0].header.frame_id
        assert " s old" in held[0].header.frame_id
        graph.spin_until(lambda: "the robot holds: the command is" in ears.problems["robot"][-1])
        assert convert.stamp_ns(moved[-1].header.stamp) - last_ns <= 100_000_000
        graph.stop()
        assert bus.motors[1].get("torque")  # it still holds


@pytest.mark.slow
def test_killed_robot_node_is_started_again_by_its_launch_file(graph: Any, tmp_path: Path, typist: Typist) -> None:
    with standin_cell(tmp_path) as (cell, bus):
        ears = Ears(graph)
        graph.launch("robot", cell=cell, cameras="false")
        graph.start("teleop", cell=cell, terminal=typist.terminal)
        typist.hold("q")
        graph.spin_until(lambda: any(not m.header.frame_id for m in ears.sent))
        (pid,) = re.findall(r"\[robot_node-1\]: process started with pid \[(\d+)\]", graph.log("launch"))
        os.kill(int(pid), signal.SIGKILL)
        graph.spin_until(lambda: graph.log("launch").count("takes commands") == 2)
        assert bus.motors[1].get("torque")
        ears.sent.clear()
        graph.spin_until(lambda: any(not m.header.frame_id for m in ears.sent))
        graph.stop()


def test_stop_from_the_keyboard_and_a_pulled_cable_hold_until_resumed(
    graph: Any, tmp_path: Path, typist: Typist
) -> None:
    with standin_cell(tmp_path) as (cell, bus):
        ears = Ears(graph)
        graph.start("robot", cell=cell)
        graph.start("teleop", cell=cell, terminal=typist.terminal)
        typist.hold("q")
        graph.spin_until(lambda: any(not m.header.frame_id for m in ears.sent))
        typist.press(" ")
        graph.spin_until(lambda: ears.sent[-1].header.frame_id == "emergency stop")
        held = position(ears.sent[-1])
        seen = len(ears.sent)
        graph.spin_until(lambda: len(ears.sent) > seen + 10)
        assert {position(m) for m in ears.sent[seen:]} == {held}
        assert ears.problems["robot"][-1] == "the robot holds: emergency stop"
        time.sleep(0.7)  # a key that repeats counts once
        typist.press("\r")
        graph.spin_until(lambda: not ears.sent[-1].header.frame_id)
        typist.hold("")
        bus.pull_cable()
        graph.spin_until(lambda: "the robot holds: lost" in ears.problems["robot"][-1])
        assert ears.problems["robot"][-1].endswith("(/robot/resume connects it again)")
        assert graph.call(StartEpisode, topics.START_EPISODE).message.endswith("(/robot/resume connects it again)")
        answer = graph.call(Trigger, topics.RESUME_ROBOT)
        assert not answer.success
        assert "there is no such port; plug the adapter in" in answer.message
        bus.motors[2].restart()  # its power was gone, too, and it fell
        bus.motors[2].encoder = 2000.0
        bus.plug_in()
        assert graph.call(Trigger, topics.RESUME_ROBOT).success
        graph.spin_until(lambda: "lost" not in ears.problems["robot"][-1])
        bus.settle()
        assert bus.motors[2].encoder == pytest.approx(2000.0, abs=2)
        assert bus.motors[2].get("torque")
        graph.stop()


def test_lifecycle_by_its_services(graph: Any, tmp_path: Path) -> None:
    with standin_cell(tmp_path) as (cell, bus):
        ears = Ears(graph)
        graph.start("robot", cell=cell, autostart=False)

        def change(transition: int) -> bool:
            request = {"transition": Transition(id=transition)}
            return bool(graph.call(ChangeState, "/robot/change_state", **request).success)

        assert not graph.call(StartEpisode, topics.START_EPISODE).success
        assert not bus.motors[1].get("torque")
        assert change(Transition.TRANSITION_CONFIGURE)
        graph.spin_until(lambda: ears.states)  # it measures
        assert not ears.sent
        assert change(Transition.TRANSITION_ACTIVATE)
        graph.spin_until(lambda: ears.sent)
        assert graph.call(StartEpisode, topics.START_EPISODE).success
        assert change(Transition.TRANSITION_DEACTIVATE)
        graph.spin_until(lambda: graph.events and graph.events[-1].reason.startswith("the robot was deactivated"))
        assert change(Transition.TRANSITION_CLEANUP)
        bus.motors[3].present = False
        assert not change(Transition.TRANSITION_CONFIGURE)
        graph.spin_until(lambda: any("elbow_flex" in problem for problem in ears.problems["robot"][-1:]))
        bus.motors[3].present = True
        assert change(Transition.TRANSITION_CONFIGURE)
        graph.stop()
