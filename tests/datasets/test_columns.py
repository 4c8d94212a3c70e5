"""Columns written after recording: versioned, resumable, an episode at a time or not at all."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from labellers import ATTRIBUTES, REWARD, label, label_when_begun
from painted import dataset, painted_number, record

from robolearn.datasets import edit
from robolearn.datasets.columns import ColumnWriter, remove_column
from robolearn.datasets.info import info
from robolearn.datasets.repair import repair
from robolearn.datasets.sampler import Sampler, SamplerConfig
from robolearn.datasets.store import Annotation, EpisodeMeta, ages_ns
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError, UnknownNameError
from robolearn.specs import ArraySpec
from robolearn.types import EpisodeOutcome

OTHER = "progress/sarm-1"


def check(path: Path, episodes: list[int]) -> None:
    store = ZarrStore.open(path)
    for index, row in enumerate(store.episodes):
        if index in episodes:
            read = store.read(index, [REWARD, "image_front"])
            assert [painted_number(image) for image in read["image_front"]] == read[REWARD].tolist()
        else:
            with pytest.raises(DatasetError, match=f"{REWARD} has no values for episode {row.id}"):
                store.read(index, [REWARD])


def test_written_in_any_order_and_resumed(path: Path) -> None:
    before = ZarrStore.open(path).read(1)
    label(path, [2])
    check(path, [2])
    store = ZarrStore.open(path)
    with store.column_writer(REWARD, ArraySpec(()), ATTRIBUTES) as writer:
        assert writer.missing == [0, 1]
        writer.write(0, [0.0, 1.0, 2.0])
        assert store.columns[REWARD].has(store.episodes[0].id, 0, 3)
        assert writer.missing == [1]
    check(path, [0, 2])
    with store.writer() as recorder:
        record(recorder, 6, 12)
    check(path, [0, 2])
    label(path, [1, 3])
    check(path, [0, 1, 2, 3])
    for name, values in before.items():
        np.testing.assert_array_equal(ZarrStore.open(path).read(1)[name], values)
    column = ZarrStore.open(path).columns[REWARD]
    assert (column.attributes, column.spec) == (ATTRIBUTES, ArraySpec(()))
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group[f"columns/{REWARD}"][:], np.arange(18))  # type: ignore[index]
    assert verify(path).ok
    assert info(path)["columns"][REWARD]["episodes"] == 4


def test_episodes_that_lie_in_one_shard_are_written_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label(path, [1])
    store = ZarrStore.open(path)
    written: list[int] = []
    original = ColumnWriter._write_shard
    monkeypatch.setattr(
        ColumnWriter, "_write_shard", lambda self, shard, parts: (written.append(shard), original(self, shard, parts))
    )
    with store.column_writer(REWARD, ArraySpec(()), ATTRIBUTES) as writer:
        with pytest.raises(SpecError, match="not all finite"):
            writer.write_all({0: [0.0, 1.0, 2.0], 2: np.full(store.episodes[2].length, np.inf, np.float32)})
        assert (written, writer.missing) == ([], [0, 2])
        writer.write_all({i: store.read(i, ["action"])["action"][:, 0] for i in (2, 0)})
    assert written == [0]
    check(path, [0, 1, 2])


def test_versions_live_side_by_side_and_are_not_mixed(path: Path) -> None:
    label(path, [0])
    store = ZarrStore.open(path)
    with pytest.raises(DatasetError, match=r"of other attributes.*another version"):
        store.column_writer(REWARD, ArraySpec(()), {**ATTRIBUTES, "settings": {}})
    with pytest.raises(DatasetError, match="of other spec"):
        store.column_writer(REWARD, ArraySpec((2,)), ATTRIBUTES)
    label(path, [0, 1, 2], "reward/vlm-2")
    assert list(ZarrStore.open(path).columns) == [REWARD, "reward/vlm-2"]
    check(path, [0])
    remove_column(path, REWARD)
    assert list(ZarrStore.open(path).columns) == ["reward/vlm-2"]
    with pytest.raises(UnknownNameError, match=r"vlm-1\.2"):
        remove_column(path, REWARD)


def test_misuse_writes_nothing(path: Path) -> None:
    store = ZarrStore.open(path)
    for name in ("Reward", "reward/../../x", "/etc/x", "reward/", "a/b/c"):
        with pytest.raises(DatasetError, match="is not named like"):
            store.column_writer(name, ArraySpec(()), {})
    with pytest.raises(DatasetError, match="JSON"):
        store.column_writer(REWARD, ArraySpec(()), {"model": object()})
    with store.column_writer(REWARD, ArraySpec(()), ATTRIBUTES) as writer:
        with pytest.raises(SpecError, match=r"float64 \(2,\), expected float32 \(3,\)"):
            writer.write(0, np.zeros(2))
        with pytest.raises(SpecError, match="not all finite"):
            writer.write(0, [0.0, np.nan, 1.0])
        with pytest.raises(DatasetError, match="is being written to by process"):
            store.column_writer("stage", ArraySpec((), "uint8"), {})
        assert writer.missing == [0, 1, 2]
    check(path, [])


def test_columns_follow_their_episodes(path: Path, tmp_path: Path) -> None:
    label(path, [0, 2])
    reader = ZarrStore.open(path)
    old = reader.read(2, [REWARD, "action"])
    edit.trim(path, 2, 1, 4)
    edit.delete(path, [1])
    check(path, [0, 1])
    edit.collect_garbage(path)
    check(path, [0, 1])
    assert ZarrStore.open(path).read(1, [REWARD])[REWARD].tolist() == [8, 9, 10]
    # Who had it open keeps reading the dataset that it was, or is told.
    np.testing.assert_array_equal(reader.read(2, ["action"])["action"], old["action"])
    with pytest.raises(DatasetError, match="written anew since it was opened; open it again"):
        reader.read(2, ["image_front"])
    # Its rows are others' by now, so it cannot write there either.
    with pytest.raises(DatasetError, match="written anew since it was opened; open it again"):
        reader.column_writer(REWARD, ArraySpec(()), ATTRIBUTES)
    check(path, [0, 1])
    edit.split(path, {tmp_path / "part": [1]})
    edit.merge([tmp_path / "part"], tmp_path / "all")
    check(tmp_path / "all", [0])
    gone = ZarrStore.open(tmp_path / "all")
    shutil.rmtree(tmp_path / "all")
    with pytest.raises(DatasetError, match="is not there any more"):
        gone.column_writer(REWARD, ArraySpec(()), ATTRIBUTES)


def test_a_sampler_draws_columns(path: Path) -> None:
    label(path, [0, 1, 2])
    batch = Sampler(ZarrStore.open(path), SamplerConfig(("proprio", REWARD))).sample(20, np.random.default_rng(0))
    np.testing.assert_array_equal(batch[REWARD], batch["proprio"][:, 0])


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def scribble(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[2:12] = b"\xff\x00[{garbage"[:10]
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def remove_folder(file: Path) -> None:
    shutil.rmtree(file.parent)


def is_deep(file: Path) -> None:
    file.write_bytes(b"[" * 100_000 + b"\n")


DAMAGES = (cut, scribble, empty, Path.unlink, is_deep)
FILES = tuple(f"{REWARD}/{file}" for file in ("zarr.json", "episodes.jsonl", "c.0"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labelled") / "d"
    dataset(path, [3, 4, 5])
    for name in (REWARD, OTHER):
        label(path, [0, 1], name)
    return path


@pytest.mark.parametrize(
    ("file", "damage"),
    [(file, damage) for file in (*FILES, "zarr.json") for damage in DAMAGES]
    + [(f"{name}/zarr.json", damage) for name, damage in ((REWARD, remove_folder), (OTHER, cut))],
)
def test_a_damaged_column_hides_nothing_else_and_is_mended(
    labelled: Path, tmp_path: Path, file: str, damage: Callable[[Path], Any]
) -> None:
    path = tmp_path / "d"
    shutil.copytree(labelled, path)
    of_list, name = file == "zarr.json", file.rpartition("/")[0]
    damage(path / "columns" / file)
    store = ZarrStore.open(path)
    store.read(0)
    if (of_list and damage is Path.unlink) or (file.endswith("jsonl") and damage in (cut, empty)):
        # As if they had never been written, which is what a labeller that died leaves, too.
        assert not store.damaged_columns
    else:
        problems = verify(path).problems
        assert problems
        assert all(str(path / "columns" / file) in problem for problem in problems)
    if not of_list:
        (other,) = {REWARD, OTHER} - {name}
        np.testing.assert_array_equal(store.read(1, [other])[other], store.read(1, ["action"])["action"][:, 0])
    if name in store.damaged_columns:
        with pytest.raises(DatasetError, match=f"column {name}.*; mend it with: robolearn dataset repair {path}$"):
            store.read(0, [name])
        with pytest.raises(DatasetError, match=f"column {name}"):
            edit.merge([path], tmp_path / "merged")
    repair(path, dry_run=True)
    report = repair(path)
    assert verify(path).ok
    assert not repair(path).mended
    assert set(ZarrStore.open(path).columns) == {REWARD, OTHER} - set(report.removed)
    for each in (REWARD, OTHER):
        label(path, [0, 1, 2], each)
    mended = ZarrStore.open(path)
    for index in range(3):
        read = mended.read(index, [REWARD, OTHER, "action"])
        np.testing.assert_array_equal(read[REWARD], read["action"][:, 0])
        np.testing.assert_array_equal(read[OTHER], read["action"][:, 0])
    # Who had it open before follows, though the lines are others by now.
    store.refresh()
    np.testing.assert_array_equal(store.read(2, [REWARD])[REWARD], store.read(2, ["action"])["action"][:, 0])


@pytest.mark.parametrize("dtype", ["float32", "bool", "int32"])
def test_a_copy_that_was_made_while_somebody_labelled(path: Path, tmp_path: Path, dtype: str) -> None:
    """The shard was copied before an episode was written, the lines after."""
    store, copy = ZarrStore.open(path), tmp_path / "copy"
    with store.column_writer("done", ArraySpec((), dtype), {}) as writer:
        writer.write(0, np.ones(3, dtype))
        before = (path / "columns/done/c.0").read_bytes()
        writer.write(1, np.ones(4, dtype))
    shutil.copytree(path, copy)
    (copy / "columns/done/c.0").write_bytes(before)
    (problem,) = verify(copy).problems
    assert "episode 1 " in problem
    assert "column done has other values than were written" in problem
    assert repair(copy).mended == ["columns/done"]
    assert verify(copy).ok
    with ZarrStore.open(copy).column_writer("done", ArraySpec((), dtype), {}) as writer:
        assert writer.missing == [1, 2]


def test_an_array_that_is_too_short_for_its_episodes_is_mended(labelled: Path, tmp_path: Path) -> None:
    path = tmp_path / "d"
    shutil.copytree(labelled, path)
    file = path / "columns" / REWARD / "zarr.json"
    file.write_text(file.read_text().replace('"shape": [12]', '"shape": [5]'))
    assert f"column {REWARD} has 5 steps, and episodes that reach beyond" in verify(path).problems[0]
    assert repair(path).mended == [f"columns/{REWARD}"]
    assert verify(path).ok


def test_columns_of_older_versions_are_read_and_gone_on_with(path: Path) -> None:
    """They had the episodes in the metadata of the array."""
    label(path, [2])
    folder = path / "columns" / REWARD
    metadata = json.loads((folder / "zarr.json").read_text())
    del metadata["attributes"]["id"]
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    metadata["attributes"]["episodes"] = {name: ends for name, *ends, _ in lines}
    (folder / "zarr.json").write_text(json.dumps(metadata))
    (folder / "episodes.jsonl").unlink()
    check(path, [2])
    assert verify(path).ok
    store = ZarrStore.open(path)
    label(path, [0])
    assert "episodes" not in json.loads((folder / "zarr.json").read_text())["attributes"]
    check(path, [0, 2])
    store.refresh()
    assert [store.columns[REWARD].has(e.id, e.start, e.stop) for e in store.episodes] == [True, False, True]


def test_a_write_costs_what_it_adds(tmp_path: Path) -> None:
    path = tmp_path / "d"
    dataset(path, [2] * 20)
    store = ZarrStore.open(path)
    file = path / "columns" / REWARD / "episodes.jsonl"
    with store.column_writer(REWARD, ArraySpec(()), ATTRIBUTES) as writer:
        before = (file.parent / "zarr.json").stat().st_ino
        for index in range(20):
            old = file.read_bytes()
            writer.write(index, [2.0 * index, 2.0 * index + 1])
            assert file.read_bytes().startswith(old)
            assert len(file.read_bytes()) - len(old) < 50
        assert (file.parent / "zarr.json").stat().st_ino == before
    with file.open("ab") as opened:
        opened.write(b'["cut o')
    check(path, list(range(20)))
    label(path, [3])
    check(path, list(range(20)))
    assert len(file.read_bytes().splitlines()) == 21


def test_no_column_lies_in_another(path: Path) -> None:
    label(path, [0], "reward")
    with pytest.raises(DatasetError, match="has a column reward, and one of two"):
        label(path, [0], REWARD)
    remove_column(path, "reward")
    label(path, [0])
    with pytest.raises(DatasetError, match=f"has a column {REWARD}, and one of two"):
        label(path, [0], "reward")
    check(path, [0])


def test_killed_labellers_lose_nothing_that_they_finished(tmp_path: Path) -> None:
    path = tmp_path / "d"
    dataset(path, [2] * 60)
    context = multiprocessing.get_context("forkserver")  # a fork of ours would inherit zarr's locks without its threads
    for milliseconds in (1, 10, 50):
        begun = context.Event()
        labeller = context.Process(target=label_when_begun, args=(path, list(range(60)), begun))
        labeller.start()
        assert begun.wait(60.0)
        signal.sigtimedwait([], milliseconds / 1000)
        labeller.kill()
        labeller.join()
        assert labeller.exitcode in (0, -signal.SIGKILL)
        store = ZarrStore.open(path)
        column = store.columns.get(REWARD)
        done = [i for i, e in enumerate(store.episodes) if column and column.has(e.id, e.start, e.stop)]
        if column:
            check(path, done)
    label(path, list(range(60)))
    check(path, list(range(60)))


def test_marks_and_annotations(path: Path) -> None:
    with ZarrStore.open(path).writer() as writer:
        writer.begin(EpisodeMeta(id="marked"))
        writer.mark("reach", "ana")
        for _ in range(4):
            writer.append({}, {})
        writer.mark("nothing", "ana")
        writer.mark("push", "ana")
        writer.append({}, {})
        writer.mark("too late", "ana")
        row = writer.commit(EpisodeOutcome(True, True, False))
    assert row.annotations == (Annotation(0, 4, "reach", "ana"), Annotation(4, 5, "push", "ana"))
    assert ZarrStore.open(path).episodes[3] == row
    edit.annotate(path, "marked", [Annotation(1, 3, "slip", "bo")])
    labels = lambda: [note.label for note in ZarrStore.open(path).episodes[-1].annotations]  # noqa: E731
    assert labels() == ["reach", "slip", "push"]
    edit.trim(path, "marked", 2, 5)
    assert ZarrStore.open(path).episodes[3].annotations[:2] == (
        Annotation(0, 2, "reach", "ana"),
        Annotation(0, 1, "slip", "bo"),
    )
    edit.undo(path)
    edit.undo(path)
    assert labels() == ["reach", "push"]
    with pytest.raises(DatasetError, match="not a labelled part"):
        edit.annotate(path, "marked", [Annotation(3, 9, "slip")])


def test_ages(path: Path) -> None:
    store = ZarrStore.open(path)
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        writer.append({}, {"proprio": 100, "image_front": 70})
        writer.append({}, {"proprio": 200, "image_front": 230, "action": 200})
        writer.commit(EpisodeOutcome(True, True, False))
    ages = ages_ns(store.read_stamps(3))
    assert ages["image_front"].tolist() == [30, 0]
    assert ages["proprio"].tolist() == [0, 30]
    assert ages["action"].tolist() == [-1, 30]


def test_a_picture_is_copied_unless_nobody_can_change_it(path: Path) -> None:
    store = ZarrStore.open(path)
    received, own = store.read(0)["image_front"][0].tobytes(), store.read(0)["image_front"][1].copy()
    shape, view, kept = own.shape, own[:], own.copy()
    view.flags.writeable = False
    taken: list[Any] = []
    with store.writer() as writer:
        writer._enqueue_step = lambda rows, pictures, usable: taken.append(pictures["image_front"])  # type: ignore[method-assign]
        writer.begin(EpisodeMeta())
        for image in (np.frombuffer(received, np.uint8).reshape(shape)[:], view):
            writer.append({"image_front": image}, {})
        del writer._enqueue_step
        writer.discard()
    own[:] = 0
    assert np.shares_memory(taken[0], np.frombuffer(received, np.uint8))
    np.testing.assert_array_equal(taken[1], kept)


def test_a_closed_writer_says_so(path: Path) -> None:
    writer = ZarrStore.open(path).writer()
    writer.begin(EpisodeMeta())
    writer.close()
    for call in (
        lambda: writer.begin(EpisodeMeta()),
        lambda: writer.append({}, {}),
        lambda: writer.commit(EpisodeOutcome(True, True, False)),
        writer.discard,
        lambda: writer.mark("x"),
    ):
        with pytest.raises(DatasetError):
            call()
