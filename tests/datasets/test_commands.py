"""`robolearn dataset ...`: editing by index or id, dry runs, undo, exit codes."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from painted import SUCCESS, dataset, dataset_spec, paint, painted_number, stamps, step

from robolearn import cli
from robolearn.datasets.store import EpisodeMeta
from robolearn.datasets.video import VideoReader
from robolearn.datasets.view import _row
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import RobolearnError
from robolearn.specs import depth_spec


def lengths(path: Path) -> list[int]:
    return [info.length for info in ZarrStore.open(path).episodes]


def test_edits_are_dry_run_done_and_undone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demos.zarr"
    dataset(path, [4, 5, 6])
    ids = [info.id for info in ZarrStore.open(path).episodes]
    run = lambda *words: cli.run(["dataset", words[0], str(path), *words[1:]])  # noqa: E731

    assert run("delete", "1", "--dry-run") == 0
    assert f"would be hidden: {ids[1]}" in capsys.readouterr().err
    assert lengths(path) == [4, 5, 6]
    assert run("delete", ids[1]) == 0
    assert lengths(path) == [4, 6]
    assert run("undo") == 0
    assert lengths(path) == [4, 5, 6]
    assert run("trim", "2", "--start", "1", "--stop", "4") == 0
    assert lengths(path) == [4, 5, 3]
    assert run("tag", "0", "1", "--name", "quality", "--value", "0.5") == 0
    assert [info.tags.get("quality") for info in ZarrStore.open(path).episodes] == [0.5, 0.5, None]
    assert run("gc") == 0
    assert lengths(path) == [4, 5, 3]
    assert run("split", "0", "2", "--out", str(tmp_path / "part.zarr")) == 0
    assert lengths(tmp_path / "part.zarr") == [4, 3]
    assert run("verify") == 0
    capsys.readouterr()
    (path / "action" / "zarr.json").unlink()
    assert run("verify") == 1
    assert capsys.readouterr().err.endswith(f"NOT whole; try: robolearn dataset repair {path}\n")
    assert run("repair") == 0
    (path / "action" / "c.0.0").unlink()
    assert run("verify") == 1
    assert f"leave out what is named with: robolearn dataset delete {path} EPISODE" in capsys.readouterr().err


def test_merge_adds_up_and_names_what_is_missing(tmp_path: Path) -> None:
    for name, length in (("a.zarr", 3), ("b.zarr", 2)):
        dataset(tmp_path / name, [length])
    words = [str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr"), "--out", str(tmp_path / "all.zarr")]
    assert cli.run(["dataset", "merge", *words]) == 0
    assert lengths(tmp_path / "all.zarr") == [3, 2]
    with pytest.raises(RobolearnError, match="nowhere"):
        cli.run(["dataset", "merge", str(tmp_path / "nowhere"), "--out", str(tmp_path / "x.zarr")])


def test_an_episode_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "demos.zarr"
    dataset(path, [4])
    with pytest.raises(RobolearnError, match="7"):
        cli.run(["dataset", "delete", str(path), "7"])
    assert lengths(path) == [4]


def test_no_episode_named_changes_nothing_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "demos.zarr"
    dataset(path, [4])
    for words in (["delete"], ["tag", "--name", "good"], ["relabel", "--task", "push-v1"]):
        with pytest.raises(RobolearnError, match="name at least one"):
            cli.run(["dataset", words[0], str(path), *words[1:]])
    assert lengths(path) == [4]


def test_relabel_and_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, copy = tmp_path / "demos.zarr", tmp_path / "copy.zarr"
    dataset(path, [4, 5])
    ids = [info.id for info in ZarrStore.open(path).episodes]
    assert cli.run(["dataset", "split", str(path), "0", "1", "--out", str(copy)]) == 0
    assert cli.run(["dataset", "diff", str(path), str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"equal": True, "differences": []}
    words = ["--success", "unknown", "--task", "lift-v1", "--instruction", "lift it"]
    assert cli.run(["dataset", "relabel", str(copy), ids[1], *words]) == 0
    row = ZarrStore.open(copy).episodes[1]
    assert (row.success, row.task, row.instruction) == (None, "lift-v1", "lift it")
    assert ZarrStore.open(copy).spec.tasks == ("push-v1", "lift-v1")
    capsys.readouterr()
    assert cli.run(["dataset", "diff", str(path), str(copy), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["differences"]
    assert [(each["episode"], each["field"]) for each in found] == [
        ("", "tasks"),
        (ids[1], "task"),
        (ids[1], "instruction"),
        (ids[1], "success"),
    ]
    assert cli.run(["dataset", "undo", str(copy)]) == 0
    assert ZarrStore.open(copy).episodes[1].task == "push-v1"


def test_stats_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset(tmp_path / "demos.zarr", [3])
    assert cli.run(["dataset", "stats", str(tmp_path / "demos.zarr"), "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert stats["fields"]["action"]["mean"] == [1.0, 1.0]
    assert stats["fields"]["image_front"]["high"] == [255.0] * 3
    assert stats["quality"]["tq"] == 1
    assert cli.run(["dataset", "stats", str(tmp_path / "demos.zarr"), "--fields", "action"]) == 0
    assert "action [rad], 3 values" in capsys.readouterr().out


def test_strict_verification_and_a_camera_that_stood_still(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "demos.zarr"
    store = dataset(path, [8])
    assert cli.run(["dataset", "verify", str(path), "--strict"]) == 0
    with store.writer() as writer:
        writer.begin(EpisodeMeta(task="push-v1"))
        for number in range(40):
            writer.append(step(number) | {"image_front": paint(7)}, stamps(number))
        writer.commit(SUCCESS)
    capsys.readouterr()
    assert cli.run(["dataset", "verify", str(path)]) == 0
    assert "image_front shows one and the same picture for 40 steps" in capsys.readouterr().err
    assert cli.run(["dataset", "verify", str(path), "--strict"]) == 1


def test_view_writes_a_video_of_every_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path, video = Path("demos.zarr"), Path("demos-15:00.mp4")
    store = dataset(path, [7])
    assert cli.run(["dataset", "view", str(path), "0", "--out", str(video)]) == 0
    with VideoReader("the video") as reader:
        frames = [reader.read(video, number / 30, 0.01) for number in range(7)]
        assert reader.read(video, 7 / 30, 0.01) is None
    for number, frame in enumerate(frames):
        assert frame is not None
        left = frame[28 : 28 + 240, 120:360]  # the front camera, enlarged to 240 pixels
        assert painted_number(left[7::15, 7::15]) == painted_number(store.read(0)["image_front"][number])
    with pytest.raises(RobolearnError, match="exists"):
        cli.run(["dataset", "view", str(path), "0", "--out", str(video)])
    with pytest.raises(RobolearnError, match="view writes"):
        cli.run(["dataset", "view", str(path), "0", "--out", str(tmp_path / "episode.gif")])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["demos-15:00.mp4", "demos.zarr"]


def test_what_a_recording_left_unfinished_is_told_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my demos.zarr"

    def graph(*launched: object, **options: object) -> int:
        with dataset(path, [2]).writer() as writer:
            writer.begin(EpisodeMeta(id="cut"))
            writer.append(step(1), stamps(1))  # type: ignore[arg-type]
        return 0

    monkeypatch.setattr("robolearn.ros.launch.run", graph)
    monkeypatch.setenv("ROS_DOMAIN_ID", "77")
    assert cli.run(["record", "--twin", "reach-v1", "--teleop", "web", "--out", str(path)]) == 0
    told = capsys.readouterr().err
    assert f"1 episode in {path}, 1 successful" in told
    assert (
        f"episode 'cut' was not finished: 1 steps can be salvaged; keep it with: robolearn dataset repair '{path}'"
        in told
    )


def closed_to_the_group(path: Path) -> list[Path]:
    """Files and folders that it may not write to; what a writer takes away meanwhile counts no more."""
    found = []
    for file in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            found += [] if file.stat().st_mode & 0o020 else [file]
    return found


def test_a_group_that_may_write_to_the_files_of_its_members_may_write_to_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "demos.zarr"
    before = os.umask(0o002)
    try:
        with dataset(path, [4, 5]).writer() as writer:
            writer.begin(EpisodeMeta(id="cut"))
            writer.append(step(1), stamps(1))  # type: ignore[arg-type]
            assert not closed_to_the_group(path)
        assert cli.run(["dataset", "delete", str(path), "0"]) == 0
    finally:
        os.umask(before)
    assert not closed_to_the_group(path)


def test_what_a_collection_on_a_graph_left_unfinished_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "my demos.zarr"

    def interrupted(*asked: object, **options: object) -> None:
        with dataset(path, [2]).writer() as writer:
            writer.begin(EpisodeMeta(id="cut"))
            writer.append(step(1), stamps(1))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr("robolearn.recipes.collect.collect_episodes", interrupted)
    assert cli.run(["collect", "reach-v1", "--graph", "--out", str(path)]) == 130
    told = capsys.readouterr().err
    assert (
        f"episode 'cut' was not finished: 1 steps can be salvaged; remove it with: robolearn dataset repair '{path}'"
        in told
    )


def test_in_a_video_near_depth_is_bright_and_what_was_not_measured_is_black(tmp_path: Path) -> None:
    spec = replace(dataset_spec(cameras=()), extra={"depth_front": depth_spec(16, 16)})
    depth = np.full((16, 16), 250, np.uint16)
    depth[:, 4:8], depth[:, 8:] = 1000, 0
    drawn = _row({"depth_front": depth}, ZarrStore.create(tmp_path / "d", spec))[100, 360:600]
    near, far, none = drawn[10], drawn[90], drawn[200]
    assert near.tolist() == [255] * 3
    assert 40 < far[0] < 150
    assert none.tolist() == [0] * 3


def test_the_name_of_a_camera_lies_on_its_shadow(tmp_path: Path) -> None:
    """Letters of two weights are of two widths with OpenCV 5."""
    store = dataset(tmp_path / "demos.zarr", [1])
    drawn = _row({"image_front": np.full((16, 16, 3), 128, np.uint8)}, store)[:28].max(axis=2)
    ends = [np.nonzero(found.any(axis=0))[0].max() for found in (drawn[:, 362:598] < 60, drawn[:, 362:598] > 200)]
    assert abs(ends[0] - ends[1]) <= 2
