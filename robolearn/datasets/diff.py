"""In what two datasets differ: by what they have in common, by episode id, by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import EpisodeInfo
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.progress import OnProgress, no_progress

PLACE = ("id", "start", "streams", "checksum")  # of an episode's row, which may differ between equal datasets


@dataclass(frozen=True)
class Difference:
    """One difference. `episode` is an id, empty for what concerns the whole dataset."""

    episode: str
    field: str
    text: str

    def __str__(self) -> str:
        return f"{f'episode {self.episode}: ' if self.episode else ''}{self.field}: {self.text}"

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def diff(first: Path | str, second: Path | str, progress: OnProgress = no_progress) -> list[Difference]:
    """All differences. Pictures are compared as they decode. Raises DatasetError when one of both cannot be read."""
    stores = ZarrStore.open(first), ZarrStore.open(second)
    found = list(_spec_differences(*stores))
    ids = [{episode.id: index for index, episode in enumerate(store.episodes)} for store in stores]
    for mine, theirs, path in ((ids[0], ids[1], first), (ids[1], ids[0], second)):
        found += [Difference(name, "episode", f"is in {path} alone") for name in mine if name not in theirs]
    both = [name for name in ids[0] if name in ids[1]]
    for done, name in enumerate(both):
        found += _episode_differences(stores[0], ids[0][name], stores[1], ids[1][name])
        progress(done + 1, len(both))
    return found


def _spec_differences(first: ZarrStore, second: ZarrStore) -> Iterator[Difference]:
    mine, theirs = _flat(first.spec.to_json()), _flat(second.spec.to_json())
    for name in dict.fromkeys([*mine, *theirs]):
        if mine.get(name) != theirs.get(name):
            yield Difference("", name, f"{mine.get(name)} / {theirs.get(name)}")


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def _episode_differences(first: ZarrStore, index: int, second: ZarrStore, other: int) -> Iterator[Difference]:
    mine, theirs = first.episodes[index], second.episodes[other]
    rows = mine.to_json(), theirs.to_json()
    for key, value in rows[0].items():
        if key not in PLACE and value != rows[1][key]:
            yield Difference(mine.id, key, f"{value} / {rows[1][key]}")
    names = {name: field.shape for name, field in first.spec.fields.items()}
    for name in (n for n, shape in names.items() if second.spec.fields.get(n) and second.spec.fields[n].shape == shape):
        yield from _field_differences(first, index, second, other, name)
    for name in (name for name in first.spec.streams if name in second.spec.streams):
        samples = first.read_stream(index, name), second.read_stream(other, name)
        if len(samples[0][0]) != len(samples[1][0]):
            yield Difference(mine.id, name, f"{len(samples[0][0])} samples / {len(samples[1][0])}")
        for what, part in ((name, 0), (f"stamps of {name}", 1)):
            yield from _text(mine, what, *_cut(samples[0][part], samples[1][part]))
    for what, read in (("stamps", ZarrStore.read_stamps), ("valid", ZarrStore.read_valid)):
        columns = read(first, index), read(second, other)
        for name in (name for name in columns[0] if name in columns[1]):
            yield from _text(mine, f"{what} of {name}", *_cut(columns[0][name], columns[1][name]))


def _field_differences(first: ZarrStore, index: int, second: ZarrStore, other: int, name: str) -> Iterator[Difference]:
    episode, length = first.episodes[index], min(first.episodes[index].length, second.episodes[other].length)
    if name not in first.spec.image_fields:
        yield from _text(episode, name, *_cut(first.read(index, [name])[name], second.read(other, [name])[name]))
        return
    largest = np.zeros(length)
    for step in range(length):
        pictures = (s.read(i, [name], step, step + 1)[name] for s, i in ((first, index), (second, other)))
        largest[step] = _distance(*pictures)[0]
    if largest.any():
        yield Difference(episode.id, name, _words(largest))


def _cut(mine: NDArray, theirs: NDArray) -> tuple[NDArray, NDArray]:
    """Both, as long as the shorter one; that the lengths differ is told elsewhere."""
    length = min(len(mine), len(theirs))
    return mine[:length], theirs[:length]


def _text(episode: EpisodeInfo, name: str, mine: NDArray, theirs: NDArray) -> Iterator[Difference]:
    distance = _distance(mine, theirs)
    if distance.any():
        yield Difference(episode.id, name, _words(distance))


def _distance(mine: NDArray, theirs: NDArray) -> NDArray:
    """Largest difference of every step (T,); NaN equals NaN, and is infinitely far from a number."""
    first, second = (each.reshape(len(each), -1).astype(np.float64) for each in (mine, theirs))
    with np.errstate(invalid="ignore"):
        distance = np.abs(first - second)
    distance = np.where((first == second) | (np.isnan(first) & np.isnan(second)), 0, distance)
    return np.nan_to_num(distance, nan=np.inf, posinf=np.inf).max(axis=1, initial=0)


def _words(distance: NDArray) -> str:
    steps = np.flatnonzero(distance)
    return f"differs in {len(steps)} of {len(distance)} steps, first in {steps[0]}, by up to {distance.max():g}"
