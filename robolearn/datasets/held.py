"""Values of an episode without gaps: where one is masked, the one before it stands in. Legend: T steps.

On disk a value that never came is zero, or black, and its mask says so. Whoever cannot leave such a step out reads by
this, as a robot would still see what it saw before.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import Store
from robolearn.errors import DatasetError


def newest(valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(T,) the last step up to each that is valid (T,); before the first one, that one."""
    steps = np.maximum.accumulate(np.where(valid, np.arange(len(valid)), -1))
    return np.where(steps < 0, int(valid.argmax()) if len(valid) else 0, steps)


def held(rows: NDArray, valid: NDArray[np.bool_]) -> NDArray:
    """The rows (T, ...) with the newest valid one (T,) in the place of each that is not. Where none is, all stay."""
    return rows if valid.all() or not valid.any() else rows[newest(valid)]


def read_held(store: Store, index: int, fields: Iterable[str]) -> dict[str, NDArray]:
    """These fields (T, ...) of an episode, held. Raises DatasetError where one has no valid step at all."""
    names, valid = list(fields), store.read_valid(index)
    if unseen := [name for name in names if name in valid and not valid[name].any()]:
        raise DatasetError(f"episode {index} ({store.episodes[index].id}) never has {', '.join(unseen)}; delete it")
    return {n: held(rows, valid[n]) if n in valid else rows for n, rows in store.read(index, names).items()}
