"""The wait of one executor for whatever arrives."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

from cyclonedds.core import GuardCondition, WaitSet
from cyclonedds.domain import DomainParticipant

from robolearn.errors import TransportError
from robolearn.ros import cyclone_calls
from robolearn.ros.cyclone_endpoints import CycloneReader

TRIGGERS_AT_ONCE = 64
GUARD_KEY, DISCOVERY_KEY = 1, 2
SIGNAL_CHECK_NS = 100_000_000  # Python handles signals between calls of the library, not during one


class CycloneWaiter:
    """A DDS wait set, with a guard condition to wake it and the announcements of other participants in passing."""

    def __init__(self, participant: DomainParticipant, discovery: CycloneReader, announced: Callable[[], None]) -> None:
        self._announced = announced
        self._waitset = WaitSet(participant)
        self._guard = GuardCondition(participant)
        self._entities: dict[int, Any] = {}
        self._keys: dict[Any, int] = {}
        self._next_key = DISCOVERY_KEY
        self._woken = False
        self._lock = threading.RLock()  # of the guard, which a shutdown in another thread takes away
        self._closed = False
        self._triggered = (ctypes.c_ssize_t * TRIGGERS_AT_ONCE)()
        self._attach(self._guard, GUARD_KEY)
        self._attach(discovery.condition, DISCOVERY_KEY)

    def _attach(self, entity: Any, key: int) -> None:
        if cyclone_calls.waitset_attach(self._waitset._ref, entity._ref, key) < 0:
            raise TransportError("the DDS wait set refused an entity")

    def attach(self, source: Any, entity: Any) -> None:
        """Have `wait` name the entity when the source has something."""
        self._next_key += 1
        self._entities[self._next_key] = entity
        self._keys[source] = self._next_key
        for condition in source.conditions:
            self._attach(condition, self._next_key)

    def detach(self, source: Any) -> None:
        """Stop watching the source."""
        key = self._keys.pop(source, None)
        if key is not None:
            self._entities.pop(key, None)
            for condition in source.conditions:
                cyclone_calls.waitset_detach(self._waitset._ref, condition._ref)

    def wait(self, timeout_ns: int) -> list[Any]:
        """Entities with something to take. The wait ends early in the main thread, so that signals are handled."""
        if timeout_ns > SIGNAL_CHECK_NS and threading.current_thread() is threading.main_thread():
            timeout_ns = SIGNAL_CHECK_NS
        count = cyclone_calls.waitset_wait(self._waitset._ref, self._triggered, TRIGGERS_AT_ONCE, timeout_ns)
        found: list[Any] = []
        for key in sorted(self._triggered[: min(max(count, 0), TRIGGERS_AT_ONCE)]):  # in the order of attachment
            if key == GUARD_KEY:
                self._set(False)  # before the flag: a wake between the two is not lost, its reason is seen now
                self._woken = False
            elif key == DISCOVERY_KEY:
                self._announced()
            elif (entity := self._entities.get(key)) is not None and entity not in found[-1:]:
                found.append(entity)  # None: another thread has detached it
        return found

    def wake(self) -> None:
        """End the wait, or the next one."""
        if not self._woken:
            self._woken = True
            self._set(True)

    def _set(self, triggered: bool) -> None:
        with self._lock:
            if not self._closed:
                self._guard.set(triggered)

    def close(self) -> None:
        """End a wait in another thread, for good."""
        with self._lock:
            self._closed = True
            self._waitset.__del__()
            self._guard.__del__()
