"""Old episodes as practice reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.datasets.store import DatasetSpec
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.tool_env import tool_space
from robolearn.errors import DatasetError
from robolearn.recipes.finetune.data import held, read_recorded
from robolearn.specs import POSE_SPEC, InterfaceSpec


@given(st.lists(st.booleans(), min_size=1, max_size=12).filter(any))
def test_a_row_that_was_missed_is_the_newest_that_was_not(valid: list[bool]) -> None:
    known = [row for row, there in enumerate(valid) if there]
    wanted = [max((k for k in known if k <= row), default=known[0]) for row in range(len(valid))]
    rows = np.where(valid, np.arange(len(valid)), -1)[:, None].repeat(2, 1)
    np.testing.assert_array_equal(held(rows, np.array(valid))[:, 0], wanted)


@pytest.mark.parametrize(
    ("rate_hz", "joint", "poses", "wanted"),
    [
        (30.0, "gripper", True, "has 30 steps a second; practice wants 20: record with that control_hz"),
        (20.0, "claw", True, "is of a robot with .*claw; wanted one with .*gripper"),
        (20.0, "gripper", False, "lacks pose_tool, pose_puck, pose_goal; practice wants poses"),
    ],
)
def test_episodes_of_another_cell_are_refused_in_one_line(
    tmp_path: Path, rate_hz: float, joint: str, poses: bool, wanted: str
) -> None:
    space = tool_space("push-v1")
    spec = space.arm.spec
    robot = replace(spec, joint_names=(*spec.joint_names[:-1], joint))
    interface = InterfaceSpec({"proprio": robot.proprio_spec}, robot.action_spec, rate_hz)
    told = {f"pose_{body}": POSE_SPEC for body in space.tasks[0].bodies} if poses else {}
    ZarrStore.create(tmp_path / "d.zarr", DatasetSpec(robot, interface, extra=told))
    with pytest.raises(DatasetError, match=wanted) as caught:
        read_recorded([tmp_path / "d.zarr"], space)
    assert "\n" not in str(caught.value)
