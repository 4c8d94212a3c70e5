"""Datasets in object stores, by URL: s3://bucket/path, gs://, az://, https:// (reading only).

They are read in place, a chunk a request. They are written by publishing a local dataset, after any episode: only what
changed is sent, values first and the root file last, so a reader over there sees whole episodes, as on a disk. The
addresses and keys of a store are taken from its usual environment variables, such as AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from robolearn.datasets.columns import COLUMNS, EPISODES, LABELLING
from robolearn.datasets.disk import moved_when_whole
from robolearn.datasets.files import Files
from robolearn.datasets.lock import require_own
from robolearn.datasets.zarr_layout import RECORDING, ROOT_FILE, Root, open_files, read_root
from robolearn.errors import DatasetError

COLUMNS_FILE = f"{COLUMNS}/{ROOT_FILE}"
HEADS = (COLUMNS_FILE, ROOT_FILE)  # tell what there is, and are written last, in this order
MANIFEST = ".published.json"  # over there: SHA-256 of every file, by name
CONNECTIONS = 8  # files on their way at once
TIMEOUT_S = 30.0  # of a request; `retry` times before it is an error

Progress = Callable[[int, int], None]
"""Called with the files done and their number."""


def is_url(path: Path | str) -> bool:
    return isinstance(path, str) and "://" in path


class RemoteFile:
    def __init__(self, files: RemoteFiles, name: str) -> None:
        self._files, self._name = files, name
        self.size = int(files.ask("head", name)["size"])

    def read(self, length: int, offset: int) -> bytes:
        return bytes(self._files.ask("get_range", self._name, start=offset, length=length)) if length else b""


class RemoteFiles:
    """A folder of an object store."""

    def __init__(self, url: str) -> None:
        """Raises DatasetError when there is no such kind of store."""
        try:
            import obstore
            from obstore.store import from_url
        except ImportError as error:
            raise DatasetError(f"{url} needs obstore: pip install 'robolearn[object-store]'") from error
        self._obstore: Any = obstore
        self._url = url.rstrip("/")
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http:") or url.startswith("http:")
        try:
            self.store: Any = from_url(
                self._url,
                client_options={"timeout": f"{TIMEOUT_S:g}s", "allow_http": plain},
                retry_config={"max_retries": 3},
            )
        except Exception as error:
            kinds = "s3://BUCKET/PATH, gs://, az:// or https://"
            raise DatasetError(f"{url} cannot be opened: {_brief(error)}; wanted is {kinds}") from error

    def where(self, name: str) -> str:
        return f"{self._url}/{name}"

    def open(self, name: str) -> RemoteFile:
        return RemoteFile(self, name)

    def read(self, name: str) -> bytes:
        return bytes(self.ask("get", name).bytes())

    def names(self) -> list[str]:
        """Every file there. Raises DatasetError when a name leads out of the folder."""
        try:
            found = [str(entry["path"]) for page in self._obstore.list(self.store) for entry in page]
        except self._obstore.exceptions.BaseError as error:
            raise DatasetError(f"{self._url} cannot be listed: {_brief(error)}") from error
        for name in found:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name:
                raise DatasetError(f"{self._url} has a file {name!r}, which leads out of the dataset; nothing was read")
        return found

    def put(self, name: str, data: bytes) -> None:
        self.ask("put", name, data)

    def delete(self, name: str) -> None:
        self.ask("delete", name)

    def ask(self, what: str, name: str, *arguments: Any, **keywords: Any) -> Any:
        """A request. Raises OSError, as files of a disk do."""
        errors = self._obstore.exceptions
        try:
            return getattr(self._obstore, what)(self.store, name, *arguments, **keywords)
        except (errors.NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(2, "there is no such file", self.where(name)) from error
        except errors.BaseError as error:
            raise OSError(5, _brief(error), self.where(name)) from error


@dataclass(frozen=True)
class Transfer:
    """What was, or would be, sent or fetched."""

    files: int
    bytes: int
    kept: int  # files that were there already


def publish(path: Path, url: str, dry_run: bool = False, progress: Progress = lambda done, total: None) -> Transfer:
    """Bring a dataset of an object store up to date with a local one; recording may go on meanwhile.

    Raises DatasetError when something else lies there: no dataset, one with episodes that this one lacks, or this one
    before its garbage was collected, which moved its steps.
    """
    files, remote = open_files(path), RemoteFiles(url)
    _check_successor(url, read_root(files), _root(remote))
    told = _heads(files)
    found = [name for name in _names(path) if name not in HEADS]
    told |= {name: files.read(name) for name in found if _tells(name)}
    names = list(dict.fromkeys([*found, *told]))
    hashes = {name: hashlib.sha256(told[name] if name in told else files.read(name)).hexdigest() for name in names}
    there = _manifest(remote)
    names.remove(ROOT_FILE)
    changed = [name for name in names if there.get(name) != hashes[name]]
    num_bytes = sum(files.open(name).size for name in changed)
    if not dry_run and there != hashes:

        def send(name: str) -> None:
            remote.put(name, told[name] if name in told else files.read(name))

        try:  # values, then what tells of their arrays, then the list of columns, then the table
            for wanted in (set(names) - set(told), set(told) - set(HEADS)):
                _each([(send, name) for name in changed if name in wanted], progress)
            for name in HEADS:
                if name in told:
                    send(name)
            for name in set(there) - set(hashes):
                remote.delete(name)
            remote.put(MANIFEST, json.dumps(hashes).encode())
        except OSError as error:
            raise DatasetError(f"{error.filename or url} cannot be written: {error.strerror or error}") from error
    return Transfer(len(changed), num_bytes, len(names) - len(changed))


def pull(url: str, path: Path, dry_run: bool = False, progress: Progress = lambda done, total: None) -> Transfer:
    """Copy a dataset of an object store to a new folder, which is there whole or not at all."""
    if path.exists():
        raise DatasetError(f"{path} exists; name another folder")
    remote = RemoteFiles(url)
    read_root(remote)  # raises in words when this is no dataset
    sizes: list[int] = []
    try:
        heads = _heads(remote)
        names = [name for name in remote.names() if name not in (*HEADS, MANIFEST)]
        if dry_run:
            num_bytes = sum(map(len, heads.values())) + sum(remote.open(name).size for name in names)
            return Transfer(len(names) + len(heads), num_bytes, 0)
        with moved_when_whole(path) as new:

            def fetch(name: str) -> None:
                target = new / name
                target.parent.mkdir(parents=True, exist_ok=True)
                sizes.append(target.write_bytes(heads[name] if name in heads else remote.read(name)))

            for metadata in (True, False):
                _each([(fetch, name) for name in names if _tells(name) == metadata], progress)
            for name in heads:
                fetch(name)
    except OSError as error:
        raise DatasetError(f"{error.filename or url} cannot be copied: {error.strerror or error}") from error
    return Transfer(len(sizes), sum(sizes), 0)


def _heads(files: Files) -> dict[str, bytes]:
    """The table and the list of columns. What tells of values is read before them, all the way down: they may grow
    meanwhile, and then hold more than it tells."""
    heads = {ROOT_FILE: files.read(ROOT_FILE)}
    with contextlib.suppress(FileNotFoundError):
        heads[COLUMNS_FILE] = files.read(COLUMNS_FILE)
    return heads


def _tells(name: str) -> bool:
    """Whether a file tells of values that lie in others."""
    return name.endswith((ROOT_FILE, EPISODES))


def _each(calls: list[tuple], progress: Progress) -> None:
    """Make calls, some at a time; raises the first error."""
    with ThreadPoolExecutor(CONNECTIONS, "dataset-remote") as pool:
        futures = [pool.submit(*call) for call in calls]
        try:
            for done, future in enumerate(futures):
                future.result()
                progress(done + 1, len(futures))
        finally:
            for future in futures:
                future.cancel()


def _names(path: Path) -> Iterator[str]:
    """Files of a local dataset that are worth sending. Raises DatasetError for a link, which may lead to anything."""
    for file in path.rglob("*"):
        name = file.relative_to(path)
        if file.is_file() and name.parts[0] not in (RECORDING, LABELLING) and not name.name.startswith("."):
            require_own(path, file)
            yield name.as_posix()


def _root(remote: RemoteFiles) -> Root | None:
    try:
        remote.read(ROOT_FILE)
    except FileNotFoundError:
        if names := remote.names()[:1]:
            raise DatasetError(f"{remote.where(names[0])} is there and is no dataset; publish elsewhere") from None
        return None
    except OSError as error:
        raise DatasetError(f"{error.filename} cannot be read: {error.strerror}") from error
    return read_root(remote)


def _manifest(remote: RemoteFiles) -> dict[str, str]:
    try:
        return dict(json.loads(remote.read(MANIFEST)))
    except (OSError, ValueError, TypeError):
        return {}  # then everything is sent


def _check_successor(url: str, ours: Root, theirs: Root | None) -> None:
    rows = {row.id: row for row in ours.episodes}
    for row in theirs.episodes if theirs is not None else ():
        if row.id not in rows:
            raise DatasetError(f"{url} has episode {row.id!r}, which this dataset lacks; publish elsewhere")
        starts = rows[row.id].start - row.start, row.stop - rows[row.id].stop
        if min(starts) < 0 < max(starts) or ours.spec.to_json() != theirs.spec.to_json():  # type: ignore[union-attr]
            raise DatasetError(f"{url} was published before this dataset was written anew; publish to a new URL")


def _brief(error: Exception) -> str:
    return " ".join(str(error).partition("Debug source:")[0].split())[:300]  # which the store adds for its authors
