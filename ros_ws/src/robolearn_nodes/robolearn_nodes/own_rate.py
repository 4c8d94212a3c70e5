"""Sensors that are recorded at their own rate, beside the steps: a force at 500 Hz, joint states at 200 Hz.

A sample belongs to the episode from its start until before its end. Samples wait until they are old enough that no end
can lie before them any more, and are then handed to the writer in blocks.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from robolearn.datasets.contract import Stream
from robolearn.datasets.store import EpisodeWriter
from robolearn.errors import SpecError, UnknownNameError
from robolearn.messages import header_ns, read_path
from robolearn_nodes import topics
from robolearn_nodes.node import Meter

BLOCK = 256
HOLD_NS = 5_000_000_000  # of the stream's own stamps; an episode's end is told sooner

Sample = tuple[int, int, NDArray[np.float32]]  # capture and receive stamp, values


class OwnRates:
    """The samples of an episode that is being recorded, by field."""

    def __init__(self, fields: Sequence[str]) -> None:
        self._waiting: dict[str, list[Sample]] = {name: [] for name in fields}
        self.counts: dict[str, int] = dict.fromkeys(fields, 0)  # left out, because their stamps ran backwards
        self._newest_ns: dict[str, int] = {}
        self._begun: tuple[EpisodeWriter, int] | None = None

    def begin(self, writer: EpisodeWriter, start_ns: int) -> None:
        """The episode starts at this stamp."""
        self._begun = writer, start_ns
        for name, samples in self._waiting.items():
            self._waiting[name] = [sample for sample in samples if sample[0] >= start_ns]

    def push(self, name: str, stamp_ns: int, received_ns: int, values: NDArray[np.float32]) -> None:
        """Add a sample. Raises SpecError when it does not fit."""
        if stamp_ns < self._newest_ns.get(name, stamp_ns):
            self.counts[name] += 1
            return
        self._newest_ns[name] = stamp_ns
        samples = self._waiting[name]
        if self._begun is None:
            del samples[:-BLOCK]
        elif stamp_ns < self._begun[1]:
            return
        samples.append((stamp_ns, received_ns, values))
        if self._begun is not None and len(samples) >= BLOCK and samples[BLOCK - 1][0] < stamp_ns - HOLD_NS:
            self._hand_over(name, BLOCK)

    def reached(self, end_ns: int) -> bool:
        """Whether every sensor has brought what lies before this stamp."""
        return all(self._newest_ns.get(name, end_ns - 1) >= end_ns for name in self._waiting)

    def end(self, end_ns: int) -> None:
        """What is left until before this stamp."""
        for name, samples in self._waiting.items():
            self._hand_over(name, sum(stamp_ns < end_ns for stamp_ns, _, _ in samples))

    def _hand_over(self, name: str, count: int) -> None:
        block, self._waiting[name] = self._waiting[name][:count], self._waiting[name][count:]
        if block and self._begun is not None:
            stamps, received, values = zip(*block, strict=True)
            self._begun[0].append_stream(name, np.stack(values), stamps, received)


Push = Callable[[str, int, Callable[[], tuple[int, NDArray[np.float32]]]], None]
"""Called with a field, when its sample was received, and what reads its stamp and values or raises SpecError."""


class OwnStreams:
    """Subscribes to the topics. Raises UnknownNameError for a type that nobody knows."""

    def __init__(self, node: Node, streams: Sequence[Stream], push: Push) -> None:
        self._node, self._push = node, push
        self._meters = {stream.field: Meter() for stream in streams}
        self.topics = [stream.topic for stream in streams]
        for stream in streams:
            node.create_subscription(_class_of(stream.type), stream.topic, self._on(stream), topics.SENSOR_STREAM)

    def figures(self) -> dict[str, str]:
        """Rate and age of each."""
        figures: dict[str, str] = {}
        for name, meter in self._meters.items():
            figures |= meter.figures(name)
        return figures

    def _on(self, stream: Stream) -> Callable[[Any], None]:
        def came(message: Any) -> None:
            now_ns = self._node.get_clock().now().nanoseconds

            def read() -> tuple[int, NDArray[np.float32]]:
                stamp_ns = now_ns if stream.time == "receive" else header_ns(message)
                self._meters[stream.field].note(now_ns, stamp_ns)
                return stamp_ns, read_path(message, stream.select)

            self._push(stream.field, now_ns, read)

        return came


def _class_of(type_name: str) -> Any:
    package, kind, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ImportError, AttributeError):
        raise UnknownNameError("message type", type_name, []) from None


def check_streams(known: dict[str, Any], streams: Sequence[Stream], path: Any) -> None:
    """Raise SpecError unless the dataset has the streams with these very specs."""
    for stream in streams:
        if known.get(stream.field) != stream.own_spec:
            raise SpecError(
                f"dataset {path} has streams {', '.join(known) or 'none'}, and not {stream.field} as it is recorded "
                "now; begin another dataset"
            )
