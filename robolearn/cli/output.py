"""What commands print: answers on stdout, everything else on stderr; and the arguments that many of them share."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

EXIT_NO = 1  # ran, and the answer is no
EXIT_INTERRUPTED = 130

TaskId = Annotated[str, Positional, arg(metavar="TASK")]
Dataset = Annotated[Path, Positional, arg(metavar="DATASET")]


def print_json(data: Any) -> None:
    sys.stdout.write(json.dumps(data, indent=2, default=str) + "\n")


def print_table(title: str, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in header:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))  # `[ms]` is no markup
    Console().print(table)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")
