"""A process may open only so many files, and neither long episodes nor large datasets take more."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from painted import SUCCESS, dataset_spec, stamps, step

from robolearn.datasets import shards, zarr_layout
from robolearn.datasets.edit import merge
from robolearn.datasets.repair import repair
from robolearn.datasets.store import EpisodeMeta, WriterConfig
from robolearn.datasets.zarr_store import ZarrStore

STEPS = 160


@contextmanager
def few_open_files(more: int) -> Iterator[None]:
    """The process may open so many files more than it has, and no others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def recorded(path: Path, first: int, finish: bool) -> None:
    """An episode that reaches over many shards of every array; all of its vectors hold their number."""
    store = ZarrStore.create(path, dataset_spec(cameras=()))
    with store.writer(WriterConfig(fsync=False)) as writer:
        writer.begin(EpisodeMeta(id=path.stem))
        for number in range(first, first + STEPS):
            there = {name: value for name, value in step(number).items() if name in store.spec.fields}
            writer.append(there, {"action": stamps(number)["action"]})  # type: ignore[arg-type]
        if finish:
            writer.commit(SUCCESS)


def test_an_episode_of_many_shards_is_committed_salvaged_and_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, small in {"CHUNK_ROWS": 8, "VECTOR_SHARD_BYTES": 64}.items():
        monkeypatch.setattr(zarr_layout, name, small)
    monkeypatch.setattr(shards, "OPEN_SHARDS", 20)
    with few_open_files(60):
        recorded(tmp_path / "a", 0, finish=True)
        recorded(tmp_path / "b", STEPS, finish=False)
        assert repair(tmp_path / "b").salvaged == ["b"]
        merge([tmp_path / "a", tmp_path / "b"], tmp_path / "both")
        store = ZarrStore.open(tmp_path / "both")
        numbers = [int(number) for index in (0, 1) for number in store.read(index, ["action"])["action"][:, 0]]
    assert numbers == list(range(2 * STEPS))
