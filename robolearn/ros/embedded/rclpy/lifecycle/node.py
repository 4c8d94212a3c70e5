"""`rclpy.lifecycle.node`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from robolearn.ros.messages import message_class, service_class

from ..exceptions import RCLError
from ..node import Node
from ..qos import QoSProfile
from .managed_entity import ManagedEntity
from .publisher import LifecyclePublisher
from .states import ERROR_PROCESSING, FINALIZED, LABELS, TRANSITIONS, UNCONFIGURED, Transition, TransitionCallbackReturn

SUCCESS, FAILURE, ERROR = TransitionCallbackReturn


@dataclass(frozen=True)
class LifecycleState:
    """A state by number and name."""

    state_id: int
    label: str


class LifecycleNode(Node):
    """A node with the states unconfigured, inactive, active and finalized. Override the `on_` methods."""

    def __init__(self, node_name: str, *, enable_communication_interface: bool = True, **options: Any) -> None:
        super().__init__(node_name, **options)
        self._state = UNCONFIGURED
        self._managed: list[ManagedEntity] = []
        self._transition_events: Any = None
        if not enable_communication_interface:
            return
        event = message_class("lifecycle_msgs/msg/TransitionEvent")
        self._transition_events = self.create_publisher(event, "~/transition_event", 10)
        for name, kind in {
            "change_state": "ChangeState",
            "get_state": "GetState",
            "get_available_states": "GetAvailableStates",
            "get_available_transitions": "GetAvailableTransitions",
        }.items():
            self.create_service(service_class(f"lifecycle_msgs/srv/{kind}"), f"~/{name}", getattr(self, f"_{name}"))
        self.create_service(
            service_class("lifecycle_msgs/srv/GetAvailableTransitions"),
            "~/get_transition_graph",
            self._get_transition_graph,
        )

    # -- to be overridden ----------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._pass_on("on_configure", state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._pass_on("on_cleanup", state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._pass_on("on_shutdown", state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._pass_on("on_activate", state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._pass_on("on_deactivate", state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._pass_on("on_error", state)

    def _pass_on(self, callback: str, state: LifecycleState) -> TransitionCallbackReturn:
        """Tell every managed entity; the first that does not succeed decides."""
        for entity in self._managed:
            outcome: TransitionCallbackReturn = getattr(entity, callback)(state)
            if outcome is not SUCCESS:
                return outcome
        return SUCCESS

    # -- transitions ---------------------------------------------------------------------------------------------

    def trigger_configure(self) -> TransitionCallbackReturn:
        return self._trigger("configure")

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        return self._trigger("cleanup")

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        return self._trigger("shutdown")

    def trigger_activate(self) -> TransitionCallbackReturn:
        return self._trigger("activate")

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        return self._trigger("deactivate")

    def _available(self) -> list[Transition]:
        return [transition for transition in TRANSITIONS if transition.start == self._state]

    def _trigger(self, label: str) -> TransitionCallbackReturn:
        """Raises RCLError if the state has no such transition."""
        for transition in self._available():
            if transition.label == label:
                return self._run(transition)
        raise RCLError(
            f"transition {label!r} is not valid from state {LABELS[self._state]!r} of node {self.get_name()}"
        )

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
            return TransitionCallbackReturn(getattr(self, callback)(before))
        except Exception as error:  # noqa: BLE001  an exception in a transition is the state machine's error, not a crash
            self.get_logger().error(f"{callback} raised {type(error).__name__}: {error}")
            return ERROR

    def _move(self, goal: int, transition_id: int, label: str) -> None:
        start, self._state = self._state, goal
        if self._transition_events is None or not self.context.ok():
            return
        event = message_class("lifecycle_msgs/msg/TransitionEvent")(
            timestamp=self.get_clock().now().nanoseconds, start_state=_state(start), goal_state=_state(goal)
        )
        event.transition.id, event.transition.label = transition_id, label
        self._transition_events.publish(event)

    # -- services ------------------------------------------------------------------------------------------------

    def _change_state(self, request: Any, response: Any) -> Any:
        wanted = request.transition
        for transition in self._available():
            if transition.id == wanted.id or (wanted.label and transition.label == wanted.label):
                response.success = self._run(transition) is SUCCESS
                return response
        self.get_logger().warning(f"no transition {wanted.label or wanted.id} from state {LABELS[self._state]}")
        return response

    def _get_state(self, request: Any, response: Any) -> Any:
        response.current_state = _state(self._state)
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

    # -- managed entities ----------------------------------------------------------------------------------------

    def add_managed_entity(self, entity: ManagedEntity) -> None:
        self._managed.append(entity)

    def create_lifecycle_publisher(
        self, msg_type: Any, topic: str, qos_profile: QoSProfile | int, **options: Any
    ) -> LifecyclePublisher:
        publisher = self.create_publisher(msg_type, topic, qos_profile, publisher_class=LifecyclePublisher, **options)
        assert isinstance(publisher, LifecyclePublisher)
        self.add_managed_entity(publisher)
        return publisher

    def destroy_lifecycle_publisher(self, publisher: LifecyclePublisher) -> bool:
        if publisher in self._managed:
            self._managed.remove(publisher)
        return self.destroy_publisher(publisher)


def _state(number: int) -> Any:
    return message_class("lifecycle_msgs/msg/State")(id=number, label=LABELS[number])


def _description(transition: Transition) -> Any:
    message = message_class("lifecycle_msgs/msg/TransitionDescription")()
    message.transition.id, message.transition.label = transition.id, transition.label
    message.start_state, message.goal_state = _state(transition.start), _state(transition.via)
    return message
