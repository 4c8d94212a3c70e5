"""Behaviour cloning of action chunks.

Pomerleau, "ALVINN", 1989 (cloning); Zhao et al., "Learning fine-grained bimanual manipulation with low-cost hardware",
2023 (chunks and the L1 loss). Differences from the latter (ACT): a convolutional encoder with spatial-softmax
keypoints in the place of ResNet-18 and the transformer, no latent variable, no temporal ensembling.

    loss = mean over the mask of w |a - pi(o)|     a: K next actions of the demonstration, normalised; w: weight, mean 1
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
from robolearn.networks.normalizer import Statistics
from robolearn.policies.chunking import ChunkPolicy, ChunkPolicyConfig
from robolearn.specs import InterfaceSpec


@dataclass(frozen=True)
class BCConfig:
    """Settings of BC."""

    policy: ChunkPolicyConfig = field(default_factory=ChunkPolicyConfig)
    loss: Literal["l1", "mse"] = "l1"
    steps: int = 2000  # of a run; the learning rate falls to nothing over them
    batch_size: int = 64
    learning_rate: float = 1e-3  # peak
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    max_grad_norm: float = 1.0
    max_shift_px: int = 2  # random shift of the images; 0 for none
    episodes: Literal["successful", "all"] = "successful"  # which ones are imitated
    weight: str = ""  # column of the dataset that says how much each sample is worth, such as RA-BC's


class BC:
    """Clones the actions of a dataset."""

    config_type: ClassVar[Any] = BCConfig
    learns_from: ClassVar[DataKind] = "chunks"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "grad_norm", "learning_rate")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: BCConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self.gradient_step = 0
        self._generator = torch.Generator(device).manual_seed(seed)
        self._policy = ChunkPolicy(spec, statistics, config.policy, seed).to(device)
        self._optimizer = adamw(self._policy.parameters(), config.learning_rate, config.weight_decay)

    def loss(self, batch: Batch) -> Tensor:
        """Masked, weighted mean distance between the policy's and the demonstration's normalised actions."""
        target = self._policy.features.action_normalizer(batch["action"])
        error = self._policy(batch) - target
        distance = error.abs() if self.config.loss == "l1" else error.square()
        mask = batch["action_mask"].to(distance.dtype)
        if "weight" in batch:
            mask = mask * batch["weight"][:, None]
        return (distance.mean(-1) * mask).sum() / mask.sum().clamp_min(1e-6)

    def update(self, batch: Batch) -> Metrics:
        learning_rate = cosine_learning_rate(
            self.gradient_step, self.config.learning_rate, self.config.warmup_steps, self.config.steps
        )
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._policy.train()
        loss = self.loss(self._augmented(batch))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self._policy.parameters())
        grad_norm = nn.utils.clip_grad_norm_(self._policy.parameters(), self.config.max_grad_norm)
        self._optimizer.step()
        self.gradient_step += 1
        return {"loss": loss.detach(), "grad_norm": grad_norm, "learning_rate": torch.tensor(learning_rate)}

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        self._policy.eval()
        return {"loss": self.loss(batch)}

    def policy(self) -> ChunkPolicy:
        return self._policy

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
