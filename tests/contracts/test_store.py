"""What every Store must do. Run over every entry of STORES."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robolearn.datasets import STORES, Store
from robolearn.datasets.store import (
    NO_STAMP,
    UNKNOWN_SOURCE,
    DatasetSpec,
    EpisodeMeta,
    EpisodeWriter,
    ImageCodec,
    WriterConfig,
)
from robolearn.errors import DatasetError, SpecError, UnknownNameError
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec, image_spec
from robolearn.types import ActionSource, EpisodeOutcome

ROBOT = RobotSpec("arm", ("shoulder", "gripper"), (-2.0, -1.0), (2.0, 1.0), (1.0, 1.0))
INTERFACE = InterfaceSpec(
    {
        "proprio": ROBOT.proprio_spec,
        "image_front": image_spec(12, 16),
        "depth_front": ArraySpec((12, 16), "uint16", "mm"),
    },
    ROBOT.action_spec,
    control_hz=30.0,
)
LOSSLESS = DatasetSpec(ROBOT, INTERFACE, ("push-v1",), {"front": {"fx": 60.5}}, ImageCodec("jpegxl"))
SUCCESS = EpisodeOutcome(success=True, terminated=True, truncated=False)


@pytest.fixture(params=sorted(STORES))
def kind(request: pytest.FixtureRequest) -> Any:
    return STORES[request.param]


@pytest.fixture
def store(kind: Any, tmp_path: Path) -> Store:
    return kind.create(tmp_path / "d", LOSSLESS)


def random_step(rng: np.random.Generator, spec: DatasetSpec = LOSSLESS) -> dict[str, Any]:
    step: dict[str, Any] = {}
    for name, field in spec.fields.items():
        if field.dtype == "float32":
            step[name] = rng.normal(size=field.shape).astype(np.float32)
        else:
            step[name] = rng.integers(0, 2 if field.dtype == "bool" else 5, field.shape).astype(field.dtype)
    return step


def record(writer: EpisodeWriter, steps: list[dict[str, Any]], **meta: Any) -> None:
    writer.begin(EpisodeMeta(**meta))
    for number, step in enumerate(steps):
        writer.append(step, {"proprio": 10 * number, "image_front": 10 * number - 3}, {"image_front": 10 * number + 1})
    writer.commit(SUCCESS)


@pytest.mark.parametrize("codec", [ImageCodec("jpegxl"), ImageCodec("zstd")])
def test_what_is_read_is_what_was_written(kind: Any, tmp_path: Path, codec: ImageCodec) -> None:
    spec = DatasetSpec(ROBOT, INTERFACE, image_codec=codec)
    rng = np.random.default_rng(0)
    episodes = [[random_step(rng) for _ in range(length)] for length in (1, 7, 30)]
    store = kind.create(tmp_path / "d", spec)
    with store.writer() as writer:
        for episode in episodes:
            record(writer, episode)
    for opened in (store, kind.open(tmp_path / "d")):
        assert [info.length for info in opened.episodes] == [1, 7, 30]
        for index, episode in enumerate(episodes):
            read = opened.read(index)
            for name, field in spec.fields.items():
                assert read[name].dtype == np.dtype(field.dtype)
                np.testing.assert_array_equal(read[name], np.stack([step[name] for step in episode]), err_msg=name)


def test_spec_and_meta_survive(kind: Any, store: Store, tmp_path: Path) -> None:
    meta = EpisodeMeta("push-v1", "push it", 7, "ana", 123, "episode-1", "robot 2", {"perturbation": 0.1})
    with store.writer() as writer:
        writer.begin(meta)
        writer.append(random_step(np.random.default_rng(0)), {})
        info = writer.commit(EpisodeOutcome(None, False, True, "the operator stopped it"))
    opened = kind.open(tmp_path / "d")
    assert opened.spec == LOSSLESS
    assert opened.episodes == (info,)
    assert all(getattr(info, name) == getattr(meta, name) for name in vars(meta))
    assert (info.success, info.terminated, info.truncated) == (None, False, True)
    assert info.reason == "the operator stopped it"


def test_part_of_an_episode(store: Store) -> None:
    rng = np.random.default_rng(0)
    with store.writer() as writer:
        for length in (5, 9):
            record(writer, [random_step(rng) for _ in range(length)])
    whole = store.read(1)
    part = store.read(1, ["action", "image_front"], 2, 6)
    assert set(part) == {"action", "image_front"}
    np.testing.assert_array_equal(part["action"], whole["action"][2:6])
    np.testing.assert_array_equal(part["image_front"], whole["image_front"][2:6])
    with pytest.raises(UnknownNameError, match="image_front"):
        store.read(0, ["image_frant"])
    with pytest.raises(DatasetError, match="9 steps"):
        store.read(1, start=4, stop=10)
    with pytest.raises(DatasetError, match="2 episodes"):
        store.read(2)


def test_missing_values_are_masked_and_never_shift(store: Store) -> None:
    rng = np.random.default_rng(0)
    steps = [random_step(rng) for _ in range(20)]
    missing = {3, 4, 11}
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        for number, step in enumerate(steps):
            left = {k: v for k, v in step.items() if number not in missing or k not in ("image_front", "action_source")}
            writer.append(left, {"image_front": number}, valid={"depth_front": number != 5})
        info = writer.commit(SUCCESS)
    valid = store.read_valid(0)
    assert set(np.flatnonzero(~valid["image_front"])) == missing
    assert set(np.flatnonzero(~valid["depth_front"])) == {5}
    assert info.masked == {"image_front": 3, "depth_front": 1}
    assert info.dropped == {}
    read = store.read(0)
    for number, step in enumerate(steps):
        wanted = np.zeros((12, 16, 3)) if number in missing else step["image_front"]
        np.testing.assert_array_equal(read["image_front"][number], wanted)
        assert read["action_source"][number] == (UNKNOWN_SOURCE if number in missing else step["action_source"])


def test_numbers_that_are_not_finite_are_kept_and_masked(store: Store) -> None:
    step = random_step(np.random.default_rng(0))
    step["action"] = np.array([np.nan, 0.5], np.float32)
    with store.writer() as writer:
        record(writer, [step])
    assert not store.read_valid(0)["action"][0]
    assert store.read_valid(0)["action_sent"][0]
    assert np.isnan(store.read(0)["action"][0, 0])


def test_stamps_are_kept(store: Store) -> None:
    rng = np.random.default_rng(0)
    with store.writer() as writer:
        record(writer, [random_step(rng) for _ in range(3)])
    stamps = store.read_stamps(0)
    assert stamps["proprio"].tolist() == [[0, NO_STAMP], [10, NO_STAMP], [20, NO_STAMP]]
    assert stamps["image_front"].tolist() == [[-3, 1], [7, 11], [17, 21]]
    assert (stamps["action"] == NO_STAMP).all()


def test_values_that_do_not_fit_are_refused_before_anything_is_written(store: Store) -> None:
    step = random_step(np.random.default_rng(0))
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        with pytest.raises(SpecError, match=r"action is float32 \(3,\), .* float32 \(2,\)"):
            writer.append({**step, "action": np.zeros(3, np.float32)}, {})
        with pytest.raises(SpecError, match=r"image_front is float64 .*, the dataset wants uint8 \([\d, ]*\)$"):
            writer.append({**step, "image_front": np.zeros((12, 16, 3))}, {})
        with pytest.raises(SpecError, match="action_source is int64"):
            writer.append({**step, "action_source": 300}, {})
        with pytest.raises(SpecError, match="action is no array"):
            writer.append({**step, "action": [[0], [0, 1]]}, {})
        for stamp in (None, "now", 2**64):
            with pytest.raises(SpecError, match=r"the stamps of action are .*; wanted whole nanoseconds"):
                writer.append(step, {"action": stamp})  # type: ignore[dict-item]
        with pytest.raises(UnknownNameError, match="proprio"):
            writer.append({**step, "propio": np.zeros(4)}, {})
        writer.append({**step, "action": [0, 1], "action_source": ActionSource.HUMAN, "held": False}, {})
        assert writer.commit(SUCCESS).length == 1


def test_a_buffer_that_is_used_again_does_not_change_what_was_appended(store: Store) -> None:
    step = random_step(np.random.default_rng(0))
    image = step["image_front"].copy()
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        writer.append(step, {})
        step["image_front"][:] = 0
        step["action"][:] = 9
        writer.commit(SUCCESS)
    np.testing.assert_array_equal(store.read(0)["image_front"][0], image)
    assert (store.read(0)["action"] != 9).all()


def test_discarded_and_abandoned_episodes_are_not_seen(kind: Any, store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        writer.append(random_step(rng), {})
        writer.discard()
        record(writer, [random_step(rng)], id="kept")
        writer.begin(EpisodeMeta(id="abandoned"))
        writer.append(random_step(rng), {})
    opened = kind.open(tmp_path / "d")
    assert [info.id for info in opened.episodes] == ["kept"]
    assert [(left.id, left.length) for left in opened.unfinished] == [("abandoned", 1)]


def test_order_of_calls(store: Store) -> None:
    step = random_step(np.random.default_rng(0))
    with store.writer() as writer:
        with pytest.raises(DatasetError, match="begin"):
            writer.append(step, {})
        with pytest.raises(DatasetError, match="begin"):
            writer.commit(SUCCESS)
        with pytest.raises(DatasetError, match="begin"):
            writer.discard()
        writer.begin(EpisodeMeta(id="a"))
        with pytest.raises(DatasetError, match="'a' is not ended"):
            writer.begin(EpisodeMeta(id="b"))
        with pytest.raises(DatasetError, match="no steps"):
            writer.commit(SUCCESS)
        writer.append(step, {})
        writer.commit(SUCCESS)
        with pytest.raises(DatasetError, match="unique"):
            writer.begin(EpisodeMeta(id="a"))
        with pytest.raises(DatasetError, match="letters"):
            writer.begin(EpisodeMeta(id="../../a"))


def test_a_second_writer_is_refused_and_the_next_one_is_not(store: Store) -> None:
    with store.writer(), pytest.raises(DatasetError, match="process"), store.writer():
        pass
    with store.writer():
        pass


def test_creating_over_something_is_refused(kind: Any, store: Store, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="exists"):
        kind.create(tmp_path / "d", LOSSLESS)
    (tmp_path / "file").write_text("precious")
    with pytest.raises(DatasetError, match="exists"):
        kind.create(tmp_path / "file", LOSSLESS)
    with pytest.raises(DatasetError, match="does not exist"):
        kind.open(tmp_path / "nowhere")


def test_waiting_for_the_codec_loses_nothing(store: Store) -> None:
    rng = np.random.default_rng(0)
    with store.writer(WriterConfig(queue_bytes=1)) as writer:
        record(writer, [random_step(rng) for _ in range(50)])
    assert store.episodes[0].masked == {}
