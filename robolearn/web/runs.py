"""Runs: curves, evaluations, reward audits, reports, videos, comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from fastapi.responses import FileResponse

from robolearn import runs
from robolearn.errors import RobolearnError, SpecError, UnknownNameError
from robolearn.web.security import sayable, within
from robolearn.web.settings import WebSettings

MAX_POINTS = 1000  # of a curve
PAGE_POLICY = (
    "sandbox allow-same-origin; default-src 'none'; img-src 'self' data:; media-src 'self' data:; "
    "style-src 'unsafe-inline'; frame-ancestors 'self'; form-action 'none'; base-uri 'none'"
)


def make_router(settings: WebSettings) -> APIRouter:
    router = APIRouter()
    root = settings.runs_root.resolve()

    @router.get("")
    def all_runs() -> list[dict[str, Any]]:
        """Every run below the root, the newest first."""
        return [_shown(_summary(root, path)) for path in runs.find_runs(root)]

    @router.get("/run")
    def one_run(run: str) -> dict[str, Any]:
        """A run with its settings, evaluations, pages and videos."""
        path = _run(root, run)
        return _shown(
            {
                **_summary(root, path),
                "config": runs.read_config(path),
                "training_success": runs.training_success(path),
                "evaluations": runs.evaluations(path),
            }
        )

    @router.get("/curves")
    def curves(run: Annotated[list[str], Query()]) -> dict[str, dict[str, Any]]:
        """The metrics of these runs, by run and name: step and value."""
        return {name: _curves(_run(root, name)) for name in run}

    @router.get("/files/{name:path}")
    def file(name: str) -> FileResponse:
        """A page or a video of a run. Pages run no script and reach nothing but their own folder."""
        path = within([root], name)
        if path.suffix not in (*runs.PAGES, *runs.VIDEOS) or not path.is_file():
            raise UnknownNameError("page or video", name)
        if path.suffix in runs.VIDEOS:
            return FileResponse(path, media_type="video/mp4")
        headers = {"content-security-policy": PAGE_POLICY, "x-frame-options": "SAMEORIGIN"}
        return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)

    return router


def _run(root: Path, name: str) -> Path:
    path = within([root], name)
    if not path.is_dir():
        raise SpecError(f"{name} is no run; name a folder below {root}")
    return path


def _summary(root: Path, path: Path) -> dict[str, Any]:
    """What a list tells of a run; a file that cannot be read is told, and hides no other run."""
    name = path.relative_to(root).as_posix()
    problem, config, last, done = "", {}, {}, []
    try:
        within([root], name)
        config = runs.read_config(path)
        if _is_there(path / runs.METRICS_FILE):
            last = runs.last_row(path / runs.METRICS_FILE)
        done = runs.evaluations(path)
    except (RobolearnError, OSError) as error:
        problem = str(error)
    return {
        "name": sayable(name),
        "problem": problem,
        "algorithm": str(config.get("algorithm", "finetune" if (path / runs.PRACTICE_FILE).exists() else "")),
        "learns_from": str(config.get("task") or config.get("dataset") or ""),
        "seed": config.get("seed"),
        "has_curves": bool(last),
        "step": last.get("step"),
        "wall_s": last.get("wall_s"),
        "updated_s": runs.updated_s(path),
        "evaluation": done[-1] if done else None,
        "pages": runs.files(path, runs.PAGES),
        "videos": runs.files(path, runs.VIDEOS),
    }


def _is_there(file: Path) -> bool:
    """Whether to read it. A folder is told when it is read; a pipe or a device would have no end."""
    return file.is_file() or file.is_dir()


def _shown(value: Any) -> Any:
    """What files hold, as JSON can say it: YAML knows bytes, dates and sets, and all numbers and letters."""
    if isinstance(value, dict):
        return {sayable(str(key)): _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_shown(item) for item in value]
    if isinstance(value, int) and abs(value) >> 63:
        return hex(value)
    return value if value is None or isinstance(value, int | float) else sayable(str(value))


def _curves(path: Path) -> dict[str, Any]:
    file = path / runs.METRICS_FILE
    found = runs.read_metrics(file) if _is_there(file) else {}
    shown = {}
    for name, (step, value) in found.items():
        every = -(-len(step) // MAX_POINTS)
        kept = np.isfinite(value[::every])
        shown[name] = {"step": step[::every][kept].tolist(), "value": value[::every][kept].tolist()}
    return shown
