"""Adam inside a compiled step, targets that follow, and a schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from robolearn.algorithms.parallel import averaged


class Adam:
    """Adam (Kingma and Ba 2015) as tensor operations on all parameters at once, so that a gradient step can be
    compiled with its optimizer in it. `learning_rate` is a tensor: filling it changes the rate of a compiled step."""

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.parameters = list(parameters)
        self.betas, self.epsilon = betas, epsilon
        device = self.parameters[0].device
        self.learning_rate = torch.tensor(learning_rate, device=device)
        self.count = torch.zeros((), device=device)
        self.mean = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]
        self.square = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]

    def step(self, loss: Tensor) -> None:
        """Descend the gradient of the loss."""
        self.apply(gradients_of(loss, self.parameters))

    def apply(self, gradients: tuple[Tensor, ...]) -> None:
        """Descend these gradients of the parameters."""
        first, second = self.betas
        with torch.no_grad():
            self.count += 1
            torch._foreach_lerp_(self.mean, gradients, 1.0 - first)
            torch._foreach_mul_(self.square, second)
            torch._foreach_addcmul_(self.square, gradients, gradients, 1.0 - second)
            scale = torch._foreach_sqrt(self.square)
            torch._foreach_div_(scale, torch.sqrt(self._correction(second)))
            torch._foreach_add_(scale, self.epsilon)
            change = torch._foreach_div(self.mean, scale)
            torch._foreach_mul_(change, -self.learning_rate / self._correction(first))
            torch._foreach_add_(self.parameters, change)

    def _correction(self, beta: float) -> Tensor:
        """1 - beta^count, to the last digit in float32."""
        return -torch.expm1(self.count * math.log(beta))

    def state_dict(self) -> dict[str, Tensor]:
        """`learning_rate`, `count`, and `mean.<i>` and `square.<i>` of every parameter."""
        moments = {f"mean.{i}": value for i, value in enumerate(self.mean)}
        moments |= {f"square.{i}": value for i, value in enumerate(self.square)}
        return {"learning_rate": self.learning_rate, "count": self.count, **moments}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Undo `state_dict`."""
        for name, value in self.state_dict().items():
            value.copy_(state[name])


def step_together(loss: Tensor, *optimizers: Adam) -> None:
    """Descend the gradient of one loss, each optimizer that of its own parameters."""
    gradients = gradients_of(loss, [parameter for each in optimizers for parameter in each.parameters])
    for each in optimizers:
        own, gradients = gradients[: len(each.parameters)], gradients[len(each.parameters) :]
        each.apply(own)


def gradients_of(loss: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of the loss by each parameter, the mean over all processes. What was computed in float32 is differentiated in
    float32, under autocast too, which would round the factors of those products as well."""
    with torch.autocast(loss.device.type, enabled=False):
        return averaged(torch.autograd.grad(loss, parameters))


def polyak_update(targets: Sequence[Tensor], sources: Sequence[Tensor], polyak: float) -> None:
    """Move every target a share `polyak` of the way to its source."""
    with torch.no_grad():
        torch._foreach_lerp_(list(targets), list(sources), polyak)


OVER_A_RUN = -1
"""Of `decay_steps`: as many as a run on a dataset has; in a task, none."""


def cosine_learning_rate(step: int, peak: float, warmup_steps: int, decay_steps: int) -> float:
    """Linear from 0 to `peak` in `warmup_steps`, then half a cosine to 0 at `decay_steps`, then 0."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = min((step - warmup_steps) / max(decay_steps - warmup_steps, 1), 1.0)
    return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
