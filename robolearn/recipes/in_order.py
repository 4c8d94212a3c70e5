"""Jobs side by side, whose results come in the order of the jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

Job = TypeVar("Job")
Done = TypeVar("Done")


def in_order(jobs: Iterable[Job], begin: Callable[[Job], Future[Done]], ahead: int) -> Iterator[list[tuple[Job, Done]]]:
    """Each job and what came of it, in the order of the jobs, all that is ready at once.

    `ahead` of them and one more are under way at most.
    """
    waiting: deque[tuple[Job, Future[Done]]] = deque()
    for job in jobs:
        waiting.append((job, begin(job)))
        if len(waiting) > ahead:
            yield _ready(waiting)
    while waiting:
        yield _ready(waiting)


def _ready(waiting: deque[tuple[Job, Future[Done]]]) -> list[tuple[Job, Done]]:
    """Take the first ones, waiting for one of them."""
    ready: list[tuple[Job, Done]] = []
    while waiting and (not ready or waiting[0][1].done()):
        job, future = waiting.popleft()
        ready.append((job, future.result()))
    return ready
