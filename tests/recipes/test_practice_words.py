"""Practice of a policy that is told its task by the words of its instruction."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from practice_runs import demonstrations, small_config

from robolearn.datasets.zarr_store import ZarrStore
from robolearn.policies.checkpoint import load_policy
from robolearn.policies.instruction import embed
from robolearn.recipes.finetune.recipe import begin, practise
from robolearn.serving.context import Context
from robolearn.tasks import make_task


def test_the_words_of_the_task_go_from_the_old_data_to_the_checkpoint(tmp_path: Path) -> None:
    config = replace(small_config(30), instruction="words", evaluate_every=24, evaluation_episodes=1)
    begin(config, [], demonstrations(tmp_path), tmp_path / "run")
    answer = practise(tmp_path / "run", processes=False)
    assert answer["steps"] == 30
    assert answer["checkpoint"] == tmp_path / "run" / "checkpoints" / "best"
    store = ZarrStore.open(tmp_path / "run" / "replay.zarr")
    words = {}
    for index, info in enumerate(store.episodes):
        words[info.task] = store.read(index)["instruction"]
        spec = store.spec.fields["instruction"]
        assert (words[info.task] == embed(make_task(info.task).instruction, spec)).all()
    assert set(words) == {"push-v1", "push_back-v1"}
    policy = load_policy(answer["checkpoint"])  # all that a server has
    assert policy.spec.observation["instruction"].unit == "words"
    assert set(policy.statistics) == {"state"}
    seen = {"state": store.read(0)["state"][0]}
    actions = []
    for text in ("push the blue puck onto the orange mark", "push it back to the middle, off the mark"):
        context = Context(policy.spec, text)
        context.add(seen)
        actions.append(policy.act(context.shown(), 0).actions)
    assert np.abs(actions[0] - actions[1]).max() > 1e-4
