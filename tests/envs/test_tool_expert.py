"""Demonstrations by the expert in the space of the tool."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.tool_env import ToolEnv, tool_space
from robolearn.envs.tool_expert import ToolExpert
from robolearn.envs.tool_space import DECISION_TICKS
from robolearn.errors import RobolearnError, SpecError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.demonstrations import demonstrations
from robolearn.types import ActionSource

TASK = "peg_insert-v1"


def test_what_is_recorded_does_the_task_again_without_looking(tmp_path: Path) -> None:
    path = tmp_path / "demos.zarr"
    rows = collect_episodes(CollectConfig(task=f"tool:{TASK}", image_size=0), path, 2, seed=1)
    store = ZarrStore.open(path)
    assert [info.task for info in store.episodes] == [TASK, TASK]
    sources = np.concatenate([store.read(index, ["action_source"])["action_source"] for index in range(2)])
    assert set(sources.tolist()) == {ActionSource.SCRIPT, ActionSource.PERTURBATION}
    with contextlib.closing(ToolEnv(TASK)) as env:
        buffer, _ = demonstrations(ZarrStore.open(path), f"tool:{TASK}", env.interface, 0.9, 1)
        state = buffer.state_dict()  # type: ignore[attr-defined]
        first = 0
        for row, end in zip(rows, np.flatnonzero(~state["acted"]), strict=True):
            seen, info = env.reset(seed=row["seed"])
            for slot in range(first, end):
                places = [*range(4), *range(7, 10)]  # height, the command's lead, from the tool to the peg
                np.testing.assert_allclose(seen["state"][places], state["observation.state"][slot][places], atol=2e-3)
                seen, _, _, _, info = env.step(state["action"][slot])
            for _ in range(2):  # its success has to last, and ends in the middle of a decision
                if not info["success"]:
                    info = env.step(np.full_like(state["action"][0], np.nan))[-1]
            assert row["success"]
            assert info["success"]
            first = end + 1


def test_a_decision_asks_for_no_more_than_an_action_may() -> None:
    expert, space = ToolExpert(TASK, perturbation=0.9), tool_space(TASK)
    with contextlib.closing(ToolEnv(TASK)) as env:
        env.reset(seed=3)
        command = env._command
        for _ in range(12):
            facts = env._env.twin.observe(tuple(expert.spec.observation))
            chunk = expert.act(facts, 0)
            assert chunk.actions.shape == (DECISION_TICKS, 6)
            after = space.command_of(chunk.actions[-1].astype(np.float64))
            action = space.action_between(command, after, DECISION_TICKS)
            env.step(action)
            np.testing.assert_allclose(env._command[[0, 1, 2, 4]], after[[0, 1, 2, 4]], atol=1e-5)
            assert abs(env._command[3] - after[3]) < 0.01  # the wrist of SO-101 does not point down everywhere
            command = env._command


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="share of decisions"):
        ToolExpert(TASK, perturbation=1.0)
    for config in (CollectConfig(f"tool:{TASK}", manner="slow"), CollectConfig(f"tool:{TASK}", policy="nowhere")):
        with pytest.raises(RobolearnError, match="leave the prefix tool: away"):
            collect_episodes(config, tmp_path / "demos.zarr", 1)
    assert not (tmp_path / "demos.zarr").exists()
