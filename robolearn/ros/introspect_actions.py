"""Actions of a running graph, for the command line of machines without `ros2`. Works on native ROS 2 too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robolearn.errors import RobolearnError, TransportError
from robolearn.ros.introspect import SERVICE_TIMEOUT_S, class_of, fill, observer, to_dict, unknown

FEEDBACK_TOPIC, FEEDBACK_TYPE = "/_action/feedback", "_FeedbackMessage"
SERVER_CHECK_S = 0.5
STATUS = {4: "succeeded", 5: "cancelled", 6: "aborted"}  # of action_msgs/msg/GoalStatus, when a goal is over


def _actions(node: Any) -> dict[str, str]:
    return {
        name.removesuffix(FEEDBACK_TOPIC): types[0].removesuffix(FEEDBACK_TYPE)
        for name, types in node.get_topic_names_and_types()
        if name.endswith(FEEDBACK_TOPIC)
    }


def actions() -> dict[str, str]:
    """Every action with its type."""
    with observer() as node:
        return _actions(node)


def send_goal(
    action: str, goal: dict[str, Any], feedback: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """Pursue a goal to its end: `accepted`, `status` (succeeded, aborted, cancelled; empty if refused) and `result`.

    An interrupt cancels the goal, and its result is waited for. Raises UnknownNameError, TransportError.
    """
    from rclpy.action import ActionClient

    action = action if action.startswith("/") else f"/{action}"
    with observer() as node:
        known = _actions(node)
        if action not in known:
            raise unknown(node, "action", action, known)
        kind = class_of(known[action])
        message = kind.Goal()
        fill(message, goal)
        client = ActionClient(node, kind, action)
        try:
            if not client.wait_for_server(timeout_sec=SERVICE_TIMEOUT_S):
                raise TransportError(f"{action} is not reached within {SERVICE_TIMEOUT_S:g} s; is its node running?")
            sent = client.send_goal_async(message, lambda came: feedback(to_dict(came.feedback)))
            return _pursue(node, client, action, sent)
        finally:
            client.destroy()


def _pursue(node: Any, client: Any, action: str, sent: Any) -> dict[str, Any]:
    silent = f"{action} did not answer within {SERVICE_TIMEOUT_S:g} s"
    done: Any = None
    answer: Any = None
    try:
        handle = _wait(node, client, action, sent, silent, SERVICE_TIMEOUT_S)
        done = handle.get_result_async() if handle.accepted else None
        if done:
            answer = _wait(node, client, action, done)
    except KeyboardInterrupt:
        handle = _wait(node, client, action, sent, silent, SERVICE_TIMEOUT_S)
        if handle.accepted:
            done = done or handle.get_result_async()
            handle.cancel_goal_async()
            answer = _wait(node, client, action, done, f"{action} was asked to cancel and did not", SERVICE_TIMEOUT_S)
    if not handle.accepted:
        return {"accepted": False, "status": "", "result": {}}
    status = STATUS.get(int(answer.status), str(answer.status))
    return {"accepted": True, "status": status, "result": to_dict(answer.result)}


def _wait(node: Any, client: Any, action: str, future: Any, problem: str = "", timeout_s: float | None = None) -> Any:
    """The future's result; without a time limit, as long as the server is there. Raises TransportError."""
    while not future.done():
        node.executor.spin_until_future_complete(future, timeout_sec=timeout_s or SERVER_CHECK_S)
        if not node.context.ok():
            raise RobolearnError("interrupted")
        if not future.done() and not client.server_is_ready():
            raise TransportError(f"{action} is gone; its node has ended, and the goal with it")
        if not future.done() and timeout_s is not None:
            raise TransportError(problem)
    return future.result()
