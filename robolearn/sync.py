"""Joining streams (joint states, images, commands) to ticks, by stamp.

Two rules, one class each:

- `ExactJoin`: a tick is a stamp that at least one stream carries, and its samples are those with that very stamp. For
  sources that stamp everything of one tick alike, as the twin does, and for everything that is recorded from it.
- `NewestJoin`: the caller names the tick, and each stream gives its sample nearest to it, within a tolerance. For real
  cameras and robots, whose clocks tick apart.

Both hold a bounded number of samples, hand every sample's tick out at most once and in order, and count per stream what
went wrong: `late` (its tick was handed out before), `missing` (a tick was handed out without it), `dropped` (thrown
away: a second sample of the same stamp, or no room). No clock is read.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from robolearn.errors import UnknownNameError


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
