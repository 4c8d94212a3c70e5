"""What a run left in its folder, read again: curves, evaluations, pages, videos. Legend: N logged steps.

A run is a folder with one of MARKS directly in it: what `train` writes (`config.yaml`, `metrics.csv`), an answer of
`evaluate --json` or a report that was saved there (any JSON with a success rate), a reward audit, a page.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from robolearn.errors import RobolearnError
from robolearn.yaml_text import load_yaml, require_bounded

CONFIG_FILE, METRICS_FILE = "config.yaml", "metrics.csv"
PRACTICE_FILE = "finetune.json"  # the settings of `finetune`
MARKS = (METRICS_FILE, "audit.json", "report.html", "report.json")
PAGES, VIDEOS = (".html",), (".mp4",)
DEPTH = 4  # folders below the root that may be runs
LARGEST_JSON = 4 << 20  # bytes, of a file that may be an evaluation
TAIL = 1 << 16  # bytes, in which the last row of metrics is
NORMAL_95 = 1.959964

Curves = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""By name: step (N,) and value (N,)."""


def find_runs(root: Path) -> list[Path]:
    """Every run below a folder, the newest first."""
    found = [Path(folder) for folder, names in _folders(root) if any(_is_mark(name) for name in names)]
    return sorted(found, key=lambda path: -updated_s(path))


def _folders(root: Path) -> Iterator[tuple[str, list[str]]]:
    for folder, folders, names in os.walk(root):
        depth = len(Path(folder).relative_to(root).parts)
        inside = "zarr.json" in names or "config.json" in names  # a dataset; a checkpoint or a model
        folders[:] = [] if inside or depth >= DEPTH else sorted(name for name in folders if not name.startswith("."))
        if not inside or any(_is_mark(name) for name in names):
            yield folder, names


def _is_mark(name: str) -> bool:
    return name in MARKS or (name.startswith("evaluation") and name.endswith(".json"))


def updated_s(path: Path) -> float:
    """When something was last written there [s since 1970]; 0 where nothing is, any more."""
    return max((entry.stat().st_mtime for entry in _files(path)), default=0.0)


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a run, empty where there are none. Raises RobolearnError when they cannot be read."""
    file = next((path / name for name in (CONFIG_FILE, PRACTICE_FILE) if (path / name).is_file()), None)
    if file is None:
        return {}
    try:
        stat = file.stat()
        config = _read_yaml(file, stat.st_mtime_ns, stat.st_size)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RobolearnError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
    return deepcopy(config) if isinstance(config, dict) else {}


@lru_cache(1024)
def _read_yaml(file: Path, changed_ns: int, size: int) -> Any:
    """Read once as long as the file is what it was: who looks at the list of runs asks every few seconds, of all."""
    return load_yaml(file.read_text(encoding="utf-8"))  # which reads JSON, too


def read_metrics(path: Path) -> Curves:
    """Curves of a run's metrics.csv (step, wall_s, names); empty and unfinished cells are skipped.

    Raises RobolearnError when the file is damaged.
    """
    stat = path.stat()
    try:
        return _read_metrics(path, stat.st_mtime_ns, stat.st_size)
    except (UnicodeDecodeError, csv.Error) as error:
        raise RobolearnError(f"{path} cannot be read: {error}") from error


@lru_cache(32)
def _read_metrics(path: Path, changed_ns: int, size: int) -> Curves:
    """Read once as long as the file is what it was, as `_read_yaml`."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            step = _number(row.get("step"))
            for name, text in row.items():
                if name in ("step", "wall_s", None) or not text:
                    continue
                value = _number(text)
                if step is None or value is None:
                    continue  # a row that is being written
                steps, values = curves.setdefault(name, ([], []))
                steps.append(step)
                values.append(value)
    return {name: (np.array(steps), np.array(values)) for name, (steps, values) in curves.items()}


def last_row(path: Path) -> dict[str, float]:
    """The newest whole row of metrics.csv, without reading the others; empty where there is none."""
    with path.open("rb") as file:
        names = file.readline().decode("utf-8", "replace").strip().split(",")
        file.seek(max(os.fstat(file.fileno()).st_size - TAIL, file.tell()))
        lines = file.read().decode("utf-8", "replace").split("\n")[:-1]
    cells = lines[-1].strip().split(",") if lines else []
    found = {name: _number(text) for name, text in zip(names, cells, strict=False)}
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def evaluations(path: Path) -> list[dict[str, Any]]:
    """Success of a run's policies: saved answers of `evaluate --json` and reports, then the last one while training.

    Each has `name`, `success_rate`, `success_ci95`, `episodes` and, where they are known, `task`, `return_mean` and
    `mean_episode_steps`.
    """
    keys = ("task", "episodes", "success_rate", "success_ci95", "return_mean", "mean_episode_steps")
    found = []
    for file in sorted(path.glob("*.json")):
        answer = _json(file)
        rate = answer.get("success_rate")
        if isinstance(rate, (int, float)) and isinstance(answer.get("success_ci95"), list):
            found.append({"name": file.stem, **{key: answer.get(key) for key in keys}})
    curve = training_success(path)
    if curve:
        found.append({"name": f"step {curve['step'][-1]:.0f} of the training", **_last(curve)})
    return found


def _last(curve: dict[str, Any]) -> dict[str, Any]:
    bounds = [curve["low"][-1], curve["high"][-1]]
    return {"success_rate": curve["value"][-1], "success_ci95": bounds, "episodes": curve["episodes"]}


def training_success(path: Path) -> dict[str, Any]:
    """The success rate while training: `step`, `value`, its 95 % interval `low` and `high`, and `episodes` of each."""
    config = read_config(path)
    online = config.get("online")
    episodes = {**config, **(online if isinstance(online, dict) else {})}.get("evaluation_episodes")
    file = path / METRICS_FILE
    if not isinstance(episodes, int) or episodes < 1 or not file.is_file():
        return {}
    stat = file.stat()
    return dict(_training_success(file, stat.st_mtime_ns, stat.st_size, episodes))


@lru_cache(1024)
def _training_success(file: Path, changed_ns: int, size: int, episodes: int) -> dict[str, Any]:
    """Apart from the curves, of which fewer are kept."""
    step, value = read_metrics(file).get("success_rate", (np.zeros(0), np.zeros(0)))
    known = (value >= 0) & (value <= 1)  # not NaN, which an evaluation that broke off may have left
    step, value = step[known], value[known]
    if not len(step):
        return {}
    bounds = [wilson_interval(round(rate * episodes), episodes) for rate in value]
    low, high = zip(*bounds, strict=True)
    return {
        "step": step.tolist(),
        "value": value.tolist(),
        "low": list(low),
        "high": list(high),
        "episodes": episodes,
    }


def wilson_interval(successes: int, episodes: int) -> tuple[float, float]:
    """95 % interval of a success rate (Wilson 1927), which stays sensible at 0 and at 1."""
    rate, z2 = successes / episodes, NORMAL_95**2
    centre = (rate + z2 / (2 * episodes)) / (1 + z2 / episodes)
    half = NORMAL_95 / (1 + z2 / episodes) * math.sqrt(rate * (1 - rate) / episodes + z2 / (4 * episodes**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def files(path: Path, endings: tuple[str, ...]) -> list[str]:
    """Files with one of these endings directly in a run, by name."""
    return sorted(entry.name for entry in _files(path) if entry.name.endswith(endings))


def _files(path: Path) -> list[os.DirEntry[str]]:
    """Of a folder that others write to, or take away, meanwhile."""
    found = []
    with suppress(FileNotFoundError), os.scandir(path) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if entry.is_file() and entry.stat():
                    found.append(entry)
    return found


def _json(file: Path) -> dict[str, Any]:
    """Empty for what is no JSON object, or too large to be an evaluation."""
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_JSON:
            return {}
        answer = json.loads(file.read_text(encoding="utf-8"))
        require_bounded(answer)
    except (OSError, ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
