"""Work in processes of their own, some at a time: one that dies or takes too long fails alone, and none outlives us."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from typing import Any

from robolearn.errors import RobolearnError, SpecError

LONGEST_WAIT_S = 60.0  # the operating system knows none of months

Work = Callable[[Any], Any]
"""A function of a module, from one picklable value to one that JSON knows."""


@dataclass(frozen=True)
class Failure:
    """Why there is no result, in one line."""

    why: str


@dataclass(frozen=True)
class _Running:
    name: int
    process: BaseProcess
    deadline_s: float


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def process_pool(
    processes: int, context: ForkServerContext, begin: Callable[..., None], *given: Any, remedy: str
) -> ProcessPoolExecutor:
    """Each of the processes begins with `begin(*given)`. remedy: what goes without them.

    Raises RobolearnError where the system has no place for their locks, as in a small or read-only /dev/shm.
    """
    try:
        return ProcessPoolExecutor(processes, context, begin, given)
    except OSError as error:
        raise RobolearnError(
            f"processes side by side need locks in /dev/shm ({error}); let it be written to and give it more room, in "
            f"a container by --shm-size=64m, or {remedy}"
        ) from error


def require_work(workers: int, timeout_s: float) -> None:
    """Raises SpecError for less than one worker or no time."""
    if workers < 1 or not timeout_s > 0.0:
        raise SpecError(f"{workers} workers with {timeout_s:g} s each; expected at least 1, and more than 0 s")


def work_each(
    work: Work,
    jobs: Mapping[int, Any],
    workers: int,
    timeout_s: float,
    done: Callable[[int, Any], None] = lambda name, result: None,
) -> dict[int, Any]:
    """The result of `work` on each job, by its name, or a Failure; each in a process of its own, `workers` at a
    time, forked from one that has read the module of `work` and knows no GPU.

    What comes out does not hang on `workers`. timeout_s: for each. done: called with each as it comes; what it raises,
    Ctrl-C as well, ends all of them.
    """
    require_work(workers, timeout_s)
    waiting, running, results = deque(jobs.items()), dict[Connection, _Running](), dict[int, Any]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, job = waiting.popleft()
                _start(running, name, work, job, timeout_s)
            soonest_s = min(one.deadline_s for one in running.values())
            ready = set(wait(list(running), min(max(soonest_s - time.monotonic(), 0.0), LONGEST_WAIT_S)))
            late = {pipe for pipe, one in running.items() if one.deadline_s <= time.monotonic()}
            for pipe in [one for one in running if one in ready | late]:
                one = running[pipe]
                result = _received(pipe, one) if pipe in ready else Failure(f"it took longer than {timeout_s:g} s")
                _end(pipe, one)
                del running[pipe]
                results[one.name] = result
                done(one.name, result)
    finally:
        for pipe, one in running.items():
            _end(pipe, one)
    return {name: results[name] for name in jobs}


def _start(running: dict[Connection, _Running], name: int, work: Work, job: Any, timeout_s: float) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])  # which takes three seconds, for it needs torch
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(work, job, theirs), daemon=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the server keeps it: we end them all
    try:
        process.start()
        running[ours] = _Running(name, process, time.monotonic() + timeout_s)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()


def _received(pipe: Connection, one: _Running) -> Any:
    try:
        answer = json.loads(pipe.recv_bytes())
    except (EOFError, OSError):  # the second, in the midst of an answer
        one.process.join()
        code = one.process.exitcode or 0
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return Failure(f"its process {how}; it may have run out of memory")
    return Failure(answer["error"]) if "error" in answer else answer["result"]


def _end(pipe: Connection, one: _Running) -> None:
    one.process.kill()
    one.process.join()
    pipe.close()


def _serve(work: Work, job: Any, pipe: Connection) -> None:
    leave_interrupts_to_starter()  # where others started the server
    end_with_parent()
    try:
        answer = {"result": work(job)}
    except RobolearnError as error:
        answer = {"error": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told, and the others go on
        answer = {"error": f"{type(error).__name__}: {error}"}
    pipe.send_bytes(json.dumps(answer).encode())


def leave_interrupts_to_starter(*also: signal.Signals) -> None:
    """What a terminal sends to all processes is for the one that started this, and ends it: Ctrl-C, and the terminal's
    own end. also: SIGTERM where the starter ends us otherwise, for systemd and slurm send that to all, too."""
    for number in (signal.SIGINT, signal.SIGHUP, *also):
        signal.signal(number, signal.SIG_IGN)


def end_with_parent() -> None:
    """From now on this process, started by `multiprocessing`, ends when the one that started it has, however it did."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow(timeout_s: float | None) -> None:
        if wait([parent.sentinel], timeout_s):
            os._exit(1)

    follow(0.0)  # it may have ended while we were loading: then nothing is begun
    threading.Thread(target=follow, args=(None,), daemon=True).start()
