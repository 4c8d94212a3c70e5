"""Datasets that are damaged, alien or newer: one line that names file and field, and nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from painted import SUCCESS, as_schema_2, dataset, dataset_spec, record, stamps, step

from robolearn.datasets import edit
from robolearn.datasets.codecs import with_checksum
from robolearn.datasets.files import LocalFiles
from robolearn.datasets.info import info
from robolearn.datasets.journal import GROUP, HEADER, JOURNAL, MAGIC, MARK, META, OUTCOME, STEP
from robolearn.datasets.repair import repair
from robolearn.datasets.shards import ArrayReader, write_shard
from robolearn.datasets.store import EpisodeMeta, StreamSpec
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_layout import array_layouts, array_metadata
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.specs import ArraySpec
from robolearn.types import ActionSource


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "d"
    dataset(path, [5, 5])
    return path


def change(file: Path, alter: Callable[[Any], Any]) -> None:
    data = json.loads(file.read_text())
    file.write_text(json.dumps(alter(data) or data))


def one_line(error: pytest.ExceptionInfo[DatasetError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("alter", "says"),
    [
        (lambda d: d["attributes"].update(schema_version=99), "schema version 99, this robolearn reads up to 3"),
        (lambda d: d["attributes"].update(format="else"), "no robolearn dataset"),
        (lambda d: d["attributes"].update(newest_episodes=None), "damaged"),
        (lambda d: d["attributes"]["spec"].update(robot=None), "damaged"),
        (
            lambda d: d["attributes"]["newest_episodes"][1].update(start=4),
            "episode 1 .* start 4 .* within steps 5 to 10",
        ),
        (lambda d: d["attributes"]["newest_episodes"][0].update(length="5"), "damaged"),
        (lambda d: d["attributes"]["newest_episodes"][0].update(task=["push"]), "task of an episode is"),
        (lambda d: d["attributes"]["newest_episodes"][0].update(tags={"a": "\ud800"}), "surrogates not allowed"),
        (lambda d: d["attributes"]["spec"]["robot"].update(name=7), "name or unit is no text"),
        (lambda d: d["attributes"]["spec"]["robot"].update(max_speed=["fast"]), "max_speed is not a number for each"),
        (lambda d: d["attributes"]["spec"]["interface"].update(control_hz=10**400), "int too large"),
        (lambda d: d["attributes"]["spec"]["interface"]["action"].update(unit=["rad"]), "expected text"),
        (lambda d: d["attributes"]["spec"]["interface"]["action"].update(dtype="O"), "has dtype O, expected"),
        (
            lambda d: d["attributes"]["spec"]["interface"]["action"].update(shape=[-1], names=[]),
            "has shape .-1",
        ),
        (lambda d: d["attributes"]["spec"]["interface"]["observation"].update({"../evil": {"shape": [1]}}), "evil"),
        (lambda d: [1], "no robolearn dataset"),
    ],
)
def test_root_file(path: Path, alter: Callable[[Any], Any], says: str) -> None:
    root, newer = path / "zarr.json", "version" in says
    whole = root.read_bytes()
    change(root, alter)
    for function in (ZarrStore.open, verify, info, *([repair] if newer else [])):
        with pytest.raises(DatasetError, match=says) as error:
            function(path)  # type: ignore[operator]
        assert str(path) in one_line(error)
        assert one_line(error).endswith(f"; mend it with: robolearn dataset repair {path}") is not newer
    if newer:
        return
    assert repair(path, dry_run=True).mended == repair(path).mended == ["zarr.json"]
    assert root.read_bytes() == whole
    assert verify(path).ok
    change(root, alter)
    change(path / ".zarr.json.spare", alter)
    with pytest.raises(DatasetError, match=r"and so is what was written beside it; copy it from where it is whole$"):
        repair(path)
    (path / ".zarr.json.spare").unlink()
    with pytest.raises(DatasetError, match=says) as error:
        repair(path)
    assert "robolearn dataset repair" not in one_line(error)


def test_a_root_file_that_is_gone_is_put_back_with_all_that_was_recorded(path: Path) -> None:
    before = ZarrStore.open(path).episodes
    (path / "zarr.json").unlink()
    with pytest.raises(DatasetError, match=f"has no zarr.json; mend it with: robolearn dataset repair {path}$"):
        ZarrStore.open(path)
    assert repair(path).mended == ["zarr.json"]
    store = ZarrStore.open(path)
    assert store.episodes == before
    with store.writer() as writer:
        record(writer, 3, 10)
    assert verify(path).ok


@pytest.mark.parametrize("kind", [MARK, GROUP, OUTCOME])
def test_a_journal_of_something_else_is_told_and_hides_nothing(path: Path, kind: int) -> None:
    for name in ("other", "pipe"):
        (path / ".recording" / name).mkdir(parents=True)
    os.mkfifo(path / ".recording" / "pipe" / JOURNAL)
    records = [(META, b'{"meta": {}, "rows": {}, "pictures": []}'), (kind, b"[1]")]
    told = b"".join(HEADER.pack(len(data), each, zlib.crc32(data)) + data for each, data in records)
    (path / ".recording" / "other" / JOURNAL).write_bytes(MAGIC + told)
    left = ZarrStore.open(path).unfinished
    assert ["its episode cannot be told; drop it" in one.problem for one in left] == [True, True]
    assert repair(path).left == ["other", "pipe"]
    steps = [(META, b'{"meta": {}, "rows": {"action": ["float32", [3]]}, "pictures": []}'), (STEP, b"short")]
    told = b"".join(HEADER.pack(len(data), each, zlib.crc32(data)) + data for each, data in steps)
    (path / ".recording" / "other" / JOURNAL).write_bytes(MAGIC + told)
    with pytest.raises(DatasetError, match=r"its steps are not as it tells \(.*drop this episode$") as error:
        repair(path)
    one_line(error)
    assert len(ZarrStore.open(path).episodes) == 2


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(path: Path) -> None:
    for name in ("action/c.0.0", "zarr.json"):
        (path / name).unlink()
        os.mkfifo(path / name)
        with pytest.raises(DatasetError, match=name) as error:
            ZarrStore.open(path).read(0, ["action"])
        one_line(error)


@pytest.mark.parametrize("name", ["columns", "streams"])
def test_a_field_that_is_named_as_a_folder_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=f"keeps things of its own in {name}; rename that field"):
        ZarrStore.create(tmp_path / "d", replace(dataset_spec(), extra={name: ArraySpec(())}))
    with pytest.raises(DatasetError, match="cannot be written as JSON"):  # that other readers know
        ZarrStore.create(tmp_path / "d", replace(dataset_spec(), cameras={"front": {"focal_length": float("inf")}}))
    assert not (tmp_path / "d").exists()


def test_what_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "zarr.json").write_text("{ not json")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "zarr.json").write_text("[" * 100_000)
    alien = zarr.create_group(tmp_path / "alien")
    alien.create_array("action", shape=(3,), dtype="float32")
    for name, says in {
        "empty": "not a dataset",
        "file": "not a dataset",
        "text": "not JSON",
        "deep": "not JSON",
        "alien": "no robolearn",
    }.items():
        with pytest.raises(DatasetError, match=says) as error:
            ZarrStore.open(tmp_path / name)
        one_line(error)
    with pytest.raises(DatasetError, match="does not exist"):
        ZarrStore.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("alter", "says"),
    [
        (lambda d: d.update(data_type="float64"), "field action has data_type float64"),
        (lambda d: d.update(shape=[10, 3]), "field action has shape"),
        (lambda d: d.update(shape=[7, 2]), "field action has 7 steps, the episode table 10"),
        (lambda d: d.update(codecs=[]), "field action: the array's metadata is damaged"),
        (lambda d: d["codecs"][0]["configuration"].update(chunk_shape=[1000, 2]), "field action has shards of"),
        (lambda d: d["codecs"][0]["configuration"].update(chunk_shape=[0, 2]), "field action has shards of"),
        (lambda d: "text", "field action: the array's metadata is damaged"),
    ],
)
def test_array_metadata(path: Path, alter: Callable[[Any], Any], says: str) -> None:
    change(path / "action" / "zarr.json", alter)
    store = ZarrStore.open(path)
    with pytest.raises(DatasetError, match=says) as error:
        store.read(0, ["action"])
    assert str(path / "action") in one_line(error)
    assert list(store.damaged_fields.values()) == verify(path).problems == info(path)["damaged_fields"]
    assert store.read(1, ["proprio"])["proprio"][0, 0] == 5
    edit.delete(path, [0])
    with pytest.raises(DatasetError, match="field action"):
        store.writer()


@pytest.mark.parametrize("field", ["action", "image_front", "valid"])
@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda file: cut(file),
        lambda file: file.write_text("[" * 100_000),
        lambda file: change(file, lambda d: d.update(data_type="int16")),
    ],
)
def test_array_metadata_that_is_damaged_is_mended(path: Path, field: str, damage: Callable[[Path], Any]) -> None:
    layout = ZarrStore.open(path).reader(field).layout
    if layout.chunk_rows > 1:  # as versions before wrote them
        (shard,) = (path / field).glob("c.*")
        values = layout.empty_chunk()
        ArrayReader(LocalFiles(path), layout).read(0, 10, values[:10])
        larger = replace(layout, shard_rows=65536)
        whole = np.concatenate([values, *[layout.empty_chunk()] * (larger.chunks_per_shard - 1)])
        shard.write_bytes(write_shard(larger, whole))
        (path / field / "zarr.json").write_bytes(array_metadata(larger, 10))
        assert verify(path).ok
    before = ZarrStore.open(path).read(1)
    damage(path / field / "zarr.json")
    with pytest.raises(DatasetError, match=f"field {field}.*; mend it with: robolearn dataset repair {path}$") as error:
        ZarrStore.open(path).reader(field)
    one_line(error)
    assert not verify(path).ok
    assert repair(path, dry_run=True).mended == repair(path).mended == [field]
    assert verify(path).ok
    np.testing.assert_array_equal(ZarrStore.open(path).read(1)["action"], before["action"])


def test_a_field_that_is_lost_leaves_the_others(path: Path) -> None:
    shutil.rmtree(path / "action")
    assert repair(path).mended == ["action"]
    store = ZarrStore.open(path)
    assert store.read(1, ["proprio"])["proprio"][0, 0] == 5
    with pytest.raises(DatasetError, match="field action misses this shard"):
        store.read(1)
    assert "field action misses this shard" in verify(path).problems[0]


def test_arrays_longer_than_the_table_are_read_to_its_end_and_mended(path: Path) -> None:
    change(path / "action" / "zarr.json", lambda d: d.update(shape=[12, 2]))
    assert len(ZarrStore.open(path).read(1)["action"]) == 5
    found = verify(path)
    assert "field action has 12 steps, the episode table 10" in found.problems[0]
    assert repair(path, dry_run=True).mended == ["action"]
    with ZarrStore.open(path).writer() as writer:
        record(writer, 3, 10)
    assert verify(path).ok


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[10] ^= 0xFF
    file.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, Path.unlink, lambda file: file.write_bytes(b"")])
@pytest.mark.parametrize("field", ["action", "image_front", "valid", "stamp_ns"])
def test_shards(path: Path, field: str, damage: Callable[[Path], Any]) -> None:
    (shard,) = (path / field).glob("c.*")
    damage(shard)
    store = ZarrStore.open(path)
    read = {"valid": store.read_valid, "stamp_ns": store.read_stamps}.get(field, store.read)
    with pytest.raises(DatasetError, match=f"field {field}") as error:
        read(0)
    assert str(shard) in one_line(error)
    found = verify(path)
    assert not found.ok
    assert any(str(shard) in problem for problem in found.problems)
    others = [name for name in store.spec.fields if name != field]
    assert store.read(1, others)["proprio"][0, 0] == 5


@pytest.mark.parametrize("at_once", [1, 1000, 1 << 20])
def test_one_damaged_picture_among_many_that_are_read_at_once(
    path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ZarrStore.open(path).read(0, ["image_front"])["image_front"]
    monkeypatch.setattr("robolearn.datasets.shards.READ_AT_ONCE", at_once)
    np.testing.assert_array_equal(ZarrStore.open(path).read(0, ["image_front"])["image_front"], whole)
    file = next((path / "image_front").glob("c*"))
    data = bytearray(file.read_bytes())
    chunks = ZarrStore.open(path).reader("image_front").layout.chunks_per_shard
    offset, length = np.frombuffer(data[-16 * chunks - 4 : -4], "<u8").reshape(-1, 2)[3].tolist()
    data[offset + length // 2] ^= 1
    file.write_bytes(data)
    store = ZarrStore.open(path)
    with pytest.raises(DatasetError, match="field image_front: row 3 is damaged"):
        store.read(0, ["image_front"])
    np.testing.assert_array_equal(store.read(0, ["image_front"], 0, 3)["image_front"], whole[:3])
    np.testing.assert_array_equal(store.read(0, ["image_front"], 4)["image_front"], whole[4:])


@pytest.mark.parametrize("field", ["action", "image_front", "valid"])
def test_a_chunk_that_is_missing(path: Path, field: str) -> None:
    """The index says that it was never written."""
    (shard,) = (path / field).glob("c.*")
    layout = ZarrStore.open(path).reader(field).layout
    data = shard.read_bytes()
    index = np.frombuffer(data[-layout.index_bytes : -4], "<u8").copy()
    index[:2] = np.iinfo(np.uint64).max
    shard.write_bytes(data[: -layout.index_bytes] + with_checksum(index.tobytes()))
    problems = verify(path).problems
    assert any(f"field {field}: " in problem and "missing" in problem for problem in problems)
    assert all(str(path / field) in problem for problem in problems)
    if field == "action":
        with pytest.raises(DatasetError, match="field action: rows 0 to 1023 are missing"):
            ZarrStore.open(path).read(0, ["action"])


def test_a_damaged_shard_stops_the_writer_and_is_left_as_it_is(path: Path) -> None:
    (shard,) = (path / "action").glob("c.*")
    cut(shard)
    before = shard.read_bytes()
    with ZarrStore.open(path).writer() as writer, pytest.raises(DatasetError, match="field action"):
        record(writer, 200)
    assert shard.read_bytes() == before
    assert len(ZarrStore.open(path).episodes) == 2


def test_contradictions_are_found(path: Path) -> None:
    change(path / "zarr.json", lambda d: d["attributes"]["newest_episodes"][0]["masked"].update(action=3))
    (problem,) = verify(path).problems
    assert "action is masked in 0 steps, the episode table says 3" in problem


def test_verify_warns_of_gaps_and_cameras_that_stand_still(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec())
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        for number in range(50):
            values = {**step(number), "image_wrist": step(7)["image_wrist"]}
            writer.append(values, stamps(number + (number > 20) * 10))  # type: ignore[arg-type]
        writer.commit(SUCCESS)
    found = verify(tmp_path / "d")
    assert found.ok
    text = "\n".join(found.warnings)
    assert "proprio has 1 gaps in time, the longest of 0.363 s" in text
    assert "image_wrist shows one and the same picture for 50 steps" in text
    assert "image_front shows" not in text


def test_verify_finds_what_contradicts_the_spec(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec())
    with store.writer() as writer:
        writer.begin(EpisodeMeta(id="odd"))
        for number in (0, 2, 1):
            sent = np.array([2e5 if number == 2 else 0, 0], np.float32)
            writer.append({**step(number), "action": sent, "action_sent": sent}, stamps(number))  # type: ignore[arg-type]
        writer.commit(SUCCESS)
    found = verify(tmp_path / "d")
    assert any("action is outside the limits of shoulder in 1 steps; the safety" in text for text in found.warnings)
    text = "\n".join(found.problems)
    assert "episode 0 (odd): action_sent is outside the limits of shoulder in 1 steps" in text
    assert "the capture stamps of proprio run backwards after step 1" in text


def test_info_counts(path: Path) -> None:
    answer = info(path)
    assert (answer["episodes"], answer["steps"], answer["successes"]) == (2, 10, 2)
    assert answer["action_sources"] == {"script": 10}
    assert answer["fields"]["image_front"]["shape"] == [16, 16, 3]
    assert answer["bytes"] > answer["fields"]["image_front"]["bytes"] > 0
    assert answer["files"] == sum(1 for file in path.rglob("*") if file.is_file())
    json.dumps(answer)


def test_a_copy_is_a_dataset(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path, tmp_path / "copy")
    assert verify(tmp_path / "copy").ok


SENSOR = StreamSpec(ArraySpec((2,)), rate_hz=100.0)
ARRAYS = tuple(array_layouts(replace(dataset_spec(), streams={"force": SENSOR})))


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset of two episodes, and what it was when it had the first one only."""
    folder = tmp_path_factory.mktemp("grown")
    store = ZarrStore.create(folder / "after", replace(dataset_spec(), streams={"force": SENSOR}))
    with store.writer() as writer:
        for number in range(2):
            writer.begin(EpisodeMeta())
            for each in range(5 * number + 1, 5 * number + 6):  # a value that differs from what is missing
                writer.append({**step(each, ActionSource.POLICY), "held": True}, stamps(each))  # type: ignore[arg-type]
                writer.append_stream("force", np.full((1, 2), each), [stamps(each)["action"]])
            writer.commit(SUCCESS)
            if number == 0:
                shutil.copytree(folder / "after", folder / "before", ignore=shutil.ignore_patterns(".recording"))
    return folder / "before", folder / "after"


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("earlier", ["c.*", "*"])
def test_a_copy_that_was_made_while_somebody_recorded(
    grown: tuple[Path, Path], tmp_path: Path, array: str, earlier: str
) -> None:
    """The shards of an array, or all of its files, were copied before an episode was committed, the rest after."""
    (before, after), copy = grown, tmp_path / "copy"
    shutil.copytree(after, copy)
    for file in (before / array).glob(earlier):
        shutil.copy(file, copy / array)
    if earlier == "*":
        with pytest.raises(DatasetError, match=f"the array was cut or replaced; mend it with: .* repair {copy}$"):
            ZarrStore.open(copy).reader(array)
        assert not verify(copy).ok
        assert repair(copy).mended == [array]
    store = ZarrStore.open(copy)
    problems = verify(copy).problems
    assert any(problem.startswith(f"episode 1 ({store.episodes[1].id}): ") for problem in problems)
    assert not any(problem.startswith("episode 0 ") for problem in problems)
    for name, values in ZarrStore.open(before).read(0).items():
        np.testing.assert_array_equal(store.read(0, [name])[name], values)
    edit.delete(copy, [1])
    assert verify(copy).ok


def test_what_is_cut_off_of_an_episode_changes_its_checksum(grown: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(grown[1], copy)
    whole = ZarrStore.open(copy).episodes[1]
    assert whole.checksum is not None
    edit.trim(copy, 1, 1, 5)
    assert ZarrStore.open(copy).episodes[1].checksum is None
    assert verify(copy).ok
    edit.collect_garbage(copy)
    assert ZarrStore.open(copy).episodes[1].checksum not in (None, whole.checksum)
    assert verify(copy).ok


def test_a_dataset_of_schema_1_is_read_and_added_to(path: Path) -> None:
    before = ZarrStore.open(path).read(1)

    as_schema_2(path)

    def older(data: dict[str, Any]) -> None:
        attributes = data["attributes"]
        attributes["schema_version"] = 1
        del attributes["statistics"], attributes["spec"]["image_codecs"], attributes["spec"]["streams"]
        attributes["spec"]["image_codec"] = {"name": "jpeg", "quality": 90}
        for row in attributes["episodes"]:
            del row["annotations"], row["streams"]

    change(path / "zarr.json", older)
    store = ZarrStore.open(path)
    assert store.schema_version == 1
    for name, values in store.read(1).items():
        np.testing.assert_array_equal(values, before[name])
    with store.writer() as writer:
        record(writer, 3, 10)
    assert ZarrStore.open(path).schema_version == 3
    assert verify(path).ok
    assert info(path)["fields"]["action"]["mean"] is not None
