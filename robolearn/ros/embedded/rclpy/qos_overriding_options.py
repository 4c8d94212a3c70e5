"""`rclpy.qos_overriding_options`: parameters that set the QoS, such as `qos_overrides./topic.publisher.depth`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robolearn.ros.messages import message_class

from .duration import Duration
from .exceptions import ParameterAlreadyDeclaredException
from .qos import QoSPolicyKind, QoSProfile

if TYPE_CHECKING:
    from .node import Node

DEFAULT_POLICIES = (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY)


class InvalidQosOverridesError(Exception):
    """What the parameters say is no quality of service, or the node refuses it."""


@dataclass
class QosCallbackResult:
    """What the node says of a profile with the parameters' values in it."""

    successful: bool = False
    reason: str = ""


class QoSOverridingOptions:
    """Policies that parameters may set; `callback` may refuse the outcome. `entity_id` tells apart several publishers,
    or subscriptions, of one topic and node."""

    def __init__(
        self,
        policy_kinds: Iterable[QoSPolicyKind],
        *,
        callback: Callable[[QoSProfile], QosCallbackResult] | None = None,
        entity_id: str | None = None,
    ) -> None:
        self.policy_kinds, self.callback, self.entity_id = tuple(policy_kinds), callback, entity_id

    @classmethod
    def with_default_policies(
        cls, *, callback: Callable[[QoSProfile], QosCallbackResult] | None = None, entity_id: str | None = None
    ) -> QoSOverridingOptions:
        return cls(DEFAULT_POLICIES, callback=callback, entity_id=entity_id)


def overridden(
    node: Node, entity: str, topic: str, profile: QoSProfile, options: QoSOverridingOptions | None
) -> QoSProfile:
    """The profile with what parameters say of it; `entity` is publisher or subscription, `topic` its full name.

    Declares the parameters, read-only. Times are integer nanoseconds. Raises InvalidQosOverridesError.
    """
    if options is None:
        return profile
    values = {name: getattr(profile, name) for name in QoSProfile.__slots__}
    suffix = f"_{options.entity_id}" if options.entity_id else ""
    for kind in options.policy_kinds:
        policy = kind.name.lower()
        if policy not in values:
            raise ValueError(f"{kind!r} is no policy that parameters can set")
        name = f"qos_overrides.{topic}.{entity}{suffix}.{policy}"
        values[policy] = _from_parameter(name, _declared(node, name, values[policy]), values[policy])
    changed = QoSProfile(**values)
    if options.callback is not None:
        verdict = options.callback(changed)
        if not verdict.successful:
            raise InvalidQosOverridesError(f"the quality of service of {topic} is refused: {verdict.reason}")
    return changed


def _declared(node: Node, name: str, value: Any) -> Any:
    if isinstance(value, Duration):
        plain: Any = value.nanoseconds
    else:
        plain = getattr(value, "short_key", value)
    descriptor = message_class("rcl_interfaces/msg/ParameterDescriptor")(read_only=True)
    try:
        return node.declare_parameter(name, plain, descriptor).value
    except ParameterAlreadyDeclaredException:  # of another one of that topic
        return node.get_parameter(name).value


def _from_parameter(name: str, given: Any, value: Any) -> Any:
    try:
        if isinstance(value, Duration):
            return Duration(nanoseconds=given)
        return type(value).get_from_short_key(given) if hasattr(value, "short_key") else type(value)(given)
    except (KeyError, ValueError, OverflowError) as error:
        known = ", ".join(type(value).short_keys()) if hasattr(value, "short_key") else "a number of at least 0"
        raise InvalidQosOverridesError(f"parameter {name} is {given!r}, wanted {known}") from error
