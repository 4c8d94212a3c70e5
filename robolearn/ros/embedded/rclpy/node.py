"""`rclpy.node`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from robolearn.ros.messages import message_class

from .callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from .client import Client
from .clock import Clock
from .context import Context
from .event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from .guard_condition import GuardCondition
from .logging import publish_to_rosout
from .node_core import NodeCore
from .node_graph import GraphMethods
from .node_parameters import ParameterMethods
from .parameter import Parameter
from .parameter_service import ParameterService
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
from .qos_overriding_options import QoSOverridingOptions, overridden
from .service import Service
from .subscription import Subscription
from .time_source import TimeSource
from .timer import Rate, Timer
from .type_support import check_for_type_support
from .utilities import get_default_context

HIDDEN_NODE_PREFIX = "_"


class Node(ParameterMethods, GraphMethods):
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
        context = get_default_context() if context is None else context
        core = self._rclpy = NodeCore(context, node_name, namespace or "/", cli_args or [], use_global_arguments)
        context._nodes.add(self)
        core.parameters = ParameterStore(
            core.overrides(parameter_overrides or []), allow_undeclared_parameters, core.publish_parameter_event
        )
        if enable_rosout and all(given.rosout for given in core.arguments):
            log = message_class("rcl_interfaces/msg/Log")
            core.rosout = Node.create_publisher(self, log, "/rosout", qos_profile_rosout_default)
            publish_to_rosout(core.logger.name, core.publish_log)
        event = message_class("rcl_interfaces/msg/ParameterEvent")
        core.parameter_events = Node.create_publisher(self, event, "/parameter_events", qos_profile_parameter_events)
        if automatically_declare_parameters_from_overrides:
            for name, override in core.parameters.overrides.items():
                core.parameters.declare(name, override.value, None, ignore_override=True)
        core.time_source = TimeSource(node=self, clock=core.clock)
        if start_parameter_services:
            ParameterService(self, core.parameters)
        if enable_logger_service:
            from .logger_service import LoggerService

            LoggerService(self)

    # -- what the node holds -------------------------------------------------------------------------------------

    @property
    def context(self) -> Context:
        return self._rclpy.context

    @property
    def handle(self) -> Any:
        return self._rclpy.record

    @property
    def default_callback_group(self) -> CallbackGroup:
        return self._rclpy.default_callback_group

    @property
    def publishers(self) -> Iterator[Publisher]:
        return iter(self._rclpy.publishers)

    @property
    def subscriptions(self) -> Iterator[Subscription]:
        return iter(self._rclpy.subscriptions)

    @property
    def clients(self) -> Iterator[Client]:
        return iter(self._rclpy.clients)

    @property
    def services(self) -> Iterator[Service]:
        return iter(self._rclpy.services)

    @property
    def timers(self) -> Iterator[Timer]:
        return iter(self._rclpy.timers)

    @property
    def guards(self) -> Iterator[GuardCondition]:
        return iter(self._rclpy.guards)

    @property
    def executor(self) -> Any:
        return self._rclpy.the_executor()

    @executor.setter
    def executor(self, new_executor: Any) -> None:
        if self.executor is not None and self.executor is not new_executor:
            self.executor.remove_node(self)
        if new_executor is not None:
            new_executor.add_node(self)

    def add_waitable(self, waitable: Any) -> None:
        self._rclpy.add(self._rclpy.extra, waitable, waitable.callback_group)

    def remove_waitable(self, waitable: Any) -> None:
        self._rclpy.extra.remove(waitable)

    # -- creation ------------------------------------------------------------------------------------------------

    def create_publisher(
        self,
        msg_type: Any,
        topic: str,
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: PublisherEventCallbacks | None = None,
        qos_overriding_options: QoSOverridingOptions | None = None,
        publisher_class: type[Publisher] = Publisher,
    ) -> Publisher:
        self._rclpy.check_alive()
        check_for_type_support(msg_type, "msg")
        name = self.resolve_topic_name(topic)
        profile = overridden(self, "publisher", name, as_profile(qos_profile), qos_overriding_options)
        group = self._rclpy.default_callback_group if callback_group is None else callback_group
        publisher = publisher_class(
            self._rclpy.context, msg_type, name, profile, group, self._rclpy.logger.name, event_callbacks
        )
        publisher._end = self._rclpy.session.create_publisher(
            self._rclpy.record, name, msg_type, to_endpoint(profile, is_reader=False), publisher._events.meet
        )
        self._rclpy.hear_events(publisher._events, publisher._end.writer.events, group)
        return self._rclpy.add(self._rclpy.publishers, publisher, group)

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[..., Any],
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: SubscriptionEventCallbacks | None = None,
        qos_overriding_options: QoSOverridingOptions | None = None,
        raw: bool = False,
    ) -> Subscription:
        self._rclpy.check_alive()
        check_for_type_support(msg_type, "msg")
        name = self.resolve_topic_name(topic)
        profile = overridden(self, "subscription", name, as_profile(qos_profile), qos_overriding_options)
        group = self._rclpy.default_callback_group if callback_group is None else callback_group
        logger = self._rclpy.logger.name
        subscription = Subscription(msg_type, name, callback, group, profile, raw, logger, event_callbacks)
        subscription._wake = self._rclpy.wake_executor
        subscription._end = self._rclpy.session.create_subscription(
            self._rclpy.record,
            name,
            msg_type,
            to_endpoint(profile, is_reader=True),
            subscription._deliver,
            subscription._events.refuse,
            subscription._events.meet,
        )
        self._rclpy.hear_events(subscription._events, subscription._end.reader.events, group)
        return self._rclpy.add(self._rclpy.subscriptions, subscription, group)

    def create_client(
        self,
        srv_type: Any,
        srv_name: str,
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Client:
        self._rclpy.check_alive()
        check_for_type_support(srv_type, "srv")
        name = self.resolve_service_name(srv_name)
        group = self._rclpy.default_callback_group if callback_group is None else callback_group
        logger = self._rclpy.logger.name
        client = Client(
            self._rclpy.session, self._rclpy.record, self._rclpy.context, srv_type, name, qos_profile, group, logger
        )
        client._executor_of = lambda: self.executor
        return self._rclpy.add(self._rclpy.clients, client, group)

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: QoSProfile = qos_profile_services_default,
        callback_group: CallbackGroup | None = None,
    ) -> Service:
        self._rclpy.check_alive()
        check_for_type_support(srv_type, "srv")
        name = self.resolve_service_name(srv_name)
        group = self._rclpy.default_callback_group if callback_group is None else callback_group
        logger = self._rclpy.logger.name
        service = Service(self._rclpy.session, self._rclpy.record, srv_type, name, callback, group, qos_profile, logger)
        return self._rclpy.add(self._rclpy.services, service, group)

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[..., Any] | None,
        callback_group: CallbackGroup | None = None,
        clock: Clock | None = None,
        autostart: bool = True,
    ) -> Timer:
        self._rclpy.check_alive()
        clock = self._rclpy.clock if clock is None else clock
        timer = Timer(callback, callback_group, round(timer_period_sec * 1e9), clock, autostart=autostart)
        return self._rclpy.add(self._rclpy.timers, timer, callback_group)

    def create_guard_condition(
        self, callback: Callable[[], Any], callback_group: CallbackGroup | None = None
    ) -> GuardCondition:
        self._rclpy.check_alive()
        guard = GuardCondition(callback, callback_group, self._rclpy.context)
        return self._rclpy.add(self._rclpy.guards, guard, callback_group)

    def create_rate(self, frequency: float, clock: Clock | None = None) -> Rate:
        if frequency <= 0:
            raise ValueError("frequency must be > 0")
        group = MutuallyExclusiveCallbackGroup()
        rate = Rate(self.create_timer(1.0 / frequency, None, group, clock), context=self._rclpy.context)
        self._rclpy.rates.append(rate)
        return rate

    # -- destruction ---------------------------------------------------------------------------------------------

    def destroy_publisher(self, publisher: Publisher) -> bool:
        return self._rclpy.destroy(self._rclpy.publishers, publisher)

    def destroy_subscription(self, subscription: Subscription) -> bool:
        return self._rclpy.destroy(self._rclpy.subscriptions, subscription)

    def destroy_client(self, client: Client) -> bool:
        return self._rclpy.destroy(self._rclpy.clients, client)

    def destroy_service(self, service: Service) -> bool:
        return self._rclpy.destroy(self._rclpy.services, service)

    def destroy_timer(self, timer: Timer) -> bool:
        return self._rclpy.destroy(self._rclpy.timers, timer)

    def destroy_guard_condition(self, guard: GuardCondition) -> bool:
        return self._rclpy.destroy(self._rclpy.guards, guard)

    def destroy_rate(self, rate: Rate) -> bool:
        if rate not in self._rclpy.rates:
            return False
        self._rclpy.rates.remove(rate)
        self._rclpy.timers = [timer for timer in self._rclpy.timers if timer is not rate._timer]
        rate.destroy()
        return True

    def destroy_node(self) -> None:
        """Leave the graph. The node cannot be used afterwards."""
        if self._rclpy.destroyed:
            return
        self._rclpy.destroyed = True
        if self.executor is not None:
            self.executor.remove_node(self)
        publish_to_rosout(self._rclpy.logger.name, None)
        for rate in list(self._rclpy.rates):
            self.destroy_rate(rate)
        core = self._rclpy
        if core.context._session is not core.session:  # the context closed every endpoint when it left the domain
            return
        for entities in (core.extra, core.services, core.clients, core.subscriptions, core.timers, core.guards):
            for entity in list(entities):
                core.destroy(entities, entity)
        for publisher in list(core.publishers):
            self.destroy_publisher(publisher)
        self._rclpy.session.remove_node(self._rclpy.record)

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.destroy_node()
