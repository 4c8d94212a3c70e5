"""What a node holds, apart from the attributes and methods of a user's subclass."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from robolearn.ros import arguments, names
from robolearn.ros.messages import message_class
from robolearn.ros.transport import EndpointEvents

from . import graph
from .callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from .clock import ROSClock
from .context import Context
from .exceptions import InvalidHandle, InvalidNamespaceException, InvalidNodeNameException, RCLError
from .logging import LoggingSeverity, get_logger
from .parameter import Parameter
from .parameter_store import ParameterStore
from .time import Time

if TYPE_CHECKING:
    from .client import Client
    from .event_handler import EventHandler
    from .guard_condition import GuardCondition
    from .publisher import Publisher
    from .service import Service
    from .subscription import Subscription
    from .time_source import TimeSource
    from .timer import Rate, Timer

Entity = TypeVar("Entity")


class NodeCore:
    """One attribute of a node, `_rclpy`, holds all that is private to it, so that a subclass has every other name."""

    def __init__(
        self, context: Context, node_name: str, namespace: str, cli_args: list[str], use_global_arguments: bool
    ) -> None:
        self.context = context
        self.session = context.handle
        bare = bool(cli_args) and "--ros-args" not in cli_args
        given = [arguments.parse(["--ros-args", *cli_args] if bare else cli_args)]
        self.arguments = [*given, context._arguments] if use_global_arguments else given
        self.name, self.namespace = self._checked_names(node_name, namespace)
        self.full_name = f"{self.namespace.rstrip('/')}/{self.name}"
        self.logger = get_logger(self.full_name.strip("/").replace("/", "."))
        self.destroyed = False
        self.executor: weakref.ref[Any] | None = None
        self.publishers: list[Publisher] = []
        self.subscriptions: list[Subscription] = []
        self.clients: list[Client] = []
        self.services: list[Service] = []
        self.timers: list[Timer] = []
        self.guards: list[GuardCondition] = []
        self.extra: list[Any] = []  # waitables of actions
        self.rates: list[Rate] = []
        self.default_callback_group: CallbackGroup = MutuallyExclusiveCallbackGroup()
        self.record = self.session.add_node(self.name, self.namespace)
        self.clock = ROSClock()
        self.parameters: ParameterStore
        self.parameter_events: Publisher | None = None
        self.rosout: Publisher | None = None
        self.time_source: TimeSource

    # -- names ---------------------------------------------------------------------------------------------------

    def _checked_names(self, name: str, namespace: str) -> tuple[str, str]:
        fault = names.node_name_fault(name)
        if fault:
            raise InvalidNodeNameException(name, fault)
        renamed = self._remapped("__node", name) or name
        namespace = self._remapped("__ns", name) or namespace
        namespace = namespace if namespace.startswith("/") else f"/{namespace}"
        fault = names.namespace_fault(namespace)
        if fault:
            raise InvalidNamespaceException(namespace, fault)
        fault = names.node_name_fault(renamed)
        if fault:
            raise InvalidNodeNameException(renamed, fault)
        return renamed, namespace

    def _remapped(self, key: str, node_name: str) -> str | None:
        for given in self.arguments:
            replacement = given.remapped(key, node_name)
            if replacement is not None:
                return replacement
        return None

    def resolve(self, name: str, only_expand: bool, error: type[Exception], scheme: str) -> str:
        """The absolute name of a topic or service. Raises `error` for a name that is none."""
        fault = names.topic_fault(name)
        if fault:
            raise error(name, fault)
        full = names.expand(name, self.name, self.namespace)
        if only_expand:
            return full
        for rule in (rule for given in self.arguments for rule in given.remaps if not rule.match.startswith("__")):
            match = rule.match.removeprefix(scheme)
            if rule.node in (None, self.name) and names.expand(match, self.name, self.namespace) == full:
                return names.expand(rule.replacement.removeprefix(scheme), self.name, self.namespace)
        return full

    def overrides(self, given: list[Parameter]) -> dict[str, Parameter]:
        """Parameter values from the command lines and the constructor; the constructor's win."""
        found: dict[str, Parameter] = {}
        for source in reversed(self.arguments):
            for name, value in source.overrides_for(self.namespace, self.name).items():
                if value is not None:
                    found[name] = Parameter(name, value=value)
        return found | {parameter.name: parameter for parameter in given}

    # -- entities ------------------------------------------------------------------------------------------------

    def the_executor(self) -> Any:
        return None if self.executor is None else self.executor()

    def set_executor(self, executor: Any) -> None:
        self.executor = None if executor is None else weakref.ref(executor)

    def wake_executor(self) -> None:
        executor = self.the_executor()
        if executor is not None:
            executor.wake()

    def waitables(self) -> list[Any]:
        """Everything that can have work, in the order in which an executor looks."""
        return [*self.timers, *self.subscriptions, *self.guards, *self.clients, *self.services, *self.extra]

    def watched(self) -> list[Any]:
        """Everything whose news end an executor's wait: publishers have no work, but events."""
        return [*self.waitables(), *self.publishers]

    def hear_events(self, handler: EventHandler, events: EndpointEvents, group: CallbackGroup) -> None:
        """Have an endpoint's events called back with, where somebody wants that; they go with the endpoint."""
        if handler.callbacks:
            events.watch(handler.callbacks)
            self.add(self.extra, handler, group)

    def add(self, entities: list[Entity], entity: Entity, group: CallbackGroup | None) -> Entity:
        """Take an entity in, and have the executor watch it."""
        known: Any = entity
        known.callback_group = self.default_callback_group if group is None else group
        known.callback_group.add_entity(entity)
        known._wake = self.wake_executor
        entities.append(entity)
        executor = self.the_executor()
        if executor is not None:
            executor._watch(entity)
        return entity

    def destroy(self, entities: list[Any], entity: Any) -> bool:
        """Whether the entity was the node's."""
        if entity not in entities:
            return False
        entities.remove(entity)
        if (handler := getattr(entity, "_events", None)) in self.extra:
            self.extra.remove(handler)
        executor = self.the_executor()
        if executor is not None:
            executor._ignore(entity)
        entity.destroy()
        return True

    def check_alive(self) -> None:
        if self.destroyed:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")

    # -- what it tells the domain, and asks ------------------------------------------------------------------------

    def publish_parameter_event(self, new: list[Parameter], changed: list[Parameter], gone: list[Parameter]) -> None:
        if self.parameter_events is None or not self.context.ok():
            return
        event = message_class("rcl_interfaces/msg/ParameterEvent")(
            stamp=self.clock.now().to_msg(),
            node=self.full_name,
            new_parameters=[p.to_parameter_msg() for p in new],
            changed_parameters=[p.to_parameter_msg() for p in changed],
            deleted_parameters=[p.to_parameter_msg() for p in gone],
        )
        self.parameter_events.publish(event)

    def publish_log(self, severity: LoggingSeverity, name: str, text: str, stamp_ns: int, frame: FrameType) -> None:
        if self.rosout is None or not self.context.ok():
            return
        line = message_class("rcl_interfaces/msg/Log")(
            stamp=Time(nanoseconds=stamp_ns).to_msg(),
            level=severity.value,
            name=name,
            msg=text,
            file=Path(frame.f_code.co_filename).name,
            function=frame.f_code.co_name,
            line=frame.f_lineno,
        )
        self.rosout.publish(line)

    def of_node(self, name: str, namespace: str, query: Callable[..., graph.NamesAndTypes], writers: bool) -> Any:
        """What one node of the domain has. Raises RCLError when it is not there."""
        seen = self.session.graph()
        node = graph.find_node(seen, name, namespace)
        if node is None:
            raise RCLError(f"cannot get names of node {namespace.rstrip('/')}/{name}: node name not found")
        return query(seen, node, writers)
