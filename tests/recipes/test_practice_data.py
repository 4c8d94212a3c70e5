"""Old episodes as practice reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.datasets.held import held
from robolearn.datasets.replay_buffer import ReplayBuffer, ReplayBufferConfig
from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.tool_env import tool_space
from robolearn.envs.tool_space import resized
from robolearn.errors import DatasetError, SpecError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.finetune.data import add_recorded, decision_steps, read_recorded
from robolearn.recipes.finetune.judges import TrueJudge
from robolearn.recipes.finetune.recipe import begin, old_data
from robolearn.recipes.finetune.settings import FinetuneConfig, InterventionsConfig
from robolearn.recipes.finetune.supervisor import SupervisorConfig
from robolearn.specs import POSE_SPEC, InterfaceSpec
from robolearn.types import EpisodeOutcome

UNSEEN = {"things": "unseen", "image_size": 64, "pretrained_by": "nothing"}


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
        (20.0, "gripper", False, "lacks pose_puck, pose_goal; practice wants poses, of the twin"),
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
        read_recorded([ZarrStore.open(tmp_path / "d.zarr")], space)
    assert "\n" not in str(caught.value)


def test_demonstrations_without_pictures_are_refused_by_who_sees_nothing_else(tmp_path: Path) -> None:
    config = FinetuneConfig("push-v1", **UNSEEN, reward_models=("m",))
    spec = config.space().arm.spec
    interface = InterfaceSpec({"proprio": spec.proprio_spec}, spec.action_spec, 20.0)
    ZarrStore.create(tmp_path / "d.zarr", DatasetSpec(spec, interface))
    with pytest.raises(DatasetError, match=r"lacks image_front, image_wrist; .* collect or record with cameras$"):
        read_recorded([ZarrStore.open(tmp_path / "d.zarr")], config.space())


def test_a_policy_of_pictures_sees_those_of_its_decisions_and_where_the_tool_is(tmp_path: Path) -> None:
    collect_episodes(CollectConfig("push-v1", image_size=24), tmp_path / "d.zarr", 1, seed=0)
    config = FinetuneConfig("push-v1", reward="true").from_pictures(12)
    space, store = config.space(), ZarrStore.open(tmp_path / "d.zarr")
    assert config.learner.policy.images
    (episode,) = read_recorded([ZarrStore.open(tmp_path / "d.zarr")], space)
    buffer = ReplayBuffer(space.interface, ReplayBufferConfig(100))
    assert add_recorded(buffer, episode, space, 0, TrueJudge(), config)
    seen = buffer.state_dict()
    pictures = store.read(0)["image_wrist"][decision_steps(store.episodes[0].length)]
    kept = seen["observation.image_wrist"]
    assert kept.shape[1:] == (12, 12, 3)
    np.testing.assert_array_equal(kept, resized(pictures, (12, 12))[: len(kept)])
    np.testing.assert_allclose(kept.mean((1, 2, 3)), pictures.mean((1, 2, 3))[: len(kept)], atol=1.0)
    full = episode.states[decision_steps(len(episode.states))][: len(kept)]
    assert seen["observation.state"].shape[1] == space.own_entries < full.shape[1]
    np.testing.assert_array_equal(seen["observation.state"], full[:, : space.own_entries])
    with pytest.raises(DatasetError, match=r"lacks image_side; practice wants the pictures that are to be seen"):
        read_recorded([ZarrStore.open(tmp_path / "d.zarr")], replace(config, cameras="side").space())
    unseen = replace(config, reward="success", reward_models=("model",), things="unseen").space()
    assert unseen.interface == space.interface  # what comes out of it runs alike
    (blind,) = read_recorded([ZarrStore.open(without_poses(store, tmp_path / "blind.zarr"))], unseen)
    assert blind.reached is None
    assert blind.pictures.keys() == episode.pictures.keys()
    for mine, seen in zip(blind.decisions(unseen), episode.decisions(space), strict=True):
        np.testing.assert_array_equal(mine, seen[:, : mine.shape[1]])
    assert blind.states.shape[1] == space.own_entries


def without_poses(store: ZarrStore, to: Path) -> Path:
    """The first episode as a cell without tags would have recorded it."""
    spec, rows = store.spec, {k: v for k, v in store.read(0).items() if not k.startswith("pose_")}
    made = ZarrStore.create(to, DatasetSpec(spec.robot, spec.interface, spec.tasks))
    info = store.episodes[0]
    with made.writer() as writer:
        writer.begin(EpisodeMeta(info.task, info.instruction, created_ns=1))
        for step in range(info.length):
            writer.append({k: v[step] for k, v in rows.items()}, dict.fromkeys(rows, step * 50_000_000))
        writer.commit(EpisodeOutcome(True, True, False))
    return to


def test_who_is_held_to_old_data_is_held_to_what_succeeded_at_its_own_task(tmp_path: Path) -> None:
    paths = [tmp_path / f"{task}.zarr" for task in ("push-v1", "push_back-v1")]
    for path in paths:
        collect_episodes(CollectConfig(path.stem, image_size=0), path, 1, seed=0)
    config = FinetuneConfig("push-v1", pretrained_by="nothing", reward="true")
    begin(config, paths[1:], paths[:1], tmp_path / "run")
    held_to = old_data(replace(config, rlpd=replace(config.rlpd, cloning_weight=1.0)), tmp_path / "run")
    every = old_data(config, tmp_path / "run")
    decisions = [len(decision_steps(ZarrStore.open(path).episodes[0].length)) - 1 for path in paths]
    assert 0 < len(held_to) <= decisions[0] < len(every) <= 2 * sum(decisions)
    state = held_to.state_dict()
    assert (state["observation.task"][: len(held_to) + 1] == [1, 0]).all()
    assert state["reward"][state["acted"]].tolist() == [-1.0] * (len(held_to) - 1) + [0.0]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"image_size": 64}, "set algorithm=rlpd pretrained_by=nothing"),
        ({"image_size": 64, "pretrained_by": "nothing", "algorithm": "iql"}, "from pictures rlpd and sac learn"),
        ({"image_size": -1}, "give their pixels"),
        ({"cameras": "front"}, "give their pixels"),
        ({"things": "unseen", "reward": "person", "teleop": "keyboard"}, "let it see pictures: --set image_size=64"),
        (UNSEEN, "a classifier of states.* --reward success --reward-model FOLDER"),
        ({**UNSEEN, "reward": "true"}, "neither the true reward"),
        ({**UNSEEN, "reward_models": ("m",), "interventions": InterventionsConfig(0.99)}, "the scripted person"),
        ({"reward": "person"}, "in the twin wants --teleop"),
        ({"reward": "person", "teleop": "keyboard", "reward_models": ("m",)}, "nothing else wants any"),
        ({"reward_models": ("m", "n"), "supervisor": SupervisorConfig(tasks=1)}, "came with 2 reward models"),
        ({"reward_models": ("m",), "shaping": 1.0}, "by --reward vlm or progress"),
        ({"supervisor": SupervisorConfig(tasks=3)}, "alone or with its way back"),
    ],
)
def test_who_cannot_learn_so_is_told_so(settings: dict, wanted: str) -> None:
    with pytest.raises(SpecError, match=wanted) as caught:
        FinetuneConfig("push-v1", **settings)
    assert "\n" not in str(caught.value)


def test_what_nobody_watches_is_told() -> None:
    assert FinetuneConfig("push-v1").unwatched == ""
    config = FinetuneConfig("push-v1", **UNSEEN, reward_models=("m",))
    assert "stuck" in config.unwatched
    assert config.unwatched.endswith("after 12 failed attempts in a row")
    alone = replace(config, supervisor=replace(config.supervisor, tasks=1))
    assert alone.unwatched.endswith("after every attempt")
    assert alone.space().interface.observation["task"].shape == (1,)
