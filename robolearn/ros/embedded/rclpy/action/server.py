"""`rclpy.action.server`."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Any

from robolearn.ros.messages import message_class

from ..callback_groups import CallbackGroup, ReentrantCallbackGroup
from ..exceptions import RCLError
from ..qos import qos_profile_action_status_default, qos_profile_default, qos_profile_services_default
from ..task import Future
from ..type_support import check_for_type_support


class GoalResponse(Enum):
    REJECT = 1
    ACCEPT = 2


class CancelResponse(Enum):
    REJECT = 1
    ACCEPT = 2


class GoalStatus(IntEnum):
    """As action_msgs/msg/GoalStatus numbers them."""

    UNKNOWN = 0
    ACCEPTED = 1
    EXECUTING = 2
    CANCELING = 3
    SUCCEEDED = 4
    CANCELED = 5
    ABORTED = 6


_NEXT = {
    GoalStatus.ACCEPTED: {GoalStatus.EXECUTING, GoalStatus.CANCELING},
    GoalStatus.EXECUTING: {GoalStatus.CANCELING, GoalStatus.SUCCEEDED, GoalStatus.ABORTED},
    GoalStatus.CANCELING: {GoalStatus.CANCELED, GoalStatus.SUCCEEDED, GoalStatus.ABORTED},
}


class ServerGoalHandle:
    """An accepted goal: the execute callback reports on it here."""

    def __init__(self, action_server: ActionServer, goal_info: Any, request: Any) -> None:
        self._action_server = action_server
        self._goal_info, self._goal_request = goal_info, request
        self._lock = threading.Lock()
        self._status = GoalStatus.ACCEPTED
        self._result: Future = Future()
        self._ended_s: float | None = None

    @property
    def request(self) -> Any:
        return self._goal_request

    @property
    def goal_id(self) -> Any:
        return self._goal_info.goal_id

    @property
    def status(self) -> int:
        return int(self._status)

    @property
    def is_active(self) -> bool:
        return self._status in _NEXT

    @property
    def is_cancel_requested(self) -> bool:
        return self._status is GoalStatus.CANCELING

    def _to(self, status: GoalStatus) -> None:
        """Raises RCLError on a step that the state machine of goals does not have."""
        with self._lock:
            if status not in _NEXT.get(self._status, ()):
                raise RCLError(f"Failed to update goal state: {self._status.name} cannot become {status.name}")
            self._status = status
        self._action_server._publish_status()

    def execute(self, execute_callback: Callable[..., Any] | None = None) -> None:
        """Have the executor run the execute callback."""
        if self._status is GoalStatus.ACCEPTED:
            self._to(GoalStatus.EXECUTING)
        self._action_server._execute(self, execute_callback)

    def publish_feedback(self, feedback: Any) -> None:
        self._action_server._publish_feedback(self, feedback)

    def succeed(self, response: Any = None) -> None:
        self._to(GoalStatus.SUCCEEDED)
        self._finish(response)

    def abort(self, response: Any = None) -> None:
        self._to(GoalStatus.ABORTED)
        self._finish(response)

    def canceled(self, response: Any = None) -> None:
        self._to(GoalStatus.CANCELED)
        self._finish(response)

    def _finish(self, response: Any) -> None:
        if response is not None:
            self._set_result(response)

    def _set_result(self, result: Any) -> None:
        if not self._result.done():
            self._ended_s = time.monotonic()
            self._result.set_result(result)

    def destroy(self) -> None:
        self._action_server._forget(self)


class ActionServer:
    """Accepts goals and runs them."""

    def __init__(
        self,
        node: Any,
        action_type: Any,
        action_name: str,
        execute_callback: Callable[[ServerGoalHandle], Any],
        *,
        callback_group: CallbackGroup | None = None,
        goal_callback: Callable[[Any], GoalResponse] = lambda _: GoalResponse.ACCEPT,
        handle_accepted_callback: Callable[[ServerGoalHandle], None] = lambda handle: handle.execute(),
        cancel_callback: Callable[[ServerGoalHandle], CancelResponse] = lambda _: CancelResponse.REJECT,
        goal_service_qos_profile: Any = qos_profile_services_default,
        result_service_qos_profile: Any = qos_profile_services_default,
        cancel_service_qos_profile: Any = qos_profile_services_default,
        feedback_pub_qos_profile: Any = qos_profile_default,
        status_pub_qos_profile: Any = qos_profile_action_status_default,
        result_timeout: float = 10,
    ) -> None:
        check_for_type_support(action_type, "action")
        self._node, self._action_type = node, action_type
        self._goals: dict[bytes, ServerGoalHandle] = {}
        self._result_timeout_s = result_timeout
        self._lock = threading.RLock()
        self.register_execute_callback(execute_callback)
        self._goal_callback, self._cancel_callback = goal_callback, cancel_callback
        self._handle_accepted_callback = handle_accepted_callback
        wire, prefix = action_type.Impl, f"{action_name}/_action"

        def service(kind: Any, name: str, callback: Any, profile: Any, group: CallbackGroup | None) -> Any:
            return node.create_service(kind, f"{prefix}/{name}", callback, qos_profile=profile, callback_group=group)

        waiting = (
            ReentrantCallbackGroup()
        )  # a request for a result waits until the goal is over, and must block nothing
        self._services = [
            service(wire.SendGoalService, "send_goal", self._on_goal, goal_service_qos_profile, callback_group),
            service(wire.CancelGoalService, "cancel_goal", self._on_cancel, cancel_service_qos_profile, callback_group),
            service(wire.GetResultService, "get_result", self._on_result, result_service_qos_profile, waiting),
        ]
        self._feedback = node.create_publisher(wire.FeedbackMessage, f"{prefix}/feedback", feedback_pub_qos_profile)
        self._status = node.create_publisher(wire.GoalStatusMessage, f"{prefix}/status", status_pub_qos_profile)
        self._publish_status()

    def register_goal_callback(self, callback: Callable[[Any], GoalResponse] | None) -> None:
        self._goal_callback = callback or (lambda _: GoalResponse.ACCEPT)

    def register_handle_accepted_callback(self, callback: Callable[[ServerGoalHandle], None] | None) -> None:
        self._handle_accepted_callback = callback or (lambda handle: handle.execute())

    def register_cancel_callback(self, callback: Callable[[ServerGoalHandle], CancelResponse] | None) -> None:
        self._cancel_callback = callback or (lambda _: CancelResponse.REJECT)

    def register_execute_callback(self, callback: Callable[[ServerGoalHandle], Any]) -> None:
        if not callable(callback):
            raise TypeError("Failed to register goal execution callback: not callable")
        self._execute_callback = callback

    async def _on_goal(self, request: Any, response: Any) -> Any:
        self._forget_old()
        key = bytes(request.goal_id.uuid)
        if key in self._goals or await _answer_of(self._goal_callback(request.goal)) is not GoalResponse.ACCEPT:
            return response
        info = message_class("action_msgs/msg/GoalInfo")(goal_id=request.goal_id)
        info.stamp = self._node.get_clock().now().to_msg()
        handle = ServerGoalHandle(self, info, request.goal)
        with self._lock:
            self._goals[key] = handle
        response.accepted, response.stamp = True, info.stamp
        self._node.executor.create_task(self._handle_accepted_callback, handle)  # after the answer has been sent
        return response

    async def _on_cancel(self, request: Any, response: Any) -> Any:
        """An empty id means every goal, a stamp every goal up to it (action_msgs/srv/CancelGoal)."""
        wanted = request.goal_info
        key, stamp = bytes(wanted.goal_id.uuid), (wanted.stamp.sec, wanted.stamp.nanosec)
        everything = not any(key) and stamp == (0, 0)
        codes = type(response)
        if any(key) and key not in self._goals:
            response.return_code = codes.ERROR_UNKNOWN_GOAL_ID
            return response
        for own, handle in list(self._goals.items()):
            accepted = (handle._goal_info.stamp.sec, handle._goal_info.stamp.nanosec)
            if not (everything or own == key or (stamp != (0, 0) and accepted <= stamp)):
                continue
            if not handle.is_active:
                if own == key:
                    response.return_code = codes.ERROR_GOAL_TERMINATED
                continue
            if await _answer_of(self._cancel_callback(handle)) is not CancelResponse.ACCEPT:
                continue
            try:
                if not handle.is_cancel_requested:
                    handle._to(GoalStatus.CANCELING)
            except RCLError:  # it ended while the callback thought about it
                response.return_code = codes.ERROR_GOAL_TERMINATED
                continue
            response.goals_canceling = [*response.goals_canceling, handle._goal_info]
        if response.goals_canceling:
            response.return_code = codes.ERROR_NONE
        elif response.return_code == codes.ERROR_NONE:
            response.return_code = codes.ERROR_REJECTED
        return response

    async def _on_result(self, request: Any, response: Any) -> Any:
        handle = self._goals.get(bytes(request.goal_id.uuid))
        if handle is not None:
            response.result = await handle._result
            response.status = handle.status
        return response

    def _execute(self, handle: ServerGoalHandle, callback: Callable[..., Any] | None) -> None:
        callback = self._execute_callback if callback is None else callback

        async def run() -> None:
            result = None
            try:
                result = await _answer_of(callback(handle))
            except Exception as error:  # noqa: BLE001  whatever the user's code raises ends the goal, not the node
                self._node.get_logger().error(f"Error raised in execute callback: {error}")
            if handle.is_active:
                self._node.get_logger().warning("Goal state not set, assuming aborted.")
                handle._to(GoalStatus.ABORTED)
            fits = isinstance(result, self._action_type.Result)
            handle._set_result(result if fits else self._action_type.Result())

        self._node.executor.create_task(run)

    def _publish_feedback(self, handle: ServerGoalHandle, feedback: Any) -> None:
        if not isinstance(feedback, self._action_type.Feedback):
            raise TypeError(f"wanted a {self._action_type._TYPE}_Feedback, got {type(feedback).__name__}")
        message = self._action_type.Impl.FeedbackMessage(goal_id=handle.goal_id, feedback=feedback)
        self._feedback.publish(message)

    def _publish_status(self) -> None:
        status = message_class("action_msgs/msg/GoalStatus")
        with self._lock:
            entries = [status(goal_info=h._goal_info, status=h.status) for h in self._goals.values()]
        if self._node.context.ok():
            self._status.publish(message_class("action_msgs/msg/GoalStatusArray")(status_list=entries))

    def _forget_old(self) -> None:
        """Forget goals that ended longer ago than the result timeout [s]; a negative one keeps them for ever."""
        if self._result_timeout_s < 0:
            return
        limit = time.monotonic() - self._result_timeout_s
        for handle in list(self._goals.values()):
            if handle._ended_s is not None and handle._ended_s < limit:
                self._forget(handle)

    def _forget(self, handle: ServerGoalHandle) -> None:
        with self._lock:
            self._goals.pop(bytes(handle.goal_id.uuid), None)

    def destroy(self) -> None:
        for service in self._services:
            self._node.destroy_service(service)
        for publisher in (self._feedback, self._status):
            self._node.destroy_publisher(publisher)


async def _answer_of(answer: Any) -> Any:
    """What a callback returned, waited for if it is a coroutine."""
    return await answer if inspect.isawaitable(answer) else answer
