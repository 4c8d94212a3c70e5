"""`rclpy.parameter`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from robolearn.ros import arguments
from robolearn.ros.messages import message_class

PARAMETER_SEPARATOR_STRING = "."
# ParameterType number, field of ParameterValue
_FIELDS = {
    1: "bool_value",
    2: "integer_value",
    3: "double_value",
    4: "string_value",
    5: "byte_array_value",
    6: "bool_array_value",
    7: "integer_array_value",
    8: "double_array_value",
    9: "string_array_value",
}


class Parameter:
    """A named, typed value."""

    class Type(Enum):
        NOT_SET = 0
        BOOL = 1
        INTEGER = 2
        DOUBLE = 3
        STRING = 4
        BYTE_ARRAY = 5
        BOOL_ARRAY = 6
        INTEGER_ARRAY = 7
        DOUBLE_ARRAY = 8
        STRING_ARRAY = 9

        @classmethod
        def from_parameter_value(cls, value: Any) -> Parameter.Type:
            """The type of a Python value. An empty list is of bytes, as in rclpy. Raises TypeError."""
            if value is None:
                return cls.NOT_SET
            scalar = _scalar_type(value)
            if scalar:
                return cls(scalar)
            if isinstance(value, list | tuple | np.ndarray) or hasattr(value, "typecode"):
                kinds = {_element_type(item) for item in value}
                if not kinds:
                    return cls.BYTE_ARRAY
                if len(kinds) == 1 and 0 not in kinds:
                    return cls(kinds.pop())
            raise TypeError(f"The given value is not one of the allowed types '{value}'.")

        def check(self, value: Any) -> bool:
            """Whether the value is of this type."""
            if self is Parameter.Type.NOT_SET:
                return value is None
            if isinstance(value, list | tuple) and not value:
                return self.value >= 5
            try:
                return Parameter.Type.from_parameter_value(value) is self
            except TypeError:
                return False

    def __init__(self, name: str, type_: Parameter.Type | None = None, value: Any = None) -> None:
        if type_ is None:
            type_ = Parameter.Type.from_parameter_value(value)
        if not isinstance(type_, Parameter.Type):
            raise TypeError("type must be an instance of `Parameter.Type`")
        if not type_.check(value):
            raise ValueError(f"Type '{type_}' and value '{value}' do not agree")
        self._name, self._type_, self._value = name, type_, _plain(value)

    @classmethod
    def from_parameter_msg(cls, msg: Any) -> Parameter:
        return cls(msg.name, cls.Type(msg.value.type), parameter_value_to_python(msg.value))

    def to_parameter_msg(self) -> Any:
        return message_class("rcl_interfaces/msg/Parameter")(name=self._name, value=self.get_parameter_value())

    @property
    def name(self) -> str:
        return self._name

    @property
    def type_(self) -> Parameter.Type:
        return self._type_

    @property
    def value(self) -> Any:
        return self._value

    def get_parameter_value(self) -> Any:
        """As a rcl_interfaces ParameterValue."""
        fields: dict[str, Any] = {"type": self._type_.value}
        if self._type_ is not Parameter.Type.NOT_SET:
            fields[_FIELDS[self._type_.value]] = self._value
        return message_class("rcl_interfaces/msg/ParameterValue")(**fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parameter):
            return NotImplemented
        return (self._name, self._type_, self._value) == (other._name, other._type_, other._value)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Parameter(name={self._name!r}, type_={self._type_}, value={self._value!r})"


def _scalar_type(value: Any) -> int:
    for number, kinds in ((1, bool | np.bool_), (2, int | np.integer), (3, float | np.floating), (4, str)):
        if isinstance(value, kinds):
            return number
    return 0


def _element_type(value: Any) -> int:
    if isinstance(value, bytes):
        return 5
    scalar = _scalar_type(value)
    return scalar + 5 if scalar else 0


def _plain(value: Any) -> Any:
    """Without NumPy types, so that values compare and print as Python's."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if hasattr(value, "typecode"):
        return value.tolist()
    return list(value) if isinstance(value, tuple) else value


def parameter_value_to_python(value: Any) -> Any:
    """The Python value of a ParameterValue message. Raises RuntimeError on an unknown type."""
    if value.type == 0:
        return None
    if value.type not in _FIELDS:
        raise RuntimeError(f"unexpected parameter type {value.type}")
    found = getattr(value, _FIELDS[value.type])
    if value.type == 5:
        return [bytes([number]) for number in found]
    return found.tolist() if isinstance(found, np.ndarray) else found


def get_parameter_value(string_value: str) -> Any:
    """A ParameterValue message from YAML text, as given on a command line."""
    try:
        value = yaml.safe_load(string_value)
        return Parameter("", value=value).get_parameter_value()
    except (yaml.YAMLError, TypeError):
        return Parameter("", value=string_value).get_parameter_value()


def parameter_dict_from_yaml_file(
    parameter_file: str,
    use_wildcard: bool = False,
    target_nodes: list[str] | None = None,
    namespace: str = "",
) -> dict[str, Any]:
    """Parameter messages by name, from a parameter file."""
    with Path(parameter_file).open(encoding="utf-8") as file:
        tree = yaml.safe_load(file)
    patterns = target_nodes or [key for key in tree if use_wildcard or "*" not in key]
    if use_wildcard and target_nodes:
        patterns = ["/**", *target_nodes]
    found: Mapping[str, Any] = {
        name: value
        for pattern in patterns
        if pattern in tree
        for name, value in arguments.flatten(tree[pattern].get("ros__parameters", {}), namespace)
    }
    return {name: Parameter(name, value=value).to_parameter_msg() for name, value in found.items()}
