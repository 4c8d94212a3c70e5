"""AdamW as tensor operations, with its gradient clipped: a gradient step can be compiled with it inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from robolearn.algorithms.optimizer import Adam, gradients_of


class AdamW:
    """AdamW (Loshchilov and Hutter 2019); biases, norms and other vectors are not decayed, and what is frozen stays.

    `learning_rate` is a tensor: filling it changes the rate of a compiled step.
    """

    def __init__(
        self, parameters: Iterable[Tensor], learning_rate: float, weight_decay: float, max_grad_norm: float
    ) -> None:
        self._adam = Adam((each for each in parameters if each.requires_grad), learning_rate)
        self._matrices = [parameter for parameter in self._adam.parameters if parameter.ndim > 1]
        self._weight_decay, self._max_grad_norm = weight_decay, max_grad_norm
        self.learning_rate = self._adam.learning_rate

    def step(self, loss: Tensor) -> Tensor:
        """Descend the gradient of the loss, shortened to `max_grad_norm`; the answer is its length before."""
        gradients = gradients_of(loss, self._adam.parameters)
        with torch.no_grad():
            norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
            gradients = torch._foreach_mul(gradients, (self._max_grad_norm / (norm + 1e-6)).clamp_max(1.0))
            torch._foreach_mul_(self._matrices, 1.0 - self.learning_rate * self._weight_decay)
        self._adam.apply(gradients)
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        return self._adam.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Undo `state_dict`."""
        self._adam.load_state_dict(state)
