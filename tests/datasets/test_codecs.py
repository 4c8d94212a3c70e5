"""Lossy and lossless pictures, one a chunk or in groups, chosen per field."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from painted import CAMERAS, ROBOT, SUCCESS, dataset, dataset_spec, painted_number, record, stamps, step

from robolearn.datasets import edit
from robolearn.datasets.repair import repair
from robolearn.datasets.sampler import Sampler, SamplerConfig
from robolearn.datasets.store import DatasetSpec, EpisodeMeta, ImageCodec
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_codecs import VideoGroups
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, UnknownNameError
from robolearn.specs import ArraySpec, InterfaceSpec, image_spec

HERE = Path(__file__).parent
VIDEO = ImageCodec("h264", crf=18, group=4)

if "robolearn_video" not in {point.name for point in entry_points(group="zarr.codecs")}:
    zarr.registry.register_codec("robolearn_video", VideoGroups)  # installed by an older setup.py


def numbers(store: ZarrStore, index: int) -> list[int]:
    read = store.read(index)
    found = read["action"][:, 0].astype(int).tolist()
    for camera in CAMERAS:
        assert [painted_number(image) for image in read[camera]] == found
    return found


def smooth(rng: np.random.Generator, number: int, size: int = 64) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size] / size
    phases = rng.uniform(0, 6, 3) + np.arange(number)[:, None] * 0.05
    images = [[128 + 60 * np.sin(5 * x + phase + 3 * y) for phase in row] for row in phases]
    return np.moveaxis(np.array(images), 1, -1).astype(np.uint8)


@pytest.mark.parametrize(
    ("codec", "worst"),
    [
        (ImageCodec("jpeg"), 4.0),
        (ImageCodec("jpegxl", distance=1.0), 4.0),
        (ImageCodec("jpegxl"), 0.0),
        (ImageCodec("zstd"), 0.0),
        (ImageCodec("h264"), 4.0),
        (ImageCodec("av1", crf=30, group=8), 4.0),
    ],
)
def test_every_codec_reads_what_was_written(tmp_path: Path, codec: ImageCodec, worst: float) -> None:
    observation = {"image_front": image_spec(64, 64), "depth_front": ArraySpec((64, 64), "uint16", "mm")}
    spec = DatasetSpec(ROBOT, InterfaceSpec(observation, ROBOT.action_spec, 30.0), image_codec=codec)
    rng = np.random.default_rng(0)
    images, depth = smooth(rng, 21), rng.integers(0, 65536, (21, 64, 64)).astype(np.uint16)
    store = ZarrStore.create(tmp_path / "d", spec)
    with store.writer() as writer:
        for low, high in ((0, 5), (5, 6), (6, 21)):
            writer.begin(EpisodeMeta())
            for number in range(low, high):
                writer.append({"image_front": images[number], "depth_front": depth[number]}, {})
            writer.commit(SUCCESS)
    opened = ZarrStore.open(tmp_path / "d")
    read = [opened.read(index) for index in range(3)]
    group = zarr.open_group(tmp_path / "d", mode="r")
    rows = np.concatenate([np.arange(e.start, e.stop) for e in opened.episodes])
    got = np.concatenate([part["image_front"] for part in read])
    np.testing.assert_array_equal(np.concatenate([part["depth_front"] for part in read]), depth)
    np.testing.assert_array_equal(group["depth_front"][:][rows], depth)  # type: ignore[index]
    np.testing.assert_array_equal(group["image_front"][:][rows], got)  # type: ignore[index]
    assert np.sqrt(np.mean((got.astype(float) - images) ** 2)) <= worst
    assert np.abs(got.astype(float) - images).mean(axis=(1, 2, 3)).max() <= worst
    assert verify(tmp_path / "d").ok


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 11), min_size=1, max_size=4), group=st.sampled_from([2, 4, 8]))
def test_no_group_has_two_episodes(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], group: int) -> None:
    path = tmp_path_factory.mktemp("groups") / "d"
    store = dataset(path, lengths, replace(VIDEO, group=group))
    opened, first = ZarrStore.open(path), 0
    for index, length in enumerate(lengths):
        wanted = list(range(first, first + length))
        assert numbers(opened, index) == wanted
        assert opened.episodes[index].start % group == 0
        for start in range(length):
            part = opened.read(index, ["image_front"], start, min(start + 3, length))["image_front"]
            assert [painted_number(image) for image in part] == wanted[start : start + 3]
        first += length
    assert store.episodes == opened.episodes


def test_codecs_by_field(tmp_path: Path) -> None:
    spec = replace(dataset_spec(ImageCodec("jpegxl")), image_codecs={"image_wrist": VIDEO})
    store = ZarrStore.create(tmp_path / "d", spec)
    with store.writer() as writer:
        for first in (0, 7):
            record(writer, 7, first)
    opened = ZarrStore.open(tmp_path / "d")
    assert opened.spec == spec
    assert numbers(opened, 1) == list(range(7, 14))
    np.testing.assert_array_equal(opened.read(0)["image_front"][3], step(3)["image_front"])
    with pytest.raises(UnknownNameError, match="image_wrist"):
        replace(spec, image_codecs={"image_wirst": VIDEO})
    with pytest.raises(DatasetError, match="av1 wants even sizes"):
        dataset_spec(ImageCodec("av1"))
    for wrong in ({"name": "gif"}, {"name": "h264", "group": 3}, {"name": "jpegxl", "distance": 99.0}):
        with pytest.raises(DatasetError, match="image codec is"):
            ImageCodec(**wrong)  # type: ignore[arg-type]


def test_a_missing_frame_is_masked_and_shifts_nothing(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec(VIDEO))
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        for number in range(11):
            values = step(number)
            if number in (0, 3, 4, 9):
                del values["image_front"]
            writer.append(values, stamps(number))  # type: ignore[arg-type]
        writer.commit(SUCCESS)
    valid, read = store.read_valid(0)["image_front"], store.read(0)["image_front"]
    assert np.flatnonzero(~valid).tolist() == [0, 3, 4, 9]
    for number in np.flatnonzero(valid).tolist():
        assert painted_number(read[number]) == number
    assert not read[0].any()  # nothing came before it
    assert painted_number(read[4]) == 2  # the last one that came
    assert verify(tmp_path / "d").ok


def test_groups_are_copied_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "d"
    dataset(path, [5, 11, 6], VIDEO)
    before = ZarrStore.open(path).read(1)["image_front"]
    assert edit.collect_garbage(path) == 0
    edit.trim(path, 1, 3, 10)
    edit.delete(path, [0])
    edit.collect_garbage(path)
    store = ZarrStore.open(path)
    assert [numbers(store, 0), numbers(store, 1)] == [list(range(8, 15)), list(range(16, 22))]
    np.testing.assert_array_equal(store.read(0)["image_front"], before[3:10])
    assert edit.collect_garbage(path) == 0
    edit.split(path, {tmp_path / "a": [0], tmp_path / "b": [1]})
    edit.merge([tmp_path / "b", tmp_path / "a"], tmp_path / "c")
    merged = ZarrStore.open(tmp_path / "c")
    np.testing.assert_array_equal(merged.read(1)["image_front"], before[3:10])
    assert verify(tmp_path / "c").ok


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 11])
def test_salvaged_with_every_frame(tmp_path: Path, length: int) -> None:
    path = tmp_path / "d"
    with dataset(path, [6], VIDEO).writer() as writer:
        writer.begin(EpisodeMeta(id="left"))
        for number in range(6, 6 + length):
            values = step(number)
            if number == 8:
                del values["image_front"]
            writer.append(values, stamps(number))  # type: ignore[arg-type]
    assert [left.length for left in ZarrStore.open(path).unfinished] == [length]
    assert repair(path, "salvage").salvaged == ["left"]
    store = ZarrStore.open(path)
    read, valid = store.read(1), store.read_valid(1)["image_front"]
    assert read["action"][:, 0].tolist() == list(range(6, 6 + length))
    for number in range(length):
        assert painted_number(read["image_wrist"][number]) == 6 + number
        assert valid[number] == (number != 2)
        assert painted_number(read["image_front"][number]) == (7 if number == 2 else 6 + number)
    assert verify(path).ok
    assert not (path / ".recording").exists()


def test_killed_at_random(tmp_path: Path) -> None:
    path = tmp_path / "d"
    ZarrStore.create(path, dataset_spec(VIDEO))
    command = [sys.executable, str(HERE / "kill_writer.py"), "random", str(path), "3", "12"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        told, found = map(int, line.split())
        assert found in (told, told + 1)
    store = ZarrStore.open(path)
    stops = [0, *(episode.stop for episode in store.episodes)]
    assert [numbers(store, index)[0] for index in range(len(store.episodes))] == stops[:-1]
    left = len(store.unfinished)
    assert len(repair(path, "salvage").salvaged) == left
    assert verify(path).ok


def test_damage_names_file_and_row(tmp_path: Path) -> None:
    path = tmp_path / "d"
    dataset(path, [9], VIDEO)
    (shard,) = (path / "image_front").glob("c.*")
    data = bytearray(shard.read_bytes())
    data[20] ^= 0xFF
    shard.write_bytes(data)
    with pytest.raises(DatasetError, match="field image_front: row 0 is damaged") as error:
        ZarrStore.open(path).read(0, ["image_front"])
    assert str(shard) in str(error.value)
    assert not verify(path).ok


def test_hostile_groups_are_errors() -> None:
    codec = __import__("robolearn.datasets.video_codec", fromlist=["Video"]).Video("h264", 20, 4)
    good = codec.encode(np.zeros((4, 16, 16, 3), np.uint8))
    out = np.empty((4, 32, 32, 3), np.uint8)
    for data in (b"", b"\xff\xff", good[:-1], good + b"x", b"\x01\x00\x04\x00\x00\x00junk"):
        with pytest.raises(ValueError, match="video"):
            codec.decode(data, out)
    with pytest.raises(ValueError, match="16x16"):
        codec.decode(good, out)


def test_a_sampler_reads_video(tmp_path: Path) -> None:
    store = dataset(tmp_path / "d", [5, 9], VIDEO)
    for cache in (0, 1 << 20):
        sampler = Sampler(store, SamplerConfig(("proprio", "image_front"), 2, 2, cache_bytes=cache))
        batch = sampler.sample(40, np.random.default_rng(0))
        seen = [[painted_number(image) for image in row] for row in batch["image_front"]]
        assert seen == batch["proprio"][:, :, 0].astype(int).tolist()
