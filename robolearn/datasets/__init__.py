"""Demonstrations and rollouts: stores, samplers, statistics and the tools around them."""

from __future__ import annotations

from robolearn.datasets.store import Store
from robolearn.datasets.zarr_store import ZarrStore

STORES: dict[str, type[ZarrStore]] = {"zarr": ZarrStore}
"""Every kind of store by name, each with `create(path, spec)` and `open(path)`."""

__all__ = ["STORES", "Store"]
