"""Training of policies of vectors on episodes of the twin, without and with a task."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robolearn.algorithms.hiql import HIQLConfig
from robolearn.algorithms.iql import IQLConfig
from robolearn.algorithms.state_bc import StateBCConfig
from robolearn.datasets.edit import relabel
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, SpecError
from robolearn.policies.checkpoint import load_policy
from robolearn.policies.gaussian import GaussianPolicyConfig, vector_spec
from robolearn.policies.hierarchical import HierarchicalPolicyConfig
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.demonstrations import demonstrations
from robolearn.recipes.environments import make_environments
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.finetune.data import decision_steps
from robolearn.recipes.run import read_run_config
from robolearn.recipes.train_offline import train_offline
from robolearn.recipes.training_data import TransitionData, remark
from robolearn.specs import ArraySpec, InterfaceSpec

TASK = "push-v1"
PRIVILEGED: dict[str, Any] = {"hidden_sizes": (8,), "privileged": True}
IQL = IQLConfig(policy=GaussianPolicyConfig(**PRIVILEGED), critic_hidden_sizes=(8,), batch_size=8)
HIQL = HIQLConfig(policy=HierarchicalPolicyConfig(**PRIVILEGED), value_hidden_sizes=(8,), batch_size=8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("states") / "push.zarr"
    collect_episodes(CollectConfig(task=TASK, image_size=0, perturbation=0.0), path, 2, seed=0)
    return path


def task_spec(task: str) -> InterfaceSpec:
    envs = make_environments(task, 1)
    envs.close()
    return vector_spec(envs.interface, privileged=True)


def test_a_goal_may_be_about_bodies(dataset: Path, tmp_path: Path) -> None:
    result = train_offline("hiql", dataset, tmp_path / "run", 2, config=HIQL)
    policy = load_policy(result["checkpoint"])
    assert {"proprio", "pose_puck", "goal_pose_puck"} <= set(policy.spec.observation)
    assert set(policy.statistics) == {name for name in policy.spec.observation if not name.startswith("goal_")}
    assert evaluate_policy(result["checkpoint"], TASK, 1)["episodes"] == 1


def test_transitions_have_poses_on_request(dataset: Path, tmp_path: Path) -> None:
    result = train_offline("iql", dataset, tmp_path / "run", 2, config=IQL)
    assert {"proprio", "pose_puck"} <= set(load_policy(result["checkpoint"]).spec.observation)
    assert read_run_config(tmp_path / "run")["config"]["decay_steps"] == 2  # the actor's rate falls over the run


def test_a_column_pays_a_decision_of_the_tool_for_its_steps(dataset: Path, tmp_path: Path) -> None:
    store = ZarrStore.open(shutil.copytree(dataset, tmp_path / "d"))
    lengths = [info.length for info in store.episodes]
    for name, attributes in (("reward/mine", {}), ("reward/shaped", {"potential": "progress/x", "discount": 0.99})):
        with store.column_writer(name, ArraySpec(()), attributes) as writer:
            for index, length in enumerate(lengths):
                writer.write(index, np.arange(length, dtype=np.float32))
    spec = task_spec(f"tool:{TASK}")
    source, _ = demonstrations(ZarrStore.open(store.path), f"tool:{TASK}", spec, 0.9, 1, reward="reward/mine")
    wanted = []
    for length in lengths:
        at = decision_steps(length)
        ends = [*at[1:-1], length]
        wanted += [sum(0.9 ** ((i - a) / 4) * i for i in range(a, b)) for a, b in zip(at[:-1], ends, strict=True)]
    batch = source.sample(4000, np.random.default_rng(0))
    assert len(source) == len(wanted)
    np.testing.assert_allclose(
        sorted(set(batch["reward"].tolist())), sorted(set(np.float32(wanted).tolist())), rtol=1e-6
    )
    assert (batch["bootstrap"] == 1).all()  # no column knows an end
    with pytest.raises(SpecError, match=r"shaped for a discount of 0.99 a step, 0.9606 a .*; --set discount=0.9606"):
        demonstrations(ZarrStore.open(store.path), f"tool:{TASK}", spec, 0.97, 1, reward="reward/shaped")
    demonstrations(ZarrStore.open(store.path), f"tool:{TASK}", spec, 0.9606, 1, reward="reward/shaped")


@pytest.mark.parametrize(("algorithm", "config"), [("iql", IQL), ("hiql", HIQL)])
def test_without_poses_none_are_promised(algorithm: str, config: Any, dataset: Path, tmp_path: Path) -> None:
    bare = ZarrStore.create(tmp_path / "d", replace(ZarrStore.open(dataset).spec, extra={})).path
    with pytest.raises(SpecError, match=r"wants the poses of bodies, and .* has proprio; collect"):
        train_offline(algorithm, bare, tmp_path / "run", 2, config=config)
    assert not (tmp_path / "run").exists()


def relabelled(dataset: Path, path: Path, **changes: Any) -> Path:
    """A copy whose episodes are all said to be so."""
    shutil.copytree(dataset, path)
    relabel(path, [0, 1], changes)
    return path


def test_chunks_are_not_read_as_a_task_shows_them(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="bc learns from chunks, which no task shows"):
        train_offline("bc", dataset, tmp_path / "run", 2, task=TASK)


def test_a_remark_tells_what_is_missed_without_a_task(dataset: Path, tmp_path: Path) -> None:
    config, told = replace(IQL, policy=GaussianPolicyConfig(hidden_sizes=(8,)), steps=1), list[str]()
    assert remark(dataset, "iql", TransitionData(dataset, config, "success", 0)) == (
        f"{dataset} is of push-v1; without --task iql sees proprio alone and acts as recorded, with --task push-v1 as "
        "in the task"
    )
    seeing = TransitionData(dataset, IQL, "success", 0)
    assert "proprio, pose_tool, pose_puck" in remark(dataset, "iql", seeing)
    elsewhere = relabelled(dataset, tmp_path / "d", task="in the kitchen")
    assert not remark(elsewhere, "iql", TransitionData(elsewhere, config, "success", 0))
    for task in (TASK, None):
        assert not told
        result = train_offline("iql", dataset, tmp_path / f"run {task}", config=config, task=task, tell=told.append)
        assert result["tasks"] == ([] if task is None else [TASK])  # that can judge it
    assert len(told) == 1
    train_offline("iql", dataset, tmp_path, resume=tmp_path / "run None", tell=told.append)
    assert len(told) == 1


@pytest.mark.parametrize("task", [None, TASK, f"tool:{TASK}"])
def test_outcomes_that_nobody_told_are_no_failures(task: str | None, dataset: Path, tmp_path: Path) -> None:
    unknown = relabelled(dataset, tmp_path / "d", success=None)
    with pytest.raises(DatasetError, match=r"nobody said .*, nor of \d+ more; .* relabel \S+ \$\(seq 0 ") as caught:
        train_offline("iql", unknown, tmp_path / "run", 2, config=IQL, task=task)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("or label it with a reward model and name that column by --reward")
    store = ZarrStore.open(unknown)
    with store.column_writer("reward/mine", ArraySpec(()), {}) as writer:
        for index, info in enumerate(store.episodes):
            writer.write(index, np.zeros(info.length, np.float32))
    with pytest.raises(DatasetError, match=r"or learn from a reward that it has, by --reward reward/mine$"):
        train_offline("iql", unknown, tmp_path / "run", 2, config=IQL, task=task)
    if task is not None:
        with pytest.raises(DatasetError, match="nobody said"):
            demonstrations(ZarrStore.open(unknown), task, task_spec(task), 0.9, 1)


@pytest.mark.parametrize("task", [None, TASK, f"tool:{TASK}"])
def test_failures_alone_teach_nothing_but_may_lie_beside(task: str | None, dataset: Path, tmp_path: Path) -> None:
    failed = relabelled(dataset, tmp_path / "d", success=False)
    with pytest.raises(DatasetError, match="none of 2 episodes succeeded, so every reward is 0"):
        train_offline("iql", failed, tmp_path / "run", 2, config=IQL, task=task)
    if task is not None:
        assert len(demonstrations(ZarrStore.open(failed), task, task_spec(task), 0.9, 1)[0])


@pytest.mark.parametrize("task", [None, TASK])
def test_who_imitates_wants_no_rewards(task: str | None, dataset: Path, tmp_path: Path) -> None:
    config = StateBCConfig(policy=GaussianPolicyConfig(**PRIVILEGED), batch_size=8)
    unknown = relabelled(dataset, tmp_path / "d", success=None)
    relabel(unknown, [0], {"success": False})
    result = train_offline("state_bc", unknown, tmp_path / "run", 2, config=config, task=task)
    assert result["train_episodes"] == 1


@pytest.mark.parametrize("task", [None, TASK, f"tool:{TASK}"])
def test_a_success_is_the_end_even_where_the_episode_was_cut(task: str | None, dataset: Path, tmp_path: Path) -> None:
    cut = relabelled(dataset, tmp_path / "d", success=True, terminated=False, truncated=True)
    rng = np.random.default_rng(0)
    if task is None:
        batch = {name: values.numpy() for name, values in TransitionData(cut, IQL, "success", 0).batch(0, 2000).items()}
    else:
        batch = demonstrations(ZarrStore.open(cut), task, task_spec(task), 0.9, 1)[0].sample(2000, rng)
    ends = batch["reward"] == 1
    assert ends.any()
    np.testing.assert_array_equal(batch["bootstrap"] == 0, ends)
    np.testing.assert_array_equal(batch["return_to_go"] == 1, ends)
    relabel(cut, [1], {"success": False})
    if task is None:
        steps = sum(info.length for info in ZarrStore.open(cut).episodes)
        assert len(TransitionData(cut, IQL, "success", 0).source) == steps - 1  # what came of the last was not seen
    relabel(cut, [0], {"success": False})
    if task is not None:
        failed = demonstrations(ZarrStore.open(cut), task, task_spec(task), 0.9, 1)[0].sample(2000, rng)
        assert (failed["bootstrap"] == 1).all()
        assert not failed["reward"].any()
        assert not failed["return_to_go"].any()


def test_what_was_shown_is_told_in_the_space_of_the_tool_too(dataset: Path, tmp_path: Path) -> None:
    task = f"tool:{TASK}"
    run = train_offline("iql", dataset, tmp_path / "run", 2, config=replace(IQL, critic_hidden_sizes=(4,)), task=task)
    answer = evaluate_policy(run["checkpoint"], task, 1, seed=1)
    assert (answer["demonstrated_episodes"], answer["remark"]) == (1, "")


@pytest.mark.parametrize("task", [TASK, None])
def test_a_reward_is_one_number_a_step(task: str | None, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"pose_tool is \(7,\) a step; name a reward that is one number"):
        train_offline("iql", dataset, tmp_path / "run", 2, config=IQL, task=task, reward="pose_tool")
