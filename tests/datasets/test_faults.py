"""A disk that is full, or gone, at any moment: one error in words, no finished episode lost, the rest salvaged."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kill_writer import CHANGES, SMALL_BLOCK
from painted import ROBOT, SUCCESS, dataset, dataset_spec, painted_number, stamps, step

from robolearn.datasets.edit import collect_garbage, delete
from robolearn.datasets.repair import repair
from robolearn.datasets.replay_buffer import ReplayBuffer, ReplayBufferConfig, logged_rewards
from robolearn.datasets.store import EpisodeMeta, ImageCodec, StreamSpec
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_layout import RECORDING
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.specs import ArraySpec, InterfaceSpec

HERE = Path(__file__).parent
LENGTH = 9


@contextmanager
def failing(code: int, after: int, once: bool) -> Iterator[Callable[[], int]]:
    """Changes of files fail with an error number: all behind the first `after`, or but one."""
    made, lock = 0, threading.Lock()
    kept = {name: getattr(os, name) for name in (*CHANGES, "listdir", "pread")}

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            with lock:
                made += 1
                fails = made == after + 1 if once else made > after
            if fails:
                raise OSError(code, os.strerror(code))
            return function(*args, **kwargs)

        return call

    for name, function in kept.items():
        setattr(os, name, wrapped(function))
    try:
        yield lambda: made
    finally:
        for name, function in kept.items():
            setattr(os, name, function)


def try_to_record(path: Path) -> bool:
    """Whether an episode was committed; anything but a DatasetError fails the test."""
    try:
        with ZarrStore.open(path).writer() as writer:
            writer.begin(EpisodeMeta(id="third"))
            for number in range(8, 8 + LENGTH):
                writer.append(step(number), stamps(number))  # type: ignore[arg-type]
            writer.commit(SUCCESS)
    except DatasetError:
        return False
    return True


def check(path: Path, told: bool) -> None:
    store = ZarrStore.open(path)
    # One that was not told may be there: the disk failed between the atomic step and the telling.
    assert len(store.episodes) in ((3,) if told else (2, 3))
    repair(path, "salvage")
    store = ZarrStore.open(path)
    for index, first in enumerate((0, 3, 8)[: len(store.episodes)]):
        read = store.read(index)
        numbers = list(range(first, first + store.episodes[index].length))
        assert read["action"][:, 0].tolist() == numbers
        assert [painted_number(image) for image in read["image_front"]] == numbers
    assert verify(path).ok


@pytest.mark.parametrize("codec", [ImageCodec(), ImageCodec("h264", crf=18, group=4)], ids=["jpeg", "h264"])
@pytest.mark.parametrize(("code", "once"), [(errno.EIO, False), (errno.ENOSPC, True)], ids=["yanked", "full"])
def test_a_disk_that_fails_at_any_moment(
    tmp_path: Path, code: int, once: bool, codec: ImageCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robolearn.datasets.zarr_layout.BLOCK_BYTES", SMALL_BLOCK)
    changes, after = 10**6, 0
    while after < changes:
        path = tmp_path / str(after)
        dataset(path, [3, 5], codec)
        with failing(code, after, once) as made:
            told = try_to_record(path)
            changes = made() if told else changes
        check(path, told)
        after = 2 * after + 5
        if told and not once:
            break  # it got through before the disk failed
    assert after > 30


LEARNER = """
import os, sys; sys.path.insert(0, {here!r})
from test_faults import *
from robolearn.datasets.replay_buffer import EpisodeLog
store = ZarrStore.open(sys.argv[1])
seen = lambda number: {{"proprio": np.full(4, number, np.float32)}}
with store.writer() as writer:
    log = EpisodeLog(writer)
    number = 0
    while True:
        log.begin(EpisodeMeta(), seen(number))
        for _ in range(5):
            log.append(np.full(2, number), float(number), seen(number + 1), {{}})
            number += 1
            if number == 23:
                os.kill(os.getpid(), 9)
        log.commit(SUCCESS, {{}})
        number += 1
"""


def test_a_learner_that_was_killed_gets_its_experience_back(tmp_path: Path) -> None:
    path = tmp_path / "d"
    spec = InterfaceSpec({"proprio": ROBOT.proprio_spec}, ROBOT.action_spec, 30.0)
    plain = dataset_spec(cameras=())
    ZarrStore.create(path, type(plain)(ROBOT, spec, extra={"reward": ArraySpec(())}))
    command = [sys.executable, "-c", LEARNER.format(here=str(HERE)), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -9, done.stderr
    repair(path, "salvage")
    store = ZarrStore.open(path)
    buffer = ReplayBuffer(spec, ReplayBufferConfig(100, 1, 0.5))
    for index in range(len(store.episodes)):
        buffer.extend(store, index, logged_rewards)
    batch = buffer.sample(500, np.random.default_rng(0))
    now = batch["proprio"][:, 0]
    np.testing.assert_array_equal(batch["reward"], now)
    np.testing.assert_array_equal(
        batch["next_proprio"][:, 0][batch["bootstrap"] == 1], now[batch["bootstrap"] == 1] + 1
    )
    assert set(now[batch["bootstrap"] == 0]) == {4, 10, 16}
    assert len(store.episodes) in (3, 4)  # the last steps may still have been on their way to the journal
    assert 15 <= len(buffer) <= 19


def test_names_are_durable_before_what_needs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut keeps what was synced, and of a new folder no more than its name in a folder that was."""
    done: list[tuple[str, str]] = []
    kept = {name: getattr(os, name) for name in ("mkdir", "fsync", "unlink")}

    def noted(name: str) -> Callable[..., Any]:
        def call(what: Any, *args: Any, **kwargs: Any) -> Any:
            where = os.readlink(f"/proc/self/fd/{what}") if name == "fsync" else os.fspath(what)
            result = kept[name](what, *args, **kwargs)
            done.append((name, where.replace(".day.converting/day", "day")))  # by which name it goes in the end
            return result

        return call

    for name in kept:
        monkeypatch.setattr(os, name, noted(name))
    path = tmp_path / "runs" / "day"
    spec = replace(dataset_spec(cameras=()), streams={"force": StreamSpec(ArraySpec((1,)), 500.0)})
    there = {name: value for name, value in step(1).items() if name in spec.fields}
    with ZarrStore.create(path, spec).writer() as writer:
        for name in ("first", "second"):
            writer.begin(EpisodeMeta(id=name))
            writer.append(there, {})  # type: ignore[arg-type]
            writer.commit(SUCCESS)
    for index, (what, name) in enumerate(done):
        if what == "mkdir" and ".recording" not in name and not name.endswith(".converting"):
            assert ("fsync", str(Path(name).parent)) in done[index:]
    delete(path, [0])
    done.clear()
    collect_garbage(path)
    gone = next(i for i, (what, name) in enumerate(done) if what == "unlink" and name.endswith("zarr.json"))
    assert [name for what, name in done[:gone] if what == "fsync"][-1] == str(path.parent)


def test_nothing_outside_of_a_dataset_is_removed_or_written_through_its_links(tmp_path: Path) -> None:
    path, outside = tmp_path / "d", tmp_path / "outside"
    store = dataset(path, [3])
    kept = outside / "photos" / "one.jpg"
    kept.parent.mkdir(parents=True)
    kept.write_text("one")
    (path / RECORDING).symlink_to(outside)
    for change in (store.writer, lambda: repair(path, "drop"), lambda: delete(path, [0])):
        with pytest.raises(DatasetError, match=r"\.recording is a link to .*outside"):
            change()
    (path / RECORDING).unlink()
    (path / RECORDING).mkdir()
    (path / RECORDING / "lock").symlink_to(kept)
    with pytest.raises(DatasetError, match="cannot be written to"):
        store.writer()
    (path / RECORDING / "lock").unlink()
    (path / RECORDING / "left").symlink_to(outside / "photos")
    assert repair(path, "drop").is_empty
    (path / "columns").mkdir()
    (path / "columns" / "reward").symlink_to(outside / "photos")
    with pytest.raises(DatasetError, match="reward is a link"):
        store.column_writer("reward", ArraySpec(()), {})
    (path / ".zarr.json.tmp").symlink_to(kept)
    with pytest.raises(OSError, match="symbolic links"):
        delete(path, [0])
    assert kept.read_text() == "one"
