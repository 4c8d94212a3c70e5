"""One episode on its way into the dataset: joins the streams by stamp and appends a step a tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from robolearn.datasets.store import EpisodeInfo, EpisodeWriter
from robolearn.sync import ExactJoin, Tick
from robolearn.types import EpisodeOutcome
from robolearn_nodes.topics import COMMAND, COMMAND_SENT

DEPTH = 64  # ticks that may wait for a sample before they are written without it


class Recording:
    """The episode that `writer` has begun. A step is what was seen at a tick, what was commanded and what was sent.

    The observation after the last step has no action and is not a step. Samples of `after_ns` and older belong to the
    episode before.
    """

    def __init__(self, writer: EpisodeWriter, observation_streams: Sequence[str], after_ns: int) -> None:
        self._writer = writer
        self._observations = tuple(observation_streams)
        self._join = ExactJoin([*observation_streams, COMMAND, COMMAND_SENT], DEPTH)
        self._after_ns = after_ns
        self._held_at_ns = after_ns
        self.num_steps = 0

    def push(self, stream: str, stamp_ns: int, fields: Mapping[str, Any]) -> None:
        """Add a sample: the dataset fields that this stream brings. Raises SpecError when one does not fit."""
        if stamp_ns <= self._after_ns:
            return
        if fields.get("held"):
            self._held_at_ns = stamp_ns
        for tick in self._join.push(stream, stamp_ns, fields):
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

    def commit(self, end_ns: int, outcome: EpisodeOutcome) -> EpisodeInfo:
        """Write what waits, complete or not, and make the episode visible."""
        for tick in self._join.flush():
            if tick.stamp_ns < end_ns:
                self._append(tick)
        return self._writer.commit(outcome)

    def _append(self, tick: Tick) -> None:
        step: dict[str, Any] = {}
        stamps_ns: dict[str, int] = {}
        for fields in tick.samples.values():
            step |= fields
            stamps_ns |= dict.fromkeys(fields, tick.stamp_ns)
        self._writer.append(step, stamps_ns)
        self.num_steps += 1
