"""The physics engines that can move a task's world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from robolearn.errors import SpecError, UnknownNameError
from robolearn.physics import DEFAULT_PHYSICS, Physics
from robolearn.tasks import Task
from robolearn.twin.bullet import BulletTwin
from robolearn.twin.randomize import Randomization
from robolearn.twin.twin import Twin

AnyTwin: TypeAlias = Twin | BulletTwin
ENGINES = ("mujoco", "bullet")


def make_twin(
    engine: str,
    task: Task,
    cameras: Mapping[str, tuple[int, int]] | None = None,
    randomization: Randomization | None = None,
    physics: Physics = DEFAULT_PHYSICS,
) -> AnyTwin:
    """A twin of the task. Raises UnknownNameError for another engine, and what the twin itself raises."""
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)
    if engine == "mujoco":
        return Twin(task, cameras, physics, randomization)
    if randomization is not None or physics != DEFAULT_PHYSICS:
        raise SpecError(f"{engine} has no randomized or fitted twins; leave that out, or use mujoco")
    return BulletTwin(task, cameras)
