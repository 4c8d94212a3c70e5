"""Code that writes one message class as CDR bytes (DDS-XTypes 1.3, section 7.4.1: PLAIN_CDR), little-endian."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype

from robolearn.ros.codegen import COUNT, SIZES, UNIT, WIDE, Code, Run, is_number

HEADER = b"\0\1\0\0"
PADDING = tuple(bytes(count) for count in range(8))


def make_writer(cls: Any) -> Callable[[Any], bytearray]:
    """A function of the message. It raises whatever comes first when a list was filled with something wrong."""
    writer = _Writer()
    writer.message("m", cls)
    return writer.function(cls)


def _flat(values: Any) -> memoryview | bytes:
    """The bytes of an array of numbers."""
    return memoryview(values).cast("B") if len(values) else b""


def _units(text: str) -> bytes:
    """The UTF-16 units of a wide string, each in 32 bits."""
    return np.frombuffer(text.encode("utf-16-le"), "<u2").astype("<u4").tobytes()


def _refuse(wanted: str, got: int) -> None:
    raise ValueError(f"wanted {wanted} elements, got {got}")


class _Writer:
    """Writes the code; `o` are the bytes so far."""

    def __init__(self) -> None:
        self._code = Code()
        self._run = Run()
        self._begun = False

    def function(self, cls: Any) -> Callable[[Any], bytearray]:
        self._flush()
        self._code.line("return o")
        return self._code.function("m", f"write {cls._TYPE}")

    def message(self, variable: str, cls: Any) -> None:
        for slot, desc in cls._FIELDS:
            self._field(f"{variable}.{slot}" if slot else "0", desc)

    def _field(self, place: str, desc: Any) -> None:
        kind, value = desc
        if is_number(desc):
            self._number(place, value[0])
        elif kind == Nodetype.BASE and value[0] == WIDE:
            self._wide_string(place)
        elif kind == Nodetype.BASE:
            self._string(place)
        elif kind == Nodetype.NAME:
            variable = self._code.temporary()
            self._code.line(f"{variable} = {place}")
            self.message(variable, value)
        elif is_number(value[0]):
            self._numbers(place, value[0][1][0], value[1], kind == Nodetype.ARRAY)
        else:
            self._items(place, value[0], value[1], kind == Nodetype.ARRAY)

    def _align(self, size: int) -> None:
        if not self._run.aligns(size):
            self._flush()
            self._code.line(f"o += {self._padding(size)}")
            self._run.know(size)

    def _padding(self, size: int) -> str:
        padding = self._code.object(PADDING)
        return f"{padding}[4 - len(o) & 7]" if size == 8 else f"{padding}[-len(o) & {size - 1}]"

    def _flush(self) -> None:
        """Write the run; the first one makes the buffer."""
        format_, places = self._run.clear()
        if not self._begun:
            self._begun = True
            pack = self._code.object(struct.Struct(f"<4s{format_}").pack)
            self._code.line(f"o = bytearray({pack}({', '.join([self._code.object(HEADER), *places])}))")
        elif format_:
            pack = self._code.object(struct.Struct(f"<{format_}").pack)
            self._code.line(f"o += {pack}({', '.join(places)})")

    def _number(self, place: str, base: str) -> None:
        self._align(SIZES[base])
        self._run.add(base, place)

    def _string(self, place: str) -> None:
        text = self._code.temporary()
        self._code.line(f"{text} = {place}.encode()")
        self._number(f"len({text}) + 1", COUNT)
        self._flush()
        self._code.line(f"o += {text}")
        self._code.line(f"o += {self._code.object(PADDING[1])}")
        self._run.know(1)

    def _wide_string(self, place: str) -> None:
        units = self._code.temporary()
        self._code.line(f"{units} = {self._code.object(_units)}({place})")
        self._number(f"len({units}) // {SIZES[UNIT]}", COUNT)
        self._flush()
        self._code.line(f"o += {units}")
        self._run.know(SIZES[UNIT])

    def _numbers(self, place: str, base: str, bound: int, exact: bool) -> None:
        size, values = SIZES[base], self._code.temporary()
        self._code.line(f"{values} = {place}")
        self._code.line(f"if type({values}) is not bytes: {values} = {self._code.object(_flat)}({values})")
        if exact:
            self._check(f"len({values}) // {size}", bound, exact)
            self._align(size)
            self._flush()
            self._run.advance(bound * size)
        else:
            self._number(f"len({values}) // {size}", COUNT)
            self._flush()
            if size > self._run.grid or self._run.phase % size:
                self._code.line(f"if {values}: o += {self._padding(size)}")
            self._run.know(min(size, SIZES[COUNT]))
        self._code.line(f"o += {values}")

    def _items(self, place: str, element: Any, bound: int, exact: bool) -> None:
        items, item = self._code.temporary(), self._code.temporary()
        self._code.line(f"{items} = {place}")
        if bound:
            self._check(f"len({items})", bound, exact)
        if not exact:
            self._number(f"len({items})", COUNT)
        self._flush()
        self._code.begin(f"for {item} in {items}:")
        self._run.know(1)
        self._field(item, element)
        self._flush()
        self._code.end()
        self._run.know(1)

    def _check(self, length: str, bound: int, exact: bool) -> None:
        """Lists and arrays can be changed in place."""
        wanted = f"{'exactly' if exact else 'at most'} {bound}"
        differs = "!=" if exact else ">"
        self._code.line(f"if {length} {differs} {bound}: {self._code.object(_refuse)}({wanted!r}, {length})")
