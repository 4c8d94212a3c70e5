"""Code that reads one message class from CDR bytes (DDS-XTypes 1.3, section 7.4.1: PLAIN_CDR).

Arrays of numbers stay bytes until somebody looks at them; large ones are views of what was received.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype

from robolearn.ros.codegen import COUNT, SIZES, UNIT, WIDE, Code, Run, is_number
from robolearn.ros.fields import DTYPES, Byte

HEADER_BYTES = 4
VIEWED_BYTES = 4096  # from here on an array is not copied out of the message that it came in
PADDING_BYTES = 3  # at most, behind the last field


def make_reader(cls: Any, little_endian: bool) -> Callable[[bytes], Any]:
    """A function of the bytes with their header. It raises whatever comes first when they are no such message."""
    reader = _Reader("<" if little_endian else ">")
    reader.message("m", cls)
    return reader.function(cls)


def _swapped(data: bytes, dtype: np.dtype[Any]) -> np.ndarray:
    values = np.frombuffer(data, dtype.newbyteorder(">")).astype(dtype)
    values.flags.writeable = False
    return values


def _wide(data: bytes, count: int, dtype: str) -> str:
    units = np.frombuffer(data, dtype)
    if len(units) != count or (units > 0xFFFF).any():
        raise ValueError(f"no wide string of {count} units")
    return units.astype("<u2").tobytes().decode("utf-16-le")


class _Reader:
    """Writes the code; `d` are the bytes, and the position is `p` (or 0) plus what is known of the way since."""

    def __init__(self, order: str) -> None:
        self._order = order
        self._code = Code()
        self._run = Run()
        self._base, self._offset = "0", HEADER_BYTES
        self._after: list[str] = []  # lines that use what the run reads

    def function(self, cls: Any) -> Callable[[bytes], Any]:
        self._settle()
        self._code.begin(f"if not 0 <= len(d) - p <= {PADDING_BYTES}:")
        self._code.line("raise ValueError(f'the message ends at byte {p}')")
        self._code.end()
        self._code.line("return m")
        return self._code.function("d", f"read {cls._TYPE}")

    def message(self, variable: str, cls: Any) -> None:
        self._code.line(f"{variable} = {self._code.object(object.__new__)}({self._code.object(cls)})")
        for slot, desc in cls._FIELDS:
            self._field(f"{variable}.{slot}" if slot else "_", desc)

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
            self.message(variable, value)
            self._code.line(f"{place} = {variable}")
        elif is_number(value[0]):
            self._numbers(place, value[0][1][0], value[1] if kind == Nodetype.ARRAY else None)
        else:
            self._items(place, value[0], value[1] if kind == Nodetype.ARRAY else None)

    # -- the position ---------------------------------------------------------------------------------------------

    def _at(self) -> str:
        return f"{self._base} + {self._offset}" if self._base == "p" else str(self._offset)

    def _move(self, place: str) -> None:
        self._code.line(f"p = {place}")
        self._base, self._offset = "p", 0

    def _settle(self) -> None:
        """Have `p` be the position itself."""
        self._flush()
        if self._base != "p" or self._offset:
            self._move(self._at())

    def _align(self, size: int) -> None:
        if not self._run.aligns(size):
            self._flush()
            self._move(self._aligned(size))
            self._run.know(size)

    def _aligned(self, size: int) -> str:
        return f"({self._at()} + 3 & -8) + 4" if size == 8 else f"{self._at()} + {size - 1} & -{size}"

    def _flush(self) -> None:
        format_, places = self._run.clear()
        if places:
            unpack = self._code.object(struct.Struct(self._order + format_).unpack_from)
            self._code.line(f"{', '.join(places)}, = {unpack}(d, {self._at()})")
        self._offset += struct.calcsize(self._order + format_)
        for text in self._after:
            self._code.line(text)
        self._after.clear()

    # -- fields ---------------------------------------------------------------------------------------------------

    def _number(self, place: str, base: str) -> None:
        self._align(SIZES[base])
        if base == "byte":
            letter = self._code.temporary()
            self._after.append(f"{place} = {self._code.object(Byte)}({letter})")
            place = letter
        self._run.add(base, place)

    def _count(self) -> str:
        count = self._code.temporary()
        self._number(count, COUNT)
        self._settle()
        return count

    def _string(self, place: str) -> None:
        count = self._count()
        self._code.line(f"e = p + {count}")
        self._code.begin(f"if not {count} or d[e - 1]:")
        self._code.line("raise ValueError(f'no string at byte {p}')")
        self._code.end()
        self._code.line(f"{place} = str(d[p:e - 1], 'utf-8')")
        self._move("e")
        self._run.know(1)

    def _wide_string(self, place: str) -> None:
        count = self._count()
        self._code.line(f"e = p + {count} * {SIZES[UNIT]}")
        self._code.line(f"{place} = {self._code.object(_wide)}(d[p:e], {count}, '{self._order}u4')")
        self._move("e")
        self._run.know(SIZES[UNIT])

    def _numbers(self, place: str, base: str, length: int | None) -> None:
        size, dtype = SIZES[base], self._code.object(DTYPES[base])
        if length is None:
            count = self._count()
            if size > self._run.grid or self._run.phase % size:
                self._code.line(f"if {count}: p = {self._aligned(size)}")
            self._run.know(min(size, SIZES[COUNT]))
        else:
            count = str(length)
            self._align(size)
            self._settle()
            self._run.advance(length * size)
        self._code.line(f"e = p + {count} * {size}")
        if size > 1 and self._order == ">":
            self._code.line(f"{place} = {self._code.object(_swapped)}(d[p:e], {dtype})")
        else:
            view = self._code.object(np.frombuffer)
            small, large = "d[p:e]", f"{view}(d, {dtype}, {count}, p)"
            self._code.line(f"{place} = {small} if {count} < {VIEWED_BYTES // size} else {large}")
        self._move("e")

    def _items(self, place: str, element: Any, length: int | None) -> None:
        count = self._count() if length is None else str(length)
        self._settle()
        if length is None:  # items that are arrays alone would be read behind the end, too: a slice of nothing is none
            self._code.begin(f"if {count} > len(d):")
            self._code.line(f"raise ValueError(f'a sequence of {{{count}}} at byte {{p}}')")
            self._code.end()
        items, item = self._code.temporary(), self._code.temporary()
        self._code.line(f"{items} = []")
        self._code.begin(f"for _ in range({count}):")
        self._run.know(1)
        self._field(item, element)
        self._settle()
        self._code.line(f"{items}.append({item})")
        self._code.end()
        self._code.line(f"{place} = {items}")
        self._run.know(1)
