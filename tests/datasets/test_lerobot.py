"""LeRobot folders: against facts about their layout, against their own library where there is one, hostile ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from painted import CAMERAS, SUCCESS, dataset, dataset_spec, paint, painted_number, record, stamps, step

from robolearn.algorithms.bc import BCConfig
from robolearn.datasets.convert import export_dataset, import_dataset, lerobot_write
from robolearn.datasets.convert import lerobot as lerobot_read
from robolearn.datasets.convert.lerobot_layout import Folder
from robolearn.datasets.convert.source import ImportSettings
from robolearn.datasets.store import EpisodeMeta, ImageCodec
from robolearn.datasets.verify import verify
from robolearn.datasets.video import VideoReader, VideoWriter
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.policies.checkpoint import load_policy
from robolearn.policies.chunking import ChunkPolicyConfig
from robolearn.recipes.train_offline import train_offline
from robolearn.specs import ArraySpec, image_spec
from robolearn.types import EpisodeOutcome, Observation

parquet = pytest.importorskip("pyarrow.parquet")
pyarrow = pytest.importorskip("pyarrow")

LEROBOT = os.environ.get("ROBOLEARN_LEROBOT_PYTHON")  # an interpreter that has lerobot 0.4.x


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ZarrStore:
    """Two episodes; in the second one a picture and an action are lost."""
    monkeypatch.setattr(lerobot_write, "BATCH_ROWS", 32)
    store = ZarrStore.create(tmp_path / "d", dataset_spec(ImageCodec("jpegxl")))
    with store.writer() as writer:
        for first, length in ((0, 3), (3, 80)):
            writer.begin(EpisodeMeta("push-v1", f"push it {first}", first, tags={"table": 3}))
            for number in range(first, first + length):
                values = step(number)
                if number == 6:
                    del values["image_wrist"]
                if number == 9:
                    del values["action"]
                writer.append(values, stamps(number), stamps(number + 1))  # type: ignore[arg-type]
            writer.commit(SUCCESS if first else EpisodeOutcome(None, False, True, "stopped"))
    return store


@pytest.mark.parametrize("name", ["lerobot", "lerobot-images"])
def test_there_and_back(store: ZarrStore, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "at-15:00").mkdir()  # which is no URL
    out = Path("at-15:00/out")
    lost = export_dataset(store, name, out).lost
    assert any(line.startswith("action: 1 masked") for line in lost)
    assert ("pictures are coded as video (h264), which changes them" in lost) == (name == "lerobot")
    assert import_dataset("lerobot", out, tmp_path / "back").lost == []
    back = ZarrStore.open(tmp_path / "back")
    assert verify(back.path).ok
    assert back.spec == store.spec
    told = [[replace(row, checksum=None) for row in each.episodes] for each in (back, store)]
    assert told[0] == told[1]  # what was masked is the value before it by now
    for index in range(2):
        valid = store.read_valid(index)
        for read in ("read_stamps", "read_valid"):
            for field, values in getattr(store, read)(index).items():
                np.testing.assert_array_equal(getattr(back, read)(index)[field], values, err_msg=field)
        theirs = back.read(index)
        for field, values in store.read(index).items():
            there = valid.get(field, np.ones(len(values), bool))
            if field in CAMERAS and name == "lerobot":
                assert [painted_number(p) for p in theirs[field][there]] == [painted_number(p) for p in values[there]]
            else:
                np.testing.assert_array_equal(theirs[field][there], values[there], err_msg=field)


def test_layout_is_that_of_v3(store: ZarrStore, tmp_path: Path) -> None:
    root = tmp_path / "out"
    export_dataset(store, "lerobot", root)
    info = json.loads((root / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"], info["total_frames"]) == ("v3.0", 30, 2, 83)
    assert info["features"]["observation.images.front"]["dtype"] == "video"
    assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": ["shoulder", "gripper"]}
    table = parquet.read_table(root / "data/chunk-000/file-000.parquet")
    assert table.column("index").to_pylist() == list(range(83))
    assert table.column("frame_index").to_pylist() == [*range(3), *range(80)]
    np.testing.assert_allclose(table.column("timestamp").to_pylist(), [f / 30 for f in [*range(3), *range(80)]], 1e-6)
    assert table.schema.field("action").type == pyarrow.list_(pyarrow.float32(), 2)
    assert table.column("action").to_pylist()[9] == [8.0, 8.0]  # where it is missing: what came before
    rows = parquet.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(row["dataset_from_index"], row["dataset_to_index"], row["length"]) for row in rows] == [
        (0, 3, 3),
        (3, 83, 80),
    ]
    assert rows[1]["videos/observation.images.wrist/from_timestamp"] == pytest.approx(3 / 30)
    assert rows[1]["tasks"] == ["push it 3"]
    tasks = parquet.read_table(root / "meta/tasks.parquet").to_pylist()
    assert tasks[1] == {"task_index": 1, "__index_level_0__": "push it 3"}
    stats = json.loads((root / "meta/stats.json").read_text())
    assert np.shape(stats["observation.images.front"]["q99"]) == (3, 1, 1)
    assert stats["observation.state"]["max"] == [82.0] * 4
    assert stats["observation.state"]["mean"] == pytest.approx([41.0] * 4)
    assert stats["observation.state"]["std"] == pytest.approx([np.arange(83).std()] * 4)
    with VideoReader("front") as reader:
        video = root / "videos/observation.images.front/chunk-000/file-000.mp4"
        for number in range(83):
            frame = reader.read(video, number / 30, 0.01)
            assert frame is not None
            assert painted_number(frame) == number


def test_what_lerobot_would_refuse_or_take_for_something_else(tmp_path: Path) -> None:
    """A rate that is no fraction, a picture that is not observed, numbers whose name sounds like a picture's."""
    spec = dataset_spec(ImageCodec("jpegxl"), cameras=("image_front",))
    interface = replace(spec.interface, control_hz=33.3333)
    extra = {"image_wrist": image_spec(16, 16), "image_score": ArraySpec((2,))}
    store = ZarrStore.create(tmp_path / "d", replace(spec, interface=interface, extra=extra))
    with store.writer() as writer:
        for first, length in ((0, 5), (5, 3)):
            writer.begin(EpisodeMeta())
            for number in range(first, first + length):
                values = step(number) | {"image_score": np.full(2, number)}
                writer.append(values, stamps(number) | {"image_score": number})  # type: ignore[arg-type]
            writer.commit(SUCCESS)
    root = tmp_path / "out"
    lost = export_dataset(store, "lerobot", root).lost
    assert [line.partition(",")[0] for line in lost if "camera" in line] == [
        "image_wrist is nothing that the policy observes"
    ]
    key = "observation.images.wrist"
    with av.open(str(root / f"videos/{key}/chunk-000/file-000.mp4")) as video:
        times_s = [frame.time for frame in video.decode(video=0)]
    rows = parquet.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert rows[1][f"videos/{key}/from_timestamp"] == pytest.approx(times_s[5], abs=1e-9)
    stats = json.loads((root / "meta/stats.json").read_text())
    assert "robolearn.image_score" not in stats
    assert np.shape(stats[key]["mean"]) == (3, 1, 1)
    each = [[row[f"stats/action/{name}"][0] for row in rows] for name in ("q10", "q50", "q90")]
    assert [stats["action"][name][0] for name in ("q10", "q50", "q90")] == [min(each[0]), min(each[1]), max(each[2])]
    assert import_dataset("lerobot", root, tmp_path / "back").lost == []


@pytest.mark.parametrize(("height", "pixels"), [(16, "yuv420p"), (15, "yuv444p")])
def test_the_layout_tells_of_the_pixels_of_its_video(tmp_path: Path, height: int, pixels: str) -> None:
    spec = dataset_spec(ImageCodec("jpegxl"), cameras=())
    observation = {**spec.interface.observation, "image_front": image_spec(height, 16)}
    store = ZarrStore.create(tmp_path / "d", replace(spec, interface=replace(spec.interface, observation=observation)))
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        values = {name: value for name, value in step(1).items() if not name.startswith("image_")}
        writer.append(values | {"image_front": np.zeros((height, 16, 3), np.uint8)}, {})  # type: ignore[arg-type]
        writer.commit(SUCCESS)
    export_dataset(store, "lerobot", tmp_path / "out")
    told = json.loads((tmp_path / "out/meta/info.json").read_text())["features"]["observation.images.front"]["info"]
    with av.open(str(tmp_path / "out/videos/observation.images.front/chunk-000/file-000.mp4")) as video:
        assert told["video.pix_fmt"] == video.streams.video[0].codec_context.pix_fmt == pixels


def foreign(root: Path, version: str = "v3.0") -> None:
    """Two episodes of three steps as LeRobot writes them, v3.0 or v2.1; every value is the step's number."""
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": ["a.pos", "b.pos"]},
        "observation.effort": {"dtype": "float32", "shape": [1], "names": None},
        "observation.images.top": {"dtype": "video", "shape": [16, 16, 3], "names": ["height", "width", "channels"]},
        "action": {"dtype": "float32", "shape": [2], "names": {"motors": ["a", "b"]}},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
        "note": {"dtype": "string", "shape": [1], "names": None},
        "columns": {"dtype": "float32", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **{n: {"dtype": "int64", "shape": [1], "names": None} for n in ("frame_index", "episode_index", "index")},
        "task_index": {"dtype": "int64", "shape": [1], "names": None},
    }
    v3 = version == "v3.0"
    place = "chunk-{chunk_index:03d}/file-{file_index:03d}"
    data = f"data/{place}.parquet" if v3 else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    video = "videos/{video_key}/" + place + ".mp4"
    if not v3:
        video = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    info = {"codebase_version": version, "robot_type": "so101", "fps": 30, "chunks_size": 1000, "features": features}
    info |= {"data_path": data, "video_path": video}
    (root / "meta").mkdir(parents=True)
    (root / "meta/info.json").write_text(json.dumps(info))
    numbers = np.arange(6, dtype=np.float32)
    pair = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.repeat(numbers, 2)), 2)
    ends = np.isin(numbers, [2, 5])
    table = pyarrow.table(
        {
            "observation.state": pair,
            "observation.effort": numbers,
            "action": pair,
            "next.reward": numbers,
            "next.done": ends,
            "next.success": numbers == 5,
            "note": ["x"] * 6,
            "columns": numbers,
            "timestamp": (numbers % 3 / 30).astype(np.float32),
            "frame_index": numbers.astype(np.int64) % 3,
            "episode_index": numbers.astype(np.int64) // 3,
            "index": numbers.astype(np.int64),
            "task_index": np.zeros(6, np.int64),
        }
    )
    key = "observation.images.top"
    if v3:
        (root / "data/chunk-000").mkdir(parents=True)
        parquet.write_table(table, root / "data/chunk-000/file-000.parquet")
        with VideoWriter(root / f"videos/{key}/chunk-000/file-000.mp4", 30, (16, 16, 3)) as writer:
            for number in range(6):
                writer.append(paint(number))
        rows = [
            {
                "episode_index": e,
                "tasks": [f"task {e}", *["put it back"] * e],
                "length": 3,
                **{f"{what}/{part}_index": 0 for what in ("data", f"videos/{key}") for part in ("chunk", "file")},
                f"videos/{key}/from_timestamp": e * 3 / 30,
                f"videos/{key}/to_timestamp": (e + 1) * 3 / 30,
            }
            for e in range(2)
        ]
        (root / "meta/episodes/chunk-000").mkdir(parents=True)
        parquet.write_table(pyarrow.Table.from_pylist(rows), root / "meta/episodes/chunk-000/file-000.parquet")
        return
    (root / "data/chunk-000").mkdir(parents=True)
    lines = []
    for episode in range(2):
        parquet.write_table(table.slice(3 * episode, 3), root / f"data/chunk-000/episode_{episode:06d}.parquet")
        with VideoWriter(root / f"videos/chunk-000/{key}/episode_{episode:06d}.mp4", 30, (16, 16, 3)) as writer:
            for number in range(3 * episode, 3 * episode + 3):
                writer.append(paint(number))
        tasks = [f"task {episode}", *["put it back"] * episode]
        lines.append(json.dumps({"episode_index": episode, "tasks": tasks, "length": 3}))
    (root / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("version", ["v3.0", "v2.1", "v2.0"])
def test_a_dataset_of_somebody_else(tmp_path: Path, version: str) -> None:
    foreign(tmp_path / "in", version)
    settings = ImportSettings(image_codec=ImageCodec("jpegxl"))
    done = import_dataset("lerobot", tmp_path / "in", tmp_path / "d", settings)
    assert done.lost[0] == "note (string [1]) is not kept"
    assert "1 episodes have several tasks; the first one stands for all of their steps" in done.lost
    store = ZarrStore.open(tmp_path / "d")
    assert verify(store.path).ok
    assert store.spec.robot.joint_names == ("a", "b")
    assert store.spec.interface.observation["proprio"].names == ("a.position", "b.position", "observation.effort.0")
    assert [(row.instruction, row.success, row.terminated) for row in store.episodes] == [
        ("task 0", False, False),
        ("task 1", True, True),
    ]
    for index in range(2):
        numbers = [3 * index + k for k in range(3)]
        read = store.read(index)
        assert [painted_number(image) for image in read["image_top"]] == numbers
        assert read["reward"].tolist() == read["action"][:, 1].tolist() == read["proprio"][:, 2].tolist() == numbers
        assert read["x_columns"].tolist() == numbers  # the name is that of a folder of ours
        np.testing.assert_allclose(store.read_stamps(index)["action"][:, 0], [0, 1e9 / 30, 2e9 / 30], atol=20)


def numbers_of(root: Path, state: Any, action: Any, state_names: Any, action_names: Any) -> Path:
    """A dataset of numbers alone, in two episodes: state (T, P) and action (T, A)."""
    foreign(root)
    info = json.loads((root / "meta/info.json").read_text())
    wanted = {"observation.state": (state, state_names), "action": (action, action_names)}
    info["features"] = {name: f for name, f in info["features"].items() if f["dtype"] == "int64" or name == "timestamp"}
    for name, (values, names) in wanted.items():
        info["features"][name] = {"dtype": "float32", "shape": [values.shape[1]], "names": names}
    (root / "meta/info.json").write_text(json.dumps(info))
    steps, half = len(state), len(state) // 2
    columns = {
        name: pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.float32(values).ravel()), values.shape[1])
        for name, (values, _) in wanted.items()
    }
    columns["timestamp"] = np.float32(np.arange(steps) % half / 30)
    columns["episode_index"] = np.arange(steps) // half
    parquet.write_table(pyarrow.table(columns), root / "data/chunk-000/file-000.parquet")
    file = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = [row | {"length": half} for row in parquet.read_table(file).to_pylist()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    return root


POS = ["pan.pos", "lift.pos", "grip.pos"]
OURS = ("pan", "lift", "grip")


@pytest.mark.parametrize(
    ("state_names", "action_names", "joints", "seen"),
    [
        (POS, POS, OURS, OURS),
        ([f"main_{n}" for n in POS], {"motors": OURS}, OURS, OURS),
        (POS[::-1], POS, OURS, OURS[::-1]),
        (POS, ["leader 1", "leader 2", "leader 3"], ("leader 1", "leader 2", "leader 3"), None),
        (POS, None, OURS, OURS),
        (None, None, ("action_0", "action_1", "action_2"), None),
    ],
)
def test_targets_of_joints_are_named_as_ours(
    tmp_path: Path, state_names: Any, action_names: Any, joints: tuple[str, ...], seen: tuple[str, ...] | None
) -> None:
    state = np.cumsum(np.random.default_rng(0).normal(size=(60, 3)), axis=0)
    action = state + np.random.default_rng(1).normal(size=state.shape) * 0.1
    action[:, 0] = 5.0  # one that is told to stay where it is
    order = [POS.index(name) for name in state_names] if state_names == POS[::-1] else [0, 1, 2]
    import_dataset(
        "lerobot", numbers_of(tmp_path / "in", state[:, order], action, state_names, action_names), tmp_path / "d"
    )
    spec = ZarrStore.open(tmp_path / "d").spec
    assert (spec.robot.joint_names, spec.robot.unit) == (joints, "")
    assert spec.interface.observation["proprio"].names == tuple(f"{joint}.position" for joint in seen or joints)


def test_a_policy_learns_from_a_dataset_of_somebody_else(tmp_path: Path) -> None:
    foreign(tmp_path / "in")
    import_dataset("lerobot", tmp_path / "in", tmp_path / "d")
    small = ChunkPolicyConfig(chunk_steps=2, encoder_channels=(4,), hidden_sizes=(8,))
    config = BCConfig(policy=small, batch_size=4, episodes="all")
    train_offline("bc", tmp_path / "d", tmp_path / "run", 1, config=config)
    policy = load_policy(tmp_path / "run/checkpoints/latest")
    assert policy.spec.action.names == ("a", "b")
    seen: Observation = {"proprio": np.array([1, 1, 0], np.float32), "image_top": np.zeros((16, 16, 3), np.uint8)}
    assert policy.act(seen, 0).actions.shape == (2, 2)


def test_speeds_that_the_state_has_too_are_no_positions(tmp_path: Path) -> None:
    state = np.cumsum(np.random.default_rng(0).normal(size=(60, 3)), axis=0)
    names = ["pan.pos", "lift.pos", "base.vel"]
    import_dataset("lerobot", numbers_of(tmp_path / "in", state, state, names, names), tmp_path / "d")
    spec = ZarrStore.open(tmp_path / "d").spec
    assert spec.robot.joint_names == ("pan", "lift", "base.vel")
    assert spec.interface.observation["proprio"].names == ("pan.position", "lift.position", "base.vel")


def test_steps_that_have_the_names_of_the_state_are_no_targets_of_it(tmp_path: Path) -> None:
    action = np.random.default_rng(0).normal(size=(60, 3))
    state = np.cumsum(action, axis=0)
    root = numbers_of(tmp_path / "in", state, action, ["x", "y", "z"], ["x", "y", "z"])
    import_dataset("lerobot", root, tmp_path / "d")
    assert ZarrStore.open(tmp_path / "d").spec.interface.observation["proprio"].names == ("x", "y", "z")


def test_frames_that_a_video_lacks_are_masked_and_told(tmp_path: Path) -> None:
    root = tmp_path / "in"
    foreign(root, "v2.1")
    file = root / "videos/chunk-000/observation.images.top/episode_000001.mp4"
    file.unlink()
    with VideoWriter(file, 30, (16, 16, 3)) as writer:
        writer.append(np.zeros((16, 16, 3), np.uint8))
    lost = import_dataset("lerobot", root, tmp_path / "d").lost
    assert "observation.images.top: 2 steps have no frame in the video; they are masked" in lost
    assert ZarrStore.open(tmp_path / "d").read_valid(1)["image_top"].tolist() == [True, False, False]


def test_a_video_is_read_again_from_the_front_when_it_was_read_to_its_end(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "v.mp4", 30, (16, 16, 3)) as writer:
        for number in range(4):
            writer.append(paint(number))
    with VideoReader("front") as reader:
        assert reader.read(tmp_path / "v.mp4", 1.0, 0.01) is None
        frame = reader.read(tmp_path / "v.mp4", 1 / 30, 0.01)  # of an episode that comes later in the table
    assert frame is not None
    assert painted_number(frame) == 1


def test_frames_that_grow_within_a_video_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, number = tmp_path / "v.ts", 0
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", 30)
        stream.width = stream.height = 32
        for size, length in ((32, 400), (128, 2)):  # who opens it looks some seconds ahead
            encoder: Any = av.CodecContext.create("libx264", "w")
            encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = size, size, "yuv420p", Fraction(1, 30)
            encoder.options = {"bf": "0", "g": "1", "tune": "zerolatency"}
            for _ in range(length):
                frame = av.VideoFrame(size, size, "yuv420p")
                frame.pts, frame.time_base, number = number, Fraction(1, 30), number + 1
                for packet in encoder.encode(frame):
                    packet.stream, packet.time_base = stream, Fraction(1, 30)
                    container.mux(packet)
    monkeypatch.setattr("robolearn.datasets.video.MAX_PIXELS", 64 * 64)
    with VideoReader("front") as reader:
        assert reader.read(file, 0.0, 0.01).shape == (32, 32, 3)  # type: ignore[union-attr]
        with pytest.raises(DatasetError, match=r"v.ts: front cannot be decoded"):
            reader.read(file, 400 / 30, 0.01)


def edited_info(change: Callable[[dict], object]) -> Callable[[Path], None]:  # type: ignore[type-arg]
    def edit(root: Path) -> None:
        info = json.loads((root / "meta/info.json").read_text())
        change(info)
        (root / "meta/info.json").write_text(json.dumps(info))

    return edit


def linked(root: Path) -> None:
    file = root / "data/chunk-000/file-000.parquet"
    file.rename(root.parent / "elsewhere.parquet")
    file.symlink_to(root.parent / "elsewhere.parquet")


def cut(name: str, size: int) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:size]) and None


def rewritten(name: str, values: object) -> Callable[[Path], None]:
    """The steps with another column of that name."""

    def edit(root: Path) -> None:
        file = root / "data/chunk-000/file-000.parquet"
        table = parquet.read_table(file)
        parquet.write_table(table.set_column(table.schema.get_field_index(name), name, values), file)

    return edit


def pictured(picture: bytes) -> Callable[[Path], None]:
    """The steps with pictures in their table, of which info.json says that they are 16 x 16."""

    def edit(root: Path) -> None:
        rewritten("note", pyarrow.array([{"bytes": picture, "path": None}] * 6))(root)
        edited_info(lambda i: i["features"].update(note={"dtype": "image", "shape": [16, 16, 3]}))(root)

    return edit


def test_of_the_actions_no_more_is_in_memory_than_some_rows(tmp_path: Path) -> None:
    root, width = tmp_path / "in", 64
    foreign(root)
    edited_info(lambda i: i["features"]["action"].update(shape=[width]))(root)
    schema = pyarrow.schema([("action", pyarrow.list_(pyarrow.float32(), width))])
    with parquet.ParquetWriter(root / "data/chunk-000/file-000.parquet", schema) as writer:
        for group in range(8):
            rows = np.random.default_rng(group).random((5000, width), np.float32)
            column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.reshape(-1)), width)
            writer.write_table(pyarrow.table([column], schema=schema))
    del rows, column
    before = pyarrow.total_allocated_bytes()
    most = max(pyarrow.total_allocated_bytes() for _ in lerobot_read._columns(Folder(root), "action"))
    assert most - before < 6 << 20


def test_words_that_were_added_to_steps_are_told(tmp_path: Path) -> None:
    root = tmp_path / "in"
    foreign(root)
    edited_info(lambda i: i["features"]["note"].update(dtype="language"))(root)
    rewritten("note", pyarrow.array([[{"role": "user", "content": "push"}] * 3] * 6))(root)
    done = import_dataset("lerobot", root, tmp_path / "d")
    assert "note (language [1]) is not kept" in done.lost
    assert done.steps == 6


LARGE_JPEG = cv2.imencode(".jpg", np.zeros((8, 24, 3), np.uint8))[1].tobytes()


def longer(root: Path) -> None:
    file = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = parquet.read_table(file).to_pylist()
    parquet.write_table(pyarrow.Table.from_pylist([rows[0] | {"length": 9}, rows[1]]), file)


VIDEO = "videos/observation.images.top/chunk-000/file-000.mp4"
HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "up": (
        edited_info(lambda i: i.update(data_path="../../{chunk_index:03d}{file_index:03d}.parquet")),
        "outside of it",
    ),
    "absolute": (edited_info(lambda i: i.update(video_path="/etc/passwd")), "video_path names '/etc/passwd'"),
    "format": (edited_info(lambda i: i.update(data_path="{chunk_index.__class__}")), "there is no file"),
    "zeros": (edited_info(lambda i: i.update(data_path="{chunk_index:0999999999d}")), "there is no file {chunk_index"),
    "link": (linked, "a link names 'data/chunk-000/file-000.parquet', which lies outside"),
    "version": (edited_info(lambda i: i.update(codebase_version="v9.0")), "'v9.0'; wanted v3.0, v2.1, v2.0"),
    "fps": (edited_info(lambda i: i.update(fps=0)), "has fps 0"),
    "features": (edited_info(lambda i: i["features"].pop("action")), "features lack action"),
    "wide": (edited_info(lambda i: i["features"]["action"].update(shape=[7])), "column action has 12 numbers"),
    "endless": (edited_info(lambda i: i["features"]["action"].update(shape=[10**8])), "actions have 100000000 entries"),
    "large": (
        edited_info(lambda i: i["features"]["observation.images.top"].update(shape=[10**5, 10**5, 3])),
        "image_top declares the shape (1, 100000, 100000, 3); a step of it would not fit",
    ),
    "column": (edited_info(lambda i: i["features"].update(speed={"dtype": "float32", "shape": [1]})), "column speed"),
    "json": (cut("meta/info.json", 40), "info.json is damaged"),
    "parquet": (cut("data/chunk-000/file-000.parquet", 300), "cannot be read as lerobot"),
    "video": (cut(VIDEO, 200), "observation.images.top cannot be decoded"),
    "length": (longer, "episode_index 0 has 3 rows, the table of episodes 9"),
    "lists": (
        rewritten("action", pyarrow.array([[0.0, 1.0]] * 5 + [[0.0] * 10**6], pyarrow.list_(pyarrow.float32()))),
        "column action has 1000010 values in 6 rows, wanted at most 12",
    ),
    "packed": (
        rewritten("next.reward", pyarrow.array([[0.0]] * 5 + [[0.0] * 10**6], pyarrow.list_(pyarrow.float32()))),
        "column next.reward has 1000005 values in 6 rows, wanted at most 6",
    ),
    "jpeg": (pictured(LARGE_JPEG), "note holds a picture of another size than info.json says"),
    "bitmap": (pictured(b"BM" + bytes(60)), "note holds neither a JPEG nor a PNG"),
    "gone": (lambda root: (root / VIDEO).unlink(), "there is no file videos/"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_broken_folders(tmp_path: Path, name: str) -> None:
    root = tmp_path / "in"
    foreign(root)
    spoil, says = HOSTILE[name]
    spoil(root)
    with pytest.raises(DatasetError) as error:
        import_dataset("lerobot", root, tmp_path / "out")
    assert says in str(error.value)
    assert str(root) in str(error.value)
    assert "\n" not in str(error.value)
    assert not [entry for entry in tmp_path.iterdir() if entry.name not in ("in", "elsewhere.parquet")]


@pytest.mark.parametrize("changed", [{"length": 5}, {"instruction": "pull it"}])
def test_a_table_that_somebody_edited_is_not_taken_for_ours(tmp_path: Path, changed: dict[str, object]) -> None:
    store = dataset(tmp_path / "d", [3, 4])
    export_dataset(store, "lerobot-images", tmp_path / "out")
    ours = json.loads((tmp_path / "out/meta/robolearn.json").read_text())
    ours["episodes"][1] |= changed
    (tmp_path / "out/meta/robolearn.json").write_text(json.dumps(ours))
    lost = import_dataset("lerobot", tmp_path / "out", tmp_path / "back").lost
    assert any("somebody edited them" in line for line in lost)
    assert [row.length for row in ZarrStore.open(tmp_path / "back").episodes] == [3, 4]


LOAD = """
import sys, numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
dataset = LeRobotDataset("me/test", root=sys.argv[1], video_backend="pyav")
keys = ("observation.images.front", "observation.state", "action", "episode_index", "timestamp")
np.savez(sys.argv[2], tasks=[dataset[i]["task"] for i in range(len(dataset))],
         **{k: np.stack([dataset[i][k].numpy() for i in range(len(dataset))]) for k in keys})
"""
RECORD = """
import sys, numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset
shape, kind = (64, 64, 3), sys.argv[2]
features = {"observation.state": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
            "action": {"dtype": "float32", "shape": (2,), "names": ["a", "b"]},
            "observation.images.front": {"dtype": kind, "shape": shape, "names": ["height", "width", "channels"]}}
dataset = LeRobotDataset.create("me/test", 30, features, root=sys.argv[1], use_videos=kind == "video")
for episode in range(2):
    for step in range(5):
        n = np.float32(5 * episode + step)
        picture = np.full(shape, 20 * n, np.uint8)
        dataset.add_frame({"observation.state": np.full(2, n), "action": np.full(2, -n),
                           "observation.images.front": picture, "task": f"task {episode}"})
    dataset.save_episode()
dataset.finalize()
"""


NO_ROOM = """
import resource, sys
from pathlib import Path
import numpy as np
from robolearn.datasets.video import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
video = VideoWriter(Path(sys.argv[1]), 20, (96, 96, 3))
try:
    for _ in range(40):
        video.append(np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8))
finally:
    video.close()
"""


def test_a_video_for_which_there_is_no_room_ends_with_an_error_and_not_with_the_process(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", NO_ROOM, tmp_path / "v.mp4"], capture_output=True, text=True)
    assert ended.returncode == 1, ended.returncode
    assert "File too large" in ended.stderr.splitlines()[-1]


def lerobot(code: str, *words: str) -> None:
    assert LEROBOT is not None
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    subprocess.run([LEROBOT, "-c", code, *words], check=True, env=environment, capture_output=True)


@pytest.mark.skipif(LEROBOT is None, reason="ROBOLEARN_LEROBOT_PYTHON names no interpreter with lerobot")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["video", "image"])
def test_lerobot_reads_ours_and_we_read_lerobots(tmp_path: Path, kind: str) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec(ImageCodec("jpegxl")))
    with store.writer() as writer:
        record(writer, 5), record(writer, 4, 5)
    export_dataset(store, "lerobot" if kind == "video" else "lerobot-images", tmp_path / "out")
    lerobot(LOAD, str(tmp_path / "out"), str(tmp_path / "seen.npz"))
    seen = np.load(tmp_path / "seen.npz")
    pictures = np.round(seen["observation.images.front"].transpose(0, 2, 3, 1) * 255).astype(np.uint8)
    assert [painted_number(picture) for picture in pictures] == list(range(9))
    assert seen["action"][:, 1].tolist() == seen["observation.state"][:, 3].tolist() == list(range(9))
    assert set(seen["tasks"]) == {"push it"}

    lerobot(RECORD, str(tmp_path / "theirs"), kind)
    settings = ImportSettings(image_codec=ImageCodec("jpegxl"))
    import_dataset("lerobot", tmp_path / "theirs", tmp_path / "back", settings)
    lerobot(LOAD, str(tmp_path / "theirs"), str(tmp_path / "theirs.npz"))
    seen = np.load(tmp_path / "theirs.npz")
    back = ZarrStore.open(tmp_path / "back")
    read = [back.read(index) for index in range(2)]
    pictures = np.round(seen["observation.images.front"].transpose(0, 2, 3, 1) * 255)
    distance = np.abs(np.concatenate([each["image_front"] for each in read]).astype(float) - pictures)
    assert distance.max() <= (2 if kind == "video" else 0)  # two ways from YUV to RGB
    np.testing.assert_array_equal(np.concatenate([each["action"] for each in read]), seen["action"])
    assert [row.instruction for row in back.episodes] == ["task 0", "task 1"]
    shutil.rmtree(tmp_path / "theirs")
