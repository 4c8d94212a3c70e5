"""Events of publishers and subscriptions, and quality of service by parameters. Written against rclpy's public API."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSPolicyKind, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import InvalidQosOverridesError, QosCallbackResult, QoSOverridingOptions
from std_msgs.msg import Int32, String

SpinUntil = Callable[..., bool]


@pytest.fixture
def elsewhere(context: None) -> Iterator[Node]:
    """A node of another participant, as of another process."""
    other = rclpy.Context()
    rclpy.init(args=[], context=other)
    node = rclpy.create_node("elsewhere", context=other)
    executor = rclpy.executors.SingleThreadedExecutor(context=other)
    executor.add_node(node)
    yield node
    executor.shutdown()
    rclpy.shutdown(context=other)


def test_missed_deadlines_and_lost_liveliness_are_told_to_both_ends(
    node: Node, elsewhere: Node, spin_until: SpinUntil
) -> None:
    period, told = Duration(seconds=0.05), {name: list[Any]() for name in ("missed", "late", "lives", "died")}
    strict = QoSProfile(
        depth=1, deadline=period, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC, liveliness_lease_duration=period
    )
    publisher = elsewhere.create_publisher(
        String, "watched", strict,
        event_callbacks=PublisherEventCallbacks(deadline=told["late"].append, liveliness=told["died"].append),
    )  # fmt: skip
    node.create_subscription(
        String, "watched", lambda message: None, strict,
        event_callbacks=SubscriptionEventCallbacks(deadline=told["missed"].append, liveliness=told["lives"].append),
    )  # fmt: skip

    def all_told() -> bool:
        elsewhere.executor.spin_once(timeout_sec=0.0)
        if publisher.get_subscription_count() and not told["missed"]:
            publisher.publish(String())
            time.sleep(0.06)
        gone = bool(told["lives"]) and told["lives"][-1].not_alive_count == 1
        return gone and bool(told["missed"] and told["late"] and told["died"])

    assert spin_until(all_told, node)
    for counted in (told["missed"], told["late"], told["died"]):
        assert counted[0].total_count == counted[0].total_count_change >= 1
    publisher.publish(String())
    assert spin_until(lambda: told["lives"][-1].alive_count == 1, node)


def test_who_asserts_its_liveliness_lives(node: Node, elsewhere: Node) -> None:
    lease, died = Duration(seconds=0.5), list[Any]()
    manual = QoSProfile(depth=1, liveliness=LivelinessPolicy.MANUAL_BY_TOPIC, liveliness_lease_duration=lease)
    callbacks = PublisherEventCallbacks(liveliness=died.append)
    publisher = elsewhere.create_publisher(String, "manual", manual, event_callbacks=callbacks)
    publisher.publish(String())
    for _ in range(14):
        publisher.assert_liveliness()
        elsewhere.executor.spin_once(timeout_sec=0.05)
    assert not died


@pytest.mark.parametrize("side", ["subscription", "publisher"])
def test_an_end_that_does_not_fit_is_told_to_a_callback_in_the_place_of_a_warning(
    node: Node, elsewhere: Node, spin_until: SpinUntil, capfd: pytest.CaptureFixture[str], side: str
) -> None:
    told: list[Any] = []
    lossy, latched = QoSProfile(depth=1), QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    if side == "subscription":
        callbacks = SubscriptionEventCallbacks(incompatible_qos=told.append)
        node.create_subscription(String, "unfit", lambda message: None, latched, event_callbacks=callbacks)
        elsewhere.create_publisher(String, "unfit", lossy)
    else:
        node.create_publisher(
            String, "unfit", lossy, event_callbacks=PublisherEventCallbacks(incompatible_qos=told.append)
        )
        elsewhere.create_subscription(String, "unfit", lambda message: None, latched)
    assert spin_until(lambda: told, node)
    assert (told[0].total_count, told[0].last_policy_kind) == (1, QoSPolicyKind.DURABILITY)
    assert "unfit" not in capfd.readouterr().err
    said, end_s = "", time.monotonic() + 10.0  # by the other one, which has no callback
    while "/unfit" not in said:
        assert time.monotonic() < end_s
        elsewhere.executor.spin_once(timeout_sec=0.01)
        said += capfd.readouterr().err


@pytest.mark.parametrize("side", ["subscription", "publisher"])
def test_who_comes_and_goes_is_told(node: Node, elsewhere: Node, spin_until: SpinUntil, side: str) -> None:
    told: list[Any] = []

    def make(owner: Node, subscribes: bool, **options: Any) -> Any:
        if subscribes:
            return owner.create_subscription(String, "met", lambda message: None, 10, **options)
        return owner.create_publisher(String, "met", 10, **options)

    subscribes = side == "subscription"
    kind = SubscriptionEventCallbacks if subscribes else PublisherEventCallbacks
    own = make(node, subscribes, event_callbacks=kind(matched=told.append))
    destroy = Node.destroy_publisher if subscribes else Node.destroy_subscription
    for owner in (node, elsewhere):
        count = (2 if owner is elsewhere else 1, 1)
        other = make(owner, not subscribes)
        assert spin_until(lambda: told, node)
        if not subscribes:
            own.publish(String())  # which asks how many there are, and takes nothing away
        event = told.pop(0)
        assert (event.total_count, event.current_count, event.current_count_change) == (*count, 1)
        destroy(owner, other)
        assert spin_until(lambda: told, node)
        event = told.pop(0)
        assert (event.total_count, event.total_count_change, event.current_count) == (count[0], 0, 0)
        assert event.current_count_change == -1


def test_a_publisher_of_another_type_is_told(
    node: Node, elsewhere: Node, spin_until: SpinUntil, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[Any] = []
    callbacks = SubscriptionEventCallbacks(incompatible_type=told.append)
    node.create_subscription(String, "mixed", lambda message: None, 10, event_callbacks=callbacks)
    node.create_subscription(String, "mixed", lambda message: None, 10)
    node.create_publisher(Int32, "mixed", 10)
    elsewhere.create_publisher(Int32, "mixed", 10)
    assert spin_until(lambda: len(told) == 2, node)
    assert (told[1].total_count, told[1].total_count_change) == (2, 1)
    assert "a publisher of /mixed is not heard by this subscription: its type is another" in capfd.readouterr().err


def test_parameters_set_the_quality_of_service(context: None) -> None:
    options = QoSOverridingOptions.with_default_policies(
        callback=lambda profile: QosCallbackResult(profile.depth < 50, "too deep")
    )
    given = {"depth": 7, "reliability": "best_effort"}
    overrides = [Parameter(f"qos_overrides./left/scan.subscription.{k}", value=v) for k, v in given.items()]
    overrides += [
        Parameter("qos_overrides./scan.publisher_main.deadline", value=2_000_000_000),
        Parameter("qos_overrides./deep.publisher.depth", value=50),
        Parameter("qos_overrides./odd.publisher.reliability", value="sometimes"),
    ]
    with rclpy.create_node("tuned", namespace="/left", parameter_overrides=overrides) as node:
        heard = node.create_subscription(String, "scan", lambda message: None, 10, qos_overriding_options=options)
        assert (heard.qos_profile.depth, heard.qos_profile.reliability) == (7, ReliabilityPolicy.BEST_EFFORT)
        infos = node.get_subscriptions_info_by_topic("scan")
        assert infos[0].qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
        assert node.get_parameter("qos_overrides./left/scan.subscription.history").value == "keep_last"
        (outcome,) = node.set_parameters([Parameter("qos_overrides./left/scan.subscription.depth", value=8)])
        assert not outcome.successful  # it is too late
        main = QoSOverridingOptions([QoSPolicyKind.DEADLINE, QoSPolicyKind.DURABILITY], entity_id="main")
        publisher = node.create_publisher(String, "/scan", 10, qos_overriding_options=main)
        assert publisher.qos_profile.deadline == Duration(seconds=2)
        with pytest.raises(InvalidQosOverridesError, match="too deep"):
            node.create_publisher(String, "/deep", 10, qos_overriding_options=options)
        with pytest.raises(InvalidQosOverridesError, match="sometimes"):
            node.create_publisher(String, "/odd", 10, qos_overriding_options=options)
