"""Make the reward models that follow demonstrations: hops, matching and perceptual steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from robolearn.errors import DatasetError
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.encoding import ImagePool, encoder_config, pretrain, steps_of
from robolearn.recipes.rewards.settings import REPORT_STEPS, Report, TrainingSettings
from robolearn.recipes.training_loop import due
from robolearn.rewards.features import EncoderConfig
from robolearn.rewards.hop import HopConfig, HopModel, HopReward, hop
from robolearn.rewards.matching import MatchingConfig, MatchingReward
from robolearn.rewards.perceptual_steps import PerceptualStepsConfig, PerceptualStepsReward
from robolearn.rewards.reward_model import trained_on
from robolearn.rewards.stages import time_share
from robolearn.rewards.three_signals import SignalModel, ThreeSignalsConfig, ThreeSignalsReward

Model = TypeVar("Model", MatchingReward, PerceptualStepsReward)


def successes(data: RewardData, indices: Sequence[int]) -> list[int]:
    """The successful episodes among these. Raises DatasetError when there are none."""
    found = [index for index in indices if data.store.episodes[index].success]
    if not found:
        raise DatasetError(f"{data.path}: none of {len(indices)} episodes succeeded; there is nothing to follow")
    return found


def make_hop(data: RewardData, indices: Sequence[int], settings: TrainingSettings, report: Report) -> HopReward:
    """Train on pairs of moments of one episode. Progress is the task's, or else the share of a success's time."""
    good = successes(data, indices)
    known = [index for index in indices if data.truth(index) is not None] or good
    progress = []
    for index in known:
        truth = data.truth(index)
        length = data.store.episodes[index].length
        progress.append(time_share(length) if truth is None else truth.progress)
    model = HopReward(HopConfig(settings.cameras[0], encoder=encoder_config(data, settings), seed=settings.seed))
    model.to(settings.device)
    last = data.images(good[0], settings.cameras[0])[-1]
    model.set_goal(torch.from_numpy(last))
    images = ImagePool(data, settings.cameras[:1], steps_of(data, known))
    lengths = np.array([len(one) for one in progress])
    first = np.cumsum([0, *lengths[:-1]])
    flat = torch.from_numpy(np.concatenate(progress)).float()
    texts = [data.store.episodes[index].instruction for index in known]
    rng = np.random.default_rng(settings.seed)
    net = model.model
    assert isinstance(net, nn.Module)
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], settings.learning_rate)
    net.train()
    for step in range(settings.steps):
        episode = rng.integers(len(known), size=settings.batch_size)
        before, after = (torch.from_numpy(first[episode] + rng.integers(0, lengths[episode])) for _ in range(2))
        first_seen, then_seen = (images.get(settings.cameras[0], rows) for rows in (before, after))
        told = net.hops(first_seen, then_seen, [texts[i] for i in episode])
        loss = (told - hop(flat[before], flat[after]).to(told.device)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if due(step + 1, step, REPORT_STEPS, settings.steps):
            report(step + 1, f"loss {float(loss.detach()):.4f}")
    return model.eval()


def ask_hops(data: RewardData, behind: HopModel, name: str, camera: str, every: int) -> HopReward:
    """Hops as a model behind a wire tells them, which goes by `name`; nothing is trained.

    The goal is what the first success ends with, which counts as trained on; without any success it is a DatasetError.
    """
    height, width = data.image_size(camera)
    encoder = EncoderConfig(image_height=height, image_width=width)
    model = HopReward(HopConfig(camera, every, encoder, asked=name), behind)
    goal = successes(data, range(len(data.store.episodes)))[0]
    model.set_goal(torch.from_numpy(data.images(goal, camera)[-1]))
    model.trained_on = trained_on(behind) | {data.store.episodes[goal].id}
    return model.eval()


def ask_signals(data: RewardData, behind: SignalModel, name: str, camera: str, every: int) -> ThreeSignalsReward:
    """Three signals as a model behind a wire tells them, which goes by `name`; nothing is trained."""
    data.image_size(camera)
    return ThreeSignalsReward(ThreeSignalsConfig(camera, every, name), behind)


def make_matching(
    data: RewardData, indices: Sequence[int], settings: TrainingSettings, report: Report
) -> MatchingReward:
    """Follow the shortest successful episode, by nearest states or by optimal transport."""
    good = successes(data, indices)
    best = min(good, key=lambda index: data.store.episodes[index].length)
    config = MatchingConfig(
        settings.cameras[0],
        settings.method,
        demonstrated_steps=data.store.episodes[best].length,
        encoder=encoder_config(data, settings),
        seed=settings.seed,
    )
    model = _told_time(MatchingReward(config), data, good, settings, report)
    model.set_demonstration(torch.from_numpy(data.images(best, settings.cameras[0])))
    return model.eval()


def make_perceptual_steps(
    data: RewardData, indices: Sequence[int], settings: TrainingSettings, report: Report
) -> PerceptualStepsReward:
    """Find the steps in all successful episodes that are long enough to hold them. Raises DatasetError without any."""
    config = PerceptualStepsConfig(settings.cameras[0], encoder=encoder_config(data, settings), seed=settings.seed)
    least = config.steps * config.min_length
    good = [index for index in successes(data, indices) if data.store.episodes[index].length >= least]
    if not good:
        raise DatasetError(
            f"{data.path}: no success has the {least} steps that {config.steps} steps of a task take at least; record "
            "longer ones"
        )
    model = _told_time(PerceptualStepsReward(config), data, good, settings, report)
    model.fit(torch.from_numpy(data.images(index, settings.cameras[0])) for index in good)
    return model.eval()


def _told_time(
    model: Model, data: RewardData, good: Sequence[int], settings: TrainingSettings, report: Report
) -> Model:
    """A small encoder first learns to tell early from late in the successes, which needs no labels."""
    time = torch.from_numpy(np.concatenate([time_share(data.store.episodes[index].length) for index in good]))

    def draw(generator: torch.Generator) -> Tensor:
        return torch.randint(len(time), (settings.batch_size,), generator=generator)

    def loss(told: Tensor, rows: Tensor) -> Tensor:
        return (told[:, 0] - time[rows].to(told.device)).square().mean()

    images = ImagePool(data, settings.cameras[:1], steps_of(data, good))
    pretrain(model.encoder, images, draw, loss, 1, settings, report)
    return model.to(settings.device)
