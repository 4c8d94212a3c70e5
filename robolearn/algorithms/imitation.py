"""The gradient steps of policies that imitate chunks: all that such algorithms share beside their mathematics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from robolearn.algorithms.adamw import AdamW
from robolearn.algorithms.algorithm import Batch, Metrics
from robolearn.algorithms.compile import Wrapper
from robolearn.algorithms.optimizer import cosine_learning_rate
from robolearn.algorithms.parallel import weighted_mean
from robolearn.algorithms.state import load_state, state_of
from robolearn.networks.augmentation import shifted


@dataclass(frozen=True, kw_only=True)
class ImitationConfig:
    """Settings of every algorithm that imitates chunks."""

    steps: int = 2000  # of a run; the learning rate falls to nothing over them
    batch_size: int = 64
    learning_rate: float = 1e-3  # peak
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    max_grad_norm: float = 1.0
    max_shift_px: int = 2  # random shift of the images; 0 for none
    episodes: Literal["successful", "all"] = "successful"  # which ones are imitated
    weight: str = ""  # column of the dataset that says how much each sample is worth, such as RA-BC's


class Imitation:
    """Descends a loss of batches by AdamW, with a learning rate that rises, then falls by a cosine.

    policy: of chunks; its images are shifted at random. loss: of a batch and noise, with metrics.
    """

    def __init__(
        self,
        policy: Any,
        loss: Callable[..., tuple[Tensor, Metrics]],
        config: ImitationConfig,
        seed: int,
        device: str,
        wrapper: Wrapper,
    ) -> None:
        self.gradient_step = 0
        self.generator = torch.Generator(device).manual_seed(seed)
        self._policy, self._loss, self._config = policy, loss, config
        self._adamw = AdamW(policy.parameters(), config.learning_rate, config.weight_decay, config.max_grad_norm)
        self._step = wrapper(self._gradient_step)

    def augmented(self, batch: Batch) -> Batch:
        """The batch with every image shifted."""
        return shifted(batch, self._policy.features.cameras, self._config.max_shift_px, self.generator)

    def update(self, batch: Batch, *noise: Tensor) -> Metrics:
        """One step. Besides the loss's metrics, the answer has `grad_norm`, before it was clipped, and
        `learning_rate`."""
        config, rate = self._config, self._adamw.learning_rate
        rate.fill_(cosine_learning_rate(self.gradient_step, config.learning_rate, config.warmup_steps, config.steps))
        metrics = self._step(batch, *noise)
        self.gradient_step += 1
        return {**metrics, "learning_rate": rate.clone()}

    def _gradient_step(self, batch: Batch, *noise: Tensor) -> Metrics:
        loss, metrics = self._loss(batch, *noise)
        return {**metrics, "grad_norm": self._adamw.step(loss)}

    def _parts(self) -> dict[str, Any]:
        return {"policy": self._policy, "adamw": self._adamw}

    def state_dict(self) -> dict[str, Tensor]:
        return state_of(self._parts(), self.gradient_step, self.generator)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.gradient_step = load_state(state, self._parts(), self.generator)


def masked_mean(distance: Tensor, batch: Batch) -> Tensor:
    """Mean of distances (B, K) over the actions that are to be imitated, each as heavy as its sample's `weight`."""
    share = batch["action_mask"].to(distance.dtype)
    if "weight" in batch:
        share = share * batch["weight"][:, None]
    return weighted_mean(distance, share)
