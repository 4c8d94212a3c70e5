"""`rclpy.action.client`: three services and two topics seen as one long call."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from robolearn.ros.messages import message_class

from ..callback_groups import CallbackGroup
from ..qos import qos_profile_action_status_default, qos_profile_default, qos_profile_services_default
from ..task import Future
from ..type_support import check_for_type_support


class ClientGoalHandle:
    """A goal that the server has answered."""

    def __init__(self, action_client: ActionClient, goal_id: Any, response: Any) -> None:
        self._action_client = action_client
        self._goal_response = response
        self.goal_id = goal_id
        self._status = 0

    @property
    def stamp(self) -> Any:
        return self._goal_response.stamp

    @property
    def accepted(self) -> bool:
        return bool(self._goal_response.accepted)

    @property
    def status(self) -> int:
        return self._status

    def cancel_goal_async(self) -> Future:
        return self._action_client._cancel_goal_async(self)

    def cancel_goal(self) -> Any:
        return _wait_for(self.cancel_goal_async())

    def get_result_async(self) -> Future:
        return self._action_client._get_result_async(self)

    def get_result(self) -> Any:
        return _wait_for(self.get_result_async())

    def __repr__(self) -> str:
        return f"ClientGoalHandle <id={bytes(self.goal_id.uuid).hex()}, accepted={self.accepted}, status={self.status}>"


class ActionClient:
    """Sends goals to an action server."""

    def __init__(
        self,
        node: Any,
        action_type: Any,
        action_name: str,
        *,
        callback_group: CallbackGroup | None = None,
        goal_service_qos_profile: Any = qos_profile_services_default,
        result_service_qos_profile: Any = qos_profile_services_default,
        cancel_service_qos_profile: Any = qos_profile_services_default,
        feedback_sub_qos_profile: Any = qos_profile_default,
        status_sub_qos_profile: Any = qos_profile_action_status_default,
    ) -> None:
        check_for_type_support(action_type, "action")
        self._node, self._action_type, self._action_name = node, action_type, action_name
        wire, prefix = action_type.Impl, f"{action_name}/_action"

        def client(kind: Any, name: str, profile: Any) -> Any:
            return node.create_client(kind, f"{prefix}/{name}", qos_profile=profile, callback_group=callback_group)

        self._goal_client = client(wire.SendGoalService, "send_goal", goal_service_qos_profile)
        self._cancel_client = client(wire.CancelGoalService, "cancel_goal", cancel_service_qos_profile)
        self._result_client = client(wire.GetResultService, "get_result", result_service_qos_profile)
        self._feedback = node.create_subscription(
            wire.FeedbackMessage,
            f"{prefix}/feedback",
            self._on_feedback,
            feedback_sub_qos_profile,
            callback_group=callback_group,
        )
        self._status = node.create_subscription(
            wire.GoalStatusMessage,
            f"{prefix}/status",
            self._on_status,
            status_sub_qos_profile,
            callback_group=callback_group,
        )
        self._feedback_callbacks: dict[bytes, Callable[[Any], Any]] = {}
        self._handles: dict[bytes, ClientGoalHandle] = {}

    def _on_feedback(self, message: Any) -> None:
        callback = self._feedback_callbacks.get(bytes(message.goal_id.uuid))
        if callback is not None:
            callback(message)

    def _on_status(self, message: Any) -> None:
        for entry in message.status_list:
            handle = self._handles.get(bytes(entry.goal_info.goal_id.uuid))
            if handle is not None:
                handle._status = int(entry.status)

    def server_is_ready(self) -> bool:
        clients = (self._goal_client, self._cancel_client, self._result_client)
        topics = (self._feedback, self._status)
        return all(c.service_is_ready() for c in clients) and all(t.get_publisher_count() for t in topics)

    def wait_for_server(self, timeout_sec: float | None = None) -> bool:
        """Whether a server is there within the time."""
        deadline = None if timeout_sec is None else time.monotonic() + timeout_sec
        while self._node.context.ok():
            if self.server_is_ready():
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return False

    def send_goal_async(
        self, goal: Any, feedback_callback: Callable[[Any], Any] | None = None, goal_uuid: Any = None
    ) -> Future:
        """Send a goal; the future gives a ClientGoalHandle."""
        if not isinstance(goal, self._action_type.Goal):
            raise TypeError(f"wanted a {self._action_type._TYPE}_Goal, got {type(goal).__name__}")
        if goal_uuid is None:
            goal_uuid = message_class("unique_identifier_msgs/msg/UUID")(uuid=uuid.uuid4().bytes)
        key = bytes(goal_uuid.uuid)
        if feedback_callback is not None:
            self._feedback_callbacks[key] = feedback_callback
        answered: Future = Future(executor=self._node.executor)

        def on_response(future: Future) -> None:
            handle = ClientGoalHandle(self, goal_uuid, future.result())
            if handle.accepted:
                self._handles[key] = handle
            else:
                self._feedback_callbacks.pop(key, None)
            answered.set_result(handle)

        request = self._action_type.Impl.SendGoalService.Request(goal_id=goal_uuid, goal=goal)
        self._goal_client.call_async(request).add_done_callback(on_response)
        return answered

    def send_goal(self, goal: Any, **options: Any) -> Any:
        """Send a goal and wait for its result. Another thread must spin the node."""
        handle = _wait_for(self.send_goal_async(goal, **options))
        return handle.get_result() if handle.accepted else None

    def _get_result_async(self, handle: ClientGoalHandle) -> Future:
        finished: Future = Future(executor=self._node.executor)

        def on_response(future: Future) -> None:
            response = future.result()
            handle._status = int(response.status)
            key = bytes(handle.goal_id.uuid)
            self._feedback_callbacks.pop(key, None)
            self._handles.pop(key, None)
            finished.set_result(response)

        request = self._action_type.Impl.GetResultService.Request(goal_id=handle.goal_id)
        self._result_client.call_async(request).add_done_callback(on_response)
        return finished

    def _cancel_goal_async(self, handle: ClientGoalHandle) -> Future:
        request = self._action_type.Impl.CancelGoalService.Request()
        request.goal_info.goal_id = handle.goal_id
        future: Future = self._cancel_client.call_async(request)
        return future

    def destroy(self) -> None:
        for client in (self._goal_client, self._cancel_client, self._result_client):
            self._node.destroy_client(client)
        for subscription in (self._feedback, self._status):
            self._node.destroy_subscription(subscription)


def _wait_for(future: Future) -> Any:
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    done.wait()
    return future.result()
