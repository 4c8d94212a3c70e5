"""The episode table: lines of JSON, only ever added to.

A line is the row of an episode as it was committed, or as an edit or its undoing left it. The newest line of an id
counts, in the place of the first one. A row that an edit wrote says so in `edit` (number and what), one that was put
back in `undone` (the edit's number).

The newest lines stand in the root file. Once they are BLOCK_BYTES they become a block, a file that is complete before
the root file counts it and never changes afterwards:

episodes/<number>.jsonl     the CRC-32 of what follows, then a line each

So a commit writes a bounded number of bytes however many episodes there are, and who has read a root file finds all
the blocks that it counts, whatever is written meanwhile.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from robolearn.datasets.files import Files, LocalFiles
from robolearn.datasets.store import EpisodeInfo
from robolearn.errors import DatasetError

BLOCKS = "episodes"  # folder of the blocks
BLOCK_BYTES = 64 << 10  # of lines in the root file, from which on they become a block
HALF_OF_A_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")  # of two that stand for one letter, or of one alone
READ_AT_ONCE = 8  # blocks; in an object store each is a request


@dataclass(frozen=True)
class Edit:
    """What was done, and the rows as they were before."""

    what: str
    before: tuple[EpisodeInfo, ...]

    def __str__(self) -> str:
        return f"{self.what} {', '.join(row.id for row in self.before)}"


@dataclass(frozen=True)
class EpisodeTable:
    """All episodes, hidden ones too, by id and in order; and the edits that can be undone, oldest first."""

    rows: Mapping[str, EpisodeInfo]
    edits: tuple[Edit, ...] = ()
    blocks: int = 0  # that are on disk
    tail: tuple[str, ...] | None = None  # lines behind them; None: nothing is on disk, or as older versions had it

    def added(self, row: EpisodeInfo) -> EpisodeTable:
        return self._changed([row], self.edits, {})

    def edited(self, what: str, rows: Sequence[EpisodeInfo]) -> EpisodeTable:
        """These rows take the place of those of the same ids."""
        edits = (*self.edits, Edit(what, tuple(self.rows[row.id] for row in rows)))
        return self._changed(rows, edits, {"edit": [len(self.edits), what]})

    def undone(self) -> EpisodeTable:
        """Without the last edit, which there has to be."""
        *edits, last = self.edits
        return self._changed(last.before, tuple(edits), {"undone": len(edits)})

    def lines(self) -> tuple[str, ...]:
        """What the root file has to hold, or a new block, so that the table is on disk."""
        return self._history() if self.tail is None else self.tail

    def grown(self, lines: Iterable[Mapping[str, Any]]) -> EpisodeTable:
        """With the lines that follow on those it has. Raises KeyError, TypeError or ValueError for what is damaged."""
        rows, edits = dict(self.rows), [(edit.what, list(edit.before)) for edit in self.edits]
        for line in lines:
            marked = "edit" in line or "undone" in line
            plain = {key: line[key] for key in line if key not in ("edit", "undone")} if marked else line
            row = EpisodeInfo.from_json(plain)
            if marked is not (row.id in rows):
                raise ValueError(f"episode {row.id!r} is there twice, or is changed and was never there")
            if "edit" in line:
                number, what = line["edit"]
                if number == len(edits):
                    edits.append((what, []))
                edits[number][1].append(rows[row.id])
            elif "undone" in line:
                del edits[line["undone"] :]
            rows[row.id] = row
        return replace(self, rows=rows, edits=tuple(Edit(what, tuple(before)) for what, before in edits))

    def followed_by(
        self, older: Sequence[Mapping[str, Any]], blocks: int, newest: Sequence[Mapping[str, Any]]
    ) -> EpisodeTable:
        """The table that is on disk by now: of so many blocks, `older` being the lines of those that this one has not,
        and of the lines in the root file. Raises as `grown` does."""
        tail, known = tuple(map(json.dumps, newest)), self.tail or ()
        if not isinstance(blocks, int) or blocks < self.blocks:
            raise ValueError(f"{blocks} blocks of lines")
        if known != tuple(map(json.dumps, [*older, *newest][: len(known)])):
            raise ValueError("lines that were there are others now")
        return replace(self.grown([*older, *newest][len(known) :]), blocks=blocks, tail=tail)

    def _changed(self, rows: Sequence[EpisodeInfo], edits: tuple[Edit, ...], more: Mapping[str, Any]) -> EpisodeTable:
        tail = None if self.tail is None else (*self.tail, *(_line(row, more) for row in rows))
        return replace(self, rows={**self.rows, **{row.id: row for row in rows}}, edits=edits, tail=tail)

    def _history(self) -> tuple[str, ...]:
        """Lines that lead to this table: the rows as they were before all edits, then these."""
        rows, after = dict(self.rows), []
        for edit in reversed(self.edits):
            after.append([rows[row.id] for row in edit.before])
            rows.update({row.id: row for row in edit.before})
        table = EpisodeTable({}, tail=tuple(_line(row, {}) for row in rows.values()))
        table = replace(table, rows=rows)
        for edit in self.edits:
            table = table.edited(edit.what, after.pop())
        return table.tail or ()


def _line(row: EpisodeInfo, more: Mapping[str, Any]) -> str:
    return json.dumps({**row.to_json(), **more})


def older_table(rows: Iterable[Mapping[str, Any]], edits: Iterable[Mapping[str, Any]]) -> EpisodeTable:
    """Of a root file that holds all rows as they are and, beside them, edits with the rows as they were."""
    table = EpisodeTable({}).grown(rows)
    read = [(edit["what"], map(EpisodeInfo.from_json, edit["before"])) for edit in edits]
    known = [Edit(what, tuple(row for row in before if row.id in table.rows)) for what, before in read]
    return replace(table, edits=tuple(edit for edit in known if edit.before))


def read_blocks(files: Files, blocks: range) -> list[dict[str, Any]]:
    """The lines of these blocks. Raises DatasetError naming one that is damaged or gone."""
    lines = []
    with ThreadPoolExecutor(READ_AT_ONCE, "dataset-table") as pool:
        over = map if isinstance(files, LocalFiles) else pool.map  # a disk answers at once
        for first in range(0, len(blocks), READ_AT_ONCE):
            for read in over(lambda number: _read_block(files, number), blocks[first : first + READ_AT_ONCE]):
                lines += read
    return lines


def block_file(number: int) -> str:
    return f"{BLOCKS}/{number}.jsonl"


def block(lines: Sequence[str]) -> bytes:
    """The contents of a block."""
    body = "".join(f"{line}\n" for line in lines).encode()
    return json.dumps({"crc32": zlib.crc32(body)}).encode() + b"\n" + body


def parsed_json(data: bytes) -> Any:
    """Raises ValueError also for text that is no Unicode, which nobody could send on."""
    value = json.loads(data)
    if HALF_OF_A_PAIR.search(data):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def is_whole(files: Files, name: str) -> bool:
    """Whether a block can be read."""
    try:
        _parsed(files.read(name))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def _parsed(data: bytes) -> list[dict[str, Any]]:
    """The lines of a block. Raises ValueError, KeyError or TypeError where it is damaged."""
    head, _, body = data.partition(b"\n")
    if json.loads(head)["crc32"] != zlib.crc32(body):
        raise ValueError("its checksum is another one")
    return list(parsed_json(b"[" + body.rstrip(b"\n").replace(b"\n", b",") + b"]"))


def _read_block(files: Files, number: int) -> list[dict[str, Any]]:
    file = block_file(number)
    try:
        return _parsed(files.read(file))
    except OSError as error:
        raise DatasetError(
            f"{files.where(file)} cannot be read, a part of the episode table: {error.strerror or error}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{files.where(file)} is damaged, a part of the episode table ({error})") from error
