"""`robolearn dataset ...` that look at datasets and mend them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from robolearn.cli.output import EXIT_NO, Dataset, counted, named, print_json, print_table, progress, say

SHOWN = {
    "fields": ("shape", "dtype", "unit", "masked_steps", "dropped_steps", "bytes"),
    "columns": ("shape", "dtype", "episodes"),
    "streams": ("shape", "dtype", "unit", "rate_hz", "align", "samples"),
}
"""What `dataset info` tells of each of them in a table of its own."""


def dataset_info(dataset: Dataset, json: bool = False) -> int:
    """What a dataset holds.

    Example: robolearn dataset info runs/demonstrations.zarr
    """
    from robolearn.datasets.info import info

    answer = info(dataset)
    if json:
        print_json(answer)
    else:
        inside = {name: answer.pop(name) for name in SHOWN}
        print_table(str(dataset), ("", ""), [(key, _words(value)) for key, value in answer.items()])
        for name, keys in SHOWN.items():
            rows = [(each, *(_words(facts[key]) for key in keys)) for each, facts in inside[name].items()]
            if rows:
                print_table(name, ("", *(key.replace("_", " ") for key in keys)), rows)
    return 0


def dataset_verify(dataset: Dataset, strict: bool = False, json: bool = False) -> int:
    """Check that a dataset is whole; exit code 1 when it is not.

    Every byte is read: checksums, lengths, stamps, masks, limits. Gaps in time, lost images, cameras that stand still
    and entries that never move are warnings, which count as failure with --strict.

    Example: robolearn dataset verify runs/demonstrations.zarr

    Args:
        strict: let warnings count as failure.
    """
    from robolearn.datasets.verify import verify

    with progress("verify", "episode") as update:
        report = verify(dataset, update)
    if json:
        print_json(report.to_json())
    else:
        for problem in report.problems:
            say(f"problem: {problem}")
        for warning in report.warnings:
            say(f"warning: {warning}")
        noticed = f", {counted(len(report.warnings), 'warning')}" if report.warnings else ""
        say(f"{dataset}: whole{noticed}" if report.ok else f"{dataset}: NOT whole{noticed}; {_remedy(dataset)}")
    return 0 if report.ok and not (strict and report.warnings) else EXIT_NO


def _remedy(dataset: Path) -> str:
    """What to do about a dataset that is not whole."""
    from robolearn.datasets.repair import repair
    from robolearn.errors import DatasetError, quoted

    try:
        report = repair(dataset, dry_run=True)
    except DatasetError as error:
        return str(error)
    if report.is_empty:
        return (
            f"nothing mends that; leave out what is named with: robolearn dataset delete {quoted(dataset)} EPISODE ..."
        )
    return f"try: robolearn dataset repair {quoted(dataset)}"


def dataset_repair(
    dataset: Dataset, action: Literal["salvage", "drop"] = "salvage", dry_run: bool = False, json: bool = False
) -> int:
    """Salvage the episode whose writer died, or drop it; exit code 1 when it can only be dropped.

    Damaged metadata of fields is written anew. Of damaged columns what is whole is kept, and `label` makes the rest.

    Example: robolearn dataset repair runs/demonstrations.zarr

    Args:
        action: `salvage` makes an episode of the steps that were kept, cut and of unknown success; `drop` removes
            them, for good.
    """
    from robolearn.datasets.repair import repair
    from robolearn.errors import quoted

    report = repair(dataset, action, dry_run)
    if json:
        print_json(report.to_json())
    else:
        say(str(report))
        if report.left:
            say(f"no step of it was kept; remove it with: robolearn dataset repair {quoted(dataset)} --action drop")
    return EXIT_NO if report.left else 0


def dataset_stats(dataset: Dataset, fields: tuple[str, ...] = (), json: bool = False) -> int:
    """Mean, deviation, extremes and quantiles of every field, and what the dataset is worth to a learner.

    They are kept up to date as episodes are recorded. Of images, some steps of each episode count. TQ is the mean
    return between the worst (0) and the best (1); SACo the share of steps that differ in state and action.

    Example: robolearn dataset stats runs/demonstrations.zarr --fields proprio action

    Args:
        fields: fields to look at; all unless named
    """
    from robolearn.datasets.histograms import histograms
    from robolearn.datasets.statistics import statistics
    from robolearn.datasets.stats import QUANTILES
    from robolearn.datasets.zarr_store import ZarrStore

    store = ZarrStore.open(dataset)
    for name in fields:
        store.spec_of(name)  # raises for a name that is none
    found = statistics(store)
    summaries = {name: summary for name, summary in found.fields.items() if not fields or name in fields}
    if json:
        shown = {name: summary.to_json() for name, summary in summaries.items()}
        print_json({"fields": shown, "quality": asdict(found.quality), "histograms": histograms(store)})
        return 0
    median = QUANTILES.index(0.5)
    header = ("", "mean", "std", "low", f"{QUANTILES[0]:.0%}", "50%", f"{QUANTILES[-1]:.0%}", "high")
    for name, summary in summaries.items():
        spec = store.spec_of(name)
        entries = spec.names or (("red", "green", "blue") if len(summary.mean) == 3 else ("",) * len(summary.mean))
        quantiles = summary.quantiles[0], summary.quantiles[median], summary.quantiles[-1]
        figures = zip(summary.mean, summary.std, summary.low, *quantiles, summary.high, strict=True)
        rows = [(entry, *(f"{value:.3g}" for value in values)) for entry, values in zip(entries, figures, strict=True)]
        print_table(f"{name}{f' [{spec.unit}]' if spec.unit else ''}, {summary.count} values", header, rows)
    if not fields:
        quality = asdict(found.quality) | {"position_coverage": histograms(store)["position_coverage"]}
        print_table("quality", ("", ""), [(key, "unknown" if v is None else v) for key, v in quality.items()])
    return 0


def dataset_labels(dataset: Dataset, json: bool = False) -> int:
    """What people said of a dataset: stages, success, preferences, and how far they agree.

    Agreement is Cohen's kappa: 1 is always the same answer, 0 no better than chance.

    Example: robolearn dataset labels runs/demonstrations.zarr
    """
    from robolearn.datasets.agreement import labels
    from robolearn.datasets.zarr_store import ZarrStore

    answer = labels(ZarrStore.open(dataset))
    if json:
        print_json(answer)
        return 0
    words = {True: "success", False: "failure", None: "unknown"}
    rows = [
        (
            one["id"],
            words[one["success"]],
            ", ".join(f"{name}: {words[word]}" for name, word in one["success_by"].items()),
            "  ".join(f"{mark['label']} {mark['start']}-{mark['stop']} ({mark['author']})" for mark in one["stages"]),
        )
        for one in answer["episodes"]
    ]
    print_table(str(dataset), ("episode", "success", "said by", "stages (by)"), rows)
    counts = Counter((one["author"], one["answer"]) for one in answer["preferences"])
    print_table("preferences", ("by", "answer", "pairs"), [(*key, number) for key, number in sorted(counts.items())])
    agreed = [
        (what, one["items"], *("" if one[key] is None else f"{one[key]:.2f}" for key in ("same", "kappa")))
        for what, one in answer["agreement"].items()
    ]
    print_table("agreement", ("of", "judged by several", "same answer", "kappa"), agreed)
    return 0


def dataset_view(
    dataset: Dataset,
    episode: Annotated[str, Positional, arg(metavar="EPISODE")] = "0",
    out: Path | None = None,
    rerun: bool = False,
    mp4: bool = False,
) -> int:
    """Look at an episode: on the page, whose address is printed; in Rerun; or as a video with plots.

    Example: robolearn dataset view runs/demonstrations.zarr 3
             robolearn dataset view runs/demonstrations.zarr 3 --out episode.mp4

    Args:
        out: file to write, a video (.mp4) or a recording for Rerun (.rrd)
        rerun: open Rerun's viewer
        mp4: write a video into runs/; so does this command where the page's parts are not installed
    """
    from robolearn.cli.web import has_web, show_episode
    from robolearn.datasets.edit import episode_index
    from robolearn.datasets.view import has_rerun, show_in_rerun, write_video
    from robolearn.datasets.zarr_store import ZarrStore
    from robolearn.errors import RobolearnError

    store = ZarrStore.open(dataset)
    index = episode_index(store, named((episode,))[0])
    if out is not None and out.suffix not in (".mp4", ".rrd"):
        raise RobolearnError(f"{out} ends in {out.suffix or 'nothing'}; view writes .mp4, or .rrd for Rerun")
    rerun = rerun if out is None else out.suffix == ".rrd"
    if rerun and not has_rerun():
        raise RobolearnError(f"{out or '--rerun'} wants Rerun, which is not installed: pip install rerun-sdk")
    if rerun:
        show_in_rerun(store, index, out)
        return 0
    if out is None and not mp4 and has_web():
        show_episode(dataset, store.episodes[index].id)
        return 0
    file = out or Path("runs") / f"{dataset.stem}_episode_{index}.mp4"
    if out is None:
        file.unlink(missing_ok=True)  # an older view of it
    with progress("view", "step") as update:
        write_video(store, index, file, update)
    say(f"written: {file}")
    return 0


def dataset_diff(dataset: Dataset, other: Annotated[Path, Positional, arg(metavar="OTHER")], json: bool = False) -> int:
    """Tell two datasets apart, by episode and field; exit code 1 when they differ.

    Example: robolearn dataset diff runs/monday.zarr runs/copy.zarr

    Args:
        other: the dataset that it is compared with.
    """
    from robolearn.datasets.diff import diff

    with progress("diff", "episode") as update:
        found = diff(dataset, other, update)
    if json:
        print_json({"equal": not found, "differences": [difference.to_json() for difference in found]})
    else:
        for difference in found:
            say(str(difference))
        say("equal" if not found else counted(len(found), "difference"))
    return 0 if not found else EXIT_NO


def _words(value: Any) -> str:
    """A value of JSON as people read it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_words(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value))
    if value is None:
        return "unknown"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
