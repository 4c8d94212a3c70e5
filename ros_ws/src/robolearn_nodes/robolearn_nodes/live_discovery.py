"""Who is on the graph and who talks to whom, asked for in a thread of its own, a little at a time.

A question to the graph may take long; in the node's thread it would hold up what comes in. After a change all topics
are asked about, one after the other; while nothing changes, one now and then.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from rclpy._rclpy_pybind11 import RCLError
from rclpy.exceptions import InvalidHandle
from rclpy.node import Node

from robolearn_nodes import topics
from robolearn_nodes.node import graph_name

LOOK_S = 2.0  # between two looks at the names
STEP_S = 0.1  # between two topics after a change
INTERNAL = ("/parameter_events", "/rosout", topics.DIAGNOSTICS)
Ends = tuple[list[str], list[str]]
"""Names of the nodes that write a topic, and of those that read it."""


class LiveDiscovery:
    """`nodes`, `types` and `ends` (by topic) are replaced, never changed. `work` is done after each look."""

    def __init__(self, node: Node, work: Callable[[], None]) -> None:
        self.nodes: list[str] = []
        self.types: dict[str, list[str]] = {}
        self.ends: dict[str, Ends] = {}
        self._node, self._work = node, work
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="discovery", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def links(self) -> list[list[str]]:
        """Writer, topic, reader."""
        return [[a, topic, b] for topic, (out, into) in self.ends.items() for a in out for b in into if a != b]

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing.is_set() and self._node.context.ok():
                waiting = self._look()
                self._work()
                for _ in range(round(LOOK_S / STEP_S)):
                    if waiting:
                        self._ask(waiting.popleft())
                    if self._closing.wait(STEP_S):
                        return
        except (RCLError, InvalidHandle):  # the context went away
            return

    def _look(self) -> deque[str]:
        """Learn the names; the topics to ask about now."""
        nodes = sorted({graph_name(*node) for node in self._node.get_node_names_and_namespaces()})
        types = {name: kinds for name, kinds in self._node.get_topic_names_and_types() if name not in INTERNAL}
        changed = nodes != self.nodes or types != self.types
        self.nodes, self.types = nodes, types
        self.ends = {topic: ends for topic, ends in self.ends.items() if topic in types}
        if changed:
            return deque(sorted(types))
        oldest = next(iter(self.ends), None)  # asked about longest ago
        return deque([] if oldest is None else [oldest])

    def _ask(self, topic: str) -> None:
        out, into = (
            sorted({graph_name(end.node_name, end.node_namespace) for end in ask(topic)})
            for ask in (self._node.get_publishers_info_by_topic, self._node.get_subscriptions_info_by_topic)
        )
        others = {name: ends for name, ends in self.ends.items() if name != topic}
        self.ends = {**others, topic: (out, into)}
