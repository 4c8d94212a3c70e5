"""Episodes as reward models take them, and what the task itself says of them. Legend: T steps, H W image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.datasets.held import held, newest, read_held
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.rewards.reward_model import Episodes
from robolearn.rewards.stages import StageTargets, starts_from_labels, targets_from_starts
from robolearn.tasks import known_task

IMAGES_AT_ONCE = 512  # of one camera, decoded and scored together


@dataclass(frozen=True)
class Truth:
    """What a task's predicates say of one episode of T steps: stage (T,) int64, progress (T,) and reward (T,)."""

    stages: tuple[str, ...]
    stage: NDArray[np.int64]
    progress: NDArray[np.float64]
    reward: NDArray[np.float64]


class RewardData:
    """A dataset, episode by episode. Raises DatasetError when it has no images, unless no `pictures` are wanted."""

    def __init__(self, dataset: Path, pictures: bool = True) -> None:
        self.store = ZarrStore.open(dataset)
        self.path = dataset
        observation = self.store.spec.interface.observation
        self.cameras = tuple(name.removeprefix("image_") for name in observation if name.startswith("image_"))
        if pictures and not self.cameras:
            raise DatasetError(f"{dataset} has no camera images; reward models look at pictures")
        if not self.store.episodes:
            raise DatasetError(f"{dataset} has no episodes; record or collect some first")
        self._task = cache(known_task)
        self.proprio_size = observation["proprio"].shape[0] if "proprio" in observation else 0

    def image_size(self, camera: str) -> tuple[int, int]:
        """(H, W) of a camera. Raises DatasetError for one that is not there."""
        if camera not in self.cameras:
            raise DatasetError(f"{self.path} has no camera {camera!r}; it has {', '.join(self.cameras)}")
        height, width, _ = self.store.spec.interface.observation[f"image_{camera}"].shape
        return height, width

    def images(self, index: int, camera: str, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Images (T, H, W, 3) of an episode, in `out` if that is given; where one was lost, the last one before it, as
        a robot would still see."""
        name = f"image_{camera}"
        images = self.store.read(index, [name], out=None if out is None else {name: out})[name]
        valid = self.store.read_valid(index)[name]
        if not valid.all():
            images[...] = held(images, valid)
        return images

    def seen_steps(self, index: int, camera: str) -> NDArray[np.int64]:
        """(T,) whose image is seen at each step of an episode: its own, or where that was lost the last one before."""
        return newest(self.store.read_valid(index)[f"image_{camera}"])

    def pictures(
        self, indices: Sequence[int], cameras: Sequence[str], memory: NDArray[np.uint8] | None = None
    ) -> dict[str, NDArray[np.uint8]]:
        """Room for the images (B, T, H, W, 3) of these episodes by camera, padded to the longest of them; where
        `memory` (N,) is given, the first `picture_bytes` of it."""
        longest = max(self.store.episodes[index].length for index in indices)
        shapes = {camera: (len(indices), longest, *self.image_size(camera), 3) for camera in cameras}
        if memory is None:
            return {camera: np.empty(shape, np.uint8) for camera, shape in shapes.items()}
        ends = np.cumsum([prod(shape) for shape in shapes.values()])
        parts = np.split(memory[: ends[-1]], ends[:-1])
        return {camera: part.reshape(shapes[camera]) for camera, part in zip(cameras, parts, strict=True)}

    def picture_bytes(self, indices: Sequence[int], cameras: Sequence[str]) -> int:
        """What `pictures` takes."""
        longest = max(self.store.episodes[index].length for index in indices)
        return len(indices) * longest * sum(3 * prod(self.image_size(camera)) for camera in cameras)

    def episodes(
        self,
        indices: Sequence[int],
        cameras: Sequence[str] | None = None,
        memory: NDArray[np.uint8] | None = None,
    ) -> Episodes:
        """These episodes, padded to the longest of them; their pictures lie in `memory` if that is given."""
        infos = [self.store.episodes[index] for index in indices]
        longest = max(info.length for info in infos)
        images = self.pictures(indices, self.cameras if cameras is None else cameras, memory)
        for camera, rows in images.items():
            for row, index in enumerate(indices):
                self.images(index, camera, rows[row, : infos[row].length])
                rows[row, infos[row].length :] = 0
        proprio = None
        if self.proprio_size:
            values = np.zeros((len(infos), longest, self.proprio_size), np.float32)
            for row, index in enumerate(indices):
                seen, valid = self.store.read(index, ["proprio"])["proprio"], self.store.read_valid(index)["proprio"]
                values[row, : infos[row].length] = held(seen, valid)
            proprio = torch.from_numpy(np.nan_to_num(values))
        length = torch.tensor([info.length for info in infos])
        tensors = {camera: torch.from_numpy(rows) for camera, rows in images.items()}
        return Episodes(tensors, [info.instruction for info in infos], proprio, length)

    def groups(self, indices: Sequence[int], most: int | None = None) -> list[list[int]]:
        """Consecutive episodes, together at most IMAGES_AT_ONCE steps with their padding (or `most`, where that is
        less), or a single longer one."""
        limit = IMAGES_AT_ONCE if most is None else min(most, IMAGES_AT_ONCE)
        groups: list[list[int]] = []
        room = 0
        for index in indices:
            length = self.store.episodes[index].length
            if not groups or (len(groups[-1]) + 1) * max(length, room) > limit:
                groups.append([])
                room = 0
            groups[-1].append(index)
            room = max(room, length)
        return groups

    def batches(
        self, indices: Sequence[int], cameras: Sequence[str] | None = None
    ) -> Iterator[tuple[list[int], Episodes]]:
        """The episodes of each group; the next one is read while one is used."""
        groups = self.groups(indices)
        with ThreadPoolExecutor(1, "read") as pool:
            waiting = [pool.submit(self.episodes, group, cameras) for group in groups[:1]]
            for number, group in enumerate(groups):
                current = waiting.pop()
                if number + 1 < len(groups):
                    waiting.append(pool.submit(self.episodes, groups[number + 1], cameras))
                yield group, current.result()

    def goal(self, index: int, wanted: str = "") -> str:
        """What a model is told that an episode is about: `wanted`, or its instruction. Raises DatasetError without."""
        info = self.store.episodes[index]
        if not (wanted or info.instruction).strip():
            raise DatasetError(
                f"{self.path}: episode {info.id} has no instruction that a model could be told; write one with "
                "`robolearn dataset relabel --instruction`, or give --goal to a command that has it"
            )
        return wanted or info.instruction

    def truth(self, index: int) -> Truth | None:
        """The task's own judgement of every step; None where nobody here knows the task, or the poses that it looks at
        were not recorded."""
        task = self._task(self.store.episodes[index].task)
        if task is None:
            return None
        wanted = ["proprio", *(f"pose_{body}" for body in task.bodies)]
        valid = self.store.read_valid(index)
        if any(name not in valid or not valid[name].any() for name in wanted):
            return None
        judged = task.judge(read_held(self.store, index, wanted))
        return Truth(
            task.stages,
            np.asarray(judged.stage, np.int64),
            np.asarray(judged.progress, np.float64),
            np.asarray(judged.reward, np.float64),
        )

    def annotated_stages(self, index: int) -> tuple[tuple[str, ...], StageTargets] | None:
        """Stages of an episode as the first author, in the order of names, annotated them; None without."""
        info = self.store.episodes[index]
        for author in sorted({mark.author for mark in info.annotations}):
            marks = [mark for mark in info.annotations if mark.author == author]
            try:
                return tuple(m.label for m in marks), targets_from_starts([m.start for m in marks], info.length)
            except SpecError:
                continue
        return None

    def stage_targets(self, index: int) -> tuple[tuple[str, ...], StageTargets] | None:
        """Stages of an episode as they were annotated, or else of a success from the task's predicates.

        None where there are none, or where the episode does not pass each stage once and in order.
        """
        if annotated := self.annotated_stages(index):
            return annotated
        info = self.store.episodes[index]
        truth = self.truth(index) if info.success else None
        if truth is None:
            return None
        try:
            starts = starts_from_labels(truth.stage, truth.stages)
        except DatasetError:
            return None
        return truth.stages, targets_from_starts(starts, info.length)
