"""Train the success classifier: last images of successes against all that is not done, near-misses included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from robolearn.errors import DatasetError
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.encoding import encoder_config, image_pool
from robolearn.recipes.rewards.settings import REPORT_STEPS, Report, TrainingSettings
from robolearn.recipes.training_loop import due
from robolearn.rewards.success import SuccessConfig, SuccessReward, balanced_rows, threshold_for

DONE_STEPS = 3  # at the end of a successful episode that show success, where no predicate finds any
CHOSEN_SHARE = 0.2  # of the episodes, that the threshold is chosen on


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
    """The threshold is chosen on episodes that the network was not trained on."""
    rng = np.random.default_rng(settings.seed)
    order = rng.permutation(list(indices)).tolist()
    count = max(round(len(order) * CHOSEN_SHARE), 1)
    chosen, learn = order[:count], order[count:]
    if not learn:
        raise DatasetError(f"{data.path} has {len(order)} episodes to train on; record more")
    done = np.concatenate([done_steps(data, index) for index in learn])
    config = SuccessConfig(settings.cameras, encoder_config(data, settings), seed=settings.seed)
    model = SuccessReward(config).to(settings.device)
    images = image_pool(data, learn, settings.cameras)
    labels = torch.from_numpy(done)
    generator = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], settings.learning_rate)
    model.train()
    for step in range(settings.steps):
        rows = torch.from_numpy(balanced_rows(rng, done, settings.batch_size))
        batch = {camera: pool[rows].to(settings.device) for camera, pool in images.items()}
        loss = model.loss(batch, labels[rows].to(settings.device), generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if due(step + 1, step, REPORT_STEPS, settings.steps):
            report(step + 1, f"loss {float(loss.detach()):.4f}")
    return _with_threshold(model.eval(), data, chosen, settings)


def _with_threshold(
    model: SuccessReward, data: RewardData, chosen: Sequence[int], settings: TrainingSettings
) -> SuccessReward:
    probability, done = [], []
    for group, episodes in data.batches(chosen, settings.cameras):
        value = model.score(episodes).value.cpu().numpy()
        for row, index in enumerate(group):
            truth = done_steps(data, index)
            probability.append(value[row, : len(truth)])
            done.append(truth)
    least = threshold_for(np.concatenate(probability), np.concatenate(done), settings.false_positive_rate)
    model.config = replace(model.config, threshold=float(np.clip(max(least, 0.5), 0.5, 1.0 - 1e-6)))
    return model
