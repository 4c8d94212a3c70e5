"""Actions. Written against rclpy's public API."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from action_msgs.msg import GoalStatus
from example_interfaces.action import Fibonacci
from rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future

SpinUntil = Callable[..., bool]


def count(handle: Any) -> Fibonacci.Result:
    """Succeed with the sequence, or stop when asked to."""
    sequence = [0, 1]
    for _ in range(handle.request.order):
        if handle.is_cancel_requested:
            handle.canceled()
            return Fibonacci.Result(sequence=sequence)
        sequence.append(sequence[-1] + sequence[-2])
        handle.publish_feedback(Fibonacci.Feedback(sequence=sequence))
        time.sleep(0.01)
    handle.succeed()
    return Fibonacci.Result(sequence=sequence)


def test_goal_feedback_and_result(node: Node, spin_until: SpinUntil) -> None:
    server = ActionServer(node, Fibonacci, "count", count)
    client = ActionClient(node, Fibonacci, "count")
    assert client.wait_for_server(timeout_sec=5.0)
    feedback: list[list[int]] = []
    sent = client.send_goal_async(
        Fibonacci.Goal(order=3), feedback_callback=lambda m: feedback.append(list(m.feedback.sequence))
    )
    assert spin_until(sent.done, node)
    handle = sent.result()
    assert handle.accepted
    result = handle.get_result_async()
    assert spin_until(result.done, node)
    assert result.result().status == GoalStatus.STATUS_SUCCEEDED
    assert list(result.result().result.sequence) == [0, 1, 1, 2, 3]
    assert spin_until(lambda: len(feedback) == 3, node)
    assert feedback[-1] == [0, 1, 1, 2, 3]
    server.destroy()
    client.destroy()


def test_rejected_goal_and_failed_execution(node: Node, spin_until: SpinUntil) -> None:
    def fail(handle: Any) -> Fibonacci.Result:
        raise ValueError("in the callback")

    def judge(goal: Fibonacci.Goal) -> GoalResponse:
        return GoalResponse.ACCEPT if goal.order > 0 else GoalResponse.REJECT

    server = ActionServer(node, Fibonacci, "judge", fail, goal_callback=judge)
    client = ActionClient(node, Fibonacci, "judge")
    assert client.wait_for_server(timeout_sec=5.0)
    sent = client.send_goal_async(Fibonacci.Goal(order=-1))
    assert spin_until(sent.done, node)
    assert not sent.result().accepted
    sent = client.send_goal_async(Fibonacci.Goal(order=1))
    assert spin_until(sent.done, node)
    result = sent.result().get_result_async()
    assert spin_until(result.done, node)
    assert result.result().status == GoalStatus.STATUS_ABORTED
    server.destroy()
    client.destroy()


@pytest.mark.parametrize("response", [CancelResponse.ACCEPT, CancelResponse.REJECT])
def test_cancel(node: Node, response: CancelResponse) -> None:
    from rclpy.callback_groups import ReentrantCallbackGroup

    group = ReentrantCallbackGroup()
    server = ActionServer(node, Fibonacci, "long", count, callback_group=group, cancel_callback=lambda handle: response)
    client = ActionClient(node, Fibonacci, "long", callback_group=group)
    executor = MultiThreadedExecutor(num_threads=3)
    executor.add_node(node)
    assert client.wait_for_server(timeout_sec=5.0)
    sent = client.send_goal_async(Fibonacci.Goal(order=20))
    executor.spin_until_future_complete(sent, timeout_sec=5.0)
    handle = sent.result()
    cancelled = handle.cancel_goal_async()
    executor.spin_until_future_complete(cancelled, timeout_sec=5.0)
    result = handle.get_result_async()
    executor.spin_until_future_complete(result, timeout_sec=5.0)
    if response is CancelResponse.ACCEPT:
        assert len(cancelled.result().goals_canceling) == 1
        assert result.result().status == GoalStatus.STATUS_CANCELED
    else:
        assert not cancelled.result().goals_canceling
        assert result.result().status == GoalStatus.STATUS_SUCCEEDED
    server.destroy()
    client.destroy()
    executor.shutdown()


def test_callbacks_that_are_coroutines_and_a_server_that_goes(node: Node, spin_until: SpinUntil) -> None:
    """Goals and cancellations may be judged by coroutines; a negative result timeout keeps results for ever."""
    gate = Future()

    async def accept(_: Any) -> GoalResponse:
        return GoalResponse.ACCEPT

    async def finish_first(handle: Any) -> CancelResponse:
        handle.succeed(Fibonacci.Result(sequence=[7]))
        return CancelResponse.ACCEPT

    async def wait(handle: Any) -> Fibonacci.Result:
        await gate
        return Fibonacci.Result()

    server = ActionServer(
        node, Fibonacci, "slow", wait, goal_callback=accept, cancel_callback=finish_first, result_timeout=-1
    )
    client = ActionClient(node, Fibonacci, "slow")
    assert client.wait_for_server(timeout_sec=5.0)

    def answer(future: Any) -> Any:
        assert spin_until(future.done, node)
        return future.result()

    first = answer(client.send_goal_async(Fibonacci.Goal()))
    assert first.accepted
    cancelled = answer(first.cancel_goal_async())
    assert (cancelled.return_code, len(cancelled.goals_canceling)) == (cancelled.ERROR_GOAL_TERMINATED, 0)
    second = answer(client.send_goal_async(Fibonacci.Goal()))
    assert list(answer(first.get_result_async()).result.sequence) == [7]
    never = second.get_result_async()
    spin_until(lambda: False, node, timeout_s=0.1)  # the question has come to the server
    server.destroy()
    gate.set_result(None)  # its answer has nowhere to go, and the node lives on
    assert not spin_until(never.done, node, timeout_s=0.1)
    client.destroy()
