"""Train SARM's progress model: an encoder on single images, then the temporal net on windows of frozen features.

With a single stage it is ReWiND's form (Zhang et al. 2025): progress is the share of a success's time that has passed.

Legend: N steps of all episodes, B windows, W steps of a window, S stages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from robolearn.errors import DatasetError
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.demonstrations import successes
from robolearn.recipes.rewards.encoding import ImagePool, encoder_config, pretrain, steps_of
from robolearn.recipes.rewards.settings import REPORT_STEPS, Report, TrainingSettings
from robolearn.recipes.training_loop import due
from robolearn.rewards.progress import ProgressConfig, ProgressReward, SmoothingConfig
from robolearn.rewards.stages import (
    StageTargets,
    WindowConfig,
    stage_priors,
    targets_from_starts,
    training_window,
    with_wrong_texts,
)

OTHER_TASKS = ("close the window", "pour water into the cup", "wave at the camera", "wipe the wall")
WINDOW_S = 1.6  # what a window looks back
SMOOTHED_S = 0.15  # of the mean that is the value; half of it is how late the value sees that the arm goes back


@dataclass(frozen=True)
class Annotated:
    """Episodes with targets: their indices in the dataset, stages by name, and targets of each."""

    indices: list[int]
    stages: tuple[str, ...]
    targets: list[StageTargets]

    @property
    def lengths(self) -> list[int]:
        return [len(one.stage) for one in self.targets]

    @property
    def starts(self) -> list[list[int]]:
        """First step of each stage, by episode."""
        return [[int(np.argmax(one.stage == k)) for k in range(len(self.stages))] for one in self.targets]


def annotated(data: RewardData, indices: Sequence[int]) -> Annotated:
    """The episodes that pass every stage once and in order, the stages being those that were annotated, where any were.
    Raises DatasetError when there are none, or when they are of several kinds."""
    found = [(index, data.stage_targets(index)) for index in indices]
    known = [(index, one) for index, one in found if one is not None]
    if not known:
        raise DatasetError(
            f"{data.path}: none of {len(found)} episodes passes its stages once and in order; annotate stages, or "
            "record `pose_` fields so that the task's own predicates can"
        )
    said = {index: names for index, (names, _) in known if data.annotated_stages(index)}
    kinds = Counter((said or {index: names for index, (names, _) in known}).values()).most_common()
    if len(kinds) > 1:
        words = " or ".join(f"{', '.join(names)} ({count} episodes)" for names, count in kinds[:2])
        raise DatasetError(f"{data.path}: the stages are {words}; annotate all alike, and learn one task at a time")
    stages = kinds[0][0]
    same = [(index, targets) for index, (names, targets) in known if names == stages]
    return Annotated([index for index, _ in same], stages, [targets for _, targets in same])


def single_stage(data: RewardData, indices: Sequence[int]) -> Annotated:
    """The successes, each of them one stage. Raises DatasetError when there are none."""
    good = successes(data, indices)
    targets = [targets_from_starts([0], data.store.episodes[index].length) for index in good]
    return Annotated(good, ("task",), targets)


def train_progress(
    data: RewardData, indices: Sequence[int], settings: TrainingSettings, report: Report
) -> ProgressReward:
    """`steps` gradient steps train the encoder, unless it is frozen, then as many the temporal net."""
    known = single_stage(data, indices) if settings.single_stage else annotated(data, indices)
    hz = data.store.spec.interface.control_hz
    priors = stage_priors(known.starts, known.lengths)
    window = WindowConfig(past=7, gap=max(round(WINDOW_S * hz / 7), 1), max_rewind=4)
    model = ProgressReward(
        ProgressConfig(
            stages=known.stages,
            priors=tuple(float(share) for share in priors / priors.sum()),
            cameras=settings.cameras,
            proprio_size=data.proprio_size if settings.proprio else 0,
            encoder=encoder_config(data, settings),
            window=window,
            smoothing=SmoothingConfig(window=max(round(SMOOTHED_S * hz), 1)),
            seed=settings.seed,
        )
    ).to(settings.device)
    stage = torch.from_numpy(np.concatenate([one.stage for one in known.targets]))
    tau = torch.from_numpy(np.concatenate([one.tau for one in known.targets]))
    images = ImagePool(data, settings.cameras, steps_of(data, known.indices))
    stages = len(known.stages)

    def draw(generator: torch.Generator) -> Tensor:
        return torch.randint(len(stage), (settings.batch_size,), generator=generator)

    def image_loss(outputs: Tensor, rows: Tensor) -> Tensor:
        now, wanted = stage[rows].to(outputs.device), tau[rows].to(outputs.device)
        told = outputs[:, stages:].gather(1, now[:, None])[:, 0]
        return nn.functional.cross_entropy(outputs[:, :stages], now) + (told - wanted).square().mean()

    pretrain(model.encoder, images, draw, image_loss, 2 * stages, settings, report)
    with torch.no_grad():
        features = torch.cat([model.encode(data.episodes([i], settings.cameras))[0] for i in known.indices])
    texts = [data.store.episodes[i].instruction for i in known.indices]
    _train_net(model, features, stage, tau, known, texts, settings, report)
    return model.eval()


def _train_net(
    model: ProgressReward,
    features: Tensor,
    stage: Tensor,
    tau: Tensor,
    known: Annotated,
    texts: list[str],
    settings: TrainingSettings,
    report: Report,
) -> None:
    """Train the temporal net on features (N, F) with targets (N,)."""
    config = model.config.window
    lengths = np.array(known.lengths)
    first = np.cumsum([0, *lengths[:-1]])
    device = features.device
    others = [text for text in OTHER_TASKS if text not in texts]
    words = model.encoder.text([*texts, *others]).to(device)
    by_text = {text: words[i] for i, text in enumerate([*texts, *others])}
    rng, generator = np.random.default_rng(settings.seed), torch.Generator(device).manual_seed(settings.seed)
    optimizer = torch.optim.AdamW(model.net.parameters(), settings.learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=settings.steps)
    model.net.train()
    for step in range(settings.steps):
        episode = rng.integers(len(lengths), size=settings.batch_size)
        now = rng.integers(0, lengths[episode])
        window, valid = training_window(rng, now, config)
        rows = torch.from_numpy(window + first[episode, None])
        told, wanted_stage, wanted_tau = with_wrong_texts(
            rng, [texts[i] for i in episode], others, stage[rows].numpy(), tau[rows].numpy(), config
        )
        losses = model.net.loss(
            features[rows.to(device)],
            torch.stack([by_text[text] for text in told]),
            torch.from_numpy(wanted_stage).to(device),
            torch.from_numpy(wanted_tau).to(device),
            torch.from_numpy(valid).to(device),
            generator,
        )
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(model.net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if due(step + 1, step, REPORT_STEPS, settings.steps):
            parts = f"stage loss {float(losses['stage_loss']):.4f}, tau {float(losses['tau_loss']):.4f}"
            report(settings.steps + step + 1, parts)
