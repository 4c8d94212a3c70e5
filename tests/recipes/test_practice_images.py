"""Practice judged by reward models of pictures, which are asked beside the control path."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from practice_runs import recorded_arrays, same, small_config

from robolearn.cli import run as command
from robolearn.datasets.store import DatasetSpec, EpisodeMeta
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.envs.practice_cell import Hands
from robolearn.envs.tool_space import DECISION_TICKS
from robolearn.envs.twin_cell import TwinCell
from robolearn.errors import DatasetError, RobolearnError, SpecError
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.finetune.cells import TASK_DONE, THINGS_BACK
from robolearn.recipes.finetune.collector import Collector
from robolearn.recipes.finetune.data import SURE_FRAMES, Recorded, recorded_sizes
from robolearn.recipes.finetune.dense import POTENTIAL, shaped, shaped_rewards
from robolearn.recipes.finetune.image_judge import (
    FILE,
    VALUES,
    check_learned_from,
    check_models,
    chosen_threshold,
    score_old,
)
from robolearn.recipes.finetune.judges import Frames, PersonJudge
from robolearn.recipes.finetune.learner import Learner
from robolearn.recipes.finetune.prepare import by_its_rule, make_judge, old_episodes
from robolearn.recipes.finetune.recipe import begin, old_data, practise, prepare
from robolearn.recipes.finetune.report import REPORT, write_morning_report
from robolearn.recipes.finetune.settings import FinetuneConfig
from robolearn.recipes.finetune.verdicts import Verdicts
from robolearn.recipes.rewards.settings import TrainingSettings
from robolearn.recipes.rewards.training import train_reward
from robolearn.rewards.features import EncoderConfig
from robolearn.rewards.fixture import save_untrained
from robolearn.rewards.saved import save_reward
from robolearn.rewards.success import SuccessConfig, SuccessReward
from robolearn.specs import InterfaceSpec, image_spec
from robolearn.tasks import make_task
from robolearn.teleop.intervention import InterventionConfig
from robolearn.teleop.scripted import ScriptedTeleop, ScriptedTeleopConfig
from robolearn.teleop.teleoperator import TeleopCommand, TeleopEvent
from robolearn.types import EpisodeOutcome

SMALL = TrainingSettings(encoder=EncoderConfig(channels=(8, 8)), steps=150, batch_size=16, held_out=0.25)


def numbered(number: int) -> Frames:
    return Frames(np.full((4, 1), number, np.float32), np.zeros(4, np.bool_))


class Echo:
    """Answers which decision it was asked about, once it may."""

    def __init__(self) -> None:
        self.may = threading.Event()

    def done(self, frames: Frames, task: int) -> np.ndarray:
        assert self.may.wait(20)
        return frames.states[:, 0]

    def potential(self, frames: Frames, task: int) -> np.ndarray:
        return -frames.states[:, 0]


@given(st.booleans(), st.lists(st.booleans(), max_size=12))
def test_every_verdict_is_heard_once_and_in_order(aside: bool, asks: list[bool]) -> None:
    echo = Echo()
    echo.may.set()
    verdicts, heard, asked = Verdicts(echo, aside, patient=True), [], 0
    verdicts.begin(numbered(7))
    for ask in asks:
        if ask:
            verdicts.ask(numbered(asked), 0)
            asked += 1
        heard += verdicts.hear()
        assert len(heard) == (max(asked - 1, 0) if aside else asked)
    heard += verdicts.hear(all_of_them=True)
    verdicts.close()
    assert [(n, int(verdict.done[0]), verdict.potential) for n, verdict in heard] == [(n, n, -n) for n in range(asked)]
    assert verdicts.start() == -7


def test_a_robot_does_not_wait_for_a_verdict() -> None:
    echo = Echo()
    verdicts = Verdicts(echo, aside=True, patient=False)
    for number in range(3):
        verdicts.ask(numbered(number), 0)
        assert verdicts.hear() == []  # though two are late
    echo.may.set()
    assert [n for n, _ in verdicts.hear(all_of_them=True)] == [0, 1, 2]
    verdicts.close()


def test_values_of_old_episodes_are_kept_whole_and_follow_a_dataset_that_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []

    def score(models: object, texts: object, paths: object) -> list[np.ndarray]:
        scored.append(count)
        return [np.full((steps, 2), number, np.float32) for number in range(count)]

    monkeypatch.setattr("robolearn.recipes.finetune.image_judge._scored", score)
    monkeypatch.setattr("robolearn.recipes.finetune.image_judge.load_models", lambda config: [])
    one = Recorded(np.zeros((4, 3), np.float32), np.zeros((4, 2), np.bool_), np.zeros((5, 5)), 0, 0, True, True)
    for count, steps in ((2, 4), (2, 4), (1, 4), (3, 4), (2, 5)):  # at last others are in the place of the first
        episodes = [replace(one, states=np.zeros((steps, 3), np.float32))] * count
        found = score_old(FinetuneConfig("push-v1"), tmp_path, [], episodes)
        assert {len(episode.values) for episode in found} == {steps}  # type: ignore[arg-type]
        assert [float(episode.values[0, 0]) for episode in found] == list(range(count))  # type: ignore[index]
    assert scored == [2, 3, 2]  # the demonstrations alone are the first of all
    assert [file.name for file in tmp_path.iterdir()] == [VALUES]  # nothing half written


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.6, 1.0]), st.integers(0, 3))
def test_failed_episodes_raise_the_threshold_as_long_as_most_successes_are_found(
    seed: int, near: float, misses: int
) -> None:
    """Of 30 failures some stand at `near` for as long as a decision takes, where successes end between .5 and 1."""
    rng = np.random.default_rng(seed)
    config = replace(small_config(1), reward="progress", reward_models=("folder",))
    consecutive = config.supervisor.consecutive

    def episode(success: bool | None, end: float, stays: int) -> Recorded:
        values = np.full((20, 2), -0.1, np.float32)
        values[20 - stays :] = end
        states = np.zeros((20, 3), np.float32)
        return Recorded(states, np.zeros((20, 2), np.bool_), np.zeros((21, 5)), 0, 0, success, True, values)

    successes = [episode(True, end, SURE_FRAMES) for end in rng.uniform(0.5, 1.0, 20)]
    missed = [episode(False, near, consecutive) for _ in range(misses)]
    short = [episode(False, 2.0, consecutive - 1) for _ in range(30 - misses)]  # no decision, however sure
    unknown = [episode(None, 2.0, consecutive)]
    without = chosen_threshold([*successes, *unknown], 0, consecutive)
    threshold, failed, called = chosen_threshold([*successes, *missed, *short, *unknown], 0, consecutive)
    assert without == (without[0], 0, 0)
    assert failed == 30
    found = np.mean([each.values[-1, 0] > threshold for each in successes])  # type: ignore[index]
    assert found >= 0.8
    assert called == (misses if near > threshold else 0)
    if misses and near < without[0]:
        assert threshold == without[0]
    elif misses and called:
        assert found == 0.8  # it stands where the next success would be lost


def test_a_classifier_of_pictures_keeps_its_own_threshold_and_rule(tmp_path: Path) -> None:
    for name, consecutive in (("one", 2), ("two", 4)):
        save_reward(SuccessReward(SuccessConfig(threshold=0.37, consecutive=consecutive)), tmp_path / name)
    folders = tuple(str(tmp_path / name) for name in ("one", "two"))
    config = FinetuneConfig("push-v1", reward_models=folders)
    assert check_models(config) == []
    assert by_its_rule(config).supervisor.consecutive == 4
    person = FinetuneConfig("push-v1", reward="person", teleop="keyboard")
    assert by_its_rule(person).supervisor.consecutive == 1
    assert by_its_rule(small_config(1)) == small_config(1)
    values = [np.full((20, 2), value, np.float32) for value in (0.3, 0.3, 0.4)]
    states, commands = np.zeros((20, 3), np.float32), np.zeros((21, 5))
    episodes = [
        Recorded(states, None, commands, 0, 0, success, True, v)
        for success, v in zip((True, False, False), values, strict=True)
    ]
    assert chosen_threshold(episodes, 0, 4, own=0.37) == (0.37, 2, 1)


def test_a_model_of_another_task_does_not_judge(tmp_path: Path) -> None:
    """Nor a classifier of a single task both: it knows nothing of sentences."""
    for task in ("push-v1", "push_back-v1", "pick_place-v1"):
        save_reward(SuccessReward(SuccessConfig()), tmp_path / task, {"train_tasks": [task]})
    save_reward(SuccessReward(SuccessConfig()), tmp_path / "unknown")
    save_reward(SuccessReward(SuccessConfig()), tmp_path / "unnamed", {"train_tasks": [""]})  # recorded without --task
    push, back, other, unknown, unnamed = (
        str(tmp_path / name) for name in ("push-v1", "push_back-v1", "pick_place-v1", "unknown", "unnamed")
    )

    def check(*models: str, reward: Literal["success", "progress", "vlm"] = "success") -> None:
        check_learned_from(FinetuneConfig("push-v1", reward, reward_models=models))

    for fitting in ((), (push, back), (unknown,), (unnamed,)):
        check(*fitting)
    check(push, reward="progress")
    check(str(tmp_path), reward="vlm")  # a folder of open_clip
    for models, wanted in (
        ((back, push), "learned push_back-v1, and came for push-v1; give a model each"),
        ((push,), "came for push_back-v1"),
        ((other,), "learned pick_place-v1, and came for push-v1"),
    ):
        with pytest.raises(SpecError, match=wanted):
            check(*models)
    with pytest.raises(SpecError, match="learned pick_place-v1, and came for push-v1"):
        check(other, reward="progress")


def test_demonstrations_of_two_sizes_are_refused_for_a_graph(tmp_path: Path) -> None:
    """Whose cameras have one size each; it is that of the demonstrations."""
    spec = make_task("push-v1").robot_spec
    for size in (8, 12):
        interface = InterfaceSpec({"image_front": image_spec(size, 2 * size)}, spec.action_spec, 20.0)
        with ZarrStore.create(tmp_path / f"{size}.zarr", DatasetSpec(spec, interface)).writer() as writer:
            writer.begin(EpisodeMeta("push-v1"))
            writer.append({"image_front": np.zeros((size, 2 * size, 3), np.uint8), "action": np.zeros(6)}, {})
            writer.commit(EpisodeOutcome(True, True, False))
    one, other = tmp_path / "8.zarr", tmp_path / "12.zarr"
    assert recorded_sizes([one, one], ["front"]) == {"front": (8, 16)}
    assert recorded_sizes([one, other], []) == {}
    with pytest.raises(DatasetError, match=r"12.zarr has pictures of 24 x 12 of camera front, .*8.zarr of 16 x 8"):
        recorded_sizes([one, other], ["front"])


def test_a_person_says_once_that_it_is_done_and_of_the_rest_it_is_not() -> None:
    judge, said = PersonJudge(), np.array([False, True, False, False])
    frames = replace(numbered(0), reached=np.ones(4, np.bool_))
    assert judge.done(replace(frames, said_done=said), 0).tolist() == said.tolist()
    assert not judge.done(frames, 0).any()


def test_nobody_says_what_is_done_where_a_model_judges_or_put_back_where_nobody_waits(tmp_path: Path) -> None:
    FinetuneConfig("push-v1").write(tmp_path)
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(SpecError, match="is judged by success, not by a person"):
        command(["finetune", "--task-done", str(tmp_path)])
    assert not (tmp_path / TASK_DONE).exists()
    with pytest.raises(SpecError, match="does not wait for anybody now"):
        command(["finetune", "--things-back", str(tmp_path)])
    assert not (tmp_path / THINGS_BACK).exists()
    for option, *value in (
        ["--graph", "robot"],
        ["--teleop", "node"],
        ["--namespace", "left"],
        ["--reward-model", "folder"],
        ["--reward", "true"],
        ["--seed", "3"],
        ["--compile"],
    ):
        with pytest.raises(RobolearnError, match=f"{option} does nothing for --resume, which .* begun; leave it out"):
            command(["finetune", "--resume", str(tmp_path), option, *value])


def test_who_interrupts_the_preparation_is_told_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*told: object) -> None:
        raise KeyboardInterrupt

    FinetuneConfig("push-v1").write(tmp_path)
    (tmp_path / "config.yaml").write_text("{}")
    monkeypatch.setattr("robolearn.recipes.finetune.recipe.prepare", interrupt)
    assert command(["finetune", "--resume", str(tmp_path)]) == 130
    assert f"go on with: robolearn finetune --resume {tmp_path}" in capsys.readouterr().err


def test_models_are_wanted_for_pictures_alone() -> None:
    with pytest.raises(SpecError, match="--reward-model"):
        FinetuneConfig("push-v1", reward="vlm")
    with pytest.raises(SpecError, match="nothing else wants any"):
        FinetuneConfig("push-v1", reward="true", reward_models=("folder",))


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """With pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for task in ("push-v1", "push_back-v1"):
        collect_episodes(CollectConfig(task, image_size=24), folder / f"{task}.zarr", 4, seed=0)
    return [folder / "push-v1.zarr", folder / "push_back-v1.zarr"]


@pytest.fixture(scope="module")
def progress(demos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "progress"
    train_reward("progress", demos[0], out, SMALL)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["progress", "vlm"])
def test_practice_by_pictures_runs_end_to_end(name: str, demos: list[Path], progress: Path, tmp_path: Path) -> None:
    folder = progress
    if name == "vlm":
        folder = tmp_path / "clip"
        save_untrained(folder)
    config = replace(small_config(24), reward=name, reward_models=(str(folder),), shaping=10.0 * (name == "progress"))
    runs = [tmp_path / "one", tmp_path / "two"]
    for run in runs:
        begin(config, [], demos, run)
        assert practise(run, processes=False)["steps"] == 24
    assert (runs[0] / FILE).exists()
    assert (runs[0] / VALUES).exists()
    assert same(*(recorded_arrays(run) for run in runs))  # a judge in a thread repeats itself, too
    store = ZarrStore.open(runs[0] / "replay.zarr")
    verdicts = np.concatenate([store.read(i)["verdict"][:-1] for i in range(len(store.episodes))])
    assert ((verdicts >= 0) & (verdicts <= 1)).all()
    if config.shaping:
        ends = [np.r_[store.read(i)[POTENTIAL][[0, -1]], store.episodes[i].length] for i in range(len(store.episodes))]
        assert all(((each[:2] >= 0) & (each[:2] <= 1)).all() for each in ends)
        assert len({float(each[1]) for each in ends}) > 1
        potentials = store.read(0)[POTENTIAL]
        learned = shaped_rewards(config, store, 0)[:-1]
        after = potentials[1:] * np.r_[np.ones(len(learned) - 1), not store.episodes[0].terminated]
        added = 10.0 * (config.learner.discount * after - potentials[:-1])
        np.testing.assert_allclose(learned, store.read(0)["reward"][:-1] + added, atol=1e-4)
        judge = make_judge(config, runs[0])
        ways = [
            judge.potential(Frames(old.states, old.reached, values=old.values[:, old.task]), old.task)
            for old in old_episodes(config, runs[0])
            if old.success
        ]
        assert np.median([way[0] for way in ways]) < 0.1  # from where demonstrations begin ...
        assert np.median([way[-1] for way in ways]) > 0.9  # ... to where they are done
    (runs[0] / "stopped.txt").unlink()
    more = replace(config, supervisor=replace(config.supervisor, max_steps=30))
    more.write(runs[0])
    assert practise(runs[0], processes=False)["steps"] >= 24  # and a run is gone on with from the values that were kept


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of pictures, untrained, near whose value its threshold lies."""
    out = tmp_path_factory.mktemp("model") / "success"
    config = SuccessConfig(encoder=EncoderConfig(image_height=24, image_width=24, channels=(8, 8)), consecutive=2)
    with torch.no_grad():
        value = float(SuccessReward(config).eval()({"front": torch.full((1, 24, 24, 3), 90).byte()}).sigmoid())
    save_reward(SuccessReward(replace(config, threshold=value)), out)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("things", ["seen", "unseen"])
def test_a_policy_of_pictures_practises_repeats_itself_and_goes_on(
    things: str, demos: list[Path], classifier: Path, tmp_path: Path
) -> None:
    config = replace(small_config(24), pretrained_by="nothing", image_size=16, evaluate_every=12, evaluation_episodes=1)
    if things == "unseen":
        config = replace(config, things="unseen", reward="success", reward_models=(str(classifier),))
    runs = [tmp_path / "one", tmp_path / "two"]
    for run, processes in zip(runs, (False, True), strict=True):
        begin(config, [], demos, run)
        assert practise(run, processes=processes)["steps"] == 24
    assert same(*(recorded_arrays(run) for run in runs))
    assert {rows["image_front"].shape[1:] for rows in recorded_arrays(runs[0])} == {(16, 16, 3)}
    made = FinetuneConfig.read(runs[0])
    assert made.supervisor.consecutive == (2 if things == "unseen" else 5)
    assert ("nobody watches" in (runs[0] / REPORT).read_text()) is (things == "unseen")
    replace(made, supervisor=replace(made.supervisor, max_steps=30)).write(runs[0])
    assert practise(runs[0], processes=False)["steps"] >= 30


@pytest.mark.slow
@pytest.mark.parametrize(("how", "tasks"), [("controls", 2), ("file", 1)])
def test_a_person_judges_what_nobody_sees(how: str, tasks: int, demos: list[Path], tmp_path: Path) -> None:
    """They say so in the third decision of the first attempt, again when it is over, and then no more."""
    run, says_at = (
        tmp_path / "run",
        (4 + 2 * DECISION_TICKS + 1, 4 + 3 * DECISION_TICKS + 1),
    )  # after a decision at home
    config = replace(small_config(24), pretrained_by="nothing", image_size=16, cameras="front")
    config = replace(config, supervisor=replace(config.supervisor, tasks=tasks))
    begin(replace(config, things="unseen", reward="person", teleop="keyboard"), [], demos[:tasks], run)
    prepare(run)
    config, task, ticks = FinetuneConfig.read(run), make_task("push-v1"), itertools.count()
    script = [TeleopCommand(events=(TeleopEvent.SUCCESS,) if tick in says_at else ()) for tick in range(20)]
    device = ScriptedTeleop(ScriptedTeleopConfig(tuple(script) if how == "controls" else ()), task.robot_spec)
    hands = Hands(device, np.asarray(task.robot_spec.max_speed) / task.control_hz, InterventionConfig())

    def sleep(seconds: float) -> None:
        if next(ticks) in says_at and how == "file":
            assert command(["finetune", "--task-done", str(run)]) == 0

    cell = TwinCell(task, config.space().cameras, hands, lambda: 0, sleep, unseen=True)
    learner, collector = Learner(config, run, old_data(config, run)), Collector(config, run, make=lambda cameras: cell)
    while collector.attempt():
        learner.learn(collector.store)
    collector.close()
    learner.close()
    store = ZarrStore.open(run / "replay.zarr")
    assert [info.success for info in store.episodes] == [True, False, False]
    assert [info.length - 1 for info in store.episodes] == [3, 12, 9]
    names = "push-v1 push_back-v1 push-v1" if tasks == 2 else "push-v1 push-v1 push-v1"
    assert " ".join(info.task for info in store.episodes) == names
    assert [info.tags["resets"] for info in store.episodes] == ([0, 0, 0] if tasks == 2 else [0, 1, 2])
    assert write_morning_report(run)["human_resets"] == (0 if tasks == 2 else 2)
    assert ("is asked after every attempt" in (run / REPORT).read_text()) is (tasks == 1)
    assert store.read(0)["reward"][:-1].tolist() == [-1.0, -1.0, 0.0]
    assert {info.tags["truth"] for info in store.episodes} == {False}  # the twin knows better, in the report


@pytest.mark.slow
def test_a_model_that_was_not_trusted_judges_no_robot_unless_forced(
    demos: list[Path], progress: Path, tmp_path: Path
) -> None:
    config = replace(small_config(24), reward="progress", reward_models=(str(progress),), graph="robot")
    with pytest.raises(RobolearnError, match=r"missed gates of its audit|was never audited"):
        begin(config, [], demos, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    small = tmp_path / "push.zarr"
    collect_episodes(CollectConfig("push-v1", image_size=16), small, 1, seed=0)
    with pytest.raises(SpecError, match="wants images of 24 x 24 pixels, 16 x 16 came"):
        begin(replace(config, graph=""), [], [*demos, small], tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (problem,) = check_models(replace(config, force_reward=True))
    assert "somebody forced it" in problem
    with pytest.raises(SpecError, match="came for --reward vlm"):
        check_models(replace(config, graph="", reward="vlm"))


finite = st.floats(-3.0, 3.0, width=32)


@given(st.lists(finite, min_size=2, max_size=12), st.booleans(), st.floats(0.1, 30.0))
def test_dense_rewards_add_what_no_policy_can_change(potentials: list[float], terminated: bool, scale: float) -> None:
    """Over an attempt they add up to what its two ends are worth, discounted, whatever lies between."""
    config = replace(small_config(1), reward="progress", reward_models=("folder",), shaping=scale)
    plain = np.full(len(potentials) - 1, -1.0, np.float32)
    dense = shaped(config, plain, np.array(potentials, np.float32), terminated)
    discounts = config.learner.discount ** np.arange(len(potentials))
    end = 0.0 if terminated else discounts[-1] * potentials[-1]
    added = float(discounts[:-1] @ (dense - plain))
    assert added == pytest.approx(scale * (end - potentials[0]), abs=1e-3)


def test_dense_rewards_want_a_model_of_pictures_and_one_discount() -> None:
    with pytest.raises(SpecError, match="--reward vlm or progress"):
        replace(small_config(1), shaping=1.0)
    config = replace(small_config(1), reward="progress", reward_models=("folder",), shaping=1.0)
    config = replace(config, calql=replace(config.calql, discount=0.9))
    with pytest.raises(SpecError, match=r"discounts by 0.97, the learner by 0.9"):
        shaped(config, np.zeros(1), np.zeros(2), False)
