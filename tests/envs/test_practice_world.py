"""Practice on a twin that nobody resets, and the space that practising policies act in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robolearn.envs.practice_world import PracticeConfig, PracticeWorld
from robolearn.envs.seen_scene import marks_of
from robolearn.envs.tool_space import DECISION_TICKS, ToolSpace
from robolearn.envs.twin_cell import TwinCell
from robolearn.errors import AssetError, SpecError
from robolearn.tasks import TASKS, make_task
from robolearn.twin.scene import load_model

CONFIG = PracticeConfig()
SPACE = ToolSpace(("push-v1", "push_back-v1"), CONFIG.tool_low, CONFIG.tool_high)
actions = arrays(np.float32, 4, elements=st.floats(-1, 1, width=32))


@pytest.fixture(scope="module")
def world() -> Iterator[PracticeWorld]:
    made = PracticeWorld(SPACE, CONFIG, TwinCell(SPACE.tasks[0]))
    yield made
    made.close()


def attempt(world: PracticeWorld, index: int, rng: np.random.Generator) -> bool:
    """By the expert."""
    while not world.go_home():
        pass
    world.begin(index, rng)
    return any(world.step(world.expert()).success for _ in range(35))


def test_the_experts_of_both_tasks_undo_each_other_without_a_reset(world: PracticeWorld) -> None:
    world.reset(3)
    rng = np.random.default_rng(0)
    assert sum(attempt(world, k % 2, rng) for k in range(6)) >= 5


def test_a_thawed_world_has_the_very_same_future(world: PracticeWorld) -> None:
    world.reset(4)
    world.begin(0, np.random.default_rng(1))
    for _ in range(10):
        world.step(world.expert())
    frozen = world.freeze()
    futures = []
    for _ in range(2):
        world.thaw(frozen)
        rng = np.random.default_rng(2)
        world.go_home()
        ticks = [world.step(rng.uniform(-1, 1, 4).astype(np.float32)) for _ in range(8)]
        futures.append(np.concatenate([tick.states for tick in ticks]))
    np.testing.assert_array_equal(*futures)


@pytest.mark.parametrize(("task_id", "solid"), [("pick_place-v1", "goal"), ("drawer_open-v1", "cabinet")])
def test_what_things_stand_in_or_on_stays_where_it_is(task_id: str, solid: str) -> None:
    """No lamp: it cannot be drawn somewhere else while the thing rests on it."""
    space = ToolSpace((task_id, make_task(task_id).backward), CONFIG.tool_low, CONFIG.tool_high)
    world = PracticeWorld(space, CONFIG, TwinCell(space.tasks[0]))
    assert world.cell.marks == ()
    world.reset(3)
    before = world.facts()[f"pose_{solid}"]
    rng = np.random.default_rng(0)
    for index in (0, 1):
        while not world.go_home():
            pass
        world.begin(index, rng)
        assert any(world.step(world.expert()).success for _ in range(60))
        assert not world.lost()
    np.testing.assert_array_equal(world.facts()[f"pose_{solid}"], before)
    world.close()


@pytest.mark.parametrize("task_id", sorted(TASKS))
def test_marks_are_what_no_geom_of_the_model_collides_with(task_id: str) -> None:
    task = make_task(task_id)
    model = load_model(task)
    felt = {int(model.geom_bodyid[i]) for i in range(model.ngeom) if model.geom_contype[i] or model.geom_conaffinity[i]}
    for body in marks_of(task):
        assert model.body(body).id not in felt
        assert model.body(body).mocapid[0] >= 0


def test_what_is_out_of_reach_is_told() -> None:
    world = PracticeWorld(SPACE, replace(CONFIG, reach_low=(0.5, 0.5), reach_high=(0.6, 0.6)), TwinCell(SPACE.tasks[0]))
    assert world.lost() == "the puck is out of reach"
    assert world.step(np.zeros(4, np.float32)).lost
    world.close()


def test_a_thing_is_brought_back_to_where_attempts_begin(world: PracticeWorld) -> None:
    world.reset(5)
    start = SPACE.tasks[0].initial_state(np.random.default_rng(6)).poses["puck"][:2]
    decisions = 0
    while not world.recover(np.random.default_rng(6)):
        decisions += 1
        assert decisions < 40
    assert np.linalg.norm(world.facts()["pose_puck"][:2] - start) < 0.02
    assert decisions > 5
    assert not world.lost()


def test_what_stands_on_its_edge_rolls_to_a_stop(world: PracticeWorld) -> None:
    world.reset(5)
    assert isinstance(world.cell, TwinCell)
    twin = world.cell.twin
    puck = twin.model.joint(int(twin.model.body("puck").jntadr[0]))
    twin.data.qpos[puck.qposadr[0] :][:7] = (0.2, -0.15, 0.0221, np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0)
    twin.data.qvel[puck.dofadr[0] :][:6] = (0.0, 0.2, 0.0, 0.0, 0.0, -0.2 / 0.022)
    still = twin.robot_state().joint_position.astype(np.float32)
    places = []
    for _ in range(60):
        twin.step(still)
        places.append(world.facts()["pose_puck"][:2])
    assert world.lost() == "the puck stands on its edge"
    assert 0.02 < np.linalg.norm(places[-1] - (0.2, -0.15)) < 0.2
    assert np.linalg.norm(places[-1] - places[-10]) < 1e-4


def test_only_marks_can_be_placed(world: PracticeWorld) -> None:
    with pytest.raises(AssetError, match="only a mark"):
        world.cell.place("puck", np.array([0.2, 0.1, 0.0, 1, 0, 0, 0]))


def test_tasks_of_different_scenes_are_not_practised_together() -> None:
    with pytest.raises(SpecError, match="another scene"):
        ToolSpace(("push-v1", "lift-v1"), CONFIG.tool_low, CONFIG.tool_high)


@given(actions)
@settings(max_examples=50, deadline=None)
def test_the_action_between_two_commands_is_what_led_from_one_to_the_other(action: np.ndarray) -> None:
    command = np.array([0.22, 0.0, 0.08, 0.0, 0.25])
    after = command
    for _ in range(DECISION_TICKS):
        after = SPACE.moved(after, action)
    np.testing.assert_allclose(SPACE.action_between(command, after, DECISION_TICKS), action, atol=1e-5)


@given(st.lists(actions, max_size=60))
@settings(max_examples=30, deadline=None)
def test_commands_never_leave_the_box(many: list[np.ndarray]) -> None:
    command = np.array([0.22, 0.0, 0.08, 0.0, 0.25])
    for action in many:
        command = SPACE.moved(command, action)
    assert (command[:3] >= SPACE.low).all()
    assert (command[:3] <= SPACE.high).all()
    assert SPACE.command_of(SPACE.joints(command)).shape == (5,)
