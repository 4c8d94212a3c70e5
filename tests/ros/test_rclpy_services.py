"""Services and their clients in one process. Written against rclpy's public API."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import SetBool, Trigger

SpinUntil = Callable[..., bool]


def test_service_call_async_and_coroutine(node: Node, spin_until: SpinUntil) -> None:
    def answer(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        response.success = request.data
        response.message = "seen"
        return response

    node.create_service(SetBool, "set", answer)
    client = node.create_client(SetBool, "set")
    assert client.wait_for_service(timeout_sec=5.0)
    futures = [client.call_async(SetBool.Request(data=value)) for value in (True, False, True)]
    assert spin_until(lambda: all(f.done() for f in futures), node)
    assert [f.result().success for f in futures] == [True, False, True]

    async def ask() -> bool:
        return bool((await client.call_async(SetBool.Request(data=True))).success)

    executor = SingleThreadedExecutor()
    executor.add_node(node)
    task = executor.create_task(ask)
    executor.spin_until_future_complete(task, timeout_sec=5.0)
    executor.shutdown()
    assert task.result() is True


def test_synchronous_call_from_another_thread(node: Node) -> None:
    node.create_service(Trigger, "go", lambda request, response: Trigger.Response(success=True))
    client = node.create_client(Trigger, "go")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    assert client.wait_for_service(timeout_sec=5.0)
    assert client.call(Trigger.Request()).success
    executor.shutdown()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_ctrl_c_ends_a_call_that_nobody_answers(node: Node) -> None:
    client = node.create_client(Trigger, "silent")
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        client.call(Trigger.Request(), timeout_sec=3.0)


def test_a_service_that_is_not_there(node: Node) -> None:
    client = node.create_client(Trigger, "nobody")
    assert not client.service_is_ready()
    assert not client.wait_for_service(timeout_sec=0.05)
