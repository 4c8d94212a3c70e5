"""Runs a LaunchDescription: child processes, their output, restarts, and an end that leaves nothing running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

from robolearn.errors import BAD_INPUT_EXIT_CODE, LaunchError
from robolearn.ros.launch import guard
from robolearn.ros.launch.description import LaunchDescription, Message, ParamsFile, Process, Shutdown, Step
from robolearn.ros.launch.output import Output

POLL_S = 0.02  # while a process group ends, for which there is no event
KILL_PATIENCE_S = 5.0  # after SIGKILL, for processes that hang in the kernel
PIPE_PATIENCE_S = 0.5  # for the last output, when a stranger inherited the pipe and keeps it open
MAX_LINE = 1 << 20  # bytes; a longer line is cut
_GUARD = [sys.executable, "-I", "-S", guard.__file__]


def run(
    description: LaunchDescription,
    *,
    log: Callable[[str], None],
    log_dir: str | os.PathLike[str] | None = None,
) -> int:
    """Run a launch to its end, or to SIGINT or SIGTERM; for the main thread of a program.

    `log` gets every line of the screen. `log_dir` (default: ROS_LOG_DIR) gets log files. Returns 0, or 1 when a process
    failed: it ended by itself with another exit code than 0 and was not started again; 2 when one said by its own,
    BAD_INPUT_EXIT_CODE, that another try cannot mend what is wrong, by which a launch ends.
    """
    directory = log_dir or os.environ.get("ROS_LOG_DIR") or None
    with Launcher(description, log=log, log_dir=directory) as launcher:

        def interrupt(number: int, frame: FrameType | None) -> None:
            cause = "ctrl-c (SIGINT)" if number == signal.SIGINT else signal.Signals(number).name
            launcher.request_stop(f"user interrupted with {cause}")

        previous = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            launcher.wait()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    return launcher.exit_code


class Launcher:
    """Runs the processes of a description from a thread of its own, without touching signal handlers.

    `log` gets the lines of the screen, `on_output` every line of every process with the process's name (whatever its
    `output` says); both are called from the launcher's thread. An exception in either ends the launch and is raised
    again by `wait` and `stop`. Should this Python process die, the nodes are ended by the guard.
    """

    def __init__(
        self,
        description: LaunchDescription,
        *,
        log: Callable[[str], None] | None = None,
        on_output: Callable[[str, str], None] | None = None,
        log_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.description = description
        self.exit_code = 0
        self._log = log or (lambda line: None)
        self._on_output = on_output
        self._log_dir = None if log_dir is None else Path(log_dir)
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._params_dir: Path | None = None

    # --- for the owner's thread ---

    def start(self) -> None:
        """Start the launch. Raises LaunchError when that is not possible; a launcher starts once."""
        if self._thread is not None:
            raise LaunchError("this launch was started before; make a new Launcher")
        try:
            self._output = Output(self._log, self._on_output, self._log_dir)
        except OSError as error:
            raise LaunchError(f"cannot write logs to {self._log_dir}: {error.strerror}") from None
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._on_exception)
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="launch", daemon=True)
        self._thread.start()

    def request_stop(self, reason: str) -> None:
        """Begin the orderly end and return; harmless when it has begun or is over. Safe in a signal handler."""
        self._ask_to_stop("WARNING", reason)

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code (see `run`) when everything has ended; None when it has not within `timeout_s`."""
        if self._thread is None:
            raise LaunchError("this launch was not started")
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return None
        if self._failure is not None:
            raise self._failure
        return self.exit_code

    def stop(self) -> int:
        """End everything: SIGINT, and where that does not help SIGTERM and SIGKILL. Returns the exit code."""
        self._ask_to_stop("INFO", "stopping")
        self.wait()
        return self.exit_code

    def _ask_to_stop(self, level: str, reason: str) -> None:
        if self._thread is None:
            raise LaunchError("this launch was not started")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs any more
            self._loop.call_soon_threadsafe(self._shut_down, level, reason)

    @property
    def alive(self) -> bool:
        """Whether anything of the launch is still to run or running."""
        return self._thread is not None and self._thread.is_alive()

    def __enter__(self) -> Launcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- in the launcher's thread ---

    def _run(self) -> None:
        try:
            with contextlib.closing(self._loop), contextlib.closing(self._output), self._guarded():
                self._loop.run_until_complete(self._perform_all())
                self._loop.run_until_complete(asyncio.sleep(0))  # the last lines of output
        except BaseException as error:  # noqa: BLE001 (raised again in the owner's thread)
            self._failure = self._failure or error

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        """With the watcher of guard.py at the other end of `self._pipe`; it ends whatever is left at the exit."""
        reading_end, self._pipe = os.pipe()
        watcher = subprocess.Popen(
            [*_GUARD, "watch"],
            stdin=reading_end,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(reading_end)
        try:
            yield
        finally:
            os.close(self._pipe)
            watcher.wait()
            if self._params_dir is not None:
                shutil.rmtree(self._params_dir, ignore_errors=True)

    async def _perform_all(self) -> None:
        if self._output.directory is not None:
            self._event("INFO", "launch", f"All log files can be found below {self._output.directory}")
        async with asyncio.TaskGroup() as tasks:
            for step in self.description.steps:
                tasks.create_task(self._perform(step))

    async def _perform(self, step: Step) -> None:
        if not await self._pause(step.after_s):
            return
        match step.action:
            case Process() as process:
                await self._keep_running(process)
            case Message(text):
                self._event("INFO", "launch.user", text)
            case Shutdown(reason):
                self._shut_down("INFO", f"shutdown: {reason}")

    async def _keep_running(self, process: Process) -> None:
        """Run a process, and again when it ended by itself and is to respawn."""
        retries = 0
        while True:
            exit_code, by_itself = await self._run_once(process)
            if not by_itself:
                return
            if exit_code == BAD_INPUT_EXIT_CODE:
                self._shut_down("ERROR", f"process[{process.name}] cannot be mended by another try: shutting down")
                self.exit_code = LaunchError.exit_code
                return
            if process.required:
                self._shut_down("INFO", f"process[{process.name}] was required: shutting down launched system")
            elif process.respawn and (process.respawn_max_retries < 0 or retries < process.respawn_max_retries):
                retries += 1
                if await self._pause(process.respawn_delay_s):
                    continue
                return
            if exit_code != 0:
                self.exit_code = self.exit_code or 1
            return

    async def _run_once(self, process: Process) -> tuple[int, bool]:
        """One life of a process: its exit code, and whether it ended before it was asked to."""
        command = self._command(process)
        try:
            child = subprocess.Popen(
                [*_GUARD, "exec", str(self._pipe), *command],
                cwd=process.cwd,
                env=dict(process.environment),
                bufsize=0,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=(self._pipe,),
            )
        except (OSError, ValueError) as error:
            self._event("ERROR", process.name, f"cannot start '{shlex.join(command)}': {error}")
            return 127, not self._stopping.is_set()
        self._event("INFO", process.name, f"process started with pid [{child.pid}]")
        said: dict[str, str] = {}  # the last line of each stream
        streams = [
            await self._read(process, "stdout", child.stdout, said),
            await self._read(process, "stderr", child.stderr, said),
        ]
        exit_task = asyncio.create_task(_exit_code(child))
        stop_task = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((exit_task, stop_task), return_when=asyncio.FIRST_COMPLETED)
        by_itself = not self._stopping.is_set()
        stop_task.cancel()
        await self._end_group(process, child.pid, exit_task)
        await asyncio.wait([stream.closed for stream in streams], timeout=PIPE_PATIENCE_S)
        for stream in streams:
            stream.close()
        exit_code = exit_task.result() if exit_task.done() else -signal.SIGKILL
        exit_task.cancel()
        with contextlib.suppress(BrokenPipeError):
            os.write(self._pipe, b"-%d\n" % child.pid)
        if exit_code == 0:
            self._event("INFO", process.name, f"process has finished cleanly [pid {child.pid}]")
        elif by_itself:
            last = said.get("stderr") or said.get("stdout") or "it said nothing"
            self._event("ERROR", process.name, f"process has died [pid {child.pid}, exit code {exit_code}]: {last}")
        else:
            self._event("INFO", process.name, f"process has ended [pid {child.pid}, exit code {exit_code}]")
        return exit_code, by_itself

    async def _end_group(self, process: Process, group: int, leader: asyncio.Task[int]) -> None:
        """SIGINT, SIGTERM, SIGKILL to a process and its descendants, until none is left."""

        def alive() -> bool:
            return not leader.done() or guard.group_alive(group)

        if leader.done() and alive():
            self._event("WARNING", process.name, "the process left children behind; ending them")
        escalation = (
            (signal.SIGINT, process.sigterm_timeout_s),
            (signal.SIGTERM, process.sigkill_timeout_s),
            (signal.SIGKILL, KILL_PATIENCE_S),
        )
        before = ""
        for number, patience_s in escalation:
            if not alive():
                return
            if before:
                self._event("ERROR", process.name, f"process[{process.name}] {before}, escalating to '{number.name}'")
            self._event("INFO", process.name, f"sending signal '{number.name}' to process[{process.name}]")
            guard.signal_group(group, number)
            deadline = self._loop.time() + patience_s
            while alive() and self._loop.time() < deadline:
                await asyncio.sleep(POLL_S)
            before = f"failed to terminate '{patience_s:g}' seconds after receiving '{number.name}'"
        if alive():
            self._event("ERROR", process.name, f"process[{process.name}] {before}; giving up on it")

    async def _read(self, process: Process, stream: str, pipe: IO[bytes] | None, said: dict[str, str]) -> _Lines:
        def forward(line: str) -> None:
            said[stream] = line.strip() or said.get(stream, "")
            self._loop.call_soon(self._output.line, process, stream, line)

        _, lines = await self._loop.connect_read_pipe(lambda: _Lines(forward), pipe)
        return lines

    async def _pause(self, seconds: float) -> bool:
        """Wait, unless the end begins. Returns whether there is still something to do."""
        if seconds > 0.0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
        return not self._stopping.is_set()

    def _command(self, process: Process) -> list[str]:
        words = [self._params_file(word) if isinstance(word, ParamsFile) else word for word in process.command]
        return ["/bin/sh", "-c", " ".join(words)] if process.shell else words

    def _params_file(self, word: ParamsFile) -> str:
        if self._params_dir is None:
            self._params_dir = Path(tempfile.mkdtemp(prefix="launch_params_"))
        descriptor, path = tempfile.mkstemp(".yaml", dir=self._params_dir)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(word.text)
        return path

    def _event(self, level: str, name: str, text: str) -> None:
        """A line of the launcher. Through the loop, as all output, so that an error in a callback cannot end a task."""
        self._loop.call_soon(self._output.event, level, name, text)

    def _shut_down(self, level: str, reason: str) -> None:
        if not self._stopping.is_set():
            self._event(level, "launch", reason)
            self._stopping.set()

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        """Errors in `log` and `on_output` arrive here."""
        error = context.get("exception")
        if not isinstance(error, BaseException):
            loop.default_exception_handler(context)
            return
        self._failure = self._failure or error
        self._shut_down("ERROR", f"stopping after an error: {error!r}")


class _Lines(asyncio.Protocol):
    """Cuts what a pipe gives into lines."""

    def __init__(self, on_line: Callable[[str], object]) -> None:
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._on_line = on_line
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._emit(line)

    def connection_lost(self, error: Exception | None) -> None:
        if self._rest:
            self._emit(self._rest)
        self.closed.set_result(None)

    def close(self) -> None:
        self._transport.close()

    def _emit(self, line: bytes) -> None:
        self._on_line(line.removesuffix(b"\r").decode("utf-8", errors="replace"))


async def _exit_code(child: subprocess.Popen[bytes]) -> int:
    """The exit code of a child, without a thread or a signal handler (Linux 5.3 and later)."""
    ended = asyncio.Event()
    descriptor = os.pidfd_open(child.pid)
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return child.wait()
