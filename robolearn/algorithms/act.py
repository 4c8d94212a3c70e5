"""Action chunking with transformers.

Zhao et al., "Learning fine-grained bimanual manipulation with low-cost hardware", RSS 2023: a conditional variational
autoencoder whose decoder is the policy. Legend: a demonstrated chunk, normalised; o observation; z latent; w weight,
mean 1.

    z    ~ N(mu, sigma^2),  mu and sigma from a and the proprio of o
    loss = mean over the mask of w |pi(o, z) - a| + kl_weight * mean of w KL(N(mu, sigma^2) || N(0, 1))

Differences: keypoints of a small convolutional encoder, one token a camera, in the place of the maps of ResNet-18;
smaller transformers; no temporal ensembling, because who serves the policy blends its chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from robolearn.algorithms.algorithm import Batch, DataKind, Metrics
from robolearn.algorithms.compile import Wrapper, plain
from robolearn.algorithms.optimizer import adamw, cosine_learning_rate, load_optimizer_tensors, optimizer_tensors
from robolearn.algorithms.parallel import average_gradients
from robolearn.algorithms.state import pack, unpack
from robolearn.networks.augmentation import shifted
from robolearn.networks.chunks import held
from robolearn.networks.normalizer import Statistics
from robolearn.policies.act import ACTPolicy, ACTPolicyConfig
from robolearn.specs import InterfaceSpec


@dataclass(frozen=True)
class ACTConfig:
    """Settings of ACT."""

    policy: ACTPolicyConfig = field(default_factory=ACTPolicyConfig)
    steps: int = 3000  # of a run; the learning rate falls to nothing over them
    batch_size: int = 64
    kl_weight: float = 10.0
    learning_rate: float = 5e-4  # peak
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    max_grad_norm: float = 1.0
    max_shift_px: int = 2  # random shift of the images; 0 for none
    episodes: Literal["successful", "all"] = "successful"  # which ones are imitated
    weight: str = ""  # column of the dataset that says how much each sample is worth, such as RA-BC's


class ACT:
    """Clones the actions of a dataset."""

    config_type: ClassVar[Any] = ACTConfig
    learns_from: ClassVar[DataKind] = "chunks"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "divergence", "grad_norm", "learning_rate")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: ACTConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self.gradient_step = 0
        self._generator = torch.Generator(device).manual_seed(seed)
        self._policy = ACTPolicy(spec, statistics, config.policy, seed).to(device)
        self._optimizer = adamw(self._policy.parameters(), config.learning_rate, config.weight_decay)

    def losses(self, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Masked, weighted mean distance from the demonstration's chunk, and the divergence. noise: (B, L)."""
        features, mask = self._policy.features, batch["action_mask"]
        seen, here = features(batch), features.here(batch)
        target = features.action_normalizer(batch["action"])
        mean, log_variance = self._policy.latent(seen[0], held(target, mask, here), mask)
        chunk = self._policy.chunk(seen, here, mean + noise * (0.5 * log_variance).exp())
        weight = batch["weight"] if "weight" in batch else torch.ones_like(mean[:, 0])
        share = mask.to(chunk.dtype) * weight[:, None]
        clone = ((chunk - target).abs().mean(-1) * share).sum() / share.sum().clamp_min(1e-6)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)
        return clone, (divergence * weight).mean()

    def update(self, batch: Batch) -> Metrics:
        learning_rate = cosine_learning_rate(
            self.gradient_step, self.config.learning_rate, self.config.warmup_steps, self.config.steps
        )
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._policy.train()
        clone, divergence = self.losses(self._augmented(batch), self._noise(batch))
        loss = clone + self.config.kl_weight * divergence
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self._policy.parameters())
        grad_norm = nn.utils.clip_grad_norm_(self._policy.parameters(), self.config.max_grad_norm)
        self._optimizer.step()
        self.gradient_step += 1
        return {
            "loss": clone.detach(),
            "divergence": divergence.detach(),
            "grad_norm": grad_norm,
            "learning_rate": torch.tensor(learning_rate),
        }

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """The distance of what the policy does outside of training, by the latent 0."""
        self._policy.eval()
        features = self._policy.features
        error = (
            features.action_normalizer(self._policy.best(batch)) - features.action_normalizer(batch["action"])
        ).abs()
        share = batch["action_mask"].to(error.dtype)
        if "weight" in batch:
            share = share * batch["weight"][:, None]
        return {"loss": (error.mean(-1) * share).sum() / share.sum().clamp_min(1e-6)}

    def policy(self) -> ACTPolicy:
        return self._policy

    def _noise(self, batch: Batch) -> Tensor:
        shape = (len(batch["action"]), self.config.policy.latent_size)
        return torch.randn(shape, generator=self._generator, device=self._generator.device)

    def _augmented(self, batch: Batch) -> Batch:
        return shifted(batch, self._policy.features.cameras, self.config.max_shift_px, self._generator)

    def state_dict(self) -> dict[str, Tensor]:
        facts = {"generator": self._generator.get_state(), "gradient_step": torch.tensor(self.gradient_step)}
        optimizer = optimizer_tensors(self._optimizer)
        return pack({"policy": self._policy.state_dict(), "optimizer": optimizer, "": facts})

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._policy.load_state_dict(unpack(state, "policy"))
        load_optimizer_tensors(self._optimizer, unpack(state, "optimizer"))
        self._generator.set_state(state["generator"].cpu())
        self.gradient_step = int(state["gradient_step"])
