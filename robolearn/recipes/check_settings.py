"""Refuse settings of an algorithm that cannot be meant, before anything is trained."""

from __future__ import annotations

import math
from typing import Any

from robolearn.algorithms.optimizer import OVER_A_RUN
from robolearn.errors import SpecError

# at least 1
COUNTS = {"batch_size", "utd", "num_critics", "num_sampled_critics", "num_actions", "policy_delay", "draws"}
COUNTS |= {"chunk_steps", "observation_steps", "components", "flow_steps", "width", "heads", "layers"}
COUNTS |= {"representation_size"}
# at least 0
AMOUNTS = {"cloning_weight", "max_shift_px", "warmup_steps", "weight_decay", "kl_weight", "conservatism"}
AMOUNTS |= {"shrink", "policy_noise", "noise_clip", "inverse_temperature", "high_inverse_temperature", "latent_size"}
SIZES = ("hidden_sizes", "encoder_channels")  # at the end of a setting's name


def check_settings(settings: Any, seed: int) -> None:
    """Raises SpecError for an algorithm's config with a number that cannot be meant, and for such a seed."""
    if settings.steps < 1 or not 0 <= seed < 2**63:
        raise SpecError(
            f"{settings.steps} steps with seed {seed}; expected at least 1 step and a seed of at least 0, below 2^63"
        )
    for place, owner in (("", settings), ("policy.", settings.policy)):
        for name, value in vars(owner).items():
            if wanted := _wanted(name, value):
                told = f"{value:g}" if isinstance(value, float) else value
                raise SpecError(f"setting {place}{name} is {told}; expected {wanted}")
    known = getattr(settings, "distributions", ())
    if known and settings.policy.distribution not in known:
        raise SpecError(
            f"setting policy.distribution is {settings.policy.distribution}; this algorithm learns {' or '.join(known)}"
        )
    if getattr(settings.policy, "trunk", "") and getattr(settings.policy, "shrink", 0):
        raise SpecError(
            f"setting policy.shrink is {settings.policy.shrink}, and policy.trunk looks at whole pictures; leave one "
            "out"
        )
    low, high = (getattr(settings.policy, f"log_std_{end}", 0.0) for end in ("low", "high"))
    if low > high:
        raise SpecError(f"setting policy.log_std_low is {low:g}; expected at most policy.log_std_high, {high:g}")
    if getattr(settings, "num_sampled_critics", 0) > getattr(settings, "num_critics", 0):
        raise SpecError(
            f"setting num_sampled_critics is {settings.num_sampled_critics}; expected at most num_critics, "
            f"{settings.num_critics}"
        )


def _wanted(name: str, value: Any) -> str:
    """What a setting should be instead; empty where it is fine."""
    if name in COUNTS:
        return "" if value >= 1 else "at least 1"
    if name == "encoder_channels" and not value:
        return "at least one size"
    if name.endswith(SIZES):
        return "" if min(value, default=1) >= 1 else "sizes of at least 1"
    if name.endswith("learning_rate") or name in AMOUNTS:
        return "" if 0.0 <= value < math.inf else "at least 0"
    if name == "decay_steps":
        return "" if value >= OVER_A_RUN else f"at least 0, or {OVER_A_RUN} for as many as a run has"
    if name in ("push_scale", "initial_temperature", "max_grad_norm", "max_weight"):
        return "" if 0.0 < value < math.inf else "a number above 0"
    if name == "discount":
        return "" if 0.0 <= value <= 1.0 else "a number from 0 to 1"
    if name == "polyak":
        return "" if 0.0 < value <= 1.0 else "a number above 0, at most 1"
    if name == "expectile":
        return "" if 0.0 < value < 1.0 else "a number between 0 and 1"
    return "" if not isinstance(value, float) or math.isfinite(value) else "a finite number"
