"""What commands print: answers on stdout, everything else on stderr; and the arguments that many of them share."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from robolearn.progress import ProgressBar

EXIT_NO = 1  # ran, and the answer is no
EXIT_INTERRUPTED = 130
PIPED_WIDTH = 1000  # a name that is cut in two is found by nobody

TaskId = Annotated[str, Positional, arg(metavar="TASK")]
Dataset = Annotated[Path, Positional, arg(metavar="DATASET")]
Episodes = Annotated[tuple[str, ...], Positional, arg(metavar="EPISODE ...")]


def named(episodes: tuple[str, ...]) -> list[int | str]:
    """Episodes by index where the word is a number, else by id."""
    return [int(word) if word.isdecimal() else word for word in episodes]


def counted(number: int, thing: str) -> str:
    """`1 episode`, `2 episodes`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def print_json(data: Any) -> None:
    """One JSON object; numbers that JSON does not know (no number, infinite) are null."""
    sys.stdout.write(json.dumps(_finite(data), indent=2, default=str) + "\n")


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def print_table(title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print rows below their header; a header of empty words is left out."""
    table = Table(title=Text(title), title_justify="left", header_style="bold", show_header=any(header))
    for name in header:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))  # `[ms]` is no markup
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


@contextlib.contextmanager
def progress(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A function for what calls back with (done, total): it shows a bar from the first call on."""
    with contextlib.ExitStack() as stack:
        bars: list[ProgressBar] = []

        def update(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(ProgressBar(title, total, unit)))
            bars[0].update(done)

        yield update
