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
from robolearn.tasks.facts import standing
from robolearn.twin.scene import load_model

CONFIG = PracticeConfig()
SPACE = ToolSpace(("push-v1", "push_back-v1"), CONFIG.tool_low, CONFIG.tool_high)
GRASPING = ToolSpace(("peg_insert-v1", "peg_extract-v1"), CONFIG.tool_low, CONFIG.tool_high)
PULLING = ToolSpace(("drawer_open-v1", "drawer_close-v1"), CONFIG.tool_low, CONFIG.tool_high)
actions = arrays(np.float32, 4, elements=st.floats(-1, 1, width=32))
grasping_actions = arrays(np.float32, 5, elements=st.floats(-1, 1, width=32))


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


def test_unseen_things_are_known_to_the_report_alone() -> None:
    """The same attempt, once by an expert who sees, then again by its actions where nobody does."""
    out_of_reach = replace(CONFIG, draw_mark=False, reach_low=(0.5, 0.5), reach_high=(0.6, 0.6))
    space = ToolSpace(("push-v1", "push_back-v1"), CONFIG.tool_low, CONFIG.tool_high, unseen=True)
    seeing = PracticeWorld(SPACE, out_of_reach, TwinCell(SPACE.tasks[0]))
    blind = PracticeWorld(space, replace(out_of_reach, draw_mark=True), TwinCell(space.tasks[0], unseen=True))
    assert blind.cell.marks == ()
    for world in (seeing, blind):
        world.reset(3)
        world.begin(0, np.random.default_rng(0))
    for _ in range(35):
        tick = seeing.step(action := seeing.expert())
        again = blind.step(action)
        np.testing.assert_array_equal(again.states, tick.states[:, : SPACE.own_entries])
        np.testing.assert_array_equal(again.reached, tick.reached)
        assert (again.success, again.progress) == (tick.success, tick.progress)
        assert tick.lost == "the puck is out of reach"
        assert (again.lost, again.moved) == ("", True)
    assert tick.success
    assert set(blind.facts()) == {"proprio", "pose_tool"}
    for world in (seeing, blind):
        world.close()


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


@given(st.sampled_from([GRASPING, PULLING]), grasping_actions, st.floats(0.0, 0.8))
@settings(max_examples=50, deadline=None)
def test_the_action_between_two_commands_leads_there_again_gripper_and_all(
    space: ToolSpace, action: np.ndarray, opening: float
) -> None:
    command = np.array([0.22, 0.0, 0.08, 0.0, opening])
    after = again = command
    for _ in range(DECISION_TICKS):
        after = space.moved(after, action)
    told = space.action_between(command, after, DECISION_TICKS)
    for _ in range(DECISION_TICKS):
        again = space.moved(again, told)
    np.testing.assert_allclose(again, after, atol=1e-6)


def test_the_gripper_goes_where_it_is_told_and_stays_when_nothing_is() -> None:
    jaws = GRASPING.arm.gripper
    command = np.array([0.22, 0.0, 0.08, 0.0, jaws.open])
    for share, place in ((-1.0, jaws.closed), (0.0, (jaws.closed + jaws.open) / 2), (1.0, jaws.open)):
        for _ in range(2 * DECISION_TICKS):
            command = GRASPING.moved(command, np.array([0, 0, 0, 0, share]))
        assert command[4] == pytest.approx(place)
        still = GRASPING.moved(command, np.full(5, np.nan))
        np.testing.assert_array_equal(still, command)
        np.testing.assert_allclose(GRASPING.action_between(command, command, DECISION_TICKS), [0, 0, 0, 0, share])


def facts_of(peg_yaw: float, socket_yaw: float) -> dict[str, np.ndarray]:
    proprio = np.zeros(12, np.float32)
    proprio[5] = 0.5
    tool = standing((0.2, 0.0), 0.1)
    poses = {"peg": standing((0.21, -0.02), 0.04, peg_yaw), "socket": standing((0.2, 0.1), 0.0, socket_yaw)}
    return {"proprio": proprio, "pose_tool": tool, **{f"pose_{body}": pose for body, pose in poses.items()}}


def test_how_things_are_turned_is_told_from_the_one_before() -> None:
    command = np.array([0.2, 0.0, 0.1, 0.2, 0.1])
    state = GRASPING.state(facts_of(0.3, 0.5), command)
    angles = 4 * np.array([0.3 - 0.2, 0.5 - 0.3])  # the peg from the tool, the socket from the peg
    np.testing.assert_allclose(state[[12, 22]], np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(state[[13, 23]], np.sin(angles), atol=1e-6)
    np.testing.assert_allclose(state[[14, 15, 24, 25]], 0.0, atol=1e-6)  # all is upright
    np.testing.assert_allclose(state[16:19], np.tanh([1.0, -2.0, -6.0]), atol=1e-5)  # in centimetres
    assert state[8] == pytest.approx(0.1 - 0.5)  # the gripper's command, from where the gripper is
    assert len(state) == GRASPING.interface.observation["state"].shape[0]


@pytest.mark.parametrize(("axis", "leans"), [((1, 0, 0), (0, -1)), ((0, 1, 0), (1, 0)), ((0, 0, 1), (0, 0))])
def test_a_leaning_peg_is_seen_to_lean(axis: tuple[int, int, int], leans: tuple[int, int]) -> None:
    facts, angle = facts_of(0.0, 0.0), 0.3
    facts["pose_peg"][3:] = [np.cos(angle / 2), *(np.sin(angle / 2) * np.array(axis))]
    state = GRASPING.state(facts, np.array([0.2, 0.0, 0.1, 0.0, 0.1]))
    np.testing.assert_allclose(state[14:16], np.sin(angle) * np.array(leans), atol=1e-6)


@pytest.mark.parametrize("space", [SPACE, GRASPING, PULLING])
def test_what_success_is_judged_by_is_computed_beside_the_states(space: ToolSpace) -> None:
    states = np.random.default_rng(0).normal(size=(3, *space.interface.observation["state"].shape)).astype(np.float32)
    before = states.copy()
    scene = space.scene(states, 0)
    np.testing.assert_array_equal(states, before)
    np.testing.assert_allclose(scene[:, :3], states[:, :3] + states[:, space._own : space._own + 3], rtol=1e-6)


def test_a_drawer_is_pulled_by_a_gripper_that_is_moved() -> None:
    command = np.array([0.22, 0.0, 0.08, 0.0, 0.4])
    still = PULLING.moved(command, np.zeros(5))
    np.testing.assert_array_equal(still, command)
    assert PULLING.moved(command, np.array([0, 0, 0, 0, 0.5]))[4] == pytest.approx(0.4 + PULLING.gripper_step / 2)


def test_what_success_is_judged_by_does_not_turn_with_the_arm() -> None:
    facts, command = facts_of(0.3, 0.5), np.array([0.2, 0.0, 0.1, 0.0, 0.1])
    turned = command + np.array([0.01, 0, 0, 0.4, 0.2])
    scenes = [GRASPING.scene(GRASPING.state(facts, each)[None], 0) for each in (command, turned)]
    np.testing.assert_allclose(scenes[0], scenes[1], atol=1e-6)
    peg_turned = GRASPING.scene(GRASPING.state(facts_of(0.35, 0.5), command)[None], 0)
    assert np.abs(peg_turned - scenes[0]).max() > 0.05


@given(st.lists(actions, max_size=60))
@settings(max_examples=30, deadline=None)
def test_commands_never_leave_the_box(many: list[np.ndarray]) -> None:
    command = np.array([0.22, 0.0, 0.08, 0.0, 0.25])
    for action in many:
        command = SPACE.moved(command, action)
    assert (command[:3] >= SPACE.low).all()
    assert (command[:3] <= SPACE.high).all()
    assert SPACE.command_of(SPACE.joints(command)).shape == (5,)
