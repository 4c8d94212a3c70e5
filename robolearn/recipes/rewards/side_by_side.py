"""Groups of episodes, read and scored side by side on the cores, so that neither disk nor decoder nor network waits.

Every core takes a group of its own, from its pictures to its values: a core that works on a picture of its own has no
others to wait for, as it has where all share one. For a GPU see `read_ahead.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from robolearn.recipes.in_order import in_order

Scored = TypeVar("Scored")

SHARES = 8  # groups for each core at least, where they stay large enough, so that all cores end at about the same time
LEAST = 64  # steps of such a group
AHEAD = 4  # groups under way for each core, so that none idles while results, which are small, wait to be written
READ_AHEAD_BYTES = 4 << 30  # of pictures at most, whatever their size and the number of cores


class SideBySide(Generic[Scored]):
    """`work` makes of a group what is wanted of it."""

    def __init__(self, work: Callable[[list[int]], Scored]) -> None:
        self._work = work
        self._cores = max(torch.get_num_threads(), 2)

    def group_steps(self, steps: int, step_bytes: int) -> int:
        """How many steps a group should have at most, of `steps` altogether with `step_bytes` of pictures each."""
        share = max(steps // (SHARES * self._cores), LEAST)
        return max(min(share, READ_AHEAD_BYTES // (self._cores * max(step_bytes, 1))), 1)

    def run(self, groups: Sequence[list[int]]) -> Iterator[list[tuple[list[int], Scored]]]:
        """Each group and what was made of it, in order. All that is ready comes at once."""
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(self._cores, "label")
        torch.set_num_threads(1)
        try:
            yield from in_order(groups, lambda group: pool.submit(self._work, group), AHEAD * self._cores)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)
