"""What every policy class of POLICIES owes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robolearn.errors import SpecError
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.checkpoint import POLICIES, load_policy, save_policy
from robolearn.policies.gaussian import GaussianPolicy, GaussianPolicyConfig
from robolearn.policies.policy import Policy, TrainablePolicy
from robolearn.policies.robot_features import FeaturesConfig
from robolearn.serving.context import Context
from robolearn.specs import GOAL_PREFIX, INSTRUCTION, InterfaceSpec, RobotSpec, image_spec
from robolearn.types import Observation

ROBOT = RobotSpec("toy", ("pan", "lift", "grip"), (-1.0, -1.0, 0.0), (1.0, 1.0, 0.5), (1.0, 1.0, 1.0))
SPEC = InterfaceSpec(
    {"proprio": ROBOT.proprio_spec, "image_front": image_spec(32, 40), "pose_cube": ROBOT.action_spec},
    ROBOT.action_spec,
    20.0,
)
STATISTICS = {
    "proprio": FieldStatistics((0.0,) * 6, (0.5,) * 6, (-1.0,) * 6, (1.0,) * 6),
    "action": FieldStatistics((0.0,) * 3, (0.5,) * 3, (-1.0,) * 3, (1.0,) * 3),
}


def observation(policy: TrainablePolicy, seed: int = 0) -> Observation:
    """As the policy is shown it."""
    rng = np.random.default_rng(seed)
    context = Context(policy.spec, f"put it {seed}")
    for _ in range(policy.spec.observation_steps):
        proprio = rng.uniform(0, 0.5, 6).astype(np.float32)
        context.add({"proprio": proprio, "image_front": rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)})
    goals = (name for name in policy.spec.observation if name.startswith(GOAL_PREFIX))
    return {**context.shown(), **{name: rng.uniform(0, 0.5, 6).astype(np.float32) for name in goals}}


CHUNKED = sorted(kind for kind, made in POLICIES.items() if issubclass(made.config_type, FeaturesConfig))


@pytest.fixture(params=[*sorted(POLICIES), "mixture", *(f"{kind} of words and a history" for kind in CHUNKED)])
def policy(request: pytest.FixtureRequest) -> TrainablePolicy:
    if request.param == "mixture":
        return GaussianPolicy(SPEC, STATISTICS, GaussianPolicyConfig(distribution="mixture"), seed=3)
    policy_class = POLICIES[request.param.split()[0]]
    more = {"observation_steps": 3, "instruction": "words"} if " " in request.param else {}
    return policy_class(SPEC, STATISTICS, policy_class.config_type(**more), seed=3)


def test_it_is_a_policy(policy: TrainablePolicy) -> None:
    assert isinstance(policy, Policy)


def test_it_answers_with_a_chunk_inside_the_limits(policy: TrainablePolicy) -> None:
    policy.reset(0)
    chunk = policy.act(observation(policy), 7_000_000_000)
    assert chunk.actions.dtype == np.float32
    assert chunk.actions.shape == (len(chunk.actions), 3)
    assert chunk.stamp_ns == chunk.start_ns == 7_000_000_000
    assert chunk.period_ns == 50_000_000
    assert (chunk.actions >= np.float32(ROBOT.position_low)).all()
    assert (chunk.actions <= np.float32(ROBOT.position_high)).all()


def test_it_sees_nothing_privileged(policy: TrainablePolicy) -> None:
    assert set(policy.spec.observation) <= {"proprio", "goal_proprio", "image_front", INSTRUCTION}


def test_it_looks_at_all_it_asks_for(policy: TrainablePolicy) -> None:
    before = policy.act(observation(policy), 0).actions
    for name in policy.spec.observation:
        changed = observation(policy)
        changed[name] = observation(policy, 1)[name]
        assert not np.array_equal(policy.act(changed, 0).actions, before), name


def test_the_same_seed_repeats(policy: TrainablePolicy) -> None:
    policy.reset(5)
    first = policy.act(observation(policy), 0).actions
    policy.reset(5)
    np.testing.assert_array_equal(policy.act(observation(policy), 0).actions, first)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("proprio", np.full(6, np.nan, np.float32), "not finite"),
        ("proprio", np.zeros(5, np.float32), "shape"),
        ("image_front", np.zeros((32, 40, 3), np.float32), "dtype"),
        ("image_front", None, "needs 'image_front'"),
    ],
)
def test_it_refuses_a_wrong_observation(
    policy: TrainablePolicy, name: str, value: np.ndarray | None, words: str
) -> None:
    wrong = observation(policy)
    if name not in policy.spec.observation:
        pytest.skip(f"it does not look at {name}")
    if value is None:
        del wrong[name]
    else:
        steps = policy.spec.observation_steps
        wrong[name] = value if steps == 1 else np.stack([value] * steps)
    with pytest.raises(SpecError, match=words):
        policy.act(wrong, 0)


def test_a_checkpoint_of_it_acts_the_same(policy: TrainablePolicy, tmp_path: Path) -> None:
    save_policy(policy, tmp_path / "checkpoint")
    loaded = load_policy(tmp_path / "checkpoint", interface=SPEC)
    assert type(loaded) is type(policy)
    np.testing.assert_array_equal(
        loaded.act(observation(policy), 0).actions, policy.act(observation(policy), 0).actions
    )
