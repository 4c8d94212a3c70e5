"""The five kinds of stochasticity of STORI as switches, so that a policy's robustness is a table.

Barsainyan et al. 2025, "STORI: A Benchmark and Taxonomy for Stochastic Environments": the world that a policy meets
differs from the one it learned in by its actions being corrupted, by random events, by what it observes being noisy or
hidden, by parts of it never being seen, or by slow change. Legend: (H, W, 3) images.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.types import Observation

SUBSTREAM = 2  # of an episode's seed, so that the task's own draws stay as they are
HIDDEN_SHARE = 0.45  # of each side of an image, that an occlusion covers


@dataclass(frozen=True)
class Stochasticity:
    """All off by default. Chances are of a control step."""

    stuck_action: float = 0.0  # action corruption: chance that the last action is repeated
    action_noise_rad: float = 0.0  # action corruption: standard deviation added to joint targets
    event: float = 0.0  # random events: chance that something is knocked
    event_speed_m_s: float = 0.15
    noise: float = 0.0  # observation: standard deviation of joints [rad] and poses [m]
    pixel_noise: float = 0.0  # observation: standard deviation of a pixel, of 255
    occlusion: float = 0.0  # observation: chance that a grey square covers a part of each image
    blackout: float = 0.0  # partial observability: chance that an image or a pose stays as it was
    drift: float = 0.0  # drift: standard deviation, a step, of the walk of the joint sensors' zero [rad]
    delay_steps: int = 0  # an observation is shown so many control steps late

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < np.inf or (
                field.name in ("stuck_action", "event", "occlusion", "blackout") and value > 1
            ):
                raise SpecError(f"stochasticity {field.name} is {value}, expected at least 0, and a chance at most 1")


STORI: dict[str, Stochasticity] = {
    "none": Stochasticity(),
    "action corruption": Stochasticity(stuck_action=0.2, action_noise_rad=0.01),
    "random events": Stochasticity(event=0.03),
    "noise and occlusion": Stochasticity(noise=0.004, pixel_noise=10.0, occlusion=0.3),
    "partial observability": Stochasticity(blackout=0.5),
    "drift": Stochasticity(drift=0.0015),
    "delay": Stochasticity(delay_steps=1),
}
"""The kinds at the strength that robustness is measured with; `delay` is ours."""


class Disturber:
    """What one `Stochasticity` does to the episodes of one environment; a seed fixes it."""

    def __init__(self, config: Stochasticity) -> None:
        self._config, self._still = config, config == Stochasticity()
        self.begin(0)

    def begin(self, seed: int) -> None:
        """A new episode."""
        self._rng = np.random.default_rng([seed, SUBSTREAM])
        self._action: NDArray | None = None
        self._shown: Observation = {}
        self._queue: list[Observation] = []
        self._bias: NDArray[np.float64] | float = 0.0

    def act(self, targets: NDArray | None) -> NDArray | None:
        """What becomes of joint targets (J,) on their way to the safety filter."""
        config, rng = self._config, self._rng
        if self._still:
            return targets
        if self._action is not None and rng.random() < config.stuck_action:
            targets = self._action
        self._action = targets
        if targets is None or config.action_noise_rad == 0:
            return targets
        return (targets + rng.normal(0, config.action_noise_rad, targets.shape)).astype(np.float32)

    def event(self) -> float:
        """How hard something is knocked now [m/s], 0 for not at all. Draw the rest from `rng`."""
        return self._config.event_speed_m_s if not self._still and self._rng.random() < self._config.event else 0.0

    @property
    def rng(self) -> np.random.Generator:
        return self._rng

    def observe(self, observation: Observation) -> Observation:
        """What is seen of an observation."""
        if self._still:
            return observation
        seen = {name: self._field(name, values) for name, values in observation.items()}
        for name in seen:
            if name != "proprio" and name in self._shown and self._rng.random() < self._config.blackout:
                seen[name] = self._shown[name]
        self._shown = seen
        self._queue = [*self._queue, seen][-1 - self._config.delay_steps :]
        return {name: values.copy() for name, values in self._queue[0].items()}  # it may be shown again

    def _field(self, name: str, values: NDArray) -> NDArray:
        config, rng = self._config, self._rng
        if values.dtype == np.uint8:
            return self._image(values)
        values = values.astype(np.float32)
        if name == "proprio":
            joints = len(values) // 2
            if config.drift:
                self._bias = self._bias + rng.normal(0, config.drift, joints)
            values[:joints] += self._bias
        shift = rng.normal(0, config.noise, values.shape)
        if name.startswith("pose_"):
            shift[3:] = 0.0  # a noisy quaternion would be none
        return (values + shift).astype(np.float32)

    def _image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        config, rng = self._config, self._rng
        if config.pixel_noise:
            image = np.clip(image + rng.normal(0, config.pixel_noise, image.shape), 0, 255).astype(np.uint8)
        if rng.random() < config.occlusion:
            height, width = (max(1, int(HIDDEN_SHARE * side)) for side in image.shape[:2])
            top, left = (int(rng.integers(0, side)) for side in (image.shape[0] - height, image.shape[1] - width))
            image = image.copy()
            image[top : top + height, left : left + width] = 110
        return image
