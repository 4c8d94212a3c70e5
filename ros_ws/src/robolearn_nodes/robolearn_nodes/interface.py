"""Which robot a node has to do with: that of a cell's file, that of a task of the twin, or one told by parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rclpy.node import Node

from robolearn.cell import Cell, load_cell
from robolearn.errors import SpecError
from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.specs import RobotSpec
from robolearn.tasks import make_task
from robolearn.tasks.task import Task
from robolearn_nodes.node import list_parameter, parameter

DEFAULT_TASK = "pick_place-v1"


@dataclass(frozen=True)
class RobotInterface:
    """The robot, the rate at which it is controlled, its limits, and where they are from."""

    spec: RobotSpec
    control_hz: float
    safety: SafetyConfig = SafetyConfig()  # noqa: RUF009, it is frozen; of what is not a cell
    cell: Cell | None = None
    cell_file: Path | None = None
    task: Task | None = None  # of the twin
    task_id: str = ""  # what is done, whoever does it; may be empty for a cell

    @property
    def period_ns(self) -> int:
        return round(1e9 / self.control_hz)

    def make_safety(self) -> SafetyFilter:
        """The last word before the robot. Raises SpecError when its limits make no sense."""
        if self.cell is not None:
            return self.cell.make_safety(self.spec)
        return SafetyFilter(self.spec, self.safety, 1 / self.control_hz)


def robot_interface(node: Node) -> RobotInterface:
    """Declare and read the parameters: a cell, or joints with their limits, or else the twin of a task.

    Raises SpecError when they do not make sense.
    """
    cell_file = parameter(node, "cell", "", "YAML file of the physical cell, see hardware/cells")
    task_id = parameter(node, "task", "", f"task id; a twin's is {DEFAULT_TASK} when it is empty")
    joints = list_parameter(node, "joint_names", str, "joints in the order of commands, the gripper last")
    low = list_parameter(node, "position_low", float, "lower limit of each joint [rad]")
    high = list_parameter(node, "position_high", float, "upper limit of each joint [rad]")
    speed = list_parameter(node, "max_speed", float, "of each joint [rad/s]")
    rate = parameter(node, "control_hz", 0.0, "control rate [Hz]; 0 is that of the cell or task")
    max_age_s = parameter(
        node, "max_command_age_s", 0.0, "a command that is older holds the robot [s]; 0: as the cell has it"
    )
    if rate < 0 or max_age_s < 0:
        raise SpecError(
            f"{node.get_name()} has control_hz {rate:g} and max_command_age_s {max_age_s:g}, expected no less than 0"
        )
    if cell_file and joints:
        raise SpecError(f"{node.get_name()} has both cell and joint_names; set one")
    others = SafetyConfig(max_command_age_s=max_age_s or SafetyConfig.max_command_age_s)
    if cell_file:
        cell = load_cell(Path(cell_file))
        safety = replace(cell.safety, max_command_age_s=max_age_s or cell.safety.max_command_age_s)
        cell = replace(cell, control_hz=rate or cell.control_hz, safety=safety)
        found = RobotInterface(cell.make_robot().spec, cell.control_hz, cell.safety, cell, Path(cell_file))
    elif not joints:
        task = make_task(task_id or DEFAULT_TASK)
        task_id = task.id
        found = RobotInterface(task.robot_spec, rate or task.control_hz, others, task=task)
    else:
        if not len(joints) == len(low) == len(high) == len(speed) or rate <= 0:
            raise SpecError(
                f"{node.get_name()} has {len(joints)} joint_names, {len(low)} position_low, {len(high)} position_high, "
                f"{len(speed)} max_speed and control_hz {rate:g}; expected as many of each, and a rate above 0"
            )
        found = RobotInterface(RobotSpec("robot", joints, low, high, speed), rate, others)
    return replace(found, task_id=task_id)
