from __future__ import annotations

import numpy as np
import pytest

from robolearn.errors import SpecError
from robolearn.policies.demonstrator import Demonstrator
from robolearn.policies.scripted import ScriptedPolicy
from robolearn.tasks import make_task
from robolearn.tasks.kinematics import forward
from robolearn.twin.twin import Twin
from robolearn.types import ActionSource


@pytest.fixture(scope="module")
def twin() -> Twin:
    return Twin(make_task("pick_place-v1"), {})


def run(twin: Twin, policy: ScriptedPolicy | Demonstrator, seed: int) -> tuple[list[ActionSource], np.ndarray, bool]:
    twin.reset(seed)
    policy.reset(seed)
    sources, actions = [], []
    for _ in range(twin.task.max_steps):
        chunk = policy.act(twin.observe(), twin.stamp_ns)
        assert chunk.actions.shape == (1, 6)
        assert chunk.actions.dtype == np.float32
        assert chunk.stamp_ns == chunk.start_ns == twin.stamp_ns
        assert chunk.period_ns == twin.period_ns
        sources.append(chunk.source)
        actions.append(chunk.actions[0])
        twin.step(chunk.actions[0])
        if twin.status().success:
            return sources, np.array(actions), True
    return sources, np.array(actions), False


def test_the_pure_expert_succeeds_and_never_perturbs(twin: Twin) -> None:
    sources, _, success = run(twin, ScriptedPolicy("pick_place-v1"), 0)
    assert success
    assert set(sources) == {ActionSource.SCRIPT}


def test_bursts_take_their_share_are_short_and_are_recovered_from(twin: Twin) -> None:
    policy = ScriptedPolicy("pick_place-v1", perturbation=0.15)
    pushed, wins = [], 0
    for seed in range(12):
        sources, _, success = run(twin, policy, seed)
        pushed += [source is ActionSource.PERTURBATION for source in sources]
        wins += success
    assert 0.06 < np.mean(pushed) < 0.26
    assert wins >= 9


def test_a_seed_fixes_the_bursts(twin: Twin) -> None:
    policy = ScriptedPolicy("pick_place-v1", perturbation=0.2)
    first = run(twin, policy, 3)
    np.testing.assert_array_equal(run(twin, policy, 3)[1], first[1])
    assert run(twin, policy, 3)[0] == first[0]


def test_bursts_do_not_drive_the_tool_into_the_table(twin: Twin) -> None:
    policy = ScriptedPolicy("pick_place-v1", perturbation=0.5)
    for seed in range(4):
        _, actions, _ = run(twin, policy, seed)
        assert min(forward(action)[0][2] for action in actions) > -0.01


@pytest.mark.parametrize(("task_id", "seed"), [("button_release-v1", 8000), ("push-v1", 8002), ("lower-v1", 8007)])
def test_a_failing_demonstrator_fails(task_id: str, seed: int) -> None:
    """Whose time to give up comes when the expert is nearly done."""
    demonstrator = Demonstrator(task_id, "failing")
    twin = Twin(demonstrator.task, {})
    assert not run(twin, demonstrator, seed)[2]


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_refuses_a_share_that_is_none(share: float) -> None:
    with pytest.raises(SpecError, match="share of steps"):
        ScriptedPolicy("pick_place-v1", perturbation=share)
