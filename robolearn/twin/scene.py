"""From a task to a compiled MuJoCo model: its scene with its robot set on the `robot_mount` site."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np

from robolearn.assets import asset, scene_file
from robolearn.errors import AssetError
from robolearn.physics import Physics
from robolearn.specs import RobotSpec
from robolearn.tasks import Task, is_robot_file
from robolearn.twin.robot_file import open_robot

ROBOT_PREFIX = "robot/"  # of every name that comes from the robot's file
MOUNT = "robot_mount"
LIMIT_TOLERANCE = 1e-6


def load_model(task: Task, edit: Callable[[mujoco.MjSpec], None] = lambda spec: None) -> mujoco.MjModel:
    """Compile the task's scene, after what `edit` does to it.

    Raises AssetError naming the file, and the element as far as MuJoCo tells it.
    """
    file = scene_file(task.scene)
    scene = _parse(file)
    robot_file, robot = _robot(task)
    files = f"{file} with {robot_file}"
    mount = scene.site(MOUNT)
    if mount is None:
        raise AssetError(f"{file} has no site {MOUNT!r}; add one where the robot stands")
    mount.pos = mount.pos + np.array(task.arm.robot_at)
    robot.option = scene.option  # the scene's hold
    try:
        scene.attach(robot, site=mount, prefix=ROBOT_PREFIX)
        edit(scene)
        model = scene.compile()
    except ValueError as error:
        raise AssetError(f"{files}: {' '.join(str(error).split())}") from error
    _check_robot(model, task.robot_spec, robot_file)
    missing = [body for body in task.bodies if find(model, mujoco.mjtObj.mjOBJ_BODY, body) < 0]
    if missing:
        raise AssetError(f"{files} has no body {', '.join(missing)}, which {task.id} needs; add it")
    return model


def _robot(task: Task) -> tuple[str, mujoco.MjSpec]:
    """The file of the task's robot, and what it says."""
    if is_robot_file(task.robot):
        return task.robot, open_robot(task.robot)
    file = asset(f"sim_assets/robots/{task.robot}/{task.robot}.xml")
    return str(file), _parse(file)


def _parse(file: Path) -> mujoco.MjSpec:
    try:
        return mujoco.MjSpec.from_file(str(file))
    except ValueError as error:
        raise AssetError(f"{file}: {' '.join(str(error).split())}") from error


def load_robot(task: Task) -> mujoco.MjModel:
    """The task's robot alone, with the time step and solver of its scene. Raises AssetError."""
    scene = load_model(task)
    robot = _robot(task)[1].compile()
    for name in ("timestep", "integrator", "cone", "impratio", "gravity", "disableflags"):
        setattr(robot.opt, name, getattr(scene.opt, name))
    return robot


def set_physics(model: mujoco.MjModel, physics: Physics) -> None:
    """Write what `physics` sets into a compiled model, its latency aside. Raises SpecError for other joints."""
    changed = physics.fields(model)
    for name, values in changed.items():
        getattr(model, name)[:] = values
    if changed:
        mujoco.mj_setConst(model, mujoco.MjData(model))


def find(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str) -> int:
    """Id of an element of the scene or of the robot, -1 if there is none."""
    for full_name in (name, ROBOT_PREFIX + name):
        index = mujoco.mj_name2id(model, kind, full_name)
        if index >= 0:
            return index
    return -1


def _check_robot(model: mujoco.MjModel, spec: RobotSpec, file: str) -> None:
    actuators = tuple(model.actuator(i).name.removeprefix(ROBOT_PREFIX) for i in range(model.nu))
    if actuators != spec.joint_names:
        raise AssetError(
            f"{file} has actuators {', '.join(actuators)}; {spec.name} wants {', '.join(spec.joint_names)}"
        )
    for i, (low, high) in enumerate(zip(spec.position_low, spec.position_high, strict=True)):
        in_model = model.jnt_range[model.actuator_trnid[i, 0]]
        if max(abs(in_model[0] - low), abs(in_model[1] - high)) > LIMIT_TOLERANCE:
            raise AssetError(
                f"{file} limits {spec.joint_names[i]} to {in_model[0]:g}..{in_model[1]:g}, "
                f"the spec of {spec.name} to {low:g}..{high:g}; make them equal"
            )
