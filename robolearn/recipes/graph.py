"""Run a launch file as a child and follow its episodes.

The supervisor node appends one JSON line an episode to its `results` file; this recipe tails that file, so that it
needs no ROS itself. Whatever happens here (an error, Ctrl-C, a SIGKILL), the launched nodes are stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from robolearn.assets import launch_file
from robolearn.errors import LaunchError, TransportError

EpisodeResult = dict[str, Any]
FIRST_DOMAIN, LAST_DOMAIN = 20, 99  # above 101 the ports meet Linux's ephemeral ones
POLL_S = 0.1
STOP_TIMEOUT_S = 12.0


def free_domain_id() -> int:
    """A ROS domain on which nobody of this host talks: the RTPS ports of its first participant are free.

    A demo must not meet a robot of the lab on the default domain 0.
    """
    span = LAST_DOMAIN - FIRST_DOMAIN + 1
    for offset in range(span):
        domain = FIRST_DOMAIN + (os.getpid() + offset) % span
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", 7410 + 250 * domain))
            except OSError:
                continue
            return domain
    raise TransportError(f"all ROS domains from {FIRST_DOMAIN} to {LAST_DOMAIN} are in use; stop other graphs")


def run_graph(
    name: str,
    arguments: Mapping[str, object],
    results: Path,
    episodes: int,
    on_episode: Callable[[int, EpisodeResult], None],
    log: Path,
    domain_id: int | None = None,
) -> list[EpisodeResult]:
    """Launch `launch/<name>.launch.yaml` and return the supervisor's episode results, in order.

    `results` is the JSONL file that the supervisor writes; the output of all nodes goes to `log`. Raises LaunchError
    with the last words of the nodes when the graph ends before `episodes` are done.
    """
    results.unlink(missing_ok=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "robolearn.cli", "launch", str(launch_file(name)), f"results:={results}"]
    command += [f"{key}:={value}" for key, value in arguments.items()]
    command += ["--parent", str(os.getpid())]
    environment = dict(os.environ)
    if domain_id is not None:
        environment["ROS_DOMAIN_ID"] = str(domain_id)
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
    try:
        done: list[EpisodeResult] = []
        while True:
            exit_code = child.poll()
            fresh = _read_results(results)[len(done) :]
            for row in fresh:
                done.append(row)
                on_episode(len(done), row)
            if len(done) >= episodes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(STOP_TIMEOUT_S)  # the supervisor ends the graph in order
                return done
            if exit_code is not None and not fresh:
                raise LaunchError(
                    f"{name}: the graph stopped after {len(done)} of {episodes} episodes: {_last_words(log)} ({log})"
                )
            time.sleep(POLL_S)
    finally:
        stop(child)


def stop(child: subprocess.Popen[bytes]) -> None:
    """End a launch child as Ctrl-C would, then harder; returns when its whole process group is gone."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _read_results(path: Path) -> list[EpisodeResult]:
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]  # what follows the last newline is half a line
    return [json.loads(line) for line in lines if line]


def _last_words(log: Path) -> str:
    """The line that tells best why a graph stopped: the first error that a node named or that kept it from beginning,
    else the last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    named = [line for line in lines if re.search(r"^\[\w+-\d+\] \w*Error: ", line)]
    died = [line for line in lines if re.search(r"process has died|^\[ERROR\] \[\w+-\d+\]: cannot start ", line)]
    return (named or died or lines[-1:] or ["no output"])[0]
