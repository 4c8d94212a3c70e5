"""What a practice is begun with, and its parts alone: settings, persons, judges, processes that are started again."""

from __future__ import annotations

import io
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from practice_runs import demonstrations, small_config

from robolearn.algorithms import compile
from robolearn.algorithms.compute import Compute
from robolearn.cli import run as command
from robolearn.datasets.lock import WriterLock
from robolearn.datasets.store import CLOSING_ROW, EpisodeMeta
from robolearn.errors import DatasetBusyError, DatasetError, RobolearnError, SpecError, UnknownNameError
from robolearn.progress import ProgressBar
from robolearn.recipes.finetune import learner as learning
from robolearn.recipes.finetune import recipe as practising
from robolearn.recipes.finetune.collector import WAITS, open_replay
from robolearn.recipes.finetune.interventions import Interventions
from robolearn.recipes.finetune.judges import ErringJudge, Frames, TrueJudge
from robolearn.recipes.finetune.recipe import PRACTISING, Child, _Look, practise
from robolearn.recipes.finetune.settings import FinetuneConfig, InterventionsConfig
from robolearn.recipes.train import with_settings
from robolearn.recipes.train_request import read_settings
from robolearn.types import ActionSource, EpisodeOutcome


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return demonstrations(tmp_path_factory.mktemp("practice"))


def test_the_intervention_ratio_has_to_lie_above_the_discount() -> None:
    with pytest.raises(SpecError, match="above the discount"):
        FinetuneConfig("push-v1", interventions=InterventionsConfig(ratio=0.97, critic="run"))


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ({"evaluation_episodes": 0}, "evaluation_episodes is 0; expected at least 1"),
        ({"average": 0}, "average is 0; expected at least 1"),
        ({"lag": -1}, "lag is -1; expected at least 0"),
        ({"film_every": -1}, "film_every is -1; expected at least 0"),
        ({"false_positives": 1.5}, "false_positives is 1.5; expected a share from 0 to 1"),
    ],
)
def test_a_number_that_cannot_be_is_named_before_anything_begins(setting: dict[str, Any], wanted: str) -> None:
    with pytest.raises(SpecError, match=f"^{wanted}$"):
        FinetuneConfig("push-v1", **setting)


@pytest.mark.parametrize(("worth", "taken_over"), [(0.97 * 0.8, True), (0.99 * 0.8, False)])
def test_an_attentive_person_stops_who_idles_and_lets_be_who_gets_on(worth: float, taken_over: bool) -> None:
    config = InterventionsConfig(ratio=0.985, critic="run", attention=1.0, noise=0.0)
    person = Interventions(config, lambda seen, actions: np.where(actions[:, 0] == 1.0, 0.8, worth))
    person.begin(np.random.default_rng(0))
    expert = np.ones(4, np.float32)
    person.watch({}, np.zeros(4, np.float32), lambda: expert)
    assert person.acts is taken_over
    if taken_over:
        acted = [person.action(lambda: expert) for _ in range(config.steps)]
        assert (np.array(acted) == 1.0).all()
        assert not person.acts


def test_intervention_rewards_blame_a_takeover_and_the_loss_of_a_thing_but_no_expert(tmp_path: Path) -> None:
    config = small_config(4)
    store, space = open_replay(config, tmp_path), config.space()
    person, policy = ActionSource.INTERVENTION, ActionSource.POLICY
    seen = {name: np.zeros(field.shape, field.dtype) for name, field in space.interface.observation.items()}
    with store.writer() as writer:
        for success in (False, True):
            writer.begin(EpisodeMeta("push-v1", "", tags={CLOSING_ROW: True}))
            for step, source in enumerate((policy, person, policy, policy)):
                row = {"reward": np.float32(-30.0 if step == 3 else -1.0), "action_source": np.uint8(source)}
                row["action"] = np.zeros(space.interface.action.shape, np.float32)
                writer.append({**seen, **row}, dict.fromkeys([*seen, *row], step))
            writer.append(seen, dict.fromkeys(seen, 4))
            writer.commit(EpisodeOutcome(success, True, False))
    rewards = [learning.intervention_rewards(store, index)[:4].tolist() for index in range(2)]
    assert rewards == [[-1, 0, 0, -30], [-1, 0, 0, 0]]


def test_an_erring_judge_errs_at_its_rate_near_the_goal_alone() -> None:
    space = FinetuneConfig("push-v1").space()
    judge = ErringJudge(TrueJudge(), space, rate=0.1)
    rng = np.random.default_rng(0)

    def frames(progress: float) -> Frames:
        return Frames(rng.normal(size=(4, 14)).astype(np.float32), np.zeros(4, np.bool_), progress)

    near = [judge.done(frames(0.8), 0).all() for _ in range(2000)]
    assert 0.07 < np.mean(near) < 0.13
    assert not any(judge.done(frames(0.4), 0).any() for _ in range(200))


def test_what_does_not_fit_is_told_before_anything_is_written(tmp_path: Path, demos: list[Path]) -> None:
    out = tmp_path / "run"
    words = ["finetune", "--task", "pick_place-v1", "--demos", str(demos[0]), "--out", str(out)]
    with pytest.raises(DatasetError, match="push-v1"):
        command(words)
    with pytest.raises(SpecError, match="--demos"):
        command(["finetune", "--task", "push-v1"])
    with pytest.raises(UnknownNameError, match="push-v1"):
        command(["finetune", "--task", "pusch-v1"])
    with pytest.raises(SpecError, match="name its folder"):
        command([*words[:2], "push-v1", *words[3:], "--set", "interventions.ratio=0.99"])
    assert not out.exists()
    with pytest.raises(SpecError, match="write name=value"):
        with_settings(FinetuneConfig("push-v1"), read_settings(["seed"]))
    pairs = read_settings(["algorithm=iql", "pretrained_by=iql", "iql.expectile=0.8", "iql.batch_size=8"])
    config = with_settings(FinetuneConfig("push-v1"), pairs)  # one without the other would be refused
    assert (config.algorithm, config.iql.expectile, config.iql.batch_size) == ("iql", 0.8, 8)


@pytest.mark.parametrize("there", [True, False])
def test_a_run_keeps_its_precision_wherever_it_goes_on(
    there: bool, tmp_path: Path, demos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(compile, "has_bfloat16", lambda device: there)
    practising.begin(replace(small_config(1), compute=Compute(compile=True)), [], demos, run)
    monkeypatch.setattr(compile, "has_bfloat16", lambda device: not there)
    precision = "bfloat16" if there else "float32"
    assert FinetuneConfig.read(run).compute == Compute(compile=True, precision=precision)
    written = json.loads((run / "finetune.json").read_text())
    del written["compute"]["precision"]
    (run / "finetune.json").write_text(json.dumps(written))  # as it was before there was `auto`
    assert FinetuneConfig.read(run).compute == Compute(compile=True, precision="float32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_told_before_anything_is_written(tmp_path: Path, demos: list[Path]) -> None:
    config = replace(small_config(1), compute=Compute("cuda", compile=True))
    with pytest.raises(SpecError, match="device is cuda and torch sees no GPU"):
        practising.begin(config, [], demos, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    config.write(tmp_path / "moved")
    with pytest.raises(SpecError, match="device is cuda and torch sees no GPU"):
        practise(tmp_path / "moved")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (2, "the collector cannot begin: no camera"),
        (1, "died 5 times with no attempt between"),
        (0, "with no attempt between; .*: no camera"),
    ],
)
def test_what_keeps_a_process_from_its_work_is_told_and_one_that_dies_is_started_again(
    code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho no camera >&2\nexit {code}\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    child, said = Child(small_config(4), tmp_path, "collector"), ""

    def mend() -> None:
        nonlocal said
        while True:
            said += child.mend(time.monotonic(), min(said.count("started again"), 3))

    with pytest.raises(RobolearnError, match=told):
        mend()
    child.end()
    assert said.count("is started again; its last words: no camera") == (0 if code == 2 else 7)
    python.write_text("#!/bin/sh\nexit 1\n")
    silent = Child(small_config(4), tmp_path, "collector")
    while not (died := silent.mend(time.monotonic(), 0)):
        pass
    assert died.endswith("it said nothing")  # what stands in its log is of an earlier one
    silent.end()


def test_a_run_is_gone_on_with_by_one_process_at_a_time(tmp_path: Path) -> None:
    small_config(1).write(tmp_path)
    other = WriterLock(tmp_path, tmp_path / PRACTISING)
    with pytest.raises(DatasetBusyError, match="is being written to by process"):
        practise(tmp_path)
    other.release()


def test_what_is_waited_for_is_told_where_there_is_no_terminal_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr("robolearn.progress.time.monotonic", lambda: now_s)
    open_replay(small_config(1), tmp_path)
    told = io.StringIO()
    bar, look = ProgressBar("finetune", 9, "decision", told), _Look(tmp_path)
    for now_s, waits in ((100.0, ""), (101.0, "the puck is lost"), (102.0, ""), (120.0, ""), (140.0, "")):
        if waits:
            (tmp_path / WAITS).write_text(waits)
        look(bar.update, "the learner died" if now_s == 102.0 else "")
    assert [line.partition("/s, ")[2] for line in told.getvalue().splitlines()] == [
        "no attempt yet",
        "the learner died; it waits: the puck is lost; no attempt yet",
    ]
