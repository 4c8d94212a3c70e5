from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from robolearn.errors import UnknownNameError
from robolearn.tasks import make_task


def test_an_unknown_task_names_the_near_misses() -> None:
    with pytest.raises(UnknownNameError, match="did you mean pick_place-v1"):
        make_task("pick_plase-v1")


def test_tasks_and_scripted_policies_need_no_simulator() -> None:
    code = (
        "import sys, robolearn.policies.scripted as s; s.ScriptedPolicy('pick_place-v1');"
        "print([m for m in ('mujoco', 'zarr', 'gymnasium', 'torch') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_a_cube_on_the_plate_is_a_success_only_when_the_jaws_are_open() -> None:
    task = make_task("pick_place-v1")
    upright = [1.0, 0.0, 0.0, 0.0]
    facts = {
        "proprio": np.array([0, 0, 0, 0, 0, 0.8] + [0] * 6, np.float32),
        "pose_tool": np.array([0.22, 0.12, 0.10, *upright], np.float32),
        "pose_cube": np.array([0.23, 0.12, 0.023, *upright], np.float32),
        "pose_goal": np.array([0.22, 0.12, 0.0, *upright], np.float32),
    }
    assert task.judge(facts).success
    closed = {**facts, "proprio": np.array([0, 0, 0, 0, 0, 0.2] + [0] * 6, np.float32)}
    assert not task.judge(closed).success
    in_the_air = {**facts, "pose_cube": np.array([0.23, 0.12, 0.05, *upright], np.float32)}
    assert not task.judge(in_the_air).success
    beside = {**facts, "pose_cube": np.array([0.28, 0.12, 0.015, *upright], np.float32)}
    assert not task.judge(beside).success
