"""What a replayed episode commands, and how well it is followed. Legend: T steps, J joints."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import Store
from robolearn.errors import SpecError
from robolearn.types import RobotState

AT_START_RAD = 1e-3  # the robot stands where the episode starts
MAX_GAP_NS = 500_000_000  # between two joint states: after a longer silence the episode's time is not the robot's
MAX_HELD_S = 0.5  # that the robot may hold on end, while the episode's time goes on
RAMP_PATIENCE = 3.0  # of the ramp's own duration, plus a second, until the start must have been reached


def recorded(store: Store, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """What an episode sent (T, J), where the robot stood then (T, J), and when it was sent [ns] (T,); not finite where
    it never came."""
    rows, valid = store.read(index, ["action_sent", "proprio"]), store.read_valid(index)
    for name, values in rows.items():
        values[~valid[name]] = np.nan
    sent = rows["action_sent"]
    return sent, rows["proprio"][:, : sent.shape[1]], store.read_stamps(index)["action_sent"][:, 0]


class Replay:
    """Answers joint states: a ramp to the first command, then the command of the same time after the start.

    actions: (T, J), and stamps_ns (T,), when each was sent. positions: (T, J), where the robot stood then. A step that
    lacks one keeps the action before. No clock is read: time is that of the joint states.
    """

    def __init__(
        self,
        actions: NDArray[np.float32],
        positions: NDArray[np.float32],
        stamps_ns: NDArray[np.int64],
        ramp_rad_s: float,
        start_tolerance_rad: float,
        period_ns: int,
    ) -> None:
        if not 0 < ramp_rad_s < np.inf:
            raise SpecError(f"the ramp of a replay has {ramp_rad_s:g} rad/s, expected more than 0")
        usable = np.isfinite(actions).all(1) & np.isfinite(positions).all(1) & (stamps_ns >= 0)
        self._actions, self._positions, self._period_ns = actions[usable], positions[usable], period_ns
        self._times_ns = stamps_ns[usable] - stamps_ns[usable][:1].sum()
        self._ramp_rad_s, self._tolerance = ramp_rad_s, start_tolerance_rad
        self._ramp: tuple[int, NDArray[np.float32]] | None = None  # since when, and from where
        self._start_ns: int | None = None
        self.phase = "waiting" if len(self._actions) else "done"
        self.problem = "" if len(self._actions) else "the episode has no commands"
        self.error: NDArray[np.float32] | None = None  # (J,) measured minus recorded position, at the newest state
        self.steps = 0
        self._squares = np.zeros(actions.shape[1])
        self._worst = 0.0
        self._newest_ns: int | None = None
        self._held_steps = 0

    @property
    def done(self) -> bool:
        return self.phase == "done"

    def answer(self, state: RobotState) -> NDArray[np.float32] | None:
        """The command (J,) for this state; None when there is nothing more to do."""
        gap_ns = 0 if self._newest_ns is None else state.stamp_ns - self._newest_ns
        self._newest_ns = state.stamp_ns
        if gap_ns > MAX_GAP_NS and not self.done:
            self.give_up(f"there was no joint state for {gap_ns * 1e-9:.1f} s")
        if gap_ns < 0 and not self.done:
            self.give_up(f"the clock of the joint states went back by {-gap_ns * 1e-9:.3f} s")
        if self.phase in ("waiting", "ramp"):
            return self._approach(state)
        return self._play(state) if self.phase == "playing" else None

    def sent(self, held: str) -> None:
        """The robot followed a command; or `held` says why it did not."""
        self._held_steps = self._held_steps + 1 if held and self.phase != "waiting" else 0
        if self._held_steps * self._period_ns > MAX_HELD_S * 1e9 and not self.done:
            self.give_up(f"the robot holds: {held}")

    def give_up(self, why: str) -> None:
        """Command nothing more."""
        self.phase, self.problem = "done", why

    def figures(self) -> dict[str, float]:
        """Tracking error: over all steps and joints, and the worst of them [rad]."""
        rms = float(np.sqrt((self._squares / max(self.steps, 1)).mean()))
        return {"error_rms_rad": round(rms, 5), "error_max_rad": round(self._worst, 5)}

    def _approach(self, state: RobotState) -> NDArray[np.float32] | None:
        goal = self._positions[0]
        if self._ramp is None:
            self._ramp, self.phase = (state.stamp_ns, state.joint_position), "ramp"
        since_ns, origin = self._ramp
        elapsed_s = (state.stamp_ns - since_ns) * 1e-9
        needed_s = float(np.abs(goal - origin).max()) / self._ramp_rad_s
        gap = np.abs(goal - state.joint_position)
        if gap.max() <= AT_START_RAD or (gap.max() <= self._tolerance and elapsed_s >= needed_s):
            self.phase, self._start_ns = "playing", state.stamp_ns
            return self._play(state)
        if elapsed_s > RAMP_PATIENCE * needed_s + 1.0:
            worst = int(gap.argmax())
            self.give_up(f"the start was not reached: joint {worst} is {gap[worst]:.3f} rad off")
            return None
        return (origin + (goal - origin) * min(elapsed_s / max(needed_s, 1e-9), 1.0)).astype(np.float32)

    def _play(self, state: RobotState) -> NDArray[np.float32] | None:
        assert self._start_ns is not None
        time_ns = state.stamp_ns - self._start_ns + self._period_ns // 4  # jitter does not make it a step late
        if time_ns >= self._times_ns[-1] + self._period_ns:
            self.phase = "done"
            return None
        step = int(np.searchsorted(self._times_ns, time_ns, side="right")) - 1
        self.error = (state.joint_position - self._positions[step]).astype(np.float32)
        self._squares += np.square(self.error, dtype=np.float64)
        self._worst = max(self._worst, float(np.abs(self.error).max()))
        self.steps += 1
        return self._actions[step]
