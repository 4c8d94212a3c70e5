"""Flow matching of action chunks, the diffusion family of imitation.

Lipman et al., "Flow matching for generative modeling", ICLR 2023; Chi et al., "Diffusion policy", RSS 2023; Black et
al., "pi_0", 2024. Where demonstrations do one thing or another, cloning by a distance answers what lies between them;
a flow answers one of them. Legend: a demonstrated chunk, normalised; z noise; t in [0, 1); w weight, mean 1.

    x_t  = (1 - t) z + t a
    loss = mean over the mask of w |end(x_t, t, o) - a|^2

Differences: the network tells the end of the path in the place of its velocity (end - x_t) / (1 - t), which weighs the
times of a path by (1 - t)^2 and starts the network at "stay where you are"; a perceptron on keypoints of the images in
the place of a U-Net or transformer; the noise of an episode is drawn once. Steps that the mask hides are neither
learned nor shown: the last step before them stands there.
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
from robolearn.policies.flow import FlowPolicy, FlowPolicyConfig
from robolearn.specs import InterfaceSpec


@dataclass(frozen=True)
class FlowConfig:
    """Settings of Flow."""

    policy: FlowPolicyConfig = field(default_factory=FlowPolicyConfig)
    steps: int = 4000  # of a run; the learning rate falls to nothing over them
    batch_size: int = 64
    draws: int = 8  # of noise and time for each sample: the images, which cost most, are looked at once for all
    learning_rate: float = 1e-3  # peak
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    max_grad_norm: float = 1.0
    max_shift_px: int = 2  # random shift of the images; 0 for none
    episodes: Literal["successful", "all"] = "successful"  # which ones are imitated
    weight: str = ""  # column of the dataset that says how much each sample is worth, such as RA-BC's


class Flow:
    """Learns the distribution of a dataset's action chunks."""

    config_type: ClassVar[Any] = FlowConfig
    learns_from: ClassVar[DataKind] = "chunks"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "grad_norm", "learning_rate")

    def __init__(
        self,
        spec: InterfaceSpec,
        statistics: Statistics,
        config: FlowConfig,
        seed: int = 0,
        device: str = "cpu",
        wrapper: Wrapper = plain,
    ) -> None:
        self.config = config
        self.gradient_step = 0
        self._generator = torch.Generator(device).manual_seed(seed)
        self._policy = FlowPolicy(spec, statistics, config.policy, seed).to(device)
        self._optimizer = adamw(self._policy.parameters(), config.learning_rate, config.weight_decay)

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Masked, weighted mean squared distance of the end that is told from the demonstration's chunk."""
        features, draws = self._policy.features, self.config.draws
        seen = torch.cat(features(batch), dim=1).repeat(draws, 1)
        here = features.here(batch)
        target = held(features.action_normalizer(batch["action"]), batch["action_mask"], here).repeat(draws, 1, 1)
        here = here.repeat(draws, 1)
        noise = torch.randn(target.shape, generator=generator, device=target.device)
        time = torch.rand(len(target), generator=generator, device=target.device)
        chunk = noise.lerp(target, time[:, None, None])
        distance = (self._policy.end(seen, here, chunk, time) - target).square().mean(-1)
        mask = batch["action_mask"].to(distance.dtype)
        if "weight" in batch:
            mask = mask * batch["weight"][:, None]
        mask = mask.repeat(draws, 1)
        return (distance * mask).sum() / mask.sum().clamp_min(1e-6)

    def update(self, batch: Batch) -> Metrics:
        learning_rate = cosine_learning_rate(
            self.gradient_step, self.config.learning_rate, self.config.warmup_steps, self.config.steps
        )
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        self._policy.train()
        loss = self.loss(self._augmented(batch), self._generator)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self._policy.parameters())
        grad_norm = nn.utils.clip_grad_norm_(self._policy.parameters(), self.config.max_grad_norm)
        self._optimizer.step()
        self.gradient_step += 1
        return {"loss": loss.detach(), "grad_norm": grad_norm, "learning_rate": torch.tensor(learning_rate)}

    @torch.no_grad()
    def validate(self, batch: Batch) -> Metrics:
        """With the same noise every time, so that losses can be compared."""
        self._policy.eval()
        return {"loss": self.loss(batch, torch.Generator(self._generator.device).manual_seed(0))}

    def policy(self) -> FlowPolicy:
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
