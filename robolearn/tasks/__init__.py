"""Tasks by id."""

from __future__ import annotations

from robolearn.errors import UnknownNameError
from robolearn.tasks.button import Button
from robolearn.tasks.drawer import DrawerClose, DrawerOpen
from robolearn.tasks.lift import Lift
from robolearn.tasks.pick_place import PickPlace, PickPlaceBack
from robolearn.tasks.push import Push
from robolearn.tasks.reach import Reach
from robolearn.tasks.stack import Stack, Unstack
from robolearn.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "reach-v1": Reach,
    "push-v1": Push,
    "lift-v1": Lift,
    "pick_place-v1": PickPlace,
    "pick_place_back-v1": PickPlaceBack,
    "stack-v1": Stack,
    "unstack-v1": Unstack,
    "drawer_open-v1": DrawerOpen,
    "drawer_close-v1": DrawerClose,
    "button-v1": Button,
}


def make_task(task_id: str) -> Task:
    """The task of this id. Raises UnknownNameError with the near misses."""
    if task_id not in TASKS:
        raise UnknownNameError("task", task_id, TASKS)
    return TASKS[task_id]()
