"""A graph of real processes on a ROS domain of its own, and a test node in this process that takes part in it."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cells import Typist
from forked import ForkedNode

import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

# isort: split
import rclpy
from robolearn_msgs.msg import EpisodeEvent
from robolearn_msgs.srv import StartEpisode
from robolearn_nodes import topics

from robolearn.errors import BAD_INPUT_EXIT_CODE
from robolearn.recipes.graph import free_domain_id
from robolearn.ros.launch import load

LAUNCH = Path(__file__).parents[2] / "launch"
START_TIMEOUT_S = 60.0
with pytest.MonkeyPatch.context() as patch:
    patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # where `described` is
    multiprocessing.forkserver.ensure_running()  # with what forked.py names, before a recipe starts it with less


class Graph:
    """Starts nodes as children, spins a node of the test, and leaves nothing running."""

    def __init__(self, folder: Path) -> None:
        rclpy.init()
        self.folder = folder
        self.children: dict[str, ForkedNode | subprocess.Popen[bytes]] = {}
        self.node = rclpy.create_node("test")
        self.events: list[Any] = []
        self.node.create_subscription(EpisodeEvent, topics.EPISODE, self.events.append, topics.STREAM)

    def start(self, node: str, name: str = "", namespace: str = "", **parameters: Any) -> ForkedNode:
        """Run `<node>_node` with these parameters; `name` tells several of a kind apart."""
        arguments = ["--ros-args", *(("-r", f"__ns:=/{namespace}") if namespace else ())]
        for key, value in parameters.items():
            arguments += ["-p", f"{key}:={value}"]
        return self._fork(name or node, node, arguments)

    def _fork(self, name: str, node: str, arguments: list[str]) -> ForkedNode:
        child = ForkedNode(node, arguments, self.folder / f"{name}.log")
        self.children[name] = child
        return child

    def start_all(self, launch_file: str, **arguments: Any) -> None:
        """Run the nodes of a launch file of the repository; none of them ends or is started again with another."""
        texts = {key: str(value) for key, value in arguments.items()}
        for process in load(LAUNCH / f"{launch_file}.launch.yaml", texts).processes:
            module, *words = map(str, process.command[process.command.index("-m") + 1 :])
            node = module.removeprefix("robolearn_nodes.").removesuffix("_node")
            self._fork(node, node, words)

    def launch(self, name: str, **arguments: Any) -> subprocess.Popen[bytes]:
        """Run a launch file of the repository; its output is the log `launch`."""
        file = LAUNCH / f"{name}.launch.yaml"
        command = [sys.executable, "-m", "robolearn.cli", "launch", str(file)]
        command += [f"{key}:={value}" for key, value in arguments.items()]
        with (self.folder / "launch.log").open("wb") as log:
            child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        self.children["launch"] = child
        return child

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def call(self, service_type: Any, name: str, **request: Any) -> Any:
        """Wait for the service, call it, and return its response."""
        client = self.node.create_client(service_type, name)
        assert client.wait_for_service(START_TIMEOUT_S), f"{name} did not appear; {self._logs()}"
        future = client.call_async(service_type.Request(**request))
        rclpy.spin_until_future_complete(self.node, future, timeout_sec=START_TIMEOUT_S)
        assert future.done(), f"{name} did not answer; {self._logs()}"
        self.node.destroy_client(client)
        return future.result()

    def agree(self, service_type: Any, name: str, **request: Any) -> None:
        """Call until the server agrees: nodes that have just started may not have found each other yet."""
        end_s = time.monotonic() + START_TIMEOUT_S
        while not (response := self.call(service_type, name, **request)).success:
            assert time.monotonic() < end_s, response.message
            time.sleep(0.05)

    def spin_until(self, condition: Callable[[], Any], timeout_s: float = START_TIMEOUT_S) -> None:
        end_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end_s, f"waited {timeout_s} s in vain; {self._logs()}"
            rclpy.spin_once(self.node, timeout_sec=0.05)

    def spin_once(self) -> None:
        rclpy.spin_once(self.node, timeout_sec=0.02)

    def run_episode(self, seed: int = 0, episode_id: str = "episode") -> Any:
        """Start an episode of the twin and spin until it ended. Returns the ENDED event."""
        self.events.clear()
        self.agree(StartEpisode, topics.START_EPISODE, episode_id=episode_id, seed=seed)
        self.spin_until(lambda: any(event.event == EpisodeEvent.ENDED for event in self.events))
        return self.events[-1]

    def stop(self) -> None:
        """Ctrl-C to all that still run; every one of them must end well. May be called twice."""
        running = {name: child for name, child in self.children.items() if child.poll() is None}
        for child in running.values():
            child.send_signal(signal.SIGINT)
        try:
            exit_codes = {name: child.wait(20) for name, child in running.items()}
        finally:
            for child in running.values():
                if child.poll() is None:
                    child.kill()
                    child.wait()
        assert set(exit_codes.values()) <= {0}, f"{exit_codes}; {self._logs()}"
        assert "Traceback" not in self._logs(), self._logs()

    def close(self) -> None:
        """Leave the graph."""
        self.node.destroy_node()
        rclpy.shutdown()

    def _logs(self) -> str:
        return "\n".join(f"--- {name}\n{self.log(name)[-2000:]}" for name in self.children)


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The client, on a domain of its own."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    rclpy.init()
    yield
    rclpy.shutdown()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the main function of a node, which ends as what another try cannot mend, or may, and with one line;
    returns the line."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))

    def run(main: Callable[[], int], **parameters: Any) -> str:
        argv = ["node", "--ros-args"]
        for key, value in parameters.items():
            argv += ["-p", f"{key}:={value}"]
        monkeypatch.setattr(sys, "argv", argv)
        assert main() in (2, BAD_INPUT_EXIT_CODE)
        *_, line = capsys.readouterr().err.splitlines()
        return line

    return run


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain_id()))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    running = Graph(tmp_path)
    try:
        yield running
    finally:
        try:
            running.stop()
        finally:
            running.close()


@pytest.fixture
def typist() -> Iterator[Typist]:
    someone = Typist()
    yield someone
    someone.close()
