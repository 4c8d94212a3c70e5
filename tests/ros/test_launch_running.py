"""Running launch files: real processes, real signals, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from robolearn.errors import BAD_INPUT_EXIT_CODE, LaunchError
from robolearn.ros.launch import LaunchDescription, Launcher, load, run
from robolearn.ros.launch.output import Output

PATIENCE_S = 30.0
# A node: writes its process id, says that it is ready, and does what the test wants until it is interrupted.
NODE = """
import os, signal, subprocess, sys, time
from pathlib import Path
here = Path(__file__).parent
(here / f"{sys.argv[1]}.pid").write_text(str(os.getpid()))
BODY
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
CHILD = 'child = subprocess.Popen(["sleep", "60"]); (here / "child.pid").write_text(str(child.pid))'
STUBBORN = "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)]"


def node(directory: Path, name: str = "node", body: str = "") -> str:
    """The command of a node whose program stands in `directory`."""
    path = directory / f"{name}.py"
    path.write_text(NODE.replace("BODY", body))
    return f"{sys.executable} {path} {name}"


def launch(directory: Path, *actions: str) -> LaunchDescription:
    path = directory / "a.launch.yaml"
    path.write_text("launch:\n" + "\n".join(f"- {action}" for action in actions or ["log: {message: hello}"]))
    return load(path)


def executable(command: str, *more: str, output: str = "screen") -> str:
    return "executable: {" + ", ".join([f'cmd: "{command}"', f"output: {output}", *more]) + "}"


def sh(script: str, *more: str, output: str = "screen") -> str:
    return executable(f"sh -c '{script}'", "name: sh", *more, output=output)


def is_running(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children_of(pid: int) -> set[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def pid_of(directory: Path, name: str = "node") -> int:
    path = directory / f"{name}.pid"
    until(lambda: path.exists() and path.read_text() != "")
    return int(path.read_text())


def ran(description: LaunchDescription, log_dir: Path | None = None) -> tuple[int, list[str]]:
    lines: list[str] = []
    return run(description, log=lines.append, log_dir=log_dir), lines


# --- output and exit codes --------------------------------------------------------------------------------------------


def test_lines_come_with_the_name_of_their_process(tmp_path: Path) -> None:
    code, lines = ran(launch(tmp_path, "log: {message: hello}", sh("echo one; echo two >&2; printf three")))
    assert code == 0
    assert lines[0] == "[INFO] [launch.user]: hello"
    assert re.fullmatch(r"\[INFO\] \[sh-1\]: process started with pid \[\d+\]", lines[1])
    assert sorted(lines[2:5]) == ["[sh-1] one", "[sh-1] three", "[sh-1] two"]
    assert re.fullmatch(r"\[INFO\] \[sh-1\]: process has finished cleanly \[pid \d+\]", lines[5])
    assert len(lines) == 6


def test_where_output_goes(tmp_path: Path) -> None:
    """Without a log directory, what native launch writes to a file alone is dropped."""
    script = "echo out; echo err >&2"
    description = launch(tmp_path, *(sh(script, output=output) for output in ("log", "both", "own_log", "full")))
    expected = {"[sh-1] err", "[sh-2] out", "[sh-2] err", "[sh-4] out", "[sh-4] err"}

    _, lines = ran(description)
    assert {line for line in lines if not line.startswith("[INFO]")} == expected
    _, lines = ran(description, tmp_path / "logs")
    assert {line for line in lines if not line.startswith("[INFO]")} == expected

    (directory,) = (tmp_path / "logs").iterdir()
    logged = (directory / "launch.log").read_text()
    for number, both in enumerate((True, True, False, True), start=1):
        assert (f"[sh-{number}] out" in logged) is both
        assert (f"[sh-{number}] err" in logged) is both
    assert (directory / "sh-3-stdout.log").read_text() == "out\n"
    assert (directory / "sh-4-stderr.log").read_text() == "err\n"
    assert "process has finished cleanly" in logged


def test_bytes_that_are_no_text_and_lines_without_end(tmp_path: Path) -> None:
    (tmp_path / "n.py").write_text(
        "import sys; w = sys.stdout.buffer.write; w(b'\\xff\\xc3\\r\\n'); w(b'x' * 3_000_000 + b'\\n')"
    )
    code, lines = ran(launch(tmp_path, executable(f"{sys.executable} {tmp_path}/n.py", "name: n")))
    assert code == 0
    assert "[n-1] \ufffd\ufffd" in lines
    assert sum(line.count("x") for line in lines if line.startswith("[n-1] x")) == 3_000_000


def test_exit_codes(tmp_path: Path) -> None:
    assert ran(launch(tmp_path))[0] == 0
    code, lines = ran(launch(tmp_path, sh("exit 0"), sh("exit 3")))
    assert code == 1
    assert any("[sh-2]: process has died" in line and "exit code 3" in line for line in lines)
    assert ran(launch(tmp_path, sh("kill -SEGV $$")))[0] == 1


@pytest.mark.parametrize(("exit_code", "expected"), [(0, 0), (4, 1)])
def test_the_end_of_a_required_process_is_the_end(tmp_path: Path, exit_code: int, expected: int) -> None:
    description = launch(tmp_path, executable("sleep 60"), sh(f"exit {exit_code}", "on_exit: shutdown"))
    code, lines = ran(description)
    assert code == expected
    assert "[INFO] [launch]: process[sh-2] was required: shutting down launched system" in lines
    assert "[INFO] [sleep-1]: sending signal 'SIGINT' to process[sleep-1]" in lines


def test_a_program_that_cannot_run(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("#!/no/such/interpreter\n")
    (tmp_path / "bad").chmod(0o755)
    code, lines = ran(launch(tmp_path, executable(f"{tmp_path}/bad"), executable("ls", "cwd: /no/such/directory")))
    assert code == 1
    assert any(f"cannot run {tmp_path}/bad" in line for line in lines)
    assert any("cannot start 'ls'" in line for line in lines)


# --- nodes ------------------------------------------------------------------------------------------------------------


def test_a_node_of_a_package_gets_its_parameters_and_its_file_is_removed(tmp_path: Path) -> None:
    package = tmp_path / "fake_cell"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "arm_node.py").write_text(
        "import os, sys\n"
        "print(sys.argv[sys.argv.index('--params-file') + 1], sys.argv[-1], sep='\\n')\n"
        "print(open(sys.argv[-1]).read().strip(), os.environ['PYTHONUNBUFFERED'])"
    )
    (tmp_path / "p.yaml").write_text("/**: {ros__parameters: {speed: 1.0}}")
    description = launch(
        tmp_path,
        f"set_env: {{name: PYTHONPATH, value: {tmp_path}}}",
        "node: {pkg: fake_cell, exec: arm_node, output: screen, "
        "param: [{from: $(dirname)/p.yaml}, {from: $(dirname)/p.yaml, allow_substs: true}]}",
    )
    code, lines = ran(description)
    assert code == 0
    output = [line.removeprefix("[arm_node-1] ") for line in lines if line.startswith("[arm_node-1]")]
    assert output[0] == str(tmp_path / "p.yaml")
    assert not Path(output[1]).exists()
    assert not Path(output[1]).parent.exists()
    assert output[2] == "/**: {ros__parameters: {speed: 1.0}} 1"


def test_shell_and_prefix_and_directory(tmp_path: Path) -> None:
    description = launch(
        tmp_path,
        executable("echo a | tr a b; pwd", "shell: true", "name: s", f"cwd: {tmp_path}"),
        executable("printenv X", "launch-prefix: env X=prefixed", "name: p"),
    )
    _, lines = ran(description)
    assert {"[s-1] b", f"[s-1] {tmp_path}", "[p-2] prefixed"} <= set(lines)


# --- time and restarts ------------------------------------------------------------------------------------------------


def test_a_process_respawns_as_often_as_it_may(tmp_path: Path) -> None:
    restart = ('respawn: "true"', "respawn_delay: 0.05", "respawn_max_retries: 2")
    code, lines = ran(launch(tmp_path, sh(f"echo x >> {tmp_path}/lives; exit 5", *restart)))
    assert code == 1
    assert (tmp_path / "lives").read_text() == "x\n" * 3
    assert sum("process has died" in line for line in lines) == 3


def test_a_process_whose_input_is_wrong_ends_the_launch_and_is_not_started_again(tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/lives; echo CellError: no such file >&2; echo >&2; exit {BAD_INPUT_EXIT_CODE}"
    code, lines = ran(launch(tmp_path, executable("sleep 60"), sh(script, 'respawn: "true"', "respawn_delay: 0.05")))
    assert code == 2
    assert (tmp_path / "lives").read_text() == "x\n"
    (died,) = [line for line in lines if "process has died" in line]
    assert died.startswith("[ERROR] [sh-2]: process has died [pid ")
    assert died.endswith(f", exit code {BAD_INPUT_EXIT_CODE}]: CellError: no such file")
    assert "[ERROR] [launch]: process[sh-2] cannot be mended by another try: shutting down" in lines


def test_a_process_that_recovers_is_no_failure(tmp_path: Path) -> None:
    script = f"test -e {tmp_path}/again || {{ touch {tmp_path}/again; exit 5; }}"
    assert ran(launch(tmp_path, sh(script, 'respawn: "true"', "respawn_max_retries: 1")))[0] == 0


def test_the_end_interrupts_the_wait_for_a_respawn(tmp_path: Path) -> None:
    lines: list[str] = []
    description = launch(tmp_path, sh("exit 5", 'respawn: "true"', "respawn_delay: 600.0"))
    with Launcher(description, log=lines.append) as launcher:
        until(lambda: any("process has died" in line for line in lines))
        assert launcher.alive
    assert launcher.exit_code == 0


def test_timers_and_shutdown(tmp_path: Path) -> None:
    description = launch(
        tmp_path,
        executable("sleep 60"),
        "timer: {period: 0.1, children: [{log: {message: first}}, {shutdown: {reason: enough}}]}",
        "timer: {period: 60.0, children: [{log: {message: never}}]}",
    )
    code, lines = ran(description)
    assert code == 0
    assert lines.index("[INFO] [launch.user]: first") < lines.index("[INFO] [launch]: shutdown: enough")
    assert not any("never" in line for line in lines)


# --- the end ----------------------------------------------------------------------------------------------------------

RUNNER = """
import sys
from robolearn.ros.launch import load, run
sys.exit(run(load(sys.argv[1]), log=lambda line: print(line, flush=True)))
"""


def launcher_process(description: LaunchDescription, prefix: str = "exec") -> subprocess.Popen[str]:
    command = ["sh", "-c", f'{prefix} "$@"', "sh", sys.executable, "-c", RUNNER, str(description.path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_ends_everything(tmp_path: Path, number: signal.Signals) -> None:
    """Also where the launcher's own parent ignores SIGINT, as a shell does for jobs in the background."""
    description = launch(tmp_path, executable(node(tmp_path), "name: node"), executable("sleep 60"))
    prefix = "trap '' INT; exec" if number == signal.SIGTERM else "exec"
    with launcher_process(description, prefix) as launcher:
        pid = pid_of(tmp_path)
        assert launcher.stdout is not None
        while "ready" not in launcher.stdout.readline():
            pass
        launcher.send_signal(number)
        output = launcher.stdout.read()
    assert launcher.returncode == 0
    assert f"[WARNING] [launch]: user interrupted with {'ctrl-c (SIGINT)' if number == 2 else 'SIGTERM'}" in output
    assert "[node-1] interrupted" in output
    assert "escalating" not in output
    assert not is_running(pid)


def test_signals_escalate_and_reach_grandchildren(tmp_path: Path) -> None:
    timeouts = ("sigterm_timeout: 0.2", "sigkill_timeout: 0.2")
    command = executable(node(tmp_path, body=f"{STUBBORN}\n{CHILD}"), "name: node", *timeouts)
    lines: list[str] = []
    with Launcher(launch(tmp_path, command), log=lines.append):
        until(lambda: "[node-1] ready" in lines)
    assert not is_running(pid_of(tmp_path))
    assert not is_running(pid_of(tmp_path, "child"))
    signals = [match[1] for line in lines if (match := re.search(r"sending signal '(\w+)'", line))]
    assert signals == ["SIGINT", "SIGTERM", "SIGKILL"]
    assert any(
        "failed to terminate '0.2' seconds after receiving 'SIGTERM', escalating to 'SIGKILL'" in x for x in lines
    )


def test_children_that_a_process_leaves_behind_are_ended(tmp_path: Path) -> None:
    code, lines = ran(launch(tmp_path, executable(node(tmp_path, body=f"{CHILD}\nsys.exit(0)"), "name: node")))
    assert code == 0
    assert not is_running(pid_of(tmp_path, "child"))
    assert any("left children behind" in line for line in lines)


def test_nothing_survives_a_launcher_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL cannot be handled: the guard interrupts the nodes, so that they end as on Ctrl-C."""
    body = f"{CHILD}\n" + 'import atexit; atexit.register((here / "goodbye").touch)'
    description = launch(tmp_path, executable(node(tmp_path, body=body), "name: node"), executable("sleep 60"))
    with launcher_process(description) as launcher:
        assert launcher.stdout is not None
        output = ""
        while "ready" not in output or output.count("process started") < 2:
            output += launcher.stdout.readline()
        pids = {*children_of(launcher.pid), pid_of(tmp_path, "child")}
        launcher.kill()
    assert len(pids) == 4  # two nodes, the child of one of them, and the guard
    until(lambda: not any(is_running(pid) for pid in pids))
    assert (tmp_path / "goodbye").exists()


def test_the_launcher_lives_on_when_its_guard_is_killed(tmp_path: Path) -> None:
    lines: list[str] = []
    restart = ('respawn: "true"', "respawn_delay: 0.1")
    with Launcher(launch(tmp_path, executable(node(tmp_path), "name: node", *restart)), log=lines.append):
        until(lambda: "[node-1] ready" in lines)
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children_of(os.getpid())}
        (guard,) = (pid for pid, command in commands.items() if b"guard.py\0watch" in command)
        os.kill(guard, signal.SIGKILL)
        os.kill(pid_of(tmp_path), signal.SIGKILL)
        until(lambda: lines.count("[node-1] ready") == 2)
    assert not is_running(pid_of(tmp_path))


# --- in a program -----------------------------------------------------------------------------------------------------


def test_a_launcher_in_a_program(tmp_path: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    seen: list[tuple[str, str]] = []
    description = launch(tmp_path, executable(node(tmp_path), "name: node", output="own_log"))
    launcher = Launcher(description, on_output=lambda name, line: seen.append((name, line)))
    assert not launcher.alive
    with pytest.raises(LaunchError, match="was not started"):
        launcher.wait()
    with pytest.raises(LaunchError, match="was not started"):
        launcher.stop()
    launcher.start()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)] == handlers
    until(lambda: ("node-1", "ready") in seen)
    assert launcher.alive
    assert launcher.wait(0.01) is None
    assert launcher.stop() == 0
    assert not launcher.alive
    assert launcher.stop() == 0
    assert seen == [("node-1", "ready"), ("node-1", "interrupted")]
    with pytest.raises(LaunchError, match="make a new Launcher"):
        launcher.start()


def test_an_error_in_a_callback_ends_the_launch_in_order(tmp_path: Path) -> None:
    def refuse(name: str, line: str) -> None:
        raise BrokenPipeError("nobody reads")

    lines: list[str] = []
    launcher = Launcher(launch(tmp_path, executable(node(tmp_path), "name: node")), log=lines.append, on_output=refuse)
    launcher.start()
    with pytest.raises(BrokenPipeError, match="nobody reads"):
        launcher.wait(PATIENCE_S)
    assert not is_running(pid_of(tmp_path))
    assert any("sending signal 'SIGINT'" in line for line in lines)


def test_a_log_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match="cannot write logs"):
        run(launch(tmp_path), log=print, log_dir=tmp_path / "file")


def test_a_full_disk_ends_the_log_files_and_not_the_launch(tmp_path: Path) -> None:
    lines: list[str] = []
    output = Output(lines.append, None, tmp_path)
    assert output.directory is not None
    (output.directory / "launch.log").symlink_to("/dev/full")
    for text in ("one", "two"):
        output.event("INFO", "launch", text)
    output.close()
    one, ending, two = lines
    assert (one, two) == ("[INFO] [launch]: one", "[INFO] [launch]: two")
    assert "No space left on device; the log files end here" in ending
