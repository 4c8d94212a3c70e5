"""Where the tool is, beside the closed form of the SO-101; and where a joint step takes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robolearn.assets import asset
from robolearn.errors import SpecError
from robolearn.robots.kinematics import Kinematics
from robolearn.tasks.kinematics import SO101, forward

MODEL = asset("sim_assets/robots/so101/so101.xml")
READY = np.array([0.2, -0.4, 0.5, 0.8, 0.3, 0.5])


def test_the_tool_is_where_the_closed_form_says() -> None:
    kinematics = Kinematics(MODEL, SO101)
    for seed in range(5):
        q = np.random.default_rng(seed).uniform(SO101.position_low, SO101.position_high)
        position, rotation = kinematics.tool(q)
        wanted_position, wanted_rotation = forward(q)
        np.testing.assert_allclose(position, wanted_position, atol=1e-6)
        np.testing.assert_allclose(rotation, wanted_rotation, atol=1e-6)


def test_a_model_is_found_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "cells").symlink_to(MODEL.parent)
    Kinematics(tmp_path / "cells" / ".." / MODEL.parent.name / MODEL.name, SO101)
    with pytest.raises(SpecError, match="check `model` in the cell's file"):
        Kinematics(tmp_path / "arm.xml", SO101)


@pytest.mark.parametrize("axis", range(3))
def test_a_step_moves_the_tool_along_its_axis(axis: int) -> None:
    kinematics, step = Kinematics(MODEL, SO101), np.zeros(6)
    step[axis] = 0.002
    before, _ = kinematics.tool(READY)
    q = READY.copy()
    for _ in range(10):
        q += kinematics.joint_step(q, step)
    moved = kinematics.tool(q)[0] - before
    assert moved[axis] == pytest.approx(0.02, rel=0.25)
    assert np.abs(np.delete(moved, axis)).max() < 0.005
    assert q[5] == READY[5]  # the gripper does not move the tool


def test_a_stretched_arm_is_not_asked_for_the_impossible() -> None:
    kinematics = Kinematics(MODEL, SO101)
    stretched = np.array([0.0, 1.3, -1.3, 0.0, 0.0, 0.0])
    for axis in range(3):
        step = np.zeros(6)
        step[axis] = 0.01
        assert np.abs(kinematics.joint_step(stretched, step)).max() < 0.3
