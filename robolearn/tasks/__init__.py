"""Tasks by id, and the robots that they can be done with."""

from __future__ import annotations

import importlib

from robolearn.errors import AssetError, PluginError, UnknownNameError
from robolearn.plugins import Table
from robolearn.tasks.arm import Arm
from robolearn.tasks.bar import LiftBar, LowerBar
from robolearn.tasks.button import Button, ButtonRelease
from robolearn.tasks.cloth import FoldCloth, UnfoldCloth
from robolearn.tasks.drawer import DrawerClose, DrawerOpen
from robolearn.tasks.kinematics import SO101_ARM
from robolearn.tasks.lift import Lift, Lower
from robolearn.tasks.panda import PANDA_ARM
from robolearn.tasks.peg import PegExtract, PegInsert
from robolearn.tasks.pick_place import PickPlace, PickPlaceBack
from robolearn.tasks.point import PointDown, PointLeft, PointRight, PointUp
from robolearn.tasks.push import Push, PushBack
from robolearn.tasks.reach import Reach, ReachBack
from robolearn.tasks.stack import Stack, Unstack
from robolearn.tasks.sweep import Sweep, Unsweep
from robolearn.tasks.task import Task

TASKS: Table[type[Task]] = Table(
    "robolearn.tasks",
    "task",
    {
        "reach-v1": Reach,
        "reach_back-v1": ReachBack,
        "push-v1": Push,
        "push_back-v1": PushBack,
        "lift-v1": Lift,
        "lower-v1": Lower,
        "pick_place-v1": PickPlace,
        "pick_place_back-v1": PickPlaceBack,
        "stack-v1": Stack,
        "unstack-v1": Unstack,
        "drawer_open-v1": DrawerOpen,
        "drawer_close-v1": DrawerClose,
        "peg_insert-v1": PegInsert,
        "peg_extract-v1": PegExtract,
        "sweep-v1": Sweep,
        "unsweep-v1": Unsweep,
        "fold_cloth-v1": FoldCloth,
        "unfold_cloth-v1": UnfoldCloth,
        "lift_bar-v1": LiftBar,
        "lower_bar-v1": LowerBar,
        "button-v1": Button,
        "button_release-v1": ButtonRelease,
        "point_up-v1": PointUp,
        "point_down-v1": PointDown,
        "point_left-v1": PointLeft,
        "point_right-v1": PointRight,
    },
    owed=("id", "robots", "backward", "initial_state", "judge", "expert"),
)
ARMS: dict[str, Arm] = {
    "so101": SO101_ARM,
    "panda": PANDA_ARM,
}
ROBOT_LIBRARY, ROBOT_FILES = "robot_descriptions:", (".xml", ".mjcf", ".urdf")
ROBOT_READER = "robolearn.twin.robot_file"  # needs the simulator, so it is imported for a model file alone


def make_task(task_id: str) -> Task:
    """The task of this id: `push-v1`, or for another robot than its first one `push-v1@panda`, `push-v1@my_arm.xml`.

    Raises UnknownNameError with the near misses, AssetError for a model file that cannot be
    used, and PluginError for a package whose task cannot be.
    """
    name, _, robot = task_id.partition("@")
    if name not in TASKS:
        raise UnknownNameError("task", name, TASKS)
    made = TASKS[name]
    if not robot or robot == made.robots[0]:
        return made()
    if robot in ARMS:
        task = made(ARMS[robot])
    elif is_robot_file(robot):
        task = made(importlib.import_module(ROBOT_READER).read_arm(robot))
        if not task.arm.grips and any("grasp" in each.stages for each in (made, TASKS[made.backward])):
            raise AssetError(
                f"{name} wants a gripper, and {robot} has no joint beyond its arm; do reach, push or button"
            )
    else:
        raise UnknownNameError("robot", robot, [*ARMS, f"a file that ends in {', '.join(ROBOT_FILES)}"])
    task.id, task.backward = f"{name}@{robot}", f"{task.backward}@{robot}"
    return task


def known_task(task_id: str) -> Task | None:
    """`make_task` of an id that was recorded; None where this machine does not know such a task or robot."""
    try:
        return make_task(task_id)
    except (UnknownNameError, AssetError, PluginError):
        return None


def is_robot_file(robot: str) -> bool:
    """Whether a robot is named by a model file, or by a module of robot_descriptions, not by a name of ours."""
    return robot.startswith(ROBOT_LIBRARY) or robot.endswith(ROBOT_FILES)
