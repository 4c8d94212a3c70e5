"""Tasks by id."""

from __future__ import annotations

from robolearn.errors import UnknownNameError
from robolearn.tasks.lift import Lift
from robolearn.tasks.pick_place import PickPlace
from robolearn.tasks.push import Push
from robolearn.tasks.reach import Reach
from robolearn.tasks.task import Task

TASKS: dict[str, type[Task]] = {task.id: task for task in (Reach, Push, Lift, PickPlace)}


def make_task(task_id: str) -> Task:
    """The task of this id. Raises UnknownNameError with the near misses."""
    if task_id not in TASKS:
        raise UnknownNameError("task", task_id, TASKS)
    return TASKS[task_id]()
