"""Datasets in an S3 that runs on this machine: published, read in place, pulled."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import obstore
import pytest
import zarr
from painted import dataset, painted_number, record

from robolearn import cli
from robolearn.datasets import edit
from robolearn.datasets.remote import RemoteFiles, publish, pull
from robolearn.datasets.sampler import Sampler, SamplerConfig
from robolearn.datasets.verify import verify
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError
from robolearn.specs import ArraySpec


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def url(server: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    import urllib.request

    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    with urllib.request.urlopen(urllib.request.Request(f"{server}/{bucket}", method="PUT"), timeout=30):
        return f"s3://{bucket}/day/demos.zarr"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    dataset(tmp_path / "d", [3, 5])
    return tmp_path / "d"


def test_published_read_in_place_and_pulled(path: Path, url: str, tmp_path: Path) -> None:
    with ZarrStore.open(path).column_writer("reward/a-1", ArraySpec(()), {}) as column:
        column.write(1, np.arange(5.0))
    assert publish(path, url, dry_run=True).files > 0
    with pytest.raises(DatasetError, match=r"demos\.zarr is not a dataset"):
        ZarrStore.open(url)
    sent = publish(path, url)
    assert sent.kept == 0
    local, remote = ZarrStore.open(path), ZarrStore.open(url)
    assert (remote.spec, remote.episodes, remote.unfinished) == (local.spec, local.episodes, [])
    for index in range(2):
        for name, values in local.read(index).items():
            np.testing.assert_array_equal(remote.read(index)[name], values)
        np.testing.assert_array_equal(remote.read_stamps(index)["action"], local.read_stamps(index)["action"])
    assert remote.read(1, ["reward/a-1"])["reward/a-1"].tolist() == [0, 1, 2, 3, 4]
    batch = Sampler(remote, SamplerConfig(("proprio", "image_front"))).sample(8, np.random.default_rng(0))
    assert [painted_number(image) for image in batch["image_front"]] == batch["proprio"][:, 0].astype(int).tolist()
    group = zarr.open_group(zarr.storage.ObjectStore(RemoteFiles(url).store, read_only=True), mode="r")
    episode = group.attrs["newest_episodes"][1]  # type: ignore[index]
    images = group["image_front"][episode["start"] : episode["start"] + episode["length"]]  # type: ignore[index,call-overload]
    assert [painted_number(image) for image in images] == [3, 4, 5, 6, 7]
    pull(url, tmp_path / "copy")
    assert verify(tmp_path / "copy").ok
    assert ZarrStore.open(tmp_path / "copy").episodes == local.episodes
    with pytest.raises(DatasetError, match="exists"):
        pull(url, tmp_path / "copy")
    for call in (remote.writer, lambda: remote.column_writer("x", ArraySpec(()), {})):
        with pytest.raises(DatasetError, match="can only be read; pull it"):
            call()


def test_published_again_after_every_episode(path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robolearn.datasets.zarr_layout.BLOCK_BYTES", 1)  # each commit makes a block
    publish(path, url)
    early = ZarrStore.open(url)
    assert publish(path, url).files == 0
    with ZarrStore.open(path).writer() as writer:
        for number in (8, 12):
            record(writer, 4, number)
            publish(path, url)  # while the writer lives
            assert ZarrStore.open(url).read(-1)["action"][:, 0].tolist() == list(range(number, number + 4))
            np.testing.assert_array_equal(early.read(1)["image_front"], ZarrStore.open(url).read(1)["image_front"])
    assert len(list((path / "episodes").glob("*.jsonl"))) == 2
    (path / "episodes/0.jsonl").touch()
    assert publish(path, url, dry_run=True).files == 0
    edit.trim(path, 1, 1, 3)
    publish(path, url)
    assert ZarrStore.open(url).read(1)["action"][:, 0].tolist() == [4, 5]
    edit.undo(path)
    edit.delete(path, [0])
    publish(path, url)
    assert len(ZarrStore.open(url).episodes) == 3


def test_on_the_command_line(path: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["dataset", "publish", str(path), url, "--dry-run"]) == 0
    assert "would be sent: " in capsys.readouterr().err
    assert cli.run(["dataset", "publish", str(path), url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 0
    assert cli.run(["dataset", "pull", url, "--out", str(tmp_path / "copy")]) == 0
    assert verify(tmp_path / "copy").ok


def test_what_is_not_overwritten(path: Path, url: str, tmp_path: Path) -> None:
    publish(path, url)
    dataset(tmp_path / "other", [2])
    with pytest.raises(DatasetError, match="which this dataset lacks; publish elsewhere"):
        publish(tmp_path / "other", url)
    with ZarrStore.open(path).writer() as writer:
        record(writer, 4, 8)
    publish(path, url)
    edit.trim(path, 1, 0, 2)
    edit.collect_garbage(path)
    with pytest.raises(DatasetError, match="written anew; publish to a new URL"):
        publish(path, url)
    RemoteFiles(url.replace("demos", "notes")).put("notes.txt", b"mine")
    with pytest.raises(DatasetError, match=r"notes\.txt is there and is no dataset"):
        publish(path, url.replace("demos", "notes"))


def test_what_is_wrong_over_there_is_one_line(path: Path, url: str, tmp_path: Path) -> None:
    publish(path, url)
    files = RemoteFiles(url)
    shard = next(name for name in files.names() if name.startswith("image_front/c."))
    whole = files.read(shard)
    for data in (whole[:-9], b""):
        files.put(shard, data)
        with pytest.raises(DatasetError, match="field image_front: this shard is cut off") as error:
            ZarrStore.open(url).read(0)
        assert f"{url}/{shard}" in str(error.value)
    files.delete(shard)
    with pytest.raises(DatasetError, match="field image_front misses this shard"):
        ZarrStore.open(url).read(0)
    root = json.loads(files.read("zarr.json"))
    root["attributes"]["schema_version"] = 99
    files.put("zarr.json", json.dumps(root).encode())
    with pytest.raises(DatasetError, match="schema version 99"):
        pull(url, tmp_path / "copy")
    with pytest.raises(DatasetError, match=r"cannot be opened: [^{]*; wanted is s3://"):  # no dump of a structure
        ZarrStore.open("nonsense://bucket/path")
    with pytest.raises(DatasetError, match="is not a dataset"):
        ZarrStore.open(url.replace("day", "night"))
    assert not (tmp_path / "copy").exists()
    assert not list(tmp_path.glob(".copy*"))


def test_nothing_is_published_that_a_link_leads_to(path: Path, url: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret")
    (path / "notes.txt").symlink_to(tmp_path / "key")
    with pytest.raises(DatasetError, match=r"notes\.txt is a link to .*key"):
        publish(path, url)
    assert RemoteFiles(url).names() == []


def test_names_that_lead_out_are_refused(path: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(path, url)
    monkeypatch.setattr(obstore, "list", lambda store: [[{"path": "../../evil"}]])
    with pytest.raises(DatasetError, match="leads out of the dataset"):
        pull(url, tmp_path / "copy")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["d"]


def test_labelled_while_it_is_published_and_pulled(
    path: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ZarrStore.open(path)

    def label(index: int, done: int, total: int) -> None:
        """When the last value is on its way and what tells of it is not."""
        with store.column_writer("progress", ArraySpec(()), {}) as column:
            if done == total and index in column.missing:
                column.write(index, np.full(store.episodes[index].length, 7.0 + index))

    label(0, 1, 1)
    publish(path, url, progress=lambda done, total: label(1, done, total))
    over_there = ZarrStore.open(url)
    episode = over_there.episodes[1]
    assert not over_there.columns["progress"].has(episode.id, episode.start, episode.stop)
    synced: set[str] = set()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: synced.add(os.readlink(f"/proc/self/fd/{fd}")))
        pull(url, tmp_path / "copy", progress=lambda done, total: publish(path, url) and None)
    assert {name for name in synced if name.endswith("/zarr.json")}  # a copy that is there survives a power cut
    copy = ZarrStore.open(tmp_path / "copy")
    labelled = [e.id for e in copy.episodes if copy.columns["progress"].has(e.id, e.start, e.stop)]
    assert labelled == [copy.episodes[0].id]
    assert copy.read(0, ["progress"])["progress"].tolist() == [7.0] * 3
    assert ZarrStore.open(url).read(1, ["progress"])["progress"].tolist() == [8.0] * 5
