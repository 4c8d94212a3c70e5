from __future__ import annotations

import numpy as np
import pytest
import torch

from robolearn.errors import SpecError
from robolearn.networks.normalizer import FieldStatistics
from robolearn.policies.chunking import ChunkPolicy, ChunkPolicyConfig
from robolearn.policies.robot_features import policy_spec
from robolearn.specs import ArraySpec, InterfaceSpec, RobotSpec, image_spec

ROBOT = RobotSpec("toy", ("pan", "grip"), (-1.0, 0.0), (1.0, 0.5), (1.0, 1.0))
SPEC = InterfaceSpec({"proprio": ROBOT.proprio_spec, "image_a": image_spec(16, 16)}, ROBOT.action_spec, 10.0)
STATISTICS = {
    "proprio": FieldStatistics((0.1,) * 4, (0.5,) * 4, (-1.0,) * 4, (1.0,) * 4),
    "action": FieldStatistics((0.2, 0.2), (0.5, 0.3), (-1.0, 0.0), (1.0, 0.5)),
}
OBSERVATION = {"proprio": np.float32([0.3, 0.2, 9.0, 9.0]), "image_a": np.zeros((16, 16, 3), np.uint8)}


def small(seed: int = 0, velocity: bool = False) -> ChunkPolicy:
    config = ChunkPolicyConfig(chunk_steps=5, velocity=velocity, encoder_channels=(4, 4), hidden_sizes=(8,))
    return ChunkPolicy(SPEC, STATISTICS, config, seed)


def test_a_silent_head_stays_where_the_robot_is() -> None:
    policy = small()
    for parameter in policy.head.parameters():
        torch.nn.init.zeros_(parameter)
    actions = policy.act(OBSERVATION, 0).actions
    np.testing.assert_allclose(actions, np.tile(np.float32([0.3, 0.2]), (5, 1)), atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_what_may_not_be_written_to_is_seen_without_a_warning() -> None:
    """As the picture of a message is."""
    image = np.zeros((16, 16, 3), np.uint8)
    image.flags.writeable = False
    small().act({**OBSERVATION, "image_a": image}, 0)


def test_velocity_is_an_input_only_on_request() -> None:
    faster = {**OBSERVATION, "proprio": np.float32([0.3, 0.2, -4.0, 2.0])}
    for velocity in (False, True):
        policy = small(velocity=velocity)
        same = np.array_equal(policy.act(OBSERVATION, 0).actions, policy.act(faster, 0).actions)
        assert same is not velocity


def test_the_seed_fixes_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = small(1), small(1), small(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_joints_are_matched_by_name_not_by_place() -> None:
    proprio = ArraySpec((3,), names=("grip.position", "force", "pan.position"))
    spec = InterfaceSpec({"proprio": proprio}, ROBOT.action_spec, 10.0)
    statistics = {**STATISTICS, "proprio": FieldStatistics((0.0,) * 3, (1.0,) * 3, (0.0,) * 3, (1.0,) * 3)}
    policy = ChunkPolicy(spec, statistics, ChunkPolicyConfig(chunk_steps=1, hidden_sizes=(4,)))
    for parameter in policy.head.parameters():
        torch.nn.init.zeros_(parameter)
    actions = policy.act({"proprio": np.float32([0.4, 99.0, -0.7])}, 0).actions
    np.testing.assert_allclose(actions, [[-0.7, 0.4]], atol=1e-6)


def test_actions_that_are_no_position_begin_at_their_mean_and_see_all_but_velocities() -> None:
    proprio = ArraySpec((4,), names=("pan.position", "pan.velocity", "tool.x", "tool.z"))
    statistics = {**STATISTICS, "proprio": FieldStatistics((0.0,) * 4, (1.0,) * 4, (0.0,) * 4, (1.0,) * 4)}
    spec = InterfaceSpec({"proprio": proprio}, ROBOT.action_spec, 10.0)
    policy = ChunkPolicy(spec, statistics, ChunkPolicyConfig(chunk_steps=1, hidden_sizes=(4,)))
    seen = np.float32([0.4, 9.0, 0.1, 0.2])
    before = policy.act({"proprio": seen}, 0).actions
    assert np.array_equal(policy.act({"proprio": seen + np.float32([0, 1, 0, 0])}, 0).actions, before)
    assert not np.array_equal(policy.act({"proprio": seen + np.float32([0, 0, 0, 1])}, 0).actions, before)
    for parameter in policy.head.parameters():
        torch.nn.init.zeros_(parameter)
    np.testing.assert_allclose(policy.act({"proprio": seen}, 0).actions, [[0.4, 0.2]], atol=1e-6)


def test_a_spec_without_proprio_is_refused() -> None:
    with pytest.raises(SpecError, match="needs the field 'proprio'"):
        policy_spec(InterfaceSpec({"image_a": image_spec(16, 16)}, ROBOT.action_spec, 10.0), ChunkPolicyConfig())
