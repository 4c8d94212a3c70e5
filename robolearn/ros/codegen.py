"""What the generators of message code share: lines of Python, the objects they name, and neighbouring numbers.

`cdr_reader`, `cdr_writer` and `message_code` make one function a class from its fields. Nested messages are written
out in place and neighbouring numbers become one call of `struct`, because what costs at a few hundred messages a second
is the amount of code that is run cold.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from rosbags.interfaces import Nodetype

FORMATS = {
    "bool": "?", "byte": "c", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "uint64": "Q", "float32": "f", "float64": "d",
}  # fmt: skip
SIZES = {base: struct.calcsize(f"<{letter}") for base, letter in FORMATS.items()}
COUNT = "uint32"  # of a sequence, and of the bytes of a string
# a wide string is its UTF-16 units in 32 bits each, counted and without an end: rmw_cyclonedds_cpp's form up to Kilted
WIDE, UNIT = "wstring", "uint32"


def is_number(desc: Any) -> bool:
    """Whether a field is one number, bool or byte."""
    return bool(desc[0] == Nodetype.BASE and desc[1][0] in FORMATS)


class Code:
    """The body of a function of one class, line by line."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._objects: dict[str, Any] = {}
        self._depth = 1
        self._temporaries = 0

    def line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    def begin(self, head: str) -> None:
        """A line that ends in a colon; what follows is inside."""
        self.line(head)
        self._depth += 1

    def end(self) -> None:
        self._depth -= 1

    def object(self, value: Any) -> str:
        """The name under which the function knows an object."""
        for name, known in self._objects.items():
            if known is value:
                return name
        name = f"k{len(self._objects)}"
        self._objects[name] = value
        return name

    def temporary(self) -> str:
        self._temporaries += 1
        return f"t{self._temporaries}"

    def function(self, arguments: str, what: str) -> Callable[..., Any]:
        """The function itself; `what` stands in tracebacks."""
        text = "\n".join([f"def function({arguments}):", *self._lines, ""])
        scope = dict(self._objects)
        exec(compile(text, f"<{what}>", "exec"), scope)
        function: Callable[..., Any] = scope["function"]
        return function


class Run:
    """Neighbouring numbers that are not in the code yet, and what is known of the position behind them.

    The position is `phase` modulo `grid`, counted from behind the CDR header. CDR aligns each number to its size.
    """

    def __init__(self) -> None:
        self.format = ""
        self.places: list[str] = []
        self.grid, self.phase = 8, 0

    def aligns(self, size: int) -> bool:
        """Take padding into the run so that `size` is met, if the position is known well enough."""
        if self.grid < size:
            return False
        padding = -self.phase % size
        self.format += f"{padding}x" if padding else ""
        self.advance(padding)
        return True

    def add(self, base: str, place: str) -> None:
        self.format += FORMATS[base]
        self.places.append(place)
        self.advance(SIZES[base])

    def advance(self, count: int) -> None:
        self.phase = (self.phase + count) % self.grid

    def know(self, grid: int) -> None:
        """The position is a multiple of `grid`, and no more is known."""
        self.grid, self.phase = grid, 0

    def clear(self) -> tuple[str, list[str]]:
        format_, places = self.format, self.places
        self.format, self.places = "", []
        return format_, places
