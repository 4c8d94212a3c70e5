"""`robolearn dataset ...`."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from robolearn.cli.output import EXIT_NO, Dataset, print_json, print_table, say
from robolearn.progress import ProgressBar

Episode = Annotated[str, Positional, arg(metavar="EPISODE")]
Episodes = Annotated[tuple[str, ...], Positional, arg(metavar="EPISODE ...")]


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


def dataset_repair(dataset: Dataset, action: Literal["drop", "salvage"] = "drop", dry_run: bool = False) -> int:
    """Drop or salvage the episode whose writer died.

    Example: robolearn dataset repair runs/demonstrations.zarr --action salvage
    """
    from robolearn.datasets.repair import repair

    say(str(repair(dataset, action, dry_run)))
    return 0


def dataset_delete(dataset: Dataset, episodes: Episodes, dry_run: bool = False) -> int:
    """Hide episodes; `undo` brings them back, `gc` frees the disk.

    Example: robolearn dataset delete runs/demonstrations.zarr 3 4 --dry-run
    """
    from robolearn.datasets.edit import delete

    return _told("hidden", delete(dataset, _named(episodes), dry_run), dry_run)


def dataset_trim(
    dataset: Dataset, episode: Episode, start: int = 0, stop: int | None = None, dry_run: bool = False
) -> int:
    """Keep the steps from start up to stop of an episode.

    Example: robolearn dataset trim runs/demonstrations.zarr 3 --start 10 --stop 60
    """
    from robolearn.datasets.edit import trim

    return _told("trimmed", trim(dataset, _named((episode,))[0], start, stop, dry_run), dry_run)


def dataset_tag(dataset: Dataset, episodes: Episodes, name: str, value: str = "true", dry_run: bool = False) -> int:
    """Tag episodes with a name and a JSON value; the value null takes the tag away.

    Example: robolearn dataset tag runs/demonstrations.zarr 0 1 --name quality --value 0.9
    """
    from robolearn.datasets.edit import tag

    try:
        tags = {name: json_module.loads(value)}
    except json_module.JSONDecodeError:
        tags = {name: value}  # a plain word
    return _told("tagged", tag(dataset, _named(episodes), tags, dry_run), dry_run)


def dataset_undo(dataset: Dataset, dry_run: bool = False) -> int:
    """Take back the last delete, trim or tag.

    Example: robolearn dataset undo runs/demonstrations.zarr
    """
    from robolearn.datasets.edit import undo

    return _told("taken back", [undo(dataset, dry_run)], dry_run)


def dataset_gc(dataset: Dataset, dry_run: bool = False) -> int:
    """Free the disk of hidden episodes and trimmed steps; there is no undo behind it.

    Example: robolearn dataset gc runs/demonstrations.zarr --dry-run
    """
    from robolearn.datasets.edit import collect_garbage

    return _told("freed", [f"{collect_garbage(dataset, dry_run) / 2**20:.1f} MiB"], dry_run)


def dataset_split(dataset: Dataset, episodes: Episodes, out: Path, dry_run: bool = False) -> int:
    """Copy episodes into a new dataset.

    Example: robolearn dataset split runs/demonstrations.zarr 0 1 2 --out runs/first_three.zarr
    """
    from robolearn.datasets.edit import split

    return _told(f"copied to {out}", split(dataset, {out: _named(episodes)}, dry_run)[out], dry_run)


def dataset_merge(
    datasets: Annotated[tuple[Path, ...], Positional, arg(metavar="DATASET ...")], out: Path, dry_run: bool = False
) -> int:
    """Copy the episodes of several datasets of one kind into a new one.

    Example: robolearn dataset merge runs/monday.zarr runs/tuesday.zarr --out runs/week.zarr
    """
    from robolearn.datasets.edit import merge

    return _told(f"copied to {out}", merge(datasets, out, dry_run), dry_run)


def _named(episodes: tuple[str, ...]) -> list[int | str]:
    """Episodes by index where the word is a number, else by id."""
    return [int(word) if word.isdecimal() else word for word in episodes]


def _told(what: str, items: list[str], dry_run: bool) -> int:
    say(f"{'would be ' if dry_run else ''}{what}: {', '.join(items) or 'nothing'}")
    return 0


def _short(value: Any) -> str:
    text = json_module.dumps(value, default=str) if isinstance(value, (dict, list)) else str(value)
    return text if len(text) <= 400 else text[:397] + "..."
