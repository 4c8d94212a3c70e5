"""Of a training of a reward model that a test can wait for."""

from __future__ import annotations

from robolearn.recipes.rewards.settings import TrainingSettings
from robolearn.rewards.features import EncoderConfig

SETTINGS = TrainingSettings(
    encoder=EncoderConfig(channels=(8, 8)), steps=4, batch_size=8, held_out=0.25, pairs=60, false_positive_rate=0.2
)
