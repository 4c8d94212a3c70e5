"""`rclpy.qos`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, IntEnum
from typing import Any

from robolearn.ros.transport import EndpointQos

from .duration import Duration, Infinite

__all__ = [
    "DurabilityPolicy",
    "HistoryPolicy",
    "InvalidQoSProfileException",
    "LivelinessPolicy",
    "QoSCompatibility",
    "QoSDurabilityPolicy",
    "QoSHistoryPolicy",
    "QoSLivelinessPolicy",
    "QoSPolicyKind",
    "QoSPresetProfiles",
    "QoSProfile",
    "QoSReliabilityPolicy",
    "ReliabilityPolicy",
    "qos_check_compatible",
    "qos_profile_action_status_default",
    "qos_profile_best_available",
    "qos_profile_default",
    "qos_profile_parameter_events",
    "qos_profile_parameters",
    "qos_profile_sensor_data",
    "qos_profile_services_default",
    "qos_profile_system_default",
]


class QoSPolicyKind(IntEnum):
    """The policies by number, as incompatibility events name them."""

    INVALID = 1
    DURABILITY = 2
    DEADLINE = 4
    LIVELINESS = 8
    RELIABILITY = 16
    HISTORY = 32
    LIFESPAN = 64
    DEPTH = 128
    LIVELINESS_LEASE_DURATION = 256
    AVOID_ROS_NAMESPACE_CONVENTIONS = 512


class InvalidQoSProfileException(Exception):
    """The settings of a profile do not go together."""

    def __init__(self, *args: object) -> None:
        super().__init__("Invalid QoSProfile", *args)


class _Policy(IntEnum):
    @classmethod
    def short_keys(cls) -> list[str]:
        return [member.name.lower() for member in cls]

    @classmethod
    def get_from_short_key(cls, name: str) -> Any:
        return cls[name.upper()]

    @property
    def short_key(self) -> str:
        return self.name.lower()


class HistoryPolicy(_Policy):
    SYSTEM_DEFAULT = 0
    KEEP_LAST = 1
    KEEP_ALL = 2
    UNKNOWN = 3


class ReliabilityPolicy(_Policy):
    SYSTEM_DEFAULT = 0
    RELIABLE = 1
    BEST_EFFORT = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class DurabilityPolicy(_Policy):
    SYSTEM_DEFAULT = 0
    TRANSIENT_LOCAL = 1
    VOLATILE = 2
    UNKNOWN = 3
    BEST_AVAILABLE = 4


class LivelinessPolicy(_Policy):
    SYSTEM_DEFAULT = 0
    AUTOMATIC = 1
    MANUAL_BY_TOPIC = 3
    UNKNOWN = 4
    BEST_AVAILABLE = 5


QoSHistoryPolicy, QoSReliabilityPolicy = HistoryPolicy, ReliabilityPolicy
QoSDurabilityPolicy, QoSLivelinessPolicy = DurabilityPolicy, LivelinessPolicy

_DEFAULTS: dict[str, Any] = {
    "history": HistoryPolicy.KEEP_LAST,
    "depth": 0,
    "reliability": ReliabilityPolicy.RELIABLE,
    "durability": DurabilityPolicy.VOLATILE,
    "lifespan": Duration(),
    "deadline": Duration(),
    "liveliness": LivelinessPolicy.SYSTEM_DEFAULT,
    "liveliness_lease_duration": Duration(),
    "avoid_ros_namespace_conventions": False,
}
_TYPES: dict[str, type] = {name: type(value) for name, value in _DEFAULTS.items()}


class QoSProfile:
    """Quality of service of a publisher, subscription, service or client. A time of zero means 'not set'."""

    __slots__ = tuple(_DEFAULTS)
    history: HistoryPolicy
    depth: int
    reliability: ReliabilityPolicy
    durability: DurabilityPolicy
    lifespan: Duration
    deadline: Duration
    liveliness: LivelinessPolicy
    liveliness_lease_duration: Duration
    avoid_ros_namespace_conventions: bool

    def __init__(self, **settings: Any) -> None:
        unknown = settings.keys() - _DEFAULTS.keys()
        if unknown:
            raise TypeError(f"Invalid arguments passed to constructor: {sorted(unknown)}")
        if "history" not in settings and "depth" not in settings:
            raise InvalidQoSProfileException("History and/or depth settings are required.")
        if settings.get("history") == HistoryPolicy.KEEP_LAST and "depth" not in settings:
            raise InvalidQoSProfileException("History set to KEEP_LAST without a depth setting.")
        for name, default in _DEFAULTS.items():
            setattr(self, name, settings.get(name, default))

    def __setattr__(self, name: str, value: Any) -> None:
        wanted = _TYPES.get(name)
        if wanted is not None:
            if not isinstance(value, wanted | int) or (wanted is Duration and not isinstance(value, Duration)):
                raise TypeError(f"QoS {name} is {value!r}, wanted a {wanted.__name__}")
            if name == "depth" and isinstance(value, int) and value < 0:
                raise ValueError(f"QoS depth is {value}, wanted 0 or more")
            number: Any = value
            value = value if wanted is Duration else wanted(number)
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QoSProfile):
            return False
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"QoSProfile({', '.join(f'{name}={getattr(self, name)}' for name in self.__slots__)})"

    __repr__ = __str__

    def get_c_qos_profile(self) -> QoSProfile:
        return self


def as_profile(value: QoSProfile | int) -> QoSProfile:
    """A profile, or a history depth with everything else default."""
    if isinstance(value, QoSProfile):
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"Expected QoSProfile or int, but received {type(value)!r}")
    if value < 0:
        raise ValueError("history depth must be greater than or equal to zero")
    return QoSProfile(depth=value)


def _finite_ns(duration: Duration) -> int | None:
    return None if duration.nanoseconds <= 0 or duration == Infinite else duration.nanoseconds


def to_endpoint(profile: QoSProfile, is_reader: bool) -> EndpointQos:
    """On the wire. A reader that takes the best available asks for the least, a writer offers the most."""
    best = ReliabilityPolicy.BEST_AVAILABLE
    reliable = (
        not is_reader if profile.reliability is best else profile.reliability is not ReliabilityPolicy.BEST_EFFORT
    )
    latched = profile.durability is DurabilityPolicy.TRANSIENT_LOCAL
    return EndpointQos(
        reliable=reliable,
        depth=None if profile.history is HistoryPolicy.KEEP_ALL else max(profile.depth, 1),
        transient_local=latched or (profile.durability is DurabilityPolicy.BEST_AVAILABLE and not is_reader),
        deadline_ns=_finite_ns(profile.deadline),
        lifespan_ns=None if is_reader else _finite_ns(profile.lifespan),
        manual_liveliness=profile.liveliness is LivelinessPolicy.MANUAL_BY_TOPIC,
        lease_ns=_finite_ns(profile.liveliness_lease_duration),
    )


def from_endpoint(qos: EndpointQos) -> QoSProfile:
    """As graph queries show it. DDS announces no history of peers, so that stays unknown."""

    def duration(nanoseconds: int | None) -> Duration:
        return Infinite if nanoseconds is None else Duration(nanoseconds=nanoseconds)

    return QoSProfile(
        history=HistoryPolicy.UNKNOWN,
        depth=0,
        reliability=ReliabilityPolicy.RELIABLE if qos.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if qos.transient_local else DurabilityPolicy.VOLATILE,
        lifespan=duration(qos.lifespan_ns),
        deadline=duration(qos.deadline_ns),
        liveliness=LivelinessPolicy.MANUAL_BY_TOPIC if qos.manual_liveliness else LivelinessPolicy.AUTOMATIC,
        liveliness_lease_duration=duration(qos.lease_ns),
    )


qos_profile_default = QoSProfile(depth=10)
qos_profile_system_default = QoSProfile(
    history=HistoryPolicy.SYSTEM_DEFAULT,
    depth=0,
    reliability=ReliabilityPolicy.SYSTEM_DEFAULT,
    durability=DurabilityPolicy.SYSTEM_DEFAULT,
)
qos_profile_sensor_data = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
qos_profile_services_default = QoSProfile(depth=10)
qos_profile_parameters = QoSProfile(depth=1000)
qos_profile_parameter_events = QoSProfile(depth=1000)
qos_profile_action_status_default = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
qos_profile_rosout_default = QoSProfile(
    depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL, lifespan=Duration(seconds=10)
)
qos_profile_best_available = QoSProfile(
    depth=10,
    reliability=ReliabilityPolicy.BEST_AVAILABLE,
    durability=DurabilityPolicy.BEST_AVAILABLE,
    liveliness=LivelinessPolicy.BEST_AVAILABLE,
)


class QoSPresetProfiles(Enum):
    """The presets by name."""

    UNKNOWN = None
    DEFAULT = qos_profile_default
    SYSTEM_DEFAULT = qos_profile_system_default
    SENSOR_DATA = qos_profile_sensor_data
    SERVICES_DEFAULT = qos_profile_services_default
    PARAMETERS = qos_profile_parameters
    PARAMETER_EVENTS = qos_profile_parameter_events
    ACTION_STATUS_DEFAULT = qos_profile_action_status_default
    BEST_AVAILABLE = qos_profile_best_available

    @classmethod
    def short_keys(cls) -> list[str]:
        return [member.name.lower() for member in cls if member.value is not None]

    @classmethod
    def get_from_short_key(cls, name: str) -> QoSProfile:
        profile = cls[name.upper()].value
        assert isinstance(profile, QoSProfile)
        return profile


class QoSCompatibility(IntEnum):
    """Whether a publisher and a subscription can talk."""

    OK = 0
    WARNING = 1
    ERROR = 2


def qos_check_compatible(publisher_qos: QoSProfile, subscription_qos: QoSProfile) -> tuple[QoSCompatibility, str]:
    """Whether the offered profile serves the requested one, and why not."""
    offered, wanted = to_endpoint(publisher_qos, is_reader=False), to_endpoint(subscription_qos, is_reader=True)
    if offered.serves(wanted):
        return QoSCompatibility.OK, ""
    reasons: Iterable[tuple[bool, str]] = (
        (wanted.reliable and not offered.reliable, "Best effort publisher and reliable subscription"),
        (wanted.transient_local and not offered.transient_local, "Volatile publisher and transient local subscription"),
    )
    texts = [text for holds, text in reasons if holds] or ["Deadline or liveliness of the publisher is too weak"]
    return QoSCompatibility.ERROR, "ERROR: " + "; ".join(texts) + ";"
