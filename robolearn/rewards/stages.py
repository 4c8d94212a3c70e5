"""Stages and progress of episodes, and the windows of steps that a progress model is trained on.

Chen et al., "SARM: stage-aware reward modeling for long horizon robot manipulation", 2025, section 3; the rewinding of
windows: Zhang et al., "ReWiND", 2025. An episode of T steps passes the stages k = 0 .. S-1 in order, from step s_k on:

    prior       a_k = mean over episodes of (length of k / T), made to sum to 1
    tau_t       = (t - s_k) / (s_{k+1} - s_k)                      the last stage ends at the last step, with tau 1
    progress_t  = P_k + a_k tau_t,   P_k = a_0 + .. + a_{k-1}

so that equal looks have equal progress however long an episode dwelt there, which counting frames does not give.

Differences from the authors' code: stage and tau are kept apart, so that tau = 1 does not spill into the next stage;
durations count steps, not whole seconds; every sample of a batch has its own coin for rewinding and for a wrong text;
padding is marked and stays out of the loss; an episode without annotation is an error and not a silent zero. From
ReWiND's: a window begins with the first step of its episode, not anywhere, so progress is that of the whole of it.
Legend: B batch, T steps, W window, S stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from robolearn.errors import DatasetError, SpecError

Values = TypeVar("Values", NDArray, Tensor)


@dataclass(frozen=True)
class WindowConfig:
    """Which steps a progress model sees: the first, `past` ones before now, and now."""

    past: int = 7  # steps between the first and the current one
    gap: int = 30  # steps between two of them; less where the episode is still shorter
    max_rewind: int = 4  # training: steps of reversed history appended at most
    rewind_probability: float = 0.8  # training: of appending any, per sample
    wrong_text_probability: float = 0.2  # training: of another task's text, whose progress is 0, per sample

    @property
    def size(self) -> int:
        """Steps of a window without rewinding."""
        return self.past + 2


@dataclass(frozen=True)
class StageTargets:
    """What a model is to say about each step of one episode: stage (T,) int64, tau (T,) float32 in [0, 1]."""

    stage: NDArray[np.int64]
    tau: NDArray[np.float32]


def targets_from_starts(starts: Sequence[int], steps: int) -> StageTargets:
    """Targets of a whole demonstration whose stage k begins at step `starts[k]`. Raises SpecError."""
    edges = [*starts, steps]
    if not starts or starts[0] != 0 or any(a >= b for a, b in pairwise(edges)):
        raise SpecError(
            f"stages start at steps {list(starts)} of {steps}; expected 0 first, then growing, all within the episode"
        )
    stage = np.searchsorted(np.asarray(starts), np.arange(steps), side="right") - 1
    ends = np.array([*starts[1:], max(steps - 1, starts[-1] + 1)])  # the last step has tau 1
    tau = (np.arange(steps) - np.asarray(starts)[stage]) / (ends - np.asarray(starts))[stage]
    if steps - 1 == starts[-1]:
        tau[-1] = 1.0
    return StageTargets(stage.astype(np.int64), tau.astype(np.float32))


def time_share(steps: int) -> NDArray[np.float32]:
    """(T,) the share of the time of an episode of so many steps that has passed: tau of a single stage."""
    return targets_from_starts([0], steps).tau


def starts_from_labels(stage: NDArray[np.integer], stages: Sequence[str]) -> tuple[int, ...]:
    """First step of each of these stages, from a stage label for each step (T,). Raises DatasetError.

    Progress needs every stage once and in order; an episode that fails or goes back is no ground truth for it.
    """
    changes = [0, *(np.flatnonzero(np.diff(stage)) + 1).tolist()]
    order = [int(stage[step]) for step in changes]
    if order != list(range(len(stages))):
        passed = ", ".join(stages[each] for each in order)
        raise DatasetError(f"it passes {passed}; expected once each, and in order: {', '.join(stages)}")
    return tuple(changes)


def stage_priors(starts: Sequence[Sequence[int]], steps: Sequence[int]) -> NDArray[np.float64]:
    """Mean share (S,) of each stage in the length of an episode, summing to 1. Raises DatasetError without episodes."""
    if not starts or len({len(one) for one in starts}) != 1:
        raise DatasetError(f"{len(starts)} annotated episodes with differing stages; annotate all with the same stages")
    shares = [np.diff([*one, total]) / total for one, total in zip(starts, steps, strict=True)]
    mean = np.mean(shares, axis=0)
    return mean / mean.sum()


def progress_of(stage: Values, tau: Values, priors: Values) -> Values:
    """Progress in [0, 1] of stage and tau, of any one shape, with the priors (S,); of arrays, or of tensors."""
    before = priors.cumsum(0) - priors
    return before[stage] + priors[stage] * tau


def window_steps(now: NDArray[np.int64], config: WindowConfig) -> NDArray[np.int64]:
    """Steps (B, W) that are seen at steps `now` (B,): the first, then evenly spaced up to now, at most `gap` apart."""
    spacing = np.minimum(config.gap, now / (config.past + 1))
    back = np.arange(config.past, -1, -1)
    recent = np.floor(now[:, None] - back * spacing[:, None]).astype(np.int64)
    return np.concatenate([np.zeros((len(now), 1), np.int64), recent], axis=1)


def training_window(
    rng: np.random.Generator, now: NDArray[np.int64], config: WindowConfig
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Steps (B, W + max_rewind) and which of them are valid, with the history running backwards at the end of some.

    Targets are looked up by the same steps, so a rewound window has the falling labels that belong to it.
    """
    forward = window_steps(now, config)
    spacing = np.maximum(np.minimum(config.gap, now // (config.past + 1)), 1)
    back = now[:, None] - spacing[:, None] * np.arange(1, config.max_rewind + 1)
    count = rng.integers(1, config.max_rewind + 1, len(now)) if config.max_rewind else np.zeros(len(now), np.int64)
    count = count * (rng.random(len(now)) < config.rewind_probability)
    rewound = (np.arange(config.max_rewind) < count[:, None]) & (back >= 0)
    steps = np.concatenate([forward, np.where(rewound, back, 0)], axis=1)
    return steps, np.concatenate([np.ones_like(forward, dtype=bool), rewound], axis=1)


def with_wrong_texts(
    rng: np.random.Generator,
    texts: Sequence[str],
    others: Sequence[str],
    stage: NDArray[np.int64],
    tau: NDArray[np.float32],
    config: WindowConfig,
) -> tuple[list[str], NDArray[np.int64], NDArray[np.float32]]:
    """Give some samples (B) the text of another task, and then stage 0 and tau 0 in the whole window (B, W).

    Without this a model of one task learns to ignore the text. `others` must differ from every one of `texts`.
    """
    same = sorted(set(texts) & set(others))
    if same or not others:
        raise SpecError(f"the other texts hold {', '.join(same) or 'nothing'}; give instructions of other tasks")
    wrong = rng.random(len(texts)) < config.wrong_text_probability
    chosen = rng.integers(len(others), size=len(texts))
    told = [others[i] if bad else text for text, i, bad in zip(texts, chosen, wrong, strict=True)]
    return told, np.where(wrong[:, None], 0, stage), np.where(wrong[:, None], np.float32(0.0), tau)
