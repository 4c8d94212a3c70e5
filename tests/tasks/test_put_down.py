from __future__ import annotations

import numpy as np
import pytest

from robolearn.tasks import ARMS, make_task
from robolearn.tasks.facts import position
from robolearn.tasks.motion import BLOCK_HALF_M
from robolearn.tasks.put import LET_GO_M, RESTS_WITHIN_M
from robolearn.twin.twin import Twin


@pytest.mark.parametrize("drop_m", [LET_GO_M + 0.004, 0.08])
@pytest.mark.parametrize(
    ("task_id", "body"), [("lower-v1", "cube"), ("lower-v1@panda", "cube"), ("lower_bar-v1", "bar")]
)
def test_what_was_dropped_was_not_put_down(task_id: str, body: str, drop_m: float) -> None:
    twin = Twin(make_task(task_id), {})
    fields = ["proprio", *(f"pose_{name}" for name in twin.task.bodies)]

    def height() -> float:
        return float(position(twin.observe(fields), body)[2]) - BLOCK_HALF_M

    fell = 0
    for seed in range(4):
        twin.reset(seed)
        for _ in range(twin.task.max_steps):
            command = twin.task.expert(twin.observe(fields))
            if height() < drop_m + 0.009:  # what a step of the expert sinks
                break
            twin.step(command)
        command = twin.robot_state().joint_position.copy()
        for arm in twin.task.arms:
            command[arm.first + arm.joints] = arm.gripper.open
        for _ in range(30):
            twin.step(command)
            assert not twin.status().success
        fell += abs(height()) < RESTS_WITHIN_M
    assert fell >= 2  # and lies as if it had been put there
    for arm in twin.task.arms:
        assert arm.opened(twin.observe(["proprio"])) > 0.6 * arm.gripper.open
    assert np.isfinite(twin.status().reward)


@pytest.mark.parametrize("robot", ARMS)
def test_the_jaws_begin_against_the_cube_and_not_within_it(robot: str) -> None:
    twin, straight = Twin(make_task(f"lower-v1@{robot}"), {}), 0
    for seed in range(20):
        twin.reset(seed)
        if twin.data.body("robot/tool").xmat[6] < -0.99999:  # or the cube, which is upright, does not lie along them
            straight += 1
            assert twin.data.contact.dist.min(initial=0.0) > -3e-4
    assert straight > 5
