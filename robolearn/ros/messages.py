"""Message, service and action classes, and their CDR bytes.

Classes behave as rclpy's: keyword constructor, defaults, constants as class attributes, checked assignment; a field `x`
is a property of the slot `_x`. Arrays of numbers are NumPy arrays, made when they are first looked at; one that was
received is a read-only view of the received bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys.base import normalize_fieldname

from robolearn.ros import definitions
from robolearn.ros.cdr_reader import make_reader
from robolearn.ros.cdr_writer import make_writer
from robolearn.ros.definitions import PLACEHOLDER, Definition
from robolearn.ros.fields import Byte, make_default, make_property, type_name
from robolearn.ros.message_code import make_cloner, make_filler

UNREADABLE = (struct.error, ValueError, IndexError, OverflowError, MemoryError)


class Message:
    """Base of every message class. The subclasses are made by `message_class`.

    What a class needs has names in capitals, because fields have none. The functions are made when first needed.
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]
    _TYPE: ClassVar[str] = ""
    _FIELDS: ClassVar[list[tuple[str, Any]]] = []  # slot (none for a placeholder) and description, with nested classes
    _FIELD_TYPES: ClassVar[dict[str, str]] = {}
    _MAKERS: ClassVar[dict[str, Callable[[], Any]]] = {}  # slot to what makes its default
    _FILL: ClassVar[Callable[[Any], None] | None] = None
    _CLONE: ClassVar[Callable[[Any], Any] | None] = None
    _WRITE: ClassVar[Callable[[Any], bytearray] | None] = None
    _READ: ClassVar[Callable[[bytes], Any] | None] = None
    _READ_BIG_ENDIAN: ClassVar[Callable[[bytes], Any] | None] = None
    structure_needs_at_least_one_member: ClassVar[int] = 0

    def __init__(self, **values: Any) -> None:
        cls = type(self)
        if values.keys() - cls._FIELD_TYPES.keys():
            unknown = sorted(values.keys() - cls._FIELD_TYPES.keys())
            raise TypeError(f"{cls._TYPE} has no field {unknown}; its fields are {list(cls._FIELD_TYPES)}")
        (cls._FILL or _make(cls, "_FILL", make_filler))(self)
        for name, value in values.items():
            setattr(self, name, value)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(_equal(getattr(self, name), getattr(other, name)) for name in self._FIELD_TYPES)

    def __repr__(self) -> str:
        package, kind, short = self._TYPE.split("/")
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._FIELD_TYPES)
        return f"{package}.{kind}.{short}({fields})"

    @classmethod
    def get_fields_and_field_types(cls) -> dict[str, str]:
        """Field name to ROS type name, e.g. {'data': 'sequence<double>'}."""
        return dict(cls._FIELD_TYPES)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return bool(np.array_equal(one, other))
    return bool(one == other)


def _make(cls: Any, name: str, maker: Callable[[Any], Callable[..., Any]]) -> Callable[..., Any]:
    """One of the functions of a class, made now and kept there."""
    owner = next(base for base in cls.__mro__ if "_FIELDS" in vars(base))  # a user may have derived from it
    function = maker(owner)
    setattr(owner, name, staticmethod(function))
    return function


_classes: dict[str, type[Message]] = {}


def message_class(name: str) -> Any:
    """The class of `package/msg/Name`, made on first use. Raises UnknownNameError."""
    if name not in _classes:
        _define(definitions.message(name))
    return _classes[name]


def _define(definition: Definition) -> type[Message]:
    """Make the class of a definition, and have the type store know its fields."""
    name = definition.name
    wire = list(definition.fields)
    fields = [(normalize_fieldname(key), key, desc) for key, desc in wire if (key, desc) != PLACEHOLDER]
    constants = {key: _constant(kind, value) for key, kind, value in definition.constants}
    package, kind, short = name.split("/")
    namespace = {**constants, "__slots__": tuple(f"_{key}" for key, _, _ in fields), "__module__": f"{package}.{kind}"}
    cls: type[Message] = type(short, (Message,), namespace)
    cls._TYPE = name
    cls._FIELDS = [
        ("" if (key, desc) == PLACEHOLDER else f"_{normalize_fieldname(key)}", _with_classes(desc))
        for key, desc in wire
    ]
    cls._FIELD_TYPES = {key: type_name(desc) for key, _, desc in fields}
    cls._MAKERS = {
        f"_{key}": make_default(desc, definition.defaults.get(given), message_class) for key, given, desc in fields
    }
    for key, _, desc in fields:
        setattr(cls, key, make_property(getattr(cls, f"_{key}"), f"{name}.{key}", desc, message_class))
    definitions.store().fielddefs[name] = (list[Any](definition.constants), wire)
    _classes[name] = cls
    return cls


def _constant(kind: str, value: Any) -> Any:
    return Byte(bytes([value])) if kind == "byte" else value


def _with_classes(desc: Any) -> Any:
    """The description with the class in place of the name of each nested message."""
    kind, value = desc
    if kind == Nodetype.NAME:
        return kind, message_class(value)
    return desc if kind == Nodetype.BASE else (kind, (_with_classes(value[0]), value[1]))


def clone(message: Message) -> Message:
    """A copy for another reader. Writeable arrays are copied and frozen, read-only ones are shared."""
    cls = type(message)
    copy: Message = (cls._CLONE or _make(cls, "_CLONE", make_cloner))(message)
    return copy


def serialize(message: Message) -> bytearray:
    """CDR bytes with the 4-byte encapsulation header. Raises TypeError if a list was filled with something wrong."""
    cls = type(message)
    write = cls._WRITE or _make(cls, "_WRITE", make_writer)
    try:
        data: bytearray = write(message)
    except (AttributeError, TypeError, ValueError, struct.error) as error:
        raise TypeError(f"{cls._TYPE} cannot be serialised: {error}") from error
    return data


def deserialize(data: bytes | memoryview, cls: type[Message]) -> Message:
    """Parse CDR bytes. Raises ValueError on bytes that are not such a message."""
    data = data if type(data) is bytes else bytes(data)
    header = data[:2]
    if header == b"\0\1":
        read = cls._READ or _make(cls, "_READ", lambda owner: make_reader(owner, True))
    elif header == b"\0\0":
        read = cls._READ_BIG_ENDIAN or _make(cls, "_READ_BIG_ENDIAN", lambda owner: make_reader(owner, False))
    else:
        raise ValueError(f"{len(data)} bytes are no {cls._TYPE}: the header is {header!r}, not one of CDR")
    try:
        message: Message = read(data)
    except UNREADABLE as error:
        raise ValueError(f"{len(data)} bytes are no {cls._TYPE}: {error}") from error
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
    info = _nested("info", message_class("service_msgs/msg/ServiceEventInfo")._TYPE)
    _hash_only(f"{name}_Event", info, _optional("request", request.name), _optional("response", response.name))
    _hash_only(
        name,
        _nested("request_message", request.name),
        _nested("response_message", response.name),
        _nested("event_message", f"{name}_Event"),
    )
    return type(short, (), {**parts, "_TYPE": name, "__module__": f"{package}.{kind}"})


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
        short, (), {**parts, "Impl": implementation, "_TYPE": name, "__module__": f"{package}.{kind}"}
    )
    return _actions[name]
