"""The episode that runs on the robot or the twin: what is counted, and the events that tell of it."""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
from robolearn_msgs.msg import EpisodeEvent

from robolearn.types import EpisodeOutcome
from robolearn_nodes import convert

REMEMBERED = 10_000  # newest latencies, and observations without an answer: an episode may last a night

ENDINGS = {
    "success": EpisodeEvent(judged=True, success=True, terminated=True),
    "failure": EpisodeEvent(judged=True, success=False, terminated=True),
    "discard": EpisodeEvent(truncated=True, reason="discarded by the operator"),
    "stop": EpisodeEvent(truncated=True, reason="stopped by the operator"),
}
"""How a person ends an episode."""


def new_episode_id(task_id: str, *parts: object) -> str:
    """An id that nobody has: task, parts and a random end, of the letters that ids may have."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(filter(None, (task_id, *map(str, parts)))))
    return f"{name[-80:]}-{uuid4().hex[:12]}".lstrip("-")


def asked_outcome(event: EpisodeEvent) -> EpisodeOutcome:
    """How an episode is to end that somebody stops: as the event of the request says."""
    success = bool(event.success) if event.judged or event.success else None
    return EpisodeOutcome(success, event.terminated, event.truncated or not event.terminated, event.reason)


@dataclass
class RunningEpisode:
    """Counts steps, refusals and latencies from STARTED to ENDED."""

    started: EpisodeEvent
    max_duration_s: float = 0.0  # of wall time; 0: any
    num_steps: int = 0
    held_steps: int = 0
    held_in_a_row: int = 0
    last_refusal: str = ""
    _began_s: float = field(default_factory=time.monotonic)
    _published_ns: dict[int, int] = field(default_factory=dict)  # wall time by stamp, of unanswered observations
    _latency_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def observed(self, stamp_ns: int, wall_ns: int) -> None:
        """The observation of `stamp_ns` is about to be published."""
        while len(self._published_ns) >= REMEMBERED:
            del self._published_ns[next(iter(self._published_ns))]
        self._published_ns[stamp_ns] = wall_ns

    def answered(self, stamp_ns: int, wall_ns: int) -> None:
        """A command for the observation of `stamp_ns` came in."""
        published_ns = self._published_ns.pop(stamp_ns, None)
        if published_ns is not None:
            self._latency_ms.append((wall_ns - published_ns) * 1e-6)

    def stepped(self, refusal: str) -> None:
        """One step was taken; `refusal` says why the robot held in it, or is empty."""
        held = bool(refusal)
        self.num_steps += 1
        self.held_steps += held
        self.held_in_a_row = self.held_in_a_row + 1 if held else 0
        self.last_refusal = refusal or self.last_refusal

    def too_long(self) -> EpisodeOutcome | None:
        """How it is to end, once it has lasted for as long as it may."""
        if not 0 < self.max_duration_s < time.monotonic() - self._began_s:
            return None
        return EpisodeOutcome(None, False, True, f"longer than {self.max_duration_s:g} s")

    def ended(self, stamp_ns: int, outcome: EpisodeOutcome, discarded: bool = False) -> EpisodeEvent:
        """The ENDED event; its reason tells of refused commands too."""
        p50_ms, p99_ms = np.percentile(list(self._latency_ms) or [0.0], [50, 99])
        held = f"the robot held in {self.held_steps} steps: {self.last_refusal}" if self.held_steps else ""
        return EpisodeEvent(
            header=convert.header(stamp_ns),
            event=EpisodeEvent.ENDED,
            episode_id=self.started.episode_id,
            task=self.started.task,
            instruction=self.started.instruction,
            seed=self.started.seed,
            num_steps=self.num_steps,
            judged=outcome.success is not None,
            success=bool(outcome.success),
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            discarded=discarded,
            reason="; ".join(filter(None, (outcome.reason, held))),
            loop_p50_ms=float(p50_ms),
            loop_p99_ms=float(p99_ms),
            held_steps=self.held_steps,
        )
