"""Episodes that tell on themselves: every image has its step number painted in, every vector holds it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.store import DatasetSpec, EpisodeInfo, EpisodeMeta, EpisodeWriter, ImageCodec
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.specs import InterfaceSpec, RobotSpec, image_spec
from robolearn.types import ActionSource, EpisodeOutcome

SIZE = 16  # pixels, in squares of SQUARE for the 16 bits of the number
SQUARE = 4
PERIOD_NS = 33_000_000
ROBOT = RobotSpec("arm", ("shoulder", "gripper"), (-1e5, -1e5), (1e5, 1e5), (1.0, 1.0))
CAMERAS = ("image_front", "image_wrist")
SUCCESS = EpisodeOutcome(success=True, terminated=True, truncated=False)


def dataset_spec(codec: ImageCodec | None = None, cameras: Iterable[str] = CAMERAS) -> DatasetSpec:
    observation = {"proprio": ROBOT.proprio_spec, **{camera: image_spec(SIZE, SIZE) for camera in cameras}}
    interface = InterfaceSpec(observation, ROBOT.action_spec, control_hz=30.0)
    return DatasetSpec(ROBOT, interface, ("push-v1",), image_codec=codec or ImageCodec())


def paint(number: int) -> NDArray[np.uint8]:
    """An image (SIZE, SIZE, 3) of the 16 bits of `number`; survives JPEG."""
    bits = (number >> np.arange(16) & 1).reshape(4, 4).astype(np.uint8) * 255
    return np.repeat(np.kron(bits, np.ones((SQUARE, SQUARE), np.uint8))[:, :, None], 3, axis=2)


def painted_number(image: NDArray[np.uint8]) -> int:
    middles = image[SQUARE // 2 :: SQUARE, SQUARE // 2 :: SQUARE, 0].reshape(-1) > 127
    return int((middles.astype(int) << np.arange(16)).sum())


def step(number: int, source: ActionSource = ActionSource.SCRIPT, held: bool = False) -> dict[str, object]:
    """The step that holds `number` in all its fields."""
    return {
        "proprio": np.full(4, number, np.float32),
        **{camera: paint(number) for camera in CAMERAS},
        "action": np.full(2, number, np.float32),
        "action_sent": np.full(2, -number, np.float32),
        "action_source": source,
        "held": held,
    }


def stamps(number: int) -> dict[str, int]:
    return dict.fromkeys(("proprio", *CAMERAS, "action", "action_sent"), number * PERIOD_NS)


def as_schema_2(path: Path) -> None:
    """Make a dataset of few episodes what a version before blocks of lines wrote: all rows in the root file."""
    file = path / "zarr.json"
    root = json.loads(file.read_text())
    attributes = root["attributes"]
    assert attributes.pop("episode_blocks") == 0
    attributes |= {"schema_version": 2, "episodes": attributes.pop("newest_episodes")}
    file.write_text(json.dumps(root))


def record(writer: EpisodeWriter, length: int, first: int = 0, **meta: object) -> EpisodeInfo:
    """Record and commit an episode of the numbers from `first` on."""
    writer.begin(EpisodeMeta(task="push-v1", instruction="push it", **meta))  # type: ignore[arg-type]
    for number in range(first, first + length):
        writer.append(step(number), stamps(number))
    return writer.commit(SUCCESS)


def dataset(path: Path, lengths: Iterable[int], codec: ImageCodec | None = None) -> ZarrStore:
    """A dataset of episodes of these lengths; the numbers run on from one to the next."""
    store = ZarrStore.create(path, dataset_spec(codec))
    first = 0
    with store.writer() as writer:
        for length in lengths:
            record(writer, length, first)
            first += length
    return store
