"""Compiled MuJoCo models as URDF, for engines that do not read MJCF: one URDF for every body that stands in the world.

What URDF cannot say is left out: the inertia of rotors (armature), dry friction, servos. Supported are boxes, spheres,
cylinders, capsules and planes, hinges and slides with at most one joint a body.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import mujoco
import numpy as np
from numpy.typing import NDArray

from robolearn.errors import AssetError

PLANE_M = 10.0  # side of the box that stands for a plane
LIGHTEST_KG = 1e-4  # of a frame without mass, which would be taken for an unmovable one
GEOM = mujoco.mjtGeom


def urdf_of(model: mujoco.MjModel, root: int) -> str:
    """The body `root` with everything that hangs from it, or for body 0 what is fixed to the world.

    Links and joints are named `body_<id>` and `joint_<id>` of MuJoCo's ids. The root link is at the body's frame, or is
    the world where the body is `jointed`. Raises AssetError naming the element that URDF cannot express.
    """
    robot = ET.Element("robot", name=f"body_{root}")
    if jointed(model, root):
        ET.SubElement(robot, "link", name="body_0")
    for body in _tree(model, root):
        _link(model, robot, body, fixed=root == 0)
        if body != root or jointed(model, root):
            _joint(model, robot, body)
    ET.indent(robot)
    return ET.tostring(robot, encoding="unicode")


def roots(model: mujoco.MjModel) -> list[int]:
    """Bodies that stand in the world themselves."""
    return [i for i in range(1, model.nbody) if model.body_parentid[i] == 0]


def jointed(model: mujoco.MjModel, root: int) -> bool:
    """Whether a body that stands in the world moves there by hinges or slides, as the turntable of an arm may."""
    joint = model.body_jntadr[root]
    return bool(joint >= 0 and model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_FREE)


def _tree(model: mujoco.MjModel, root: int) -> list[int]:
    if root == 0:
        return [0]
    found = [root]
    for body in range(root + 1, model.nbody):  # parents come before their children
        if model.body_parentid[body] in found:
            found.append(body)
    return found


def _link(model: mujoco.MjModel, robot: ET.Element, body: int, fixed: bool) -> None:
    link = ET.SubElement(robot, "link", name=f"body_{body}")
    if not fixed:
        inertial = ET.SubElement(link, "inertial")
        rotation = _matrix(model.body_iquat[body])
        inertia = rotation @ np.diag(np.maximum(model.body_inertia[body], 1e-8)) @ rotation.T
        _origin(inertial, model.body_ipos[body], np.array([1.0, 0, 0, 0]))
        ET.SubElement(inertial, "mass", value=f"{max(float(model.body_mass[body]), LIGHTEST_KG):.9g}")
        entries = {"ixx": (0, 0), "ixy": (0, 1), "ixz": (0, 2), "iyy": (1, 1), "iyz": (1, 2), "izz": (2, 2)}
        ET.SubElement(inertial, "inertia", {name: f"{inertia[at]:.9g}" for name, at in entries.items()})
    first = model.body_geomadr[body]
    for geom in range(first, first + model.body_geomnum[body]):
        touches = model.geom_contype[geom] or model.geom_conaffinity[geom]
        for kind in ("visual", "collision") if touches else ("visual",):
            element = ET.SubElement(link, kind)
            _shape(model, element, geom)
            if kind == "visual":
                material = model.geom_matid[geom]
                rgba = model.geom_rgba[geom] if material < 0 else model.mat_rgba[material]
                ET.SubElement(ET.SubElement(element, "material", name=f"geom_{geom}"), "color", rgba=_text(rgba))


def _shape(model: mujoco.MjModel, element: ET.Element, geom: int) -> None:
    size, position = model.geom_size[geom], model.geom_pos[geom].copy()
    shape = ET.Element("geometry")
    kind = GEOM(int(model.geom_type[geom]))
    if kind == GEOM.mjGEOM_BOX:
        ET.SubElement(shape, "box", size=_text(2 * size))
    elif kind == GEOM.mjGEOM_PLANE:
        ET.SubElement(shape, "box", size=f"{PLANE_M} {PLANE_M} {PLANE_M}")
        position = position - _matrix(model.geom_quat[geom])[:, 2] * PLANE_M / 2
    elif kind == GEOM.mjGEOM_SPHERE:
        ET.SubElement(shape, "sphere", radius=f"{size[0]:.9g}")
    elif kind in (GEOM.mjGEOM_CYLINDER, GEOM.mjGEOM_CAPSULE):
        name = "cylinder" if kind == GEOM.mjGEOM_CYLINDER else "capsule"
        ET.SubElement(shape, name, radius=f"{size[0]:.9g}", length=f"{2 * size[1]:.9g}")
    else:
        raise AssetError(f"geom {geom} ({model.geom(geom).name}) is a {kind.name}, which URDF export cannot draw")
    _origin(element, position, model.geom_quat[geom])
    element.append(shape)


def _joint(model: mujoco.MjModel, robot: ET.Element, body: int) -> None:
    joint, count = model.body_jntadr[body], model.body_jntnum[body]
    kinds = {int(mujoco.mjtJoint.mjJNT_HINGE): "revolute", int(mujoco.mjtJoint.mjJNT_SLIDE): "prismatic"}
    if count > 1 or (count == 1 and (int(model.jnt_type[joint]) not in kinds or model.jnt_pos[joint].any())):
        raise AssetError(
            f"body {body} ({model.body(body).name}) has joints that URDF cannot express: one at its origin"
        )
    kind = kinds[int(model.jnt_type[joint])] if count else "fixed"
    if kind == "revolute" and not model.jnt_limited[joint]:
        kind = "continuous"
    element = ET.SubElement(robot, "joint", name=f"joint_{joint}" if count else f"fixed_{body}", type=kind)
    ET.SubElement(element, "parent", link=f"body_{model.body_parentid[body]}")
    ET.SubElement(element, "child", link=f"body_{body}")
    _origin(element, model.body_pos[body], model.body_quat[body])
    if count:
        ET.SubElement(element, "axis", xyz=_text(model.jnt_axis[joint]))
        low, high = model.jnt_range[joint]
        ET.SubElement(element, "limit", lower=f"{low:.9g}", upper=f"{high:.9g}", effort="100", velocity="100")


def _origin(element: ET.Element, position: NDArray[np.float64], quat: NDArray[np.float64]) -> None:
    """rpy are turns about the fixed x, y and z axes, in this order."""
    m = _matrix(quat)
    pitch = np.arctan2(-m[2, 0], np.hypot(m[0, 0], m[1, 0]))
    if abs(m[2, 0]) > 1 - 1e-9:  # looking straight up or down, roll and yaw are one
        roll, yaw = np.arctan2(-m[1, 2], m[1, 1]), 0.0
    else:
        roll, yaw = np.arctan2(m[2, 1], m[2, 2]), np.arctan2(m[1, 0], m[0, 0])
    ET.SubElement(element, "origin", xyz=_text(position), rpy=_text((roll, pitch, yaw)))


def _matrix(quat: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = np.zeros(9)
    mujoco.mju_quat2Mat(flat, quat)
    return flat.reshape(3, 3)


def _text(numbers: object) -> str:
    return " ".join(f"{float(x):.9g}" for x in np.asarray(numbers).ravel())
