"""Streams: sensors with a rate of their own, such as a force at 500 Hz beside images at 30 Hz.

They are stored as they came, each sample with its stamps, and aligned to the steps when they are read.
Legend: N samples, T steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import StreamSpec


def align(
    stamps_ns: NDArray[np.int64], values: NDArray, at_ns: NDArray[np.int64], spec: StreamSpec
) -> tuple[NDArray, NDArray[np.bool_]]:
    """Values (T, ...) of a stream at the times `at_ns` (T,), by the rule of its spec, and where there are some (T,).

    `stamps_ns` (N,) are capture stamps that never run backwards. A sample that is further away than `max_age_s` does
    not count, nor does one that is not finite. Where none counts the values are zero.
    """
    if values.dtype.kind == "f":
        finite = np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        stamps_ns, values = stamps_ns[finite], values[finite]
    out = np.zeros((len(at_ns), *values.shape[1:]), values.dtype)
    if not len(values):
        return out, np.zeros(len(at_ns), np.bool_)
    reach_ns = round(spec.max_age_s * 1e9)
    number = len(values)
    behind = np.searchsorted(stamps_ns, at_ns, side="right") - 1  # the newest at or before
    ahead = np.searchsorted(stamps_ns, at_ns, side="left")  # the oldest at or after
    before, after = np.maximum(behind, 0), np.minimum(ahead, number - 1)
    past_ns, future_ns = at_ns - stamps_ns[before], stamps_ns[after] - at_ns
    there_before = (behind >= 0) & (past_ns <= reach_ns)
    there_after = (ahead < number) & (future_ns <= reach_ns)
    if spec.align == "hold":
        valid, picked = there_before, values[before]
    elif spec.align == "nearest":
        later = there_after & (~there_before | (future_ns < past_ns))  # of two as close, the older
        valid, picked = there_before | there_after, values[np.where(later, after, before)]
    else:
        valid = there_before & there_after
        span = np.maximum(past_ns + future_ns, 1)
        share = (past_ns / span).reshape(-1, *[1] * (values.ndim - 1))
        picked = (values[before] * (1 - share) + values[after] * share).astype(values.dtype)
    out[valid] = picked[valid]
    return out, valid
