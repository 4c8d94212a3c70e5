"""Gathering batches, and n-step returns, along steps that lie one after the other. Legend: N steps, B batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def n_step_returns(
    start: NDArray[np.int64],
    reward: NDArray[np.float32],
    terminated: NDArray[np.bool_],
    acted: NDArray[np.bool_],
    num_steps: int,
    discount: float,
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.float32]]]:
    """Where the transitions that begin at `start` (B,) lead, and their `reward`, `bootstrap` and `discount` (B,).

    `reward`, `terminated` and `acted` (N,) are those of every step, the last one followed by the first. A step that is
    not `acted` on holds the last observation of its episode: what lies beyond is another story.
    """
    wrap = len(reward)
    following = np.add(start, 1)
    following[following == wrap] = 0
    total = reward.take(start)
    over = terminated.take(start)
    factor = np.full(len(start), discount, np.float32)
    if num_steps > 1:
        going = ~over & acted.take(following)
        for _ in range(num_steps - 1):
            if not going.any():
                break
            total += np.where(going, factor * reward.take(following), np.float32(0))
            factor = np.where(going, factor * np.float32(discount), factor)
            over |= going & terminated.take(following)
            following = np.where(going, np.where(following + 1 == wrap, 0, following + 1), following)
            going &= ~over & acted.take(following)
    return following, {"reward": total, "bootstrap": np.logical_not(over).astype(np.float32), "discount": factor}


def returns_to_go(reward: NDArray[np.float32], ends: NDArray[np.int64], discount: float) -> NDArray[np.float32]:
    """Discounted rewards (N,) from every step to the end of its episode; `ends` are the steps behind the last ones."""
    total = np.zeros(len(reward), np.float64)
    last = set((ends - 1).tolist())
    running = 0.0
    for step in range(len(reward) - 1, -1, -1):
        running = float(reward[step]) + (0.0 if step in last else discount * running)
        total[step] = running
    return total.astype(np.float32)


def take(values: NDArray, steps: NDArray[np.int64], out: dict[str, NDArray] | None, key: str) -> NDArray:
    """Rows of `values`, in `out[key]` when given; three times as fast as indexing."""
    return values.take(steps, axis=0) if out is None else np.take(values, steps, axis=0, out=out[key], mode="clip")


def copy(values: NDArray, out: dict[str, NDArray] | None, key: str) -> NDArray:
    """The values, in `out[key]` when given."""
    if out is None:
        return values
    out[key][...] = values
    return out[key]
