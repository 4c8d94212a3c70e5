"""The cell that a run practises in, made of its settings: the twin, or a real one by its file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from robolearn.cameras.tags import TagTracker
from robolearn.cell import Cell, load_cell, require_not_stopped
from robolearn.envs.device_cell import DeviceCell
from robolearn.envs.practice_cell import Hands, PracticeCell
from robolearn.envs.tagged_things import check_tags, tag_reader
from robolearn.envs.twin_cell import TwinCell
from robolearn.errors import CellError, HardwareError, SpecError, UnknownNameError
from robolearn.plugins import Device
from robolearn.recipes.finetune.film import filmed
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.specs import RobotSpec
from robolearn.tasks import make_task
from robolearn.tasks.task import Task
from robolearn.teleop import TELEOPERATORS
from robolearn.teleop.intervention import InterventionConfig, beside_a_policy
from robolearn.teleop.teleoperator import Fed

THINGS_BACK = "things_are_back"  # a file that somebody lays into the run who was asked to put things right
TASK_DONE = "task_is_done"  # one that the person lays there who judges
NODE = "node"  # --teleop: on a graph, the node that has the device
COOLER_C = 3.0  # than where robot or filter refuse to go on, practice pauses already


def make_cell(config: FinetuneConfig, run: Path, cameras: Mapping[str, tuple[int, int]]) -> PracticeCell:
    """cameras: size (H, W) by name of the pictures that are wanted. Raises what its devices raise."""
    task = make_task(config.task)
    if config.graph:
        raise SpecError("a robot of the graph is practised with by the node `practice`; leave --in-turns out")
    if not config.cell:
        spec = task.robot_spec
        hands = hands_of(Device(config.teleop, _settings(config.teleop)), spec, task) if config.teleop else None
        return TwinCell(task, {**filmed(config), **cameras}, hands, unseen=config.unseen)
    path = Path(config.cell)
    cell = replace(load_cell(path), control_hz=task.control_hz)
    check_cell(cell, path, task, config)
    robot, eyes = cell.make_robot(), cell.make_cameras()
    device = _device(config.teleop, cell)
    return DeviceCell(
        task,
        robot,
        cell.make_safety(robot.spec),
        None if config.unseen else TagTracker(tag_reader(cell, path, task), eyes),
        eyes,
        hands=None if device is None else lambda made: hands_of(device, made.spec, task),
        bell=lambda: rung(run, THINGS_BACK),
    )


def check_cell(cell: Cell, path: Path, task: Task, config: FinetuneConfig) -> None:
    """Raises CellError for what `task` cannot be practised in, and HardwareError for a robot that somebody has stopped,
    before anything is opened."""
    require_not_stopped(path)
    if not config.unseen:
        try:
            check_tags(cell, path, task)
        except CellError as error:
            known = "; or practise from pictures without: --set things=unseen image_size=64"
            raise CellError(f"{error}{known}") from None
    unknown = sorted(config.space().cameras.keys() - cell.cameras.keys())
    if unknown:
        raise CellError(f"{path} has no camera {unknown[0]!r}, whose pictures are to be seen; set cameras=NAME,NAME")
    if config.teleop == "cell" and cell.teleop is None:
        raise CellError(f"{path} has no teleop; add one, or name a device with --teleop")


def cooled_in_time(config: FinetuneConfig, cell: Cell) -> FinetuneConfig:
    """The settings by which practice pauses before a motor is so hot that robot or safety filter refuse to go on: that
    would be no pause, but a fault, or attempts in which the arm holds."""
    refused = (cell.safety.max_temperature_c, getattr(cell.robot.config, "max_temperature_c", None))
    rules = config.supervisor
    most = min([rules.max_temperature_c, *(limit - COOLER_C for limit in refused if limit is not None)])
    cool = min(rules.resume_temperature_c, most)
    return replace(config, supervisor=replace(rules, max_temperature_c=most, resume_temperature_c=cool))


def check_teleop(config: FinetuneConfig) -> None:
    """Raises SpecError or UnknownNameError for a device by which nobody can take over there."""
    if config.graph and config.teleop not in ("", NODE):
        raise SpecError(
            f"--teleop {config.teleop} came with --graph, where the device is that of a node: --teleop {NODE}, beside "
            "`robolearn launch practice teleop:=DEVICE`"
        )
    if config.teleop == NODE and not config.graph:
        raise SpecError(f"--teleop {NODE} is the node of a graph; give --graph, or name a device")
    if config.teleop and config.teleop not in (NODE, "cell"):
        _settings(config.teleop)
    elif config.teleop == "cell" and not config.cell:
        raise SpecError("--teleop cell is the device of a cell's file; give --cell, or name a device")


def check_terminal(config: FinetuneConfig) -> None:
    """Raises HardwareError where a person is to type at the terminal and there is none; the collector would die of it
    again and again."""
    name = config.teleop
    if name == "cell" and config.cell:
        device = load_cell(Path(config.cell)).teleop
        name = device.driver if device else ""
    if name == "keyboard" and not config.graph:
        try:
            os.close(_terminal())
        except OSError:
            raise HardwareError("the keyboard needs a terminal, and there is none; start it from a shell") from None


def _terminal() -> int:
    """That the run was started from, opened. Raises OSError."""
    return os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)


def hands_of(device: Device, spec: RobotSpec, task: Task) -> Hands:
    """A person at this device, which is opened."""
    options = {}
    if device.driver == "keyboard":  # of the terminal that the run was started from
        with contextlib.suppress(OSError):
            options = {"fd": _terminal()}
    made = TELEOPERATORS[device.driver](beside_a_policy(device.config), spec, **options)
    return Hands(made, np.asarray(spec.max_speed) / task.control_hz, InterventionConfig())


def rung(run: Path, said: str) -> bool:
    """Whether somebody has laid the file `said` into the run; it is taken away, and they are asked anew next time."""
    told: Callable[[], None] = (run / said).unlink
    try:
        told()
    except OSError:
        return False
    return True


def _device(name: str, cell: Cell) -> Device | None:
    if name in ("cell", cell.teleop.driver if cell.teleop else "cell"):
        return cell.teleop
    return Device(name, _settings(name)) if name else None


def _settings(name: str) -> object:
    """Of a teleoperator that wants no file."""
    if name not in TELEOPERATORS:
        raise UnknownNameError("teleoperator", name, TELEOPERATORS)
    made = TELEOPERATORS[name]
    if issubclass(made, Fed):  # type: ignore[arg-type]
        raise SpecError(
            f"teleop {name} is driven from the operator's page, which is on the graph: practise with --graph robot or "
            f"twin and --teleop node, beside `robolearn launch practice teleop:={name}`"
        )
    kind = made.config_type  # type: ignore[attr-defined]
    try:
        return kind()
    except TypeError:
        raise SpecError(f"teleop {name} needs settings; give them in a cell's file, and --teleop cell") from None
