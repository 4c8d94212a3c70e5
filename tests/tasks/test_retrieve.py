"""The scripted motion that brings a thing back, on the twin."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from robolearn.robots.safety import SafetyConfig, SafetyFilter
from robolearn.tasks import make_task
from robolearn.tasks.retrieve import on_edge, retrieve, retrieved
from robolearn.twin.twin import Twin

MIDDLE = np.array([0.22, -0.02])
EDGE, AWAY = (
    (np.sqrt(0.5), 0.5, 0.5, 0.0),
    (np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0),
)  # on its edge, its axis across and away


@pytest.mark.parametrize(
    ("task_id", "where", "turn"),
    [
        ("push-v1", (0.31, 0.19, 0.0125), (1.0, 0.0, 0.0, 0.0)),
        ("push-v1", (0.12, 0.05, 0.0125), (1.0, 0.0, 0.0, 0.0)),
        ("push-v1", (0.30, -0.15, 0.0225), EDGE),
        ("push-v1", (0.14, 0.06, 0.0225), EDGE),
        ("push-v1", (0.216, -0.017, 0.0225), AWAY),
        ("pick_place-v1", (0.30, 0.20, 0.0150), (0.95, 0.0, 0.0, 0.31)),
    ],
)
def test_a_thing_is_brought_back_from_the_edge_of_reach(task_id: str, where: tuple, turn: tuple) -> None:
    task = make_task(task_id)
    body, twin = task.bodies[1], Twin(task, {})
    twin.reset(0)
    put(twin, body, (*where, *turn))
    safety = SafetyFilter(twin.robot_spec, SafetyConfig(), twin.period_ns * 1e-9)
    safety.reset(twin.robot_state())
    fields = ("proprio", *(f"pose_{name}" for name in task.bodies))
    assert on_edge(twin.observe(fields), body) is (turn in (EDGE, AWAY))
    for _ in range(300):
        facts, now_ns = twin.observe(fields), twin.stamp_ns
        if retrieved(task.arm, facts, body, MIDDLE):
            break
        decision = safety.filter(retrieve(task.arm, facts, body, MIDDLE), now_ns, now_ns)
        assert not decision.held
        twin.step(decision.command)
    else:
        pytest.fail(f"it lies at {facts[f'pose_{body}']}")
    twin.close()


def put(twin: Twin, body: str, pose: tuple) -> None:
    """Lay a thing somewhere, as a hand would."""
    joint = twin.model.joint(int(twin.model.body(body).jntadr[0]))
    twin.data.qpos[joint.qposadr[0] :][:7] = pose
    twin.data.qvel[joint.dofadr[0] :][:6] = 0.0
    mujoco.mj_forward(twin.model, twin.data)
