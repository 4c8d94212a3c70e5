"""Quality of service and user data between our form and that of Cyclone DDS."""

from __future__ import annotations

from cyclonedds.internal import dds_infinity
from cyclonedds.qos import Policy, Qos

from robolearn.ros import wire
from robolearn.ros.transport import EndpointQos


def to_dds_qos(qos: EndpointQos, user_data: bytes, ignore_local: bool = False) -> Qos:
    """As rmw_cyclonedds_cpp sets it; what is infinite there is left at DDS' own infinite default."""
    history = Policy.History.KeepAll if qos.depth is None else Policy.History.KeepLast(max(qos.depth, 1))
    lease = dds_infinity if qos.lease_ns is None else qos.lease_ns
    policies = [
        Policy.Reliability.Reliable(dds_infinity) if qos.reliable else Policy.Reliability.BestEffort,
        history,
        Policy.Durability.TransientLocal if qos.transient_local else Policy.Durability.Volatile,
        Policy.Liveliness.ManualByTopic(lease) if qos.manual_liveliness else Policy.Liveliness.Automatic(lease),
        Policy.WriterDataLifecycle(autodispose=False),
        Policy.IgnoreLocal.Participant if ignore_local else Policy.IgnoreLocal.Nothing,
        Policy.DataRepresentation(use_cdrv0_representation=True),
        Policy.Userdata(user_data),
    ]
    if qos.transient_local:
        policies.append(Policy.DurabilityService(0, history, -1, -1, -1))
    if qos.deadline_ns is not None:
        policies.append(Policy.Deadline(qos.deadline_ns))
    if qos.lifespan_ns is not None:
        policies.append(Policy.Lifespan(qos.lifespan_ns))
    return Qos(*policies)


def from_dds_qos(qos: Qos) -> EndpointQos:
    """What a peer announced."""

    def finite(value: int | None) -> int | None:
        return None if value is None or value >= dds_infinity else value

    history, liveliness = qos[Policy.History], qos[Policy.Liveliness]
    deadline, lifespan = qos[Policy.Deadline], qos[Policy.Lifespan]
    return EndpointQos(
        reliable=isinstance(qos[Policy.Reliability], Policy.Reliability.Reliable),
        depth=getattr(history, "depth", None) if history is not None else 0,
        transient_local=qos[Policy.Durability] not in (None, Policy.Durability.Volatile),
        deadline_ns=finite(deadline.deadline) if deadline else None,
        lifespan_ns=finite(lifespan.lifespan) if lifespan else None,
        manual_liveliness=isinstance(liveliness, Policy.Liveliness.ManualByTopic),
        lease_ns=finite(liveliness.lease_duration) if liveliness else None,
    )


def user_data_of(qos: Qos) -> dict[str, str]:
    policy = qos[Policy.Userdata]
    return wire.parse_user_data(policy.data) if policy else {}
