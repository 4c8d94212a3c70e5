from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from robolearn.envs.robot_env import RobotEnv
from robolearn.errors import AssetError, UnknownNameError
from robolearn.tasks import make_task
from robolearn.twin.bullet import BulletTwin
from robolearn.twin.engines import make_twin
from robolearn.twin.twin import Twin
from robolearn.twin.urdf import urdf_of

pytest.importorskip("pybullet")

TASK_IDS = ("reach-v1", "push-v1", "lift-v1", "lift-v1@panda", "drawer_open-v1")


@pytest.fixture(params=TASK_IDS)
def twin(request: pytest.FixtureRequest) -> Iterator[BulletTwin]:
    twin = BulletTwin(make_task(request.param), {"front": (48, 64)})
    yield twin
    twin.close()
    twin.close()


def test_shows_the_same_start_as_mujoco(twin: BulletTwin) -> None:
    mujocos = Twin(twin.task, {"front": (48, 64)})
    assert twin.spec == mujocos.spec
    for seed in (3, 4):
        twin.reset(seed)
        mujocos.reset(seed)
        ours, theirs = twin.observe(), mujocos.observe()
        assert set(ours) == set(theirs)
        for name, row in ours.items():
            assert (row.dtype, row.shape) == (theirs[name].dtype, theirs[name].shape)
            if name != "image_front":
                np.testing.assert_allclose(row, theirs[name], atol=2e-5)
        difference = np.abs(ours["image_front"].astype(int) - theirs["image_front"]).mean()
        assert difference < 30, "the pictures show another scene"
    mujocos.close()


def test_the_expert_succeeds_and_a_seed_fixes_a_run(twin: BulletTwin) -> None:
    def run() -> bytes:
        twin.reset(1001)
        seen = []
        for _ in range(twin.task.max_steps):
            facts = twin.observe(["proprio", *(f"pose_{body}" for body in twin.task.bodies)])
            seen += [row.tobytes() for row in facts.values()]
            twin.step(twin.task.expert(facts))
            if twin.status().success:
                break
        assert twin.status().success
        return b"".join(seen)

    assert run() == run()


def test_an_episode_begins_without_the_contacts_of_the_last_one() -> None:
    twin, seen = BulletTwin(make_task("push-v1"), {}), []
    for _ in range(3):
        twin.reset(123)
        twin.step(twin.robot_state().joint_position)
        seen.append(twin.body_poses()["puck"])
    np.testing.assert_array_equal(seen[1:], seen[:-1])
    twin.close()


def test_is_an_environment_like_any_other() -> None:
    env = RobotEnv("push-v1", {}, privileged=True, engine="bullet")
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    far = info["action_sent"].copy()
    far[0] += 1.5
    _, _, _, _, info = env.step(far)
    assert info["held"]
    env.close()
    with pytest.raises(UnknownNameError, match="did you mean bullet"):
        make_twin("bulet", make_task("push-v1"))


def test_urdf_names_what_it_cannot_express() -> None:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><body name="ball"><joint type="ball"/><geom name="egg" type="ellipsoid" size="1 2 3"/>'
        "</body></worldbody></mujoco>"
    )
    with pytest.raises(AssetError, match=r"cloth_0.* has joints that URDF cannot express"):
        BulletTwin(make_task("fold_cloth-v1"), {})
    with pytest.raises(AssetError, match=r"egg.*ELLIPSOID"):
        urdf_of(model, 1)


def test_urdf_keeps_masses_and_shapes() -> None:
    model = make_twin("mujoco", make_task("lift-v1"), {}).model
    cube = model.body("cube").id
    link = ET.fromstring(urdf_of(model, cube)).find("link")
    assert link is not None
    assert float(link.find("inertial/mass").attrib["value"]) == pytest.approx(model.body_mass[cube])  # type: ignore[union-attr]
    size = [float(x) for x in link.find("collision/geometry/box").attrib["size"].split()]  # type: ignore[union-attr]
    np.testing.assert_allclose(size, 2 * model.geom("cube").size)
