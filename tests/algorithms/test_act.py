from __future__ import annotations

import torch
from test_flow import SPEC, STATISTICS, STEPS, demonstrated

from robolearn.algorithms.act import ACT, ACTConfig
from robolearn.policies.act import ACTPolicyConfig

SHAPE = ACTPolicyConfig(STEPS, width=16, heads=2, layers=1)


def test_the_latent_tells_which_way_and_costs_what_it_tells() -> None:
    act = ACT(SPEC, STATISTICS, ACTConfig(policy=SHAPE, kl_weight=0.0, steps=80, learning_rate=3e-3), seed=0)
    for i in range(80):
        act.update(demonstrated(32, i))
    batch = demonstrated(256, 999)
    noise = torch.zeros(256, SHAPE.latent_size)
    told = act.loss(batch, noise)[1]
    clone, divergence = told["loss"], told["divergence"]
    assert clone < 0.15  # in standard deviations of an action, where staying between costs 1
    assert divergence > 1.0


def test_the_divergence_equals_its_definition() -> None:
    act = ACT(SPEC, STATISTICS, ACTConfig(policy=SHAPE), seed=0)
    batch = demonstrated(32, 0)
    seen, target = act.policy().features(batch), act.policy().features.action_normalizer(batch["action"])
    mean, log_variance = act.policy().latent(seen[0], target, batch["action_mask"])
    own = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    wanted = torch.distributions.kl_divergence(own, prior).sum(-1).mean()
    torch.testing.assert_close(act.loss(batch, torch.zeros_like(mean))[1]["divergence"], wanted)


def test_how_large_all_weights_are_does_not_matter() -> None:
    act = ACT(SPEC, STATISTICS, ACTConfig(policy=SHAPE), seed=0)
    batch, noise = demonstrated(8, 0), torch.zeros(8, SHAPE.latent_size)
    few = {name: rows[:4] for name, rows in batch.items()}
    for weight in (1.0, 0.4):
        weighted = {**batch, "weight": torch.tensor([weight, 0.0]).repeat_interleave(4)}
        torch.testing.assert_close(act.loss(weighted, noise)[0], act.loss(few, noise[:4])[0])


def test_outside_of_training_the_latent_is_nothing() -> None:
    policy = ACT(SPEC, STATISTICS, ACTConfig(policy=SHAPE), seed=0).policy()
    batch = demonstrated(3, 0)
    here = policy.features.here(batch)
    chunk = policy.chunk(policy.features(batch), here, torch.zeros(3, SHAPE.latent_size))
    torch.testing.assert_close(policy.best(batch), policy.features.action_normalizer.inverse(chunk))
