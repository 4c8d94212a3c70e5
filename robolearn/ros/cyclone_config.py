"""Configuration of Cyclone DDS, and one DDS domain object per domain id and process.

This host is the default range, found by unicast to localhost as native ROS 2 does with
`ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST`; `SUBNET` reaches the network and peers of that range. `CYCLONEDDS_URI` is
read after our own settings and so overrides them.

In the range of this host only the loopback interface is used. The library still binds its receiving sockets to every
address, which no setting changes, but it refuses participants whose announcement came in over another interface, and
takes nothing from a participant that it does not know. In the range of the network, loopback is used as well, and alone
while there is no network.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cyclonedds.core import DDSException
from cyclonedds.domain import Domain

from robolearn.errors import TransportError

logger = logging.getLogger(__name__)

MAX_DOMAIN_ID = 232  # the last one whose ports are below 65536
MAX_PARTICIPANTS = 32  # per host and domain, as rmw_cyclonedds_cpp has it
LEASE_S = 2.5  # a dead process leaves the graph after this long; the default of DDS is 10 s
ANNOUNCE_S = 1  # a native peer in its default range, SUBNET, does not look on loopback: it has to be told, for ever
RECEIVE_BUFFER = "8MB"  # room for several images while the process stalls; the kernel grants up to net.core.rmem_max
LOOPBACK = "127.0.0.1"
SIOCGIFFLAGS, SIOCGIFADDR, IFF_UP, IFF_LOOPBACK = 0x8913, 0x8915, 0x1, 0x8  # of Linux, netdevice(7)
DISCOVERY_RANGES = ("LOCALHOST", "SUBNET", "OFF", "SYSTEM_DEFAULT")


def domain_id_from_environment() -> int:
    """`ROS_DOMAIN_ID`, 0 if unset. Raises TransportError."""
    text = os.environ.get("ROS_DOMAIN_ID", "") or "0"
    try:
        return checked_domain_id(int(text))
    except ValueError:
        raise TransportError(f"ROS_DOMAIN_ID is {text!r}, wanted an integer in 0..{MAX_DOMAIN_ID}") from None


def checked_domain_id(domain_id: int) -> int:
    """The id if ports exist for it. Raises TransportError."""
    if not 0 <= domain_id <= MAX_DOMAIN_ID:
        raise TransportError(f"ROS domain id is {domain_id}, wanted 0..{MAX_DOMAIN_ID}; set ROS_DOMAIN_ID")
    return domain_id


def discovery_range() -> str:
    """LOCALHOST unless the environment asks for another range. Raises TransportError."""
    if os.environ.get("ROS_LOCALHOST_ONLY") == "1":
        return "LOCALHOST"
    text = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "") or "LOCALHOST"
    if text.upper() not in DISCOVERY_RANGES:
        raise TransportError(f"ROS_AUTOMATIC_DISCOVERY_RANGE is {text!r}, wanted one of {', '.join(DISCOVERY_RANGES)}")
    return text.upper()


def static_peers() -> list[str]:
    """Hosts of `ROS_STATIC_PEERS`, which stand between semicolons; none where `ROS_LOCALHOST_ONLY` holds."""
    if os.environ.get("ROS_LOCALHOST_ONLY") == "1":
        return []
    return [peer.strip() for peer in os.environ.get("ROS_STATIC_PEERS", "").split(";") if peer.strip()]


def check_peers() -> None:
    """Raise TransportError for a peer that has no address, at which the library would abort the process."""
    for peer in static_peers():
        try:
            socket.getaddrinfo(peer, None)
        except (OSError, UnicodeError) as error:
            raise TransportError(
                f"ROS_STATIC_PEERS names {peer!r}, whose address is not found ({error}); mend it, or leave it away"
            ) from None


def has_network() -> bool:
    """Whether an interface besides loopback is up and has an IPv4 address. Where none is, the library would choose
    loopback a second time, and refuse it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            try:
                (flags,) = struct.unpack_from("H", fcntl.ioctl(asked, SIOCGIFFLAGS, request), 16)
                fcntl.ioctl(asked, SIOCGIFADDR, request)
            except OSError:  # it has no address, or has gone meanwhile
                continue
            if flags & IFF_UP and not flags & IFF_LOOPBACK:
                return True
    return False


def configuration() -> str:
    """The XML, with the user's `CYCLONEDDS_URI` behind it."""
    reach = discovery_range()
    static = static_peers()
    general, discovery = "", ""
    if reach != "SYSTEM_DEFAULT":
        discovery = (
            "<ParticipantIndex>auto</ParticipantIndex>"
            f"<MaxAutoParticipantIndex>{MAX_PARTICIPANTS}</MaxAutoParticipantIndex>"
            f"<LeaseDuration>{LEASE_S}s</LeaseDuration>"
            f"<SPDPInterval>{ANNOUNCE_S}s</SPDPInterval><InitialLocatorPruneDelay>inf</InitialLocatorPruneDelay>"
        )
        names = (["localhost"] if reach == "LOCALHOST" else []) + static
        peers = "".join(f'<Peer address="{name}"/>' for name in names)
        discovery += f"<Peers>{peers}</Peers>" if peers else ""
    # peers in the range of this host announce themselves on loopback, and are not heard where that is not in use
    interfaces = f'<NetworkInterface address="{LOOPBACK}"/>'
    if (reach == "SUBNET" or static) and not has_network():
        logger.warning(
            "no network is connected: who starts now is reached from this host alone, also when there is one"
        )
    elif reach == "SUBNET" or static:
        interfaces = f'<NetworkInterface autodetermine="true"/>{interfaces}'
    if reach != "SYSTEM_DEFAULT":
        general = f"<Interfaces>{interfaces}</Interfaces>"
    if reach in ("LOCALHOST", "OFF"):
        general += (
            "<AllowMulticast>false</AllowMulticast>"
            "<MaxMessageSize>65500B</MaxMessageSize><FragmentSize>65000B</FragmentSize>"
        )
    document = (
        f'<CycloneDDS><Domain id="any"><General>{general}</General><Discovery>{discovery}</Discovery>'
        f'<Internal><SocketReceiveBufferSize max="{RECEIVE_BUFFER}"/></Internal></Domain></CycloneDDS>'
    )
    return ",".join(part for part in (document, os.environ.get("CYCLONEDDS_URI", "")) if part)


def _unjoinable(domain_id: int) -> str:
    if os.environ.get("CYCLONEDDS_URI"):
        hint = "CYCLONEDDS_URI may be wrong, too"
    else:
        hint = "end some, or set another ROS_DOMAIN_ID"
    return (
        f"ROS domain {domain_id} cannot be joined: more than {MAX_PARTICIPANTS} processes use it on this host, its UDP "
        f"ports are taken, or loopback is down (`ip link set lo up`); {hint}"
    )


_domains: dict[int, tuple[Domain, int]] = {}
_lock = threading.Lock()


def acquire_domain(domain_id: int) -> None:
    """Open the domain of this process, or share it with the contexts that have it open. Raises TransportError."""
    with _lock:
        domain, users = _domains.get(domain_id, (None, 0))
        if domain is None:
            check_peers()
            with refusals(_unjoinable(domain_id)):
                domain = Domain(domain_id, configuration())
        _domains[domain_id] = (domain, users + 1)


def release_domain(domain_id: int) -> None:
    """Close the domain when its last context is gone."""
    with _lock:
        domain, users = _domains.pop(domain_id)
        if users > 1:
            _domains[domain_id] = (domain, users - 1)


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Turn an error of the DDS library into one line."""
    try:
        yield
    except DDSException as error:
        raise TransportError(f"{what} (DDS code {error.code})") from error
