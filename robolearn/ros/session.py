"""One context's share of the domain: its nodes, its endpoints, and delivery inside the process.

Publishers hand messages to subscriptions of the same context as copies, without serialising them; the transport carries
only what other participants asked for.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from robolearn.ros import messages
from robolearn.ros.cyclone import CycloneTransport
from robolearn.ros.messages import Message
from robolearn.ros.transport import TYPE_POLICY, EndpointQos, Graph, NodeInfo, Transport

Payload = Message | bytes
Refused = Callable[[str], None]  # told the policy for which a publisher does not fit
Met = Callable[[int], None]  # told 1 of an end of this context that fits, -1 when it goes
DeliverMessage = Callable[[Message, int], None]  # the receiver's own copy, source stamp [ns since the epoch]


@dataclass
class NodeRecord:
    """A node of this process and the gids that it announces."""

    name: str
    namespace: str
    enclave: str
    readers: set[bytes] = field(default_factory=set)
    writers: set[bytes] = field(default_factory=set)


class LocalSubscription:
    """A subscription: what comes from this process goes to `deliver`, the rest is taken from `reader`."""

    def __init__(
        self,
        session: Session,
        node: NodeRecord,
        topic: str,
        cls: type[Message],
        qos: EndpointQos,
        deliver: DeliverMessage,
        refused: Refused,
        met: Met,
    ) -> None:
        self.session, self.node, self.topic, self.cls, self.qos, self.deliver = session, node, topic, cls, qos, deliver
        self.refused, self.met = refused, met
        self.reader = session.transport.create_reader(topic, cls._TYPE, qos)

    def compare(self, publisher: LocalPublisher) -> None:
        """Tell of a publisher of this context: to both that they fit, or here that its type or QoS does not."""
        policy = publisher.qos.lacks(self.qos) if publisher.cls is self.cls else TYPE_POLICY
        if policy:
            self.refused(policy)
        else:
            self.met(1)
            publisher.met(1)

    def matched(self) -> int:
        """Number of publishers, of this process and of others."""
        publishers = self.session.publishers.get(self.topic, ())
        return self.reader.matched() + sum(publisher.reaches(self) for publisher in publishers)

    def close(self) -> None:
        self.session.forget_subscription(self)
        self.reader.close()


class LocalPublisher:
    """A publisher, with the last samples where late joiners are to get them."""

    def __init__(
        self, session: Session, node: NodeRecord, topic: str, cls: type[Message], qos: EndpointQos, met: Met
    ) -> None:
        self.session, self.node, self.topic, self.cls, self.qos, self.met = session, node, topic, cls, qos, met
        self.writer = session.transport.create_writer(topic, cls._TYPE, qos)
        self.latched: deque[tuple[Message, int]] | None = deque(maxlen=qos.depth) if qos.transient_local else None
        # whether the middleware has to know of each sample, even while nobody else listens
        self.always_written = qos.transient_local or qos.manual_liveliness or qos.deadline_ns is not None

    def reaches(self, subscription: LocalSubscription) -> bool:
        """Whether type and QoS of a subscription of this context fit."""
        return self.cls is subscription.cls and self.qos.serves(subscription.qos)

    def publish(self, message: Payload) -> None:
        """Hand over and send. The caller may change the message afterwards."""
        now_ns = time.time_ns()
        data = None
        if not isinstance(message, Message):
            data = bytearray(message)
            message = messages.deserialize(message, self.cls)
        if self.latched is not None:
            with self.session.lock:  # a late joiner sees this sample either latched or delivered, not both
                message = messages.clone(message)
                self.latched.append((message, now_ns))
                targets = self.targets()
        else:
            targets = self.targets()
        for subscription in targets:
            message = messages.clone(message)
            subscription.deliver(message, now_ns)
        if self.always_written or self.writer.matched():
            self.writer.write(messages.serialize(message) if data is None else data)

    def targets(self) -> list[LocalSubscription]:
        """The subscriptions of this context that it reaches."""
        return [s for s in self.session.subscriptions.get(self.topic, ()) if self.reaches(s)]

    def matched(self) -> int:
        """Number of subscriptions, of this process and of others."""
        return self.writer.matched() + len(self.targets())

    def close(self) -> None:
        self.session.forget_publisher(self)
        self.writer.close()


class Session:
    """Opened by a context. Raises TransportError if the domain cannot be joined."""

    def __init__(self, domain_id: int, enclave: str) -> None:
        self.enclave = enclave
        self.lock = threading.RLock()
        self.publishers: dict[str, tuple[LocalPublisher, ...]] = {}
        self.subscriptions: dict[str, tuple[LocalSubscription, ...]] = {}
        self._nodes: list[NodeRecord] = []
        self.transport: Transport = CycloneTransport(domain_id, enclave)

    def graph(self) -> Graph:
        return self.transport.graph()

    def add_node(self, name: str, namespace: str) -> NodeRecord:
        with self.lock:
            record = NodeRecord(name, namespace, self.enclave)
            self._nodes.append(record)
            self.announce()
            return record

    def remove_node(self, record: NodeRecord) -> None:
        with self.lock:
            self._nodes.remove(record)
            self.announce()

    def announce(self) -> None:
        """Tell the domain what this process holds now."""
        with self.lock:
            self.transport.announce(
                [
                    NodeInfo(n.name, n.namespace, n.enclave, frozenset(n.readers), frozenset(n.writers))
                    for n in self._nodes
                ]
            )

    def create_publisher(
        self, node: NodeRecord, topic: str, cls: type[Message], qos: EndpointQos, met: Met
    ) -> LocalPublisher:
        with self.lock:
            publisher = LocalPublisher(self, node, topic, cls, qos, met)
            self.publishers[topic] = (*self.publishers.get(topic, ()), publisher)
            for subscription in self.subscriptions.get(topic, ()):
                subscription.compare(publisher)
            node.writers.add(publisher.writer.gid)
            self.announce()
            return publisher

    def create_subscription(
        self,
        node: NodeRecord,
        topic: str,
        cls: type[Message],
        qos: EndpointQos,
        deliver: DeliverMessage,
        refused: Refused,
        met: Met,
    ) -> LocalSubscription:
        with self.lock:
            subscription = LocalSubscription(self, node, topic, cls, qos, deliver, refused, met)
            if qos.transient_local:
                self._deliver_latched(subscription)
            self.subscriptions[topic] = (*self.subscriptions.get(topic, ()), subscription)
            for publisher in self.publishers.get(topic, ()):
                subscription.compare(publisher)
            node.readers.add(subscription.reader.gid)
            self.announce()
            return subscription

    def _deliver_latched(self, subscription: LocalSubscription) -> None:
        for publisher in self.publishers.get(subscription.topic, ()):
            if publisher.latched is not None and publisher.reaches(subscription):
                for message, stamp_ns in publisher.latched:
                    subscription.deliver(messages.clone(message), stamp_ns)

    def forget_publisher(self, publisher: LocalPublisher) -> None:
        with self.lock:
            rest = tuple(p for p in self.publishers.get(publisher.topic, ()) if p is not publisher)
            self.publishers[publisher.topic] = rest
            for subscription in publisher.targets():
                subscription.met(-1)
            publisher.node.writers.discard(publisher.writer.gid)
            self.announce()

    def forget_subscription(self, subscription: LocalSubscription) -> None:
        with self.lock:
            rest = tuple(s for s in self.subscriptions.get(subscription.topic, ()) if s is not subscription)
            self.subscriptions[subscription.topic] = rest
            for publisher in self.publishers.get(subscription.topic, ()):
                if publisher.reaches(subscription):
                    publisher.met(-1)
            subscription.node.readers.discard(subscription.reader.gid)
            self.announce()

    def add_service_end(self, node: NodeRecord, end: Any) -> None:
        """Announce both endpoints of a server or a client as the node's."""
        with self.lock:
            node.readers.add(end.reader_gid)
            node.writers.add(end.writer_gid)
            self.announce()

    def remove_service_end(self, node: NodeRecord, end: Any) -> None:
        with self.lock:
            node.readers.discard(end.reader_gid)
            node.writers.discard(end.writer_gid)
            self.announce()
        end.close()

    def close(self) -> None:
        self.transport.close()
