"""`rclpy.lifecycle.node`."""

from __future__ import annotations

from typing import Any

from ..node import Node
from ..qos import QoSProfile
from .managed_entity import ManagedEntity
from .publisher import LifecyclePublisher
from .state_machine import LifecycleState, StateMachine
from .states import TransitionCallbackReturn


class LifecycleNode(Node):
    """A node with the states unconfigured, inactive, active and finalized. Override the `on_` methods."""

    def __init__(self, node_name: str, *, enable_communication_interface: bool = True, **options: Any) -> None:
        super().__init__(node_name, **options)
        self._rclpy_lifecycle = StateMachine(self)
        if enable_communication_interface:
            self._rclpy_lifecycle.open_services()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_lifecycle.pass_on("on_configure", state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_lifecycle.pass_on("on_cleanup", state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_lifecycle.pass_on("on_shutdown", state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_lifecycle.pass_on("on_activate", state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_lifecycle.pass_on("on_deactivate", state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._rclpy_lifecycle.pass_on("on_error", state)

    def trigger_configure(self) -> TransitionCallbackReturn:
        return self._rclpy_lifecycle.trigger("configure")

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        return self._rclpy_lifecycle.trigger("cleanup")

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        return self._rclpy_lifecycle.trigger("shutdown")

    def trigger_activate(self) -> TransitionCallbackReturn:
        return self._rclpy_lifecycle.trigger("activate")

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        return self._rclpy_lifecycle.trigger("deactivate")

    def add_managed_entity(self, entity: ManagedEntity) -> None:
        self._rclpy_lifecycle.managed.append(entity)

    def create_lifecycle_publisher(
        self, msg_type: Any, topic: str, qos_profile: QoSProfile | int, **options: Any
    ) -> LifecyclePublisher:
        publisher = self.create_publisher(msg_type, topic, qos_profile, publisher_class=LifecyclePublisher, **options)
        assert isinstance(publisher, LifecyclePublisher)
        self.add_managed_entity(publisher)
        return publisher

    def destroy_lifecycle_publisher(self, publisher: LifecyclePublisher) -> bool:
        managed = self._rclpy_lifecycle.managed
        if publisher in managed:
            managed.remove(publisher)
        return self.destroy_publisher(publisher)
