"""How often the scripted experts succeed: what `benchmarks/tasks.py` measured last."""

from __future__ import annotations

import json

from robolearn.assets import asset
from robolearn.errors import AssetError


def expert_success() -> dict[str, dict[str, float]]:
    """Share of successful episodes by task id and robot. Raises AssetError for a file that is no JSON."""
    file = asset("sim_assets/measured.json")
    try:
        measured = json.loads(file.read_text())
    except ValueError as error:
        raise AssetError(f"{file}: {error}; run benchmarks/tasks.py") from error
    success: dict[str, dict[str, float]] = {}
    for task_id, figures in measured.items():
        name, _, robot = task_id.partition("@")
        if "expert" in figures:
            success.setdefault(name, {})[robot or figures["robot"]] = figures["expert"]["success_rate"]
    return success
