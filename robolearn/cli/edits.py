"""`robolearn dataset ...` that change datasets or write new ones."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from robolearn.cli.output import Dataset, Episodes, counted, named, print_json, progress, say
from robolearn.errors import RobolearnError

if TYPE_CHECKING:
    from robolearn.datasets.remote import Transfer


def dataset_delete(dataset: Dataset, episodes: Episodes, dry_run: bool = False) -> int:
    """Hide episodes; `undo` brings them back, `gc` frees the disk.

    Example: robolearn dataset delete runs/demonstrations.zarr 3 4 --dry-run
    """
    from robolearn.datasets.edit import delete

    return _told("hidden", delete(dataset, named(episodes), dry_run), dry_run)


def dataset_trim(
    dataset: Dataset,
    episode: Annotated[str, Positional, arg(metavar="EPISODE")],
    start: int = 0,
    stop: int | None = None,
    dry_run: bool = False,
) -> int:
    """Keep the steps from start up to stop of an episode.

    Example: robolearn dataset trim runs/demonstrations.zarr 3 --start 10 --stop 60

    Args:
        start: the first step that is kept, counted from 0.
        stop: the first step that is not kept; by default all up to the end are.
    """
    from robolearn.datasets.edit import trim

    return _told("trimmed", trim(dataset, named((episode,))[0], start, stop, dry_run), dry_run)


def dataset_tag(dataset: Dataset, episodes: Episodes, name: str, value: str = "true", dry_run: bool = False) -> int:
    """Tag episodes with a name and a JSON value; the value null takes the tag away.

    Example: robolearn dataset tag runs/demonstrations.zarr 0 1 --name quality --value 0.9

    Args:
        name: of the tag.
        value: as JSON; a plain word is taken as a text.
    """
    from robolearn.datasets.edit import tag

    try:
        tags = {name: json_module.loads(value)}
    except json_module.JSONDecodeError:
        tags = {name: value}  # a plain word
    return _told("tagged", tag(dataset, named(episodes), tags, dry_run), dry_run)


def dataset_relabel(
    dataset: Dataset,
    episodes: Episodes,
    task: str | None = None,
    instruction: str | None = None,
    success: Literal["true", "false", "unknown"] | None = None,
    terminated: Literal["true", "false"] | None = None,
    truncated: Literal["true", "false"] | None = None,
    reason: str | None = None,
    operator: str | None = None,
    dry_run: bool = False,
) -> int:
    """Change task, instruction, success or operator of episodes; `undo` takes it back.

    Example: robolearn dataset relabel runs/demonstrations.zarr 3 4 --success false --reason "dropped the cube"

    Args:
        task: what was done, as `robolearn tasks` or the recording names it.
        instruction: the same in a sentence.
        success: whether it succeeded.
        terminated: whether it ended by itself, in success or failure.
        truncated: whether it was cut off.
        reason: why it ended as it did, in words.
        operator: who recorded it.
    """
    from robolearn.datasets.edit import relabel

    words = {"true": True, "false": False, "unknown": None}
    flags = {"success": success, "terminated": terminated, "truncated": truncated}
    texts = {"task": task, "instruction": instruction, "reason": reason, "operator": operator}
    changes: dict[str, Any] = {name: words[value] for name, value in flags.items() if value is not None}
    changes |= {name: value for name, value in texts.items() if value is not None}
    return _told("relabelled", relabel(dataset, named(episodes), changes, dry_run), dry_run)


def dataset_undo(dataset: Dataset, dry_run: bool = False) -> int:
    """Take back the last delete, trim, tag or relabel.

    Example: robolearn dataset undo runs/demonstrations.zarr
    """
    from robolearn.datasets.edit import undo

    return _told("taken back", [undo(dataset, dry_run)], dry_run)


def dataset_gc(dataset: Dataset, dry_run: bool = False) -> int:
    """Free the disk of hidden episodes and trimmed steps; there is no undo behind it.

    Example: robolearn dataset gc runs/demonstrations.zarr --dry-run
    """
    from robolearn.datasets.edit import collect_garbage

    with progress("gc", "episode") as update:
        freed = collect_garbage(dataset, dry_run, update)
    return _told("freed", [f"{freed / 2**20:.1f} MiB"], dry_run)


def dataset_split(dataset: Dataset, episodes: Episodes, out: Path, dry_run: bool = False) -> int:
    """Copy episodes into a new dataset.

    Example: robolearn dataset split runs/demonstrations.zarr 0 1 2 --out runs/first_three.zarr

    Args:
        out: folder of the new dataset; it must not exist.
    """
    from robolearn.datasets.edit import split

    with progress("split", "episode") as update:
        ids = split(dataset, {out: named(episodes)}, dry_run, update)[out]
    return _told(f"copied to {out}", ids, dry_run)


def dataset_merge(
    datasets: Annotated[tuple[Path, ...], Positional, arg(metavar="DATASET ...", help_behavior_hint="")],
    out: Path,
    dry_run: bool = False,
) -> int:
    """Copy the episodes of several datasets of one kind into a new one.

    Example: robolearn dataset merge runs/monday.zarr runs/tuesday.zarr --out runs/week.zarr

    Args:
        datasets: folders of datasets of the same robot, cameras and rates.
        out: folder of the new dataset; it must not exist.
    """
    from robolearn.datasets.edit import merge

    with progress("merge", "episode") as update:
        ids = merge(datasets, out, dry_run, update)
    return _told(f"copied to {out}", ids, dry_run)


def dataset_publish(
    dataset: Dataset, url: Annotated[str, Positional, arg(metavar="URL")], dry_run: bool = False, json: bool = False
) -> int:
    """Bring a dataset of an object store up to date with a local one; only what changed is sent.

    Example: robolearn dataset publish runs/demonstrations.zarr s3://robots/demonstrations.zarr

    Args:
        url: of the dataset there: s3://, gs:// or az://.
    """
    from robolearn.datasets.remote import publish

    with progress("publish", "file") as update:
        sent = publish(dataset, url, dry_run, update)
    return _transferred("sent", sent, dry_run, json)


def dataset_pull(
    url: Annotated[str, Positional, arg(metavar="URL")], out: Path, dry_run: bool = False, json: bool = False
) -> int:
    """Copy a dataset of an object store to a new folder.

    Example: robolearn dataset pull s3://robots/demonstrations.zarr --out runs/demonstrations.zarr

    Args:
        url: of the dataset there: s3://, gs://, az:// or https://.
        out: folder of the copy; it must not exist.
    """
    from robolearn.datasets.remote import pull

    with progress("pull", "file") as update:
        fetched = pull(url, out, dry_run, update)
    return _transferred("fetched", fetched, dry_run, json)


def _transferred(what: str, transfer: Transfer, dry_run: bool, json: bool) -> int:
    if json:
        print_json(asdict(transfer))
    text = f"{transfer.files} files of {transfer.bytes / 2**20:.1f} MiB"
    return _told(what, [f"{text}, {transfer.kept} were there already" if transfer.kept else text], dry_run)


def dataset_convert(
    source: Annotated[Path, Positional, arg(metavar="SOURCE")],
    out: Path,
    to: str | None = None,
    from_: Annotated[str | None, arg(name="from")] = None,
    contract: Path | None = None,
    control_hz: float | None = None,
    lossless: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> int:
    """Convert a dataset to a format of others, or one of theirs to ours; says what is lost.

    Formats: lerobot (v3.0 out; v3.0, v2.1 and v2.0 in), lerobot-images, robomimic, diffusion_policy, minari, d4rl in
    and out; rosbag, ogbench in.

    Example: robolearn dataset convert demos.zarr --to lerobot --out demos_lerobot
             robolearn dataset convert bag_folder --from rosbag --contract twin.yaml --out demos.zarr

    Args:
        source: folder or file of the dataset to convert.
        out: folder or file to write; it must not exist.
        to: format to write; SOURCE is a dataset of ours then
        from_: format of SOURCE; OUT is a dataset of ours then
        contract: of a bag: which topic is which field, YAML
        control_hz: rate [1/s], where the format has none
        lossless: store the pictures of SOURCE as they are (JPEG XL), not as JPEG
        dry_run: look, and say what would be lost, but write nothing
    """
    from robolearn.datasets.convert import ImportSettings, export_dataset, import_dataset
    from robolearn.datasets.store import ImageCodec
    from robolearn.datasets.zarr_store import ZarrStore

    if (to is None) == (from_ is None):
        raise RobolearnError("convert wants --to FORMAT for a dataset of ours, or --from FORMAT for one of others")
    with progress("convert", "step") as update:
        if to is not None:
            done = export_dataset(ZarrStore.open(source), to, out, dry_run, update)
        else:
            codec = ImageCodec("jpegxl") if lossless else None
            settings = ImportSettings(control_hz, codec, contract)
            done = import_dataset(str(from_), source, out, settings, dry_run, update)
    if json:
        print_json(done.to_json())
        return 0
    for line in done.lost:
        say(f"lost: {line}")
    episodes = f"{counted(done.episodes, 'episode')}, " if done.episodes else ""
    say(f"{'would be ' if dry_run else ''}converted to {out}: {episodes}{counted(done.steps, 'step')}")
    return 0


def _told(what: str, items: list[str], dry_run: bool) -> int:
    say(f"{'would be ' if dry_run else ''}{what}: {', '.join(items) or 'nothing'}")
    return 0
