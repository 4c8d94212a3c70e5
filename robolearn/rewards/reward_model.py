"""The RewardModel protocol: what makes reward from episodes. Legend: B episodes, T steps, H W image, P proprio."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from robolearn.errors import SpecError

Kind = Literal["reward", "potential", "success"]
"""What `value` means: a reward that may be learned from as it is; a potential, which reaches RL only through the
shaper (`shaping.py`); the probability in [0, 1] that the task is done."""

RUN_SETTINGS = frozenset({"device", "batch_size", "model_dir", "url", "folders", "success_dir"})
"""Fields of configs that say where and how a model runs, and are no part of its version."""


@dataclass(frozen=True)
class Episodes:
    """What is scored: B whole or partial episodes, padded to T steps.

    images: by camera name without `image_`, (B, T, H, W, 3) uint8 RGB, on any device.
    text: B instructions, as the dataset has them.
    proprio: (B, T, P) float32, or None where the model does not ask for it.
    length: (B,) int64, valid steps of each episode; the rest is padding and never looked at.
    """

    images: Mapping[str, Tensor]
    text: Sequence[str]
    proprio: Tensor | None = None
    length: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(B, T)."""
        images = next(iter(self.images.values()))
        return int(images.shape[0]), int(images.shape[1])

    def valid(self, device: torch.device) -> Tensor:
        """(B, T) bool: false on padding."""
        batch, steps = self.shape
        if self.length is None:
            return torch.ones(batch, steps, dtype=torch.bool, device=device)
        return torch.arange(steps, device=device)[None] < self.length.to(device)[:, None]

    def check(self, cameras: Sequence[str], proprio_size: int = 0) -> None:
        """Raise SpecError unless the fields fit each other and hold what a model of these `cameras` and of proprio with
        so many entries (0: of none) needs."""
        for camera in cameras:
            if camera not in self.images:
                have = ", ".join(self.images) or "none"
                raise SpecError(f"the reward model needs camera {camera!r}; the episodes have {have}")
        if not self.images:
            raise SpecError("episodes without images cannot be scored; give at least one camera")
        batch, steps = self.shape
        for name, images in self.images.items():
            fits = images.ndim == 5 and images.shape[:2] == (batch, steps) and images.shape[-1] == 3
            if not fits or images.dtype != torch.uint8:
                came = f"{tuple(images.shape)} {str(images.dtype).removeprefix('torch.')}"
                raise SpecError(f"camera {name!r} came as {came}, expected ({batch}, {steps}, H, W, 3) uint8")
        if len(self.text) != batch:
            raise SpecError(f"{len(self.text)} texts came for {batch} episodes; give one instruction each")
        if proprio_size and self.proprio is None:
            raise SpecError("the reward model needs proprio; the episodes have none")
        if self.proprio is not None and (self.proprio.ndim != 3 or self.proprio.shape[:2] != (batch, steps)):
            raise SpecError(f"proprio came as {tuple(self.proprio.shape)}, expected ({batch}, {steps}, P)")
        if proprio_size and self.proprio is not None and self.proprio.shape[2] != proprio_size:
            raise SpecError(
                f"proprio has {self.proprio.shape[2]} entries, expected {proprio_size}; score episodes of the robot "
                "that the reward model was trained on, or train one on these"
            )
        if self.length is not None and (
            self.length.shape != (batch,) or int(self.length.min()) < 1 or int(self.length.max()) > steps
        ):
            raise SpecError(f"length came as {self.length.tolist()}, expected {batch} numbers from 1 to {steps}")


@dataclass(frozen=True)
class RewardOutput:
    """Scores of B episodes, on the model's device.

    value: (B, T) float32, what the model's `kind` says; 0 on padding.
    confidence: (B, T) float32 in [0, 1]; 1 where a model cannot doubt itself; 0 on padding.
    raw: by column name, (B, T, ...), what `value` was made from, so that nothing is thrown away.
    """

    value: Tensor
    confidence: Tensor
    raw: Mapping[str, Tensor]


@runtime_checkable
class RewardModel(Protocol):
    """Scores episodes. Has no side effects and no state that scoring changes; never stands in a control path."""

    @property
    def id(self) -> str:
        """Name of the model in REWARDS, and of its column in a dataset."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever settings or weights change: twelve hex digits."""
        ...

    @property
    def kind(self) -> Kind:
        """What `value` means."""
        ...

    @property
    def causal(self) -> bool:
        """Whether a value depends on nothing later than its own step, so that the model can score online."""
        ...

    def score(self, episodes: Episodes) -> RewardOutput:
        """Reward, confidence and raw quantities of every step. Raises SpecError for episodes that do not fit."""
        ...


def cameras_of(model: RewardModel) -> tuple[str, ...]:
    """The cameras that a model looks at, so that no others are decoded."""
    config = getattr(model, "config", None)
    if hasattr(config, "cameras"):
        return tuple(config.cameras)  # type: ignore[union-attr]
    return (config.camera,) if hasattr(config, "camera") else ()  # type: ignore[union-attr]


def trained_on(model: Any) -> frozenset[str]:
    """Ids of the episodes that a loaded model, or one that it asks, was trained on; none where it learned nothing."""
    return getattr(model, "trained_on", frozenset())


def carried(values: Tensor, known: Tensor) -> Tensor:
    """Values (B, T, ...), each that is not `known` (B, T) replaced by the last one before it that is, or by 0."""
    steps = torch.arange(known.shape[1], device=known.device)
    newest = torch.where(known, steps, -1).cummax(1).values
    last = values[torch.arange(len(known), device=known.device)[:, None], newest.clamp_min(0)]
    return torch.where((newest >= 0).view(*newest.shape, *[1] * (values.ndim - 2)), last, torch.zeros_like(last))


def masked(output: RewardOutput, valid: Tensor) -> RewardOutput:
    """`output` with zeros on padding, in float32."""
    return replace(
        output,
        value=torch.where(valid, output.value.float(), 0.0),
        confidence=torch.where(valid, output.confidence.float().clamp(0.0, 1.0), 0.0),
    )


def version_of(config: Any, tensors: Mapping[str, Tensor] | None = None) -> str:
    """Twelve hex digits of SHA-256 over the settings (a config dataclass) and the weights."""
    digest = hashlib.sha256(json.dumps(lasting_settings(config), sort_keys=True).encode())
    for name, tensor in sorted((tensors or {}).items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def lasting_settings(config: Any) -> dict[str, Any]:
    """The settings of a config dataclass that change what comes out, nested ones too, in what JSON can hold."""
    return _lasting(asdict(config))


def _lasting(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that change what comes out."""
    kept = {name: value for name, value in settings.items() if name not in RUN_SETTINGS}
    return {name: _lasting(value) if isinstance(value, dict) else value for name, value in kept.items()}


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Modules built inside get the weights of `seed`; the caller's random numbers stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        yield
