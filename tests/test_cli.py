"""The command line: dispatch, one-line errors, exit codes."""

from __future__ import annotations

import inspect
import io
import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from painted import dataset_spec

from robolearn import cli
from robolearn.algorithms import ALGORITHMS
from robolearn.cli import bench
from robolearn.cli.output import counted, print_json, print_table
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import RobolearnError, UnknownNameError
from robolearn.progress import ProgressBar

ROOT = Path(__file__).parents[1]
CELLS = ROOT / "hardware" / "cells"


def robolearn(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "robolearn.cli", *words], capture_output=True, text=True, timeout=100)


def test_closed_streams_are_no_error_and_take_no_files(tmp_path: Path) -> None:
    collect = "collect reach-v1 --episodes 1 --image-size 0 --out demos.zarr <&- >&- 2>&-"
    for words in ("tasks >&-", collect):
        command = f"{sys.executable} -m robolearn.cli {words}"
        assert subprocess.run(command, shell=True, cwd=tmp_path, timeout=100).returncode == 0
    assert len(ZarrStore.open(tmp_path / "demos.zarr").episodes) == 1


def test_a_reader_that_goes_away_is_no_answer() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-m", "robolearn.cli", "tasks"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_letter_that_the_output_cannot_show_is_escaped(tmp_path: Path) -> None:
    ZarrStore.create(tmp_path / "größe.zarr", dataset_spec())
    command = [sys.executable, "-m", "robolearn.cli", "dataset", "info", "größe.zarr"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"gr\xf6\xdfe.zarr" in done.stdout


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.run([*name.split(), "--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert f"Example: robolearn {name}" in out
    told = re.findall(r"^    (\w+): \S", cli.help_text(cli.COMMANDS[name]).partition("\nArgs:\n")[2], re.MULTILINE)
    assert set(told) == set(inspect.signature(cli.COMMANDS[name]).parameters)
    assert "as JSON" in out or "--json" not in out
    shown = re.sub(r"[\s│]+", " ", out)
    assert "None" not in shown
    assert "(default: )" not in shown
    for parameter in inspect.signature(cli.COMMANDS[name]).parameters.values():
        if type(parameter.default) in (int, float):
            assert f"(default: {parameter.default})" in shown


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in cli.COMMANDS)
    assert "Practise a task and the one that undoes it, in turn, with nobody resetting the table." in " ".join(
        out.split()
    )


def test_help_lists_every_command_without_docstrings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of Python -OO."""
    monkeypatch.setitem(cli.COMMANDS, "tasks", lambda: 0)
    assert cli.run(["--help"]) == 0
    assert "tasks" in capsys.readouterr().out.split()


def test_help_of_train_names_every_algorithm() -> None:
    assert set(ALGORITHMS) <= set(re.findall(r"\w+", cli.help_text(cli.COMMANDS["train"])))


@pytest.fixture(scope="module")
def dataset_x(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dataset x.zarr."""
    folder = tmp_path_factory.mktemp("mistakes")
    ZarrStore.create(folder / "x.zarr", dataset_spec())
    return folder


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["evalute"], "unknown command 'evalute'; did you mean evaluate"),
        (["dataset", "inof"], "did you mean dataset info"),
        (["collect"], "Missing from robolearn collect: TASK"),
        (["collect", "push-v1", "--out", "x", "--episodes", "many"], "invalid literal for int() with base 10: 'many'"),
        (["demo", "--fats"], "did you mean --fast?"),
        (["record", "--twin", "push-v1", "--teleop", "gamepda", "--out", "x.zarr"], "did you mean gamepad?"),
        (["record", "--cell", str(CELLS / "so101.yaml"), "--out", "y.zarr"], "no calibration at"),
        (["dataset", "info", "."], "it has no zarr.json; name a folder that `robolearn collect` wrote, or convert"),
        (["label", "x.zarr", "--reward", "runs/nothing"], "runs/nothing is not a reward model; it does not exist"),
        (["label", "y.zarr", "--reward", "vlm", "--goal", "it is done"], "y.zarr does not exist; name a folder that"),
        (["train", "saac", "--task", "push-v1"], "unknown algorithm 'saac'; did you mean sac"),
        (["train", "sac", "--task", "tool:psh-v1"], "unknown task 'psh-v1'; did you mean push-v1"),
        (["train", "bc", "--dataset", "y.zarr"], "y.zarr does not exist; name a folder that"),
        (
            ["train", "sac", "--task", "push-v1", "--offline-data", "y.zarr"],
            "y.zarr does not exist; name a folder that",
        ),
        (["train", "sac", "--task", "push-v1", "--init-from", "y"], "y/checkpoints/latest is not a checkpoint"),
        (["finetune", "--task", "psh-v1"], "did you mean push-v1"),
        (["finetune", "--task", "push-v1", "--demos", "y.zarr"], "y.zarr does not exist; name a folder that"),
        (["finetune", "--things-back", "x.zarr"], "x.zarr is not a run to resume; it has no config.yaml"),
        (
            ["finetune", "--task", "push-v1", "--demos", "x.zarr", "--set", "things=unsen"],
            "setting things is 'unsen'; expected one of 'seen', 'unseen'",
        ),
        (["train", "bc", "--dataset", "x.zarr", "--device", "tpu"], "device is 'tpu'; expected cpu or cuda"),
        (
            ["sweep", "sac", "--task", "gym:Pendulum-v1", "--search", "utd=1|2", "--device", "tpu"],
            "device is 'tpu'; expected cpu or cuda",
        ),
        (["train", "bc", "--dataset", "x.zarr", "--set", "batch_size=-4"], "batch_size is -4; expected at least 1"),
        (["train", "dsac", "--dataset", "x.zarr", "--set", "policy_delay=0"], "policy_delay is 0; expected at least 1"),
        (
            ["train", "flow", "--dataset", "x.zarr", "--set", "policy.flow_steps=0"],
            "policy.flow_steps is 0; expected at",
        ),
        (["train", "flow", "--dataset", "x.zarr", "--set", "draws=0"], "draws is 0; expected at least 1"),
        (
            ["reward", "train", "success", "--dataset", "x.zarr", "--out", "y", "--false-positive-rate", "2"],
            "false_positive_rate is 2; expected a share between 0 and 1",
        ),
        (["train", "sac", "--task", "gym:Pendulum-v1", "--set", "discount=3"], "discount is 3; expected a number from"),
        (["train", "bc", "--dataset", "x.zarr", "--set", "policy.hidden_sizes=8,0"], "expected sizes of at least 1"),
        (["reward", "train", "hop", "--dataset", "x.zarr", "--out", "x", "--steps", "0"], "0 steps of batches of 64"),
        (["reward", "train", "hop", "--dataset", "x.zarr", "--out", "/proc/x"], "/proc/x cannot be written"),
        (["finetune", "--task", "push-v1", "--demos", "x.zarr", "--steps", "-4"], "max_steps is -4; expected at least"),
        (
            ["finetune", "--task", "push-v1", "--reward-model=y", "--demos", "x.zarr", "--reward_model", "z"],
            "finetune: --reward-model is given 2 times; give all its values behind one",
        ),
        (
            ["train", "bc", "--dataset", "x.zarr", "--set", "batch_size=4", "--set", "seed=1"],
            "train: --set is given 2 times; give all its values behind one",
        ),
    ],
)
def test_a_mistake_gives_one_line(
    words: list[str], wanted: str, dataset_x: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dataset_x)
    with pytest.raises(RobolearnError) as error:
        cli.run(words)
    assert wanted in str(error.value)
    assert "\n" not in str(error.value)


def test_on_a_coloured_terminal_a_mistake_is_told_in_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for terminal in (False, True):
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal)
        monkeypatch.setenv("TERM", "xterm-256color")
        with pytest.raises(RobolearnError) as error:
            cli.run(["collect", "push-v1", "--out", "x", "--episods", "3"])
        told.append(str(error.value))
    assert told[0] == told[1]
    assert "Unrecognized options: --episods, 3; did you mean --episodes?" in told[0]


def test_errors_reach_the_shell_as_one_line_and_exit_code_2() -> None:
    answer = robolearn("launch", "twni", "--show-args")
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "did you mean twin?" in answer.stderr
    assert "Traceback" in robolearn("--debug", "launch", "twni", "--show-args").stderr


def test_what_a_library_says_in_several_lines_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(words: list[str]) -> int:
        raise OSError("Can't close file (time = Thu\n, errno = 28)")

    monkeypatch.setattr(cli, "run", full)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["tasks"])
    assert (exit_.value.code, capsys.readouterr().err) == (2, "robolearn: Can't close file (time = Thu , errno = 28)\n")


def test_files_that_are_too_large_or_too_deep_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["evaluate", str(tmp_path), "--task", "push-v1"])
    said = capsys.readouterr().err
    assert (exit_.value.code, said.count("\n")) == (2, 1)
    assert said.startswith("robolearn: what is asked for is nested too deeply")
    monkeypatch.setattr(cli, "run", lambda words: np.empty(1 << 50))
    with pytest.raises(SystemExit):
        cli.main(["tasks"])
    assert capsys.readouterr().err.startswith(
        "robolearn: what is asked for does not fit into memory: Unable to allocate"
    )
    monkeypatch.setattr(cli, "run", lambda words: torch.empty(1 << 50))
    with pytest.raises(SystemExit):
        cli.main(["tasks"])
    assert re.fullmatch(
        r"robolearn: what is asked for does not fit into memory: .*can't allocate memory.*\n", capsys.readouterr().err
    )


def test_no_more_threads_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def crowded(*given: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(cli, "run", crowded)
    with pytest.raises(SystemExit) as exit_:
        cli.main(["tasks"])
    told = "needs more threads than you may have; end some programs, or raise `ulimit -u` or `ulimit -v`"
    said = f"robolearn: what is asked for {told}: can't start new thread\n"
    assert (exit_.value.code, capsys.readouterr().err) == (2, said)


@pytest.mark.parametrize("ignored", [False, True])
def test_sigterm_and_a_lost_terminal_do_what_ctrl_c_does_once(
    monkeypatch: pytest.MonkeyPatch, ignored: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where Ctrl-C is ignored, as in a script's background jobs. The terminal is a real one that is gone."""
    done = []

    def work(words: list[str]) -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
            done.append("went on")
        finally:
            signal.raise_signal(signal.SIGHUP)
            os.write(2, b"saved")
            signal.raise_signal(signal.SIGTERM)
            done.append("saved")
        return 0

    monkeypatch.setattr(cli, "run", work)
    ours, theirs = pty.openpty()
    kept = os.dup(2)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    os.dup2(theirs, 2)
    os.close(theirs)
    os.close(ours)
    try:
        with pytest.raises(SystemExit) as exit_:
            cli.main(["train"])
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        signal.signal(signal.SIGINT, before)
    assert (exit_.value.code, done) == (130, ["saved"])
    assert capsys.readouterr().err == "robolearn: interrupted; nothing is left running\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_json_answers_are_one_object_on_stdout() -> None:
    answer = robolearn("tasks", "--json")
    assert answer.returncode == 0
    tasks = json.loads(answer.stdout)["tasks"]
    assert "pick_place-v1" in [task["id"] for task in tasks]
    assert all(task["stages"] and task["instruction"] for task in tasks)
    for task in tasks:
        assert task["backward_task"] in [other["id"] for other in tasks]
        assert task["expert_success"][task["robot"]] >= (0.8 if "cloth" in task["id"] else 0.95), task["id"]


def test_numbers_that_json_does_not_know_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("inf"), "rows": [(1.0, float("nan"))], "steps": 3})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "loss": None,
        "rows": [[1.0, None]],
        "steps": 3,
    }


def test_the_rate_of_a_resumed_run_leaves_out_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr("robolearn.progress.time.monotonic", lambda: now_s)
    told = io.StringIO()
    bar = ProgressBar("train", 10_000, "step", told)
    for now_s, done in ((101.0, 5_000), (107.0, 5_600), (117.0, 10_000)):  # noqa: B007
        bar.update(done)
    first, last = told.getvalue().splitlines()
    assert "5600/10000 steps, 100.0/s, 44 s left" in first
    assert "312.5/s" in last


def test_one_is_not_counted_in_the_plural() -> None:
    assert [counted(number, "episode") for number in (0, 1, 2)] == ["0 episodes", "1 episode", "2 episodes"]


def test_near_misses_are_named() -> None:
    assert (
        str(UnknownNameError("task", "psh-v1", ["push-v1", "lift-v1"]))
        == "unknown task 'psh-v1'; did you mean push-v1?"
    )
    assert str(UnknownNameError("task", "zzz", ["push-v1", "lift-v1"])) == "unknown task 'zzz'; known: lift-v1, push-v1"
    assert str(UnknownNameError("task", "nosuch-v1", ["push-v1"])) == "unknown task 'nosuch-v1'; known: push-v1"
    assert "did you mean push-v1 or push-v2?" in str(UnknownNameError("task", "push-v3", ["push-v1", "push-v2"]))
    assert str(UnknownNameError("setting", "nonsense", ["loss"])) == "unknown setting 'nonsense'; known: loss"
    assert str(UnknownNameError("node", "/twin", [])) == "unknown node '/twin'; known: none"


def test_tables_keep_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("t", ("loop p50 [ms]",), [("[1, 2]",), ("[red]",)])
    out = capsys.readouterr().out
    assert "loop p50 [ms]" in out
    assert "[1, 2]" in out
    assert "[red]" in out
    print_table("what a narrow table tells", ("id",), [(1,)])
    assert capsys.readouterr().out.splitlines()[0] == "what a narrow table tells"
    print_table("t", ("id",), [])
    assert not capsys.readouterr().out
    print_table("t", ("", ""), [("episodes", 3)])
    assert "┡" not in capsys.readouterr().out  # no row of empty words


def plain(text: str) -> str:
    """Without the codes of a terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_table_as_wide_as_the_terminal_cuts_no_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    print_table("t", ("id", "what it is"), [("pick_place_back-v1", "take the red cube off the green plate " * 2)])
    out = plain(capsys.readouterr().out)
    assert all(word in out for word in ("pick_place_back-v1", "what it is", "green", "plate"))
    assert {len(line) for line in out.splitlines()[1:]} <= {40}
    print_table("t", ("id", "what"), [("x" * 30, "y" * 30)])  # no room: folded, nothing is lost
    out = capsys.readouterr().out
    assert (out.count("x"), out.count("y")) == (30, 30)


@pytest.mark.parametrize(("columns", "lines"), [(80, 2), (140, 1)])
def test_a_bar_keeps_its_numbers_and_its_text_in_any_width(
    columns: int, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    text = "return -1436.5, evaluated -1447.8, 19 updates/s"
    with ProgressBar("train sac", 1100, "step", terminal) as bar:
        bar.update(1000, text)
    shown = [line for line in plain(terminal.getvalue()).splitlines() if line.strip()]
    assert "1000/1100" in shown[-lines]
    assert text in shown[-1]
    assert max(map(len, shown[-lines:])) <= columns


def test_resume_takes_no_other_steps_or_folder() -> None:
    with pytest.raises(RobolearnError, match="leave out --steps, --out and --set"):
        cli.run(["train", "bc", "--dataset", "x", "--resume", "y", "--steps", "3"])
    for more in (["--reward", "success"], ["--num-envs", "4"], ["--seed", "1"], ["--compile"]):
        with pytest.raises(RobolearnError, match="what it was begun with"):
            cli.run(["train", "bc", "--resume", "y", *more])


def test_a_folder_that_cannot_be_made_is_one_line() -> None:
    answer = robolearn("demo", "--fast", "--out", "/proc/nope")
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "/proc/nope" in answer.stderr


def test_a_benchmark_runs_by_its_name_and_takes_what_follows() -> None:
    answer = robolearn("bench", "sim_speed", "--json", "--", "--help")
    assert answer.returncode == 0
    assert "usage: sim_speed.py" in answer.stdout
    mistake = robolearn("bench", "sim_spede")
    assert mistake.returncode == 2
    assert "did you mean sim_speed" in mistake.stderr
    scripts = [path for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.endswith("_peers")]
    assert all('"--json"' in path.read_text() for path in scripts)


def test_a_server_tells_of_its_clients_and_not_of_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        def __init__(self, *told: object) -> None:
            self.address = "tcp://127.0.0.1:1"

        def serve(self) -> None:
            assert logging.getLogger("robolearn.serving.server").isEnabledFor(logging.INFO)
            assert not logging.getLogger("OpenGL.acceleratesupport").isEnabledFor(logging.INFO)

        def close(self) -> None: ...

    monkeypatch.setattr("robolearn.serving.server.PolicyServer", Server)
    ours = logging.getLogger("robolearn")
    level = ours.level
    try:
        assert cli.run(["serve", "runs/any"]) == 0
    finally:
        ours.setLevel(level)


def test_what_record_shows_is_for_a_person_who_looks_at_the_robot(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (
        "[INFO] [robot_node-1]: process started with pid [7]",
        "[supervisor_node-5] [INFO] [1795873177.952] [supervisor]: episode 1 of 2 is being recorded",
        "[robot_node-1] [WARN] [1795873189.266421446] [robot]: the robot holds: emergency stop",
        "[robot_node-1] HardwareError: no answer",
        "[ERROR] [robot_node-1]: process has died",
    )
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    for line in lines:
        bench._say_plainly(line)
    assert capsys.readouterr().err.splitlines() == [
        "\aepisode 1 of 2 is being recorded",
        "robot: the robot holds: emergency stop",
        *lines[3:],
    ]


def test_who_records_without_a_terminal_is_told_that_no_key_is_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("robolearn.ros.launch.run", lambda *_, **__: 0)
    monkeypatch.setattr(bench, "_terminal", lambda: "")
    cell = CELLS / "so101_standin.yaml"
    assert bench.record(tmp_path / "d.zarr", cell=cell, teleop="scripted", task="wave") == 0
    assert "no key is read; name one, as --terminal /dev/pts/3, or add --web" in capsys.readouterr().err
