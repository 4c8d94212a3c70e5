"""The states of a lifecycle node: transitions, the services that ask for them, and the events that tell of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robolearn.ros.messages import message_class, service_class

from .managed_entity import ManagedEntity
from .states import ERROR_PROCESSING, FINALIZED, LABELS, TRANSITIONS, UNCONFIGURED, Transition, TransitionCallbackReturn

SUCCESS, FAILURE, ERROR = TransitionCallbackReturn


@dataclass(frozen=True)
class LifecycleState:
    """A state by number and name."""

    state_id: int
    label: str


class StateMachine:
    """Belongs to one node, whose `on_` methods it calls."""

    def __init__(self, node: Any) -> None:
        self.node = node
        self.state = UNCONFIGURED
        self.managed: list[ManagedEntity] = []
        self._events: Any = None

    def open_services(self) -> None:
        """Publish the transitions, and let other nodes ask for them."""
        event = message_class("lifecycle_msgs/msg/TransitionEvent")
        self._events = self.node.create_publisher(event, "~/transition_event", 10)
        for name, kind, answer in (
            ("change_state", "ChangeState", self._change_state),
            ("get_state", "GetState", self._get_state),
            ("get_available_states", "GetAvailableStates", self._get_available_states),
            ("get_available_transitions", "GetAvailableTransitions", self._get_available_transitions),
            ("get_transition_graph", "GetAvailableTransitions", self._get_transition_graph),
        ):
            self.node.create_service(service_class(f"lifecycle_msgs/srv/{kind}"), f"~/{name}", answer)

    def pass_on(self, callback: str, state: LifecycleState) -> TransitionCallbackReturn:
        """Tell every managed entity; the first that does not succeed decides."""
        for entity in self.managed:
            outcome: TransitionCallbackReturn = getattr(entity, callback)(state)
            if outcome is not SUCCESS:
                return outcome
        return SUCCESS

    def trigger(self, label: str) -> TransitionCallbackReturn:
        """Run a transition. One that the state does not have is an error in the log, and runs nothing."""
        for transition in self._available():
            if transition.label == label:
                return self._run(transition)
        self._refuse(label)
        return ERROR

    def _available(self) -> list[Transition]:
        return [transition for transition in TRANSITIONS if transition.start == self.state]

    def _refuse(self, wanted: str | int) -> None:
        self.node.get_logger().error(f"no transition {wanted} from the state {LABELS[self.state]}")

    def _run(self, transition: Transition) -> TransitionCallbackReturn:
        self._move(transition.via, transition.id, transition.label)
        before = LifecycleState(transition.start, LABELS[transition.start])
        outcome = self._call(transition.callback, before)
        goal = {SUCCESS: transition.success, FAILURE: transition.failure, ERROR: ERROR_PROCESSING}[outcome]
        offset = (SUCCESS, FAILURE, ERROR).index(outcome)
        self._move(goal, transition.outcome_id + offset, f"transition_{outcome.name.lower()}")
        if outcome is ERROR:
            mended = self._call("on_error", before) is SUCCESS
            self._move(UNCONFIGURED if mended else FINALIZED, 60 if mended else 61, "transition_success")
        return outcome

    def _call(self, callback: str, before: LifecycleState) -> TransitionCallbackReturn:
        try:
            return TransitionCallbackReturn(getattr(self.node, callback)(before))
        except Exception as error:  # noqa: BLE001  an exception in a transition is the state machine's error, not a crash
            self.node.get_logger().error(f"{callback} raised {type(error).__name__}: {error}")
            return ERROR

    def _move(self, goal: int, transition_id: int, label: str) -> None:
        start, self.state = self.state, goal
        if self._events is None or not self.node.context.ok():
            return
        event = message_class("lifecycle_msgs/msg/TransitionEvent")(
            timestamp=self.node.get_clock().now().nanoseconds, start_state=_state(start), goal_state=_state(goal)
        )
        event.transition.id, event.transition.label = transition_id, label
        self._events.publish(event)

    # -- services ------------------------------------------------------------------------------------------------

    def _change_state(self, request: Any, response: Any) -> Any:
        wanted = request.transition
        for transition in self._available():
            if transition.id == wanted.id or (wanted.label and transition.label == wanted.label):
                response.success = self._run(transition) is SUCCESS
                return response
        self._refuse(wanted.label or wanted.id)
        return response

    def _get_state(self, request: Any, response: Any) -> Any:
        response.current_state = _state(self.state)
        return response

    def _get_available_states(self, request: Any, response: Any) -> Any:
        response.available_states = [_state(number) for number in LABELS]
        return response

    def _get_available_transitions(self, request: Any, response: Any) -> Any:
        response.available_transitions = [_description(transition) for transition in self._available()]
        return response

    def _get_transition_graph(self, request: Any, response: Any) -> Any:
        response.available_transitions = [_description(transition) for transition in TRANSITIONS]
        return response


def _state(number: int) -> Any:
    return message_class("lifecycle_msgs/msg/State")(id=number, label=LABELS[number])


def _description(transition: Transition) -> Any:
    message = message_class("lifecycle_msgs/msg/TransitionDescription")()
    message.transition.id, message.transition.label = transition.id, transition.label
    message.start_state, message.goal_state = _state(transition.start), _state(transition.via)
    return message
