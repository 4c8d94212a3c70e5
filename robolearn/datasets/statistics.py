"""Statistics that are kept up to date episode by episode, in the attribute `statistics` of the root file.

The writer adds an episode when it has committed it, and they are in the root file the next time that it is written.
They say of which episodes they are: what is missing after a crash is added when somebody asks, and after an edit they
are made anew. Mean, deviation and extremes are exact, quantiles to about a hundredth of their rank.

Quality of a dataset after Schweighofer et al. 2022, A Dataset Perspective on Offline Reinforcement Learning
(arXiv 2111.04714): TQ, the mean return between a worst and a best one, and SACo, how many different pairs of state and
action there are. Unique pairs are counted by HyperLogLog (Flajolet et al. 2007) over cells of a tenth of each range.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.disk import Disk
from robolearn.datasets.lock import WriterLock
from robolearn.datasets.stats import QUANTILES, FieldSummary
from robolearn.datasets.store import EpisodeInfo
from robolearn.datasets.zarr_layout import RECORDING, SCHEMA_VERSION, STATISTICS, read_root, write_root
from robolearn.errors import DatasetError

if TYPE_CHECKING:
    from robolearn.datasets.zarr_store import ZarrStore

RANKS = np.linspace(0, 1, 101)  # whose values are kept
STEPS_AT_ONCE = 4096  # of short episodes that are summarized together
MAX_PICTURES = 4  # of an episode and camera
CELLS = 10  # of the range of each entry of a state or action
REGISTERS = 1024  # of HyperLogLog: a standard error of 3 %

Summaries = dict[str, Any]
"""As JSON: `episodes` and their `fingerprint`, `steps`, `fields`, `returns` [number, sum, lowest, highest], `pairs`."""


@dataclass(frozen=True)
class Quality:
    """What a dataset is worth to a learner."""

    tq: float | None  # 0 worst, 1 best; None where no return is known
    saco: float | None  # unique pairs by steps, or by those of the reference; None where there are no limits
    unique_state_actions: int | None


@dataclass(frozen=True)
class Statistics:
    """Of all visible episodes."""

    fields: dict[str, FieldSummary]  # of an image 4 steps of each episode; fields without a value are left out
    quality: Quality


def statistics(
    store: ZarrStore, returns: tuple[float, float] | None = None, reference_pairs: int | None = None
) -> Statistics:
    """Statistics of a dataset; computes, and keeps, what is missing.

    `returns` are the worst and the best return that TQ is measured by: unless given 0 and 1 for success, else those of
    the dataset. `reference_pairs` are the unique pairs of the dataset that SACo is measured by.
    """
    kept = stored(store)
    whole = updated(store, kept)
    if whole != kept and store.is_local:
        with contextlib.suppress(DatasetError, OSError):  # somebody is writing, or nobody may
            _keep(store, whole)
    fields = {name: _field_summary(part) for name, part in whole["fields"].items()}
    return Statistics(fields, _quality(store, whole, returns, reference_pairs))


def stored(store: ZarrStore) -> Summaries | None:
    """What is kept, where it is of the first of the visible episodes, and of nothing else."""
    found: Any = store.attributes.get(STATISTICS)
    try:
        fits = found["fingerprint"] == store.fingerprint.of(store.episodes[: found["episodes"]])
        return dict(found) if fits and found["episodes"] <= len(store.episodes) else None
    except (KeyError, TypeError):
        return None


def updated(store: ZarrStore, kept: Summaries | None) -> Summaries:
    """What is kept, with the episodes that it lacks. Raises DatasetError when one cannot be read."""
    known = kept["episodes"] if kept else 0
    parts = [kept] if kept else []
    parts += [_part(store, indices) for indices in _groups(store, known)]
    names = [name for name in store.spec.fields if any(name in part["fields"] for part in parts)]
    there = [part["returns"] for part in parts if part["returns"]]
    pairs = [part["pairs"] for part in parts]
    number, total, low, high = zip(*there, strict=True) if there else ((), (), (), ())
    return {
        "episodes": len(store.episodes),
        "fingerprint": store.fingerprint.of(store.episodes),
        "steps": sum(part["steps"] for part in parts),
        "fields": {name: _merged([part["fields"][name] for part in parts if name in part["fields"]]) for name in names},
        "returns": [sum(number), sum(total), min(low), max(high)] if there else None,
        "pairs": _coded(np.max([_decoded(text) for text in pairs], axis=0)) if pairs and None not in pairs else None,
    }


class Fingerprint:
    """Of episodes: SHA-256 of their ids, starts and lengths. Those that follow on the last ones cost what they add."""

    def __init__(self) -> None:
        self._rows: list[EpisodeInfo] = []
        self._hash = hashlib.sha256(b"[")

    def of(self, episodes: Sequence[EpisodeInfo]) -> str:
        if list(episodes[: len(self._rows)]) != self._rows:
            self._rows, self._hash = [], hashlib.sha256(b"[")
        for row in episodes[len(self._rows) :]:
            text = json.dumps([row.id, row.start, row.length])
            self._hash.update(f", {text}".encode() if self._rows else text.encode())
            self._rows.append(row)
        whole = self._hash.copy()
        whole.update(b"]")
        return whole.hexdigest()[:16]


def _keep(store: ZarrStore, whole: Summaries) -> None:
    lock = WriterLock(store.path, store.path / RECORDING)
    try:
        root = read_root(store.path)
        if root.attributes["schema_version"] != SCHEMA_VERSION:
            return  # who looks at a dataset of an older version leaves it readable for that version
        with Disk(fsync=False) as disk:
            write_root(store.path, replace(root, attributes={**root.attributes, STATISTICS: whole}), disk)
    finally:
        lock.release()


def _groups(store: ZarrStore, first: int) -> Iterator[list[int]]:
    """The episodes from `first` on, in a row: some that together are of STEPS_AT_ONCE steps, or a longer one."""
    group: list[int] = []
    steps = 0
    for index in range(first, len(store.episodes)):
        length = store.episodes[index].length
        if group and steps + length > STEPS_AT_ONCE:
            yield group
            group, steps = [], 0
        group.append(index)
        steps += length
    if group:
        yield group


def _part(store: ZarrStore, indices: Sequence[int]) -> Summaries:
    """Everything about some episodes."""
    spec, steps = store.spec, sum(store.episodes[index].length for index in indices)
    masks = [store.read_valid(index) for index in indices]
    valid = {name: np.concatenate([mask[name] for mask in masks]) for name in spec.stamped_fields}
    everywhere = np.ones(steps, np.bool_)
    fields: dict[str, Any] = {}
    for name, field in spec.fields.items():
        if name in spec.image_fields:
            seen = [(index, np.flatnonzero(mask[name])) for index, mask in zip(indices, masks, strict=True)]
            if levels := [_pictures(store, name, index, there) for index, there in seen if len(there)]:
                fields[name] = _merged(levels)
        elif field.dtype != "bool" and (mask := valid.get(name, everywhere)).any():
            fields[name] = _summary(_rows(store, indices, name)[mask].reshape(int(mask.sum()), -1))
    returns = list(_returns(store, indices, masks))
    return {
        "steps": steps,
        "fields": fields,
        "returns": [len(returns), sum(returns), min(returns), max(returns)] if returns else None,
        "pairs": _pairs(store, indices, valid),
    }


def _rows(store: ZarrStore, indices: Sequence[int], name: str) -> NDArray:
    """A field in these episodes, one after the other."""
    return np.concatenate([store.read(index, [name])[name] for index in indices])


def _pictures(store: ZarrStore, name: str, index: int, there: NDArray[np.int64]) -> dict[str, Any]:
    """Of some of the pictures that an episode has, in the steps `there`."""
    steps = there[np.linspace(0, len(there) - 1, min(len(there), MAX_PICTURES)).astype(int)]
    pictures = [store.read(index, [name], step, step + 1)[name] for step in np.unique(steps).tolist()]
    shape = store.spec.fields[name].shape
    return _grey_levels(np.concatenate(pictures).reshape(-1, shape[2] if len(shape) == 3 else 1))


def _returns(
    store: ZarrStore, indices: Sequence[int], masks: Sequence[Mapping[str, NDArray[np.bool_]]]
) -> Iterator[float]:
    """The sum of the rewards of each episode, where there are any. Its success people may change: that is not kept."""
    for index, valid in zip(indices, masks, strict=True):
        if "reward" in store.spec.extra:
            yield float(store.read(index, ["reward"])["reward"][valid["reward"]].sum())


def _short(values: NDArray) -> Any:
    """As lists, of 7 significant digits."""
    size = np.abs(values)
    scale = 10.0 ** (6 - np.floor(np.log10(np.where(size > 0, size, 1))))
    return (np.round(values * scale) / scale).tolist()


def _summary(values: NDArray) -> dict[str, Any]:
    """Of rows (N, D), a list an entry; 7 digits."""
    values = values.astype(np.float64)
    return {
        "count": len(values),
        "mean": _short(values.mean(0)),
        "std": _short(values.std(0)),
        "ranks": _short(np.quantile(values, RANKS, axis=0)),
    }


def _grey_levels(pixels: NDArray) -> dict[str, Any]:
    """The same of pixels (N, C) by counting grey levels, which is much faster."""
    levels = np.iinfo(pixels.dtype).max + 1
    counts = np.array([np.bincount(channel, minlength=levels) for channel in pixels.T])
    grey = np.arange(levels)
    mean = counts @ grey / len(pixels)
    std = np.sqrt(np.maximum(counts @ grey.astype(np.float64) ** 2 / len(pixels) - mean**2, 0))
    share = np.cumsum(counts, axis=1) / len(pixels)
    ranks = np.array([np.searchsorted(row, np.maximum(RANKS, 0.5 / len(pixels))) for row in share]).T
    return {
        "count": len(pixels),
        "mean": _short(mean),
        "std": _short(std),
        "ranks": ranks.tolist(),
    }


def _merged(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(parts) == 1:
        return dict(parts[0])
    counts = np.array([part["count"] for part in parts], np.float64)
    share = (counts / counts.sum())[:, None]
    mean = np.array([part["mean"] for part in parts])
    whole = (share * mean).sum(0)
    variance = (share * (np.array([part["std"] for part in parts]) ** 2 + (mean - whole) ** 2)).sum(0)
    ranks = np.array([part["ranks"] for part in parts])  # (parts, ranks, entries)
    # Each kept value stands for the mass between the middles to its neighbours.
    mass = (share * np.diff(np.concatenate([[0], (RANKS[1:] + RANKS[:-1]) / 2, [1]]))).ravel()
    merged = np.empty(ranks.shape[1:])
    for entry in range(len(whole)):
        values = ranks[:, :, entry].ravel()
        order = np.argsort(values, kind="stable")
        passed = np.cumsum(mass[order]) - mass[order] / 2
        merged[:, entry] = np.interp(RANKS, passed, values[order])
    merged[0], merged[-1] = ranks[:, 0].min(0), ranks[:, -1].max(0)
    return {
        "count": int(counts.sum()),
        "mean": _short(whole),
        "std": _short(np.sqrt(variance)),
        "ranks": _short(merged),
    }


def _field_summary(part: Mapping[str, Any]) -> FieldSummary:
    ranks = part["ranks"]
    quantiles = tuple(tuple(ranks[round(q * (len(RANKS) - 1))]) for q in QUANTILES)
    return FieldSummary(
        part["count"], tuple(part["mean"]), tuple(part["std"]), tuple(ranks[0]), tuple(ranks[-1]), quantiles
    )


def _pairs(store: ZarrStore, indices: Sequence[int], valid: Mapping[str, NDArray[np.bool_]]) -> str | None:
    """HyperLogLog registers of the pairs of joint positions and action, base64; None without limits."""
    spec = store.spec
    robot, action = spec.robot, spec.interface.action
    joints = len(robot.joint_names)
    proprio = spec.fields.get("proprio")
    if proprio is None or proprio.shape[-1] < joints or action.low is None or action.high is None:
        return None
    mask = valid["proprio"] & valid["action"]
    seen, acted = _rows(store, indices, "proprio")[mask, :joints], _rows(store, indices, "action")[mask]
    pairs = np.concatenate([seen, acted], axis=1)
    low = np.array([*robot.position_low, *action.low])
    high = np.array([*robot.position_high, *action.high])
    share = (pairs - low) / np.where(high > low, high - low, 1)
    cells = np.clip(np.floor(share * CELLS), -1, CELLS).astype(np.int64)
    return _coded(_registers(_hashes(cells)))


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


def _coded(registers: NDArray[np.uint8]) -> str:
    return base64.b64encode(registers.tobytes()).decode()


def _decoded(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(text), np.uint8)


def _quality(
    store: ZarrStore, whole: Summaries, returns: tuple[float, float] | None, reference_pairs: int | None
) -> Quality:
    tq = saco = unique = None
    told = [float(row.success) for row in store.episodes if row.success is not None]
    number, total, lowest, highest = len(told), sum(told), 0.0, 1.0
    if "reward" in store.spec.extra:
        number, total, lowest, highest = whole["returns"] or (0, 0.0, 0.0, 0.0)
    low, high = returns or (lowest, highest)
    if number and high > low:
        tq = (total / number - low) / (high - low)
    if whole["pairs"]:
        unique = round(_count(_decoded(whole["pairs"])))
        saco = unique / (reference_pairs or whole["steps"])
    return Quality(tq, saco, unique)
