"""Train a reward from comparisons: pairs of steps, an answer to each, a Bradley-Terry ensemble.

RL-VLM-F (Wang et al. 2024) and its offline form: pairs of single images of an unlabelled dataset, answered by people,
by a vision model behind an endpoint, or by a rule that stands for either. Legend: N pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robolearn.datasets.preferences import read_preferences
from robolearn.errors import DatasetError, SpecError
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.encoding import encoder_config, pretrain
from robolearn.recipes.rewards.settings import Report, TrainingSettings
from robolearn.rewards.endpoint import Endpoint
from robolearn.rewards.preference import (
    EQUAL,
    FIRST,
    SECOND,
    UNSURE,
    FitConfig,
    PreferenceConfig,
    PreferenceReward,
    fit_bradley_terry,
    ordered_factor_answers,
)
from robolearn.rewards.vlm_labels import compare

LEAST_DIFFERENCE = 0.02  # of progress; what differs less, the rule is unsure about
FACTOR_MARGIN = 0.3  # of a factor's standard deviation; what differs less, the next factor decides


@dataclass(frozen=True)
class Pairs:
    """Compared steps: (episode, step) of the first and of the second (N, 2), and the answers (N,)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    answer: NDArray[np.float64]  # FIRST, SECOND, EQUAL or UNSURE


ANSWERS = {"first": FIRST, "second": SECOND, "equal": EQUAL, "unsure": UNSURE}


def draw_pairs(data: RewardData, indices: Sequence[int], settings: TrainingSettings, report: Report) -> Pairs:
    """Random pairs of steps with the labeller's answers, or what people answered of these episodes.

    Raises DatasetError when nobody can say anything.
    """
    if settings.labeller == "people":
        return _by_people(data, indices)
    rng = np.random.default_rng(settings.seed)
    lengths = np.array([data.store.episodes[index].length for index in indices])

    def draw() -> NDArray[np.int64]:
        episode = rng.choice(len(lengths), settings.pairs, p=lengths / lengths.sum())
        return np.stack([np.asarray(indices)[episode], rng.integers(0, lengths[episode])], 1)

    first, second = draw(), draw()
    if settings.labeller == "endpoint":
        answer = _asked(data, first, second, settings, report)
    else:
        rule = _by_factors if settings.labeller == "factors" else _by_rule
        answer = rule(data, indices, first, second, settings)
        turned = rng.random(len(answer)) < settings.wrong_answers
        answer = np.where(turned & (answer != UNSURE), 1 - answer, answer)
    if (answer == UNSURE).all():
        raise DatasetError(f"{data.path}: the labeller is unsure about all {settings.pairs} pairs")
    return Pairs(first, second, answer.astype(np.float64))


def _by_people(data: RewardData, indices: Sequence[int]) -> Pairs:
    """Every answer of everybody counts; those about other episodes, or steps that were cut off, are left out."""
    index_of = {data.store.episodes[index].id: index for index in indices}
    lengths = {data.store.episodes[index].id: data.store.episodes[index].length for index in indices}
    found = [
        one
        for one in read_preferences(data.store.files)
        if all(moment.step < lengths.get(moment.episode, 0) for moment in one.pair)
    ]
    answer = np.array([ANSWERS[one.answer] for one in found], np.float64)
    if not np.isin(answer, (FIRST, SECOND)).any():
        raise DatasetError(
            f"{data.path}: people decided {len(answer)} comparisons of these {len(indices)} episodes, none of them for "
            "one side; compare some on the page that `robolearn web` serves"
        )
    first, second = (
        np.array([(index_of[one.pair[side].episode], one.pair[side].step) for one in found], np.int64)
        for side in (0, 1)
    )
    return Pairs(first, second, answer)


def _by_rule(
    data: RewardData,
    indices: Sequence[int],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    settings: TrainingSettings,
) -> NDArray[np.int64]:
    """The later step of a success and the earlier one of a failure win (`outcome`), or the greater progress does."""
    worth: dict[int, NDArray[np.float64]] = {}
    for index in indices:
        info = data.store.episodes[index]
        if settings.labeller == "outcome":
            worth[index] = np.linspace(0.0, 1.0, info.length) * (1.0 if info.success else 0.3)
            continue
        truth = data.truth(index)
        if truth is None:
            raise DatasetError(
                f"{data.path}: episode {index} lacks the poses that the task judges by; take --labeller outcome or "
                "endpoint"
            )
        worth[index] = truth.progress
    a, b = (np.array([worth[int(index)][int(step)] for index, step in side]) for side in (first, second))
    return np.where(np.abs(b - a) < LEAST_DIFFERENCE, UNSURE, np.where(b > a, SECOND, FIRST))


def _by_factors(
    data: RewardData,
    indices: Sequence[int],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    settings: TrainingSettings,
) -> NDArray[np.int64]:
    """HERON: the first of the ordered factors that differs by enough decides for the side that has more of it."""
    if not settings.factors:
        raise SpecError("comparing by factors wants --factors with columns or fields, the most important one first")
    known = {**data.store.spec.fields, **{name: column.spec for name, column in data.store.columns.items()}}
    for name in settings.factors:
        if name not in known or known[name].shape:
            scalars = ", ".join(each for each, spec in known.items() if not spec.shape) or "none"
            raise DatasetError(f"{data.path} has no column or field {name!r} of one number a step; it has {scalars}")
    of: dict[int, NDArray[np.float64]] = {}
    for index in indices:
        columns = data.store.read(index, list(settings.factors))
        of[index] = np.stack([np.asarray(columns[name], np.float64) for name in settings.factors], 1)
    margin = torch.from_numpy(FACTOR_MARGIN * np.concatenate(list(of.values())).std(0))
    a, b = (torch.from_numpy(np.stack([of[int(i)][int(step)] for i, step in side])) for side in (first, second))
    return ordered_factor_answers(a, b, margin).numpy()


def _asked(
    data: RewardData, first: NDArray[np.int64], second: NDArray[np.int64], settings: TrainingSettings, report: Report
) -> NDArray[np.int64]:
    client = Endpoint(settings.endpoint)
    camera = settings.cameras[0]
    answers = []
    for number, (a, b) in enumerate(zip(first, second, strict=True)):
        images = [data.images(int(index), camera)[int(step)] for index, step in (a, b)]
        goal = settings.goal or data.store.episodes[int(a[0])].instruction
        answers.append(compare(client, goal, *images))
        report(0, f"pair {number + 1} of {len(first)} asked, {client.requests} requests, cost {client.cost:.2f}")
    return np.array(answers, np.int64)


def train_preference(
    data: RewardData, indices: Sequence[int], settings: TrainingSettings, report: Report
) -> PreferenceReward:
    """The encoder, unless it is frozen, first learns from the same answers; then the ensemble on its features."""
    pairs = draw_pairs(data, indices, settings, report)
    config = PreferenceConfig(
        settings.cameras,
        data.proprio_size if settings.proprio else 0,
        encoder_config(data, settings),
        seed=settings.seed,
    )
    model = PreferenceReward(config).to(settings.device)
    _pretrain(model, data, pairs, settings, report)
    first, second = _features(model, data, pairs.first), _features(model, data, pairs.second)
    answer = torch.from_numpy(pairs.answer).float().to(settings.device)
    try:
        figures = fit_bradley_terry(model.net, first, second, answer, FitConfig(seed=settings.seed))
    except SpecError as error:
        raise DatasetError(f"{data.path}: {error}") from error
    report(settings.steps, f"{figures['pairs']:.0f} pairs, {figures['accuracy']:.2f} of them as answered")
    model.normalize_over(episodes for _, episodes in data.batches(indices, settings.cameras))
    return model.eval()


def _features(model: PreferenceReward, data: RewardData, side: NDArray[np.int64]) -> Tensor:
    """Features (N, D) of the steps of one side."""
    rows: Tensor | None = None
    for index in np.unique(side[:, 0]):
        which = np.flatnonzero(side[:, 0] == index)
        with torch.no_grad():
            found = model.encode(data.episodes([int(index)], model.config.cameras))[0]
        rows = found.new_zeros(len(side), found.shape[1]) if rows is None else rows
        rows[torch.from_numpy(which)] = found[torch.from_numpy(side[which, 1])]
    assert rows is not None
    return rows


def _pretrain(
    model: PreferenceReward, data: RewardData, pairs: Pairs, settings: TrainingSettings, report: Report
) -> None:
    """Teach the encoder what the answers are about: a linear score of each image orders the answered pairs."""
    sure = pairs.answer != UNSURE
    count = int(sure.sum())
    answer = torch.from_numpy(pairs.answer[sure]).float()
    pool = {camera: _images(data, camera, [pairs.first[sure], pairs.second[sure]]) for camera in settings.cameras}

    def draw(generator: torch.Generator) -> Tensor:
        pair = torch.randint(count, (settings.batch_size // 2,), generator=generator)
        return torch.cat([pair, pair + count])

    def pair_loss(score: Tensor, rows: Tensor) -> Tensor:
        half = len(rows) // 2
        wanted = answer[rows[:half]].to(score.device)
        return nn.functional.binary_cross_entropy_with_logits(score[half:, 0] - score[:half, 0], wanted)

    pretrain(model.encoder, pool, draw, pair_loss, 1, settings, report)


def _images(data: RewardData, camera: str, sides: Sequence[NDArray[np.int64]]) -> Tensor:
    """Images of the steps of all sides, one after the other; each episode is decoded once."""
    steps = np.concatenate(sides)
    images = np.empty((len(steps), *data.image_size(camera), 3), np.uint8)
    for index in np.unique(steps[:, 0]):
        which = np.flatnonzero(steps[:, 0] == index)
        images[which] = data.images(int(index), camera)[steps[which, 1]]
    return torch.from_numpy(images)
