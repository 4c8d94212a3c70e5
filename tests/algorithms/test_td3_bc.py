from __future__ import annotations

import torch
from transitions import SIZE, SPEC, doubled, noise, settings, transitions

from robolearn.algorithms.td3_bc import TD3BC, TD3BCConfig


def make() -> TD3BC:
    return TD3BC(SPEC, {}, TD3BCConfig(**settings(distribution="deterministic")), seed=1)


def test_the_losses_equal_a_float64_reference() -> None:
    plain, precise = make(), make()
    for part in (precise.actor, precise.actor_target, precise.critic, precise.target):
        part.double()
    batch, eps = doubled(transitions()), noise(SIZE, 2).double()
    shaken = torch.tanh(precise.actor_target.network(batch["next_state"])) + (0.2 * eps).clamp(-0.5, 0.5)
    q = torch.minimum(*precise.target(batch["next_state"], shaken.clamp(-1, 1)))
    y = batch["reward"] + 0.9 * batch["bootstrap"] * q
    wanted = sum(((value - y) ** 2).mean() for value in precise.critic(batch["state"], batch["action"]))
    found = plain.critic_loss(transitions(), noise(SIZE, 2))[0]
    torch.testing.assert_close(found.double(), torch.as_tensor(wanted), rtol=1e-5, atol=1e-6)
    action = torch.tanh(precise.actor.network(batch["state"]))
    value = precise.critic(batch["state"], action)[0]
    wanted = -2.5 * value.mean() / value.abs().mean() + ((action - batch["action"]) ** 2).mean()
    torch.testing.assert_close(plain.actor_loss(transitions())[0].double(), wanted, rtol=1e-5, atol=1e-6)


def test_the_scale_of_the_values_does_not_matter_to_the_actor() -> None:
    def slope(scale: float) -> torch.Tensor:
        td3 = make()
        with torch.no_grad():
            last = td3.critic.ensemble.layers[-1]
            last.weight.mul_(scale)
            last.bias.mul_(scale)
        return torch.autograd.grad(td3.actor_loss(transitions())[0], td3.actor.network[0].weight)[0]

    torch.testing.assert_close(slope(1.0), slope(100.0), rtol=1e-4, atol=1e-7)


def test_actor_and_targets_move_every_other_step() -> None:
    td3, moved = make(), []
    for i in range(4):
        before = [p.clone() for p in (*td3.actor.parameters(), *td3.target.parameters())]
        td3.update(transitions(seed=i))
        after = (*td3.actor.parameters(), *td3.target.parameters())
        moved.append(any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)))
    assert moved == [True, False, True, False]
