"""What the operator's page asks of other nodes: episodes, marks, stop, resume, driving."""

from __future__ import annotations

import threading
import time
from typing import Any

from rclpy.client import Client
from rclpy.node import Node
from robolearn_msgs.msg import OperatorInput
from robolearn_msgs.srv import DiscardEpisode, StopEpisode
from std_msgs.msg import Empty
from std_srvs.srv import SetBool, Trigger

from robolearn.errors import LaunchError, UnknownNameError
from robolearn.web.driving import Hands
from robolearn_nodes import convert, topics
from robolearn_nodes.episode import ENDINGS

ANSWER_S = 10.0
POLL_S = 0.2


class LiveRequests:
    """May be called from any thread but the node's own."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop = node.create_publisher(Empty, topics.EMERGENCY_STOP, 10)
        self._input = node.create_publisher(OperatorInput, topics.OPERATOR_INPUT, topics.NEWEST)
        end = node.create_client(StopEpisode, topics.STOP_EPISODE)
        mark = node.create_client(SetBool, topics.MARK_RECORDING)
        self._resume_teleop = node.create_client(Trigger, topics.RESUME_TELEOP)
        self._requests: dict[str, tuple[Client, Any]] = {
            "start": (node.create_client(Trigger, topics.NEXT_EPISODE), Trigger.Request()),
            **{
                name: (end, StopEpisode.Request(event=event, discard=name == "discard"))
                for name, event in ENDINGS.items()
            },
            "mark_success": (mark, SetBool.Request(data=True)),
            "mark_failure": (mark, SetBool.Request(data=False)),
            "discard_last": (node.create_client(DiscardEpisode, topics.DISCARD_RECORDING), DiscardEpisode.Request()),
            "resume": (node.create_client(Trigger, topics.RESUME_ROBOT), Trigger.Request()),
        }

    def offered(self) -> list[str]:
        """What somebody would answer to."""
        ready: dict[int, bool] = {}
        for client, _ in self._requests.values():
            ready.setdefault(id(client), client.service_is_ready())
        offered = [name for name, (client, _) in self._requests.items() if ready[id(client)]]
        return [*offered, *(["drive"] if self._input.get_subscription_count() else [])]

    def stop(self) -> None:
        self._stop.publish(Empty())

    def drive(self, browser: int, hands: Hands) -> None:
        now_ns = int(self._node.get_clock().now().nanoseconds)
        self._input.publish(convert.operator_message(now_ns, browser, hands))

    def ask(self, what: str) -> str:
        if what not in self._requests:
            raise UnknownNameError("request", what, self._requests)
        if what == "resume" and self._resume_teleop.service_is_ready():
            _call(self._resume_teleop, Trigger.Request())
        return _call(*self._requests[what])


def _call(client: Client, request: Any) -> str:
    if not client.service_is_ready():
        raise LaunchError(f"nobody serves {client.srv_name}; is its node running?")
    answered = threading.Event()
    future = client.call_async(request)
    future.add_done_callback(lambda _: answered.set())
    end_s = time.monotonic() + ANSWER_S
    while not answered.wait(POLL_S):
        if time.monotonic() > end_s or not client.context.ok():  # the latter: this page is being closed
            client.remove_pending_request(future)
            raise LaunchError(f"{client.srv_name} did not answer within {ANSWER_S:g} s")
    response: Any = future.result()
    if not response.success:
        raise LaunchError(f"{client.srv_name}: {response.message or 'refused'}")
    return str(response.message)
