"""Gymnasium's spaces from our specs, and observations as one flat vector."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.specs import ArraySpec
from robolearn.types import Observation


def box(spec: ArraySpec) -> spaces.Box:
    """Space of one array: its limits where it has some, all bytes for a picture."""
    if spec.dtype == "uint8":
        return spaces.Box(0, 255, spec.shape, np.uint8)
    if spec.low is None or spec.high is None:
        return spaces.Box(-np.inf, np.inf, spec.shape, np.float32)
    return spaces.Box(np.array(spec.low, np.float32), np.array(spec.high, np.float32), dtype=np.float32)


def observation_space(fields: Mapping[str, ArraySpec], flat: bool) -> spaces.Space:
    """A Dict of the fields; flat: one Box (D,) of them all, in this order. Raises SpecError for a flat picture."""
    if not flat:
        return spaces.Dict({name: box(spec) for name, spec in fields.items()})
    pictures = [name for name, spec in fields.items() if spec.dtype == "uint8"]
    if pictures:
        raise SpecError(f"{pictures[0]} does not fit a flat observation; leave the cameras or flat=True away")
    return spaces.Box(-np.inf, np.inf, (sum(spec.shape[-1] for spec in fields.values()),), np.float32)


def flatten(observation: Observation) -> NDArray[np.float32]:
    """The fields (..., d) one after the other, (..., D)."""
    return np.concatenate(list(observation.values()), axis=-1, dtype=np.float32)
