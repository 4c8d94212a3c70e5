"""Statistics that keep up with the episodes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from painted import dataset, dataset_spec, record

from robolearn.datasets import edit
from robolearn.datasets.info import _size, info
from robolearn.datasets.shards import ArrayReader
from robolearn.datasets.statistics import _count, _groups, _hashes, _registers, statistics
from robolearn.datasets.stats import QUANTILES, summarize
from robolearn.datasets.store import EpisodeMeta, WriterConfig
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec
from robolearn.types import EpisodeOutcome

ROBOT = RobotSpec("arm", ("a", "b"), (-1.0, -1.0), (1.0, 1.0), (1.0, 1.0))
SPEC = replace(
    dataset_spec(cameras=()),
    robot=ROBOT,
    interface=InterfaceSpec({"proprio": ROBOT.proprio_spec}, ROBOT.action_spec, 30.0),
    extra={"reward": ArraySpec(())},
)


def walk(path: Path, seed: int, lengths: list[int]) -> ZarrStore:
    """Episodes about different middles, with rewards."""
    rng = np.random.default_rng(seed)
    store = ZarrStore.create(path, SPEC)
    with store.writer() as writer:
        for number, length in enumerate(lengths):
            writer.begin(EpisodeMeta())
            for _ in range(length):
                proprio = rng.normal(np.sin(number), 0.3, 4).astype(np.float32)
                writer.append({"proprio": proprio, "action": proprio[:2], "reward": np.float32(number)}, {})
            writer.commit(EpisodeOutcome(None, False, True))
    return store


def test_they_are_those_of_all_steps(tmp_path: Path) -> None:
    store = walk(tmp_path / "d", 0, [300, 50, 120, 400])
    kept = zarr.open_group(tmp_path / "d", mode="r").attrs["statistics"]
    assert (kept["episodes"], kept["steps"]) == (4, 870)  # before anybody asked
    ours, exact = statistics(store).fields, summarize(store, ["proprio", "action"])
    for name, wanted in exact.items():
        got = ours[name]
        assert got.count == wanted.count
        for what in ("mean", "std", "low", "high"):
            np.testing.assert_allclose(getattr(got, what), getattr(wanted, what), rtol=1e-5, atol=1e-5)
        values = np.concatenate([store.read(index, [name])[name] for index in range(4)])
        for entry in range(values.shape[1]):
            ranks = [np.mean(values[:, entry] <= got.quantiles[q][entry]) for q in range(len(QUANTILES))]
            np.testing.assert_allclose(ranks, QUANTILES, atol=0.015)
    assert verify(tmp_path / "d").ok


@given(st.lists(st.integers(1, 7), min_size=1, max_size=12))
def test_short_episodes_are_summarized_together(lengths: list[int]) -> None:
    store = SimpleNamespace(episodes=[SimpleNamespace(length=length) for length in lengths])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robolearn.datasets.statistics.STEPS_AT_ONCE", 5)
        groups = list(_groups(store, 0))  # type: ignore[arg-type]
    assert [index for group in groups for index in group] == list(range(len(lengths)))
    sums = [sum(lengths[index] for index in group) for group in groups]
    assert all(one <= 5 or len(group) == 1 for one, group in zip(sums, groups, strict=True))
    assert all(before + lengths[group[0]] > 5 for before, group in zip(sums, groups[1:], strict=False))


def test_a_chunk_of_many_episodes_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = walk(tmp_path / "d", 0, [3] * 20)
    decoded: list[int] = []
    read_chunk = ArrayReader.read_chunk
    monkeypatch.setattr(ArrayReader, "read_chunk", lambda self, *one: (decoded.append(one[0]), read_chunk(self, *one)))
    for index in range(20):
        assert len(store.read(index, ["proprio"])["proprio"]) == 3
    assert decoded == [0]


def test_they_follow_edits_and_crashes(tmp_path: Path) -> None:
    path = tmp_path / "d"
    walk(path, 1, [30, 40, 50])
    file = path / "zarr.json"
    root = json.loads(file.read_text())
    for strange in (None, 3, {}, {"episodes": 2, "fingerprint": "else"}):
        file.write_text(json.dumps({**root, "attributes": {**root["attributes"], "statistics": strange}}))
        assert statistics(ZarrStore.open(path)).fields["proprio"].count == 120
    edit.trim(path, 0, 10, 25)
    edit.delete(path, [1])
    for _ in range(2):
        store = ZarrStore.open(path)
        got, wanted = statistics(store).fields["proprio"], summarize(store, ["proprio"])["proprio"]
        assert got.count == wanted.count == 65
        np.testing.assert_allclose(got.mean, wanted.mean, rtol=1e-5, atol=1e-6)
    edit.collect_garbage(path)
    assert statistics(ZarrStore.open(path)).fields["proprio"].count == 65
    assert verify(path).ok
    root = json.loads(file.read_text())
    root["attributes"]["statistics"]["fields"]["proprio"]["mean"][0] += 1
    file.write_text(json.dumps(root))
    assert any("statistics of proprio are not those" in problem for problem in verify(path).problems)


def test_a_reader_beside_a_writer_has_them_too(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with walk(path, 1, [5]).writer() as writer:
        for number in range(3):
            writer.begin(EpisodeMeta())
            writer.append({"proprio": np.full(4, number, np.float32)}, {})
            writer.commit(EpisodeOutcome(None, False, True))
            assert statistics(ZarrStore.open(path)).fields["proprio"].count == 6 + number


def test_images_are_counted_in_grey_levels(tmp_path: Path) -> None:
    store = dataset(tmp_path / "d", [4, 3])
    got = statistics(store).fields["image_front"]
    wanted = summarize(store, ["image_front"])["image_front"]
    assert got.count == 7 * 256
    np.testing.assert_allclose(got.mean, wanted.mean, rtol=1e-5)
    np.testing.assert_allclose(got.std, wanted.std, rtol=1e-5)
    without = ZarrStore.create(tmp_path / "e", dataset_spec())
    with without.writer(WriterConfig(statistics=False)) as writer:
        record(writer, 3)
    assert "statistics" not in without.attributes
    assert "image_front" in statistics(without).fields


def test_quality(tmp_path: Path) -> None:
    store = walk(tmp_path / "d", 2, [10, 10, 10])
    quality = statistics(store).quality
    assert quality.tq == pytest.approx(0.5)  # returns 0, 10, 20
    assert statistics(store, returns=(0.0, 40.0)).quality.tq == pytest.approx(0.25)
    assert quality.unique_state_actions is not None
    assert quality.saco == quality.unique_state_actions / 30
    successes = dataset(tmp_path / "e", [2, 2])
    assert statistics(successes).quality.tq == 1
    still = ZarrStore.create(tmp_path / "f", SPEC)
    with still.writer() as writer:
        writer.begin(EpisodeMeta())
        for number in range(100):
            here = np.full(4, 0.05 + 0.5 * (number % 2), np.float32)
            writer.append({"proprio": here, "action": here[:2]}, {})
        writer.commit(EpisodeOutcome(None, False, True))
    quality = statistics(still).quality
    assert (quality.unique_state_actions, quality.saco) == (2, 0.02)
    assert statistics(still, reference_pairs=8).quality.saco == 0.25
    answer = info(tmp_path / "f")
    assert answer["state_action_coverage"] == 0.02
    assert answer["fields"]["action"]["mean"] == pytest.approx([0.3, 0.3])


def test_quality_follows_what_people_say_of_the_success(tmp_path: Path) -> None:
    path = dataset(tmp_path / "d", [3, 4, 5]).path
    assert statistics(ZarrStore.open(path)).quality.tq == 1
    edit.mark(path, [0, 1], False)
    assert statistics(ZarrStore.open(path)).quality.tq == pytest.approx(1 / 3)
    edit.mark(path, [0], None)
    assert statistics(ZarrStore.open(path)).quality.tq == pytest.approx(1 / 2)


@pytest.mark.parametrize("number", [0, 1, 50, 1000, 30_000, 100_000])
def test_unique_rows_are_counted_to_a_tenth(number: int) -> None:
    rng = np.random.default_rng(number)
    rows = np.unique(rng.integers(-1, 11, (number, 9)), axis=0) if number else np.zeros((0, 9), np.int64)
    again = np.concatenate([rows, rows[: len(rows) // 2]])
    parts = np.array([_registers(_hashes(part)) for part in np.array_split(again, 3)])
    assert _count(parts.max(axis=0)) == pytest.approx(len(rows), rel=0.1, abs=0.5)


def test_a_file_that_its_writer_has_renamed_meanwhile_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"four")
    assert [_size(tmp_path / name) for name in ("there", "gone")] == [4, 0]
