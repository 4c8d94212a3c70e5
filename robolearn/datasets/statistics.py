"""Statistics that are kept up to date episode by episode, in `statistics.jsonl` beside the arrays, a line an episode.

The writer adds the line of an episode when it has committed it. A line counts as long as its episode lies where it
says, so what was trimmed, copied or lost in a crash is simply computed again when somebody asks. Those of a dataset are
put together from the lines alone: mean, deviation and extremes exactly, quantiles to about a hundredth of their rank.

Quality of a dataset after Schweighofer et al. 2022, A Dataset Perspective on Offline Reinforcement Learning
(arXiv 2111.04714): TQ, the mean return between a worst and a best one, and SACo, how many different pairs of state and
action there are. Unique pairs are counted by HyperLogLog (Flajolet et al. 2007) over cells of a tenth of each range.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.disk import write_all
from robolearn.datasets.files import Files
from robolearn.datasets.stats import QUANTILES, FieldSummary
from robolearn.datasets.store import EpisodeInfo

if TYPE_CHECKING:
    from robolearn.datasets.zarr_store import ZarrStore

FILE = "statistics.jsonl"
RANKS = np.array([0, 0.01, 0.02, *np.arange(0.05, 0.96, 0.05), 0.98, 0.99, 1])  # kept of every episode
MAX_PICTURES = 8  # of an episode and camera
CELLS = 10  # of the range of each entry of a state or action
REGISTERS = 1024  # of HyperLogLog: a standard error of 3 %

Line = dict[str, Any]


@dataclass(frozen=True)
class Quality:
    """What a dataset is worth to a learner."""

    tq: float | None  # 0 worst, 1 best; None where no return is known
    saco: float | None  # unique pairs by steps, or by those of the reference; None where there are no limits
    unique_state_actions: int | None


@dataclass(frozen=True)
class Statistics:
    """Of all visible episodes."""

    fields: dict[
        str, FieldSummary
    ]  # vectors, and images where they were asked for; fields without a value are left out
    quality: Quality


def episode_line(store: ZarrStore, index: int, images: bool) -> Line:
    """Everything about one episode, as JSON."""
    episode, spec = store.episodes[index], store.spec
    valid = store.read_valid(index)
    fields: dict[str, Any] = {}
    for name, field in spec.fields.items():
        mask = valid.get(name, np.ones(episode.length, np.bool_))
        if name in spec.image_fields:
            there = np.flatnonzero(mask)
            if images and len(there):
                steps = there[np.linspace(0, len(there) - 1, min(len(there), MAX_PICTURES)).astype(int)]
                pictures = [store.read(index, [name], step, step + 1)[name] for step in steps.tolist()]
                channels = field.shape[2] if len(field.shape) == 3 else 1
                fields[name] = _summary(np.concatenate(pictures).reshape(-1, channels))
        elif field.dtype != "bool" and mask.any():
            fields[name] = _summary(store.read(index, [name])[name][mask].reshape(int(mask.sum()), -1))
    rewards = store.read(index, ["reward"])["reward"] if "reward" in spec.extra else None
    success = None if episode.success is None else float(episode.success)
    return {
        "id": episode.id,
        "start": episode.start,
        "length": episode.length,
        "fields": fields,
        "return": success if rewards is None else float(rewards[valid["reward"]].sum()),
        "pairs": _pairs(store, index, valid),
    }


def read_lines(files: Files) -> dict[str, Line]:
    """The lines by episode id, the last one of each; what is cut off or strange is left out."""
    lines: dict[str, Line] = {}
    with contextlib.suppress(OSError):
        for text in files.read(FILE).split(b"\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                line = json.loads(text)
                lines[line["id"]] = lines.get(line["id"], {}) | line
    return lines


def append_lines(store: ZarrStore, lines: Sequence[Line]) -> None:
    """Keep lines for the next time. A dataset that cannot be written to stays as it is."""
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    with contextlib.suppress(OSError):
        fd = os.open(store.path / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)


def statistics(
    store: ZarrStore,
    images: bool = False,
    returns: tuple[float, float] | None = None,
    reference_pairs: int | None = None,
) -> Statistics:
    """Statistics of a dataset; computes, and keeps, those of episodes that have none yet.

    `returns` are the worst and the best return that TQ is measured by: unless given 0 and 1 for success, else those of
    the dataset. `reference_pairs` are the unique pairs of the dataset that SACo is measured by.
    """
    known, lines, new = read_lines(store.files), [], []
    for index, episode in enumerate(store.episodes):
        line = known.get(episode.id)
        if line is None or not fits(line, episode) or (images and _lacks_images(store, line)):
            line = episode_line(store, index, images)
            new.append(line)
        lines.append(line)
    if new and store.is_local:
        append_lines(store, new)
    names = [name for name in store.spec.fields if any(name in line["fields"] for line in lines)]
    fields = {name: _merged([line["fields"][name] for line in lines if name in line["fields"]]) for name in names}
    return Statistics(fields, _quality(store, lines, returns, reference_pairs))


def fits(line: Mapping[str, Any], episode: EpisodeInfo) -> bool:
    """Whether a line tells of the episode as it lies."""
    return (line.get("start"), line.get("length")) == (episode.start, episode.length)


def same(found: Any, wanted: Mapping[str, Any]) -> bool:
    """Whether a summary in a line is this one, but for rounding."""
    try:
        return all(np.allclose(found[key], values, rtol=1e-4, atol=1e-6) for key, values in wanted.items())
    except (KeyError, TypeError, ValueError):
        return False


def _lacks_images(store: ZarrStore, line: Line) -> bool:
    return any(name not in line["fields"] for name in store.spec.image_fields)


def _summary(values: NDArray) -> dict[str, Any]:
    """Of rows (N, D), a list an entry; 7 digits."""
    values = values.astype(np.float64)
    short = lambda array: [float(f"{number:.7g}") for number in np.ravel(array)]  # noqa: E731
    return {
        "count": len(values),
        "mean": short(values.mean(0)),
        "std": short(values.std(0)),
        "ranks": [short(row) for row in np.quantile(values, RANKS, axis=0)],
    }


def _merged(parts: Sequence[Mapping[str, Any]]) -> FieldSummary:
    counts = np.array([part["count"] for part in parts], np.float64)
    share = (counts / counts.sum())[:, None]
    mean = np.array([part["mean"] for part in parts])
    whole = (share * mean).sum(0)
    variance = (share * (np.array([part["std"] for part in parts]) ** 2 + (mean - whole) ** 2)).sum(0)
    ranks = np.array([part["ranks"] for part in parts])  # (episodes, ranks, entries)
    # Each kept value stands for the mass between the middles to its neighbours.
    middles = np.concatenate([[0], (RANKS[1:] + RANKS[:-1]) / 2, [1]])
    mass = (share * np.diff(middles)).ravel()
    quantiles = np.empty((len(QUANTILES), len(whole)))
    for entry in range(len(whole)):
        values = ranks[:, :, entry].ravel()
        order = np.argsort(values, kind="stable")
        passed = np.cumsum(mass[order]) - mass[order] / 2
        quantiles[:, entry] = np.interp(QUANTILES, passed, values[order])
    row = lambda values: tuple(float(value) for value in values)  # noqa: E731
    low, high = ranks[:, 0].min(0), ranks[:, -1].max(0)
    return FieldSummary(
        int(counts.sum()), row(whole), row(np.sqrt(variance)), row(low), row(high), tuple(row(q) for q in quantiles)
    )


def _pairs(store: ZarrStore, index: int, valid: Mapping[str, NDArray[np.bool_]]) -> str | None:
    """HyperLogLog registers of the pairs of joint positions and action, base64; None without limits."""
    spec = store.spec
    robot, action = spec.robot, spec.interface.action
    joints = len(robot.joint_names)
    proprio = spec.fields.get("proprio")
    if proprio is None or proprio.shape[-1] < joints or action.low is None or action.high is None:
        return None
    read = store.read(index, ["proprio", "action"])
    mask = valid["proprio"] & valid["action"]
    pairs = np.concatenate([read["proprio"][mask, :joints], read["action"][mask]], axis=1)
    low = np.array([*robot.position_low, *action.low])
    high = np.array([*robot.position_high, *action.high])
    share = (pairs - low) / np.where(high > low, high - low, 1)
    cells = np.clip(np.floor(share * CELLS), -1, CELLS).astype(np.int64)
    return base64.b64encode(_registers(_hashes(cells)).tobytes()).decode()


def _hashes(rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 bits of every row; mixing of splitmix64."""
    value = np.zeros(len(rows), np.uint64)
    with np.errstate(over="ignore"):
        for column in rows.T:
            value = value + column.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            value = value ^ (value >> np.uint64(31))
    return value


def _registers(hashes: NDArray[np.uint64]) -> NDArray[np.uint8]:
    registers = np.zeros(REGISTERS, np.uint8)
    rest = (hashes // np.uint64(REGISTERS)).astype(np.float64)
    bits = 64 - REGISTERS.bit_length() + 1
    zeros = bits - np.floor(np.log2(np.maximum(rest, 1))).astype(np.int64)  # leading zeros, and one
    np.maximum.at(registers, (hashes % np.uint64(REGISTERS)).astype(np.int64), zeros.astype(np.uint8))
    return registers


def _count(registers: NDArray[np.uint8]) -> float:
    """How many different hashes made these registers."""
    number = len(registers)
    estimate = 0.7213 / (1 + 1.079 / number) * number**2 / np.sum(2.0 ** -registers.astype(np.float64))
    empty = int((registers == 0).sum())
    return number * float(np.log(number / empty)) if estimate <= 2.5 * number and empty else float(estimate)


def _quality(
    store: ZarrStore, lines: Sequence[Line], returns: tuple[float, float] | None, reference_pairs: int | None
) -> Quality:
    known = [line["return"] for line in lines if line["return"] is not None]
    tq = None
    if known:
        low, high = returns or ((min(known), max(known)) if "reward" in store.spec.extra else (0.0, 1.0))
        tq = (float(np.mean(known)) - low) / (high - low) if high > low else None
    pairs = [line["pairs"] for line in lines]
    if not pairs or None in pairs:
        return Quality(tq, None, None)
    registers = np.array([np.frombuffer(base64.b64decode(text), np.uint8) for text in pairs])
    unique = round(_count(registers.max(axis=0)))
    steps = sum(line["length"] for line in lines)
    return Quality(tq, unique / (reference_pairs or steps), unique)
