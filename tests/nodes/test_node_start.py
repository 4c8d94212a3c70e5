"""How a node begins: what it says of wrong arguments, and of a stop while it is still reading its modules."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import robolearn.ros  # isort: skip  supplies rclpy where ROS 2 is not installed

import rclpy
from rclpy.node import Node
from robolearn_nodes.node import Diagnostics, run

from robolearn.errors import BAD_INPUT_EXIT_CODE, CellError, CheckpointError, HardwareError, SpecError

assert robolearn.ros


@pytest.mark.parametrize("rule", ["use_sim_time:=maybe", "rate:=[1, 2.0]", "rate:=[1"])
def test_a_wrong_argument_is_one_line(
    rule: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["node", "--ros-args", "-p", rule])
    assert run(lambda: rclpy.create_node("wrong")) == BAD_INPUT_EXIT_CODE
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    (line,) = capsys.readouterr().err.splitlines()
    assert rule.partition(":=")[0] in line


def test_what_the_system_refuses_at_the_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["node"])
    assert run(lambda: Path("a" * 300).stat()) == 2  # type: ignore[arg-type, return-value]
    assert capsys.readouterr().err == f"{'a' * 300}: File name too long\n"


def raising(error: Exception) -> Any:
    def fail(*_: Any) -> Any:
        raise error

    return fail


def test_what_another_try_cannot_mend_ends_a_node_by_a_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["node"])
    make = lambda: rclpy.create_node("fine")  # noqa: E731
    assert run(raising(CellError("no such file"))) == BAD_INPUT_EXIT_CODE
    assert run(raising(HardwareError("not plugged in"))) == 2
    assert run(make, raising(SpecError("a robot that somebody has to move"))) == 2
    assert run(make, raising(CheckpointError("of another robot"))) == BAD_INPUT_EXIT_CODE
    with pytest.raises(OSError, match="what nobody has thought of"):
        run(make, raising(OSError("what nobody has thought of")))


def test_what_is_usual_at_a_start_is_logged_when_it_lasts(ros: None, monkeypatch: pytest.MonkeyPatch) -> None:
    node, logged, published = rclpy.create_node("starting"), list[str](), list[str]()
    diagnostics = Diagnostics(node, dict)
    monkeypatch.setattr(node, "get_logger", lambda: SimpleNamespace(warning=logged.append))
    monkeypatch.setattr(diagnostics, "publish", lambda: published.append(diagnostics.problem))
    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    for now_s in (0.0, 4.0, 4.5, 9.0, 9.6, 10.0):
        diagnostics.report("" if now_s == 4.0 else f"no picture for {now_s} s", passing=True)
    assert logged == ["no picture for 9.6 s"]
    assert published == ["no picture for 0.0 s", "", "no picture for 4.5 s"]
    assert diagnostics.problem == "no picture for 10.0 s"
    diagnostics.report("broken")
    assert logged[1:] == ["broken"]
    for now_s in (11.0, 13.0, 14.0, 17.0, 20.9, 21.0):  # far away, broken again for a while, and far away as before
        diagnostics.report("broken" if now_s in (14.0, 17.0, 20.9) else f"{now_s} m away")
    assert logged[2:] == ["11.0 m away", "21.0 m away"]
    node.destroy_node()


def test_ctrl_c_while_a_node_starts_is_no_traceback() -> None:
    child = subprocess.Popen(
        [sys.executable, "-P", "-X", "importtime", "-m", "robolearn_nodes.replay_node"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    for line in child.stderr:  # what was imported, as it goes
        if "robolearn.ros" in line:
            break
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=100)[1]
    assert "Traceback" not in said
    assert child.returncode in (-signal.SIGINT, 0, 2)  # 2: it had begun, and found that it has no dataset


def test_a_second_signal_does_not_cut_the_end_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where systemd tells the node, and the launcher tells it again."""
    monkeypatch.setattr(sys, "argv", ["node"])
    ended = []

    class Ending(Node):
        def destroy_node(self) -> None:
            signal.raise_signal(signal.SIGINT)
            super().destroy_node()
            ended.append(True)

    assert run(lambda: Ending("ending"), lambda node: signal.raise_signal(signal.SIGTERM)) == 0
    assert ended
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
