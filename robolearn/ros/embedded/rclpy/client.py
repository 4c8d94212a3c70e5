"""`rclpy.client`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from robolearn.ros import messages
from robolearn.ros.session import NodeRecord, Session

from .callback_groups import CallbackGroup
from .context import Context
from .exceptions import InvalidHandle
from .qos import QoSProfile, to_endpoint
from .subscription import warn_malformed
from .task import Future

POLL_S = 0.01


class Client:
    """Calls a service."""

    def __init__(
        self,
        session: Session,
        record: NodeRecord,
        context: Context,
        srv_type: Any,
        srv_name: str,
        qos_profile: QoSProfile,
        callback_group: CallbackGroup,
        logger_name: str,
    ) -> None:
        self._session, self._record, self.context = session, record, context
        self.srv_type = srv_type
        self.srv_name = self.service_name = srv_name
        self.qos_profile = qos_profile
        self.callback_group = callback_group
        self.callback = None
        self.malformed_count = 0
        self._logger_name = logger_name
        self._pending: dict[int, Future] = {}
        self._lock = threading.Lock()
        self._queue: deque[tuple[bytes, int]] = deque()
        self._wake: Callable[[], None] = lambda: None
        self._executor_of: Callable[[], Any] = lambda: None
        qos = to_endpoint(qos_profile, is_reader=True)
        self._end: Any = session.transport.create_client(srv_name, srv_type._TYPE, qos)
        session.add_service_end(record, self._end)

    @property
    def _source(self) -> Any:
        return self._end

    def _drain(self) -> None:
        if self._end is not None:
            self._queue.extend(self._end.take())

    def _is_ready(self) -> bool:
        return bool(self._queue)

    def _take(self) -> Callable[[], Any] | None:
        try:
            data, sequence = self._queue.popleft()
        except IndexError:
            return None
        with self._lock:
            future = self._pending.pop(sequence, None)
        if future is None:
            return None
        try:
            response = messages.deserialize(data, self.srv_type.Response)
        except ValueError as error:
            self.malformed_count += 1
            warn_malformed(self._logger_name, self.malformed_count, error)
            return None
        return lambda: None if future.cancelled() else future.set_result(response)

    def _open(self) -> Any:
        if self._end is None:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        return self._end

    def call_async(self, request: Any) -> Future:
        """Send a request; the future is done when an executor that spins the node has taken the answer."""
        if not isinstance(request, self.srv_type.Request):
            raise TypeError(f"wanted a {self.srv_type._TYPE}_Request, got {type(request).__name__}")
        data = messages.serialize(request)
        with self._lock:  # the answer may come before the request call returns
            future = Future()
            sequence = self._open().request(data)
            self._pending[sequence] = future
        future._set_executor(self._executor_of())
        future.add_done_callback(lambda _: self._pending.pop(sequence, None))
        return future

    def call(self, request: Any, timeout_sec: float | None = None) -> Any:
        """Call and wait; None after the timeout. Another thread must spin the node, so not from a callback of it."""
        executor = self._executor_of()
        if executor is not None and executor._runs_in_this_thread():
            raise RuntimeError(
                f"call() of {self.srv_name} from a callback of the executor that must take the answer would wait for "
                "ever; use `await client.call_async(request)`, or a MultiThreadedExecutor with another callback group"
            )
        done = threading.Event()
        future = self.call_async(request)
        future._set_executor(None)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(timeout_sec):
            self.remove_pending_request(future)
            return None
        return future.result()

    def remove_pending_request(self, future: Future) -> None:
        with self._lock:
            for sequence, waiting in list(self._pending.items()):
                if waiting is future:
                    del self._pending[sequence]

    def get_pending_request_count(self) -> int:
        return len(self._pending)

    def service_is_ready(self) -> bool:
        return bool(self._open().is_ready())

    def wait_for_service(self, timeout_sec: float | None = None) -> bool:
        """Whether a server is there within the time."""
        deadline = None if timeout_sec is None or timeout_sec < 0 else time.monotonic() + timeout_sec
        while self.context.ok():
            if self.service_is_ready():
                return True
            remaining = POLL_S if deadline is None else min(POLL_S, deadline - time.monotonic())
            if remaining <= 0:
                return False
            time.sleep(remaining)
        return False

    def destroy(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            self._session.remove_service_end(self._record, end)
