"""The journal of a long command: whatever ended it, what came before is there, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import RobolearnError
from robolearn.recipes.rewards.journal import JOURNAL, ClientOnce, Journal, asking_once
from robolearn.rewards.code.candidate import Candidate, Training
from robolearn.rewards.code.client import CannedClient
from robolearn.rewards.code.forms import TaskText
from robolearn.rewards.code.loop import WritingConfig, write_rewards

SETTINGS = {"task": "reach-v1", "learner": {"steps": 20, "sizes": (8, 8)}, "seed": 0}
ROWS = [("answers 1", {"count": 2}, ["a\n", "ä"]), ("training 2", "b", {"metric": 0.1 + 0.2}), ("words 1", "?", "")]


def write(out: Path) -> bytes:
    with Journal(out, SETTINGS) as journal:
        for row in ROWS:
            if journal.came(*row[:2]) is None:
                journal.add(*row)
    return (out / JOURNAL).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("journal") / "out")


@hypothesis.settings(max_examples=30)
@given(st.data())
def test_cut_anywhere_it_goes_on_and_becomes_what_it_was(whole: bytes, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(whole)))
    lines = whole[:end].count(b"\n")
    with TemporaryDirectory() as folder:
        out = Path(folder)
        (out / JOURNAL).write_bytes(whole[:end])
        with Journal(out, SETTINGS) as journal:
            came = [journal.came(*row[:2]) for row in ROWS]
            assert came == [row[2] if lines > number + 1 else None for number, row in enumerate(ROWS)]
            assert journal.count("training") == (lines > 2)
        assert write(out) == whole


def test_neither_model_nor_person_is_asked_twice(tmp_path: Path) -> None:
    task = TaskText("move to position 1", {"position": "where it is [m]"})
    answers = [[json.dumps({"terms": [{"kind": "smooth", "quantity": "position", "weight": w}]})] for w in (1, 2, 3)]

    def written(out: Path, lines: list[str], client: CannedClient) -> list[Candidate]:
        def ask(question: str) -> str:
            if not lines:
                raise KeyboardInterrupt
            return lines.pop(0)

        with Journal(out, {}) as journal:
            return write_rewards(
                ClientOnce(client, journal),
                task,
                lambda rewards: {number: Training({}, film=f"{out}/{number}.mp4") for number in rewards},
                WritingConfig("text2reward", rounds=3),
                asking_once(ask, journal),
            )

    whole = written(tmp_path / "whole", ["faster", "softer"], CannedClient(answers))
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "out", ["faster"], CannedClient(answers))
    (tmp_path / "out").rename(tmp_path / "moved")
    found = written(tmp_path / "moved", ["softer"], CannedClient(answers[2:]))
    assert [one.code for one in found] == [one.code for one in whole]
    journals = [(tmp_path / name / JOURNAL).read_bytes() for name in ("whole", "moved")]
    assert journals[0] == journals[1]
    with pytest.raises(RobolearnError, match="gave no answer"):
        written(tmp_path / "none", [], CannedClient([[]]))
    assert written(tmp_path / "none", [""], CannedClient(answers))  # that none came is not kept


def test_what_does_not_fit_is_told_in_one_line_and_left_as_it_is(tmp_path: Path) -> None:
    whole = write(tmp_path / "out")
    for settings, message in (
        ({**SETTINGS, "learner": {"steps": 30, "sizes": [8, 8]}}, "was begun with steps 20, not with 30; begin it"),
        ({**SETTINGS, "rounds": 3}, "was begun with rounds nothing, not with 3"),
        ({"task": "reach-v1", "seed": 0}, "was begun with learner {'steps': 20, 'sizes': .*}, not with nothing"),
    ):
        with pytest.raises(RobolearnError, match=message):
            Journal(tmp_path / "out", settings)
    with Journal(tmp_path / "out", SETTINGS) as journal:
        with pytest.raises(RobolearnError, match="was begun by another robolearn, whose answers 1 was another"):
            journal.came("answers 1", {"count": 3})
        with pytest.raises(RobolearnError, match="is being written to by another process"):
            Journal(tmp_path / "out", SETTINGS)
    assert (tmp_path / "out" / JOURNAL).read_bytes() == whole
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").touch()
    with pytest.raises(RobolearnError, match="exists and is not empty; name another --out"):
        Journal(tmp_path / "other", SETTINGS)
    (tmp_path / "out" / JOURNAL).write_bytes(b"[]\n" + whole)
    with pytest.raises(RobolearnError, match=r"journal\.jsonl cannot be read .*; name another --out"):
        Journal(tmp_path / "out", SETTINGS)
