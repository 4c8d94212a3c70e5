"""Film strips of attempts, for the morning report: a PNG each, some frames from its beginning to its end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robolearn.envs.practice_world import PracticeWorld
from robolearn.envs.tool_space import resized
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.finetune.supervisor import Attempt

FOLDER, CAMERA = "films", "front"
SIZE = (96, 96)
FRAMES, GAP = 8, 2  # of a strip, and the pixels between two
TRUTHS = {True: "true", False: "false", None: "unknown"}  # as the names of strips tell it
FIRST = 4  # attempts that are filmed in any case


def filmed(config: FinetuneConfig) -> dict[str, tuple[int, int]]:
    """Size (H, W) by name of the camera that films a run, where one does."""
    return {CAMERA: SIZE} if config.film_every else {}


class Film:
    """Films the first attempts and then every `config.film_every`-th one."""

    def __init__(self, config: FinetuneConfig, run: Path) -> None:
        self._every, self._folder = config.film_every, run / FOLDER
        self._filming = False

    def begin(self, number: int) -> None:
        self._filming = bool(self._every) and (number < FIRST or number % self._every < 2)
        self._images: list[NDArray[np.uint8]] = []

    def look(self, world: PracticeWorld) -> None:
        if self._filming:
            self._images.append(resized(world.render(CAMERA), SIZE))

    def end(self, number: int, attempt: Attempt, truth: bool | None) -> None:
        """Write the strip, whose name tells how it went; truth None: nobody knows."""
        if not self._filming or not self._images:
            return
        import cv2

        chosen = np.linspace(0, len(self._images) - 1, min(FRAMES, len(self._images))).round().astype(int)
        apart = np.full((SIZE[0], GAP, 3), 255, np.uint8)
        strip = np.concatenate([part for i in chosen for part in (apart, self._images[i])][1:], axis=1)
        self._folder.mkdir(exist_ok=True)
        name = f"{number:07d}_{attempt.task}_{attempt.end.value}_{TRUTHS[truth]}.png"
        cv2.imwrite(str(self._folder / name), cv2.cvtColor(strip, cv2.COLOR_RGB2BGR))
