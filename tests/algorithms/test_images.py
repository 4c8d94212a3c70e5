"""Learning from images by values: who improves the encoder, and that a policy learns to look."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from robolearn.algorithms.calql import CalQL
from robolearn.algorithms.cql import CQL
from robolearn.algorithms.iql import IQL
from robolearn.algorithms.rlpd import RLPD
from robolearn.algorithms.sac import SAC
from robolearn.algorithms.state_bc import StateBC
from robolearn.algorithms.td3_bc import TD3BC
from robolearn.errors import SpecError
from robolearn.networks.augmentation import shifted
from robolearn.policies.gaussian import GaussianPolicyConfig, vector_spec
from robolearn.specs import ArraySpec, InterfaceSpec, image_spec

SIDE = 16
SPEC = InterfaceSpec(
    {"state": ArraySpec((1,)), "image_a": image_spec(SIDE, SIDE)},
    ArraySpec((2,), low=(-1.0,) * 2, high=(1.0,) * 2),
    10.0,
)
POLICY = GaussianPolicyConfig(hidden_sizes=(32,), images=True, encoder_channels=(8, 8))


def batch(size: int, seed: int) -> dict[str, Tensor]:
    """A bright square stands somewhere; the reward is minus the distance of the action from where it stands."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(0, SIDE - 3, (size, 2), generator=generator)
    image = torch.full((size, SIDE, SIDE, 3), 40, dtype=torch.uint8)
    for i, (row, column) in enumerate(place.tolist()):
        image[i, row : row + 4, column : column + 4] = 230
    wanted = 2.0 * place.float() / (SIDE - 4) - 1.0
    action = torch.rand(size, 2, generator=generator) * 2 - 1
    return {
        "state": torch.zeros(size, 1),
        "next_state": torch.zeros(size, 1),
        "image_a": image,
        "next_image_a": image,
        "action": action,
        "reward": -4.0 * (action - wanted).square().sum(-1),
        "bootstrap": torch.zeros(size),
        "discount": torch.full((size,), 0.9),
        "return_to_go": torch.zeros(size),
        "wanted": wanted,
    }


def make(kind: Any, **changes: Any) -> Any:
    config = kind.config_type()
    policy = replace(POLICY, distribution=config.policy.distribution, log_std_low=config.policy.log_std_low)
    sizes = {} if kind is StateBC else {"critic_hidden_sizes": (32,)}
    return kind(SPEC, {}, replace(config, policy=policy, batch_size=32, **sizes, **changes), seed=0)


@pytest.mark.parametrize("kind", [SAC, RLPD, CQL, CalQL])
def test_the_critics_improve_the_encoder_and_the_actor_does_not(kind: Any) -> None:
    def moved(**changes: Any) -> bool:
        algorithm = make(kind, **({"utd": 1} if kind in (SAC, RLPD) else {}), max_shift_px=0, **changes)
        before = [parameter.detach().clone() for parameter in algorithm.actor.encoder_parameters()]
        assert before
        algorithm.update(batch(32, 0))
        after = algorithm.actor.encoder_parameters()
        return any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))

    assert moved(actor_learning_rate=0.0)
    assert not moved(critic_learning_rate=0.0)


@pytest.mark.parametrize("kind", [IQL, TD3BC, StateBC])
def test_who_has_one_rate_improves_it_too(kind: Any) -> None:
    algorithm = make(kind)
    encoder = {id(parameter) for parameter in algorithm.actor.encoder_parameters()}
    heads = set() if kind is StateBC else {id(parameter) for parameter in algorithm._actor_adam.parameters}
    before = [parameter.detach().clone() for parameter in algorithm.actor.encoder_parameters()]
    algorithm.update(batch(32, 0))
    assert any(not torch.equal(a, b) for a, b in zip(before, algorithm.actor.encoder_parameters(), strict=True))
    assert encoder
    assert not encoder & heads  # of the actor: one optimizer steps it


@pytest.mark.parametrize("kind", [IQL, StateBC])
def test_images_are_shifted_by_the_seed_and_the_step_alone(kind: Any) -> None:
    whole, first, second = make(kind, max_shift_px=3), make(kind, max_shift_px=3), make(kind, max_shift_px=3)
    still = make(kind, max_shift_px=0)
    for i in range(4):
        whole.update(batch(32, i))
        still.update(batch(32, i))
    for i in range(2):
        first.update(batch(32, i))
    second.load_state_dict(first.state_dict())
    for i in range(2, 4):
        second.update(batch(32, i))
    found, wanted, other = second.state_dict(), whole.state_dict(), still.state_dict()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert not all(torch.equal(other[name], value) for name, value in wanted.items())


@pytest.mark.slow
def test_iql_learns_to_look() -> None:
    iql = make(IQL, max_shift_px=0, learning_rate=3e-3, inverse_temperature=10.0, decay_steps=0)
    for i in range(1500):
        iql.update(batch(32, i))
    fresh = batch(64, 9999)
    error = (iql.policy().best(fresh) - fresh["wanted"]).abs().mean()
    assert error < 0.25, error  # without looking it is 0.5


@pytest.mark.slow
def test_a_policy_learns_to_look() -> None:
    rates = {"actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3, "initial_temperature": 0.1}
    sac = make(SAC, max_shift_px=0, **rates)
    for i in range(1000):
        sac.update(batch(32, i))
    fresh = batch(64, 9999)
    error = (sac.policy().best(fresh) - fresh["wanted"]).abs().mean()
    assert error < 0.2, error  # without looking it is 0.5


def test_observation_and_next_observation_are_shifted_and_nothing_else() -> None:
    rows = batch(8, 0)
    answer = shifted(rows, ("image_a",), 2, torch.Generator().manual_seed(0))
    assert {name for name in rows if not torch.equal(answer[name], rows[name])} == {"image_a", "next_image_a"}


def test_images_that_are_not_there_are_missed() -> None:
    bare = InterfaceSpec({"state": ArraySpec((1,))}, SPEC.action, 10.0)
    with pytest.raises(SpecError, match="to see images"):
        vector_spec(bare, images=True)
