"""One episode on its way into the dataset: samples become steps by the contract's rule, and are appended.

Two rules of synchronisation (`robolearn.sync`):

- `exact`, for the twin, which stamps everything of a tick alike: a tick is a stamp, and its samples are those with
  that very stamp.
- `grid`, for real robots and cameras, whose clocks tick apart: tick k is at the first joint states of the episode plus
  k periods of the dataset's rate. Joint states, commands and what was sent give the sample nearest to the tick, at most
  half a period away; a camera gives its newest picture at or before the tick, at most `max_image_age_s` old, which at
  the first tick may be of before the episode. What is further away is masked: nothing ever shifts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robolearn.datasets.contract import COMMAND, COMMAND_SENT
from robolearn.datasets.store import EpisodeInfo, EpisodeWriter
from robolearn.sync import EpisodeJoin, Join, Step
from robolearn.types import EpisodeOutcome


class Recording:
    """The episode that `writer` has begun. A step is what was seen at a tick, what was commanded and what was sent."""

    def __init__(self, writer: EpisodeWriter, observation_streams: Sequence[str], join: Join) -> None:
        self._writer = writer
        self._join = EpisodeJoin(join, observation_streams, COMMAND, COMMAND_SENT)
        self.num_steps = 0

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Samples that came too late for their tick, or were dropped, by stream. What a step lacks is masked in it."""
        return self._join.counts

    @property
    def started(self) -> bool:
        return self._join.started

    def begin(self, start_ns: int) -> None:
        """The episode starts at this stamp. Raises SpecError when a sample that waited does not fit."""
        self._append(self._join.begin(start_ns))

    def push(self, stream: str, stamp_ns: int, fields: Mapping[str, Any], received_ns: int = -1) -> None:
        """Add a sample: the dataset fields that this stream brings. Raises SpecError when one does not fit."""
        self._append(self._join.push(stream, stamp_ns, fields, received_ns))

    def end(self, end_ns: int) -> None:
        """The episode's last observation is at this stamp: ticks from then on are no steps."""
        self._join.end(end_ns)

    def reached(self, end_ns: int, period_ns: int) -> bool:
        """Whether all that belongs to an episode with its last observation at `end_ns` has arrived."""
        return self._join.reached(end_ns, period_ns)

    def commit(self, outcome: EpisodeOutcome, tags: Mapping[str, Any] | None = None) -> EpisodeInfo:
        """Write what waits, and make the episode visible."""
        self.flush()
        return self._writer.commit(outcome, tags)

    def flush(self) -> None:
        """Write what waits, complete or not."""
        self._append(self._join.flush())

    def _append(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self._writer.append(*step)
            self.num_steps += 1
