"""`rclpy.lifecycle`: nodes whose work is switched on and off by others."""

from .managed_entity import ManagedEntity, SimpleManagedEntity
from .node import LifecycleNode, LifecycleState
from .publisher import LifecyclePublisher
from .states import TransitionCallbackReturn

Node, State, Publisher = LifecycleNode, LifecycleState, LifecyclePublisher

__all__ = [
    "LifecycleNode",
    "LifecyclePublisher",
    "LifecycleState",
    "ManagedEntity",
    "Node",
    "Publisher",
    "SimpleManagedEntity",
    "State",
    "TransitionCallbackReturn",
]
