"""Progress of long work: a bar with rate and remaining time on a terminal, plain lines otherwise; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TextIO

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_INTERVAL_S = 5.0

OnProgress = Callable[[int, int], None]
"""What long work calls with the units done and their number."""


def no_progress(done: int, total: int) -> None:
    """The OnProgress of whoever does not want to know."""


class RateColumn(ProgressColumn):
    """Units a second, measured by rich over the last half minute."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} {self.unit}/s" if speed else f"- {self.unit}/s", style="progress.data.speed")


class Bar(Progress):
    """The text of a task is a line of its own where it would leave no room for the numbers."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            table = self.make_tasks_table([task])
            text = Text(str(task.fields["text"]), "dim", overflow="ellipsis", no_wrap=True)
            fits = self.console.measure(table).maximum + 1 + text.cell_len <= self.console.width
            yield Columns([table, text]) if fits else Group(table, text)


class ProgressBar:
    """`with ProgressBar("train", 2000, "step") as bar: bar.update(10, "loss 0.1")`: tells how far of `total` units."""

    def __init__(self, title: str, total: int, unit: str, stream: TextIO | None = None) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.stream = stream or sys.stderr
        self.printed_s = time.monotonic()
        self.begun_at = (0, self.printed_s)  # units and time that the rate is counted from
        self.updated = False
        self.told: tuple[int, str] | None = None  # by the last line
        self.bar: Progress | None = None
        if self.stream.isatty():
            self.bar = Bar(
                TextColumn("{task.description:<12}"),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                RateColumn(unit),
                TimeRemainingColumn(compact=True),
                console=Console(file=self.stream),
            )
            self.task_id = self.bar.add_task(title, total=total, text="")

    def __enter__(self) -> ProgressBar:
        if self.bar:
            self.bar.start()
        return self

    def update(self, done: int, text: str = "") -> None:
        """Report that `done` units of the total are finished. The rate is that since the first report, for what was
        done by then may be of an earlier run."""
        if self.bar:
            self.bar.update(self.task_id, completed=done, text=text)
            return
        now_s = time.monotonic()
        told = done, text
        if told != self.told and (done >= self.total or now_s - self.printed_s >= PLAIN_INTERVAL_S):
            self.printed_s, self.told = now_s, told
            rate = (done - self.begun_at[0]) / max(now_s - self.begun_at[1], 1e-9)
            left = f", {max(self.total - done, 0) / rate:.0f} s left" if rate else ""
            line = f"{self.title}: {done}/{self.total} {self.unit}s, {rate:.1f}/s{left}{', ' if text else ''}{text}"
            self.stream.write(line + "\n")
            self.stream.flush()
        if not self.updated:
            self.begun_at, self.updated = (done, now_s), True

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()
