"""Everything of an episode that can be drawn over time. Legend: T steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import NO_STAMP, step_ns
from robolearn.datasets.zarr_store import ZarrStore

MAX_POINTS = 4000  # of a curve; of longer episodes every so manieth step is shown
DIGITS = 5


def series(store: ZarrStore, index: int) -> dict[str, Any]:
    """As JSON: `step` and `time_s` (T,), and `fields`, `streams` and `columns` by name: {unit, names, values}.

    values: one list for each entry of the vector, None where it is masked. Columns that lack the episode are left out.
    """
    episode, spec = store.episodes[index], store.spec
    every = -(-episode.length // MAX_POINTS) or 1
    valid = store.read_valid(index)
    stamps = step_ns(store.read_stamps(index)) if episode.length else np.zeros(0, np.int64)
    known = len(stamps) > 0 and (stamps != NO_STAMP).all()
    seconds = (stamps - stamps[0]) * 1e-9 if known else np.arange(episode.length) / spec.interface.control_hz
    fields = [name for name in spec.fields if name not in spec.image_fields]
    columns = [
        name
        for name, column in store.columns.items()
        if column.has(episode.id, episode.start, episode.stop) and len(column.spec.shape) < 2
    ]
    values = store.read(index, [*fields, *spec.streams, *columns])

    def curves(name: str) -> dict[str, Any]:
        array = store.spec_of(name)
        names = array.names or ((name,) if array.shape in ((), (1,)) else tuple(map(str, range(array.shape[-1]))))
        return {"unit": array.unit, "names": names, "values": _lists(values[name], valid.get(name), every)}

    return {
        "step": list(range(0, episode.length, every)),
        "time_s": np.round(seconds[::every], 4).tolist(),
        "fields": {name: curves(name) for name in fields},
        "streams": {name: curves(name) for name in spec.streams},
        "columns": {name: curves(name) for name in columns},
    }


def _lists(values: NDArray, valid: NDArray[np.bool_] | None, every: int) -> list[list[float | None]]:
    rows = values.reshape(len(values), -1)[::every].astype(np.float64)
    shown = np.isfinite(rows) & (True if valid is None else valid[::every, None])
    size = np.abs(np.where(shown, rows, 0))
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.where(size > 0, size, 1))))
    short = (np.round(np.where(shown, rows, 0) * scale) / scale).astype(object)
    short[~shown] = None
    return short.T.tolist()
