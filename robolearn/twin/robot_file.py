"""A robot of the user's own, from an MJCF or URDF file: what the tasks need to know of it is read off the model.

    robolearn evaluate scripted --task reach-v1@my_arm.xml
    robolearn evaluate scripted --task reach-v1@robot_descriptions:ur5e_mj_description

What cannot be guessed stands in a YAML file of the same name beside the model, every key optional:

    tool: wrist_3_link         # site or body; its z is the direction of approach (of a body called tool, its x)
    gripper: {joint: finger, open: 0.03, closed: 0.0}  # one of the two is enough: the other is the farther end
    mount: [-0.3, 0, 0]        # where the model's origin stands in the scene [m]; the table's near edge is x = -0.1
    max_speed: 2.0             # of every joint [rad/s]

Actuators of the file are replaced by position servos, and gravity is compensated, as industrial controllers do. Meshes
of a URDF at `package://NAME/...` are looked for in the folders above the file, then in AMENT_PREFIX_PATH. An inertia
that no body can have is evened out. Fingers beside the gripper's joint follow it, unless the file has ties of its own;
its joints have no dry friction, and those without a servo no rotor.
Legend: N arm joints.
"""

from __future__ import annotations

import importlib
import os
import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import yaml
from numpy.typing import NDArray

from robolearn.errors import AssetError
from robolearn.specs import RobotSpec
from robolearn.tasks import ROBOT_LIBRARY
from robolearn.tasks.arm import Arm, Gripper
from robolearn.tasks.chain import Chain, Link
from robolearn.tasks.motion import BLOCK_HALF_M
from robolearn.twin.linkage import Linkage
from robolearn.yaml_text import load_yaml

TOOL_NAMES = (
    "tool",
    "tcp",
    "pinch",
    "grasp",
    "grasptarget",
    "attachment",
    "flange",
    "hand",
    "ee",
    "effector",
    "gripper",
)
NOTES = {  # what the YAML file may hold, in words
    "tool": "a name",
    "gripper": "a mapping of joint (a name), open and closed (numbers)",
    "mount": "three numbers [m]",
    "max_speed": "a number above 0 [rad/s]",
}
TOOL, BLOCK = "tool", "robolearn_block"  # bodies and geoms of ours
PACKAGE, MESH_FILES = "package://", (".stl", ".obj", ".msh")
SHOW_VISUALS = '<mujoco><compiler discardvisual="false" strippath="false"/></mujoco>'
SEEN_GROUP, HIDDEN_GROUP = 1, 3  # of geoms; pictures show 0 to 2
APPROACH_TO_X = (0.5, -0.5, -0.5, -0.5)  # from a frame whose z is the approach to ours, whose x it is
SERVO_RAD_S, LEAST_INERTIA, LEAST_GAIN = 40.0, 0.01, 200.0  # natural frequency of the servos, and floors [SI]
LINK_INERTIA = 0.001  # of a joint of the hand without a servo [SI]
GRIP_N, GRIP_N_M = 90.0, 2.2  # of a gripper that is held open half way; a command leads by a fifth of that
MAX_SPEED_RAD_S, MAX_SPEED_M_S = 2.0, 0.2
ENDLESS_RAD, ENDLESS_M = 2 * np.pi, 1.0  # limits of joints that have none
WORK = (0.22, 0.0, 0.12)  # middle of where the tasks are done, in the scene [m]
NEAR_REACH = 0.6  # share of the arm's length at which it shall work
MAX_TRIES = 30


@dataclass(frozen=True)
class _Choice:
    """What is made of the model."""

    joints: tuple[str, ...]  # from the base to the tool
    tool: tuple[str, str]  # "site" or "body", and its name
    gripper: str | None
    hand: tuple[str, ...]  # the joints beyond those, the gripper's among them
    notes: dict[str, Any]  # of the YAML file


def open_robot(robot: str) -> mujoco.MjSpec:
    """The model with position servos on its joints and a body `tool`. Raises AssetError naming the file."""
    path, spec = _parse(robot)
    choice = _choose(path, spec)
    for element in [*spec.sensors, *spec.actuators, *spec.keys]:  # sensors may be of actuators
        spec.delete(element)
    for geom in spec.geoms:
        if geom.contype:
            geom.contype, geom.conaffinity = 1, 2  # touches the scene, not itself: shells of others often overlap
    for body in spec.bodies[1:]:
        body.gravcomp = 1.0
    spec.compiler.fusestatic = False  # of a URDF would melt the tool into its link
    kind, name = choice.tool
    if kind == "site":
        site = spec.site(name)
        site.parent.add_body(name=TOOL, pos=site.pos, quat=_product(site.quat, APPROACH_TO_X))
    elif name != TOOL:
        spec.body(name).add_body(name=TOOL, quat=APPROACH_TO_X)
    model = _compile(path, spec)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    for name in (*choice.joints, *([choice.gripper] if choice.gripper else ())):
        joint, low_high = spec.joint(name), _range(model, name)
        slides = joint.type == mujoco.mjtJoint.mjJNT_SLIDE
        joint.limited = True  # who turns endlessly gets limits here, too
        joint.range = low_high if slides or not spec.compiler.degree else np.rad2deg(low_high)
        own = max(float(inertia[model.joint(name).dofadr[0], model.joint(name).dofadr[0]]), LEAST_INERTIA)
        joint.armature = max(float(np.ravel(joint.armature)[0]), LEAST_INERTIA)
        gain = max(own * SERVO_RAD_S**2, LEAST_GAIN)
        if name == choice.gripper:
            gain = (GRIP_N if slides else GRIP_N_M) / max((low_high[1] - low_high[0]) / 2, 1e-3)
        servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=gain, kv=2 * gain / SERVO_RAD_S)
        servo.ctrlrange = low_high
    for name in choice.hand:  # what holds them back would be taken from the force of a gripper that is ours
        spec.joint(name).frictionloss = 0.0
        if name != choice.gripper:
            spec.joint(name).armature = LINK_INERTIA
    if choice.gripper and not spec.equalities:
        _tie_fingers(spec, model, choice.gripper)
    return spec


def _tie_fingers(spec: mujoco.MjSpec, model: mujoco.MjModel, gripper: str) -> None:
    """Let the fingers beside the gripper's, of which the file does not say what moves them, follow it: from the end of
    the range that is nearer to zero to the other one."""
    leader = model.joint(gripper)
    hand = model.body_parentid[leader.bodyid[0]]
    near, far = sorted(_range(model, gripper), key=abs)
    for joint in map(model.joint, range(model.njnt)):
        beside = joint.bodyid[0] != leader.bodyid[0] and model.body_parentid[joint.bodyid[0]] == hand
        if joint.name and beside and joint.type[0] == leader.type[0]:
            its_near, its_far = sorted(_range(model, joint.name), key=abs)
            ratio = (its_far - its_near) / (far - near)
            tie = spec.add_equality(type=mujoco.mjtEq.mjEQ_JOINT, name1=joint.name, name2=gripper)
            tie.data[:2] = its_near - joint.qpos0[0] - ratio * (near - leader.qpos0[0]), ratio


def read_arm(robot: str) -> Arm:
    """What the tasks need to know of the robot. Raises AssetError for a model without a chain of joints to a tool."""
    path, raw = _parse(robot)
    choice = _choose(path, raw)
    spec = open_robot(robot)
    block = {"type": mujoco.mjtGeom.mjGEOM_BOX, "size": [BLOCK_HALF_M] * 3, "contype": 0, "conaffinity": 0, "mass": 0}
    spec.body(TOOL).add_geom(name=BLOCK, **block)
    model = _compile(path, spec)
    data = mujoco.MjData(model)
    data.qpos[:] = 0.0
    mujoco.mj_kinematics(model, data)
    ranges = [_range(model, name) for name in choice.joints]
    links, before = [], np.zeros(3)
    for name, (low, high) in zip(choice.joints, ranges, strict=True):  # at zero all frames are those of the base
        joint = model.joint(name)
        anchor, axis = data.xanchor[joint.id], data.xaxis[joint.id]
        slides = model.jnt_type[joint.id] == mujoco.mjtJoint.mjJNT_SLIDE
        links.append(Link(_floats(anchor - before), (1.0, 0.0, 0.0, 0.0), _floats(axis), low, high, bool(slides)))
        before = anchor.copy()
    tool = data.body(TOOL)
    chain = Chain(
        tuple(links),
        _floats(tool.xpos - before),
        _floats(tool.xquat),
        rest=tuple(min(max(0.0, low), high) for low, high in ranges),
        pan_x=float(data.xanchor[model.joint(choice.joints[0]).id][0]),
    )
    length = float(sum(np.linalg.norm(link.position) for link in links[1:]) + np.linalg.norm(chain.tool_position))
    mount = choice.notes.get("mount", (min(0.0, WORK[0] - NEAR_REACH * length), 0.0, 0.0))
    chain = replace(chain, rest=_floats(_rest(path, chain, np.array(WORK) - mount)))
    names = (*choice.joints, *([choice.gripper] if choice.gripper else ()))
    limits = [_range(model, name) for name in names]
    sliders = [model.jnt_type[model.joint(name).id] == mujoco.mjtJoint.mjJNT_SLIDE for name in names]
    turning = float(choice.notes.get("max_speed", MAX_SPEED_RAD_S))
    robot_spec = RobotSpec(
        name=path.stem,
        joint_names=names,
        position_low=tuple(low for low, _ in limits),
        position_high=tuple(high for _, high in limits),
        max_speed=tuple(MAX_SPEED_M_S if slides else turning for slides in sliders),
        unit="rad, sliders m" if any(sliders) else "rad",
    )
    return Arm(
        name=robot,
        spec=robot_spec,
        kinematics=chain,
        gripper=_gripper(path, choice, model, limits[-1]),
        rest=chain.rest,
        joints=len(choice.joints),
        grips=choice.gripper is not None,
        cameras=tuple(camera.name for camera in raw.cameras if camera.name == "wrist"),
        mount=_floats(mount),
        robot_at=_floats(mount),
    )


def _parse(robot: str) -> tuple[Path, mujoco.MjSpec]:
    path = _library_path(robot.removeprefix(ROBOT_LIBRARY)) if robot.startswith(ROBOT_LIBRARY) else Path(robot)
    if not path.is_file():
        sought = "" if path.is_absolute() else f", looked for from {Path.cwd()}"
        raise AssetError(f"robot {robot} is not a file{sought}; name an MJCF or URDF file, or {ROBOT_LIBRARY}<module>")
    try:
        spec = _of_urdf(path) if path.suffix == ".urdf" else mujoco.MjSpec.from_file(str(path))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise AssetError(f"{path}: {' '.join(str(error).split())}") from error
    spec.compiler.balanceinertia = True
    return path, spec


def _of_urdf(path: Path) -> mujoco.MjSpec:
    """The model with what is to be seen of its links, which MuJoCo leaves out by default. Where nothing of a link can
    be shown, as of COLLADA files, its collision shapes stand for it."""
    text = path.read_text(encoding="utf-8")
    if "<mujoco" not in text:  # else its author has chosen
        text = re.sub(r"<robot\b[^>]*>", lambda tag: tag[0] + SHOW_VISUALS, text, count=1)
    spec = mujoco.MjSpec.from_string(text)
    files = {mesh.name: _mesh_file(path, mesh.file) for mesh in spec.meshes}
    for body in spec.bodies:
        for geom in body.geoms:
            file = files.get(geom.meshname)
            if not geom.contype and file and not (file.is_file() and file.suffix.lower() in MESH_FILES):
                spec.delete(geom)
        if any(not geom.contype for geom in body.geoms):
            for geom in body.geoms:
                geom.group = SEEN_GROUP if not geom.contype else HIDDEN_GROUP
    for mesh in list(spec.meshes):
        if any(geom.meshname == mesh.name for geom in spec.geoms):
            mesh.file = str(files[mesh.name])
        else:
            spec.delete(mesh)
    for geom in spec.geoms:
        if geom.meshname and not files[geom.meshname].is_file():
            raise AssetError(
                f"{path} wants {files[geom.meshname]}, which is not there; put its package beside the file, or source "
                "the workspace that has it"
            )
    return spec


def _mesh_file(path: Path, name: str) -> Path:
    """The file that a URDF calls `name`; of `package://NAME/rest`, in a package around the URDF or of a sourced ROS 2
    workspace, or where that is not there, beside the URDF."""
    if not name.startswith(PACKAGE):
        return path.absolute().parent / name.removeprefix("file://")
    package, _, rest = name.removeprefix(PACKAGE).partition("/")
    above = path.absolute().parents
    prefixes = filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    folders = [folder for folder in above if folder.name == package]
    folders += [*(folder / package for folder in above), *(Path(prefix, "share", package) for prefix in prefixes)]
    found = (folder / rest for folder in folders if (folder / rest).is_file())
    return next(found, above[0] / package / rest)


def _library_path(module: str) -> Path:
    try:
        found = importlib.import_module(f"robot_descriptions.{module}")
    except ImportError as error:
        remedy = "`pip install robot_descriptions` and see its list"
        raise AssetError(f"no {ROBOT_LIBRARY}{module} ({error}); {remedy}") from error
    return Path(getattr(found, "MJCF_PATH", None) or found.URDF_PATH)


def _compile(path: Path, spec: mujoco.MjSpec) -> mujoco.MjModel:
    try:
        with warnings.catch_warnings():  # of texture coordinates and the like, which nobody sees
            warnings.simplefilter("ignore")
            return spec.compile()
    except ValueError as error:
        raise AssetError(f"{path}: {' '.join(str(error).split())}") from error


def _choose(path: Path, spec: mujoco.MjSpec) -> _Choice:
    notes = _notes(path.with_suffix(".yaml"))
    tool = _tool(path, spec, notes.get("tool"))
    body = spec.site(tool[1]).parent if tool[0] == "site" else spec.body(tool[1])
    joints: list[str] = []
    while body.name != "world":
        joints = [joint.name for joint in body.joints] + joints
        body = body.parent
    if not joints or not all(joints):
        raise AssetError(f"{path}: no named joints lead to the tool {tool[1]!r}; name another one in {path.stem}.yaml")
    for name in joints:
        if spec.joint(name).type not in (mujoco.mjtJoint.mjJNT_HINGE, mujoco.mjtJoint.mjJNT_SLIDE):
            raise AssetError(
                f"{path}: the joint {name!r} on the way to the tool is neither a hinge nor a slide; fix the base to "
                "the world, or make it hinges"
            )
    wrist = spec.joint(joints[-1]).parent.name
    others = [j.name for j in spec.joints if j.name and j.name not in joints and wrist in _ancestors(j.parent)]
    gripper = notes.get("gripper", {}).get("joint", next(iter(others), None))
    if (gripper or notes.get("gripper")) and gripper not in others:
        raise AssetError(f"{path}: no joint {gripper!r} for the gripper; known: {', '.join(others) or 'none'}")
    return _Choice(tuple(joints), tool, gripper, tuple(others), notes)


def _notes(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        notes = load_yaml(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AssetError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(notes, dict) or not set(notes) <= set(NOTES):
        came = ", ".join(map(str, notes)) if isinstance(notes, dict) else repr(notes)
        raise AssetError(f"{path} has {came}; expected {', '.join(sorted(NOTES))}")
    notes = {key: value for key, value in notes.items() if value is not None}
    for key, value in notes.items():
        if not _fits(key, value):
            raise AssetError(f"{path} has {key}: {value!r}; expected {NOTES[key]}")
    return notes


def _fits(key: str, value: Any) -> bool:
    """Whether a value of the YAML file is what NOTES says."""
    if key == "tool":
        return isinstance(value, str)
    if key == "mount":
        return isinstance(value, list) and len(value) == 3 and all(map(_is_number, value))
    if key == "max_speed":
        return _is_number(value) and value > 0
    return isinstance(value, dict) and all(
        isinstance(v, str) if k == "joint" else k in ("open", "closed") and _is_number(v) for k, v in value.items()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and bool(np.isfinite(value))


def _tool(path: Path, spec: mujoco.MjSpec, wanted: str | None) -> tuple[str, str]:
    sites, bodies = [s.name for s in spec.sites if s.name], [b.name for b in spec.bodies[1:] if b.name]
    if wanted is not None:
        if wanted not in (*sites, *bodies):
            raise AssetError(f"{path} has no site or body {wanted!r} for the tool; known: {', '.join(bodies + sites)}")
        return ("site" if wanted in sites else "body"), wanted
    for part in TOOL_NAMES:
        for kind, names in (("site", sites), ("body", bodies)):
            for name in names:
                if part in (word.rstrip("0123456789") for word in name.lower().split("_")):  # tool0, as UR says
                    return kind, name
    if not bodies:
        raise AssetError(f"{path} has no named bodies, so no tool; name one in {path.stem}.yaml")
    return "body", max(bodies, key=lambda name: len(_ancestors(spec.body(name))))


def _ancestors(body: Any) -> list[str]:
    """Names of a body and of those that carry it, but the world."""
    return [] if body.name == "world" else [body.name, *_ancestors(body.parent)]


def _range(model: mujoco.MjModel, name: str) -> tuple[float, float]:
    joint = model.joint(name)
    if model.jnt_limited[joint.id]:
        low, high = model.jnt_range[joint.id]
        return float(low), float(high)
    endless = ENDLESS_M if model.jnt_type[joint.id] == mujoco.mjtJoint.mjJNT_SLIDE else ENDLESS_RAD
    return -endless, endless


def _rest(path: Path, chain: Chain, place: NDArray[np.float64]) -> NDArray[np.float64]:
    """A posture (N,) with the tool at `place` (3,) pointing down, the best of some."""
    rng = np.random.default_rng(0)
    low, high = np.array([(max(link.low, -np.pi), min(link.high, np.pi)) for link in chain.links]).T
    best, least = np.zeros(len(low)), np.inf
    for _ in range(MAX_TRIES):
        q = chain.inverse(place, 0.0, rng.uniform(low, high))
        position, rotation = chain.forward(q)
        error = float(np.linalg.norm(position - place)) + 0.1 * (1 + rotation[2, 0])
        if error < least:
            best, least = q, error
    if least > 0.05:
        raise AssetError(
            f"{path}: the tool does not reach the middle of the table, by {least * 1000:.0f} mm; "
            f"set `mount` or `tool` in {path.stem}.yaml"
        )
    return best


def _gripper(path: Path, choice: _Choice, model: mujoco.MjModel, limits: tuple[float, float]) -> Gripper:
    notes = choice.notes.get("gripper", {})
    closed, opened = notes.get("closed"), notes.get("open")
    if closed is None and opened is None:
        closed = min(limits, key=lambda limit: round(_spread(model, choice, limit), 4))
    if closed is None:
        closed = max(limits, key=lambda limit: abs(limit - opened))
    if opened is None:
        opened = max(limits, key=lambda limit: abs(limit - closed))
    if closed == opened or not all(limits[0] <= end <= limits[1] for end in (closed, opened)):
        raise AssetError(
            f"{path}: the gripper {choice.gripper} is closed at {closed:g} and open at {opened:g}, in the limits "
            f"{limits[0]:g}..{limits[1]:g}; both have to lie within them, apart from each other"
        )
    width, sign = float(abs(opened - closed)), float(np.sign(opened - closed))
    touch = _touch(model, choice, closed, sign * width)
    return Gripper(
        open=width,
        closed=0.0,
        fork=touch,
        block=(0.6 * touch, (touch + min(2 * touch, width)) / 2),
        hold=touch,
        rest_speed=width / 3,
        lead=width / 9,  # or letting go of a block is a jump, see SafetyConfig
        gap_m=(-0.008, 0.008),
        clearance_m=0.0,
        tip_m=0.01,
        zero=float(closed),
        sign=sign,
    )


def _touch(model: mujoco.MjModel, choice: _Choice, closed: float, way: float) -> float:
    """The opening at which the parts that move with the gripper touch a block of 3 cm at the tool, half of its way
    where they never do."""
    block, hand = model.geom(BLOCK).id, {int(model.joint(name).bodyid[0]) for name in choice.hand}
    parts = [g for g in np.flatnonzero(model.geom_contype) if hand & set(_carriers(model, model.geom_bodyid[g]))]

    def apart(share: float) -> bool:
        data = _placed(model, choice, closed + share * way)
        return all(mujoco.mj_geomDistance(model, data, block, part, 1.0, None) > 0 for part in parts)

    low, high = 0.0, 1.0
    if not choice.gripper or apart(low) or not apart(high):
        return abs(way) / 2
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if apart(middle) else (middle, high)
    return high * abs(way)


def _carriers(model: mujoco.MjModel, body: int) -> list[int]:
    """A body and those that carry it, but the world."""
    return [] if body == 0 else [int(body), *_carriers(model, model.body_parentid[body])]


def _placed(model: mujoco.MjModel, choice: _Choice, position: float) -> mujoco.MjData:
    """With the gripper at `position`, the arm at zero."""
    data = mujoco.MjData(model)
    Linkage(model).place([0.0] * len(choice.joints) + [position] * (choice.gripper is not None), data.qpos)
    mujoco.mj_kinematics(model, data)
    return data


def _spread(model: mujoco.MjModel, choice: _Choice, position: float) -> float:
    """How far [m] the parts that move with the gripper at `position` are on average from the line along the fingers."""
    data = _placed(model, choice, position)
    tool, parts = data.body(TOOL), [model.joint(name).id for name in choice.hand]
    away = data.xipos[model.jnt_bodyid[parts]] - tool.xpos
    along = tool.xmat.reshape(3, 3)[:, 0]
    return float(np.linalg.norm(away - np.outer(away @ along, along), axis=1).mean()) if parts else 0.0


def _product(a: Any, b: Any) -> NDArray[np.float64]:
    """Product of two quaternions wxyz."""
    product = np.zeros(4)
    mujoco.mju_mulQuat(product, np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return product


def _floats(values: Any) -> tuple[Any, ...]:
    return tuple(float(value) for value in values)
