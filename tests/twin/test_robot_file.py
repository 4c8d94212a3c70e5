"""Robots of the user's own: any MJCF or URDF by its path, and those of robot_descriptions."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from robolearn.assets import asset
from robolearn.envs.robot_env import RobotEnv
from robolearn.errors import AssetError, UnknownNameError
from robolearn.tasks import make_task
from robolearn.twin.robot_file import open_robot, read_arm
from robolearn.twin.twin import Twin

LINK = """<link name="{name}"><inertial><origin xyz="0 0 {half}"/><mass value="0.4"/>
  <inertia ixx="0.002" iyy="0.002" izz="0.001" ixy="0" ixz="0" iyz="0"/></inertial>
  <collision><origin xyz="0 0 {half}"/><geometry><cylinder radius="0.015" length="{length}"/></geometry></collision>
  </link>"""
JOINT = """<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/><origin xyz="0 0 {z}"/>
  <axis xyz="{axis}"/><limit lower="-2.5" upper="2.5" effort="10" velocity="2"/></joint>"""


def urdf() -> str:
    """A turntable with a shoulder, an elbow, a wrist and a fixed tool point."""
    lengths = {"base": 0.1, "turntable": 0.02, "upper": 0.25, "lower": 0.2, "flange": 0.08}
    links = [LINK.format(name=n, half=x / 2, length=x) for n, x in lengths.items()] + ['<link name="tcp"/>']
    rows = (
        ("pan", "continuous", "base", "turntable", 0.12, "0 0 1"),
        ("shoulder", "revolute", "turntable", "upper", 0.0, "0 1 0"),
        ("elbow", "revolute", "upper", "lower", 0.25, "0 1 0"),
        ("wrist", "revolute", "lower", "flange", 0.2, "0 1 0"),
        ("mount", "fixed", "flange", "tcp", 0.09, "0 0 1"),
    )
    joints = [JOINT.format(name=n, kind=k, parent=p, child=c, z=z, axis=a) for n, k, p, c, z, a in rows]
    return f'<robot name="bench_arm">{"".join(links + joints)}</robot>'


def succeeds(task_id: str, engine: str = "mujoco") -> bool:
    env = RobotEnv(task_id, {}, privileged=True, engine=engine)
    facts, info = env.reset(seed=0)
    terminated = truncated = False
    while not (terminated or truncated):
        facts, _, terminated, truncated, info = env.step(env.task.expert(facts))
    return bool(info["success"]) and info["held_steps"] == 0


def test_a_urdf_by_path_reaches(tmp_path: Path) -> None:
    file = tmp_path / "bench_arm.urdf"
    file.write_text(urdf())
    task = make_task(f"reach-v1@{file}")
    assert task.robot_spec.joint_names == ("pan", "shoulder", "elbow", "wrist")
    assert task.robot_spec.position_low == pytest.approx((-2 * np.pi, -2.5, -2.5, -2.5))
    assert task.cameras == ("front",)
    for grasping in ("lift-v1", "lower-v1"):
        with pytest.raises(AssetError, match=f"{grasping} wants a gripper, and .* has no joint beyond its arm"):
            make_task(f"{grasping}@{file}")
    assert make_task(task.backward).backward == task.id
    assert succeeds(task.id)
    assert succeeds(task.backward)
    env = RobotEnv(task.id, {}, control="cartesian_delta")  # no gripper, so the last joint is one of the arm's
    assert env.interface.action.names == tuple(f"tool.{axis}" for axis in ("x", "y", "z", "rx", "ry", "rz"))
    env.reset(seed=0)
    _, _, _, _, info = env.step(np.array([0, 0, 0, 0, 1, 0], np.float32))
    assert not info["held"]
    assert env.twin.tool_jacobian().shape == (6, 4)
    pytest.importorskip("pybullet")
    assert succeeds(task.id, "bullet")


def test_a_urdf_of_a_ros_package_is_read_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its meshes in a package, its tool `tool0`, and an inertia that no body can have."""
    mesh = '<mesh filename="package://bench_description/meshes/arm.obj"/>'
    text = urdf().replace('<cylinder radius="0.015" length="0.2"/>', mesh).replace("tcp", "tool0")
    file = tmp_path / "bench_description" / "urdf" / "bench_arm.urdf"
    file.parent.mkdir(parents=True)
    file.write_text(text.replace('ixx="0.002"', 'ixx="0.02"'))
    with pytest.raises(
        AssetError, match=r"wants .*/bench_description/meshes/arm\.obj, which is not there; put its package"
    ):
        make_task(f"reach-v1@{file}")
    corners = "v 0 0 0\nv .03 0 0\nv 0 .03 0\nv 0 0 .2\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n"
    for root in (tmp_path / "ws" / "share", tmp_path):  # of a sourced workspace, then around the file
        meshes = root / "bench_description" / "meshes"
        meshes.mkdir(parents=True)
        (meshes / "arm.obj").write_text(corners)
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "ws"))
        assert open_robot(str(file)).meshes[0].file == str(meshes / "arm.obj")
        assert read_arm(str(file)).spec.joint_names == ("pan", "shoulder", "elbow", "wrist")
    assert succeeds(f"reach-v1@{file}")


def test_of_a_urdf_is_seen_what_it_shows(tmp_path: Path) -> None:
    """Links that have a look of their own show it and not what they collide with; COLLADA cannot be read."""
    look = '<visual><geometry>{}</geometry><material name="m"><color rgba="1 0 1 1"/></material></visual></link>'
    file = tmp_path / "bench_arm.urdf"
    links = urdf().split("</link>")
    looks = ['<sphere radius="0.03"/>', '<mesh filename="a.dae"/>', '<sphere radius="0.05"/>']
    file.write_text(
        "".join(part + look.format(each) for part, each in zip(links, looks, strict=False)) + "</link>".join(links[3:])
    )
    bodies = {body.name: [(geom.contype, geom.group) for geom in body.geoms] for body in open_robot(str(file)).bodies}
    assert bodies["turntable"] == [(1, 0)]
    assert sorted(bodies["upper"]) == [(0, 1), (1, 3)]
    assert succeeds(f"reach-v1@{file}")


def test_what_is_no_robot_is_told_that_a_file_may_be() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown robot 'arm\.udf'; known: a file that ends in .*, panda, so101"
    ):
        make_task("reach-v1@arm.udf")


def test_an_mjcf_in_degrees_with_endless_joints_and_a_sensor_of_a_servo(tmp_path: Path) -> None:
    body = '<body name="{}" pos="0 0 .2"><joint name="j{}" axis="0 1 0" {}/><geom size=".05" mass="1"/>'
    bodies = "".join(body.format(f"b{i}", i, 'range="-90 90"' if i == 1 else "") for i in range(3))
    file = tmp_path / "arm.xml"
    file.write_text(
        f'<mujoco><compiler angle="degree" autolimits="true"/><worldbody>{bodies}<site name="tool" pos="0 0 .1"/>'
        '</body></body></body></worldbody><actuator><motor name="m" joint="j0"/></actuator>'
        '<sensor><actuatorfrc actuator="m"/></sensor></mujoco>'
    )
    twin = Twin(make_task(f"reach-v1@{file}"), {})
    assert twin.robot_spec.position_high == pytest.approx((2 * np.pi, np.pi / 2, 2 * np.pi))
    np.testing.assert_allclose(twin.model.actuator_ctrlrange[:, 1], twin.robot_spec.position_high)


def test_an_arm_whose_first_body_turns_in_the_world_reaches(tmp_path: Path) -> None:
    body = '<body pos="0 0 {}"><joint name="j{}" axis="{}"/><geom size="0.02" mass="0.5"/>'
    rows = ((0.1, "0 0 1"), (0.1, "0 1 0"), (0.2, "0 1 0"), (0.2, "0 1 0"))
    bodies = "".join(body.format(z, i, axis) for i, (z, axis) in enumerate(rows))
    file = tmp_path / "arm.xml"
    file.write_text(f'<mujoco><worldbody>{bodies}<site name="tool" pos="0 0 0.1"/>{"</body>" * 4}</worldbody></mujoco>')
    assert succeeds(f"reach-v1@{file}")
    pytest.importorskip("pybullet")
    assert succeeds(f"reach-v1@{file}", "bullet")


def test_an_mjcf_by_path_picks_and_places(tmp_path: Path) -> None:
    file = tmp_path / "mine.xml"
    text = asset("sim_assets/robots/panda/panda.xml").read_text()
    file.write_text(text.replace("<default>", '<option timestep="0.01" gravity="0 0 0"/>\n<default>', 1))
    (tmp_path / "mine.yaml").write_text("gripper: {joint: gripper, open: 0.03}\nmount: [-0.3, 0.0, 0.0]\n")
    task = make_task(f"pick_place-v1@{file}")
    assert task.robot_spec.joint_names[-1] == "gripper"
    assert task.arm.gripper.open == 0.03
    assert task.cameras == ("front", "wrist")
    low, high = task.arm.limits
    twin, rng = Twin(task, {}), np.random.default_rng(0)
    for _ in range(5):
        q = rng.uniform(low, high)
        twin.data.qpos[twin.model.jnt_qposadr[twin.model.actuator_trnid[:, 0]]] = q
        twin.step(q)
        np.testing.assert_allclose(task.arm.where(twin.observe(["proprio"])), twin.body_poses()["tool"][:3], atol=1e-5)
    assert succeeds(task.id)
    (tmp_path / "mine.yaml").write_text("gripper: {open: 0.0, closed: 0.05}\nmount: [-0.3, 0.0, 0.0]\n")
    with pytest.raises(AssetError, match=r"mine\.xml: the gripper gripper is closed at 0\.05 and open at 0, "):
        make_task(task.id)


def test_a_gripper_that_opens_as_its_joint_falls_is_seen_to(tmp_path: Path) -> None:
    text = asset("sim_assets/robots/panda/panda.xml").read_text()
    for name, axis in (("gripper", 1), ("gripper_right", -1)):
        text = text.replace(f'name="{name}" axis="0 {axis} 0"', f'name="{name}" axis="0 {-axis} 0" range="-0.03 0.01"')
    file = tmp_path / "mine.xml"
    file.write_text(text)
    (tmp_path / "mine.yaml").write_text("mount: [-0.3, 0.0, 0.0]\n")
    arm = make_task(f"lift-v1@{file}").arm
    assert (arm.gripper.open, arm.gripper.zero, arm.gripper.sign) == pytest.approx((0.04, 0.01, -1.0))
    assert arm.with_gripper(np.zeros(7), 0.04)[-1] == pytest.approx(-0.03)
    assert arm.gripper.hold == pytest.approx(0.025, abs=2e-4)  # where the jaws touch a block of 3 cm
    (tmp_path / "mine.yaml").write_text("gripper: {closed: 0.0}\nmount: [-0.3, 0.0, 0.0]\n")  # open at the farther end
    assert succeeds(f"lift-v1@{file}")


@pytest.mark.parametrize(
    ("tie", "closed_m"),
    [
        ("", 0.0),  # none: the second finger follows the first one
        ('<joint joint1="gripper" joint2="gripper_right" polycoef="-0.01 1 0 0 0"/>', 0.01),  # the other way round
    ],
)
def test_all_fingers_follow_the_gripper(tie: str, closed_m: float, tmp_path: Path) -> None:
    text = asset("sim_assets/robots/panda/panda.xml").read_text()
    before, _, rest = text.partition("<equality>")
    file = tmp_path / "mine.xml"
    file.write_text(f"{before}<equality>{tie}</equality>{rest.partition('</equality>')[2]}")
    (tmp_path / "mine.yaml").write_text("gripper: {open: 0.02}\nmount: [-0.3, 0.0, 0.0]\n")
    twin = Twin(make_task(f"lift-v1@{file}"), {})
    finger = twin.data.joint("robot/gripper_right")
    assert finger.qpos[0] == pytest.approx(0.02 + closed_m)  # at the start, too
    target = twin.robot_state().joint_position
    target[-1] = 0.008
    for _ in range(10):
        twin.step(target)
    assert finger.qpos[0] == pytest.approx(0.008 + closed_m, abs=5e-4)


def test_a_model_of_robot_descriptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "bench_arm.urdf"
    file.write_text(urdf())
    module = types.ModuleType("robot_descriptions.bench_arm_description")
    module.URDF_PATH = str(file)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "robot_descriptions", types.ModuleType("robot_descriptions"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert make_task("reach-v1@robot_descriptions:bench_arm_description").robot_spec.name == "bench_arm"
    with pytest.raises(AssetError, match="no robot_descriptions:nothing"):
        make_task("reach-v1@robot_descriptions:nothing")


@pytest.mark.parametrize(
    ("text", "notes", "complaint"),
    [
        ('<mujoco><worldbody><body name="a"><geom type="blob"/></body></worldbody></mujoco>', "", r"arm\.xml.*geom"),
        ("<mujoco><worldbody/></mujoco>", "", r"arm\.xml has no named bodies"),
        (
            '<mujoco><worldbody><body name="a"/></worldbody></mujoco>',
            "",
            r"arm\.xml: no named joints lead to the tool 'a'",
        ),
        ('<mujoco><worldbody><body name="a"/></worldbody></mujoco>', "tool: b", r"arm\.xml has no site or body 'b'"),
        ('<mujoco><worldbody><body name="a"/></worldbody></mujoco>', "tol: b", r"arm\.yaml has tol; expected"),
        (
            '<mujoco><worldbody><body name="a"><freejoint name="f"/><geom size="1"/></body></worldbody></mujoco>',
            "",
            r"arm\.xml: the joint 'f' .* neither a hinge nor a slide",
        ),
        ("<mujoco/>", "tool", r"arm\.yaml has 'tool'; expected gripper"),
        ("<mujoco/>", "tool: 3", r"arm\.yaml has tool: 3; expected a name"),
        ("<mujoco/>", "gripper: finger", r"arm\.yaml has gripper: 'finger'; expected a mapping"),
        ("<mujoco/>", "gripper: {joint: finger, wide: 2}", r"arm\.yaml has gripper: .*; expected a mapping"),
        ("<mujoco/>", "mount: [0, 0]", r"arm\.yaml has mount: \[0, 0\]; expected three numbers"),
        ("<mujoco/>", "max_speed: fast", r"arm\.yaml has max_speed: 'fast'; expected a number above 0"),
        ("<mujoco/>", "max_speed: -1", r"arm\.yaml has max_speed: -1; expected a number above 0"),
    ],
)
def test_a_bad_model_is_named_with_its_element(tmp_path: Path, text: str, notes: str, complaint: str) -> None:
    (tmp_path / "arm.xml").write_text(text)
    (tmp_path / "arm.yaml").write_text(notes)
    with pytest.raises(AssetError, match=complaint) as error:
        make_task(f"reach-v1@{tmp_path / 'arm.xml'}")
    assert "\n" not in str(error.value)


def test_a_model_that_is_not_there_is_told_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssetError, match=rf"nowhere\.xml is not a file, looked for from {tmp_path}; name an MJCF"):
        make_task("reach-v1@nowhere.xml")
    with pytest.raises(AssetError, match=r"nowhere\.xml is not a file; name an MJCF"):
        make_task("reach-v1@/nowhere.xml")
