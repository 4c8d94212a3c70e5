"""`robolearn dataset ...`."""

from __future__ import annotations

import json as json_module
from typing import Any, Literal

from robolearn.cli.output import EXIT_NO, Dataset, print_json, print_table, say
from robolearn.progress import ProgressBar


def dataset_info(dataset: Dataset, json: bool = False) -> int:
    """What a dataset holds.

    Example: robolearn dataset info runs/demonstrations.zarr
    """
    from robolearn.datasets.info import info

    answer = info(dataset)
    if json:
        print_json(answer)
    else:
        print_table(str(dataset), ("", ""), [(k, _short(v)) for k, v in answer.items()])
    return 0


def dataset_verify(dataset: Dataset, json: bool = False) -> int:
    """Check that a dataset is whole; exit code 1 when it is not.

    Every episode is read: lengths, stamps, masks, limits.

    Example: robolearn dataset verify runs/demonstrations.zarr
    """
    from robolearn.datasets.verify import verify

    with ProgressBar("verify", 1, "dataset") as bar:
        report = verify(dataset)
        bar.update(1)
    if json:
        print_json(report.to_json())
    else:
        for problem in report.problems:
            say(f"problem: {problem}")
        say(f"{dataset}: whole" if report.ok else f"{dataset}: NOT whole; try: robolearn dataset repair {dataset}")
    return 0 if report.ok else EXIT_NO


def dataset_repair(dataset: Dataset, action: Literal["drop", "salvage"] = "drop") -> int:
    """Drop or salvage the episode whose writer died.

    Example: robolearn dataset repair runs/demonstrations.zarr --action salvage
    """
    from robolearn.datasets.repair import repair

    say(str(repair(dataset, action=action)))
    return 0


def _short(value: Any) -> str:
    text = json_module.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) <= 400 else text[:397] + "..."
