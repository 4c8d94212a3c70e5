"""How far can a reward model be trusted? Measures of its scores on episodes of known outcome, and gates.

    AUROC       a success ends with a higher value than a failure does
    VOC         value-order correlation: Spearman of value and time, over successes and over failures apart
    progress    Spearman of the value and the task's true progress over successes, where the episodes have it
    stage       share of the steps of successes whose stage is right, where model and episodes have one
    found       share of successes that a success classifier calls done; one that never does has no false positives
    FPR         share of failed episodes, and of near-misses, that a success classifier calls done, and what so many
                failures say of all (Clopper and Pearson 1934): below which rate they are at 95 % confidence
    calibration expected calibration error of the probability of success, at the last step
    EPIC        sqrt((1 - rho) / 2) of the value and a reference reward (state-only form, Gleave et al. 2021)
    DARD        that of what could not be foreseen of the reward of the next state (Wulfe et al. 2022)
    STARC       distance to the reference with the value function of the collecting policy (Skalse et al. 2024)

What cannot be measured on the episodes at hand is None and passes no gate. Legend: N episodes, T steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import SpecError
from robolearn.rewards.compare import dard_distance_sampled, pearson_distance, starc_distance_sampled
from robolearn.rewards.reward_model import Kind
from robolearn.rewards.success import area_under_roc, calibration, rate_bound

Array = NDArray[np.float64]

TRANSITIONS = 3  # for each feature that DARD and STARC fit; by fewer the fit knows the noise, and the distance is any


@dataclass(frozen=True)
class AuditEpisode:
    """What is known of one episode of T steps."""

    success: bool | None  # None where nobody knows, which says nothing for or against a model
    near_miss: bool = False  # failed, though it came close
    terminated: bool = True  # else cut off, and the last state bootstraps
    progress: Array | None = None  # (T,) true progress in [0, 1]
    stage: NDArray[np.int64] | None = None  # (T,) true stage
    stages: tuple[str, ...] = ()  # which they are, by number
    reference: Array | None = None  # (T,) a reward to compare with
    features: Array | None = None  # (T, D) of the state, for DARD and STARC


@dataclass(frozen=True)
class Scores:
    """What one model says of each episode: value (T,), whether a classifier decided that it was done, stage (T,), of
    those by name."""

    name: str
    kind: Kind
    value: Sequence[Array]
    done: Sequence[bool] | None = None
    stage: Sequence[NDArray[np.int64]] | None = None
    stages: tuple[str, ...] = ()

    def of(self, rows: Sequence[int]) -> Scores:
        """What it says of some of the episodes."""
        done = None if self.done is None else [self.done[row] for row in rows]
        stage = None if self.stage is None else [self.stage[row] for row in rows]
        return replace(self, value=[self.value[row] for row in rows], done=done, stage=stage)


@dataclass(frozen=True)
class Gate:
    """A bound on a metric; `least` says which side of it is good."""

    metric: str
    bound: float
    least: bool = True

    def passed(self, value: float | None) -> bool:
        """Whether a measured value is good enough; one that could not be measured is not."""
        return value is not None and (value >= self.bound if self.least else value <= self.bound)

    def __str__(self) -> str:
        return f"{self.metric} {'at least' if self.least else 'at most'} {self.bound:g}"


GATES: dict[Kind, tuple[Gate, ...]] = {
    "reward": (Gate("success_auroc", 0.9),),
    "potential": (Gate("success_auroc", 0.9), Gate("voc_success", 0.8)),
    "success": (
        Gate("success_auroc", 0.95),
        Gate("found_rate", 0.5),
        Gate("false_positive_rate", 0.01, least=False),
        Gate("calibration_error", 0.1, least=False),
    ),
}
"""What a model has to reach before a real robot learns from it, by kind."""


METRIC_WORDS = {
    "success_auroc": "AUROC of success",
    "voc_success": "order on successes",
    "voc_failure": "order on failures",
    "progress_spearman": "rank with true progress",
    "stage_accuracy": "stage accuracy",
    "found_rate": "successes found",
    "false_positive_rate": "false positives",
    "false_positive_bound": "false positives of all failures, at 95 % below",
    "near_miss_false_positive_rate": "false positives on near-misses",
    "calibration_error": "calibration error",
    "epic_distance": "EPIC to reference",
    "dard_distance": "DARD to reference",
    "starc_distance": "STARC to reference",
}
"""What people are told that a metric is, in the order of a table."""


def in_words(gate: str, metrics: Mapping[str, object]) -> str:
    """A gate that was missed, as `Gate.__str__` and audits on disk say it, for people, who are told where it was missed
    because nothing could be measured."""
    metric, _, bound = gate.partition(" ")
    unknown = " (not measurable here)" if metrics.get(metric) is None else ""
    return f"{METRIC_WORDS.get(metric, metric)} {bound}{unknown}"


@dataclass(frozen=True)
class Audit:
    """The measures of one model; `missed` are the gates that it does not pass. `calibration`, of probabilities of
    success: the mean one of each filled bin, the share of successes there, and how many episodes that is of."""

    name: str
    kind: Kind
    metrics: Mapping[str, float | None]
    missed: tuple[Gate, ...] = field(default_factory=tuple)
    calibration: Sequence[tuple[float, float, int]] = ()

    @property
    def passed(self) -> bool:
        return not self.missed

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "kind": self.kind,
            "passed": self.passed,
            "missed": [str(gate) for gate in self.missed],
            **self.metrics,
            "calibration": [
                {"probability": said, "successes": was, "episodes": count} for said, was, count in self.calibration
            ],
        }


def audit(scores: Scores, episodes: Sequence[AuditEpisode], discount: float = 0.99) -> Audit:
    """Measure one model on N episodes. Raises SpecError when values and episodes do not belong together."""
    if len(scores.value) != len(episodes):
        raise SpecError(f"{scores.name} scored {len(scores.value)} episodes of {len(episodes)}; score all of them")
    success, failure = (np.array([one.success is outcome for one in episodes], bool) for outcome in (True, False))
    known = success | failure
    last = np.array([value[-1] for value in scores.value])
    metrics: dict[str, float | None] = {
        "success_auroc": area_under_roc(last[known], success[known]) if success.any() and failure.any() else None,
        "voc_success": _mean_order([value for value, of in zip(scores.value, success, strict=True) if of]),
        "voc_failure": _mean_order([value for value, of in zip(scores.value, failure, strict=True) if of]),
        "progress_spearman": _over_steps(
            spearman, scores.value, [one.progress if one.success else None for one in episodes]
        ),
        "stage_accuracy": _stage_accuracy(scores, episodes),
        "found_rate": None,
        "false_positive_rate": None,
        "false_positive_bound": None,
        "near_miss_false_positive_rate": None,
        "calibration_error": None,
        "epic_distance": _over_steps(_pearson, scores.value, [one.reference for one in episodes]),
        **_distances(scores.value, episodes, discount),
    }
    table: list[tuple[float, float, int]] = []
    if scores.kind == "success":
        done = np.array(scores.done if scores.done is not None else last > 0.5, bool)
        near = np.array([one.near_miss for one in episodes], bool)
        metrics["found_rate"] = _mean(done[success])
        metrics["false_positive_rate"] = _mean(done[failure])
        if failure.any():
            metrics["false_positive_bound"] = rate_bound(int(done[failure].sum()), int(failure.sum()))
        metrics["near_miss_false_positive_rate"] = _mean(done[failure & near])
        if known.any():
            metrics["calibration_error"], table = calibration(last[known], success[known])
    missed = tuple(gate for gate in GATES[scores.kind] if not gate.passed(metrics[gate.metric]))
    return Audit(scores.name, scores.kind, metrics, missed, table)


def agreement(models: Sequence[Scores]) -> dict[str, dict[str, float | None]]:
    """Spearman of every two models over all steps of all episodes."""
    flat = {one.name: np.concatenate(one.value) for one in models}
    return {a: {b: spearman(x, y) for b, y in flat.items()} for a, x in flat.items()}


def order_correlation(value: Array) -> float | None:
    """Spearman of value (T,) and time."""
    return spearman(value, np.arange(len(value), dtype=float))


def spearman(a: Array, b: Array) -> float | None:
    """Rank correlation of two arrays (N,), ties sharing their mean rank; None where one is constant."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    scale = np.sqrt((x @ x) * (y @ y))
    return float(x @ y / scale) if scale > 0 else None


def _ranks(values: Array) -> Array:
    _, group, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2.0)[group]


def _mean(values: NDArray) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _mean_order(values: Sequence[Array]) -> float | None:
    """Mean order correlation of episodes. One that the value stands still in is in no order, which counts 0; None where
    it does in all of them."""
    orders = [order_correlation(one) for one in values if len(one) > 1]
    return float(np.mean([order or 0.0 for order in orders])) if any(order is not None for order in orders) else None


def _over_steps(
    measure: Callable[[Array, Array], float | None], value: Sequence[Array], reference: Sequence[Array | None]
) -> float | None:
    """The measure over all steps of the episodes that have a reference."""
    both = [(v, r) for v, r in zip(value, reference, strict=True) if r is not None]
    return measure(np.concatenate([v for v, _ in both]), np.concatenate([r for _, r in both])) if both else None


def _stage_accuracy(scores: Scores, episodes: Sequence[AuditEpisode]) -> float | None:
    """Over the successes whose stages are those of the model."""
    if scores.stage is None:
        return None
    both = [
        (stage, one.stage)
        for stage, one in zip(scores.stage, episodes, strict=True)
        if one.success and one.stage is not None and one.stages == scores.stages
    ]
    return _mean(np.concatenate([s == true for s, true in both])) if both else None


def _pearson(a: Array, b: Array) -> float | None:
    return pearson_distance(a, b) if np.ptp(a) > 0 and np.ptp(b) > 0 else None


def _distances(value: Sequence[Array], episodes: Sequence[AuditEpisode], discount: float) -> dict[str, float | None]:
    """DARD and STARC over the transitions of the episodes that have features and a reference; None of too few."""
    mine, reference, features, ahead, bootstrap = [], [], [], [], []
    for score, one in zip(value, episodes, strict=True):
        if one.reference is None or one.features is None or len(score) < 2:
            continue
        mine.append(score[1:])  # the reward of a step is that of the state it led to
        reference.append(one.reference[1:])
        rows = np.concatenate([one.features, np.ones((len(score), 1))], axis=1)
        features.append(rows[:-1])
        ahead.append(rows[1:])
        last = np.ones(len(score) - 1)
        last[-1] = 0.0 if one.terminated else 1.0
        bootstrap.append(last)
    if not mine or np.ptp(np.concatenate(mine)) == 0 or np.ptp(np.concatenate(reference)) == 0:
        return {"dard_distance": None, "starc_distance": None}
    a, b, state, next_state, mask = (np.concatenate(each) for each in (mine, reference, features, ahead, bootstrap))
    if len(a) < TRANSITIONS * state.shape[1]:
        return {"dard_distance": None, "starc_distance": None}
    try:
        dard = dard_distance_sampled(a, b, state)
    except SpecError:  # one of them could be foreseen altogether
        dard = None
    return {"dard_distance": dard, "starc_distance": starc_distance_sampled(a, b, state, next_state, mask, discount)}
