"""Play one episode of a dataset again, on the twin or on a cell, as nodes on a graph."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robolearn.recipes.graph import run_graph


def replay_episode(dataset: Path, episode: int, where: Mapping[str, Any], domain_id: int | None) -> dict[str, Any]:
    """What the replay node tells: complete, steps, tracking errors, success. `where`: arguments of the launch file.

    Raises LaunchError with the nodes' last words when it could not be played.
    """
    with tempfile.TemporaryDirectory(prefix="robolearn-replay-") as folder:
        results, log = Path(folder) / "results.jsonl", Path(folder) / "replay.log"
        arguments = {"dataset": dataset.absolute(), "episode": episode, **where}
        (row,) = run_graph("replay", arguments, results, 1, lambda done, row: None, log, domain_id)
    if "cell" in where:
        row["success"] = None  # nobody judges it there
    return row
