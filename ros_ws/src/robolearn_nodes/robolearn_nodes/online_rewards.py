"""What reward models said of an episode while it ran, as columns of the dataset that it was recorded into.

`<kind>/online_<model>-<version>` holds, at every step, the newest value that was known of it: a slow model scores some
steps, and its word holds until the next one; before the first it is 0. `confidence/online_<model>-<version>` is the
model's own at the steps that it scored, and 0 where the value is an older one. What a model says of all steps when it
has time is another column, that of `robolearn label`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from robolearn_msgs.msg import Reward

from robolearn.datasets.columns import COLUMN_KINDS
from robolearn.datasets.store import step_ns
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetBusyError, RobolearnError
from robolearn.specs import ArraySpec
from robolearn_nodes import convert

MAX_MODELS = 16  # that are heard in an episode
BUSY_S = 1.0  # between two tries while somebody else writes columns


@dataclass(frozen=True)
class Model:
    """Who said it."""

    name: str
    version: str
    kind: str

    @property
    def suffix(self) -> str:
        """Of the names of its columns."""
        return f"online_{self.name}-{self.version}"


Scores = Sequence[tuple[int, float, float]]
"""Stamp of the newest picture that was seen, value and confidence, as they came."""

Said = Mapping[Model, Scores]


class OnlineRewards:
    """Collects what is said of the running episode, and writes it in a thread of its own when the episode is kept."""

    def __init__(self, dataset: Path, report: Callable[[str], None]) -> None:
        """report: told in one line what could not be written."""
        self._dataset, self._report = dataset, report
        self._names: dict[str, str] = {}  # of episodes that are listened to: recorded id by the id that robots tell
        self._said: dict[str, dict[Model, list[tuple[int, float, float]]]] = {}  # by recorded id
        self._pool = ThreadPoolExecutor(1, "rewards")
        self._writing: list[Future[None]] = []
        self._closing = threading.Event()

    def listen(self, told: str, recorded: str) -> None:
        """An episode that robots call `told` is recorded as `recorded`."""
        self._names[told] = recorded
        self._said.setdefault(recorded, {})

    def hear(self, message: Reward) -> None:
        """Take what is said of an episode that is listened to; what is not finite or of no known kind is nothing."""
        said = self._said.get(self._names.get(message.episode_id, ""))
        if said is None or message.kind not in COLUMN_KINDS:
            return
        model = Model(message.model, message.version, message.kind)
        if np.isfinite([message.value, message.confidence]).all() and (model in said or len(said) < MAX_MODELS):
            said.setdefault(model, []).append(
                (convert.stamp_ns(message.header.stamp), message.value, message.confidence)
            )

    def forget(self, recorded: str) -> None:
        """The episode is not kept."""
        self._take(recorded)

    def write(self, recorded: str) -> None:
        """What was said of an episode that is kept; nothing more is taken of it."""
        said = self._take(recorded)
        if said:
            self._writing = [job for job in self._writing if not job.done()]
            self._writing.append(self._pool.submit(self._write, recorded, said))

    def close(self) -> None:
        """Write what there is of all episodes that are listened to, waiting no longer for who else writes columns."""
        for recorded in list(self._said):
            self.write(recorded)
        self._closing.set()
        self._pool.shutdown()

    def _take(self, recorded: str) -> Said:
        self._names = {told: name for told, name in self._names.items() if name != recorded}
        return self._said.pop(recorded, {})

    def _write(self, recorded: str, said: Said) -> None:
        for model, scores in said.items():
            try:
                self._patiently(recorded, model, scores)
            except (RobolearnError, OSError) as error:
                self._report(f"what {model.name} said of episode {recorded} is not kept: {error}")

    def _patiently(self, recorded: str, model: Model, scores: Scores) -> None:
        while True:
            try:
                return write_columns(self._dataset, recorded, model, scores)
            except DatasetBusyError:
                if self._closing.wait(BUSY_S):
                    raise


def write_columns(dataset: Path, episode: str, model: Model, scores: Scores) -> None:
    """Nothing for an episode that is no longer there. Raises DatasetError for a model whose name no column can have."""
    store = ZarrStore.open(dataset)
    index = next((i for i, info in enumerate(store.episodes) if info.id == episode), None)
    if index is None:
        return
    stamps, valid = store.read_stamps(index), store.read_valid(index)
    seen = {
        name: np.where(valid[name][:, None], rows, -1) for name, rows in stamps.items() if name.startswith("image_")
    }
    values, confidence = held(np.maximum.accumulate(step_ns(seen or stamps)), scores)
    made = {"model": model.name, "version": model.version, "kind": model.kind, "causal": True, "online": True}
    for kind, rows in (("confidence", confidence), (COLUMN_KINDS[model.kind], values)):
        with store.column_writer(f"{kind}/{model.suffix}", ArraySpec(()), made) as writer:
            writer.write(index, rows)


def held(now_ns: NDArray[np.int64], scores: Scores) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Value and confidence at every step (T,), of the newest score at or before its time (T,), which does not fall;
    before the first one both are 0, as is the confidence of a score that a step before had."""
    stamps, values, confidence = (np.array(each) for each in zip(*sorted(scores), strict=True))
    newest = np.searchsorted(stamps, now_ns, side="right") - 1
    fresh = np.diff(newest, prepend=-1) > 0
    at = np.maximum(newest, 0)
    values = np.where(newest < 0, 0.0, values[at])
    return values.astype(np.float32), np.where(fresh, confidence[at], 0.0).astype(np.float32)
