"""Train the success classifier: last images of successes against all that is not done, near-misses included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.errors import DatasetError
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.encoding import ImagePool, encoder_config, steps_of
from robolearn.recipes.rewards.settings import REPORT_STEPS, Report, TrainingSettings
from robolearn.recipes.training_loop import due
from robolearn.rewards.success import (
    SuccessConfig,
    SuccessReward,
    balanced_rows,
    decision_strength,
    episode_threshold,
    set_aside,
    threshold_in_words,
)

DONE_STEPS = 3  # at the end of a successful episode that show success, where no predicate finds any


def done_steps(data: RewardData, index: int) -> NDArray[np.bool_]:
    """(T,) whether a step shows success: by the task's predicates, else the last steps of a successful episode."""
    info = data.store.episodes[index]
    truth = data.truth(index)
    done = np.zeros(info.length, np.bool_) if truth is None else truth.progress >= 1.0
    if info.success and not done.any():  # the image of the instant that ended the episode is not a step
        done[-DONE_STEPS:] = True
    return done


def train_success(
    data: RewardData, indices: Sequence[int], settings: TrainingSettings, report: Report
) -> SuccessReward:
    """The threshold is chosen on failed episodes that the network was not trained on, where there are two or more.
    Episodes whose outcome nobody knows are left out."""
    rng = np.random.default_rng(settings.seed)
    indices = [index for index in indices if data.store.episodes[index].success is not None]
    if not indices:
        raise DatasetError(f"{data.path}: nobody knows how any of its episodes ended; judge some on the page first")
    chosen = set_aside([index for index in indices if not data.store.episodes[index].success], rng)
    learn = [index for index in indices if index not in chosen]
    done = np.concatenate([done_steps(data, index) for index in learn])
    config = SuccessConfig(settings.cameras, encoder_config(data, settings), seed=settings.seed)
    model = SuccessReward(config).to(settings.device)
    images = ImagePool(data, settings.cameras, steps_of(data, learn))
    labels = torch.from_numpy(done)
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], settings.learning_rate)
    model.train()
    for step in range(settings.steps):
        rows = torch.from_numpy(balanced_rows(rng, done, settings.batch_size))
        batch = {camera: images.get(camera, rows).to(settings.device) for camera in images.cameras}
        loss = model.loss(batch, labels[rows].to(settings.device), generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if due(step + 1, step, REPORT_STEPS, settings.steps):
            report(step + 1, f"loss {float(loss.detach()):.4f}")
    return _with_threshold(model.eval(), data, chosen, settings, report)


def _with_threshold(
    model: SuccessReward, data: RewardData, chosen: Sequence[int], settings: TrainingSettings, report: Report
) -> SuccessReward:
    """Choose the threshold as episodes will be decided, and say what these failures show of it."""
    strength = np.zeros(0, np.float32)
    if chosen:
        strength = np.concatenate(
            [
                decision_strength(model.score(episodes).value, model.config.consecutive).cpu().numpy()
                for _, episodes in data.batches(chosen, settings.cameras)
            ]
        )
        least = episode_threshold(strength, settings.false_positive_rate)
        model.config = replace(model.config, threshold=float(np.clip(least, 0.5, 1.0 - 1e-6)))
    threshold = model.config.threshold
    report(settings.steps, threshold_in_words(threshold, int((strength > threshold).sum()), len(chosen)))
    return model
