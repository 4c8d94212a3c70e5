"""Managed nodes. Written against rclpy's public API."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from lifecycle_msgs.msg import State as StateMessage
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn
from std_msgs.msg import String

SpinUntil = Callable[..., bool]


class Managed(LifecycleNode):
    """Notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__("managed")
        self.asked: list[tuple[str, str]] = []
        self.answer = TransitionCallbackReturn.SUCCESS

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        self.asked.append(("configure", state.label))
        return self.answer

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        self.asked.append(("activate", state.label))
        if self.answer is TransitionCallbackReturn.ERROR:
            raise ValueError("in the transition")
        return super().on_activate(state)

    def on_error(self, state: State) -> TransitionCallbackReturn:
        self.asked.append(("error", state.label))
        return TransitionCallbackReturn.SUCCESS


@pytest.fixture
def managed(context: None) -> Iterator[Managed]:
    node = Managed()
    yield node
    node.destroy_node()


def test_services_drive_the_states_and_publishers_follow(managed: Managed, spin_until: SpinUntil) -> None:
    received: list[str] = []
    publisher = managed.create_lifecycle_publisher(String, "out", 10)
    managed.create_subscription(String, "out", lambda m: received.append(m.data), 10)
    change = managed.create_client(ChangeState, "~/change_state")
    state = managed.create_client(GetState, "~/get_state")
    assert change.wait_for_service(timeout_sec=5.0)
    assert state.wait_for_service(timeout_sec=5.0)

    def ask(transition: int) -> tuple[bool, int]:
        future = change.call_async(ChangeState.Request(transition=Transition(id=transition)))
        assert spin_until(future.done, managed)
        now = state.call_async(GetState.Request())
        assert spin_until(now.done, managed)
        return future.result().success, now.result().current_state.id

    publisher.publish(String(data="before"))
    assert ask(Transition.TRANSITION_ACTIVATE) == (False, StateMessage.PRIMARY_STATE_UNCONFIGURED)
    assert ask(Transition.TRANSITION_CONFIGURE) == (True, StateMessage.PRIMARY_STATE_INACTIVE)
    assert ask(Transition.TRANSITION_ACTIVATE) == (True, StateMessage.PRIMARY_STATE_ACTIVE)
    publisher.publish(String(data="while"))
    assert spin_until(lambda: received, managed)
    assert ask(Transition.TRANSITION_DEACTIVATE) == (True, StateMessage.PRIMARY_STATE_INACTIVE)
    publisher.publish(String(data="after"))
    assert ask(Transition.TRANSITION_INACTIVE_SHUTDOWN) == (True, StateMessage.PRIMARY_STATE_FINALIZED)
    assert received == ["while"]
    assert managed.asked == [("configure", "unconfigured"), ("activate", "inactive")]


def test_failure_and_error(managed: Managed) -> None:
    managed.answer = TransitionCallbackReturn.FAILURE
    assert managed.trigger_configure() == TransitionCallbackReturn.FAILURE
    managed.answer = TransitionCallbackReturn.SUCCESS
    assert managed.trigger_configure() == TransitionCallbackReturn.SUCCESS
    managed.answer = TransitionCallbackReturn.ERROR
    assert managed.trigger_activate() == TransitionCallbackReturn.ERROR
    assert managed.asked[-1][0] == "error"
    managed.answer = TransitionCallbackReturn.SUCCESS
    assert managed.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert managed.trigger_deactivate() == TransitionCallbackReturn.ERROR  # there is no such way out of inactive
