from __future__ import annotations

import torch
from transitions import SIZE, SPEC, doubled, noise, settings, transitions

from robolearn.algorithms.rlpd import RLPD, RLPDConfig


def make(**changes: object) -> RLPD:
    return RLPD(SPEC, {}, RLPDConfig(**settings(), **{"utd": 4, **changes}), seed=1)


def test_the_critics_of_a_target_are_drawn_without_replacement_and_all_alike() -> None:
    members = make()._draw(20_000, 1, torch.Generator().manual_seed(0))[1]
    assert members.shape == (20_000, 2)
    assert (members[:, 0] != members[:, 1]).all()
    share = torch.bincount(members.flatten(), minlength=10) / members.numel()
    torch.testing.assert_close(share, torch.full((10,), 0.1), rtol=0.05, atol=0)


def test_only_the_drawn_critics_make_the_target() -> None:
    rlpd = make()
    members = torch.tensor([2, 7])
    before = rlpd.target_value(transitions(), noise(SIZE, 2), members)
    with torch.no_grad():
        for parameter in rlpd.target.parameters():
            parameter[[0, 1, 3, 4, 5, 6, 8, 9]] = 100.0
    torch.testing.assert_close(rlpd.target_value(transitions(), noise(SIZE, 2), members), before)


def test_the_losses_equal_a_float64_reference() -> None:
    rlpd, precise = make(), make()
    actor, critic, target = (part.double() for part in (precise.actor, precise.critic, precise.target))
    batch, eps, members = doubled(transitions()), noise(SIZE, 2).double(), torch.tensor([4, 1])
    action, log_prob = actor.draw(batch["next_state"], eps)
    values = target(batch["next_state"], action)
    soft = torch.minimum(values[4], values[1]) - log_prob  # the temperature is 1
    y = (batch["reward"] + 0.9 * batch["bootstrap"] * soft).detach()
    wanted = sum(((value - y) ** 2).mean() for value in critic(batch["state"], batch["action"]))
    found = rlpd.critic_loss(transitions(), noise(SIZE, 2), members)[0]
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)
    action, log_prob = actor.draw(batch["state"], eps)
    wanted = (log_prob - sum(critic(batch["state"], action)) / 10).mean()
    found = rlpd.actor_loss(transitions(), noise(SIZE, 2))[0]
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-6)


def test_the_actor_is_held_to_the_actions_of_prior_data_alone() -> None:
    free, held = make(), make(cloning_weight=0.5)
    batch, eps = transitions(), noise(SIZE, 2)
    prior = (torch.arange(SIZE) % 3 == 0).float()
    with torch.no_grad():
        away = held.actor.mode(held.actor.features(batch)) - held.actor.normalized_action(batch["action"])
    wanted = free.actor_loss(batch, eps)[0] + 0.5 * away.square().sum(-1)[prior == 1].mean()
    torch.testing.assert_close(held.actor_loss({**batch, "prior": prior}, eps)[0], wanted)
    nobodys = held.actor_loss({**batch, "prior": torch.zeros(SIZE)}, eps)[0]
    torch.testing.assert_close(nobodys, free.actor_loss(batch, eps)[0])
    everybodys = held.actor_loss({**batch, "prior": torch.ones(SIZE)}, eps)[0]
    torch.testing.assert_close(held.actor_loss(batch, eps)[0], everybodys)


def test_the_actor_moves_once_in_utd_updates() -> None:
    rlpd = make()
    moved = []
    for i in range(8):
        before = [value.clone() for value in rlpd.actor.state_dict().values()]
        rlpd.update(transitions(seed=i))
        moved.append(any(not torch.equal(a, b) for a, b in zip(before, rlpd.actor.state_dict().values(), strict=True)))
    assert moved == [False, False, False, True] * 2


def test_all_at_once_is_one_after_another() -> None:
    together, apart = make(), make()
    batches = [transitions(seed=i) for i in range(4)]
    rows = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    draws = together._draw(4, SIZE, torch.Generator().manual_seed(3))
    together._draw = apart._draw = lambda updates, size, generator: draws  # type: ignore[method-assign]
    together.update(rows)
    for i, batch in enumerate(batches):
        apart._draw = lambda updates, size, generator, i=i: (draws[0][i : i + 1], draws[1][i : i + 1])  # type: ignore[misc, method-assign]
        apart.update(batch)
    for name, value in together.actor.state_dict().items():
        assert torch.equal(value, apart.actor.state_dict()[name])
