"""What is written in place of an older file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from robolearn import durable


def test_a_file_is_on_disk_before_it_has_its_name_and_its_name_is_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, int]] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(("sync", os.fstat(fd).st_ino)), sync(fd)))
    monkeypatch.setattr(
        os, "replace", lambda old, new: (done.append(("name", Path(old).stat().st_ino)), replace(old, new))
    )
    file = tmp_path / "cell.yaml"
    file.write_text("old")
    durable.write(file, b"new")
    assert file.read_text() == "new"
    number = file.stat().st_ino
    assert done == [("sync", number), ("name", number), ("sync", tmp_path.stat().st_ino)]
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    file = tmp_path / "cell.yaml"
    file.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        durable.write(file, b"new")
    assert file.read_text() == "old"
