"""What differs between the ways to have rewards written: who says which one is best, and what the author is told next.

    eureka       the task's metric ranks; the best one goes back with its traces
    icpl         a person names the best and the worst; both go back with their traces and what differs between them
    text2reward  a person says what the policy does wrong; the words go back with the newest one

Ma et al., "Eureka: human-level reward design via coding large language models", 2023; Yu et al., "Few-shot in-context
preference learning using large language models", 2024; Xie et al., "Text2Reward: reward shaping with language models
for reinforcement learning", 2023.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from robolearn.errors import UnknownNameError
from robolearn.rewards.code.candidate import Candidate, failure_text, failures_text, trace_text
from robolearn.rewards.code.client import Message

Ask = Callable[[str], str]
"""Puts a question to a person and gives back the line that was answered."""


@dataclass(frozen=True)
class Verdict:
    """What a round led to."""

    best: Candidate | None  # what the loop would answer with now
    turns: list[Message]  # of the next chat, after the task; none ends the loop


@dataclass(frozen=True)
class Method:
    """One way to have rewards written."""

    candidates: int  # K, of a round, unless other is said
    resamples: int  # times that a round asks again until it has K that could be trained with
    by_person: bool  # who is shown what the policies do; else the task's metric is measured
    judge: Callable[[Sequence[Candidate], Candidate | None, bool, Ask], Verdict]
    """Of the candidates of a round, at least one; the best one before; whether the round is the last; and a person."""


def _turns(answer: str, feedback: str) -> list[Message]:
    return [{"role": "assistant", "content": answer}, {"role": "user", "content": feedback}]


def _retry(fresh: Sequence[Candidate]) -> list[Message]:
    """What is told when nothing could be trained with so far."""
    return _turns(fresh[0].answer, failure_text(fresh[0]))


def _eureka(fresh: Sequence[Candidate], best: Candidate | None, last: bool, ask: Ask) -> Verdict:
    """The best metric wins, of equals the earlier."""
    metrics = {one.number: one.training.metric for one in fresh if one.training and one.training.metric is not None}
    leading = None if best is None or best.training is None else best.training.metric
    for one in fresh:
        if one.number in metrics and (leading is None or metrics[one.number] > leading):
            best, leading = one, metrics[one.number]
    if best is None or best.training is None:
        return Verdict(None, _retry(fresh))
    reached = ", ".join(f"{metric:.4g}" for metric in metrics.values()) or "none"
    feedback = (
        f"A policy was trained with this reward. The task's metric reached {leading:.4g}.\n"
        f"{trace_text(best.training)}\n"
        f"Metrics of round {fresh[0].round + 1}: {reached}.{failures_text(fresh)}\n"
        "If the metric stays near its least value, rewrite the whole reward. If one component is much larger than the "
        "others, rescale it. Write a better reward."
    )
    return Verdict(best, _turns(best.answer, feedback))


def _icpl(fresh: Sequence[Candidate], best: Candidate | None, last: bool, ask: Ask) -> Verdict:
    """A person compares what the policies of this round do; the best one before is shown again beside them."""
    shown = [*([best] if best else []), *(one for one in fresh if one.training)]
    if not shown:
        return Verdict(None, _retry(fresh))
    first, worst = _ranked(shown, ask) if len(shown) > 1 else (shown[0], None)
    assert first.training is not None
    feedback = f"A policy was trained with this reward. Its components:\n{trace_text(first.training)}"
    if worst is not None and worst.training is not None:
        changes = difflib.unified_diff(worst.code.splitlines(), first.code.splitlines(), "worst", "best", lineterm="")
        feedback = (
            f"A person watched the policies of {len(shown)} rewards and liked that of this one best.\n"
            f"Its components:\n{trace_text(first.training)}\n"
            f"The policy of this one was liked least:\n```\n{worst.code}```\n"
            f"Its components:\n{trace_text(worst.training)}\n"
            "What differs, from the worst to the best:\n```diff\n" + "\n".join(changes) + "\n```"
        )
    feedback += f"{failures_text(fresh)}\nKeep what makes this one good, and write a better reward."
    return Verdict(first, _turns(first.answer, feedback))


def _ranked(shown: Sequence[Candidate], ask: Ask) -> tuple[Candidate, Candidate]:
    """Best and worst, as a person says."""
    by_number = {str(one.number): one for one in shown}
    films = "\n".join(f"{one.number}: {one.training.film}" for one in shown if one.training)
    question = f"{films}\nWhich one is best, and which is worst? Two numbers: "
    while True:
        words = ask(question).replace(",", " ").split()
        if len(words) == 2 and words[0] != words[1] and by_number.keys() >= {*words}:
            return by_number[words[0]], by_number[words[1]]
        question = f"{' '.join(words)!r} came, two different numbers of {', '.join(by_number)} are wanted: "


def _text2reward(fresh: Sequence[Candidate], best: Candidate | None, last: bool, ask: Ask) -> Verdict:
    """A person says what is wrong; nothing to say, or no further round, ends it."""
    trained = [one for one in fresh if one.training]
    best = trained[-1] if trained else best
    if best is None or best.training is None:
        return Verdict(None, _retry(fresh))
    if not trained:
        return Verdict(best, _retry(fresh))
    words = "" if last else ask(f"{best.number}: {best.training.film}\nWhat does it do wrong? (nothing: done) ").strip()
    feedback = f"A policy was trained with this reward. A person who watched it says: {words}\nMend the reward."
    return Verdict(best, _turns(best.answer, feedback) if words else [])


METHODS: Mapping[str, Method] = {
    "eureka": Method(candidates=4, resamples=0, by_person=False, judge=_eureka),
    "icpl": Method(candidates=6, resamples=3, by_person=True, judge=_icpl),
    "text2reward": Method(candidates=1, resamples=3, by_person=True, judge=_text2reward),
}
"""Every method by name. Differences: Eureka's metric is an argument and not searched for in logs, and all that failed
is told beside the best one; ICPL shows the best one so far again, so that a worse round loses nothing."""


def method_of(name: str) -> Method:
    """Raises UnknownNameError with the near misses."""
    if name not in METHODS:
        raise UnknownNameError("method of writing rewards", name, METHODS)
    return METHODS[name]
