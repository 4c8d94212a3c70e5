"""Progress of a point along waypoints: the dense reward of KAGI.

Lee et al., "Affordance-guided reinforcement learning via visual prompting" (KAGI), 2024: a vision-language model marks
waypoints w_0 .. w_m in the image; a tracked point p is rewarded for its progress along them, and the sparse success
classifier overrides when it fires. The paper's body was not at hand; the dense term is ours:

    r = (i + clip(1 - |p - w_{i+1}| / |w_i - w_{i+1}|, 0, 1)) / m  in [0, 1)          1 where the classifier fires

i, the last waypoint passed, never decreases. A waypoint is passed within `radius`, or once p is nearer to the one after
it, and never two at one step, so that a path which crosses itself is not cut short. Legend: B episodes, T steps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from robolearn.errors import CheckpointError, SpecError
from robolearn.rewards.features import in_parts
from robolearn.rewards.reward_model import Episodes, Kind, RewardOutput, masked, trained_on, version_of
from robolearn.rewards.success import SuccessReward


@dataclass(frozen=True)
class KeypointsConfig:
    """Settings of KeypointsReward."""

    waypoints: tuple[tuple[float, float], ...] = ()  # two or more: x, y as fractions of the image
    radius: float = 0.05  # within which a waypoint is passed, as a fraction of the image
    camera: str = "front"  # in whose image the waypoints lie
    colour: tuple[int, int, int] = (220, 40, 40)  # RGB of what is tracked
    colour_distance: float = 60.0  # Euclidean, within which a pixel belongs to it
    success_dir: str = ""  # folder of a saved success classifier, which overrides; none where empty
    device: str = "cpu"  # of the classifier
    success: str = ""  # `<id>-<version>` of the classifier, filled in by the model, as what follows
    cameras: tuple[str, ...] = ()  # that is tracked in, and those of the classifier


def waypoint_progress(points: Tensor, waypoints: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """Progress (B, T) in [0, 1) and index of the last waypoint passed (B, T) of points (B, T, 2).

    waypoints: (m + 1, 2), the first where the motion starts; units are the points' own. Where a point is not finite
    (it was not seen) the last value is held.
    """
    batch, steps, _ = points.shape
    last = len(waypoints) - 1
    index = torch.zeros(batch, dtype=torch.long, device=points.device)
    held = torch.zeros(batch, device=points.device)
    values, indices = [], []
    for t in range(steps):
        point = points[:, t]
        seen = point.isfinite().all(-1)
        distance = torch.where(seen[:, None], torch.cdist(point.nan_to_num(), waypoints), torch.inf)  # (B, m + 1)
        ahead = distance.gather(1, (index + 1).clamp_max(last)[:, None])[:, 0]
        beyond = distance.gather(1, (index + 2).clamp_max(last)[:, None])[:, 0]
        passed = (ahead <= radius) | ((index + 2 <= last) & (beyond < ahead))
        index = torch.where(seen & passed & (index + 1 < last), index + 1, index)
        target = waypoints[index + 1]
        fraction = 1.0 - (point - target).norm(dim=-1) / (waypoints[index] - target).norm(dim=-1)
        held = torch.where(seen, (index + fraction.clamp(0.0, 1.0 - 1e-6)) / last, held)
        values.append(held)
        indices.append(index)
    return torch.stack(values, 1), torch.stack(indices, 1)


def with_success(progress: Tensor, success: Tensor) -> Tensor:
    """The sparse reward overrides: 1 where the success classifier fires."""
    return torch.where(success, 1.0, progress)


def colour_track(images: Tensor, colour: tuple[int, int, int], colour_distance: float) -> Tensor:
    """Centre (B, T, 2), x then y as fractions of the image, of the pixels near `colour`; NaN where there are none."""
    height, width = images.shape[2:4]
    wanted = torch.tensor(colour, device=images.device, dtype=torch.float32)
    x = (torch.arange(width, device=images.device) + 0.5) / width
    y = (torch.arange(height, device=images.device) + 0.5) / height

    def centres(part: Tensor) -> Tensor:
        near = ((part.float() - wanted).square().sum(-1) <= colour_distance**2).float()  # (N, H, W)
        sums = torch.stack([(near.sum(1) * x).sum(-1), (near.sum(2) * y).sum(-1)], -1)
        return sums / near.sum((1, 2))[:, None]  # 0 / 0 is NaN, as wanted

    return torch.cat([centres(part) for part in in_parts(images.flatten(0, 1))]).unflatten(0, images.shape[:2])


def _are_numbers(values: Any, count: int) -> bool:
    """Whether these are so many numbers, as far as JSON may have said otherwise."""
    return (
        isinstance(values, (list, tuple))
        and len(values) == count
        and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
    )


def _is_place(point: Any) -> bool:
    return _are_numbers(point, 2) and all(0.0 <= value <= 1.0 for value in point)


class KeypointsReward:
    """Tracks a coloured object or marker and rewards its progress along the waypoints, unless a success classifier says
    that all is done. Nothing is learned."""

    config_type: ClassVar = KeypointsConfig
    id = "keypoints"
    kind: Kind = "potential"
    causal = True

    def __init__(self, config: KeypointsConfig) -> None:
        if len(config.waypoints) < 2:
            raise SpecError(f"{len(config.waypoints)} waypoints came; give at least a start and an end")
        if odd := [point for point in config.waypoints if not _is_place(point)]:
            raise SpecError(f"waypoint {odd[0]!r} came; give x and y as fractions of the image, each from 0 to 1")
        if not (_are_numbers(config.colour, 3) and _are_numbers((config.radius, config.colour_distance), 2)):
            raise SpecError(
                f"radius {config.radius!r}, colour {config.colour!r}, colour_distance {config.colour_distance!r}; "
                "expected a number, three for red, green and blue, and a number"
            )
        if not (all(0 <= part <= 255 for part in config.colour) and 0 <= config.radius < inf):
            raise SpecError(f"radius {config.radius}, colour {config.colour}; expected 0 or more, and 0 to 255 each")
        if not 0 < config.colour_distance < inf:
            raise SpecError(f"colour_distance is {config.colour_distance}; expected more than 0")
        if any(a == b for a, b in pairwise(config.waypoints)):
            raise SpecError("two waypoints in a row are the same point; leave one out")
        self._success = _classifier(config)
        self.trained_on = trained_on(self._success)
        cameras: tuple[str, ...] = (config.camera,)
        if self._success is not None:
            name = f"{self._success.id}-{self._success.version}"
            if config.success not in ("", name):
                raise CheckpointError(
                    f"the keypoints were made with {config.success}, {config.success_dir} holds {name} now; save them "
                    "again"
                )
            cameras = tuple(dict.fromkeys((*cameras, *self._success.config.cameras)))
            config = replace(config, success=name)
        self.config = replace(config, cameras=cameras)

    @property
    def version(self) -> str:
        return version_of(self.config)

    @torch.no_grad()
    def score(self, episodes: Episodes) -> RewardOutput:
        """Progress; confidence is 0 while the point is not seen. `raw`: the track, the last waypoint passed, and of a
        classifier `done`."""
        config = self.config
        episodes.check((config.camera,))
        images = episodes.images[config.camera]
        track = colour_track(images, config.colour, config.colour_distance)
        waypoints = torch.tensor(config.waypoints, dtype=torch.float32, device=images.device)
        value, index = waypoint_progress(track, waypoints, config.radius)
        seen = track.isfinite().all(-1)
        raw = {"point": track.nan_to_num(nan=-1.0), "waypoint": index}
        if self._success is not None:
            raw["done"] = self._success.score(episodes).raw["done"].to(value.device)
            value = with_success(value, raw["done"])
        return masked(RewardOutput(value, seen.float(), raw), episodes.valid(images.device))


def _classifier(config: KeypointsConfig) -> SuccessReward | None:
    from robolearn.rewards.saved import load_reward  # which knows keypoints, too

    if not config.success_dir:
        return None
    model = load_reward(Path(config.success_dir), config.device)
    if not isinstance(model, SuccessReward):
        raise SpecError(f"{config.success_dir} holds a model of {model.id}; keypoints are overridden by one of success")
    return model
