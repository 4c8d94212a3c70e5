"""What a message field may hold: its default, the check on assignment, and how ROS names its type.

A checker returns the value to store, or raises TypeError or ValueError with what came and what was wanted. Numbers in
arrays become NumPy arrays of the field's dtype; an array of that dtype is kept without a copy.
"""

from __future__ import annotations

import math
import operator
from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype

from robolearn.ros.definitions import FieldDesc

Checker = Callable[[Any], Any]
Numbers = Any  # an array field: NumPy, or still the bytes of one (bytes, bytearray, array)
FLOAT32_MAX = float(np.finfo(np.float32).max)
DTYPES = {"bool": np.dtype(np.bool_), "byte": np.dtype(np.uint8)} | {
    name: np.dtype(name)
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")
}
_ROS_NAMES = {"bool": "boolean", "byte": "octet", "float32": "float", "float64": "double"}


class Byte(bytes):
    """A `byte` field as rclpy gives it, `bytes` of length one; `__index__` lets the serialiser pack it."""

    def __index__(self) -> int:
        return self[0]

    def __repr__(self) -> str:
        return bytes.__repr__(self)


def type_name(desc: FieldDesc) -> str:
    """The field type as `get_fields_and_field_types` spells it, e.g. 'sequence<double, 8>' or 'std_msgs/Header'."""
    kind, value = desc
    if kind == Nodetype.BASE:
        base, bound = value
        return f"string<{bound}>" if bound else _ROS_NAMES.get(base, base)
    if kind == Nodetype.NAME:
        package, _, short = value.split("/")
        return f"{package}/{short}"
    inner, size = type_name(value[0]), value[1]
    if kind == Nodetype.ARRAY:
        return f"{inner}[{size}]"
    return f"sequence<{inner}, {size}>" if size else f"sequence<{inner}>"


def _came(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _check_int(dtype: np.dtype[Any]) -> Checker:
    info = np.iinfo(dtype)
    low, high = int(info.min), int(info.max)

    def check(value: Any) -> int:
        try:
            number = operator.index(value)
        except TypeError:
            raise TypeError(f"wanted an integer ({dtype}), got {_came(value)}") from None
        if isinstance(value, bytes) or not low <= number <= high:
            raise ValueError(f"wanted an integer in [{low}, {high}], got {_came(value)}")
        return number

    return check


def _check_float(largest: float) -> Checker:
    def check(value: Any) -> float:
        if isinstance(value, bool | np.bool_) or not isinstance(value, float | int | np.number):
            raise TypeError(f"wanted a number, got {_came(value)}")
        number = float(value)
        if abs(number) > largest and math.isfinite(number):
            raise ValueError(f"wanted a number within +-{largest:.7g}, got {number!r}")
        return number

    return check


def _check_bool(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"wanted a bool, got {_came(value)}")
    return bool(value)


def _check_byte(value: Any) -> Byte:
    if not isinstance(value, bytes | bytearray):
        raise TypeError(f"wanted bytes of length 1, got {_came(value)}")
    if len(value) != 1:
        raise ValueError(f"wanted bytes of length 1, got {len(value)} bytes")
    return Byte(value)


def _check_string(bound: int) -> Checker:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"wanted a str, got {_came(value)}")
        if bound and len(value) > bound:
            raise ValueError(f"wanted at most {bound} characters, got {len(value)}")
        return value

    return check


def _base_checker(base: str, bound: int) -> Checker:
    if base in ("string", "wstring"):
        return _check_string(bound)
    if base == "bool":
        return _check_bool
    if base == "byte":
        return _check_byte
    if base == "float32":
        return _check_float(FLOAT32_MAX)
    if base == "float64":
        return _check_float(math.inf)
    return _check_int(DTYPES[base])


def _as_array(value: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """The value as a flat array of this dtype, without a copy where it is one already, never with changed values."""
    if isinstance(value, bytes | bytearray | memoryview) and dtype.itemsize == 1:
        return np.frombuffer(value, dtype)
    if isinstance(value, str) or not isinstance(value, np.ndarray | array | Iterable):
        raise TypeError(f"wanted a sequence of {dtype}, got {_came(value)}")
    try:
        source = np.asarray(value if hasattr(value, "__len__") else list(value))
    except ValueError:
        raise TypeError(f"wanted a flat sequence of {dtype}, got {_came(value)}") from None
    if source.dtype == dtype:
        return np.ascontiguousarray(source).reshape(-1)
    if source.size == 0:
        return np.empty(0, dtype)
    if source.dtype.kind == "S" and dtype == np.uint8 and source.dtype.itemsize == 1:  # rclpy's list of one-byte bytes
        return np.frombuffer(b"".join(value), dtype)
    allowed = {"f": "fiu", "i": "iub", "u": "iub", "b": "b"}[dtype.kind]
    if source.dtype.kind not in allowed:
        raise TypeError(f"wanted a sequence of {dtype}, got {source.dtype} {_came(value)}")
    if dtype.kind in "iu" and source.dtype.kind != "b":
        info = np.iinfo(dtype)
        if int(source.min()) < info.min or int(source.max()) > info.max:
            raise ValueError(f"wanted values in [{info.min}, {info.max}], got {_came(value)}")
    if dtype == np.float32 and bool((np.abs(source[np.isfinite(source)]) > FLOAT32_MAX).any()):
        raise ValueError(f"wanted values within float32, got {_came(value)}")
    return np.ascontiguousarray(source.astype(dtype)).reshape(-1)


def _check_size(size: int, exact: bool, length: int) -> None:
    if (exact and length != size) or (size and length > size):
        raise ValueError(f"wanted {'exactly' if exact else 'at most'} {size} elements, got {length}")


def _array_checker(dtype: np.dtype[Any], size: int, exact: bool) -> Checker:
    plain = {"f": float, "i": int, "u": int}.get(dtype.kind)
    letter = dtype.char if dtype != np.float32 else ""  # which an array of `array` would overflow without a word

    def check(value: Any) -> Numbers:
        values: Numbers | None = None
        if letter and type(value) is list and set(map(type, value)) == {plain}:
            with suppress(OverflowError):  # told below, with the bounds
                values = array(letter, value)
        if values is None:
            values = _as_array(value, dtype)
        _check_size(size, exact, len(values))
        return values

    return check


def _list_checker(element: Checker, size: int, exact: bool) -> Checker:
    def check(value: Any) -> list[Any]:
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise TypeError(f"wanted a sequence, got {_came(value)}")
        values = [element(item) for item in value]
        _check_size(size, exact, len(values))
        return values

    return check


def make_checker(desc: FieldDesc, message_class: Callable[[str], type]) -> Checker:
    """The check on assignment of a field. `message_class` gives the class of a nested message by its full name."""
    kind, value = desc
    if kind == Nodetype.BASE:
        return _base_checker(*value)
    if kind == Nodetype.NAME:
        cls = message_class(value)

        def check(candidate: Any) -> Any:
            if not isinstance(candidate, cls):
                raise TypeError(f"wanted a {value}, got {_came(candidate)}")
            return candidate

        return check
    element, size = value
    exact = kind == Nodetype.ARRAY
    if element[0] == Nodetype.BASE and element[1][0] in DTYPES:
        return _array_checker(DTYPES[element[1][0]], size, exact)
    return _list_checker(make_checker(element, message_class), size, exact)


def make_property(slot: Any, name: str, desc: FieldDesc, message_class: Callable[[str], type]) -> property:
    """The field over its slot: checked when it is set, and an array of numbers turned into NumPy's when it is read."""
    check, put, get = make_checker(desc, message_class), slot.__set__, slot.__get__

    def setter(message: Any, value: Any) -> None:
        try:
            value = check(value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
        put(message, value)

    kind, value = desc
    if kind in (Nodetype.BASE, Nodetype.NAME) or value[0][0] == Nodetype.NAME or value[0][1][0] not in DTYPES:
        return property(operator.attrgetter(slot.__name__), setter)
    dtype = DTYPES[value[0][1][0]]

    def getter(message: Any) -> np.ndarray:
        values = get(message)
        if type(values) is not np.ndarray:
            values = np.frombuffer(values, dtype)
            put(message, values)
        return values

    return property(getter, setter)


def make_default(desc: FieldDesc, default: Any, message_class: Callable[[str], type]) -> Callable[[], Any]:
    """A function that makes the field's default value, new each time where it is mutable."""
    kind, value = desc
    if default is not None:
        checker = make_checker(desc, message_class)
        fixed = checker(default)
        return (lambda: checker(default)) if isinstance(fixed, list | np.ndarray) else (lambda: fixed)
    if kind == Nodetype.BASE:
        base = value[0]
        if base in ("string", "wstring"):
            return str
        if base == "byte":
            return lambda: Byte(b"\x00")
        return {"bool": bool, "float32": float, "float64": float}.get(base, int)
    if kind == Nodetype.NAME:
        return message_class(value)
    element, size = value
    length = size if kind == Nodetype.ARRAY else 0
    if element[0] == Nodetype.BASE and element[1][0] in DTYPES:
        count = length * DTYPES[element[1][0]].itemsize
        return lambda: bytearray(count) if count else b""
    item = make_default(element, None, message_class)
    return lambda: [item() for _ in range(length)]
