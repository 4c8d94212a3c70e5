from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from painted import dataset, dataset_spec, painted_number, record, stamps, step

from robolearn.datasets import edit
from robolearn.datasets.store import CLOSING_ROW, Annotation, EpisodeMeta, ImageCodec, WriterConfig
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.types import EpisodeOutcome


def numbers(path: Path) -> list[list[int]]:
    """What is painted in the images of every episode; checks that all fields agree."""
    store = ZarrStore.open(path)
    found = []
    for index in range(len(store.episodes)):
        read = store.read(index)
        painted = [painted_number(image) for image in read["image_front"]]
        assert read["action"][:, 0].tolist() == painted
        assert store.read_stamps(index)["proprio"][:, 0].tolist() == [stamps(n)["proprio"] for n in painted]
        found.append(painted)
    return found


def test_deleting_hides_and_is_undone(path: Path) -> None:
    before, ids = numbers(path), [row.id for row in ZarrStore.open(path).episodes]
    assert edit.delete(path, [1], dry_run=True) == [ids[1]]
    assert numbers(path) == before
    assert edit.delete(path, [1]) == [ids[1]]
    assert numbers(path) == [before[0], before[2]]
    assert edit.delete(path, [ids[2]]) == [ids[2]]
    with ZarrStore.open(path).writer() as writer:
        record(writer, 2, 12)
    assert numbers(path) == [before[0], [12, 13]]
    assert verify(path).ok
    assert edit.undo(path) == f"delete {ids[2]}"
    assert edit.undo(path) == f"delete {ids[1]}"
    assert numbers(path) == [*before, [12, 13]]
    with pytest.raises(DatasetError, match="no edit to undo"):
        edit.undo(path)


def test_trimming(path: Path) -> None:
    before = numbers(path)
    edit.trim(path, 2, 1, 3)
    edit.trim(path, 0, 2)
    assert numbers(path) == [[2], before[1], [8, 9]]
    with ZarrStore.open(path).writer() as writer:
        record(writer, 2, 12)
    assert numbers(path)[3] == [12, 13]
    assert verify(path).ok
    edit.undo(path)
    edit.undo(path)
    assert numbers(path)[:3] == before
    for start, stop in ((0, 9), (2, 2), (-1, 2)):
        with pytest.raises(DatasetError, match="not a part"):
            edit.trim(path, 0, start, stop)


def test_trimming_cuts_off_a_row_that_closes(path: Path) -> None:
    edit.tag(path, [0, 1], {CLOSING_ROW: True, "table": 3})
    edit.trim(path, 0, 1)
    edit.trim(path, 1, 0, 2)
    assert [row.tags for row in ZarrStore.open(path).episodes[:2]] == [{CLOSING_ROW: True, "table": 3}, {"table": 3}]


def test_tagging(path: Path) -> None:
    edit.tag(path, [0, 2], {"quality": "good", "table": 3})
    edit.tag(path, [2], {"table": None})
    tags = [row.tags for row in ZarrStore.open(path).episodes]
    assert tags == [{"quality": "good", "table": 3}, {}, {"quality": "good"}]
    half = "Zo\udce9"  # as Python reads a name that was typed in Latin-1
    refused: list[Callable[[], object]] = [
        lambda: edit.tag(path, [0], {"bad": object()}),
        lambda: edit.tag(path, [0], {"bad": [float("nan")]}),
        lambda: edit.relabel(path, [0], {"operator": half}),
        lambda: edit.annotate(path, 0, [Annotation(0, 1, "reach", half)]),
        lambda: edit.judge(path, 0, True, half),
    ]
    for call in refused:
        with pytest.raises(DatasetError, match="cannot be written as JSON"):
            call()
    assert [row.tags for row in ZarrStore.open(path).episodes] == tags


def test_marking(path: Path) -> None:
    before = [row.success for row in ZarrStore.open(path).episodes]
    assert edit.mark(path, [1], not before[1]) == [ZarrStore.open(path).episodes[1].id]
    assert [row.success for row in ZarrStore.open(path).episodes] == [before[0], not before[1], *before[2:]]
    edit.undo(path)
    assert [row.success for row in ZarrStore.open(path).episodes] == before


def test_tags_given_at_the_end_join_those_of_the_beginning(path: Path) -> None:
    store = ZarrStore.open(path)
    step = {name: values[0] for name, values in store.read(0).items()}
    with store.writer() as writer:
        with pytest.raises(DatasetError, match="cannot be written as JSON"):
            writer.begin(EpisodeMeta(operator="Zo\udce9"))
        writer.begin(EpisodeMeta(id="tagged", tags={"a": 1, "b": 1}))
        writer.append(step, {})
        outcome = EpisodeOutcome(True, True, False)
        for end, said in ((outcome, {"bad": object()}), (replace(outcome, reason=b"late"), {})):
            with pytest.raises(DatasetError, match="cannot be written as JSON"):
                writer.commit(end, said)  # type: ignore[arg-type]
        assert writer.commit(EpisodeOutcome(True, True, False), {"b": 2}).tags == {"a": 1, "b": 2}
    assert ZarrStore.open(path).episodes[-1].tags == {"a": 1, "b": 2}


def test_garbage(path: Path) -> None:
    edit.delete(path, [0])
    edit.trim(path, 1, 1, 4)
    before = numbers(path)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    rows = ZarrStore.open(path).episodes
    assert edit.collect_garbage(path, dry_run=True) > 0
    freed = edit.collect_garbage(path)
    assert freed > 0
    assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) == size - freed
    assert numbers(path) == before
    assert [row.id for row in ZarrStore.open(path).episodes] == [row.id for row in rows]
    assert verify(path).ok
    assert edit.collect_garbage(path) == 0
    with pytest.raises(DatasetError, match="no edit to undo"):
        edit.undo(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["d"]
    edit.delete(path, [0, 1])
    edit.collect_garbage(path)
    assert numbers(path) == []


def test_garbage_of_a_dataset_that_lies_elsewhere_is_collected_there(path: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    there, link = (path.rename(tmp_path / "disk" / "d")), path
    link.symlink_to(there)
    edit.delete(link, [0])
    before = numbers(link)
    (there.parent / ".d.gc").mkdir()  # of one that was killed when it had exchanged them
    assert edit.collect_garbage(link) > 0
    assert link.is_symlink()
    assert numbers(there) == before
    (there.parent / ".d.gc").mkdir()
    assert edit.collect_garbage(there) == 0
    assert [entry.name for entry in there.parent.iterdir()] == ["d"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["d", "disk"]


def test_split_and_merge_give_back_the_same_bytes(path: Path, tmp_path: Path) -> None:
    before = ZarrStore.open(path)
    rows = before.episodes
    parts = {tmp_path / "train": [0, rows[2].id], tmp_path / "test": [1]}
    assert edit.split(path, parts, dry_run=True) == edit.split(path, parts)
    assert edit.merge([tmp_path / "train", tmp_path / "test"], tmp_path / "all") == [rows[0].id, rows[2].id, rows[1].id]
    merged = ZarrStore.open(tmp_path / "all")
    assert verify(tmp_path / "all").ok
    for new, old in enumerate([0, 2, 1]):
        assert merged.episodes[new].to_json() | {"start": 0} == rows[old].to_json() | {"start": 0}
        for name, values in before.read(old).items():
            np.testing.assert_array_equal(merged.read(new)[name], values)


def test_two_at_once_make_one_dataset(path: Path, tmp_path: Path) -> None:
    def meanwhile(done: int, total: int) -> None:
        with pytest.raises(DatasetError, match=f"is being written to by process {os.getpid()}"):
            edit.merge([path], tmp_path / "out")

    edit.split(path, {tmp_path / "out": [0, 2]}, progress=meanwhile)
    assert numbers(tmp_path / "out") == [numbers(path)[0], numbers(path)[2]]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([path.name, "out"])


def test_masks_and_drops_survive_copying(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec())
    with store.writer(WriterConfig(drop_when_full=True, queue_bytes=4000)) as writer:
        writer.begin(EpisodeMeta())
        for number in range(100):
            values = step(number)
            if number % 7 == 0:
                del values["image_front"]
            writer.append(values, stamps(number))  # type: ignore[arg-type]
        writer.commit(EpisodeOutcome(None, False, True, "why not"))
    edit.merge([tmp_path / "d"], tmp_path / "copy")
    copy = ZarrStore.open(tmp_path / "copy")
    assert copy.episodes == store.episodes
    for name, mask in store.read_valid(0).items():
        np.testing.assert_array_equal(copy.read_valid(0)[name], mask)


def test_what_cannot_be_edited(path: Path, tmp_path: Path) -> None:
    dataset(tmp_path / "other", [2], ImageCodec(quality=50))
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: edit.delete(path, [3]), "counted from 0; there is no episode 3"),
        (lambda: edit.delete(path, [-1]), "there is no episode -1"),
        (lambda: edit.delete(path, ["nobody"]), "no episode of id 'nobody'"),
        (lambda: edit.merge([path, tmp_path / "other"], tmp_path / "out"), "differ in image_codec"),
        (lambda: edit.merge([path, path], tmp_path / "out"), "more than one"),
        (lambda: edit.merge([path], path), "exists"),
        (lambda: edit.merge([], tmp_path / "out"), "at least one"),
        (lambda: edit.split(path, {path: [0]}), "exists"),
        (lambda: edit.split(path, {tmp_path / "out": []}), "no episodes"),
        (lambda: edit.delete(tmp_path / "nowhere", [0]), "does not exist"),
    ]
    before = numbers(path)
    for call, says in refused:
        with pytest.raises(DatasetError, match=says):
            call()
    assert numbers(path) == before
    assert not (tmp_path / "out").exists()
    with ZarrStore.open(path).writer(), pytest.raises(DatasetError, match="written to by process"):
        edit.delete(path, [0])
