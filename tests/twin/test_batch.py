from __future__ import annotations

import numpy as np
import pytest

from robolearn.errors import SpecError, UnknownNameError
from robolearn.tasks import make_task
from robolearn.twin import batch as batch_module
from robolearn.twin import twin as twin_module
from robolearn.twin.batch import TwinBatch
from robolearn.twin.layout import MAX_DEEP_STEPS, PRESSED
from robolearn.twin.twin import Twin

CAMERAS = {"front": (24, 32)}


@pytest.mark.parametrize(("task_id", "threads"), [("push-v1", 3), ("drawer_open-v1", 1)])
def test_is_bit_for_bit_what_single_twins_are(task_id: str, threads: int) -> None:
    seeds = (3, 1, 4, 1, 5)
    batch = TwinBatch(make_task(task_id), len(seeds), CAMERAS, threads)
    twins = [Twin(make_task(task_id), CAMERAS) for _ in seeds]
    batch.reset(seeds)
    for twin, seed in zip(twins, seeds, strict=True):
        twin.reset(seed)
    for step in range(25):
        if step == 12:  # a part of them starts anew in the middle
            batch.reset([9, 2], which=[3, 0])
            twins[3].reset(9)
            twins[0].reset(2)
        observation = batch.observe(None if step % 8 == 0 else batch._layout.facts)
        for name, rows in observation.items():
            for i, twin in enumerate(twins):
                np.testing.assert_array_equal(rows[i], twin.observe([name])[name])
                assert rows.dtype == twin.spec.observation[name].dtype
        status = batch.status()
        for i, twin in enumerate(twins):
            assert status.reward[i] == twin.status().reward
            assert batch.stamp_ns[i] == twin.stamp_ns
        actions = np.stack([twin.task.expert(twin.observe()) for twin in twins])
        batch.step(actions)
        for twin, action in zip(twins, actions, strict=True):
            twin.step(action)
    batch.close()
    for twin in twins:
        twin.close()


def test_things_that_stay_inside_each_other_end_the_episode_alike_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (twin_module, batch_module):
        monkeypatch.setattr(module, "MAX_DEPTH_M", 1e-6)  # a cube at rest is as deep in the table
    batch, twin = TwinBatch(make_task("lift-v1"), 2, {}), Twin(make_task("lift-v1"), {})
    batch.reset([1, 1])
    twin.reset(1)
    hold = batch.joint_positions()
    height = batch.model.jnt_qposadr[batch.model.body("cube").jntadr[0]] + 2
    batch.batch.bind("qpos")[0, height] += 2.0  # it falls for longer than this test
    reasons = []
    for _ in range(MAX_DEEP_STEPS + 3):
        batch.step(hold)
        twin.step(hold[1])
        status = twin.status()
        assert batch.status().failed.tolist() == ["", status.failed]
        assert batch.diverged.tolist() == [False, status.diverged]
        reasons.append(status.failed)
    assert reasons == [""] * MAX_DEEP_STEPS + [PRESSED] * 3
    twin.reset(1)
    batch.reset([1], which=[1])
    assert not twin.status().failed
    assert not batch.diverged.any()


def test_a_diverged_twin_says_so_and_leaves_the_others_alone() -> None:
    batch, alone = TwinBatch(make_task("lift-v1"), 3, {}), TwinBatch(make_task("lift-v1"), 3, {})
    hold = batch.joint_positions()
    batch.batch.bind("qvel")[1, 0] = 1e20
    before = batch.observe()
    for _ in range(3):
        batch.step(hold)
        alone.step(hold)
        assert batch.diverged.tolist() == [False, True, False]
    after, others = batch.observe(), alone.observe()
    for name in after:
        assert np.isfinite(after[name]).all()
        np.testing.assert_array_equal(after[name][[0, 2]], others[name][[0, 2]])
    np.testing.assert_array_equal(after["pose_tool"][1], before["pose_tool"][1])
    batch.reset([1], which=[1])
    assert not batch.diverged.any()


def test_renders_all_into_one_array_that_is_given() -> None:
    batch = TwinBatch(make_task("push-v1"), 3, CAMERAS)
    out = np.zeros((3, 24, 32, 3), np.uint8)
    assert batch.render("front", out) is out
    np.testing.assert_array_equal(out, batch.render("front"))
    assert len({picture.tobytes() for picture in out}) == 3
    batch.close()


def test_bad_arguments() -> None:
    with pytest.raises(SpecError, match="0 twins"):
        TwinBatch(make_task("push-v1"), 0, {})
    batch = TwinBatch(make_task("push-v1"), 2, {})
    with pytest.raises(SpecError, match=r"\(6,\), expected \(2, 6\)"):
        batch.step(np.zeros(6))
    with pytest.raises(SpecError, match="finite"):
        batch.step(np.full((2, 6), np.nan))
    with pytest.raises(UnknownNameError):
        batch.render("front")
    with pytest.raises(UnknownNameError, match="did you mean pose_puck"):
        batch.observe(["pose_pukc"])
