"""Code that gives a message its defaults, and that copies one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype

from robolearn.ros.codegen import Code, is_number


def make_filler(cls: Any) -> Callable[[Any], None]:
    """A function that sets every field of a new message to its default."""
    code = Code()
    _fill(code, "m", cls)
    code.line("return")
    return code.function("m", f"fill {cls._TYPE}")


def _fill(code: Code, variable: str, cls: Any) -> None:
    for slot, desc in cls._FIELDS:
        if not slot:
            continue
        if desc[0] == Nodetype.NAME:
            nested = code.temporary()
            code.line(f"{variable}.{slot} = {nested} = {code.object(object.__new__)}({code.object(desc[1])})")
            _fill(code, nested, desc[1])
            continue
        make = cls._MAKERS[slot]
        value = make()
        fixed = isinstance(value, str | bytes | int | float)
        code.line(f"{variable}.{slot} = {code.object(value) if fixed else code.object(make) + '()'}")


def make_cloner(cls: Any) -> Callable[[Any], Any]:
    """A function that copies a message for another reader: what is writeable is copied and frozen, the rest shared."""
    code = Code()
    _clone(code, "m", "c", cls)
    code.line("return c")
    return code.function("m", f"clone {cls._TYPE}")


def _clone(code: Code, source: str, copy: str, cls: Any) -> None:
    code.line(f"{copy} = {code.object(object.__new__)}({code.object(cls)})")
    for slot, desc in cls._FIELDS:
        if not slot:
            continue
        kind, value = desc
        place, target = f"{source}.{slot}", f"{copy}.{slot}"
        if kind == Nodetype.BASE:
            code.line(f"{target} = {place}")
        elif kind == Nodetype.NAME:
            inner, made = code.temporary(), code.temporary()
            code.line(f"{inner} = {place}")
            _clone(code, inner, made, value)
            code.line(f"{target} = {made}")
        elif is_number(value[0]):
            values = code.temporary()
            code.line(f"{values} = {place}")
            code.line(f"{target} = {values} if type({values}) is bytes else {code.object(_frozen)}({values})")
        elif value[0][0] == Nodetype.NAME:
            items, inner, made = code.temporary(), code.temporary(), code.temporary()
            code.line(f"{target} = {items} = []")
            code.begin(f"for {inner} in {place}:")
            _clone(code, inner, made, value[0][1])
            code.line(f"{items}.append({made})")
            code.end()
        else:
            code.line(f"{target} = list({place})")


def _frozen(values: Any) -> Any:
    if not isinstance(values, np.ndarray):
        return bytes(values)
    if values.flags.writeable:
        values = values.copy()
        values.flags.writeable = False
    return values
