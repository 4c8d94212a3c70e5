"""What a controller answers, and the newest command that came for a robot."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from numpy.typing import NDArray
from trajectory_msgs.msg import JointTrajectory

from robolearn.errors import SpecError
from robolearn.sync import StreamCounts, Tick
from robolearn_nodes import convert


class Pace:
    """Which samples of a stream are to be answered: all of one at the control rate, every so many of a faster one."""

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self._due_ns = -(10**18)  # of no clock, so that the first sample begins the grid

    def due(self, stamp_ns: int) -> bool:
        """Whether the sample of that stamp is one of them. A jitter of a quarter period is no matter."""
        early_ns = self._due_ns - stamp_ns
        if self._period_ns // 4 < early_ns <= 2 * self._period_ns:  # what is earlier still is of another clock
            return False
        follows = 0 < early_ns <= self._period_ns // 4 or -self._period_ns // 2 <= early_ns <= 0
        self._due_ns = (self._due_ns if follows else stamp_ns) + self._period_ns
        return True


FEW = 4  # newest samples of a stream: the last ones may be younger than the joint states that have just come


class LiveJoin:
    """Observations of a cell, whose clocks tick apart: joint states at the control rate, each with the newest sample of
    every other stream at or before it, as it is recorded, or else the first after it, if that is near enough. Nothing
    is waited for."""

    def __init__(self, streams: Iterable[str], states: str, period_ns: int, max_age_ns: int) -> None:
        self._others = [stream for stream in streams if stream != states]
        self._states, self._period_ns, self._max_age_ns = states, period_ns, max_age_ns
        self.reset()

    def reset(self) -> None:
        """Forget all samples and counts."""
        self.counts = StreamCounts()
        self._pace = Pace(self._period_ns)
        self._came: dict[str, deque[tuple[int, Any]]] = {name: deque(maxlen=FEW) for name in self._others}

    def push(self, stream: str, stamp_ns: int, sample: Any) -> list[Tick]:
        """Add a sample; of joint states, the tick that they make."""
        if stream != self._states:
            self._came[stream].append((stamp_ns, sample))
            return []
        if not self._pace.due(stamp_ns):
            return []
        fresh = {}
        for name, came in self._came.items():
            near = [one for one in came if abs(one[0] - stamp_ns) <= self._max_age_ns]
            if near:
                fresh[name] = min(near, key=lambda one: (one[0] > stamp_ns, abs(one[0] - stamp_ns)))[1]
        missing = tuple(name for name in self._others if name not in fresh)
        self.counts.missing.update(missing)
        return [Tick(stamp_ns, {self._states: sample, **fresh}, missing)]


class NewestCommand:
    """Keeps the command with the newest stamp, well-formed or not; one that is stamped ahead of the clock is not taken,
    and one that was taken gives way to any other once the clock has gone back behind it.

    Else no later command would be newer, and all of them would be lost until the clock has caught up.
    """

    def __init__(self, joint_names: Sequence[str]) -> None:
        self._joints = joint_names
        self.clear()

    def clear(self) -> None:
        """Forget all commands."""
        self._stamp_ns, self._action, self._refusal, self._ahead = 0, None, "", ""
        self.count = 0

    def put(self, message: JointTrajectory, now_ns: int, refusal: str = "") -> bool:
        """A command came, which is not to be followed where `refusal` says why. Whether it is the newest one now."""
        self.count += 1
        stamp_ns = convert.stamp_ns(message.header.stamp)
        if stamp_ns > now_ns:
            self._ahead = f"the command is stamped {(stamp_ns - now_ns) * 1e-9:.3f} s ahead of the clock"
            return False
        if stamp_ns < self._stamp_ns <= now_ns:
            return False
        self._stamp_ns, self._action, self._refusal, self._ahead = stamp_ns, None, refusal, ""
        try:
            self._action = None if refusal else convert.command(message, self._joints)
        except SpecError as error:
            self._refusal = str(error)
        return True

    def refuse(self, why: str) -> None:
        """The command that counts is not to be followed any more."""
        self._action, self._refusal = None, why

    def get(self) -> tuple[int, NDArray | None, str]:
        """Its stamp, the joint targets (J,) or None, and what was wrong with what came last."""
        return self._stamp_ns, self._action, self._refusal or self._ahead
