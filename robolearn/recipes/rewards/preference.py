"""Train a reward from comparisons: pairs of steps or of segments, an answer to each, a Bradley-Terry ensemble.

RL-VLM-F (Wang et al. 2024) and its offline form: pairs of single images of an unlabelled dataset, or of segments as
Christiano et al. (2017) compare, answered by people, by a vision model behind an endpoint, or by a rule that stands for
either. Legend: N pairs, L steps of a segment (1: single steps), K different steps that were compared, D features.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robolearn.datasets.preferences import draw_segments, read_preferences
from robolearn.errors import DatasetError, SpecError
from robolearn.recipes.rewards.data import RewardData
from robolearn.recipes.rewards.encoding import ImagePool, encoder_config, pretrain
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
from robolearn.rewards.stages import time_share
from robolearn.rewards.vlm_labels import compare

logger = logging.getLogger(__name__)

LEAST_DIFFERENCE = 0.02  # of progress; what differs less, the rule is unsure about
FACTOR_MARGIN = 0.3  # of a factor's standard deviation; what differs less, the next factor decides


@dataclass(frozen=True)
class Pairs:
    """Compared segments: (episode, first step) of the first and of the second (N, 2), and the answers (N,)."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    answer: NDArray[np.float64]  # FIRST, SECOND, EQUAL or UNSURE
    segment: int = 1  # L

    def steps(self) -> tuple[NDArray[np.int64], Tensor]:
        """(episode, step) (K, 2) of all that was compared, each once, and where in it the steps of both sides are
        (2, N, L)."""
        sides = np.stack([self.first, self.second])
        later = np.stack([np.zeros(self.segment, np.int64), np.arange(self.segment)], 1)
        steps, rows = np.unique((sides[:, :, None] + later).reshape(-1, 2), axis=0, return_inverse=True)
        return steps, torch.from_numpy(rows.reshape(*sides.shape[:2], self.segment))


ANSWERS = {"first": FIRST, "second": SECOND, "equal": EQUAL, "unsure": UNSURE}


def draw_pairs(data: RewardData, indices: Sequence[int], settings: TrainingSettings, report: Report) -> Pairs:
    """Pairs of segments (`draw_segments`) with the labeller's answers, or what people answered of these episodes.

    Raises DatasetError when nobody can say anything, or no episode is as long as a segment.
    """
    longest = max(data.store.episodes[index].length for index in indices)
    if longest < settings.segment:
        raise DatasetError(
            f"{data.path}: the longest of {len(indices)} episodes has {longest} steps, segments are to have "
            f"{settings.segment}; give a smaller --segment"
        )
    if settings.labeller == "people":
        return _by_people(data, indices, settings.segment)
    rng = np.random.default_rng(settings.seed)
    indices = [index for index in indices if data.store.episodes[index].length >= settings.segment]
    lengths = [data.store.episodes[index].length for index in indices]

    def draw() -> NDArray[np.int64]:
        drawn = draw_segments(lengths, settings.segment, settings.pairs, rng)
        return np.stack([np.asarray(indices)[drawn[:, 0]], drawn[:, 1]], 1)

    first, second = draw(), draw()
    if settings.labeller == "endpoint":
        answer = _asked(data, first, second, settings, report)
    else:
        rule = _by_factors if settings.labeller == "factors" else _by_rule
        answer = rule(data, indices, first, second, settings)
        turned = rng.random(len(answer)) < settings.wrong_answers
        answer = np.where(turned & (answer != UNSURE), 1 - answer, answer)
    if (answer == UNSURE).all():
        raise DatasetError(
            f"{data.path}: the labeller {settings.labeller} is unsure about all {settings.pairs} pairs; take another, "
            "or episodes that differ more"
        )
    return Pairs(first, second, answer.astype(np.float64), settings.segment)


def _by_people(data: RewardData, indices: Sequence[int], segment: int) -> Pairs:
    """Every answer of everybody about such segments counts; those about other episodes, or steps that were cut off, are
    left out."""
    index_of = {data.store.episodes[index].id: index for index in indices}
    lengths = {data.store.episodes[index].id: data.store.episodes[index].length for index in indices}
    known = [
        one
        for one in read_preferences(data.store)
        if all(moment.step + one.segment <= lengths.get(moment.episode, 0) for moment in one.pair)
    ]
    found = [one for one in known if one.segment == segment]
    answer = np.array([ANSWERS[one.answer] for one in found], np.float64)
    if not np.isin(answer, (FIRST, SECOND)).any():
        others = ", ".join(map(str, sorted({one.segment for one in known} - {segment})))
        hint = f" (there are answers about a --segment of {others})" if others else ""
        raise DatasetError(
            f"{data.path}: people decided {len(answer)} comparisons of segments of {segment} steps of these "
            f"{len(indices)} episodes{hint}, none of them for one side; compare some on the page that `robolearn web` "
            "serves"
        )
    first, second = (
        np.array([(index_of[one.pair[side].episode], one.pair[side].step) for one in found], np.int64)
        for side in (0, 1)
    )
    return Pairs(first, second, answer, segment)


def _segment_means(values: NDArray[np.float64], segment: int) -> NDArray[np.float64]:
    """Means (T - L + 1, ...) of values (T, ...) over the segments that begin at each step."""
    return np.lib.stride_tricks.sliding_window_view(values, segment, axis=0).mean(-1)


def _by_rule(
    data: RewardData,
    indices: Sequence[int],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    settings: TrainingSettings,
) -> NDArray[np.int64]:
    """The later step wins, of a failure at less than a third of its share of time (`outcome`), or the greater progress
    does, which of a segment is the mean one. Unsure about episodes of unknown outcome."""
    worth: dict[int, NDArray[np.float64]] = {}
    for index in indices:
        info = data.store.episodes[index]
        if settings.labeller == "outcome":
            most = np.nan if info.success is None else 1.0 if info.success else 0.3
            worth[index] = _segment_means(most * time_share(info.length).astype(np.float64), settings.segment)
            continue
        truth = data.truth(index)
        if truth is None:
            raise DatasetError(
                f"{data.path}: episode {index} lacks the poses that the task judges by; take --labeller outcome or "
                "endpoint"
            )
        worth[index] = _segment_means(truth.progress, settings.segment)
    a, b = (np.array([worth[int(index)][int(step)] for index, step in side]) for side in (first, second))
    sure = np.abs(b - a) >= LEAST_DIFFERENCE  # which an unknown one is not
    return np.where(sure, np.where(b > a, SECOND, FIRST), UNSURE)


def _by_factors(
    data: RewardData,
    indices: Sequence[int],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    settings: TrainingSettings,
) -> NDArray[np.int64]:
    """HERON: the first of the ordered factors that differs by enough decides for the side that has more of it, in the
    mean of a segment."""
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
        factors = np.stack([np.asarray(columns[name], np.float64) for name in settings.factors], 1)
        of[index] = _segment_means(factors, settings.segment)
    margin = torch.from_numpy(FACTOR_MARGIN * np.concatenate(list(of.values())).std(0))
    a, b = (torch.from_numpy(np.stack([of[int(i)][int(step)] for i, step in side])) for side in (first, second))
    return ordered_factor_answers(a, b, margin).numpy()


def _asked(
    data: RewardData, first: NDArray[np.int64], second: NDArray[np.int64], settings: TrainingSettings, report: Report
) -> NDArray[np.int64]:
    client = Endpoint(settings.endpoint)
    camera = settings.cameras[0]
    goals = [data.goal(int(index), settings.goal) for index, _ in first]
    answers = []
    for number, (goal, a, b) in enumerate(zip(goals, first, second, strict=True)):
        images = [data.images(int(index), camera)[int(step) :][: settings.segment] for index, step in (a, b)]
        answers.append(compare(client, goal, *images))
        report(0, f"pair {number + 1} of {len(first)} asked, {client.requests} requests, cost {client.cost:.2f}")
    if client.count.unreadable:
        logger.warning("%s; such pairs are taken for unsure", client.count)
    return np.array(answers, np.int64)


def train_preference(
    data: RewardData, indices: Sequence[int], settings: TrainingSettings, report: Report
) -> PreferenceReward:
    """The encoder, unless it is frozen, first learns from the same answers; then the ensemble on its features."""
    config = PreferenceConfig(
        settings.cameras,
        data.proprio_size if settings.proprio else 0,
        encoder_config(data, settings),
        seed=settings.seed,
    )
    pairs = draw_pairs(data, indices, settings, report)
    model = PreferenceReward(config).to(settings.device)
    _pretrain(model, data, pairs, settings, report)
    steps, rows = pairs.steps()
    first, second = _features(model, data, steps)[rows]  # (N, L, D) each
    answer = torch.from_numpy(pairs.answer).float().to(settings.device)
    try:
        figures = fit_bradley_terry(model.net, first, second, answer, FitConfig(seed=settings.seed))
    except SpecError as error:
        raise DatasetError(f"{data.path}: {error}") from error
    report(settings.steps, f"{figures['pairs']:.0f} pairs, {figures['accuracy']:.2f} of them as answered")
    model.normalize_over(episodes for _, episodes in data.batches(indices, settings.cameras))
    return model.eval()


def _features(model: PreferenceReward, data: RewardData, steps: NDArray[np.int64]) -> Tensor:
    """Features (K, D) of (episode, step) (K, 2), in order of episodes."""
    rows = []
    for index in np.unique(steps[:, 0]):
        with torch.no_grad():
            found = model.encode(data.episodes([int(index)], model.config.cameras))[0]
        rows.append(found[torch.from_numpy(steps[steps[:, 0] == index, 1])])
    return torch.cat(rows)


def _pretrain(
    model: PreferenceReward, data: RewardData, pairs: Pairs, settings: TrainingSettings, report: Report
) -> None:
    """Teach the encoder what the answers are about: a linear score of each image orders the answered pairs. For a
    segment stands one step of it, drawn at random."""
    sure = pairs.answer != UNSURE
    count = int(sure.sum())
    answer = torch.from_numpy(pairs.answer[sure]).float()
    sides = np.concatenate([pairs.first[sure], pairs.second[sure]])
    sides[:, 1] += np.random.default_rng(settings.seed).integers(0, pairs.segment, 2 * count)
    pool = ImagePool(data, settings.cameras, sides)

    def draw(generator: torch.Generator) -> Tensor:
        pair = torch.randint(count, (settings.batch_size // 2,), generator=generator)
        return torch.cat([pair, pair + count])

    def pair_loss(score: Tensor, rows: Tensor) -> Tensor:
        half = len(rows) // 2
        wanted = answer[rows[:half]].to(score.device)
        return nn.functional.binary_cross_entropy_with_logits(score[half:, 0] - score[:half, 0], wanted)

    pretrain(model.encoder, pool, draw, pair_loss, 1, settings, report)
