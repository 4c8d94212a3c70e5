"""What a robot's joints and servos are like, beyond what its file says: as fitted to a real robot.

It imports no simulator, so that a robot's computer can read it. Legend: J joints of the robot, in its spec's order.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.yaml_text import load_yaml

if TYPE_CHECKING:
    import mujoco

PER_JOINT = ("damping", "frictionloss", "armature", "kp", "kv")


@dataclass(frozen=True)
class Physics:
    """Of each joint (J,), None: as the robot's file has it; `latency_s` from a command to its effect, which the twin
    keeps to a time step of its scene."""

    damping: tuple[float, ...] | None = None  # [N m s/rad]
    frictionloss: tuple[float, ...] | None = None  # dry friction [N m]
    armature: tuple[float, ...] | None = None  # inertia of the rotor, seen at the joint [kg m^2]
    kp: tuple[float, ...] | None = None  # gain of the position servo [N m/rad]
    kv: tuple[float, ...] | None = None  # its damping [N m s/rad]
    latency_s: float = 0.0

    def __post_init__(self) -> None:
        for name in PER_JOINT:
            values = getattr(self, name)
            if values is not None and not all(np.isfinite(v) and v >= 0 for v in values):
                raise SpecError(f"physics {name} is {values}, expected numbers of at least 0")
        if not 0 <= self.latency_s < 1:
            raise SpecError(f"physics latency_s is {self.latency_s}, expected 0 to 1 s")

    def edit(self, spec: mujoco.MjSpec) -> None:
        """Give the actuators of a scene their latency, before it is compiled."""
        substeps = round(self.latency_s / spec.option.timestep)
        for actuator in spec.actuators if substeps else ():
            # Half a substep less: the buffer is read by time, and equal times that were rounded differently flicker.
            actuator.delay = (substeps - 0.5) * spec.option.timestep
            actuator.nsample = substeps + 2

    def fields(self, model: mujoco.MjModel) -> dict[str, NDArray[np.float64]]:
        """The rest: the fields of a compiled MjModel that this sets, whole. Raises SpecError for another number of
        joints."""
        for name in PER_JOINT:
            values = getattr(self, name)
            if values is not None and len(values) != model.nu:
                raise SpecError(f"physics {name} has {len(values)} values for {model.nu} joints; give one each")
        dof = model.jnt_dofadr[model.actuator_trnid[:, 0]]
        changed: dict[str, NDArray[np.float64]] = {}
        for name in ("damping", "frictionloss", "armature"):
            if getattr(self, name) is not None:
                changed[f"dof_{name}"] = getattr(model, f"dof_{name}").copy()
                changed[f"dof_{name}"][dof] = getattr(self, name)
        if self.kp is not None or self.kv is not None:
            gain, bias = model.actuator_gainprm.copy(), model.actuator_biasprm.copy()
            if self.kp is not None:
                gain[:, 0], bias[:, 1] = self.kp, -np.array(self.kp)
            if self.kv is not None:
                bias[:, 2] = -np.array(self.kv)
            changed.update(actuator_gainprm=gain, actuator_biasprm=bias)
        return changed

    @classmethod
    def of(cls, model: mujoco.MjModel) -> Physics:
        """What a compiled model has, the latency aside."""
        dof = model.jnt_dofadr[model.actuator_trnid[:, 0]]
        return cls(
            damping=tuple(model.dof_damping[dof].tolist()),
            frictionloss=tuple(model.dof_frictionloss[dof].tolist()),
            armature=tuple(model.dof_armature[dof].tolist()),
            kp=tuple(model.actuator_gainprm[:, 0].tolist()),
            kv=tuple((-model.actuator_biasprm[:, 2]).tolist()),
            latency_s=0.0,
        )

    def known(self) -> dict[str, list[float] | float]:
        """What is not as the robot's file has it, as YAML keeps it."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None}

    def write(self, path: Path) -> None:
        """As YAML."""
        path.write_text(yaml.safe_dump(self.known(), sort_keys=False), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Physics:
        """From YAML. Raises SpecError naming the file and what is wrong with it."""
        try:
            values: Any = load_yaml(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SpecError(f"cannot read physics {path}: {' '.join(str(error).split())}") from error
        names = [f.name for f in fields(cls)]
        if not isinstance(values, dict) or not set(values) <= set(names):
            raise SpecError(f"physics {path} has to be a mapping of {', '.join(names)}")
        try:
            latency_s = float(values.pop("latency_s", 0.0))
            return cls(**{name: tuple(float(x) for x in row) for name, row in values.items()}, latency_s=latency_s)
        except (TypeError, ValueError) as error:
            raise SpecError(f"physics {path}: {error}") from error


DEFAULT_PHYSICS = Physics()
