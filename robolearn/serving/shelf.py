"""The policies that a server holds, one of which acts."""

from __future__ import annotations

import threading

from robolearn.errors import SpecError, UnknownNameError
from robolearn.policies.policy import Policy
from robolearn.specs import INSTRUCTION


class PolicyShelf:
    """Policies by name, for one kind of robot. Safe for several threads: who acts asks for `active` at every chunk."""

    def __init__(self, name: str, policy: Policy) -> None:
        self._lock = threading.Lock()
        self._policies = {name: policy}
        self._active = name
        self._interface = policy.spec

    @property
    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._policies)

    @property
    def active_name(self) -> str:
        return self._active

    @property
    def active(self) -> Policy:
        with self._lock:
            return self._policies[self._active]

    def put(self, name: str, policy: Policy) -> None:
        """Keep a policy; one of that name is replaced. Raises SpecError when it is not for this robot and cameras."""
        policy.spec.require(self._interface, f"policy {name!r}", "this server")
        mine, first = ((s.observation_steps, s.observation.get(INSTRUCTION)) for s in (policy.spec, self._interface))
        if mine != first:
            raise SpecError(
                f"policy {name!r} wants {mine[0]} observations at once and {'an' if mine[1] else 'no'} instruction, "
                f"this server gives {first[0]} and {'one' if first[1] else 'none'}; start a server for it"
            )
        with self._lock:
            self._policies[name] = policy

    def activate(self, name: str) -> None:
        """Let it act, from the next chunk on. Raises UnknownNameError."""
        with self._lock:
            if name not in self._policies:
                raise UnknownNameError("policy", name, self._policies)
            self._active = name
