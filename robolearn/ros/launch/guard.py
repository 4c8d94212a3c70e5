"""Two tiny programs that see to it that no node outlives its launcher, not even when that is killed with SIGKILL.

    guard.py watch              stands beside the launcher and holds the reading end of a pipe on its stdin
    guard.py exec FD COMMAND    tells the watcher its process id through the pipe, then becomes the node

Every node leads a process group of its own. It is registered by the process that becomes it, so there is no moment at
which a running node is unknown. When the last writing end of the pipe is closed, the launcher is gone, and the watcher
ends the groups that are left as the launcher would have: SIGINT, SIGTERM, SIGKILL. Both run by path with
`python -I -S`, so that they start in milliseconds and import nothing of the library.
"""

import contextlib
import os
import select
import signal
import sys
import time

PATIENCE_S = 5.0  # between the signals
POLL_S = 0.05


def group_alive(group: int) -> bool:
    """Whether any process of a group is left. Zombies do not count: under a first process that reaps none they stay."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as stat:
                state, _, process_group = stat.read().rpartition(b")")[2].split()[:3]
        except (OSError, ValueError):  # it ended while we looked
            continue
        if int(process_group) == group and state not in (b"Z", b"X"):
            return True
    return False


def signal_group(group: int, number: int) -> None:
    """Send a signal to all of a group; no error when it is gone or not ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def watch() -> None:
    """Follow the registrations until the launcher is gone, then end what is left."""
    launcher = os.getppid()
    groups: set[int] = set()
    pending = b""
    while True:
        ready, _, _ = select.select([0], [], [], 1.0)
        data = os.read(0, 65536) if ready else None
        if data == b"" or (data is None and os.getppid() != launcher):
            break  # the second: a fork of the launcher's process still holds the pipe
        *lines, pending = (pending + (data or b"")).split(b"\n")
        for line in lines:
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        groups = {group for group in groups if group_alive(group)}
        for group in groups:
            signal_group(group, number)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and any(map(group_alive, groups)):
            time.sleep(POLL_S)


def execute(descriptor: int, command: list[str]) -> None:
    """Become the command, with the signals of a fresh process whatever the launcher was started with."""
    with contextlib.suppress(BrokenPipeError):  # the watcher was killed: run unguarded
        os.write(descriptor, b"+%d\n" % os.getpid())
    os.close(descriptor)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127)


if __name__ == "__main__":
    if sys.argv[1] == "watch":
        watch()
    else:
        execute(int(sys.argv[2]), sys.argv[3:])
