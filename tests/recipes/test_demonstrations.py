from __future__ import annotations

import contextlib
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robolearn.algorithms.calql import CalQLConfig
from robolearn.algorithms.rlpd import RLPDConfig
from robolearn.datasets import edit
from robolearn.datasets.replay_buffer import ReplayBuffer, ReplayBufferConfig
from robolearn.datasets.store import CLOSING_ROW, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.policies.checkpoint_config import read_config
from robolearn.policies.gaussian import GaussianPolicyConfig, vector_spec
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.collector import Collector
from robolearn.recipes.demonstrations import demonstrations
from robolearn.recipes.environments import REWARDS, make_environments
from robolearn.recipes.run import read_state
from robolearn.recipes.train_offline import train_offline
from robolearn.recipes.train_online import OnlineConfig, _batch, train_online
from robolearn.specs import InterfaceSpec
from robolearn.types import EpisodeOutcome

TASK = "reach-v1"
SMALL = {"policy": GaussianPolicyConfig(hidden_sizes=(8,)), "critic_hidden_sizes": (8,), "batch_size": 8}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demos") / "reach.zarr"
    collect_episodes(CollectConfig(task=TASK, image_size=16), path, 3)
    return path


@pytest.fixture(scope="module")
def spec() -> InterfaceSpec:
    envs = make_environments(TASK, 1)
    envs.close()
    return vector_spec(envs.interface, privileged=True)


def test_positions_that_are_read_as_velocities_do_the_task_again(dataset: Path, spec: InterfaceSpec) -> None:
    buffer, statistics = demonstrations(ZarrStore.open(dataset), TASK, spec, 0.9, 1)
    assert isinstance(buffer, ReplayBuffer)
    assert set(statistics) == set(spec.observation)
    state = buffer.state_dict()
    ends = np.flatnonzero(~state["acted"])
    envs = make_environments(TASK, 1)
    first = 0
    for seed, end in enumerate(ends):
        observation, _ = envs.reset(seed=[seed])
        np.testing.assert_allclose(observation["command"][0], state["observation.command"][first], atol=1e-5)
        for row in range(first, end):
            np.testing.assert_allclose(observation["proprio"][0, :6], state["observation.proprio"][row, :6], atol=0.02)
            observation, _, terminated, _, info = envs.step(state["action"][row][None])
        assert terminated[0]
        assert info["success"][0]
        assert state["reward"][end - 1] == 1
        assert state["return"][first] == pytest.approx(0.9 ** (end - 1 - first), rel=1e-4)
        first = end + 1
    envs.close()
    assert len(ends) == 3


def test_a_row_that_closes_an_episode_is_no_action(dataset: Path, spec: InterfaceSpec, tmp_path: Path) -> None:
    closed = tmp_path / "reach.zarr"
    shutil.copytree(dataset, closed)
    edit.tag(closed, [0], {CLOSING_ROW: True})
    whole, other = (
        demonstrations(ZarrStore.open(path), TASK, spec, 0.9, 1)[0].state_dict() for path in (dataset, closed)
    )
    length = int(np.argmin(whole["acted"]))
    assert (np.argmin(other["acted"]), other["reward"][length - 2], whole["reward"][length - 1]) == (length - 1, 1, 1)


def test_what_never_came_is_no_place_that_the_robot_was_sent_to(
    dataset: Path, spec: InterfaceSpec, tmp_path: Path
) -> None:
    whole = ZarrStore.open(dataset)
    rows = whole.read(0)
    gaps = {5: ("proprio", "action_sent"), 6: ("action_sent",)}
    store = ZarrStore.create(tmp_path / "gaps.zarr", whole.spec)
    with store.writer() as writer:
        for lost in (gaps, dict.fromkeys(range(len(rows["proprio"])), ("action_sent",))):
            writer.begin(EpisodeMeta(task=TASK, seed=0))
            for step in range(len(rows["proprio"])):
                writer.append({n: values[step] for n, values in rows.items() if n not in lost.get(step, ())}, {})
            writer.commit(EpisodeOutcome(True, True, False))
    buffer = demonstrations(store, TASK, spec, 0.9, 1, [0])[0]
    assert isinstance(buffer, ReplayBuffer)
    state = buffer.state_dict()
    np.testing.assert_array_equal(state["observation.proprio"][5], rows["proprio"][4])
    np.testing.assert_array_equal(state["action"][5:7], 0)
    np.testing.assert_allclose(state["observation.command"][5:8], rows["action_sent"][[4, 4, 4]])
    with pytest.raises(DatasetError, match=r"episode 1 \(.*\) never has action_sent; delete it"):
        demonstrations(store, TASK, spec, 0.9, 1)


def test_another_task_or_robot_is_told_in_one_line(dataset: Path, spec: InterfaceSpec) -> None:
    with pytest.raises(DatasetError, match=r"wanted push-v1; .* relabel \.\.\. --task"):
        demonstrations(ZarrStore.open(dataset), "push-v1", spec, 0.9, 1)
    with pytest.raises(SpecError, match="the task wants left"):
        demonstrations(
            ZarrStore.open(dataset), TASK, replace(spec, action=replace(spec.action, names=("left",) * 6)), 0.9, 1
        )


def test_from_a_dataset_to_the_task_and_on(dataset: Path, tmp_path: Path) -> None:
    config = CalQLConfig(**SMALL, num_critics=4, critic_layer_norm=True, num_actions=2)
    train_offline("calql", dataset, tmp_path / "pre", 4, 0, config, task=TASK)
    online = OnlineConfig(num_envs=2, warmup_steps=8, evaluation_episodes=1, evaluations=1)
    learner = RLPDConfig(**SMALL, num_critics=4, utd=1)
    result = train_online(
        "rlpd", TASK, tmp_path / "on", 12, 0, learner, online, init_from=tmp_path / "pre", offline_data=dataset
    )
    assert result["gradient_steps"] == 6
    shown = [read_config(tmp_path / run / "checkpoints" / "latest")["provenance"] for run in ("pre", "on")]
    assert [each["episode_seeds"] for each in shown] == [[0, 1, 2]] * 2
    before, after = read_state(tmp_path / "pre")[0], read_state(tmp_path / "on")[0]
    assert after["gradient_step"] == 6
    other = replace(online, reward="progress")
    with pytest.raises(SpecError, match="reward is 'progress', and offline data of a twin are worth 1"):
        train_online("rlpd", TASK, tmp_path / "other", 12, 0, learner, other, offline_data=dataset)
    moved = (after["critic.ensemble.layers.0.weight"] - before["critic.ensemble.layers.0.weight"]).abs().max()
    assert 0 < moved < 0.01  # six small steps from where it began


def test_demonstrations_that_came_later_do_not_change_a_run(dataset: Path, tmp_path: Path) -> None:
    grown = tmp_path / "reach.zarr"
    shutil.copytree(dataset, grown)
    learner = RLPDConfig(**SMALL, num_critics=2, utd=1)
    train_offline("rlpd", grown, tmp_path / "pre", 1, 0, learner, task=TASK)
    online = OnlineConfig(evaluation_episodes=1, evaluations=2)
    begun = {"init_from": tmp_path / "pre", "offline_data": grown}
    train_online("rlpd", TASK, tmp_path / "whole", 12, 0, learner, online, **begun)

    def interrupt(step: int, text: str) -> None:
        if step == 6:
            os.kill(os.getpid(), signal.SIGINT)

    cut = train_online("rlpd", TASK, tmp_path / "cut", 12, 0, learner, online, **begun, progress=interrupt)
    assert cut["interrupted"]
    collect_episodes(CollectConfig(task=TASK, image_size=16), grown, 1, seed=9)
    train_online("rlpd", TASK, tmp_path, resume=tmp_path / "cut")
    states = [read_state(tmp_path / run)[0] for run in ("whole", "cut")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize(("fraction", "wanted"), [(0.25, 0.25), (1.0, 1.0), (0.0, None)])
def test_each_update_has_its_share_of_demonstrations(
    dataset: Path, spec: InterfaceSpec, fraction: float, wanted: float | None
) -> None:
    prior, _ = demonstrations(ZarrStore.open(dataset), TASK, spec, 0.9, 1)
    with contextlib.closing(make_environments(TASK, 1)) as envs:
        collector = Collector(envs, ReplayBufferConfig(200), REWARDS["success"], 0)
        for _ in range(40):
            collector.step(np.full((1, 6), 0.5, np.float32))
    config = RLPDConfig(**{**SMALL, "batch_size": 64}, utd=3)
    online = OnlineConfig(offline_fraction=fraction)
    batch = _batch(collector, prior, config, online, np.random.default_rng(0))
    mine = (batch["action"] == 0.5).all(-1).reshape(3, 64)
    assert (batch["prior"].reshape(3, 64) == (~mine).float()).all()
    mine = mine.double().mean(1)
    if wanted is None:  # as if the buffer held them too
        wanted = len(prior) / (len(prior) + 40)
    assert mine.tolist() == pytest.approx([1 - wanted] * 3, abs=1 / 64)
