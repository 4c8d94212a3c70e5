"""`rclpy.context`: what init opens and shutdown closes."""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from robolearn.ros import arguments
from robolearn.ros.cyclone_config import checked_domain_id, domain_id_from_environment
from robolearn.ros.session import Session

from .exceptions import NotInitializedException
from .signals import forget_waiting, raise_waiting

contexts: weakref.WeakSet[Context] = weakref.WeakSet()


class Context:
    """One participation in a ROS domain."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._ok = False
        self._initialized = False
        self._shutdown_callbacks: list[Any] = []
        self._wakers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._nodes: weakref.WeakSet[Any] = weakref.WeakSet()
        self._arguments = arguments.RosArguments()
        self._domain_id = 0
        self._logging = False
        contexts.add(self)

    def init(
        self, args: list[str] | None = None, *, initialize_logging: bool = True, domain_id: int | None = None
    ) -> None:
        """Join the domain. Raises TransportError, or RuntimeError if that was done before."""
        with self._lock:
            if self._initialized:
                raise RuntimeError("Context.init() must only be called once")
            self._arguments = arguments.parse(sys.argv if args is None else args)
            self._domain_id = domain_id_from_environment() if domain_id is None else checked_domain_id(domain_id)
            self._session = Session(self._domain_id, self._arguments.enclave)
            self._initialized = self._ok = True
        if initialize_logging:
            from .logging import set_levels

            set_levels(self._arguments.log_levels)

    def ok(self) -> bool:
        """Whether it is open: initialised, and neither shut down nor interrupted by a signal."""
        return self._ok

    def get_domain_id(self) -> int:
        return self._domain_id

    @property
    def handle(self) -> Session:
        """What the entities of this context live on. Raises NotInitializedException."""
        if self._session is None or not self._ok:
            raise_waiting()
            raise NotInitializedException
        return self._session

    def _interrupt(self) -> None:
        """From a signal handler: end every spin. The domain is left by `shutdown`, or at exit."""
        self._ok = False
        self._wake_all()

    def _wake_all(self) -> None:
        for waker in list(self._wakers):
            waker.wake()

    def shutdown(self) -> None:
        """Leave the domain. Raises RuntimeError if it is not joined."""
        if self._session is None:
            raise RuntimeError("Context must be initialized before it can be shutdown")
        self.try_shutdown()

    def try_shutdown(self) -> None:
        """Leave the domain if it is joined."""
        with self._lock:
            session, self._session = self._session, None
            self._ok = False
        forget_waiting()
        if session is None:
            return
        callbacks, self._shutdown_callbacks = self._shutdown_callbacks, []
        for reference in callbacks:
            callback = reference()
            if callback is not None:
                callback()
        self._wake_all()
        session.close()

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call once at shutdown. Bound methods do not keep their object alive."""
        if not callable(callback):
            raise TypeError("callback should be a callable, got {}", type(callback))
        is_method = hasattr(callback, "__self__")
        reference: Any = weakref.WeakMethod(callback) if is_method else (lambda: callback)
        with self._lock:
            if reference not in self._shutdown_callbacks:
                self._shutdown_callbacks.append(reference)

    def __enter__(self) -> Context:
        if not self._initialized:
            self.init()
        return self

    def __exit__(self, *_: object) -> None:
        self.try_shutdown()


@atexit.register
def _leave_domains() -> None:
    for context in list(contexts):
        context.try_shutdown()
