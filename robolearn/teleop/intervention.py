"""Who is in charge this tick: the person or the policy. Legend: J joints.

1. A stop from the person holds the robot until `resume`.
2. The person's action goes before the policy's, at once.
3. When the person lets go, the robot holds the person's last action for `release_s`, then the policy goes on. Its
   plans were made before: `policy_returns` marks the tick at which it must plan anew.
4. When nobody has an action, the robot holds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.teleop.combined import CombinedTeleopConfig
from robolearn.teleop.teleoperator import TeleopCommand, TeleopEvent
from robolearn.types import ActionSource

IDLE_S = 1.0  # beside a policy: without a key or a motion for so long, and the policy goes on


def beside_a_policy(config: Any) -> Any:
    """A device's configuration where a policy acts while nobody is at the controls: what would be in charge for good
    (`idle_s` None), from one key on or as a leader that lies near the robot, gives the robot back after IDLE_S."""
    if isinstance(config, CombinedTeleopConfig):
        parts = {name: replace(part, config=beside_a_policy(part.config)) for name, part in config.parts.items()}
        return replace(config, parts=parts)
    return replace(config, idle_s=IDLE_S) if getattr(config, "idle_s", IDLE_S) is None else config


@dataclass(frozen=True)
class InterventionConfig:
    """How hands change."""

    release_s: float = 0.5  # that the person's last action is held after letting go


@dataclass(frozen=True)
class Verdict:
    """`action` (J,) None: hold, and `reason` says why. `source`: who is in charge, None when nobody is."""

    action: NDArray[np.float32] | None
    source: ActionSource | None
    reason: str = ""
    policy_returns: bool = False  # the first tick of the policy after the person: it must plan from here


class Intervention:
    """Remembers who was in charge. Makes no steps of its own: the SafetyFilter bounds how fast hands can change."""

    def __init__(self, config: InterventionConfig, with_policy: bool) -> None:
        """with_policy: whether a policy runs, so that the person intervenes; otherwise the person demonstrates."""
        self.config = config
        self._person = ActionSource.INTERVENTION if with_policy else ActionSource.HUMAN
        self.stopped = False
        self._last: NDArray[np.float32] | None = None  # the person's last action, while it counts
        self._last_ns = 0
        self._was_policy = True

    def resume(self) -> None:
        """After a stop: let the robot move again. Whoever acts starts anew."""
        self.stopped, self._last, self._was_policy = False, None, False

    def begin(self) -> None:
        """Another episode, for which the policy plans anew by itself, unless a person still moves the robot."""
        self._was_policy = True

    def decide(self, policy_action: NDArray[np.float32] | None, command: TeleopCommand, now_ns: int) -> Verdict:
        """policy_action: (J,), None when there is none; command: what the teleoperator said."""
        if TeleopEvent.STOP in command.events:
            self.stopped = True
        if self.stopped:
            self._was_policy = False
            key = "the key of a success (Enter on a keyboard)"
            return Verdict(None, None, f"stopped by the operator; {key} or the page resumes it")
        if command.action is not None:
            self._last, self._last_ns, self._was_policy = command.action, now_ns, False
            return Verdict(command.action, self._person)
        if self._last is not None and 0 <= now_ns - self._last_ns <= self.config.release_s * 1e9:
            self._was_policy = False
            return Verdict(self._last, self._person, "the operator has let go")
        self._last = None
        if policy_action is None:
            return Verdict(None, None, command.reason or "nobody is in charge")
        returns, self._was_policy = not self._was_policy, True
        return Verdict(policy_action, ActionSource.POLICY, policy_returns=returns)
