from __future__ import annotations

import numpy as np
import pytest

from robolearn.tasks import make_task
from robolearn.tasks.facts import position
from robolearn.tasks.motion import BLOCK_HALF_M
from robolearn.tasks.put import RESTS_WITHIN_M
from robolearn.twin.twin import Twin


@pytest.mark.parametrize(
    ("task_id", "body"), [("lower-v1", "cube"), ("lower-v1@panda", "cube"), ("lower_bar-v1", "bar")]
)
def test_what_was_dropped_was_not_put_down(task_id: str, body: str) -> None:
    twin = Twin(make_task(task_id), {})
    fell = 0
    for seed in range(5):
        twin.reset(seed)
        command = twin.robot_state().joint_position.copy()
        for arm in twin.task.arms:
            command[arm.first + arm.joints] = arm.gripper.open
        for _ in range(40):
            twin.step(command)
            assert not twin.status().success
        where = position(twin.observe(twin._layout.facts), body)
        fell += abs(where[2] - BLOCK_HALF_M) < RESTS_WITHIN_M
    assert fell >= 3  # and lies as if it had been put there
    for arm in twin.task.arms:
        assert arm.opened(twin.observe(["proprio"])) > 0.6 * arm.gripper.open
    assert np.isfinite(twin.status().reward)
