"""What tasks want of the algorithms that learn in them, where the defaults do not do.

`robolearn train ALGORITHM --task TASK` begins with these settings; what `--set` says is stronger.
"""

from __future__ import annotations

SMALL = (
    "policy.hidden_sizes=64,64",
    "critic_hidden_sizes=64,64",
    "batch_size=64",
    "actor_learning_rate=1e-3",
    "critic_learning_rate=1e-3",
    "initial_temperature=0.01",
    "target_entropy_per_action=-0.5",
    "discount=0.97",
    "online.evaluation_episodes=20",
)
"""Episodes of a few dozen decisions in the space of the tool, worth 1 at their success: small networks that learn fast,
and little noise, for a reward that is so rare would not pay for more."""

FEW_DECISIONS = (*SMALL, "temperature_learning_rate=1e-3", "backup_entropy=false")


def _but(settings: tuple[str, ...], *others: str) -> tuple[str, ...]:
    """The settings with these in the place of their own."""
    told = {setting.partition("=")[0]: setting for setting in (*settings, *others)}
    return tuple(told.values())


PRECISE = _but(
    FEW_DECISIONS,
    "policy.hidden_sizes=128,128",
    "critic_hidden_sizes=128,128",
    "discount=0.95",
    "target_entropy_per_action=-1",
    "online.num_steps=3",
    "online.average=1000",
)
"""Millimetres decide at the end of some thirty decisions: less noise still, rewards that go three decisions back at
once, and a discount by which dithering at the goal costs more than the critics err. The policy swings, so its mean is
kept."""

CONSERVATIVE = (*SMALL, "num_actions=4", "polyak=0.02", "push_scale=0.05", "conservatism=0.25")
"""A push in proportion to values between 0 and 1."""

SETTINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "tool:push-v1": {
        "sac": FEW_DECISIONS,
        "rlpd": (*FEW_DECISIONS, "utd=5"),
        "cql": CONSERVATIVE,
        "calql": CONSERVATIVE,
    },
    "tool:peg_insert-v1": {
        "sac": PRECISE,
        "rlpd": (*PRECISE, "utd=5", "num_sampled_critics=1"),
    },
}
"""By task and algorithm, in the words of `--set`."""

WITH_DEMONSTRATIONS: dict[str, dict[str, tuple[str, ...]]] = {"tool:peg_insert-v1": {"rlpd": ("cloning_weight=0.1",)}}
"""More of them, where there are demonstrations to learn from."""
