"""What a long command was told and what it found, so that one that was interrupted goes on where it was.

journal.jsonl: the settings on the first line, then one thing that came a line, in the order in which they came.

    {"begun": {...}}
    {"what": "training 3", "asked": ..., "came": ...}

Lines are only ever added, and a line is on disk before `add` returns; one that was left unfinished is cut off.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from robolearn.errors import RobolearnError
from robolearn.recipes.run import require_new
from robolearn.rewards.code.client import ChatClient, Message
from robolearn.rewards.code.methods import Ask

JOURNAL = "journal.jsonl"


class Journal:
    """The journal of the folder `out`, for one process at a time. A context manager."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        """Begin it, or go on with it. settings: what JSON knows, on which all that comes hangs.

        Raises RobolearnError for a folder that holds other things, is written to by somebody else, or was begun with
        other settings.
        """
        self.out = out
        if not (out / JOURNAL).is_file():
            require_new(out)
        out.mkdir(parents=True, exist_ok=True)
        self._file = (out / JOURNAL).open("a+b")
        try:
            begun, rows = self._read()
            if begun is None:
                self._write({"begun": settings})
            else:
                _require_same(out, begun, json.loads(json.dumps(settings)))
        except BaseException:
            self._file.close()
            raise
        self._rows = {row["what"]: row for row in rows}

    def count(self, kind: str) -> int:
        """Things that came, of those whose name begins with this word."""
        return sum(what.split()[0] == kind for what in self._rows)

    def came(self, what: str, asked: Any) -> Any:
        """What came of this before; None if nothing did. Raises RobolearnError where something else had been asked."""
        row = self._rows.get(what)
        if row is None:
            return None
        if row["asked"] != asked:
            raise RobolearnError(
                f"{self.out} was begun by another robolearn, whose {what} was another; name another --out"
            )
        return row["came"]

    def add(self, what: str, asked: Any, came: Any) -> None:
        """Keep what came, which is not None; on disk when this returns."""
        self._rows[what] = {"what": what, "asked": asked, "came": came}
        self._write(self._rows[what])

    def _read(self) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        """Settings, None where it begins now, and what came."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.seek(0)
            text = self._file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._file.truncate(len(whole))
            rows = [json.loads(line) for line in whole.splitlines()]
            if not rows:
                return None, []
            return dict(rows[0]["begun"]), [{name: row[name] for name in ("what", "asked", "came")} for row in rows[1:]]
        except BlockingIOError as error:
            raise RobolearnError(
                f"{self.out} is being written to by another process; wait for it, or stop it"
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise RobolearnError(f"{self.out / JOURNAL} cannot be read ({error}); name another --out") from error

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class ClientOnce:
    """A chat that is asked nothing that it answered before."""

    def __init__(self, client: ChatClient, journal: Journal) -> None:
        self.model = client.model
        self._client, self._journal = client, journal
        self._chats = 0

    def answers(self, messages: Sequence[Message], count: int) -> list[str]:
        self._chats += 1
        what, asked = f"answers {self._chats}", {"messages": list(messages), "count": count}
        came = self._journal.came(what, asked)
        if came is None:
            came = self._client.answers(messages, count)
            if came:
                self._journal.add(what, asked, came)
        return came


def asking_once(ask: Ask, journal: Journal) -> Ask:
    """A person who is asked nothing that he answered before."""
    questions = 0

    def asking(question: str) -> str:
        nonlocal questions
        questions += 1
        what, asked = f"words {questions}", question.splitlines()[-1]  # without the films, which may lie elsewhere now
        came = journal.came(what, asked)
        if came is None:
            came = ask(question)
            journal.add(what, asked, came)
        return came

    return asking


def _require_same(out: Path, begun: Any, now: Any, name: str = "") -> None:
    """Raises RobolearnError naming the first setting that is another one."""
    if isinstance(begun, dict) and isinstance(now, dict):
        for key in [*now, *(begun.keys() - now.keys())]:
            _require_same(out, begun.get(key, "nothing"), now.get(key, "nothing"), key)
    elif begun != now:
        raise RobolearnError(
            f"{out} was begun with {name} {begun}, not with {now}; begin it again as it was, or name another --out"
        )
