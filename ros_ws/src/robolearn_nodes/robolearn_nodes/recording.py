"""One episode on its way into the dataset: joins the streams to ticks and appends a step a tick.

Two rules of synchronisation:

- `exact`, for the twin, which stamps everything of a tick alike: a tick is a stamp, and its samples are those with
  that very stamp.
- `grid`, for real robots and cameras, whose clocks tick apart: tick k is at the first joint states of the episode plus
  k periods of the dataset's rate. Joint states, commands and what was sent give the sample nearest to the tick, at most
  half a period away; a camera gives its newest picture at or before the tick, at most `max_image_age_ns` old. What is
  further away is masked: nothing ever shifts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from robolearn.datasets.store import EpisodeInfo, EpisodeWriter
from robolearn.sync import NewestJoin, StreamCounts, StreamRule, Tick
from robolearn.types import EpisodeOutcome
from robolearn_nodes.topics import COMMAND, COMMAND_SENT, JOINT_STATES

DEPTH = 64  # ticks that may wait for a sample before they are written without it
EARLY = 1024  # samples that may wait for the word that the episode has started
PATIENCE_NS = 500_000_000  # grid: how far the streams may get ahead of one that says nothing

Sample = tuple[int, int, Mapping[str, Any]]
"""Capture stamp, when it was received (NO_STAMP: unknown), and the dataset fields that it brings."""


class Join(Protocol):
    """Makes ticks of samples."""

    counts: StreamCounts

    def push(self, stream: str, stamp_ns: int, sample: Any) -> list[Tick]: ...

    def newest_ns(self, stream: str) -> int | None: ...

    def flush(self) -> list[Tick]: ...


class GridTicks:
    """The `grid` rule, as the file's head has it."""

    def __init__(self, images: Sequence[str], others: Sequence[str], period_ns: int, max_image_age_ns: int) -> None:
        self._period_ns = period_ns
        self._lag_ns = dict.fromkeys(images, 0) | dict.fromkeys(others, period_ns // 2)
        rules = dict.fromkeys(images, StreamRule(max_image_age_ns, "hold"))
        rules |= dict.fromkeys(others, StreamRule(period_ns // 2, "nearest"))
        self._join = NewestJoin(rules, depth=512)
        self._newest: dict[str, int] = {}
        self._tick_ns: int | None = None  # of the next tick

    @property
    def counts(self) -> StreamCounts:
        return self._join.counts

    def newest_ns(self, stream: str) -> int | None:
        return self._newest.get(stream)

    def push(self, stream: str, stamp_ns: int, sample: Any) -> list[Tick]:
        """Add a sample and return the ticks for which nothing more is to come, or was waited for long enough."""
        self._newest[stream] = max(stamp_ns, self._newest.get(stream, stamp_ns))
        self._join.push(stream, stamp_ns, sample)
        if self._tick_ns is None and stream == JOINT_STATES:
            self._tick_ns = stamp_ns
        ticks = []
        while self._tick_ns is not None and self._settled(self._tick_ns):
            ticks.append(self._take(self._tick_ns))
        return ticks

    def flush(self) -> list[Tick]:
        """All ticks up to the newest sample of any stream."""
        ticks = []
        while self._tick_ns is not None and self._tick_ns <= max(self._newest.values()):
            ticks.append(self._take(self._tick_ns))
        return ticks

    def _take(self, tick_ns: int) -> Tick:
        self._tick_ns = tick_ns + self._period_ns
        return self._join.take(tick_ns)

    def _settled(self, tick_ns: int) -> bool:
        if max(self._newest.values()) - tick_ns > PATIENCE_NS:
            return True
        return all(self._newest.get(stream, -1) >= tick_ns + lag_ns for stream, lag_ns in self._lag_ns.items())


class Recording:
    """The episode that `writer` has begun. A step is what was seen at a tick, what was commanded and what was sent.

    Samples from before the episode's start, which `begin` tells, are not of it. The observation after the last step has
    no action and is not a step.
    """

    def __init__(self, writer: EpisodeWriter, observation_streams: Sequence[str], join: Join) -> None:
        self._writer = writer
        self._observations = tuple(observation_streams)
        self._join = join
        self._early: deque[tuple[str, Sample]] | None = deque(maxlen=EARLY)  # None once it has begun
        self._start_ns = 0
        self._held_at_ns = -1
        self.num_steps = 0

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Samples that came too late for their tick, or were dropped, by stream. What a step lacks is masked in it."""
        return {"late": dict(self._join.counts.late), "dropped": dict(self._join.counts.dropped)}

    @property
    def started(self) -> bool:
        return self._early is None

    def begin(self, start_ns: int) -> None:
        """The episode starts at this stamp. Raises SpecError when a sample that waited does not fit."""
        early, self._early, self._start_ns = self._early or (), None, start_ns
        for stream, (stamp_ns, received_ns, fields) in early:
            self.push(stream, stamp_ns, fields, received_ns)

    def push(self, stream: str, stamp_ns: int, fields: Mapping[str, Any], received_ns: int = -1) -> None:
        """Add a sample: the dataset fields that this stream brings. Raises SpecError when one does not fit."""
        if self._early is not None:
            self._early.append((stream, (stamp_ns, received_ns, fields)))
            return
        if stamp_ns < self._start_ns:
            return
        if fields.get("held"):
            self._held_at_ns = max(stamp_ns, self._held_at_ns)
        for tick in self._join.push(stream, stamp_ns, (stamp_ns, received_ns, fields)):
            self._append(tick)

    def reached(self, end_ns: int, period_ns: int) -> bool:
        """Whether all that belongs to an episode with its last observation at `end_ns` has arrived.

        A step that was held may never get a command.
        """
        last_ns = end_ns - period_ns
        wanted = dict.fromkeys(self._observations, end_ns) | {COMMAND_SENT: last_ns}
        if self._held_at_ns < last_ns:
            wanted[COMMAND] = last_ns
        newest = {stream: self._join.newest_ns(stream) for stream in wanted}
        return all(stamp is not None and stamp >= wanted[stream] for stream, stamp in newest.items())

    def commit(self, end_ns: int, outcome: EpisodeOutcome, tags: Mapping[str, Any] | None = None) -> EpisodeInfo:
        """Write what waits, complete or not, and make the episode visible."""
        for tick in self._join.flush():
            if tick.stamp_ns < end_ns:
                self._append(tick)
        return self._writer.commit(outcome, tags)

    def _append(self, tick: Tick) -> None:
        step: dict[str, Any] = {}
        stamps_ns: dict[str, int] = {}
        received: dict[str, int] = {}
        for stamp_ns, received_ns, fields in tick.samples.values():
            step |= fields
            stamps_ns |= dict.fromkeys(fields, stamp_ns)
            received |= dict.fromkeys(fields, received_ns)
        self._writer.append(step, stamps_ns, received)
        self.num_steps += 1
