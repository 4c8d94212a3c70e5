"""The physics engines that can move a task's world."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from robolearn.errors import UnknownNameError
from robolearn.tasks import Task
from robolearn.twin.bullet import BulletTwin
from robolearn.twin.twin import Twin

AnyTwin: TypeAlias = Twin | BulletTwin

ENGINES: dict[str, Callable[[Task, Mapping[str, tuple[int, int]] | None], AnyTwin]] = {
    "mujoco": Twin,
    "bullet": BulletTwin,
}


def make_twin(engine: str, task: Task, cameras: Mapping[str, tuple[int, int]] | None = None) -> AnyTwin:
    """A twin of the task. Raises UnknownNameError for another engine, and what the twin itself raises."""
    if engine not in ENGINES:
        raise UnknownNameError("engine", engine, ENGINES)
    return ENGINES[engine](task, cameras)
