"""The audit's measures: equal to SciPy's where that has them, and on scores whose worth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.errors import SpecError
from robolearn.rewards.audit import METRIC_WORDS, AuditEpisode, Gate, Scores, agreement, audit, in_words, spearman

RNG = np.random.default_rng(7)
STEPS = 40


def episodes() -> list[AuditEpisode]:
    """Twelve successes that progress evenly, eight failures that come halfway and go back; two of them near-misses."""
    rise, fall = np.linspace(0, 1, STEPS), 0.6 * np.sin(np.linspace(0, np.pi, STEPS))
    out = []
    for i in range(20):
        progress = rise if i < 12 else fall
        features = np.stack([progress, RNG.normal(size=STEPS)], 1)
        reference = np.where(progress > 0.99, 1.0, 0.0) if i < 12 else np.zeros(STEPS)
        out.append(AuditEpisode(i < 12, near_miss=i >= 18, progress=progress, reference=reference, features=features))
    return out


def progress_of(each: AuditEpisode) -> np.ndarray:
    assert each.progress is not None
    return each.progress


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40))
def test_spearman_is_that_of_scipy(pairs: list[tuple[int, int]]) -> None:
    from scipy import stats  # slow to import, in every process that collects this file

    a, b = (np.array(x, float) for x in zip(*pairs, strict=True))
    mine = spearman(a, b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert mine is None
    else:
        assert mine == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)


def test_true_progress_passes_and_noise_does_not() -> None:
    known = episodes()
    true = audit(Scores("true", "potential", [progress_of(one) + 0.01 for one in known]), known)
    assert true.passed
    assert true.metrics["success_auroc"] == 1.0
    assert true.metrics["voc_success"] == pytest.approx(1.0)
    assert true.metrics["progress_spearman"] == pytest.approx(1.0)
    voc_failure = true.metrics["voc_failure"]
    assert voc_failure is not None
    assert abs(voc_failure) < 0.2
    noise = audit(Scores("noise", "potential", [RNG.normal(size=STEPS) for _ in known]), known)
    assert [gate.metric for gate in noise.missed] == ["success_auroc", "voc_success"]


def test_counting_time_is_found_out_by_the_failures() -> None:
    known = episodes()
    clock = audit(Scores("clock", "potential", [np.linspace(0, 1, STEPS) for _ in known]), known)
    assert clock.metrics["voc_failure"] == pytest.approx(1.0)
    assert clock.metrics["success_auroc"] == 0.5
    assert not clock.passed


def test_a_value_that_stands_still_is_in_no_order() -> None:
    known = episodes()
    value = [progress_of(one) if i % 4 == 0 else np.full(STEPS, 0.5) for i, one in enumerate(known)]
    assert audit(Scores("often still", "potential", value), known).metrics["voc_success"] == pytest.approx(3 / 12)


def test_unknown_outcomes_say_nothing_for_or_against_a_model() -> None:
    known = episodes()
    unknown = [replace(one, success=None) for one in known[:6]]
    done = [not one.success for one in known]
    value = [np.full(STEPS, 0.9 if each else 0.1) for each in done]
    alone = audit(Scores("success", "success", value[6:], done[6:]), known[6:])
    both = audit(Scores("success", "success", value, done), [*unknown, *known[6:]])
    distances = {"epic_distance", "dard_distance", "starc_distance"}  # which no outcome is needed for
    for name in alone.metrics.keys() - distances:
        assert both.metrics[name] == alone.metrics[name], name
    assert both.calibration == alone.calibration
    nothing = audit(Scores("success", "success", value[:6], done[:6]), unknown)
    assert {nothing.metrics[name] for name in nothing.metrics.keys() - distances} == {None}


def test_a_classifier_that_is_fooled_by_near_misses() -> None:
    from scipy import stats

    known = episodes()
    done = [one.success or one.near_miss for one in known]
    value = [np.full(STEPS, 0.95 if each else 0.05) for each in done]
    result = audit(Scores("success", "success", value, done), known)
    assert result.metrics["false_positive_rate"] == pytest.approx(2 / 8)
    assert result.metrics["false_positive_bound"] == pytest.approx(stats.beta.ppf(0.95, 3, 6))
    assert result.metrics["near_miss_false_positive_rate"] == 1.0
    assert "false_positive_rate at most 0.01" in result.to_json()["missed"]  # type: ignore[operator]
    gate = "false_positive_rate at most 0.01"
    assert in_words(gate, result.metrics) == "false positives at most 0.01"
    assert in_words(gate, {"false_positive_rate": None}) == "false positives at most 0.01 (not measurable here)"
    assert set(METRIC_WORDS) == set(result.metrics)
    assert result.to_json()["calibration"] == [
        {"probability": pytest.approx(0.05), "successes": 0.0, "episodes": 6},
        {"probability": pytest.approx(0.95), "successes": pytest.approx(12 / 14), "episodes": 14},
    ]
    honest = [one.success for one in known]
    value = [np.full(STEPS, 0.95 if each else 0.05) for each in honest]
    assert audit(Scores("success", "success", value, honest), known).passed


def test_a_classifier_that_calls_next_to_nothing_done_misses_a_gate() -> None:
    """Its probabilities may be right; its threshold is not."""
    known = episodes()
    value = [np.full(STEPS, 0.95 if one.success else 0.05) for one in known]
    for share, missed in ((0.0, ["found_rate"]), (0.25, ["found_rate"]), (0.5, []), (1.0, [])):
        done = [one.success is True and number < 12 * share for number, one in enumerate(known)]
        result = audit(Scores("success", "success", value, done), known)
        assert (result.metrics["found_rate"], result.metrics["false_positive_rate"]) == (pytest.approx(share), 0.0)
        assert [gate.metric for gate in result.missed] == missed


def test_distances_to_the_reference() -> None:
    known = episodes()
    reference = [one.reference for one in known]
    same = audit(Scores("same", "reward", [3.0 * r for r in reference if r is not None]), known)
    opposite = audit(Scores("opposite", "reward", [-r for r in reference if r is not None]), known)
    assert same.metrics["epic_distance"] == pytest.approx(0.0, abs=1e-6)
    assert opposite.metrics["epic_distance"] == pytest.approx(1.0)
    assert same.metrics["dard_distance"] == pytest.approx(0.0, abs=1e-6)
    assert opposite.metrics["dard_distance"] == pytest.approx(1.0)
    near, far = same.metrics["starc_distance"], opposite.metrics["starc_distance"]
    assert near is not None
    assert far is not None
    assert near < 0.1 < 0.9 < far


def test_distances_of_too_few_transitions_are_not_told() -> None:
    """A fit of as many numbers as there are transitions leaves of rewards that have nothing in common any distance."""
    rng, state = np.random.default_rng(0), 12

    def distances(steps: int) -> list[float | None]:
        one = AuditEpisode(True, reference=rng.normal(size=steps), features=rng.normal(size=(steps, state)))
        metrics = audit(Scores("noise", "reward", [rng.normal(size=steps)]), [one]).metrics
        return [metrics["dard_distance"], metrics["starc_distance"]]

    assert distances(3 * (state + 1)) == [None, None]
    for _ in range(20):
        assert distances(20 * (state + 1)) == [pytest.approx(0.5**0.5, abs=0.12)] * 2


def test_what_cannot_be_measured_passes_no_gate() -> None:
    known = [AuditEpisode(success=True) for _ in range(3)]
    result = audit(Scores("constant", "potential", [np.zeros(STEPS)] * 3), known)
    assert set(result.metrics.values()) == {None}
    assert len(result.missed) == 2
    assert not Gate("x", 0.5).passed(None)


def test_stages_are_counted_on_successes() -> None:
    stage = np.array([0, 0, 1, 1])
    names = ("go", "stay")
    known = [AuditEpisode(outcome, stage=stage, stages=names) for outcome in (True, False, True)]
    said = [stage, 1 - stage, np.array([0, 1, 1, 1])]
    scores = Scores("x", "potential", [np.arange(4.0)] * 3, stage=said, stages=names)
    assert audit(scores, known).metrics["stage_accuracy"] == pytest.approx(7 / 8)
    known[2] = replace(known[2], stages=("approach", "settle"))  # whose numbers mean something else
    assert audit(scores, known).metrics["stage_accuracy"] == 1.0


def test_agreement_between_models() -> None:
    up = Scores("up", "reward", [np.arange(5.0)])
    down = Scores("down", "reward", [-(np.arange(5.0) ** 3)])
    table = agreement([up, down])
    assert table["up"]["down"] == pytest.approx(-1.0)
    assert table["up"]["up"] == pytest.approx(1.0)


def test_scores_of_other_episodes_are_refused() -> None:
    with pytest.raises(SpecError, match="scored 1 episodes of 2"):
        audit(Scores("x", "reward", [np.zeros(3)]), [AuditEpisode(True), AuditEpisode(False)])
