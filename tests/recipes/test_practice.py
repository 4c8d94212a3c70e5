"""Reset-free practice end to end, with real processes that are really killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from practice_runs import demonstrations, kill, pids, prepared, recorded_arrays, same, small_config
from safetensors.torch import load_file

from robolearn.algorithms.algorithm import Batch, Metrics
from robolearn.algorithms.rlpd import RLPD, RLPDConfig
from robolearn.cli import run as command
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.practice_cell import Condition
from robolearn.envs.practice_world import PracticeWorld
from robolearn.envs.twin_cell import TwinCell
from robolearn.errors import DatasetError, RobolearnError, SpecError
from robolearn.policies.checkpoint import load_policy
from robolearn.recipes.finetune import evaluation
from robolearn.recipes.finetune import learner as learning
from robolearn.recipes.finetune import prepare as preparing
from robolearn.recipes.finetune import recipe as practising
from robolearn.recipes.finetune.collector import REPLAY, WAITS, WEIGHTS, Collector, told, weights_file
from robolearn.recipes.finetune.interventions import critics_of
from robolearn.recipes.finetune.judges import Frames, TrueJudge
from robolearn.recipes.finetune.prepare import (
    CLASSIFIER,
    check_successes,
    offline_buffer,
    old_episodes,
    prepare_judge,
    recorded,
)
from robolearn.recipes.finetune.recipe import practise
from robolearn.recipes.finetune.report import write_morning_report
from robolearn.recipes.finetune.settings import FinetuneConfig, InterventionsConfig
from robolearn.recipes.finetune.supervisor import Phase
from robolearn.recipes.finetune.worker import collect
from robolearn.recipes.run import RESUME_FILE, read_state
from robolearn.recipes.seeds import SELECTION_SEED
from robolearn.rewards.state_success import StateSuccessConfig
from robolearn.tasks import make_task
from robolearn.types import ActionSource

STEPS = 60
pytestmark = pytest.mark.xdist_group("practice")  # one process, which makes the run once that many tests look at


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("practice")


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to, symlinks=True))


@pytest.fixture(scope="module")
def demos(folder: Path) -> list[Path]:
    return demonstrations(folder)


@pytest.fixture(scope="module")
def ready(folder: Path, demos: list[Path]) -> Path:
    """A run that has not practised yet; to be copied."""
    return prepared(small_config(STEPS), demos, folder / "ready")


@pytest.fixture(scope="module")
def in_turns(folder: Path, ready: Path) -> Path:
    run = copied(ready, folder / "in_turns")
    practise(run, processes=False)
    return run


def test_every_decision_is_kept_with_its_verdict_and_the_truth(in_turns: Path) -> None:
    store = ZarrStore.open(in_turns / "replay.zarr")
    assert sum(info.length - 1 for info in store.episodes) == STEPS
    assert {info.task for info in store.episodes} == {"push-v1", "push_back-v1"}
    first = store.read(0)
    assert first["state"].shape[1:] == (14,)
    assert (np.abs(first["action"][:-1]) <= 1).all()
    assert (first["verdict"] == first["truth"]).all()
    assert (in_turns / "report.html").read_text().count("<svg") == 2


def test_the_classifier_is_judged_by_episodes_that_it_has_not_seen(
    folder: Path, demos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(small_config(STEPS), reward="success")
    push, back = recorded(config, [], demos)
    failed = [replace(push, states=push.states[:-each], success=False) for each in (20, 22, 24)]
    monkeypatch.setattr(preparing, "StateSuccessConfig", partial(StateSuccessConfig, steps=20))
    learned: list[int] = []
    original = preparing.labelled_frames
    monkeypatch.setattr(
        preparing,
        "labelled_frames",
        lambda episodes, space: (learned.extend(len(one.states) for one in episodes), original(episodes, space))[1],
    )
    run = folder / "judged"
    said = prepare_judge(config, run, [push, back, *failed])
    about = json.loads((run / CLASSIFIER / "config.json").read_text())
    assert (about["held_out"]["succeeded"], about["held_out"]["failed"]) == (1, 1)
    assert about["config"]["threshold"] == about["held_out"]["threshold"]
    assert "of 1 failed episodes are called done" in said
    assert len(learned) == 3  # a success and two failures
    assert "trained before" in prepare_judge(config, run, [])
    with pytest.raises(DatasetError, match="1 of 4 episodes succeeded; the success classifier learns from one and"):
        check_successes(replace(config, supervisor=replace(config.supervisor, tasks=1)), [push, *failed])
    for lacks in (config, replace(config, reward="person", teleop="keyboard", rlpd=RLPDConfig(cloning_weight=1.0))):
        check_successes(lacks, [push, push, back])
        with pytest.raises(DatasetError, match="no demonstration of push_back-v1 succeeded; collect some"):
            check_successes(lacks, [push, push, replace(back, success=False)])


@pytest.mark.timeout(400)
def test_a_killed_process_loses_nothing_and_leaves_nobody_behind(folder: Path, ready: Path, in_turns: Path) -> None:
    """The collector here, for it holds the dataset; the learner below, and everybody in the slow soak."""
    run = copied(ready, folder / "killed")
    small_config(STEPS).write(run)
    said: list[str] = []
    thread = threading.Thread(target=practise, args=(run, True, lambda done, text: said.append(text)))
    thread.start()
    while not (run / "replay.zarr" / "zarr.json").exists():  # which the collector makes
        assert thread.is_alive()
        time.sleep(0.02)
    (collector,) = pids(run, "collector")
    for number in (signal.SIGTERM, signal.SIGHUP):  # as systemd and terminals tell all, of whom the starter ends these
        os.kill(collector, number)
    time.sleep(0.1)
    assert pids(run, "collector") == [collector]
    kill(collector)
    thread.join(300)
    assert not thread.is_alive()
    assert pids(run) == []
    assert any("the collector died and is started again" in text for text in said)
    assert same(recorded_arrays(run), recorded_arrays(in_turns))


@pytest.mark.parametrize("after", [2, 4])
def test_a_learner_that_died_gives_out_the_same_policies_again(
    folder: Path, ready: Path, in_turns: Path, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "SAVE_EVERY", 3)
    config, run = small_config(STEPS), copied(ready, folder / f"learner_{after}")
    config.write(run)
    store = ZarrStore.open(in_turns / "replay.zarr")
    copied(in_turns / "replay.zarr", run / "replay.zarr")
    old = offline_buffer(config, run, old_episodes(config, run))
    died = learning.Learner(config, run, old)
    for _ in range(after):
        died.learn(store)
    died._run.__exit__(None, None, None)  # its files are closed, but nothing is saved
    latest = json.loads((run / "checkpoints" / "latest" / "config.json").read_text())
    saved = sum(info.num_actions for info in store.episodes[: after // 3 * 3])
    assert latest["provenance"]["step"] == (saved or 1)  # the policy of who died is kept: before, of who made it ready
    resumed = learning.Learner(config, run, old)
    assert resumed.learned == after // 3 * 3
    while resumed.learned < len(store.episodes):
        resumed.learn(store)
    resumed.close()
    last = weights_file(in_turns, len(store.episodes)).name
    kept = Path("checkpoints", "latest", "weights.safetensors")
    for name in (Path(WEIGHTS, last), kept):
        assert (run / name).read_bytes() == (in_turns / name).read_bytes()
    assert load_file(run / kept).keys() == load_file(run / WEIGHTS / last).keys()
    assert (run / kept).read_bytes() != (run / WEIGHTS / last).read_bytes()


def test_a_policy_that_is_handed_out_is_on_disk_for_good(
    folder: Path, ready: Path, in_turns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run, synced = small_config(STEPS), copied(ready, folder / "synced"), set[int]()
    config.write(run)
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.add(os.fstat(fd).st_ino), sync(fd)))
    learner = learning.Learner(config, run, offline_buffer(config, run, old_episodes(config, run)))
    learner.learn(ZarrStore.open(in_turns / "replay.zarr"))
    assert weights_file(run, 1).stat().st_ino in synced
    learner.close()


@pytest.mark.parametrize("of", ["metrics", "policy"])
def test_a_policy_that_has_diverged_is_not_handed_out_nor_kept(
    folder: Path, ready: Path, in_turns: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    config, run = small_config(STEPS), copied(ready, folder / f"diverged_{of}")
    config.write(run)
    learner = learning.Learner(config, run, offline_buffer(config, run, old_episodes(config, run)))

    def update(batch: Batch) -> Metrics:
        if of == "policy":
            next(iter(learner.algorithm.policy().state_dict().values())).fill_(np.nan)
        return {"critic_loss": torch.tensor(np.nan if of == "metrics" else 0.0)}

    monkeypatch.setattr(learner.algorithm, "update", update)
    with pytest.raises(RobolearnError, match="diverged"):
        learner.learn(ZarrStore.open(in_turns / "replay.zarr"))
    learner.close()
    assert not weights_file(run, 1).exists()
    assert not (run / RESUME_FILE).exists()


def test_the_policy_that_is_kept_is_the_running_mean_of_the_newest(folder: Path, ready: Path, in_turns: Path) -> None:
    config, run = replace(small_config(STEPS), average=4), copied(ready, folder / "average")
    config.write(run)
    store = ZarrStore.open(in_turns / "replay.zarr")
    learner = learning.Learner(config, run, offline_buffer(config, run, old_episodes(config, run)))
    expected = {k: v.clone() for k, v in learner.algorithm.policy().state_dict().items()}
    update = learner.algorithm.update

    def updated(batch: Batch) -> Metrics:
        metrics = update(batch)
        for name, value in learner.algorithm.policy().state_dict().items():
            expected[name] += (value - expected[name]) / 4
        return metrics

    learner.algorithm.update = updated
    learner.learn(store)
    learner.close()
    kept = load_policy(run / "checkpoints" / "latest").state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(kept[name], value)
    assert any(not torch.equal(kept[k], v) for k, v in learner.algorithm.policy().state_dict().items())


def test_learning_that_is_interrupted_leaves_what_was_known_before_the_attempt(
    folder: Path, ready: Path, in_turns: Path
) -> None:
    config, run = small_config(STEPS), copied(ready, folder / "interrupted")
    config.write(run)
    store, old, updates = ZarrStore.open(in_turns / "replay.zarr"), old_episodes(config, run), [1000]
    learner = learning.Learner(
        config, run, offline_buffer(config, run, old), lambda: learner.algorithm.gradient_step < updates[0]
    )
    learner.learn(store)
    known = {name: value.clone() for name, value in learner.algorithm.state_dict().items()}
    updates[0] = learner.algorithm.gradient_step + 3
    with pytest.raises(InterruptedError):
        learner.learn(store)
    learner.close()
    state, facts = read_state(run)
    assert facts["learned"] == 1
    assert known.keys() <= state.keys()
    for name, value in known.items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)
    assert (run / "checkpoints" / "latest").exists()


def test_all_processes_are_told_to_end_before_one_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner may take seconds to save, and a robot is to hold at once."""
    said: list[str] = []

    class Told:
        finished = False

        def __init__(self, config: FinetuneConfig, run: Path, role: str) -> None:
            self.role = role

        def leave(self) -> None:
            said.append(f"{self.role} leaves")

        def end(self) -> None:
            said.append(f"{self.role} ends")

    monkeypatch.setattr(practising, "Child", Told)
    interrupted = threading.Event()
    interrupted.set()
    practising._side_by_side(small_config(1), folder, lambda done, text: None, interrupted)
    assert said == ["learner leaves", "collector leaves", "learner ends", "collector ends"]


def test_what_is_best_is_chosen_by_starts_that_evaluate_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = list[int]()
    tick = SimpleNamespace(success=True, lost=False)
    world: Any = SimpleNamespace(reset=seeds.append, step=lambda action: tick)
    monkeypatch.setattr(evaluation, "act", lambda policy, world: None)
    assert evaluation.true_success(None, world, 3, 5) == 1.0  # type: ignore[arg-type]
    assert seeds == [SELECTION_SEED, SELECTION_SEED + 1, SELECTION_SEED + 2]


def test_what_the_practice_begins_with_is_the_best_until_another_does_as_well(
    folder: Path, ready: Path, in_turns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = replace(small_config(STEPS), evaluate_every=1, evaluation_episodes=1), copied(ready, folder / "best")
    config.write(run)
    rates = iter([0.5, 0.25, 0.5])
    monkeypatch.setattr(learning, "true_success", lambda *told: next(rates))
    store, best = ZarrStore.open(in_turns / "replay.zarr"), run / "checkpoints" / "best"
    learner = learning.Learner(config, run, offline_buffer(config, run, old_episodes(config, run)))
    kept = [best.resolve().name]
    for _ in range(2):
        learner.learn(store)
        kept.append(best.resolve().name)
    learner.close()
    assert kept == ["step_0000000", "step_0000000", f"step_{learner.steps:07d}"]


def test_a_person_who_takes_over_is_recorded_as_such(folder: Path, ready: Path, in_turns: Path) -> None:
    config = replace(small_config(24), rewards="intervention")
    person = InterventionsConfig(ratio=0.99, critic=str(in_turns), attention=0.5, steps=2)
    config = replace(config, interventions=person)
    run = copied(ready, folder / "interventions")
    config.write(run)
    practise(run, processes=False)
    store = ZarrStore.open(run / "replay.zarr")
    source = np.concatenate([store.read(i)["action_source"][:-1] for i in range(len(store.episodes))])
    assert set(source.tolist()) == {ActionSource.POLICY, ActionSource.INTERVENTION}
    assert sum(info.tags["human_steps"] for info in store.episodes) == (source == ActionSource.INTERVENTION).sum()
    with pytest.raises(SpecError, match="same task that was rewarded"):
        critics_of(run, config.space().interface)


def test_what_was_done_as_its_turn_came_is_told_apart(
    folder: Path, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a way back after an attempt that moved nothing away."""
    run = copied(ready, folder / "at_once")
    later = [True]  # whether the judge has seen a frame that is not done

    def done(judge: TrueJudge, frames: Frames, task: int) -> NDArray[np.bool_]:
        seen, later[0] = later[0], True
        return np.full(len(frames.states), seen)

    monkeypatch.setattr(TrueJudge, "done", done)
    collector = Collector(small_config(STEPS), run)
    for first in (True, False):
        later[0] = first
        assert collector.attempt()
    collector.close()
    episodes = ZarrStore.open(run / "replay.zarr").episodes
    assert [(info.success, info.tags["done_from_the_start"]) for info in episodes] == [(True, True), (True, False)]
    numbers = write_morning_report(run)
    assert numbers["done_from_the_start"] == 1
    report = (run / "report.html").read_text()
    assert "there was nothing to do: once" in report
    assert "No person was asked for, and none took over." in report
    assert "Evaluated:" not in report  # nothing was
    assert "Last attempts" not in report


def test_a_run_that_stops_between_two_attempts_says_why(folder: Path, ready: Path) -> None:
    config = small_config(STEPS)
    night = replace(config.supervisor, quiet_to_s=24 * 3600.0, max_hours=0.001)
    run = copied(ready, folder / "quiet")
    replace(config, supervisor=night).write(run)
    answer = practise(run, processes=False)
    assert answer["stopped"] == "0.001 hours were asked for, and are over"
    assert not answer["interrupted"]
    assert answer["attempts"] == 0
    assert (run / "report.html").exists()


def test_a_run_that_an_error_ends_says_so_in_its_report(
    folder: Path, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(ready, folder / "given_up")
    small_config(STEPS).write(run)

    def dies(*_: object) -> None:
        raise RobolearnError("the learner died 5 times")

    monkeypatch.setattr(RLPD, "update", dies)
    with pytest.raises(RobolearnError, match="the learner died"):
        practise(run, processes=False)
    report = (run / "report.html").read_text()
    assert "Stopped: the learner died 5 times." in report
    assert "attempt 1, push-v1" not in report
    assert "<b>1</b><span>attempts</span>" in report
    assert not (run / RESUME_FILE).exists()  # half of an attempt's updates are nothing to go on from


def test_the_end_of_a_run_is_told_in_the_words_of_its_report(
    folder: Path, ready: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(ready, folder / "told")
    small_config(STEPS).write(run)

    def over(run: Path, **_: object) -> dict[str, Any]:
        return {**write_morning_report(run), "stopped": "done", "interrupted": False, "checkpoint": run, "report": run}

    monkeypatch.setattr("robolearn.recipes.finetune.recipe.practise", over)
    assert command(["finetune", "--resume", str(run)]) == 0
    assert "true, last 50" in capsys.readouterr().out


@pytest.mark.parametrize("waits", ["pause", "weights"])
def test_who_is_to_stop_while_it_waits_does_so_at_once_and_closes_its_cell(
    folder: Path, ready: Path, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    config, run, left, did = small_config(STEPS), copied(ready, folder / f"left_{waits}"), threading.Event(), []
    always = replace(config.supervisor, quiet_to_s=24 * 3600.0)
    config = replace(config, supervisor=always) if waits == "pause" else replace(config, lag=0)
    config.write(run)
    monkeypatch.setattr(FinetuneConfig, "real", True)  # of a robot, which is held meanwhile; nobody learns here
    hold, close = PracticeWorld.hold, TwinCell.close

    def held(world: PracticeWorld) -> None:
        did.append("held")
        hold(world)
        if len(did) > 2:
            assert (run / WAITS).exists() is (waits == "pause")
            left.set()

    def closed(cell: TwinCell) -> None:
        did.append("closed")
        close(cell)

    monkeypatch.setattr(PracticeWorld, "hold", held)
    monkeypatch.setattr(TwinCell, "close", closed)
    with pytest.raises(SystemExit):
        collect(config, run, left, lambda cameras: TwinCell(make_task(config.task)))
    assert did == ["held", "held", "held", "closed"]
    assert not (run / WAITS).exists()
    assert len(ZarrStore.open(run / REPLAY).episodes) == (waits == "weights")


def test_who_is_started_again_while_a_person_reaches_in_moves_nothing(
    folder: Path, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor asks again for what they have done."""
    config, run, back = small_config(STEPS), copied(ready, folder / "reaches_in"), [False]
    config = replace(config, teleop="gamepad", supervisor=replace(config.supervisor, max_recoveries=0))
    config.write(run)
    monkeypatch.setattr(FinetuneConfig, "real", True)
    monkeypatch.setattr(PracticeWorld, "lost", lambda world: "" if back[0] else "the puck is out of reach")

    def put_back(cell: TwinCell, seed: int) -> bool:
        assert told(run, WAITS) == (
            "the puck is out of reach; once it is right: the key of a success (Enter on a keyboard), or: robolearn "
            f"finetune --things-back {run}"
        )
        if not back[0]:
            raise RuntimeError("the process dies while it waits")
        return True

    def begin(world: PracticeWorld, index: int, rng: np.random.Generator) -> None:
        raise RuntimeError("the process dies in the attempt that follows")

    monkeypatch.setattr(TwinCell, "put_back", put_back)
    monkeypatch.setattr(PracticeWorld, "begin", begin)

    def dies(phase: Phase) -> None:
        collector = Collector(config, run, make=lambda cameras: TwinCell(make_task(config.task)))
        assert collector.supervisor.phase is phase
        with pytest.raises(RuntimeError, match="the process dies"):
            collector.attempt()
        collector.close()

    dies(Phase.HOME)
    homes: list[int] = []
    go_home = PracticeWorld.go_home
    monkeypatch.setattr(PracticeWorld, "go_home", lambda world: homes.append(1) or go_home(world))
    dies(Phase.WAIT)
    assert homes == []
    back[0] = True
    dies(Phase.WAIT)
    dies(Phase.HOME)
    assert json.loads((run / "state" / "world_0.json").read_text())["supervisor"]["resets"] == 1


def test_a_policy_that_is_many_attempts_behind_is_still_there(folder: Path, ready: Path) -> None:
    config, run = replace(small_config(STEPS), lag=5), copied(ready, folder / "behind")
    config = replace(config, supervisor=replace(config.supervisor, max_attempt_steps=4))
    config.write(run)
    assert practise(run, processes=False)["attempts"] >= 12
    assert ZarrStore.open(run / REPLAY).episodes[-1].tags["learned"] >= 6


def test_a_stop_outlives_an_attempt_that_cannot_be_written(
    folder: Path, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = small_config(STEPS), copied(ready, folder / "stopped")
    config.write(run)
    collector = Collector(config, run)

    def condition(cell: TwinCell) -> Condition:
        return Condition(fault="emergency stop" if collector.supervisor.steps else "")

    def disk_is_full(*_: object) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(TwinCell, "condition", condition)
        broken.setattr(Collector, "_commit", disk_is_full)
        with pytest.raises(OSError, match="No space"):
            collector.attempt()
    collector.close()
    again = Collector(config, run)  # as a process that is started again
    assert not again.attempt()
    assert again.stopped == "emergency stop"
    again.close()


def test_who_starts_a_stopped_run_again_goes_on(folder: Path, ready: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, looks = copied(ready, folder / "goes_on"), []
    small_config(6).write(run)

    def condition(cell: TwinCell) -> Condition:
        looks.append(0)
        return Condition(fault="emergency stop" if len(looks) > 9 else "")

    collector = Collector(small_config(6), run)
    with monkeypatch.context() as broken:
        broken.setattr(TwinCell, "condition", condition)
        assert collector.attempt()  # that was in the middle of it
    assert not collector.attempt()
    assert collector.stopped == "emergency stop"
    collector.close()
    answer = practise(run, processes=False)
    assert answer["stopped"] == "6 steps were asked for, and are done"
    assert answer["attempts"] > 1


def test_what_was_done_before_the_robot_went_away_is_in_no_attempt(
    folder: Path, ready: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, looks = copied(ready, folder / "away"), []
    small_config(6).write(run)
    waited: list[bool] = []

    def condition(cell: TwinCell) -> Condition:
        looks.append(0)
        waited.append((run / WAITS).exists())
        return Condition(away="for the robot" if 9 < len(looks) < 13 else "")

    monkeypatch.setattr(TwinCell, "condition", condition)
    assert practise(run, processes=False)["stopped"] == "6 steps were asked for, and are done"
    store = ZarrStore.open(run / REPLAY)
    assert sum(info.num_actions for info in store.episodes) == 6
    assert {info.tags["end"] for info in store.episodes} <= {"timeout", "success"}
    assert waited.count(True) == 3
