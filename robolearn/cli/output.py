"""What commands print: answers on stdout, everything else on stderr; and the arguments that many of them share."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich import console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from robolearn.errors import RobolearnError
from robolearn.progress import ProgressBar

if TYPE_CHECKING:
    from robolearn.rewards.answers import AnswerCount
    from robolearn.rewards.endpoint import Endpoint, EndpointConfig

EXIT_NO = 1  # ran, and the answer is no
EXIT_INTERRUPTED = 130
PIPED_WIDTH = 1000  # a name that is cut in two is found by nobody

TaskId = Annotated[str, Positional, arg(metavar="TASK")]
Dataset = Annotated[Path, Positional, arg(metavar="DATASET")]
Episodes = Annotated[tuple[str, ...], Positional, arg(metavar="EPISODE ...", help_behavior_hint="")]

SHARED_ARGUMENTS = {
    "dataset": "a dataset: the folder, ending in .zarr, that `collect` or `record` wrote.",
    "episodes": "by index, from 0, or by id, which an edit does not change.",
    "episode": "by index, from 0, or by id, which an edit does not change.",
    "dry_run": "say what would be done, and change nothing.",
    "json": "print the answer as JSON, one object on standard output.",
    "topic": "its name, see `robolearn topic list`.",
    "node": "its name, see `robolearn node list`.",
    "asked": "who answers what is asked of a model.",
}
"""What help says of arguments that mean the same in every command, where the command itself says nothing of them."""


class Console(console.Console):
    """Rich's, but a reader who goes away is for `main` to deal with, as in what is printed without it."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@dataclass(frozen=True)
class Asked:
    """Arguments of commands that may ask a model behind an OpenAI-compatible endpoint."""

    endpoint: str = "http://127.0.0.1:8000/v1"  # an OpenAI-compatible endpoint
    endpoint_model: str = ""  # the model's name there
    cache: Path = Path("runs/answers")  # folder of its answers, so that none is paid for twice
    input_price: float = 0.0  # of a million tokens sent to it, in any currency
    output_price: float = 0.0  # of a million tokens of its answers
    max_cost: float = 0.0  # stop asking once this much was spent; 0 for no limit

    def config(self, temperature: float = 0.0) -> EndpointConfig:
        from robolearn.rewards.endpoint import EndpointConfig

        if min(self.input_price, self.output_price, self.max_cost) < 0.0:
            raise RobolearnError("a price or --max-cost is below 0; give what is paid, or leave it out")
        if self.max_cost and not (self.input_price or self.output_price):
            raise RobolearnError("--max-cost without a price stops nothing; give --input-price and --output-price, too")
        return EndpointConfig(
            url=self.endpoint,
            model=self.endpoint_model,
            temperature=temperature,
            input_price=self.input_price,
            output_price=self.output_price,
            max_cost=self.max_cost,
            cache_dir=str(self.cache),
        )


NOT_ASKED = Asked()


def spent(client: Endpoint) -> dict[str, Any]:
    """What a client asked, what that cost, and how many answers could not be read, for JSON."""
    asked = {"requests": client.requests, "cached": client.cached, "cost": client.cost}
    return {**asked, "unreadable": client.count.unreadable}


def say_spent(client: Endpoint) -> None:
    say(f"{counted(client.requests, 'request')}, {client.cached} answered from the cache, cost {client.cost:.2f}")
    say_unreadable(client.count)


def say_unreadable(count: AnswerCount) -> None:
    if count.unreadable:
        say(str(count))


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
    """Print rows, if there are any, below their header; a header of empty words is left out. No word is cut in two
    where there is room."""
    if not rows:
        return
    table = Table(header_style="bold", show_header=any(header))
    out = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    columns = list(zip(header, *rows, strict=True))
    words = [max((len(word) for cell in column for word in str(cell).split()), default=0) for column in columns]
    widths = [max(len(str(cell)) for cell in column) for column in columns]
    while sum(widths) > out.width - 3 * len(widths) - 1 and widths != words:
        slack = [width - word for width, word in zip(widths, words, strict=True)]
        widths[slack.index(max(slack))] -= 1
    for name, width in zip(header, widths, strict=True):
        table.add_column(Text(name), overflow="fold", max_width=width)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))  # `[ms]` is no markup
    out.print(Text(title, "table.title"))  # not the table's, which would break it at the table's width
    out.print(table)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def ask_person(question: str) -> str:
    """The next line of standard input, after the question on stderr. Raises RobolearnError where there is none."""
    sys.stderr.write(question)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise RobolearnError(f"nobody answered {question.splitlines()[-1]!r}: standard input has ended")
    return line.rstrip("\n")


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


def require_heeded(
    command: Callable[..., int], given: Mapping[str, Any], heeded: Iterable[str], some: Iterable[str], whom: str
) -> None:
    """Raise RobolearnError for what was given to the command, otherwise than by default, and is not heeded: of the
    options that only `some` heed."""
    for name, parameter in inspect.signature(command).parameters.items():
        if name in some and name not in heeded and given[name] != parameter.default:
            told = "asking an endpoint" if name == "asked" else f"--{name.replace('_', '-')}"
            raise RobolearnError(f"{told} does nothing for {whom}; leave it out")
