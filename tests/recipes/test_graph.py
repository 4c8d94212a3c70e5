"""Following a launched graph: results as they come, its errors, and nothing left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robolearn.errors import LaunchError, UnknownNameError
from robolearn.recipes import graph

SUPERVISOR = """
import json, pathlib, sys, time
results = pathlib.Path(sys.argv[1])
for number in range({rows}):
    with results.open("a") as file:
        file.write(json.dumps({{"number": number, "success": True}}) + "\\n")
    time.sleep(0.05)
{end}
"""


def launch_yaml(tmp_path: Path, rows: int, end: str) -> Path:
    """A launch file whose only process writes result rows and then does `end`; its pid lies in `pid`."""
    script = tmp_path / "supervisor.py"
    body = SUPERVISOR.format(rows=rows, end=end)
    script.write_text(
        f"import os, pathlib\npathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n{body}"
    )
    file = tmp_path / "fake.launch.yaml"
    file.write_text(
        "launch:\n- arg: {name: results}\n"
        f"- executable: {{cmd: '{sys.executable} {script} $(var results)', output: screen, on_exit: shutdown}}\n"
    )
    return file


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"


def test_results_are_followed_in_order(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    rows = graph.run_graph(
        str(launch_yaml(tmp_path, 3, "")),
        {},
        tmp_path / "results.jsonl",
        3,
        lambda done, row: told.append((done, row["number"])),
        tmp_path / "log",
    )
    assert [row["number"] for row in rows] == [0, 1, 2]
    assert told == [(1, 0), (2, 1), (3, 2)]


def test_a_graph_that_stops_early_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    end = "print('SpecError: the policy wants 7 joints', file=sys.stderr); sys.exit(2)"
    with pytest.raises(LaunchError, match=r"after 1 of 5 episodes: .*SpecError: the policy wants 7 joints"):
        graph.run_graph(
            str(launch_yaml(tmp_path, 1, end)), {}, tmp_path / "r.jsonl", 5, lambda done, row: None, tmp_path / "log"
        )


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["ctrl_c", "killed"])
def test_whatever_ends_the_parent_nothing_is_left_running(tmp_path: Path, end: signal.Signals) -> None:
    file = launch_yaml(tmp_path, 1, "time.sleep(100)")
    code = (
        "from pathlib import Path; from robolearn.recipes.graph import run_graph; "
        f"run_graph({str(file)!r}, {{}}, Path({str(tmp_path / 'r.jsonl')!r}), 5, lambda d, r: print('go', flush=True), "
        f"Path({str(tmp_path / 'log')!r}))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "go\n"
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    child.send_signal(end)
    child.wait(30)
    child.stdout.close()
    for _ in range(150):
        if not alive(pid):
            break
        time.sleep(0.1)
    assert not alive(pid)


def test_a_node_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    file = tmp_path / "fake.launch.yaml"
    file.write_text(
        "launch:\n- arg: {name: results}\n"
        f"- executable: {{cmd: '{sys.executable} -c \"import time; time.sleep(60)\"', output: screen}}\n"
        "- executable: {cmd: 'true', cwd: /nowhere, output: screen, on_exit: shutdown}\n"
    )
    with pytest.raises(LaunchError, match=r"after 0 of 1 episodes: \[ERROR\] .*cannot start 'true'"):
        graph.run_graph(str(file), {}, tmp_path / "r.jsonl", 1, lambda done, row: None, tmp_path / "log")


def test_half_a_line_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps({"a": 1}) + "\n" + '{"a": 2')
    assert graph._read_results(path) == [{"a": 1}]


def test_an_unknown_launch_file_names_the_near_miss(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean collect"):
        graph.run_graph("colect", {}, tmp_path / "r", 1, lambda done, row: None, tmp_path / "log")


def test_free_domain_is_one_where_nobody_listens() -> None:
    import socket

    domain = graph.free_domain_id()
    assert graph.FIRST_DOMAIN <= domain <= graph.LAST_DOMAIN
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 7410 + 250 * domain))
        assert graph.free_domain_id() != domain


def test_a_folder_named_like_the_package_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "robolearn").mkdir()
    monkeypatch.chdir(tmp_path)
    rows = graph.run_graph(
        str(launch_yaml(tmp_path, 1, "")), {}, tmp_path / "r.jsonl", 1, lambda done, row: None, tmp_path / "log"
    )
    assert len(rows) == 1
