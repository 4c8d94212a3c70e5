"""Message, service and action classes, and their CDR bytes.

Classes behave as rclpy's: keyword constructor, defaults, constants as class attributes, checked assignment. Arrays of
numbers are NumPy arrays. rosbags packs and unpacks; a received array is a read-only view of the received bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError
from rosbags.typesys.base import normalize_fieldname

from robolearn.ros import definitions
from robolearn.ros.definitions import PLACEHOLDER, Definition
from robolearn.ros.fields import Byte, Checker, make_checker, make_default, type_name

COPIED_BYTES = 16_384  # rosbags copies bytes behind the header, which aligns float arrays; large ones are left in place


class Message:
    """Base of every message class. The subclasses are made by `message_class`."""

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    _type: ClassVar[str] = ""
    _checkers: ClassVar[dict[str, Checker]] = {}
    _defaults: ClassVar[list[tuple[Callable[[Any, Any], None], Callable[[], Any], str]]] = []
    _field_types: ClassVar[dict[str, str]] = {}
    _clone_rules: ClassVar[list[tuple[Any, Callable[[Any], Any] | None]]] = []
    structure_needs_at_least_one_member: ClassVar[int] = 0

    def __init__(self, **values: Any) -> None:
        unknown = values.keys() - self._checkers.keys()
        if unknown:
            raise TypeError(f"{self._type} has no field {sorted(unknown)}; its fields are {list(self._checkers)}")
        for set_slot, make, name in self._defaults:
            if name in values:
                setattr(self, name, values[name])
            else:
                set_slot(self, make())

    def __setattr__(self, name: str, value: Any) -> None:
        checker = self._checkers.get(name)
        if checker is None:
            raise AttributeError(f"{self._type} has no field {name!r}; its fields are {list(self._checkers)}")
        try:
            value = checker(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self._type}.{name}: {error}") from None
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_equal(getattr(self, name), getattr(other, name)) for name in self._checkers)

    def __repr__(self) -> str:
        package, kind, short = self._type.split("/")
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._checkers)
        return f"{package}.{kind}.{short}({fields})"

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        """Field name to ROS type name, e.g. {'data': 'sequence<double>'}."""
        return dict(cls._field_types)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other)


_classes: dict[str, type[Message]] = {}


def message_class(name: str) -> Any:
    """The class of `package/msg/Name`, made on first use. Raises UnknownNameError."""
    if name not in _classes:
        _define(definitions.message(name))
    return _classes[name]


def _define(definition: Definition) -> type[Message]:
    """Make the class of a definition and tell the type store how to build instances of it."""
    name = definition.name
    wire = [(key, desc) for key, desc in definition.fields]
    fields = [(normalize_fieldname(key), desc) for key, desc in wire if (key, desc) != PLACEHOLDER]
    constants = {key: _constant(kind, value) for key, kind, value in definition.constants}
    package, kind, short = name.split("/")
    namespace = {**constants, "__slots__": tuple(key for key, _ in fields), "__module__": f"{package}.{kind}"}
    cls: type[Message] = type(short, (Message,), namespace)
    cls._type = name
    cls._checkers = {key: make_checker(desc, message_class) for key, desc in fields}
    cls._field_types = {key: type_name(desc) for key, desc in fields}
    cls._defaults = [
        (getattr(cls, key).__set__, make_default(desc, definition.defaults.get(key), message_class), key)
        for key, desc in fields
    ]
    cls._clone_rules = [(getattr(cls, key), _clone_rule(desc)) for key, desc in fields]
    store = definitions.store()
    store.fielddefs[name] = (list[Any](definition.constants), wire)
    store.types[name] = _builder(cls, fields)  # type: ignore[assignment]
    store.cache.pop(name, None)
    _classes[name] = cls
    return cls


def _constant(kind: str, value: Any) -> Any:
    return Byte(bytes([value])) if kind == "byte" else value


def _builder(cls: type[Message], fields: list[tuple[str, Any]]) -> Callable[..., Message]:
    """A constructor for the deserialiser: positional, unchecked, because the bytes were parsed by type."""
    setters = [getattr(cls, key).__set__ for key, _ in fields]
    bytes_at = [index for index, (_, desc) in enumerate(fields) if desc == (Nodetype.BASE, ("byte", 0))]
    new = object.__new__

    def build(*values: Any) -> Message:
        message = new(cls)
        for set_slot, value in zip(setters, values, strict=False):  # an empty message gets a value for its placeholder
            set_slot(message, value)
        for index in bytes_at:
            setters[index](message, Byte(bytes([values[index]])))
        return message

    return build


def _clone_rule(desc: Any) -> Callable[[Any], Any] | None:
    kind, value = desc
    if kind == Nodetype.BASE:
        return None
    if kind == Nodetype.NAME:
        return clone
    element = value[0]
    if element[0] == Nodetype.NAME:
        return lambda items: [clone(item) for item in items]
    return _clone_array


def _clone_array(values: Any) -> Any:
    if isinstance(values, list):
        return list(values)
    if values.flags.writeable:
        values = values.copy()
        values.flags.writeable = False
    return values


def clone(message: Message) -> Message:
    """A copy for another reader. Writeable arrays are copied and frozen, read-only ones are shared."""
    cls = type(message)
    copy = object.__new__(cls)
    for slot, rule in cls._clone_rules:
        value = slot.__get__(message)
        slot.__set__(copy, value if rule is None else rule(value))
    return copy


def serialize(message: Message) -> memoryview:
    """CDR bytes with the 4-byte encapsulation header. Raises TypeError if a list was filled with something wrong."""
    try:
        return definitions.store().serialize_cdr(message, message._type, little_endian=True)
    except (AttributeError, TypeError, ValueError, struct.error, SerdeError) as error:
        raise TypeError(f"{message._type} cannot be serialised: {error}") from error


def deserialize(data: bytes | memoryview, cls: type[Message]) -> Message:
    """Parse CDR bytes. Raises ValueError on bytes that are not such a message."""
    if len(data) > COPIED_BYTES and isinstance(data, bytes):
        data = memoryview(data)
    try:
        message = definitions.store().deserialize_cdr(data, cls._type)
    except (SerdeError, struct.error, ValueError, IndexError, OverflowError, MemoryError) as error:
        raise ValueError(f"{len(data)} bytes are no {cls._type}: {error}") from error
    assert isinstance(message, Message)
    return message


def type_hash(name: str) -> str:
    """RIHS01 hash of a message, service or action part. The class must have been made."""
    return definitions.store().hash_rihs01(name)


_services: dict[str, type] = {}
_actions: dict[str, type] = {}
_UUID = ("goal_id", (Nodetype.NAME, "unique_identifier_msgs/msg/UUID"))
_STAMP = ("stamp", (Nodetype.NAME, "builtin_interfaces/msg/Time"))


def _nested(key: str, name: str) -> tuple[str, Any]:
    return key, (Nodetype.NAME, name)


def _optional(key: str, name: str) -> tuple[str, Any]:
    return key, (Nodetype.SEQUENCE, ((Nodetype.NAME, name), 1))


def _hash_only(name: str, *fields: tuple[str, Any]) -> None:
    """Register a struct that exists only to be hashed."""
    definitions.store().fielddefs[name] = ([], list(fields))


def _service(request: Definition, response: Definition) -> type:
    """The class of a service of two parts, and what its hash needs: an event and a struct of all three."""
    name = request.name.removesuffix("_Request")
    package, kind, short = name.split("/")
    parts = {"Request": _define(request), "Response": _define(response)}
    info = _nested("info", message_class("service_msgs/msg/ServiceEventInfo")._type)
    _hash_only(f"{name}_Event", info, _optional("request", request.name), _optional("response", response.name))
    _hash_only(
        name,
        _nested("request_message", request.name),
        _nested("response_message", response.name),
        _nested("event_message", f"{name}_Event"),
    )
    return type(short, (), {**parts, "_type": name, "__module__": f"{package}.{kind}"})


def service_class(name: str) -> type:
    """The class of `package/srv/Name` with `Request` and `Response`. Raises UnknownNameError or ValueError."""
    if name not in _services:
        request, response = definitions.parts(name)
        _services[name] = _service(
            definitions.parse(f"{name}_Request", request), definitions.parse(f"{name}_Response", response)
        )
    return _services[name]


def action_class(name: str) -> type:
    """The class of `package/action/Name` with `Goal`, `Result`, `Feedback`, and in `Impl` the types on the wire."""
    if name in _actions:
        return _actions[name]
    package, kind, short = name.split("/")
    parts = {}
    for part, text in zip(("Goal", "Result", "Feedback"), definitions.parts(name), strict=True):
        parts[part] = _define(definitions.parse(f"{name}_{part}", text))
    implementation = SimpleNamespace(
        SendGoalService=_service(
            Definition(f"{name}_SendGoal_Request", (_UUID, _nested("goal", f"{name}_Goal"))),
            Definition(f"{name}_SendGoal_Response", (("accepted", (Nodetype.BASE, ("bool", 0))), _STAMP)),
        ),
        GetResultService=_service(
            Definition(f"{name}_GetResult_Request", (_UUID,)),
            Definition(
                f"{name}_GetResult_Response",
                (("status", (Nodetype.BASE, ("int8", 0))), _nested("result", f"{name}_Result")),
            ),
        ),
        FeedbackMessage=_define(
            Definition(f"{name}_FeedbackMessage", (_UUID, _nested("feedback", f"{name}_Feedback")))
        ),
        CancelGoalService=service_class("action_msgs/srv/CancelGoal"),
        GoalStatusMessage=message_class("action_msgs/msg/GoalStatusArray"),
    )
    _hash_only(
        name,
        *(_nested(part.lower(), f"{name}_{part}") for part in parts),
        _nested("send_goal_service", f"{name}_SendGoal"),
        _nested("get_result_service", f"{name}_GetResult"),
        _nested("feedback_message", f"{name}_FeedbackMessage"),
    )
    _actions[name] = type(
        short, (), {**parts, "Impl": implementation, "_type": name, "__module__": f"{package}.{kind}"}
    )
    return _actions[name]
