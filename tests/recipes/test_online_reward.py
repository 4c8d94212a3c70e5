"""Policies learned online from what others say a state is worth: a vision model, or a written reward."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robolearn.algorithms.sac import SACConfig
from robolearn.cli import run
from robolearn.envs.humanoid import made_for_clip
from robolearn.errors import RobolearnError, SpecError
from robolearn.policies.checkpoint_config import read_config
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.rewards import online
from robolearn.recipes.rewards.journal import JOURNAL
from robolearn.recipes.rewards.online import SETTINGS, OnlineRewardConfig, learn_from, learn_from_model
from robolearn.recipes.rewards.write import RESULT_FILE, TrainingJob, task_text, train_candidate, write_reward
from robolearn.rewards.code.client import CannedClient
from robolearn.rewards.code.loop import WritingConfig
from robolearn.rewards.code.sandbox import SandboxConfig
from robolearn.rewards.features import EncoderConfig
from robolearn.rewards.matching import MatchingConfig, MatchingReward
from robolearn.rewards.preference import PreferenceConfig, PreferenceReward
from robolearn.rewards.reward_model import Episodes, RewardOutput
from robolearn.tasks.kinematics import SO101

TINY = OnlineRewardConfig(num_envs=2, episode_steps=5, random_rounds=1, updates=0.2, saves=1)


class Brightness:
    """Pays for bright pictures, and remembers what it was shown."""

    id, version, causal = "brightness", "0123456789ab", True
    kind = "reward"

    def __init__(self) -> None:
        self.seen: list[tuple[int, ...]] = []

    def score(self, episodes: Episodes) -> RewardOutput:
        images = episodes.images["front"]
        self.seen.append(tuple(images.shape))
        value = images.float().mean((2, 3, 4)) / 255.0
        return RewardOutput(value, torch.ones_like(value), {})


def settings(steps: int) -> SACConfig:
    return replace(SETTINGS, steps=steps, batch_size=8)


def test_whole_episodes_are_scored_together_and_written_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored: list[np.ndarray] = []
    original = online.Played.store

    def store(self, buffer, rewards):  # type: ignore[no-untyped-def]
        original(self, buffer, rewards)
        state = buffer.state_dict()
        stored.append(rewards)
        kept = state["reward"][state["acted"]]
        np.testing.assert_allclose(kept, np.concatenate([each.ravel() for each in stored]), rtol=1e-6)
        assert not state["terminated"].any()  # an episode ends by time alone

    monkeypatch.setattr(online.Played, "store", store)
    model = Brightness()
    answer = learn_from_model("point_up-v1", model, tmp_path / "run", settings(30), TINY)
    assert model.seen == [(2, 5, 96, 96, 3)] * 3
    assert (answer["steps"], answer["gradient_steps"], len(answer["reward_mean"])) == (30, 4, 3)
    provenance = read_config(Path(answer["checkpoint"]))["provenance"]
    assert provenance["reward"] == "brightness-0123456789ab"
    np.testing.assert_allclose([each.mean() for each in stored], answer["reward_mean"], rtol=1e-5)


def test_a_model_sees_all_its_cameras_at_its_size_and_the_arm(tmp_path: Path) -> None:
    encoder = EncoderConfig(image_height=24, image_width=24, channels=(4, 4))
    model = PreferenceReward(PreferenceConfig(cameras=("front", "wrist"), proprio_size=12, encoder=encoder))
    answer = learn_from_model("reach-v1", model, tmp_path / "run", settings(20), TINY)
    assert len(answer["reward_mean"]) == 2


def test_the_discount_follows_what_was_matched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MatchingReward(MatchingConfig())
    rounds = iter([[0, 0], [4, 4], [2, 2]])

    def score(episodes: Episodes) -> RewardOutput:
        value = torch.zeros(episodes.shape)
        followed = torch.tensor(next(rounds))[:, None].expand(episodes.shape)
        return RewardOutput(value, torch.ones_like(value), {"followed": followed})

    monkeypatch.setattr(model, "score", score)
    learn_from_model("point_up-v1", model, tmp_path / "run", settings(30), TINY)
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").read_text().splitlines()))
    discounts = [float(row["discount"]) for row in rows]
    assert discounts == pytest.approx([0.2**0.25, 0.2**0.25], abs=1e-4)  # what was mastered once counts


def test_an_action_lasts_a_decision_and_its_end_alone_is_seen(tmp_path: Path) -> None:
    played: list[online.Played] = []

    def judge(one: online.Played) -> np.ndarray:
        played.append(one)
        return np.zeros((2, len(one.actions)))

    config = replace(TINY, episode_steps=20, decision_steps=10)
    learn_from("point_up-v1", judge, "nothing", tmp_path / "run", settings(80), config, cameras={"front": (24, 32)})
    for one in played:
        assert one.images["front"].shape == (2, 2, 24, 32, 3)
        for before, action, after in zip(one.observations, one.actions, one.observations[1:], strict=False):
            step = np.array(SO101.max_speed) / 20.0
            wanted = before["command"] + 10 * step * action
            wanted = np.clip(wanted, SO101.position_low, SO101.position_high)
            np.testing.assert_allclose(after["command"], wanted, atol=1e-5)
    with pytest.raises(SpecError, match="20 steps are no whole decisions of 3; wanted is a multiple"):
        replace(config, decision_steps=3)
    with pytest.raises(SpecError, match="2 environments, episodes of 0 steps, decisions of 10; expected at least 1"):
        replace(config, episode_steps=0)
    with pytest.raises(SpecError, match="seed -1; expected at least 1 step and a seed of at least 0"):
        learn_from("point_up-v1", judge, "nothing", tmp_path / "other", settings(80), config, seed=-1)
    assert not (tmp_path / "other").exists()


def test_the_humanoid_is_shown_as_the_paper_shows_it_and_may_fall(tmp_path: Path) -> None:
    with contextlib.closing(made_for_clip("gym:Humanoid-v5", 1)) as envs:
        envs.reset(seed=[0])
        standing = envs.render()[0].astype(int)
        for _ in range(60):  # it falls within a second
            _, _, terminated, _, _ = envs.step(np.zeros((1, 17), np.float32))
            assert not terminated.any()
        lying = envs.render()[0].astype(int)
    assert standing.shape == (480, 480, 3)
    blue, red = standing[:100, :, 2].mean(), standing[:100, :, 0].mean()
    assert blue > red + 30  # a sky, in the place of darkness
    body = np.abs(standing - lying).sum(-1) > 60
    assert body[:240].any()  # the camera is near enough, and the body stood there before
    model, short = Brightness(), replace(TINY, num_envs=1, episode_steps=3)
    answer = learn_from_model("gym:Humanoid-v5", model, tmp_path / "run", settings(6), short)
    assert model.seen == [(1, 3, 480, 480, 3)] * 2
    assert answer["steps"] == 6


def test_what_is_no_reward_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    progress = Brightness()
    progress.kind = "potential"  # type: ignore[misc]
    with pytest.raises(SpecError, match="brightness says potential, not reward"):
        learn_from_model("point_up-v1", progress, tmp_path / "run", settings(30), TINY)
    with pytest.raises(SpecError, match=r"19 steps are too few for 1 \+ 1 rounds of 10, .*; give at least 20"):
        learn_from_model("point_up-v1", Brightness(), tmp_path / "run", settings(19), TINY)
    assert not (tmp_path / "run").exists()


def terms(**term: object) -> str:
    return "```json\n" + json.dumps({"terms": [{"kind": "distance", "weight": 1.0, "scale": 2.0, **term}]}) + "\n```"


ANSWERS = [
    ["no reward at all", terms(quantity="elbow"), terms(quantity="tool", target=[0.0, 0.0, 0.5])],
    [terms(quantity="tool", target=[0.1, 0.0, 0.4])],
]


def write(client: CannedClient, out: Path, steps: int = 20, tell: Callable[[str], None] = print) -> dict[str, Any]:
    config = WritingConfig(candidates=3, rounds=2)
    return write_reward("point_up-v1", client, out, config, settings(steps), TINY, judged_episodes=1, tell=tell)


def test_written_rewards_are_trained_in_processes_and_go_on_where_they_were_killed(tmp_path: Path) -> None:
    out, told = tmp_path / "written", list[str]()
    journal = out / JOURNAL
    process = multiprocessing.get_context("forkserver").Process(target=write, args=(CannedClient(ANSWERS), out))
    process.start()
    while process.is_alive() and not (journal.is_file() and b'"answers 2"' in journal.read_bytes()):
        time.sleep(0.01)
    process.kill()  # while the training of the second round begins
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [row["number"] for row in json.loads((out / RESULT_FILE).read_text())] == [3, 1, 2]
    (out / "run_004").mkdir(exist_ok=True)  # as one leaves it that is killed later,
    (out / "run_004" / "config.yaml").touch()
    with journal.open("ab") as file:
        file.write(b'{"what": "training 4", "as')  # or later still

    answer = write(CannedClient([]), out, tell=told.append)  # which has no answers left
    rows = json.loads((out / RESULT_FILE).read_text())
    metrics = {row["number"]: row["metric"] for row in rows}
    assert told == [f"{out}: goes on after 1 training", f"reward 4: metric {metrics[4]:.3f}"]
    assert (answer["candidates"], answer["failed"]) == (4, 2)
    assert sorted(metrics) == [1, 2, 3, 4]
    assert [bool(row["error"]) for row in rows] == [False, False, True, True]
    assert rows[0]["metric"] == max(metrics[3], metrics[4])
    fresh = evaluate_policy(answer["checkpoint"], "point_up-v1", 1)  # that none was chosen by
    assert answer["metric"] == fresh["success_rate"] + 1e-3 * fresh["return_mean"] / fresh["mean_episode_steps"]
    assert answer["metric"] != rows[0]["metric"]
    assert answer["reward"] == rows[0]["reward"]
    assert "the quantity 'elbow' is unknown" in rows[3]["error"]

    learner = settings(20)
    privileged = replace(learner, policy=replace(learner.policy, privileged=True))
    weights = Path("checkpoints/latest/weights.safetensors")
    for row in rows[:2]:  # in one process, and never interrupted: what comes out hangs on the job alone
        run = tmp_path / row["run"]
        job = TrainingJob(
            "point_up-v1", row["reward"], "parameters", SandboxConfig(), str(run), "", privileged, TINY, 0, 1
        )
        result = train_candidate(job)
        assert result["metric"] == row["metric"]
        assert len(result["traces"]["0_distance_tool"]) == 2
        assert (run / weights).read_bytes() == (out / row["run"] / weights).read_bytes()

    told.clear()
    assert write(CannedClient([]), out, tell=told.append) == answer  # there is nothing left to do
    assert told == [f"{out}: goes on after 2 trainings"]
    with pytest.raises(RobolearnError, match=r"written was begun with steps 20, not with 30; begin it again as it was"):
        write(CannedClient([]), out, 30)
    with pytest.raises(SpecError, match="more than 0 s"):
        write_reward("point_up-v1", CannedClient([]), tmp_path / "new", WritingConfig(), timeout_s=0.0)
    assert not (tmp_path / "new").exists()


def test_the_author_is_told_every_quantity_with_its_size() -> None:
    text = task_text("reach-v1")
    assert text.sizes == {"joint_position": 6, "joint_velocity": 6, "tool": 3, "target": 3, "action": 6}
    assert "[m]" in text.parameters["target"]


def test_commands_tell_what_is_missing_in_one_line(tmp_path: Path) -> None:
    for words, message in (
        (["reward", "write", "reach-v1", "--out", str(tmp_path / "x")], "no model is named for the endpoint"),
        (["reward", "online", "point_up-v1", "--alpha", "1", "--out", str(tmp_path / "x")], "without a baseline"),
    ):
        with pytest.raises(RobolearnError, match=message):
            run(words)
    assert not (tmp_path / "x").exists()
