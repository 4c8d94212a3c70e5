"""The things of a task that a cell's cameras see by their tags (`objects` of its file)."""

from __future__ import annotations

from pathlib import Path

from robolearn.cameras.calibration import CameraCalibration
from robolearn.cameras.tags import TagReader
from robolearn.cell import Cell, camera_calibration_file
from robolearn.envs.seen_scene import things_of
from robolearn.errors import CellError
from robolearn.tasks.task import Task


def sees(cell: Cell, task: Task) -> bool:
    """Whether the cell has the robot of the task, and a tag on each of its things."""
    tagged = all(body in cell.objects for body in things_of(task))
    return tagged and cell.make_robot().spec.joint_names == task.robot_spec.joint_names


def check_tags(cell: Cell, path: Path, task: Task) -> None:
    """Raises CellError where the cell's file `path` does not say how each thing of the task is seen."""
    missing = [body for body in things_of(task) if body not in cell.objects]
    if missing:
        raise CellError(
            f"{path} has no objects.{missing[0]}; {task.id} has to see where it is: glue a tag to it (`robolearn cell "
            "board tag.png --tag 0`) and name it there"
        )
    unknown = sorted({cell.objects[body].camera for body in things_of(task)} - cell.cameras.keys())
    if unknown:
        raise CellError(f"{path} has no camera {unknown[0]!r}, by which an object is to be seen")


def tag_reader(cell: Cell, path: Path, task: Task) -> TagReader:
    """For the things of the task, by the cameras' calibrations. Raises CellError or HardwareError."""
    check_tags(cell, path, task)
    things = {body: cell.objects[body] for body in things_of(task)}
    seers = {thing.camera for thing in things.values()}
    return TagReader(things, {n: CameraCalibration.load(camera_calibration_file(path, cell, n)) for n in seers})
