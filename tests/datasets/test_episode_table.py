"""The episode table on disk: newest lines in the root file, older ones in blocks that never change."""

from __future__ import annotations

import json
import math
import os
import tempfile
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import CAMERAS, SUCCESS, as_schema_2, dataset, dataset_spec, record, step

from robolearn.datasets import edit, zarr_layout
from robolearn.datasets.disk import Disk
from robolearn.datasets.episode_table import EpisodeTable
from robolearn.datasets.files import LocalFiles
from robolearn.datasets.info import info
from robolearn.datasets.repair import repair
from robolearn.datasets.statistics import statistics
from robolearn.datasets.store import EpisodeInfo, EpisodeMeta, WriterConfig
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_layout import Root, read_root, write_root
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.specs import ArraySpec

ROW = EpisodeInfo("", 0, 1, "push-v1", "", None, True, True, False, "", "", 0, "", {}, {}, {})
State = tuple[list[EpisodeInfo], list[tuple[str, list[EpisodeInfo]]]]
"""Rows, and the edits that can be undone with the rows before each."""

operations = st.one_of(
    st.just(("add",)),
    st.tuples(st.just("edit"), st.sets(st.integers(0, 5), min_size=1), st.text(max_size=3)),
    st.just(("undo",)),
    st.just(("attribute",)),
)


class Earlier(LocalFiles):
    """A dataset as a reader meets it who has read an older root file."""

    def __init__(self, path: Path, root: bytes) -> None:
        super().__init__(path)
        self.root = root

    def read(self, name: str) -> bytes:
        return self.root if name == "zarr.json" else super().read(name)


def state_of(root: Root) -> State:
    return list(root.episodes), [(one.what, list(one.before)) for one in root.table.edits]


def changed(root: Root, state: State, operation: tuple[Any, ...]) -> tuple[Root, State]:
    """A root and the model of its table after an operation, where that is possible."""
    rows, edits = state
    if operation[0] == "add":
        row = replace(ROW, id=f"episode-{len(rows)}", start=len(rows))
        return replace(root, table=root.table.added(row), num_steps=len(rows) + 1), ([*rows, row], edits)
    if operation[0] == "attribute":
        return replace(root, attributes={**root.attributes, "more": len(rows)}), state
    if operation[0] == "undo" and edits:
        before = {row.id: row for row in edits[-1][1]}
        return replace(root, table=root.table.undone()), ([before.get(row.id, row) for row in rows], edits[:-1])
    chosen = [rows[number] for number in sorted(operation[1]) if number < len(rows)] if operation[0] == "edit" else []
    if not chosen:
        return root, state
    after = [replace(row, tags={**row.tags, "note": operation[2]}) for row in chosen]
    new = {row.id: row for row in after}
    table = root.table.edited("tag", after)
    return replace(root, table=table), ([new.get(row.id, row) for row in rows], [*edits, ("tag", chosen)])


@settings(max_examples=12, deadline=None)
@given(st.lists(operations, max_size=12), st.sampled_from([1, 700, 1 << 16]), st.lists(operations, max_size=6))
def test_what_is_read_is_what_was_written_whatever_was_done(
    first: list[tuple[Any, ...]], block_bytes: int, later: list[tuple[Any, ...]]
) -> None:
    with tempfile.TemporaryDirectory() as name, Disk(fsync=False) as disk, pytest.MonkeyPatch.context() as patch:
        path, seen, state = Path(name), [], ([], [])
        root = refreshed = Root(dataset_spec(cameras=()), EpisodeTable({}), 0, {})
        patch.setattr(zarr_layout, "BLOCK_BYTES", block_bytes)
        for number, operation in enumerate([*first, *later]):
            root, state = changed(root, state, operation)
            root = write_root(path, root, disk)
            assert state_of(root) == state
            refreshed = read_root(path, refreshed)  # what is new alone
            assert state_of(refreshed) == state
            if number >= len(first):  # another process does the rest: each time from what is on disk
                root = read_root(path)
                assert state_of(root) == state
            seen.append(((path / "zarr.json").read_bytes(), state))
        for data, then in seen:
            assert state_of(read_root(Earlier(path, data))) == then


def test_a_commit_writes_as_much_however_many_episodes_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d"
    monkeypatch.setattr(zarr_layout, "BLOCK_BYTES", 1000)
    store = ZarrStore.create(path, dataset_spec())
    empty, sizes, blocks = (path / "zarr.json").stat().st_size, [], {}
    config = WriterConfig(statistics=False, fsync=False)
    with store.writer(config) as writer:
        for number in range(12):
            record(writer, 1, number)
            sizes.append((path / "zarr.json").stat().st_size - empty)
            for file in (path / "episodes").glob("*"):
                about = file.stat().st_ino, file.stat().st_mtime_ns
                assert blocks.setdefault(file.name, about) == about
    assert max(sizes) < 1100
    assert len(blocks) > 3
    before = ZarrStore.open(path).episodes
    assert before == store.episodes
    edit.tag(path, list(range(12)), {"note": "much"})
    with ZarrStore.open(path).writer(config) as writer:
        record(writer, 1, 12)
    assert (path / "zarr.json").stat().st_size - empty < 1100  # what can be undone is no part of it
    edit.undo(path)
    assert ZarrStore.open(path).episodes[:12] == before
    edit.delete(path, [0])
    edit.collect_garbage(path)
    assert [row.id for row in ZarrStore.open(path).episodes[:11]] == [row.id for row in before[1:]]
    assert verify(path).ok


def test_a_block_is_durable_before_the_root_file_counts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut could take is only what nobody counts yet."""
    path = tmp_path / "d"
    store = dataset(path, [1])
    monkeypatch.setattr(zarr_layout, "BLOCK_BYTES", 1)
    done: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.replace

    def synced(fd: int) -> None:
        fsync(fd)
        done.append(("sync", os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), path)))

    def replaced(source: Path, target: Path) -> None:
        rename(source, target)
        done.append(("rename", os.path.relpath(target, path)))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    with store.writer(WriterConfig(statistics=False)) as writer:
        record(writer, 1, 1)
    wanted = [
        ("sync", "."),  # the new folder's name
        ("sync", "episodes/.0.jsonl.tmp"),
        ("rename", "episodes/0.jsonl"),
        ("sync", "episodes"),
        ("sync", ".zarr.json.tmp"),
        ("rename", "zarr.json"),
        ("sync", "."),
    ]
    others = [change for change in done if not change[1].startswith(".recording") and ".spare" not in change[1]]
    assert others[-len(wanted) :] == wanted
    for file in ("zarr.json", "episodes/0.jsonl"):
        spare = (path / file).with_name(f".{Path(file).name}.spare")
        assert spare.read_bytes() == (path / file).read_bytes()
        name = os.path.relpath(spare, path)
        assert done.index(("rename", file)) < done.index(("rename", name))  # it never tells of more


def test_a_dataset_of_schema_2_is_left_alone_until_it_is_written_to(tmp_path: Path) -> None:
    """The file was written by the version before blocks: three episodes that were tagged, hidden and trimmed."""
    path = tmp_path / "d"
    with zipfile.ZipFile(Path(__file__).with_name("schema_2.zip")) as archive:
        archive.extractall(path)
    whole = (path / "zarr.json").read_bytes()
    store = ZarrStore.open(path)
    assert [(row.id, row.start, row.length, dict(row.tags)) for row in store.episodes] == [
        ("episode-0", 0, 3, {"light": "dim"}),
        ("episode-2", 8, 3, {"light": "dim"}),
    ]
    assert store.read(1)["action"][:, 0].tolist() == [8, 9, 10]
    assert edit.last_edit(store) == "trim episode-2"
    assert verify(path).ok
    assert info(path)["schema_version"] == 2
    assert statistics(store).fields["proprio"].count == 6
    assert repair(path, "salvage").salvaged == []
    assert edit.delete(path, [0], dry_run=True) == ["episode-0"]
    assert (path / "zarr.json").read_bytes() == whole
    assert [edit.undo(path) for _ in range(3)] == [
        "trim episode-2",
        "delete episode-1",
        "tag episode-0, episode-2",
    ]
    store = ZarrStore.open(path)
    assert store.schema_version == 3
    assert [(row.id, row.length, dict(row.tags)) for row in store.episodes] == [
        (f"episode-{number}", 3 + number, {}) for number in range(3)
    ]
    with store.writer() as writer:  # into arrays of larger shards than today's
        writer.begin(EpisodeMeta(id="episode-3", task="push-v1"))
        for number in range(12, 15):
            writer.append({name: value for name, value in step(number).items() if name not in CAMERAS}, {})
        writer.commit(SUCCESS)
    assert store.reader("action").layout.shard_rows > zarr_layout.array_layouts(store.spec)["action"].shard_rows
    group = zarr.open_group(path, mode="r")
    for index, (first, length) in enumerate(((0, 3), (3, 4), (7, 5), (12, 3))):
        assert store.read(index)["action"][:, 0].tolist() == list(range(first, first + length))
        np.testing.assert_array_equal(group["action"][first : first + length], store.read(index)["action"])  # type: ignore[index]
    assert verify(path).ok


@pytest.mark.parametrize("block_bytes", [1, 1 << 16], ids=["blocks", "root"])
def test_edits_of_an_older_version_are_undone_after_a_newer_one_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    path = tmp_path / "d"
    with zipfile.ZipFile(Path(__file__).with_name("schema_2.zip")) as archive:
        archive.extractall(path)
    monkeypatch.setattr(zarr_layout, "BLOCK_BYTES", block_bytes)
    edit.tag(path, ["episode-0"], {"light": "bright"})
    for says in ("tag episode-0", "trim episode-2", "delete episode-1", "tag episode-0, episode-2"):
        assert edit.undo(path) == says
    assert [(row.length, dict(row.tags)) for row in ZarrStore.open(path).episodes] == [(3, {}), (4, {}), (5, {})]
    with pytest.raises(DatasetError, match="no edit to undo"):
        edit.undo(path)


def plain_table(path: Path) -> dict[str, dict[str, Any]]:
    """As docs/datasets.md has it for other readers."""
    attributes = zarr.open_group(path, mode="r").attrs
    lines: list[Any] = []
    for number in range(attributes["episode_blocks"]):  # type: ignore[arg-type]
        lines += map(json.loads, (path / f"episodes/{number}.jsonl").read_text().splitlines()[1:])
    lines += attributes["newest_episodes"]  # type: ignore[arg-type]
    return {row["id"]: row for row in lines}  # the newest line of an episode, in the place of its first


@pytest.mark.parametrize("block_bytes", [600, 1 << 16], ids=["blocks", "root"])
def test_other_readers_find_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    path = tmp_path / "d"
    monkeypatch.setattr(zarr_layout, "BLOCK_BYTES", block_bytes)
    dataset(path, [1, 2, 3, 1, 2])
    edit.tag(path, [0, 3], {"note": "a\nline"})
    edit.delete(path, [1])
    edit.trim(path, 1, 1)
    edit.undo(path)
    table = [row for row in plain_table(path).values() if not row["hidden"]]
    episodes = ZarrStore.open(path).episodes
    wanted = [(row.id, row.start, row.length, dict(row.tags)) for row in episodes]
    assert [(row["id"], row["start"], row["length"], row["tags"]) for row in table] == wanted
    assert len(episodes) == 4


def test_a_damaged_block_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d"
    monkeypatch.setattr(zarr_layout, "BLOCK_BYTES", 600)
    dataset(path, [1] * 5)
    file = path / "episodes/1.jsonl"
    whole = file.read_bytes()
    head, first, second = whole.splitlines(keepends=True)
    for damaged in (
        None,
        b"",
        whole[:-9],
        whole.replace(b"push it", b"pull it"),
        b'{"crc32": "none"}\n',
        head + second,
        head + second + first,
    ):
        file.unlink()
        if damaged is not None:
            file.write_bytes(damaged)
        for function in (ZarrStore.open, verify, info):
            with pytest.raises(DatasetError, match="a part of the episode table") as error:
                function(path)  # type: ignore[operator]
            assert str(file) in str(error.value)
            assert "\n" not in str(error.value)
        assert repair(path, dry_run=True).mended == repair(path).mended == ["episodes/1.jsonl"]
        assert file.read_bytes() == whole
    assert verify(path).ok
    (path / "zarr.json").write_bytes(b"")
    file.unlink()
    assert repair(path).mended == ["episodes/1.jsonl", "zarr.json"]
    assert verify(path).ok
    file.unlink()
    (path / "episodes/.1.jsonl.spare").unlink()
    with pytest.raises(DatasetError, match="and so is what was written beside it"):
        repair(path)


def test_lines_that_contradict_each_other(tmp_path: Path) -> None:
    path = tmp_path / "d"
    dataset(path, [1, 1])
    whole = (path / "zarr.json").read_text()
    newest = json.loads(whole)["attributes"]["newest_episodes"]
    contradictions: list[dict[str, Any]] = [
        {"episode_blocks": None},
        {"episode_blocks": -1},
        {"newest_episodes": [*newest, newest[0]]},
        {"newest_episodes": [{**newest[0], "edit": [0, "tag"]}, newest[1]]},
        {"newest_episodes": [*newest, {**newest[0], "edit": [3, "tag"]}]},
        {"newest_episodes": [*newest, {**newest[0], "undone": "x"}]},
        {"newest_episodes": [{**newest[0], "id": None}, {**newest[1], "id": None}]},
    ]
    for contradiction in contradictions:
        root = json.loads(whole)
        root["attributes"].update(contradiction)
        (path / "zarr.json").write_text(json.dumps(root))
        with pytest.raises(DatasetError, match=r"zarr\.json is damaged: its spec or episode table"):
            ZarrStore.open(path)
    (path / "zarr.json").write_text(whole.replace('"episode_blocks": 0, ', ""))
    with pytest.raises(DatasetError, match=r"zarr\.json is damaged: its spec or episode table"):
        ZarrStore.open(path)


def test_a_table_with_an_id_twice_of_an_older_version(tmp_path: Path) -> None:
    path = tmp_path / "d"
    dataset(path, [1, 1])
    as_schema_2(path)
    text = (path / "zarr.json").read_text()
    first, second = (row.id for row in ZarrStore.open(path).episodes)
    (path / "zarr.json").write_text(text.replace(second, first))
    with pytest.raises(DatasetError, match="is there twice"):
        ZarrStore.open(path)


def test_a_block_that_a_dead_writer_left_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d"
    dataset(path, [1] * 3)
    (path / "episodes").mkdir()
    (path / "episodes/0.jsonl").write_bytes(b"anything")
    assert verify(path).ok
    monkeypatch.setattr(zarr_layout, "BLOCK_BYTES", 1)
    with ZarrStore.open(path).writer() as writer:
        record(writer, 2, 3)
    assert [row.length for row in ZarrStore.open(path).episodes] == [1, 1, 1, 2]
    assert verify(path).ok


def test_readers_find_whole_tables_while_a_writer_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d"
    monkeypatch.setattr(zarr_layout, "BLOCK_BYTES", 600)
    store, done, counts = dataset(path, [1]), threading.Event(), [0]
    follower = ZarrStore.open(path)

    def look() -> None:
        while not done.is_set():
            follower.refresh()
            for there in (ZarrStore.open(path), follower):
                assert [row.start for row in there.episodes] == list(range(len(there.episodes)))
                assert there.read(-1, ["action"])["action"].tolist() == [[len(there.episodes) - 1] * 2]
            counts.append(len(follower.episodes))

    with ThreadPoolExecutor(1) as pool, store.writer(WriterConfig(fsync=False)) as writer:
        looking = pool.submit(look)
        for number in range(1, 12):
            record(writer, 1, number)
        done.set()
        looking.result()
    assert counts == sorted(counts)
    assert len(set(counts)) > 2


def grow(path: Path, length: int) -> None:
    with ZarrStore.open(path).writer() as writer:
        record(writer, length, ZarrStore.open(path).num_steps)


def test_a_refreshed_store_is_one_that_is_opened_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d"
    dataset(path, [1, 2])
    as_schema_2(path)
    monkeypatch.setattr(zarr_layout, "BLOCK_BYTES", 600)
    follower = ZarrStore.open(path)
    changes: list[Callable[[], object]] = [
        lambda: None,
        lambda: edit.delete(path, [0]),
        lambda: edit.undo(path),
        lambda: grow(path, 3),
        lambda: edit.trim(path, 1, 1),
        lambda: ZarrStore.open(path).column_writer("reward", ArraySpec(()), {}).close(),
        lambda: grow(path, 2),
    ]
    for change in changes:
        change()
        follower.refresh()
        opened = ZarrStore.open(path)
        assert (follower.episodes, follower.edits, list(follower.columns)) == (
            opened.episodes,
            opened.edits,
            list(opened.columns),
        )
        assert statistics(follower) == statistics(opened)
        for index in range(len(opened.episodes)):
            np.testing.assert_array_equal(follower.read(index)["image_front"], opened.read(index)["image_front"])
    edit.delete(path, [0])
    edit.collect_garbage(path)
    with pytest.raises(DatasetError, match="written anew since it was opened"):
        follower.refresh()


@given(st.lists(st.integers(1, 400), min_size=0, max_size=3), st.sampled_from(["float32", "float64", "uint8", "bool"]))
def test_shards_are_small_enough_to_be_copied_with_every_episode(shape: list[int], dtype: str) -> None:
    spec = replace(dataset_spec(), extra={"more": ArraySpec(tuple(shape), dtype)})
    for layout in zarr_layout.array_layouts(spec).values():
        row_bytes = math.prod(layout.row_shape) * layout.dtype.itemsize
        assert layout.shard_rows % layout.chunk_rows == 0
        if layout.name not in spec.image_fields:
            assert layout.shard_rows * row_bytes <= max(128 << 10, layout.chunk_rows * row_bytes)
