"""Sensors with rates of their own: kept as they came, aligned when read, as crash-safe as the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import PERIOD_NS, SUCCESS, dataset_spec, stamps, step

from robolearn.datasets import edit
from robolearn.datasets.info import info
from robolearn.datasets.repair import repair
from robolearn.datasets.sampler import Sampler, SamplerConfig
from robolearn.datasets.store import EpisodeMeta, StreamSpec
from robolearn.datasets.streams import align
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError, UnknownNameError
from robolearn.specs import ArraySpec

FORCE_NS = 2_000_000  # 500 Hz
FORCE = StreamSpec(ArraySpec((3,), "float32", "N", ("x", "y", "z")), 500.0, "interpolate", 0.01)
SWITCH = StreamSpec(ArraySpec((), "uint8"), 10.0, "hold", 10.0)
SPEC = replace(dataset_spec(), streams={"force": FORCE, "switch": SWITCH})


def force(stamp_ns: np.ndarray) -> np.ndarray:
    """A force (N, 3) that is linear in time."""
    return (stamp_ns[:, None] * 1e-9 * np.array([1.0, -2.0, 0.5])).astype(np.float32)


def add(writer, first: int, length: int) -> None:
    """Steps of the numbers from `first` on, and the samples of that time in blocks."""
    for number in range(first, first + length):
        writer.append(step(number), stamps(number))
        times = np.arange(number * PERIOD_NS, (number + 1) * PERIOD_NS, FORCE_NS)
        writer.append_stream("force", force(times), times, times + 500)
    writer.append_stream("switch", np.array([first % 200], np.uint8), [first * PERIOD_NS])


def make(path: Path, lengths: list[int]) -> ZarrStore:
    store = ZarrStore.create(path, SPEC)
    first = 0
    with store.writer() as writer:
        for length in lengths:
            writer.begin(EpisodeMeta())
            add(writer, first, length)
            writer.commit(SUCCESS)
            first += length
    return store


def check(store: ZarrStore, index: int, first: int, length: int) -> None:
    times = np.arange(first, first + length) * PERIOD_NS
    read = store.read(index, ["action", "force", "switch"])
    assert read["action"][:, 0].tolist() == list(range(first, first + length))
    np.testing.assert_allclose(read["force"], force(times), atol=1e-5)
    assert store.read_valid(index)["force"].all()


def test_kept_as_they_came_and_aligned_when_read(tmp_path: Path) -> None:
    make(tmp_path / "d", [3, 5])
    store = ZarrStore.open(tmp_path / "d")
    assert store.spec == SPEC
    for index, (first, length) in enumerate(((0, 3), (3, 5))):
        check(store, index, first, length)
        values, marks = store.read_stream(index, "force")
        wanted = np.concatenate(
            [np.arange(n * PERIOD_NS, (n + 1) * PERIOD_NS, FORCE_NS) for n in range(first, first + length)]
        )
        np.testing.assert_array_equal(marks, np.stack([wanted, wanted + 500], axis=1))
        np.testing.assert_array_equal(values, force(wanted))
        assert store.read(index, ["switch"])["switch"].tolist() == [first] * length
    group = zarr.open_group(tmp_path / "d", mode="r")
    start, number = group.attrs["newest_episodes"][1]["streams"]["force"]  # type: ignore[index,call-overload]
    np.testing.assert_array_equal(
        group["streams/force"][start : start + number],  # type: ignore[index]
        store.read_stream(1, "force")[0],
    )
    assert verify(tmp_path / "d").ok
    assert info(tmp_path / "d")["streams"]["force"]["samples"] == 8 * 17
    batch = Sampler(store, SamplerConfig(("proprio", "force"), 1, 2)).sample(30, np.random.default_rng(0))
    times = batch["proprio"][..., 0].astype(np.int64) * PERIOD_NS
    np.testing.assert_allclose(batch["force"], force(times.ravel()).reshape(30, 2, 3), atol=1e-5)


def test_they_follow_their_episodes(tmp_path: Path) -> None:
    path = tmp_path / "d"
    make(path, [3, 5, 4])
    edit.trim(path, 1, 1, 4)
    edit.delete(path, [0])
    edit.collect_garbage(path)
    check(ZarrStore.open(path), 0, 4, 3)
    check(ZarrStore.open(path), 1, 8, 4)
    assert verify(path).ok


def test_salvaged_with_their_samples(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with make(path, [3]).writer() as writer:
        writer.begin(EpisodeMeta(id="left"))
        add(writer, 3, 4)
    repair(path, "salvage")
    store = ZarrStore.open(path)
    assert store.episodes[1].id == "left"
    check(store, 1, 3, 4)
    assert len(store.read_stream(1, "force")[0]) == 4 * 17
    assert verify(path).ok


def test_discarded_samples_are_gone(tmp_path: Path) -> None:
    store = make(tmp_path / "d", [2])
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        add(writer, 50, 3)
        writer.discard()
        writer.begin(EpisodeMeta())
        add(writer, 2, 3)
        writer.commit(SUCCESS)
    check(store, 1, 2, 3)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    store = make(tmp_path / "d", [2])
    with store.writer() as writer:
        writer.begin(EpisodeMeta())
        for values, times, says in (
            (np.zeros((2, 4), np.float32), [1, 2], r"stream force is float32 \(2, 4\)"),
            (np.zeros((2, 3), np.float32), [1], "2 samples"),
            (np.zeros((2, 3), np.float32), [2, 1], "run backwards"),
        ):
            with pytest.raises(SpecError, match=says):
                writer.append_stream("force", values, times)
        writer.append_stream("force", np.zeros((1, 3), np.float32), [5])
        with pytest.raises(SpecError, match="run backwards"):
            writer.append_stream("force", np.zeros((1, 3), np.float32), [4])
        with pytest.raises(UnknownNameError, match="force"):
            writer.append_stream("forse", np.zeros((1, 3)), [4])
    with pytest.raises(DatasetError, match="cannot be interpolated"):
        StreamSpec(ArraySpec((), "uint8"), 10.0, "interpolate")
    with pytest.raises(DatasetError, match="wanted align"):
        StreamSpec(ArraySpec(()), 0.0)


@settings(deadline=None)
@given(
    times=st.lists(st.integers(0, 60), max_size=12).map(sorted),
    at=st.lists(st.integers(-5, 65), min_size=1, max_size=8),
    rule=st.sampled_from(["hold", "nearest", "interpolate"]),
    reach=st.integers(1, 20),
)
def test_alignment_against_a_plain_search(times: list[int], at: list[int], rule: str, reach: int) -> None:
    spec = StreamSpec(ArraySpec(()), 1.0, rule, reach * 1e-9)  # type: ignore[arg-type]
    values = np.arange(len(times), dtype=np.float64)
    got, valid = align(np.array(times, np.int64), values, np.array(at, np.int64), spec)
    for row, now in enumerate(at):
        before = [i for i, t in enumerate(times) if t <= now and now - t <= reach]
        after = [i for i, t in enumerate(times) if t >= now and t - now <= reach]
        older, newer = (before[-1] if before else None), (after[0] if after else None)
        wanted: float | None
        if rule == "hold":
            wanted = older
        elif rule == "nearest":
            close = [i for i in (older, newer) if i is not None]
            wanted = min(close, key=lambda i: (abs(times[i] - now), i)) if close else None
            if wanted is not None and older is not None and abs(times[older] - now) == abs(times[int(wanted)] - now):
                wanted = older
        elif older is None or newer is None:
            wanted = None
        else:
            span = max(times[newer] - times[older], 1)
            wanted = older + (newer - older) * (now - times[older]) / span if newer > older else older
        assert valid[row] == (wanted is not None)
        assert got[row] == pytest.approx(0 if wanted is None else wanted)


def test_samples_that_are_not_finite_do_not_count() -> None:
    spec = replace(FORCE, align="hold")
    values = np.array([[1, 1, 1], [np.nan, 0, 0]], np.float32)
    got, valid = align(np.array([0, 10]), values, np.array([10]), spec)
    assert (got[0].tolist(), valid.tolist()) == ([1, 1, 1], [True])
