"""Work in processes: each fails alone, none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from robolearn.errors import RobolearnError, SpecError
from robolearn.recipes.workers import Failure, work_each


def work(job: str) -> object:
    """What the job says; `stay` leaves a file named by its process and does not end, `apart` names who asked."""
    if job.startswith("stay "):
        Path(job[5:], str(os.getpid())).touch()
        time.sleep(60)
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "refuse":
        raise RobolearnError("no such thing")
    if job == "break":
        return {}["missing"]
    return {"apart": os.getpid() != int(job.removeprefix("apart "))}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pids: list[int]) -> bool:
    """Whether they end within a while."""
    end_s = time.monotonic() + 20.0
    while any(map(alive, pids)) and time.monotonic() < end_s:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_each_fails_alone_and_results_do_not_hang_on_the_number_of_workers() -> None:
    jobs = dict(enumerate([f"apart {os.getpid()}", "die", "refuse", "break"]))
    came: list[int] = []
    results = work_each(work, jobs, 4, 60.0, lambda name, result: came.append(name))
    assert list(results) == [0, 1, 2, 3]
    assert results == work_each(work, jobs, 1, 60.0)
    assert results[0] == {"apart": True}
    assert [isinstance(result, Failure) for result in results.values()] == [False, True, True, True]
    assert "was killed by SIGKILL" in results[1].why
    assert results[2].why == "no such thing"
    assert results[3].why == "KeyError: 'missing'"
    assert sorted(came) == [0, 1, 2, 3]
    with pytest.raises(SpecError, match="expected at least 1"):
        work_each(work, jobs, 0, 1.0)


def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    results = work_each(work, {1: f"stay {tmp_path}"}, 1, 2.0)
    assert results[1].why == "it took longer than 2 s"
    assert gone([int(file.name) for file in tmp_path.iterdir()])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_whoever_asked(tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C reaches all processes of a terminal; SIGKILL only ours."""
    program = (
        "from test_workers import work; from robolearn.recipes.workers import work_each\n"
        f"if __name__ == '__main__': work_each(work, {{1: 'stay {tmp_path}', 2: 'stay {tmp_path}'}}, 2, 60.0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end_s = time.monotonic() + 60.0
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < end_s:
        time.sleep(0.05)
    pids = [int(file.name) for file in tmp_path.iterdir()]
    assert len(pids) == 2
    if how == signal.SIGINT:
        os.killpg(process.pid, how)
    else:
        process.kill()
    assert gone(pids)
    told = process.communicate(timeout=20.0)[1]
    assert told.count("Traceback") == (how == signal.SIGINT)  # ours alone
