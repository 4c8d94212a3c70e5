"""Formats of others, in and out. A converter returns what its format could not hold, a line each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from robolearn.datasets.convert.robomimic import export_robomimic, import_robomimic
from robolearn.datasets.zarr_store import ZarrStore

EXPORTERS: dict[str, Callable[[ZarrStore, Path], list[str]]] = {"robomimic": export_robomimic}
IMPORTERS: dict[str, Callable[[Path, Path], list[str]]] = {"robomimic": import_robomimic}
