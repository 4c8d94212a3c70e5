"""What people prefer: of two moments or segments of a dataset, which is nearer to the goal.

preferences.jsonl, beside the arrays: one answer a line, in the order in which they came, from any number of people.

    {"first": {"episode": ID, "step": 12, "start": 340}, "second": {...}, "answer": "first", "author": "ana", ...}
                                        `start` is the row that the episode began in then: trimming shifts its steps
    {..., "segment": 8}                 about segments of 8 steps from those on; 1 where it is missing
    {"author": "ana", "undo": true}     takes back the newest answer of ana that still counts

Lines are only ever added, so nothing that was answered can be lost: a line is on disk before `add` returns, and a line
that a power cut left unfinished was never acknowledged and is cut off by the next one.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.files import Files
from robolearn.datasets.store import EpisodeInfo
from robolearn.errors import DatasetError

if TYPE_CHECKING:
    from robolearn.datasets.zarr_store import ZarrStore

Answer = Literal["first", "second", "equal", "unsure"]
PREFERENCES = "preferences.jsonl"
LAST_SHARE = 0.5  # of the segments that are compared
SHARED = 5  # every so manieth pair is one that somebody else has answered, so that agreement can be told


@dataclass(frozen=True, order=True)
class Moment:
    """A step of an episode."""

    episode: str  # id
    step: int


@dataclass(frozen=True)
class Preference:
    """One person's answer. `equal`: neither is nearer; `unsure`: the pictures do not tell."""

    first: Moment
    second: Moment
    answer: Answer
    author: str = ""
    created_ns: int = 0  # wall-clock time; 0 when unknown
    segment: int = 1  # steps of what was compared, from each moment on

    @property
    def pair(self) -> tuple[Moment, Moment]:
        return self.first, self.second


def read_preferences(store: ZarrStore) -> list[Preference]:
    """All answers that were not taken back, of steps as they are counted now; those about steps that were trimmed away
    are left out. Raises DatasetError naming a line that cannot be read."""
    now = {episode.id: episode for episode in store.episodes}
    shifted = [_shifted(answer, starts, now) for answer, starts in _answers(store.files)]
    return [answer for answer in shifted if answer is not None]


def _shifted(answer: Preference, starts: Sequence[int | None], now: Mapping[str, EpisodeInfo]) -> Preference | None:
    moments = []
    for moment, start in zip(answer.pair, starts, strict=True):
        if start is not None and (row := now.get(moment.episode)) is not None:
            moment = replace(moment, step=moment.step + start - row.start)
            if not 0 <= moment.step <= row.length - answer.segment:
                return None
        moments.append(moment)
    return replace(answer, first=moments[0], second=moments[1])


def _answers(source: Files) -> list[tuple[Preference, tuple[int | None, int | None]]]:
    """All answers that were not taken back, as they were given, and the rows in which the two episodes began then."""
    try:
        text = source.read(PREFERENCES)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DatasetError(f"{source.where(PREFERENCES)} cannot be read: {error.strerror or error}") from error
    found: list[tuple[Preference, tuple[int | None, int | None]]] = []
    for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines()):
        try:
            row = json.loads(line)
            if row.get("undo") is True:
                newest = max(i for i, (one, _) in enumerate(found) if one.author == row["author"])
                del found[newest]
            else:
                found.append((_preference(row), (_start(row["first"]), _start(row["second"]))))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(
                f"{source.where(PREFERENCES)}: line {number + 1} is no answer ({error}); mend or remove it"
            ) from error
    return found


def _start(side: dict[str, Any]) -> int | None:
    return int(side["start"]) if "start" in side else None


def _preference(row: dict[str, Any]) -> Preference:
    if row["answer"] not in get_args(Answer):
        raise ValueError(f"answer {row['answer']!r}")
    segment = int(row.get("segment", 1))
    if segment < 1:
        raise ValueError(f"segment {segment}")
    first, second = (Moment(str(row[side]["episode"]), int(row[side]["step"])) for side in ("first", "second"))
    return Preference(first, second, row["answer"], str(row.get("author", "")), int(row.get("created_ns", 0)), segment)


def add_preference(store: ZarrStore, preference: Preference) -> None:
    """Write down an answer. Raises DatasetError when the dataset has no such moments."""
    if preference.answer not in get_args(Answer):
        raise DatasetError(f"answer is {preference.answer!r}; wanted one of {', '.join(get_args(Answer))}")
    if preference.segment < 1:
        raise DatasetError(f"segments of {preference.segment} steps were compared; wanted at least 1")
    lengths = {episode.id: episode.length for episode in store.episodes}
    for moment in preference.pair:
        last = moment.step + preference.segment - 1
        if moment.step < 0 or last >= lengths.get(moment.episode, 0):
            raise DatasetError(f"{store.path} has no step {max(last, moment.step)} of an episode {moment.episode!r}")
    if preference.first == preference.second:
        raise DatasetError(f"step {preference.first.step} of {preference.first.episode!r} came twice; name two moments")
    _append(store, [preference])


def undo_preference(store: ZarrStore, author: str) -> Preference:
    """Take back the newest answer of a person; what it was."""
    mine = [one for one, _ in _answers(store.files) if one.author == author]
    if not mine:
        raise DatasetError(f"{store.path} has no answer of {author!r} to take back")
    _append_lines(store, [{"author": author, "undo": True}])
    return mine[-1]


def next_pair(store: ZarrStore, answers: Sequence[Preference], author: str, segment: int = 1) -> tuple[Moment, Moment]:
    """Two moments to show to a person, or the first steps of two segments of so many: the same ones until he answers.

    The first is drawn from all segments, the second from those of its task, both as `draw_segments` says; every
    SHARED-th is a pair that somebody else has answered, where there is one left. Raises DatasetError when the dataset
    has no two segments.
    """
    lengths = {episode.id: episode.length for episode in store.episodes}
    if max(lengths.values(), default=0) <= segment:
        wanted = "two moments" if segment == 1 else f"two segments of {segment}"
        raise DatasetError(f"{store.path} has no episode of {segment + 1} steps or more; a comparison needs {wanted}")
    alike = [one for one in answers if one.segment == segment]
    mine = {one.pair for one in alike if one.author == author}
    count = sum(one.author == author for one in alike)
    if count % SHARED == 0:
        for other in alike:
            there = all(moment.step + segment <= lengths.get(moment.episode, 0) for moment in other.pair)
            if other.author != author and other.pair not in mine and there:
                return other.pair
    rng = np.random.default_rng([count, *author.encode()])
    episodes = [episode for episode in store.episodes if episode.length >= segment]
    counts = Counter(episode.task for episode in episodes)
    many = [episode for episode in episodes if episode.length > segment or counts[episode.task] > 1]
    first, task = _drawn(many, rng, segment)
    while True:
        second, _ = _drawn([episode for episode in many if episode.task == task], rng, segment)
        if second != first:
            return first, second


def _drawn(episodes: Sequence[EpisodeInfo], rng: np.random.Generator, segment: int) -> tuple[Moment, str]:
    """The first step of a segment, and its task."""
    index, step = draw_segments([episode.length for episode in episodes], segment, 1, rng)[0]
    return Moment(episodes[index].id, int(step)), episodes[index].task


def draw_segments(lengths: Sequence[int], segment: int, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(episode, first step) of so many segments (number, 2), of episodes that are as long as one at least.

    Half of them are drawn evenly from all, half are the last of an episode: where a policy stays is what it is worth,
    and of an episode that ends as soon as the task is done few steps show it done.
    """
    starts = np.asarray(lengths) - segment + 1
    last = rng.random(number) < LAST_SHARE
    episode = rng.choice(len(starts), number, p=starts / starts.sum())
    episode = np.where(last, rng.integers(0, len(starts), number), episode)
    return np.stack([episode, np.where(last, starts[episode] - 1, rng.integers(0, starts[episode]))], 1)


def copy_preferences(episodes: Iterable[tuple[ZarrStore, int]], target: ZarrStore) -> None:
    """Take the answers about these episodes, and no others, into the dataset `target`, which has them, in the place of
    those that it had."""
    ids: dict[ZarrStore, set[str]] = {}
    for store, index in episodes:
        ids.setdefault(store, set()).add(store.episodes[index].id)
    answers = [
        one
        for store, kept in ids.items()
        for one in read_preferences(store)
        if {one.first.episode, one.second.episode} <= kept
    ]
    (target.path / PREFERENCES).unlink(missing_ok=True)
    if answers:
        _append(target, answers)


def _append(store: ZarrStore, answers: Sequence[Preference]) -> None:
    starts = {episode.id: episode.start for episode in store.episodes}
    rows = [asdict(one) for one in answers]
    for row in rows:
        for side in ("first", "second"):
            row[side]["start"] = starts[row[side]["episode"]]
    _append_lines(store, rows)


def _append_lines(store: ZarrStore, rows: Sequence[dict[str, Any]]) -> None:
    """Whole lines, on disk when this returns; other processes may add theirs at the same time."""
    path = store.path
    with preferences_held(path) as file:
        store.require_in_place()  # else the rows that its episodes begin in are others by now
        end = os.lseek(file, 0, os.SEEK_END)
        tail = os.pread(file, 4096, max(end - 4096, 0))
        whole = end - len(tail) + tail.rfind(b"\n") + 1 if not tail.endswith(b"\n") else end
        os.ftruncate(file, whole)
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        if os.pwrite(file, data, whole) != len(data):
            raise DatasetError(f"{path / PREFERENCES}: the disk is full")
        os.fsync(file)


@contextmanager
def preferences_held(dataset: Path) -> Iterator[int]:
    """The open file of a dataset's answers, to which nobody else adds meanwhile."""
    path = dataset / PREFERENCES
    file = -1
    try:
        while file < 0 or not os.path.samestat(os.stat(path), os.fstat(file)):  # its dataset was written anew meanwhile
            if file >= 0:
                os.close(file)
                file = -1
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    except OSError as error:
        raise DatasetError(f"{path} cannot be written to: {error.strerror}") from error
    finally:
        if file >= 0:
            os.close(file)
