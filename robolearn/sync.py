"""Joining streams (joint states, images, commands) to ticks, by stamp, and ticks to the steps of an episode.

Three rules, one class each:

- `ExactJoin`: a tick is a stamp that at least one stream carries, and its samples are those with that very stamp. For
  sources that stamp everything of one tick alike, as the twin does, and for everything that is recorded from it.
- `NewestJoin`: the caller names the tick, and each stream gives its sample nearest to it, within a tolerance. For real
  cameras and robots, whose clocks tick apart.
- `GridJoin`: the same on a grid of time that the first sample of one stream begins. For recording real robots.

All hold a bounded number of samples, hand every sample's tick out at most once and in order, and count per stream what
went wrong: `late` (its tick was handed out before), `missing` (a tick was handed out without it), `dropped` (thrown
away: a second sample of the same stamp, no room, or a stamp of another clock). No clock is read.

`EpisodeJoin` makes the steps of an episode of samples by one of these rules. The recorder of the ROS graph and the
converter of bags both use it, so that both make the same of the same samples.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from robolearn.errors import UnknownNameError

PATIENCE_NS = 500_000_000  # how far the streams of a grid may get ahead of one that says nothing
FAR_NS = 60_000_000_000  # what is so far ahead of the next tick of a grid has the stamp of another clock, or of a leap
EARLY_SAMPLES = 1024  # that may wait for the word that the episode has started
UNKNOWN_NS = -1  # a stamp that nobody knows


@dataclass(frozen=True)
class Tick:
    """The samples of one instant by stream; `missing` names the streams that have none."""

    stamp_ns: int
    samples: dict[str, Any]
    missing: tuple[str, ...] = ()


@dataclass
class StreamCounts:
    """What went wrong since the last reset, per stream."""

    late: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)


class ExactJoin:
    """Joins samples of equal stamp. A stream delivers in the order of its stamps; one that does not is late.

    A tick is handed out once every stream has its sample or has moved past it, or once more than `depth` ticks wait.
    """

    def __init__(self, streams: Iterable[str], depth: int = 64) -> None:
        self.streams = tuple(streams)
        self._depth = depth
        self.reset()

    def reset(self) -> None:
        """Forget all samples and counts, as at the start of an episode."""
        self.counts = StreamCounts()
        self._waiting: dict[int, dict[str, Any]] = {}
        self._newest: dict[str, int] = {}
        self._handed_out: int | None = None

    def newest_ns(self, stream: str) -> int | None:
        """Newest stamp that the stream delivered since the last reset: nothing older is to be waited for."""
        return self._newest.get(stream)

    def held_ns(self, stream: str) -> int:
        """How far before a tick a sample may lie that is held until then."""
        return 0

    def push(self, stream: str, stamp_ns: int, sample: Any) -> list[Tick]:
        """Add a sample and return the ticks that it settles, oldest first."""
        if stream not in self.streams:
            raise UnknownNameError("stream", stream, self.streams)
        self._newest[stream] = max(stamp_ns, self._newest.get(stream, stamp_ns))
        if self._handed_out is not None and stamp_ns <= self._handed_out:
            self.counts.late[stream] += 1
        elif stream in self._waiting.setdefault(stamp_ns, {}):
            self.counts.dropped[stream] += 1
        else:
            self._waiting[stamp_ns][stream] = sample
        ticks = []
        for stamp in sorted(self._waiting):
            if len(self._waiting) <= self._depth and not self._settled(stamp):
                break
            ticks.append(self._hand_out(stamp))
        return ticks

    def flush(self) -> list[Tick]:
        """Hand out all that waits, complete or not."""
        return [self._hand_out(stamp) for stamp in sorted(self._waiting)]

    def _settled(self, stamp_ns: int) -> bool:
        here = self._waiting[stamp_ns]
        return all(s in here or self._newest.get(s, stamp_ns) > stamp_ns for s in self.streams)

    def _hand_out(self, stamp_ns: int) -> Tick:
        samples = self._waiting.pop(stamp_ns)
        missing = tuple(s for s in self.streams if s not in samples)
        self.counts.missing.update(missing)
        self._handed_out = stamp_ns
        return Tick(stamp_ns, samples, missing)


@dataclass(frozen=True)
class StreamRule:
    """Which sample of a stream belongs to a tick.

    hold: the newest at or before the tick; nearest: the closest on either side, the older of two equals.
    """

    tolerance_ns: int  # a sample further away than this is missing
    rule: Literal["hold", "nearest"] = "hold"


class NewestJoin:
    """Joins streams of unequal stamps at ticks that the caller names, in increasing order.

    A sample may serve several ticks (a slow camera) or none (a fast one). Each stream keeps its newest `depth` samples.
    """

    def __init__(self, rules: Mapping[str, StreamRule], depth: int = 64) -> None:
        self.rules = dict(rules)
        self._depth = depth
        self.reset()

    def reset(self) -> None:
        """Forget all samples and counts, as at the start of an episode."""
        self.counts = StreamCounts()
        self._stamps: dict[str, list[int]] = {stream: [] for stream in self.rules}
        self._samples: dict[str, dict[int, Any]] = {stream: {} for stream in self.rules}
        self._handed_out: int | None = None

    def push(self, stream: str, stamp_ns: int, sample: Any) -> None:
        """Add a sample. One from before the last tick handed out is late, and may still serve a later tick."""
        if stream not in self.rules:
            raise UnknownNameError("stream", stream, self.rules)
        if self._handed_out is not None and stamp_ns <= self._handed_out:
            self.counts.late[stream] += 1
        stamps, samples = self._stamps[stream], self._samples[stream]
        if stamp_ns in samples:
            self.counts.dropped[stream] += 1
            return
        insort(stamps, stamp_ns)
        samples[stamp_ns] = sample
        if len(stamps) > self._depth:
            self.counts.dropped[stream] += 1
            del samples[stamps.pop(0)]

    def take(self, tick_ns: int) -> Tick:
        """The samples of the tick at `tick_ns`; what lies before them is forgotten."""
        chosen = {stream: self._choose(stream, tick_ns) for stream in self.rules}
        samples = {stream: self._samples[stream][stamp] for stream, stamp in chosen.items() if stamp is not None}
        missing = tuple(stream for stream in self.rules if stream not in samples)
        self.counts.missing.update(missing)
        self._handed_out = tick_ns
        for stream, stamps in self._stamps.items():
            keep_from = chosen[stream]
            old = bisect_left(stamps, keep_from if keep_from is not None else tick_ns - self.rules[stream].tolerance_ns)
            for stamp in stamps[:old]:
                del self._samples[stream][stamp]
            del stamps[:old]
        return Tick(tick_ns, samples, missing)

    def _choose(self, stream: str, tick_ns: int) -> int | None:
        stamps, rule = self._stamps[stream], self.rules[stream]
        after = bisect_left(stamps, tick_ns + 1)
        near = stamps[max(after - 1, 0) : after + (rule.rule == "nearest")]
        best = min(near, key=lambda stamp: (abs(stamp - tick_ns), stamp), default=None)
        return best if best is not None and abs(best - tick_ns) <= rule.tolerance_ns else None


class GridJoin:
    """Joins streams of unequal stamps on a grid of time: tick k is at the first sample of `clock` plus k periods.

    A tick is handed out once nothing more can come for it, or others are `patience_ns` ahead of a silent stream. What
    is FAR_NS ahead is dropped: a clock that leaps must not fill the time between with ticks.
    """

    def __init__(
        self, rules: Mapping[str, StreamRule], clock: str, period_ns: int, patience_ns: int = PATIENCE_NS
    ) -> None:
        if clock not in rules:
            raise UnknownNameError("stream", clock, rules)
        self._clock, self._period_ns, self._patience_ns = clock, period_ns, patience_ns
        # a sample that is nearer may come until the tolerance is over; one to be held, until the tick itself
        self._lag_ns = {s: rule.tolerance_ns if rule.rule == "nearest" else 0 for s, rule in rules.items()}
        self._held_ns = {s: rule.tolerance_ns if rule.rule == "hold" else 0 for s, rule in rules.items()}
        self._join = NewestJoin(rules, depth=512)
        self._newest: dict[str, int] = {}
        self._tick_ns: int | None = None  # the next one

    @property
    def counts(self) -> StreamCounts:
        return self._join.counts

    def newest_ns(self, stream: str) -> int | None:
        """Newest stamp that the stream delivered."""
        return self._newest.get(stream)

    def held_ns(self, stream: str) -> int:
        """How far before a tick a sample may lie that is held until then."""
        return self._held_ns[stream]

    def push(self, stream: str, stamp_ns: int, sample: Any) -> list[Tick]:
        """Add a sample and return the ticks that it settles, oldest first."""
        if self._tick_ns is None and stream == self._clock:
            self._tick_ns = stamp_ns
            self._newest = {s: newest_ns for s, newest_ns in self._newest.items() if newest_ns - stamp_ns <= FAR_NS}
        if self._tick_ns is not None and stamp_ns - self._tick_ns > FAR_NS:
            self.counts.dropped[stream] += 1
            return []
        self._join.push(stream, stamp_ns, sample)
        self._newest[stream] = max(stamp_ns, self._newest.get(stream, stamp_ns))
        ticks = []
        while self._tick_ns is not None and self._settled(self._tick_ns):
            ticks.append(self._take(self._tick_ns))
        return ticks

    def flush(self) -> list[Tick]:
        """Hand out all ticks up to the newest sample of any stream."""
        ticks = []
        while self._tick_ns is not None and self._tick_ns <= max(self._newest.values()):
            ticks.append(self._take(self._tick_ns))
        return ticks

    def _take(self, tick_ns: int) -> Tick:
        self._tick_ns = tick_ns + self._period_ns
        return self._join.take(tick_ns)

    def _settled(self, tick_ns: int) -> bool:
        if max(self._newest.values()) - tick_ns > self._patience_ns:
            return True
        return all(self._newest.get(stream, UNKNOWN_NS) >= tick_ns + lag for stream, lag in self._lag_ns.items())


class Join(Protocol):
    """Makes ticks of samples: ExactJoin or GridJoin."""

    @property
    def counts(self) -> StreamCounts: ...

    def push(self, stream: str, stamp_ns: int, sample: Any) -> list[Tick]: ...

    def newest_ns(self, stream: str) -> int | None: ...

    def held_ns(self, stream: str) -> int: ...

    def flush(self) -> list[Tick]: ...


Step = tuple[dict[str, Any], dict[str, int], dict[str, int]]
"""Values, capture stamps and receive stamps by dataset field: the arguments of `EpisodeWriter.append`."""


class EpisodeJoin:
    """One episode: samples in, steps out. A sample is the dataset fields that a stream brings at a stamp.

    Samples from before the start, which `begin` tells, are not of it, but for a picture that is still held at its first
    tick. Nor are ticks from the end on, which `end` tells: the observation after the last step has no action and is not
    a step.
    """

    def __init__(self, join: Join, observed: Sequence[str], command: str, sent: str) -> None:
        """`observed`: streams of the observation; `command` and `sent`: those of actions."""
        self._join = join
        self._observed, self._command, self._sent = tuple(observed), command, sent
        self._early: deque[tuple[str, int, Mapping[str, Any], int]] | None = deque(maxlen=EARLY_SAMPLES)
        self._start_ns = 0
        self._end_ns: int | None = None
        self._held_at_ns = UNKNOWN_NS

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Samples that came too late for their tick, or were dropped, by stream. What a step lacks is masked in it."""
        return {"late": dict(self._join.counts.late), "dropped": dict(self._join.counts.dropped)}

    @property
    def started(self) -> bool:
        return self._early is None

    def begin(self, start_ns: int) -> list[Step]:
        """The episode starts at this stamp; the steps of the samples that waited for the word."""
        early, self._early, self._start_ns = self._early or (), None, start_ns
        return [step for sample in early for step in self.push(*sample)]

    def end(self, end_ns: int) -> None:
        """The last observation of the episode is at this stamp."""
        self._end_ns = end_ns

    def push(self, stream: str, stamp_ns: int, fields: Mapping[str, Any], received_ns: int = UNKNOWN_NS) -> list[Step]:
        """Add a sample; the steps that it settles, oldest first."""
        if self._early is not None:
            self._early.append((stream, stamp_ns, fields, received_ns))
            return []
        if stamp_ns < self._start_ns - self._join.held_ns(stream):
            return []
        if fields.get("held"):
            self._held_at_ns = max(stamp_ns, self._held_at_ns)
        return self._steps(self._join.push(stream, stamp_ns, (stamp_ns, received_ns, fields)))

    def reached(self, end_ns: int, period_ns: int) -> bool:
        """Whether all that belongs to an episode with its last observation at `end_ns` has arrived.

        A step that was held may never get a command.
        """
        last_ns = end_ns - period_ns
        wanted = dict.fromkeys(self._observed, end_ns) | {self._sent: last_ns}
        if self._held_at_ns < last_ns:
            wanted[self._command] = last_ns
        newest = {stream: self._join.newest_ns(stream) for stream in wanted if stream}
        return all(stamp is not None and stamp >= wanted[stream] for stream, stamp in newest.items())

    def flush(self) -> list[Step]:
        """The steps that still wait, complete or not."""
        return self._steps(self._join.flush())

    def _steps(self, ticks: Iterable[Tick]) -> list[Step]:
        return [_step(tick) for tick in ticks if self._end_ns is None or tick.stamp_ns < self._end_ns]


def _step(tick: Tick) -> Step:
    values: dict[str, Any] = {}
    stamps: dict[str, int] = {}
    received: dict[str, int] = {}
    for stamp_ns, received_ns, fields in tick.samples.values():
        values |= fields
        stamps |= dict.fromkeys(fields, stamp_ns)
        received |= dict.fromkeys(fields, received_ns)
    return values, stamps, received
