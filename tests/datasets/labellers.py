"""Who labels a dataset, also in processes that tests kill: a module that is read sooner than one of tests."""

from __future__ import annotations

from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from robolearn.datasets.preferences import Moment, Preference, add_preference
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.specs import ArraySpec

REWARD = "reward/vlm-1.2"
ATTRIBUTES = {"model": "vlm", "version": "1.2", "settings": {"prompt": "push it", "alpha": 0.5}}


def label(path: Path, episodes: list[int], name: str = REWARD) -> None:
    """The reward of a step is the number painted in its images."""
    store = ZarrStore.open(path)
    with store.column_writer(name, ArraySpec(()), ATTRIBUTES) as writer:
        for index in episodes:
            writer.write(index, store.read(index, ["action"])["action"][:, 0])


def label_when_begun(path: Path, episodes: list[int], begun: Event) -> None:
    begun.set()
    label(path, episodes)


def answer(store: ZarrStore, author: str, said: str = "first", steps: tuple[int, int] = (0, 1)) -> Preference:
    ids = [episode.id for episode in store.episodes]
    one = Preference(Moment(ids[0], steps[0]), Moment(ids[1], steps[1]), said, author, 7)  # type: ignore[arg-type]
    add_preference(store, one)
    return one


def answer_forever(path: Path, author: str, told: Connection) -> None:
    store = ZarrStore.open(path)
    while True:
        answer(store, author)
        told.send_bytes(b"1")
