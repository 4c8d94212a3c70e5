from __future__ import annotations

import torch

from robolearn.algorithms.optimizer import Adam, polyak_update


def test_it_is_torchs_adam() -> None:
    torch.manual_seed(0)
    ours = [torch.randn(4, 3, requires_grad=True), torch.randn(3, requires_grad=True)]
    theirs = [value.detach().clone().requires_grad_() for value in ours]
    reference = torch.optim.Adam(theirs, lr=0.05)
    adam = Adam(ours, 0.05)
    target = torch.randn(5, 3)
    value = torch.randn(5, 4)
    for _ in range(50):
        adam.step((value @ ours[0] + ours[1] - target).square().mean())
        reference.zero_grad()
        (value @ theirs[0] + theirs[1] - target).square().mean().backward()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_restored_one_goes_on_to_the_last_bit() -> None:
    def descend(values: list[torch.Tensor], adam: Adam) -> None:
        adam.step((values[0] - 3.0).square().sum())

    first = [torch.zeros(2, requires_grad=True)]
    adam = Adam(first, 0.1)
    for _ in range(3):
        descend(first, adam)
    second = [first[0].detach().clone().requires_grad_()]
    other = Adam(second, 9.0)
    other.load_state_dict({key: value.clone() for key, value in adam.state_dict().items()})
    descend(first, adam)
    descend(second, other)
    assert torch.equal(first[0], second[0])


def test_polyak_moves_by_its_share() -> None:
    target, source = torch.zeros(3), torch.ones(3)
    polyak_update([target], [source], 0.25)
    assert torch.equal(target, torch.full((3,), 0.25))
