"""Twins that differ from episode to episode: their physics, delay, cameras, light, colours and clutter.

A seed fixes what an episode's twin is like, whether it runs alone or in a batch. Legend: N bodies, G geoms.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import mujoco
import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError

DISTRACTOR = "distractor"
TABLE = "table"  # geom and material of the scenes
PATTERNS = ("checker", "gradient", "flat")
HIDDEN = np.array([0.0, 0.0, -0.5])  # below the table
SHAPES = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_CYLINDER)
SUBSTREAM = 1  # of an episode's seed, so that the task's own draws stay as they are


@dataclass(frozen=True)
class Randomization:
    """How much twins differ; 0 leaves alone. Factors are drawn log-uniformly from [1 / (1 + x), 1 + x]."""

    friction: float = 0.3  # factor, one for all contacts
    mass: float = 0.2  # factor of each free body
    joint: float = 0.3  # factor of each robot joint's damping, dry friction and armature
    gain: float = 0.15  # factor of each servo's gains
    max_latency_s: float = 0.05  # from a command to its effect, beyond the robot's own, drawn uniformly from 0 on
    camera_m: float = 0.01  # standard deviation of every camera's place, each axis
    camera_rad: float = 0.03  # of its direction, each axis
    light: float = 0.4  # factor of the lights' brightness; they come from elsewhere, too
    colour: float = 0.1  # standard deviation of every geom's colour, each channel of 0 to 1
    texture: bool = True  # another pattern on the table
    distractors: int = 3  # at most so many things lie around that nothing touches

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < 100:
                raise SpecError(f"randomization {field.name} is {value}, expected a number of at least 0")

    def edit(self, spec: mujoco.MjSpec) -> None:
        """Make room in a scene, before it is compiled, for what is drawn later."""
        for i in range(self.distractors):
            spec.worldbody.add_geom(
                name=f"{DISTRACTOR}{i}", type=SHAPES[i % len(SHAPES)], size=[0.015, 0.015, 0.015], pos=HIDDEN,
                rgba=[0.5, 0.5, 0.5, 1], contype=0, conaffinity=0,
            )  # fmt: skip
        if self.texture:
            for name in PATTERNS:
                spec.add_texture(
                    name=f"{TABLE}_{name}", type=mujoco.mjtTexture.mjTEXTURE_2D, width=64, height=64,
                    builtin=getattr(mujoco.mjtBuiltin, f"mjBUILTIN_{name.upper()}"),
                    rgb1=[0.75, 0.72, 0.66], rgb2=[0.45, 0.47, 0.50],
                )  # fmt: skip
                material = spec.add_material(name=f"{TABLE}_{name}", specular=0, shininess=0, texrepeat=[6, 6])
                material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = f"{TABLE}_{name}"
        substeps = round(self.max_latency_s / spec.option.timestep)
        for actuator in spec.actuators if substeps else ():
            actuator.nsample = max(actuator.nsample, 2) + substeps

    def draw(self, model: mujoco.MjModel, seed: int) -> dict[str, NDArray]:
        """The fields of MjModel, whole, that the twin of this seed has instead of those of `model`."""
        rng = np.random.default_rng([seed, SUBSTREAM])
        return {**self._physics(model, rng), **self._looks(model, rng)}

    def _physics(self, model: mujoco.MjModel, rng: np.random.Generator) -> dict[str, NDArray]:
        drawn: dict[str, NDArray] = {"geom_friction": model.geom_friction.copy()}
        drawn["geom_friction"][:, 0] *= _factor(rng, self.friction)
        free = [int(model.jnt_bodyid[j]) for j in np.flatnonzero(model.jnt_type == mujoco.mjtJoint.mjJNT_FREE)]
        drawn["body_mass"], drawn["body_inertia"] = model.body_mass.copy(), model.body_inertia.copy()
        for body in free:
            factor = _factor(rng, self.mass)
            drawn["body_mass"][body] *= factor
            drawn["body_inertia"][body] *= factor
        dof = model.jnt_dofadr[model.actuator_trnid[:, 0]]
        for name in ("dof_damping", "dof_frictionloss", "dof_armature"):
            drawn[name] = getattr(model, name).copy()
            drawn[name][dof] *= _factor(rng, self.joint, drawn[name][dof].shape)
        gain = _factor(rng, self.gain, (model.nu,))
        drawn["actuator_gainprm"], drawn["actuator_biasprm"] = (
            model.actuator_gainprm.copy(),
            model.actuator_biasprm.copy(),
        )
        drawn["actuator_gainprm"][:, 0] *= gain
        drawn["actuator_biasprm"][:, 1:3] *= gain[:, None]
        substeps = rng.integers(0, round(self.max_latency_s / model.opt.timestep) + 1)
        if model.nhistory and self.max_latency_s > 0:
            own = np.ceil(model.actuator_delay / model.opt.timestep)  # of the robot, half a step less, see Physics.edit
            drawn["actuator_delay"] = np.maximum(own + substeps - 0.5, 0.0) * model.opt.timestep
        return drawn

    def _looks(self, model: mujoco.MjModel, rng: np.random.Generator) -> dict[str, NDArray]:
        drawn: dict[str, NDArray] = {"cam_pos": model.cam_pos + rng.normal(0, self.camera_m, model.cam_pos.shape)}
        drawn["cam_quat"] = model.cam_quat.copy()
        for quat in drawn["cam_quat"]:
            mujoco.mju_quatIntegrate(quat, rng.normal(0, self.camera_rad, 3), 1.0)
        drawn["light_diffuse"] = (model.light_diffuse * _factor(rng, self.light, (model.nlight, 1))).clip(0, 1)
        drawn["light_dir"] = model.light_dir + rng.normal(0, 0.3 * min(self.light, 1.0), model.light_dir.shape)
        for name in ("geom_rgba", "mat_rgba"):
            colours = getattr(model, name).copy()
            colours[:, :3] = (colours[:, :3] + rng.normal(0, self.colour, colours[:, :3].shape)).clip(0, 1)
            drawn[name] = colours.astype(np.float32)
        drawn["geom_pos"], drawn["geom_matid"] = model.geom_pos.copy(), model.geom_matid.copy()
        for i in range(rng.integers(0, self.distractors + 1) if self.distractors else 0):
            geom = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, f"{DISTRACTOR}{i}")
            side = rng.choice((-1.0, 1.0))  # beside the work, so that nothing that matters is hidden
            drawn["geom_pos"][geom] = (rng.uniform(0.08, 0.40), side * rng.uniform(0.18, 0.30), 0.015)
            drawn["geom_rgba"][geom, :3] = rng.uniform(0, 1, 3)
        table = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, TABLE)
        pattern = rng.integers(0, len(PATTERNS) + 1)  # one more: as it is
        if self.texture and table >= 0 and pattern < len(PATTERNS):
            drawn["geom_matid"][table] = mujoco.mj_name2id(
                model, mujoco.mjtObj.mjOBJ_MATERIAL, f"{TABLE}_{PATTERNS[pattern]}"
            )
        return drawn


def _factor(rng: np.random.Generator, spread: float, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
    return np.exp(rng.uniform(-np.log1p(spread), np.log1p(spread), shape))
