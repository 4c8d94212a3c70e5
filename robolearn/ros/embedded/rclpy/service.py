"""`rclpy.service`."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable
from typing import Any

from robolearn.ros import messages
from robolearn.ros.session import NodeRecord, Session
from robolearn.ros.transport import RequestId

from .callback_groups import CallbackGroup
from .exceptions import InvalidHandle
from .qos import QoSProfile, to_endpoint
from .subscription import warn_malformed


class Service:
    """Answers requests."""

    def __init__(
        self,
        session: Session,
        record: NodeRecord,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        callback_group: CallbackGroup,
        qos_profile: QoSProfile,
        logger_name: str,
    ) -> None:
        self._session, self._record = session, record
        self.srv_type = srv_type
        self.srv_name = self.service_name = srv_name
        self.callback = callback
        self.callback_group = callback_group
        self.qos_profile = qos_profile
        self.malformed_count = 0
        self._logger_name = logger_name
        self._queue: deque[tuple[bytes, RequestId]] = deque(maxlen=to_endpoint(qos_profile, is_reader=True).depth)
        self._wake: Callable[[], None] = lambda: None
        qos = to_endpoint(qos_profile, is_reader=True)
        self._end: Any = session.transport.create_server(srv_name, srv_type._TYPE, qos)
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
            data, request_id = self._queue.popleft()
        except IndexError:
            return None
        try:
            request = messages.deserialize(data, self.srv_type.Request)
        except ValueError as error:
            self.malformed_count += 1
            warn_malformed(self._logger_name, self.malformed_count, error)
            return None
        if inspect.iscoroutinefunction(self.callback):
            return lambda: self._answer_later(request, request_id)
        return lambda: self._answer(request, request_id)

    def _answer(self, request: Any, request_id: RequestId) -> Any:
        response = self.callback(request, self.srv_type.Response())
        if inspect.iscoroutine(response):
            return self._answer_when_done(response, request_id)
        self._send(response, request_id)
        return None

    async def _answer_later(self, request: Any, request_id: RequestId) -> None:
        self._send(await self.callback(request, self.srv_type.Response()), request_id)

    async def _answer_when_done(self, coroutine: Any, request_id: RequestId) -> None:
        self._send(await coroutine, request_id)

    def _send(self, response: Any, request_id: RequestId) -> None:
        if self._end is not None:  # else it was destroyed while its callback ran, and who asked waits for another
            self.send_response(response, request_id)

    def send_response(self, response: Any, header: RequestId) -> None:
        """Send the answer of one request. Raises TypeError if it is of another type."""
        if not isinstance(response, self.srv_type.Response):
            raise TypeError(
                f"the callback of service {self.srv_name} returned {type(response).__name__}, "
                f"wanted a {self.srv_type._TYPE}_Response"
            )
        if self._end is None:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")
        self._end.reply(header, messages.serialize(response))

    def destroy(self) -> None:
        end, self._end = self._end, None
        if end is not None:
            self._session.remove_service_end(self._record, end)
