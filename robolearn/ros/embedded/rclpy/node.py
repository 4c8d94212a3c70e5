"""`rclpy.node`."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from robolearn.ros import arguments, names
from robolearn.ros.messages import message_class

from . import graph
from .callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from .client import Client
from .clock import Clock, ROSClock
from .context import Context
from .exceptions import (
    InvalidHandle,
    InvalidNamespaceException,
    InvalidNodeNameException,
    InvalidServiceNameException,
    InvalidTopicNameException,
    ParameterNotDeclaredException,
)
from .guard_condition import GuardCondition
from .logging import LoggingSeverity, RcutilsLogger, get_logger, publish_to_rosout
from .parameter import PARAMETER_SEPARATOR_STRING, Parameter
from .parameter_service import ParameterService, list_parameters
from .parameter_store import ParameterStore
from .publisher import Publisher
from .qos import (
    QoSProfile,
    as_profile,
    qos_profile_parameter_events,
    qos_profile_rosout_default,
    qos_profile_services_default,
    to_endpoint,
)
from .service import Service
from .subscription import Subscription
from .time import Time
from .time_source import TimeSource
from .timer import Rate, Timer
from .topic_endpoint_info import TopicEndpointInfo
from .type_support import check_for_type_support
from .utilities import get_default_context

HIDDEN_NODE_PREFIX = "_"
Entity = TypeVar("Entity")


class Node:
    """A participant of the graph: it owns publishers, subscriptions, services, clients, timers and parameters."""

    def __init__(
        self,
        node_name: str,
        *,
        context: Context | None = None,
        cli_args: list[str] | None = None,
        namespace: str | None = None,
        use_global_arguments: bool = True,
        enable_rosout: bool = True,
        start_parameter_services: bool = True,
        parameter_overrides: list[Parameter] | None = None,
        allow_undeclared_parameters: bool = False,
        automatically_declare_parameters_from_overrides: bool = False,
        enable_logger_service: bool = False,
    ) -> None:
        self._context = get_default_context() if context is None else context
        self._session = self._context.handle
        given = [arguments.parse(["--ros-args", *(cli_args or [])] if _bare(cli_args) else cli_args or [])]
        self._arguments = [*given, self._context._arguments] if use_global_arguments else given
        self._name, self._namespace = self._checked_names(node_name, namespace or "/")
        self._logger = get_logger(self.get_fully_qualified_name().strip("/").replace("/", "."))
        self._destroyed = False
        self._executor: weakref.ref[Any] | None = None
        self._publishers: list[Publisher] = []
        self._subscriptions: list[Subscription] = []
        self._clients: list[Client] = []
        self._services: list[Service] = []
        self._timers: list[Timer] = []
        self._guards: list[GuardCondition] = []
        self._extra: list[Any] = []  # waitables of actions
        self._rates: list[Rate] = []
        self._default_callback_group: CallbackGroup = MutuallyExclusiveCallbackGroup()
        self._record = self._session.add_node(self._name, self._namespace)
        self._context._nodes.add(self)
        self._clock = ROSClock()
        self._parameters = ParameterStore(
            self._overrides(parameter_overrides or []), allow_undeclared_parameters, self._publish_parameter_event
        )
        self._parameter_events: Publisher | None = None
        self._rosout: Publisher | None = None
        if enable_rosout:
            log = message_class("rcl_interfaces/msg/Log")
            self._rosout = self.create_publisher(log, "/rosout", qos_profile_rosout_default)
            publish_to_rosout(self._logger.name, self._publish_log)
        event = message_class("rcl_interfaces/msg/ParameterEvent")
        self._parameter_events = self.create_publisher(event, "/parameter_events", qos_profile_parameter_events)
        if automatically_declare_parameters_from_overrides:
            for name, override in self._parameters.overrides.items():
                self._parameters.declare(name, override.value, None, ignore_override=True)
        self._time_source = TimeSource(node=self, clock=self._clock)
        if start_parameter_services:
            ParameterService(self, self._parameters)
        if enable_logger_service:
            from .logger_service import LoggerService

            LoggerService(self)

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
        for given in self._arguments:
            replacement = given.remapped(key, node_name)
            if replacement is not None:
                return replacement
        return None

    def _resolve(self, name: str, only_expand: bool, error: type[Exception], scheme: str) -> str:
        fault = names.topic_fault(name)
        if fault:
            raise error(name, fault)
        full = names.expand(name, self._name, self._namespace)
        if only_expand:
            return full
        for rule in (rule for given in self._arguments for rule in given.remaps if not rule.match.startswith("__")):
            match = rule.match.removeprefix(scheme)
            if rule.node in (None, self._name) and names.expand(match, self._name, self._namespace) == full:
                return names.expand(rule.replacement, self._name, self._namespace)
        return full

    def resolve_topic_name(self, topic: str, *, only_expand: bool = False) -> str:
        """The absolute name after expansion and remapping. Raises InvalidTopicNameException."""
        return self._resolve(topic, only_expand, InvalidTopicNameException, "rostopic://")

    def resolve_service_name(self, service: str, *, only_expand: bool = False) -> str:
        """The absolute name after expansion and remapping. Raises InvalidServiceNameException."""
        return self._resolve(service, only_expand, InvalidServiceNameException, "rosservice://")

    def get_name(self) -> str:
        return self._name

    def get_namespace(self) -> str:
        return self._namespace

    def get_fully_qualified_name(self) -> str:
        return f"{self._namespace.rstrip('/')}/{self._name}"

    def get_logger(self) -> RcutilsLogger:
        return self._logger

    def get_clock(self) -> Clock:
        return self._clock

    # -- what the node holds -------------------------------------------------------------------------------------

    @property
    def context(self) -> Context:
        return self._context

    @property
    def handle(self) -> Any:
        return self._record

    @property
    def default_callback_group(self) -> CallbackGroup:
        return self._default_callback_group

    @property
    def publishers(self) -> Iterator[Publisher]:
        return iter(self._publishers)

    @property
    def subscriptions(self) -> Iterator[Subscription]:
        return iter(self._subscriptions)

    @property
    def clients(self) -> Iterator[Client]:
        return iter(self._clients)

    @property
    def services(self) -> Iterator[Service]:
        return iter(self._services)

    @property
    def timers(self) -> Iterator[Timer]:
        return iter(self._timers)

    @property
    def guards(self) -> Iterator[GuardCondition]:
        return iter(self._guards)

    @property
    def executor(self) -> Any:
        return None if self._executor is None else self._executor()

    @executor.setter
    def executor(self, new_executor: Any) -> None:
        if self.executor is not None and self.executor is not new_executor:
            self.executor.remove_node(self)
        if new_executor is not None:
            new_executor.add_node(self)

    def _set_executor(self, executor: Any) -> None:
        self._executor = None if executor is None else weakref.ref(executor)

    def _wake_executor(self) -> None:
        executor = self.executor
        if executor is not None:
            executor.wake()

    def _waitables(self) -> Iterator[Any]:
        """Everything that can have work, in the order in which an executor looks."""
        for entities in (self._timers, self._subscriptions, self._guards, self._clients, self._services, self._extra):
            yield from list(entities)

    def _add(self, entities: list[Entity], entity: Entity, group: CallbackGroup | None) -> Entity:
        known: Any = entity
        known.callback_group = self._default_callback_group if group is None else group
        known.callback_group.add_entity(entity)
        known._wake = self._wake_executor
        entities.append(entity)
        executor = self.executor
        if executor is not None:
            executor._watch(entity)
        return entity

    def add_waitable(self, waitable: Any) -> None:
        self._add(self._extra, waitable, waitable.callback_group)

    def remove_waitable(self, waitable: Any) -> None:
        self._extra.remove(waitable)

    def _check_alive(self) -> None:
        if self._destroyed:
            raise InvalidHandle("cannot use Destroyable because destruction was requested")

    # -- creation ------------------------------------------------------------------------------------------------

    def create_publisher(
        self,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: Any = None,
        qos_overriding_options: Any = None,
        publisher_class: type[Publisher] = Publisher,
    ) -> Publisher:
        self._check_alive()
        profile = as_profile(qos_profile)
        check_for_type_support(msg_type, "msg")
        name = self.resolve_topic_name(topic)
        end = self._session.create_publisher(self._record, name, msg_type, to_endpoint(profile, is_reader=False))
        group = self._default_callback_group if callback_group is None else callback_group
        publisher = publisher_class(end, self._context, msg_type, name, profile, group)
        self._publishers.append(publisher)
        return publisher

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[..., Any],
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: Any = None,
        qos_overriding_options: Any = None,
        raw: bool = False,
    ) -> Subscription:
        self._check_alive()
        profile = as_profile(qos_profile)
        check_for_type_support(msg_type, "msg")
        name = self.resolve_topic_name(topic)
        group = self._default_callback_group if callback_group is None else callback_group
        subscription = Subscription(msg_type, name, callback, group, profile, raw, self._logger.name)
        subscription._wake = self._wake_executor
        subscription._end = self._session.create_subscription(
            self._record, name, msg_type, to_endpoint(profile, is_reader=True), subscription._deliver
        )
        return self._add(self._subscriptions, subscription, group)

    def create_client(
        self,
        srv_type: Any,
        srv_name: str,
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Client:
        self._check_alive()
        check_for_type_support(srv_type, "srv")
        name = self.resolve_service_name(srv_name)
        group = self._default_callback_group if callback_group is None else callback_group
        logger = self._logger.name
        client = Client(self._session, self._record, self._context, srv_type, name, qos_profile, group, logger)
        client._executor_of = lambda: self.executor
        return self._add(self._clients, client, group)

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Service:
        self._check_alive()
        check_for_type_support(srv_type, "srv")
        name = self.resolve_service_name(srv_name)
        group = self._default_callback_group if callback_group is None else callback_group
        logger = self._logger.name
        service = Service(self._session, self._record, srv_type, name, callback, group, qos_profile, logger)
        return self._add(self._services, service, group)

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[..., Any] | None,
        callback_group: CallbackGroup | None = None,
        clock: Clock | None = None,
        autostart: bool = True,
    ) -> Timer:
        self._check_alive()
        clock = self._clock if clock is None else clock
        timer = Timer(callback, callback_group, round(timer_period_sec * 1e9), clock, autostart=autostart)
        return self._add(self._timers, timer, callback_group)

    def create_guard_condition(
        self, callback: Callable[[], Any], callback_group: CallbackGroup | None = None
    ) -> GuardCondition:
        self._check_alive()
        guard = GuardCondition(callback, callback_group, self._context)
        return self._add(self._guards, guard, callback_group)

    def create_rate(self, frequency: float, clock: Clock | None = None) -> Rate:
        if frequency <= 0:
            raise ValueError("frequency must be > 0")
        group = MutuallyExclusiveCallbackGroup()
        rate = Rate(self.create_timer(1.0 / frequency, None, group, clock), context=self._context)
        self._rates.append(rate)
        return rate

    # -- destruction ---------------------------------------------------------------------------------------------

    def _destroy(self, entities: list[Any], entity: Any) -> bool:
        if entity not in entities:
            return False
        entities.remove(entity)
        executor = self.executor
        if executor is not None:
            executor._ignore(entity)
        entity.destroy()
        return True

    def destroy_publisher(self, publisher: Publisher) -> bool:
        if publisher not in self._publishers:
            return False
        self._publishers.remove(publisher)
        publisher.destroy()
        return True

    def destroy_subscription(self, subscription: Subscription) -> bool:
        return self._destroy(self._subscriptions, subscription)

    def destroy_client(self, client: Client) -> bool:
        return self._destroy(self._clients, client)

    def destroy_service(self, service: Service) -> bool:
        return self._destroy(self._services, service)

    def destroy_timer(self, timer: Timer) -> bool:
        return self._destroy(self._timers, timer)

    def destroy_guard_condition(self, guard: GuardCondition) -> bool:
        return self._destroy(self._guards, guard)

    def destroy_rate(self, rate: Rate) -> bool:
        if rate not in self._rates:
            return False
        self._rates.remove(rate)
        self._timers = [timer for timer in self._timers if timer is not rate._timer]
        rate.destroy()
        return True

    def destroy_node(self) -> None:
        """Leave the graph. The node cannot be used afterwards."""
        if self._destroyed:
            return
        self._destroyed = True
        if self.executor is not None:
            self.executor.remove_node(self)
        publish_to_rosout(self._logger.name, None)
        for rate in list(self._rates):
            self.destroy_rate(rate)
        if self._context._session is not self._session:  # the context closed every endpoint when it left the domain
            return
        for entities in (self._extra, self._services, self._clients, self._subscriptions, self._timers, self._guards):
            for entity in list(entities):
                self._destroy(entities, entity)
        for publisher in list(self._publishers):
            self.destroy_publisher(publisher)
        self._session.remove_node(self._record)

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy_node()

    # -- parameters ----------------------------------------------------------------------------------------------

    def _overrides(self, given: list[Parameter]) -> dict[str, Parameter]:
        found: dict[str, Parameter] = {}
        for source in reversed(self._arguments):
            for name, value in source.overrides_for(self._namespace, self._name).items():
                if value is not None:
                    found[name] = Parameter(name, value=value)
        return found | {parameter.name: parameter for parameter in given}

    def declare_parameter(
        self, name: str, value: Any = None, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        """Declare one. Raises if it is declared, or if the override or a callback does not allow it."""
        return self._parameters.declare(name, value, descriptor, ignore_override)

    def declare_parameters(
        self, namespace: str, parameters: Sequence[Sequence[Any]], ignore_override: bool = False
    ) -> list[Parameter]:
        """Declare tuples of (name,), (name, value) or (name, value, descriptor)."""
        prefix = f"{namespace}{PARAMETER_SEPARATOR_STRING}" if namespace else ""
        declared = []
        for entry in parameters:
            if not 1 <= len(entry) <= 3 or not isinstance(entry[0], str):
                raise TypeError(f"a parameter to declare is {entry!r}, wanted (name[, value[, descriptor]])")
            value, descriptor = (*entry[1:], None, None)[:2]
            declared.append(self.declare_parameter(f"{prefix}{entry[0]}", value, descriptor, ignore_override))
        return declared

    def undeclare_parameter(self, name: str) -> None:
        self._parameters.undeclare(name)

    def has_parameter(self, name: str) -> bool:
        return name in self._parameters.values

    def get_parameter(self, name: str) -> Parameter:
        return self._parameters.get(name)

    def get_parameters(self, names: list[str]) -> list[Parameter]:
        if not all(isinstance(name, str) for name in names):
            raise TypeError("All names must be instances of type str")
        return [self._parameters.get(name) for name in names]

    def get_parameter_or(self, name: str, alternative_value: Parameter | None = None) -> Parameter:
        if alternative_value is None:
            alternative_value = Parameter(name)
        if self.has_parameter(name) and self._parameters.values[name].type_ is not Parameter.Type.NOT_SET:
            return self._parameters.values[name]
        return alternative_value

    def get_parameters_by_prefix(self, prefix: str) -> dict[str, Parameter]:
        start = f"{prefix}{PARAMETER_SEPARATOR_STRING}" if prefix else ""
        return {n.removeprefix(start): p for n, p in self._parameters.values.items() if n.startswith(start)}

    def get_parameter_type(self, name: str) -> Parameter.Type:
        return self._parameters.get(name).type_

    def get_parameter_types(self, names: list[str]) -> list[Parameter.Type]:
        return [self.get_parameter_type(name) for name in names]

    def set_parameters(self, parameter_list: list[Parameter]) -> list[Any]:
        """Set one after the other. Raises ParameterNotDeclaredException."""
        return self._parameters.set(parameter_list)

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> Any:
        """Set all or none. Raises ParameterNotDeclaredException."""
        return self._parameters.set_atomically(parameter_list)

    def list_parameters(self, prefixes: list[str], depth: int) -> Any:
        return list_parameters(self._parameters, prefixes, depth)

    def describe_parameter(self, name: str) -> Any:
        return self._parameters.describe(name)

    def describe_parameters(self, names: list[str]) -> list[Any]:
        return [self._parameters.describe(name) for name in names]

    def set_descriptor(self, name: str, descriptor: Any, alternative_value: Any = None) -> Any:
        """Replace a descriptor. Returns the parameter's value."""
        if not self.has_parameter(name):
            raise ParameterNotDeclaredException(name)
        descriptor.name = name
        self._parameters.descriptors[name] = descriptor
        return self._parameters.values[name].get_parameter_value()

    def add_pre_set_parameters_callback(self, callback: Callable[[list[Parameter]], list[Parameter]]) -> None:
        self._parameters.pre_set.insert(0, callback)

    def add_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        self._parameters.on_set.insert(0, callback)

    def add_post_set_parameters_callback(self, callback: Callable[[list[Parameter]], None]) -> None:
        self._parameters.post_set.insert(0, callback)

    def remove_pre_set_parameters_callback(self, callback: Callable[[list[Parameter]], list[Parameter]]) -> None:
        self._parameters.pre_set.remove(callback)

    def remove_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        self._parameters.on_set.remove(callback)

    def remove_post_set_parameters_callback(self, callback: Callable[[list[Parameter]], None]) -> None:
        self._parameters.post_set.remove(callback)

    def _publish_parameter_event(self, new: list[Parameter], changed: list[Parameter], gone: list[Parameter]) -> None:
        if self._parameter_events is None or not self._context.ok():
            return
        event = message_class("rcl_interfaces/msg/ParameterEvent")(
            stamp=self._clock.now().to_msg(),
            node=self.get_fully_qualified_name(),
            new_parameters=[p.to_parameter_msg() for p in new],
            changed_parameters=[p.to_parameter_msg() for p in changed],
            deleted_parameters=[p.to_parameter_msg() for p in gone],
        )
        self._parameter_events.publish(event)

    def _publish_log(self, severity: LoggingSeverity, name: str, text: str, stamp_ns: int, frame: FrameType) -> None:
        if self._rosout is None or not self._context.ok():
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
        self._rosout.publish(line)

    # -- the graph -----------------------------------------------------------------------------------------------

    def get_node_names(self) -> list[str]:
        return [node.name for node in self._session.graph().nodes]

    def get_fully_qualified_node_names(self) -> list[str]:
        return [f"{node.namespace.rstrip('/')}/{node.name}" for node in self._session.graph().nodes]

    def get_node_names_and_namespaces(self) -> list[tuple[str, str]]:
        return [(node.name, node.namespace) for node in self._session.graph().nodes]

    def get_node_names_and_namespaces_with_enclaves(self) -> list[tuple[str, str, str]]:
        return [(node.name, node.namespace, node.enclave) for node in self._session.graph().nodes]

    def get_topic_names_and_types(self, no_demangle: bool = False) -> graph.NamesAndTypes:
        return graph.topics(self._session.graph())

    def get_service_names_and_types(self) -> graph.NamesAndTypes:
        return graph.services(self._session.graph())

    def _of_node(self, name: str, namespace: str, query: Callable[..., graph.NamesAndTypes], writers: bool) -> Any:
        seen = self._session.graph()
        node = graph.find_node(seen, name, namespace)
        if node is None:
            from .exceptions import RCLError

            raise RCLError(f"cannot get names of node {namespace.rstrip('/')}/{name}: node name not found")
        return query(seen, node, writers)

    def get_publisher_names_and_types_by_node(
        self, node_name: str, node_namespace: str, no_demangle: bool = False
    ) -> graph.NamesAndTypes:
        return self._of_node(node_name, node_namespace, graph.node_topics, True)

    def get_subscriber_names_and_types_by_node(
        self, node_name: str, node_namespace: str, no_demangle: bool = False
    ) -> graph.NamesAndTypes:
        return self._of_node(node_name, node_namespace, graph.node_topics, False)

    def get_service_names_and_types_by_node(self, node_name: str, node_namespace: str) -> graph.NamesAndTypes:
        return self._of_node(node_name, node_namespace, graph.node_services, False)

    def get_client_names_and_types_by_node(self, node_name: str, node_namespace: str) -> graph.NamesAndTypes:
        return self._of_node(node_name, node_namespace, graph.node_services, True)

    def count_publishers(self, topic_name: str) -> int:
        return graph.count(self._session.graph(), self.resolve_topic_name(topic_name, only_expand=True), writers=True)

    def count_subscribers(self, topic_name: str) -> int:
        return graph.count(self._session.graph(), self.resolve_topic_name(topic_name, only_expand=True), writers=False)

    def count_services(self, service_name: str) -> int:
        name = self.resolve_service_name(service_name, only_expand=True)
        return graph.count_services(self._session.graph(), name, clients=False)

    def count_clients(self, service_name: str) -> int:
        name = self.resolve_service_name(service_name, only_expand=True)
        return graph.count_services(self._session.graph(), name, clients=True)

    def get_publishers_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[TopicEndpointInfo]:
        name = topic_name if no_mangle else self.resolve_topic_name(topic_name)
        return graph.endpoint_infos(self._session.graph(), name, True, no_mangle)

    def get_subscriptions_info_by_topic(self, topic_name: str, no_mangle: bool = False) -> list[TopicEndpointInfo]:
        name = topic_name if no_mangle else self.resolve_topic_name(topic_name)
        return graph.endpoint_infos(self._session.graph(), name, False, no_mangle)

    def wait_for_node(self, fully_qualified_node_name: str, timeout: float) -> bool:
        """Whether the node is there within the time [s]."""
        deadline = time.monotonic() + timeout
        while fully_qualified_node_name not in self.get_fully_qualified_node_names():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True


def _bare(args: list[str] | None) -> bool:
    """Whether arguments for a node were given without the leading `--ros-args`."""
    return bool(args) and "--ros-args" not in (args or [])
