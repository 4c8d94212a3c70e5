from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from robolearn import cli
from robolearn.envs.gym_env import GymVectorEnv
from robolearn.envs.robot_env import RobotEnv
from robolearn.envs.stochastic import STORI, Stochasticity
from robolearn.errors import CheckpointError, SpecError, UnknownNameError
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.checkpoint import load_policy, save_policy
from robolearn.policies.chunking import ChunkPolicy, ChunkPolicyConfig
from robolearn.policies.gaussian import GaussianPolicy, GaussianPolicyConfig
from robolearn.policies.hierarchical import HierarchicalPolicy, HierarchicalPolicyConfig
from robolearn.policies.scripted import ScriptedPolicy
from robolearn.recipes.collect import CollectConfig, collect_episodes
from robolearn.recipes.environments import REWARDS, make_environments
from robolearn.recipes.evaluate import evaluate_policy
from robolearn.recipes.judge import judge
from robolearn.runs import wilson_interval
from robolearn.serving.server import PolicyServer
from robolearn.specs import POSE_SPEC, InterfaceSpec, image_spec
from robolearn.tasks import make_task
from robolearn.twin.randomize import Randomization
from robolearn.types import ActionChunk, Observation

TASK = make_task("pick_place-v1")
ROBOT = TASK.robot_spec
SPEC = InterfaceSpec(
    {"proprio": ROBOT.proprio_spec, "image_front": image_spec(16, 16)}, ROBOT.action_spec, TASK.control_hz
)
WIDE = FieldStatistics((0.0,) * 12, (1.0,) * 12, (-1.0,) * 12, (1.0,) * 12)


def untrained(spec: InterfaceSpec = SPEC) -> ChunkPolicy:
    config = ChunkPolicyConfig(encoder_channels=(4, 4), hidden_sizes=(8,))
    return ChunkPolicy(spec, {"proprio": WIDE, "action": WIDE.select(range(6))}, config)


def test_the_expert_succeeds_and_is_filmed(tmp_path: Path) -> None:
    reports: list[tuple[int, str]] = []
    answer = evaluate_policy(
        "scripted", TASK.id, 2, video=tmp_path / "e.mp4", progress=lambda *report: reports.append(report)
    )
    assert answer["success_rate"] == 1.0
    assert answer["episodes"] == len(answer["outcomes"]) == 2
    assert answer["return_mean"] > 0
    assert reports == [(1, "1 succeeded"), (2, "2 succeeded")]
    assert json.loads(json.dumps(answer))["task"] == TASK.id
    with av.open(str(tmp_path / "e.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == answer["outcomes"][0]["steps"]


def test_an_untrained_policy_fails_and_the_demonstrated_seeds_are_counted(tmp_path: Path) -> None:
    save_policy(untrained(), tmp_path / "c", {"episode_seeds": [7]})
    answer = evaluate_policy(tmp_path / "c", TASK.id, 1, seed=7)
    assert answer["success_rate"] == 0.0
    assert answer["mean_episode_steps"] == TASK.max_steps
    assert answer["demonstrated_episodes"] == 1
    assert answer == evaluate_policy(tmp_path / "c", TASK.id, 1, seed=7)  # a seed fixes everything


def test_a_policy_that_answers_nan_moves_nothing(tmp_path: Path) -> None:
    policy = untrained()
    with torch.no_grad():
        for parameter in policy.head.parameters():
            parameter.fill_(torch.nan)
    save_policy(policy, tmp_path / "c")
    (outcome,) = evaluate_policy(tmp_path / "c", TASK.id, 1)["outcomes"]
    assert not outcome["success"]
    assert outcome["held_steps"] == outcome["steps"]
    assert "the policy's action 0 is not finite" in outcome["reason"]


def test_a_server_that_fails_once_costs_a_tick_and_not_the_evaluation(tmp_path: Path) -> None:
    class Faulty(ScriptedPolicy):
        def reset(self, seed: int = 0) -> None:
            self.asked = 0
            super().reset(seed)

        def act(self, observation: Observation, stamp_ns: int) -> ActionChunk:
            self.asked += 1
            if self.asked == 2:
                raise RuntimeError("out of memory")
            return super().act(observation, stamp_ns)

    server = PolicyServer("faulty", lambda: Faulty("reach-v1"), "127.0.0.1", 0)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        rows = evaluate_policy(server.address, "reach-v1", 1)["outcomes"]
        rows += collect_episodes(CollectConfig("reach-v1", server.address, image_size=0), tmp_path / "d.zarr", 1)
    finally:
        server.close()
        thread.join()
    for row in rows:
        assert (row["success"], row["held_steps"]) == (True, 1)
        assert row["reason"].endswith("RuntimeError: out of memory")


def test_a_policy_of_vectors_meets_other_engines_and_disturbances(tmp_path: Path) -> None:
    spec = make_environments("reach-v1", 1).interface
    config = GaussianPolicyConfig(hidden_sizes=(8,), privileged=True)
    save_policy(GaussianPolicy(spec, {}, config), tmp_path / "c")

    def returns(**world: Any) -> list[float]:
        answer = evaluate_policy(tmp_path / "c", "reach-v1", 2, **world)
        assert [row["seed"] for row in answer["outcomes"]] == [1_000_000, 1_000_001]
        return [row["return"] for row in answer["outcomes"]]

    plain = returns()
    assert returns(stochasticity=Stochasticity(event_speed_m_s=0.1)) == plain  # one by one, but nothing happens
    assert returns(randomization=Randomization()) != plain
    drifting = returns(stochasticity=STORI["drift"])
    assert drifting != plain
    assert drifting == returns(stochasticity=STORI["drift"])
    with pytest.raises(SpecError, match="has its own world"):
        make_environments("gym:Pendulum-v1", 1, engine="bullet")
    pytest.importorskip("pybullet")
    assert returns(engine="bullet") != plain


def test_a_policy_that_learned_from_joint_positions_commands_them(tmp_path: Path) -> None:
    """One of vectors, too, as offline reinforcement learning from a robot's demonstrations makes it."""
    with contextlib.closing(RobotEnv("reach-v1", {}, privileged=True)) as env:
        spec = env.interface
    half = FieldStatistics((0.0,) * 6, (0.5,) * 6, (-1.0,) * 6, (1.0,) * 6)
    policy = GaussianPolicy(spec, {"action": half}, GaussianPolicyConfig(hidden_sizes=(8,), privileged=True))
    save_policy(policy, tmp_path / "position")
    (row,) = evaluate_policy(tmp_path / "position", "reach-v1", 1)["outcomes"]
    assert "rad, a jump of" in row["reason"]  # of a joint, by the middle that an untrained one goes to
    with pytest.raises(SpecError, match="commands the joints; judge it on reach-v1, not in the tool's space"):
        evaluate_policy(tmp_path / "position", "tool:reach-v1", 1)


def test_what_cannot_be_evaluated(tmp_path: Path) -> None:
    save_policy(untrained(replace(SPEC, control_hz=50.0)), tmp_path / "fast")
    with pytest.raises(SpecError, match="50 Hz"):
        evaluate_policy(tmp_path / "fast", TASK.id, 1)
    with pytest.raises(SpecError, match="device is 'tpu'"):
        cli.run(["evaluate", str(tmp_path / "fast"), "--task", TASK.id, "--device", "tpu"])
    with pytest.raises(UnknownNameError, match="did you mean pick_place-v1"):
        evaluate_policy("scripted", "pick_place", 1)
    save_policy(untrained(), tmp_path / "wave", {"tasks": ["wave"]})
    with pytest.raises(SpecError, match=r"wave is no task of the twin.* robolearn launch system cell:=CELL task:=wave"):
        evaluate_policy(tmp_path / "wave", "wave", 1)
    with pytest.raises(UnknownNameError, match="unknown task 'nod'"):
        evaluate_policy(tmp_path / "wave", "nod", 1)
    with pytest.raises(CheckpointError, match="does not exist"):
        evaluate_policy(tmp_path / "none", TASK.id, 1)
    with pytest.raises(SpecError, match="at least 1"):
        evaluate_policy("scripted", TASK.id, 0)
    with pytest.raises(SpecError, match="judge it on push-v1, not in the tool's space"):
        evaluate_policy("scripted", "tool:push-v1", 1)


@given(episodes=st.integers(1, 10_000), share=st.floats(0, 1))
def test_the_interval_holds_the_rate_and_narrows(episodes: int, share: float) -> None:
    successes = round(share * episodes)
    low, high = wilson_interval(successes, episodes)
    assert 0 <= low <= successes / episodes + 1e-12
    assert successes / episodes - 1e-12 <= high <= 1
    wider = wilson_interval(successes, episodes), wilson_interval(4 * successes, 4 * episodes)
    assert wider[1][1] - wider[1][0] < high - low


def test_the_interval_of_the_textbook() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson_interval(0, 20)[0] == pytest.approx(0, abs=1e-12)
    assert wilson_interval(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)


class Line(gymnasium.Env[Any, Any]):
    """A point on a line and a place to get to, another one in every episode."""

    observation_space = spaces.Box(-9, 9, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, told: bool = True) -> None:
        self.told = told

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at, self.goal = np.zeros(1, np.float32), np.random.uniform(-8, 8, 1)
        return self.at, {"goal": self.goal} if self.told else {}

    def step(self, action: Any) -> Any:
        self.at = self.at + action
        there = bool(abs(self.at - self.goal)[0] < 0.1)
        return self.at, float(there), there, False, {"success": float(there)}


gymnasium.register("test/Line-v0", Line, max_episode_steps=20)


def goal_policy(spec: InterfaceSpec, path: Path) -> Path:
    save_policy(HierarchicalPolicy(spec, {}, HierarchicalPolicyConfig((8,), privileged=True)), path)
    return path


def test_a_goal_is_shown_in_an_environment_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = "gym:test/Line-v0"
    checkpoint = goal_policy(make_environments(task, 1).interface, tmp_path / "c")
    lost = evaluate_policy(checkpoint, task, 12)
    assert lost["success_rate"] < 1.0
    monkeypatch.setattr(
        HierarchicalPolicy, "best", lambda self, seen: (seen["goal_state"] - seen["state"]).clamp(-1.0, 1.0)
    )
    found = evaluate_policy(checkpoint, task, 12)  # of more than stand side by side, at different times
    assert found["success_rate"] == 1.0
    assert found["outcomes"] == evaluate_policy(checkpoint, task, 12)["outcomes"]  # a seed fixes the goals too
    assert len({row["steps"] for row in found["outcomes"]}) > 3
    with pytest.raises(SpecError, match="the environment tells none"):
        judge(load_policy(checkpoint), GymVectorEnv(task, 2, settings={"told": False}), 2, 0, REWARDS["task"])


def test_a_goal_in_the_twin_is_where_the_expert_gets_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task("reach-v1")
    poses = {f"pose_{body}": POSE_SPEC for body in task.bodies}
    spec = InterfaceSpec({"proprio": ROBOT.proprio_spec, **poses}, ROBOT.action_spec, task.control_hz)
    checkpoint = goal_policy(spec, tmp_path / "c")
    assert evaluate_policy(checkpoint, task.id, 4)["success_rate"] == 0.0
    monkeypatch.setattr(
        HierarchicalPolicy,
        "act",
        lambda self, seen, stamp_ns: ActionChunk(seen["goal_proprio"][None, :6], stamp_ns, stamp_ns, 50_000_000),
    )
    assert evaluate_policy(checkpoint, task.id, 4)["success_rate"] >= 0.5  # joints sag, and some end just outside
