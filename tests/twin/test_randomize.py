from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robolearn.errors import SpecError
from robolearn.physics import Physics
from robolearn.tasks import make_task
from robolearn.twin.batch import TwinBatch
from robolearn.twin.randomize import Randomization
from robolearn.twin.twin import Twin

CAMERAS = {"front": (32, 32)}


def test_a_batch_differs_as_single_twins_do() -> None:
    seeds = (3, 8, 3)
    batch = TwinBatch(make_task("push-v1"), 3, CAMERAS, randomization=Randomization())
    batch.reset(seeds)
    single = Twin(make_task("push-v1"), CAMERAS, randomization=Randomization())
    shown = []
    for i, seed in enumerate(seeds):
        single.reset(seed)
        shown.append(single.render("front"))
        np.testing.assert_array_equal(batch.render("front")[i], shown[-1])
    np.testing.assert_array_equal(shown[0], shown[2])
    assert np.abs(shown[0].astype(int) - shown[1]).mean() > 3
    single.reset(8)
    for _ in range(12):
        action = single.robot_state().joint_position + 0.1
        batch.step(np.stack([action] * 3))
        single.step(action)
    for name, row in single.observe(["proprio", "pose_puck"]).items():
        np.testing.assert_array_equal(batch.observe([name])[name][1], row)
    batch.close()
    single.close()


def test_draws_stay_within_their_ranges_and_nothing_adds_up() -> None:
    ranges = Randomization(friction=0.5, mass=0.2, joint=0.3, gain=0.1, max_latency_s=0.04, camera_m=0.0)
    twin, plain = Twin(make_task("lift-v1"), {}, randomization=ranges), Twin(make_task("lift-v1"), {})
    model, base = twin.model, plain.model
    factors = []
    dof = twin._layout.qvel_address[0]
    for seed in range(60):
        twin.reset(seed)
        cube = model.body("cube").id
        factors.append(
            (
                model.geom("cube").friction[0] / base.geom("cube").friction[0],
                model.body_mass[cube] / base.body_mass[cube],
                model.dof_damping[dof] / base.dof_damping[dof],
                model.actuator_gainprm[0, 0] / base.actuator_gainprm[0, 0],
            )
        )
        assert 0 <= model.actuator_delay[0] <= 0.04
        np.testing.assert_array_equal(model.cam_pos, base.cam_pos)
    low, high = np.min(factors, axis=0), np.max(factors, axis=0)
    spread = 1 + np.array([0.5, 0.2, 0.3, 0.1])
    assert (low >= 1 / spread - 1e-9).all()
    assert (high <= spread + 1e-9).all()
    assert (high / low > spread).all()  # most of the range is used


def test_a_drawn_latency_comes_on_top_of_the_robots_own() -> None:
    twin = Twin(make_task("reach-v1"), {}, Physics(latency_s=0.08), Randomization(max_latency_s=0.03))
    latencies = set()
    for seed in range(30):
        twin.reset(seed)
        twin.command(twin.robot_state().joint_position + np.float32(0.3) * np.eye(6, dtype=np.float32)[0])
        before, substeps = twin.data.actuator_force[0], 0
        while abs(twin.data.actuator_force[0] - before) < 0.5:
            mujoco.mj_step(twin.model, twin.data)
            substeps += 1
        latencies.add(substeps - 1)
    assert latencies == {16, 17, 18, 19, 20, 21, 22}  # of 5 ms


def test_nothing_to_randomize_changes_nothing() -> None:
    still = Randomization(**dict.fromkeys(Randomization.__dataclass_fields__, 0))  # type: ignore[arg-type]
    twin, plain = Twin(make_task("push-v1"), CAMERAS, randomization=still), Twin(make_task("push-v1"), CAMERAS)
    for one in (twin, plain):
        one.reset(4)
        for _ in range(5):
            one.step(one.robot_state().joint_position + 0.05)
    for name, row in twin.observe().items():
        np.testing.assert_array_equal(row, plain.observe([name])[name])
    twin.close()
    plain.close()


def test_bad_ranges() -> None:
    with pytest.raises(SpecError, match="friction is -1"):
        Randomization(friction=-1)
