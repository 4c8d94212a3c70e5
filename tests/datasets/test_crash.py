"""Writers killed at any moment, full disks, two writers: no finished episode is ever lost."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr
from painted import SUCCESS, as_schema_2, dataset, dataset_spec, painted_number, record, stamps, step

from robolearn.datasets.repair import repair
from robolearn.datasets.store import Annotation, EpisodeMeta, WriterConfig
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetBusyError, DatasetError
from robolearn.types import EpisodeOutcome

HERE = Path(__file__).parent


def run_script(name: str, *arguments: object) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_counting(path: Path) -> None:
    """All steps of all episodes are there and in order, for us and for zarr-python."""
    store = ZarrStore.open(path)
    group = zarr.open_group(path, mode="r")
    for index, episode in enumerate(store.episodes):
        read = store.read(index)
        numbers = list(range(episode.start, episode.stop))
        assert read["action"][:, 0].tolist() == numbers
        for camera in ("image_front", "image_wrist"):
            assert [painted_number(image) for image in read[camera]] == numbers
            assert not episode.masked
    if store.episodes:
        last = store.episodes[-1]
        for name in ("action", "image_front"):
            np.testing.assert_array_equal(group[name][last.start : last.stop], store.read(-1, [name])[name])  # type: ignore[index]


def check_kills(path: Path, output: str) -> int:
    kills = [tuple(map(int, line.split())) for line in output.splitlines()]
    for told, found in kills:
        # A writer that died between the atomic step and telling has committed one more than it told.
        assert found in (told, told + 1)
    check_counting(path)
    return len(kills)


def check_repair(path: Path) -> None:
    finished = ZarrStore.open(path).episodes
    unfinished = ZarrStore.open(path).unfinished
    report = repair(path, "salvage")
    assert report.salvaged == [left.id for left in unfinished if left.length]
    assert verify(path).ok
    assert ZarrStore.open(path).episodes[: len(finished)] == finished
    for left, episode in zip(unfinished, ZarrStore.open(path).episodes[len(finished) :], strict=True):
        assert (left.id, left.length) == (episode.id, episode.length)
        assert episode.truncated == (left.outcome is None)


def test_killed_at_random(tmp_path: Path) -> None:
    path = tmp_path / "d"
    ZarrStore.create(path, dataset_spec())
    assert check_kills(path, run_script("kill_writer.py", "random", path, 0, 25)) == 25
    assert ZarrStore.open(path).episodes
    repair(path, "drop")
    assert verify(path).ok


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_random_many_times(tmp_path: Path) -> None:
    for seed in range(8):
        path = tmp_path / str(seed)
        ZarrStore.create(path, dataset_spec())
        assert check_kills(path, run_script("kill_writer.py", "random", path, seed + 1, 50)) == 50
        repair(path, "salvage")
        assert verify(path).ok


@pytest.mark.parametrize(
    "stride", [6, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(600)])], ids=["some", "every"]
)
def test_killed_before_a_change_of_a_file(tmp_path: Path, stride: int) -> None:
    path = tmp_path / "d"
    dataset(path, [3])
    as_schema_2(path)  # the first commit brings the table into a block
    output = run_script("kill_writer.py", "step", path, stride)
    changes = check_kills(path, output) * stride
    assert 100 < changes < 900  # the last child got through, so every change had its turn
    assert (path / "episodes/0.jsonl").exists()
    check_repair(path)


def test_killed_while_it_makes_a_dataset(tmp_path: Path) -> None:
    """The name is free until the dataset is whole."""
    path = tmp_path / "d"
    killed = [line.split() for line in run_script("kill_writer.py", "create", path, 4).splitlines()]
    assert len(killed) > 15
    assert {fields for _, fields in killed[:-1]} == {"0"}
    assert killed[-1][1] != "0"
    assert verify(path).ok


def test_unfinished_episode_is_reported_salvaged_or_dropped(tmp_path: Path) -> None:
    for action in ("drop", "salvage"):
        path = tmp_path / action
        store = dataset(path, [4, 6])
        with store.writer() as writer:
            writer.begin(EpisodeMeta(id="lost", seed=3, task="push-v1"))
            for number in range(10, 15):
                writer.append(step(number), stamps(number))  # type: ignore[arg-type]
        found = verify(path)
        assert not found.ok
        assert "'lost' was not finished: 5 steps can be salvaged" in found.problems[0]
        planned = repair(path, action, dry_run=True)  # type: ignore[arg-type]
        assert (planned.dropped if action == "drop" else planned.salvaged) == ["lost"]
        assert len(ZarrStore.open(path).unfinished) == 1
        _ = repair(path, "drop") if action == "drop" else repair(path)  # what destroys has to be asked for
        assert verify(path).ok
        check_counting(path)
        episodes = ZarrStore.open(path).episodes
        if action == "salvage":
            assert (episodes[-1].id, episodes[-1].length, episodes[-1].seed) == ("lost", 5, 3)
            assert episodes[-1].success is None
            assert episodes[-1].truncated
            assert "salvaged" in episodes[-1].reason
        else:
            assert len(episodes) == 2
        assert repair(path, "drop").dropped == []
        assert not (path / ".recording").exists()


def test_an_episode_that_could_not_be_committed_is_salvaged_with_all_that_was_said(tmp_path: Path) -> None:
    path = tmp_path / "d"
    said = Annotation(1, 3, "slip", "ana")
    with dataset(path, [3]).writer() as writer:
        writer.begin(EpisodeMeta(id="late", tags={"table": "low"}))
        for number in range(3, 8):
            if number == 5:
                writer.mark("reach", "bo")
            writer.append(step(number), stamps(number))  # type: ignore[arg-type]
        (path / ".zarr.json.tmp").mkdir()  # the root file cannot be written
        with pytest.raises(DatasetError, match="was not committed"):
            writer.commit(EpisodeOutcome(np.True_, np.True_, np.False_), {"gripper": 2}, [said])  # type: ignore[arg-type]
        (path / ".zarr.json.tmp").rmdir()
    assert repair(path).salvaged == ["late"]
    found = ZarrStore.open(path).episodes[-1]
    assert (found.success, found.terminated, found.truncated) == (True, True, False)
    assert found.tags == {"table": "low", "gripper": 2}
    assert found.annotations == (said, Annotation(2, 5, "reach", "bo"))
    check_counting(path)


def test_a_journal_that_cannot_be_read_is_in_nobodys_way(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with dataset(path, [3]).writer() as writer:
        journal = path / ".recording" / "strange" / "journal"
        journal.mkdir(parents=True)  # stands for one that belongs to another user
        record(writer, 2, 3)
    assert "cannot be read" in verify(path).problems[0]
    with ZarrStore.open(path).writer() as writer:
        record(writer, 2, 5)
    assert repair(path).left == ["strange"]
    assert journal.exists()
    check_counting(path)


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, what: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    store = dataset(tmp_path / "d", [3])
    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(DatasetError, match=r"cannot be locked .No locks available.") as told:
        store.writer()
    assert not isinstance(told.value, DatasetBusyError)


def test_a_torn_journal_gives_the_steps_before_the_tear(tmp_path: Path) -> None:
    path = tmp_path / "d"
    store = dataset(path, [4])
    with store.writer() as writer:
        writer.begin(EpisodeMeta(id="torn"))
        for number in range(4, 14):
            writer.append(step(number), stamps(number))  # type: ignore[arg-type]
    journal = next((path / ".recording").glob("*/journal"))
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-7])
    assert [left.length for left in store.unfinished] == [9]
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    journal.write_bytes(damaged)
    (left,) = store.unfinished
    assert 0 < left.length < 9
    repair(path, "salvage")
    check_counting(path)
    assert ZarrStore.open(path).episodes[-1].length == left.length

    with store.writer() as writer:
        writer.begin(EpisodeMeta(id="hopeless"))
        writer.append(step(0), stamps(0))  # type: ignore[arg-type]
    journal = next((path / ".recording").glob("*/journal"))
    journal.write_bytes(b"robolearn-journal-1\n\x00\x01")
    assert repair(path, "salvage").left == [store.unfinished[0].id]
    assert "drop it" in store.unfinished[0].problem
    repair(path, "drop")
    assert verify(path).ok


def test_a_lock_is_had_and_given_back_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = dataset(tmp_path / "d", [3])
    with monkeypatch.context() as patch:
        patch.setattr("os.pwrite", full)
        store.writer().close()
    with store.writer() as writer:
        record(writer, 2, 3)


HOLDER = """
import sys, time
from robolearn.datasets.zarr_store import ZarrStore
with ZarrStore.open(sys.argv[1]).writer():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    store = dataset(tmp_path / "d", [2])
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path / "d"], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(DatasetError, match=f"written to by process {holder.pid}"):
            store.writer()
        with pytest.raises(DatasetError, match=f"written to by process {holder.pid}"):
            repair(tmp_path / "d")
        assert len(ZarrStore.open(tmp_path / "d").episodes) == 1  # reading goes on
        holder.send_signal(signal.SIGKILL)
    with store.writer() as writer:
        record(writer, 2, 2)
    check_counting(tmp_path / "d")


ROBBED = """
import sys
from painted import *
from robolearn.datasets.store import EpisodeMeta
from robolearn.errors import DatasetError
with ZarrStore.open(sys.argv[1]).writer() as writer:
    record(writer, 2, 2)
    writer.begin(EpisodeMeta(id="robbed"))
    for number in range(7, 10):
        writer.append(step(number), stamps(number))
    print("begun", flush=True)
    sys.stdin.readline()
    for call in (lambda: writer.commit(SUCCESS), lambda: writer.begin(EpisodeMeta())):
        try:
            call()
        except DatasetError as error:
            print(error, flush=True)
    sys.stdin.readline()
"""


def test_a_writer_whose_lock_is_taken_away_keeps_what_it_had(tmp_path: Path) -> None:
    path = tmp_path / "d"
    dataset(path, [2])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n" + ROBBED, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as robbed:
        assert robbed.stdout is not None
        assert robbed.stdin is not None
        assert robbed.stdout.readline() == "begun\n"
        (path / ".recording" / "lock").unlink()
        with ZarrStore.open(path).writer() as writer:
            record(writer, 3, 4)
            robbed.stdin.write("\n")
            robbed.stdin.flush()
            told = [robbed.stdout.readline() for _ in range(2)]
        robbed.stdin.write("\n")
        robbed.stdin.flush()
        robbed.wait()
    why = f"{path}: somebody removed the lock of this writer, and process {os.getpid()} writes there now"
    assert told[0].startswith(why)
    assert told[0].endswith(f"salvage the episode that was not committed with: robolearn dataset repair {path}\n")
    assert told[1] == f"{why}; open another one\n"
    assert robbed.returncode == 0
    assert len(ZarrStore.open(path).episodes) == 3  # nobody's is lost
    assert repair(path).salvaged == ["robbed"]
    check_counting(path)


FULL = """
import resource, sys
from painted import *
from robolearn.datasets.store import EpisodeMeta, ImageCodec
from robolearn.errors import DatasetBusyError, DatasetError
store = ZarrStore.open(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
with store.writer() as writer:
    try:
        record(writer, 200, 5, id="too-long")
        print("recorded")
    except DatasetError as error:
        print(error)
    if writer._begun is not None:
        writer.discard()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    record(writer, 7, 5, id="after")
"""


@pytest.mark.parametrize("limit", [3_000, 20_000, 120_000, 160_000])
def test_a_full_disk_costs_the_episode_only(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "d"
    dataset(path, [5])
    (tmp_path / "full.py").write_text(f"import sys; sys.path.insert(0, {str(HERE)!r})\n" + FULL)
    done = subprocess.run(
        [sys.executable, tmp_path / "full.py", path, str(limit)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    check_counting(path)
    store = ZarrStore.open(path)
    assert [episode.id for episode in store.episodes][1:] == ["after"]
    assert [left.id for left in store.unfinished] == (["too-long"] if limit > 3_000 else [])
    assert not list(path.glob(".recording/*/image_*"))  # the room is given back
    repair(path, "salvage")
    assert verify(path).ok


def test_a_codec_too_slow_masks_and_counts_and_never_shifts(tmp_path: Path) -> None:
    store = ZarrStore.create(tmp_path / "d", dataset_spec())
    size = step(0)["image_front"].nbytes * 2  # type: ignore[attr-defined]
    with store.writer(WriterConfig(drop_when_full=True, queue_bytes=3 * size)) as writer:
        info = record(writer, 400)
    assert 0 < info.dropped["image_front"] < 400
    assert info.dropped == info.masked
    valid = store.read_valid(0)
    read = store.read(0)
    for number in range(400):
        assert read["action"][number, 0] == number
        if valid["image_front"][number]:
            assert painted_number(read["image_front"][number]) == number
        else:
            assert not read["image_front"][number].any()
    assert int((~valid["image_front"]).sum()) == info.dropped["image_front"]
    with store.writer(WriterConfig(drop_when_full=True, queue_bytes=3 * size)) as writer:
        writer.begin(EpisodeMeta(id="left"))
        for number in range(100):
            writer.append(step(number), stamps(number))  # type: ignore[arg-type]
    repair(tmp_path / "d")
    salvaged = ZarrStore.open(tmp_path / "d").episodes[-1]
    assert salvaged.dropped == salvaged.masked != {}
    found = verify(tmp_path / "d")
    assert found.ok
    assert sum("too slow" in warning for warning in found.warnings) == 4


def test_a_reader_keeps_reading_while_a_writer_writes(tmp_path: Path) -> None:
    path = tmp_path / "d"
    store = dataset(path, [5, 5])
    reader = ZarrStore.open(path)
    before = reader.read(1)
    with store.writer() as writer:
        for number in range(10, 100, 10):
            record(writer, 10, number)
            np.testing.assert_array_equal(reader.read(1)["image_front"], before["image_front"])
            np.testing.assert_array_equal(ZarrStore.open(path).read(1)["action"], before["action"])
    assert len(reader.episodes) == 2
    check_counting(path)
    assert SUCCESS.success
