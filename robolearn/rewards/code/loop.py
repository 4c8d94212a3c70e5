"""The loop that has rewards written: candidates are asked for, a policy is trained with each, the next ones are better.

    chat -> K answers -> those that keep to the form -> a training each -> the method's verdict -> the next chat

The loop of Ma et al., "Eureka: human-level reward design via coding large language models", 2023; what it goes by is a
method of `methods.py`. A candidate that fails tells its error to the next author. A reward takes one of the forms of
`forms.py`, and code runs in the sandbox only; candidates keep their numbers through failures; a round without any
survivor does not end the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from robolearn.errors import RobolearnError, SpecError
from robolearn.rewards.code.allow_list import RewardCodeError
from robolearn.rewards.code.candidate import Candidate, Training, failure_text
from robolearn.rewards.code.client import ChatClient, Message
from robolearn.rewards.code.forms import Form, TaskText, block, form_of
from robolearn.rewards.code.methods import Ask, method_of
from robolearn.rewards.code.sandbox import SandboxConfig


@dataclass(frozen=True)
class WritingConfig:
    """Settings of the loop. Raises UnknownNameError for names that are none, SpecError for what cannot be meant."""

    method: str = "eureka"  # of METHODS
    candidates: int | None = None  # K, of each round; by default the method's
    rounds: int = 3
    form: str = "parameters"  # of FORMS
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)

    def __post_init__(self) -> None:
        method_of(self.method), form_of(self.form)
        if min(self.rounds, self.per_round) < 1:
            raise SpecError(f"{self.rounds} rounds of {self.per_round} candidates; expected at least 1 of each")
        if self.method == "text2reward" and self.per_round != 1:
            raise SpecError(f"text2reward mends one reward, {self.per_round} candidates came; leave them out")
        if self.method == "icpl" and self.per_round < 2:
            raise SpecError("icpl compares the rewards of a round; give it at least 2 candidates")

    @property
    def per_round(self) -> int:
        """K."""
        return method_of(self.method).candidates if self.candidates is None else self.candidates


TrainEach = Callable[[Mapping[int, str]], Mapping[int, Training | str]]
"""Trains a policy with each written reward; both by the candidate's number. A text says why it could not be."""


def nobody(question: str) -> str:
    """The person of a loop that goes by the metric."""
    raise RobolearnError("this method asks a person, and there is nobody to ask; go by the metric (eureka)")


def write_rewards(
    client: ChatClient,
    task: TaskText,
    train: TrainEach,
    config: WritingConfig,
    ask: Ask = nobody,
    keep: Callable[[list[Candidate]], None] = lambda candidates: None,
) -> list[Candidate]:
    """All candidates of all rounds, best first; those that failed come last, in the order in which they came.

    keep: called with all candidates so far before anybody is asked what they are worth.
    """
    method, form = method_of(config.method), form_of(config.form)
    first = messages = first_messages(task, form)
    candidates: list[Candidate] = []
    best: Candidate | None = None
    for number in range(config.rounds):
        fresh: list[Candidate] = []
        chat, missing = messages, config.per_round
        for _ in range(1 + method.resamples):
            answers = client.answers(chat, missing)
            if not answers:
                raise RobolearnError(f"the language model gave no answer, {missing} were asked for; try again")
            sampled = _tried(answers, number, len(candidates) + 1, task, train, config)
            fresh, candidates = fresh + sampled, candidates + sampled
            keep(ranked(candidates, best))
            missing -= sum(one.training is not None for one in sampled)
            failed = [one for one in sampled if one.training is None]
            if not missing or not failed:
                break
            mend: Message = {"role": "user", "content": failure_text(failed[-1])}
            chat = [*chat, {"role": "assistant", "content": failed[-1].answer}, mend]
        verdict = method.judge(fresh, best, number == config.rounds - 1, ask)
        best = verdict.best
        keep(ranked(candidates, best))
        if not verdict.turns:
            break
        messages = [*first, *verdict.turns]
    return ranked(candidates, best)


def ranked(candidates: list[Candidate], best: Candidate | None) -> list[Candidate]:
    """The best one, then by metric where there is one, of equals the earlier; failures last."""

    def place(one: Candidate) -> tuple[bool, bool, float]:
        metric = one.training.metric if one.training else None
        return one is not best, one.training is None, 0.0 if metric is None else -metric

    return sorted(candidates, key=place)


def first_messages(task: TaskText, form: Form) -> list[Message]:
    """The chat that asks for a reward: rules, then the task."""
    meanings = "\n".join(f"- {name}: {meaning}" for name, meaning in task.parameters.items())
    return [
        {"role": "system", "content": form.rules(task)},
        {"role": "user", "content": f"The task: {task.instruction}\nQuantities:\n{meanings}"},
    ]


def _tried(
    answers: list[str], round_: int, number: int, task: TaskText, train: TrainEach, config: WritingConfig
) -> list[Candidate]:
    """Candidates, numbered from `number` on, of which those are trained with that keep to the form."""
    written = {number + i: block(answer) for i, answer in enumerate(answers)}
    errors = {one: _refusal(text, task, config) for one, text in written.items()}
    outcomes = dict(train({one: text for one, text in written.items() if not errors[one]}))
    candidates = []
    for (one, text), answer in zip(written.items(), answers, strict=True):
        outcome = outcomes.get(one, errors[one])
        if isinstance(outcome, Training) and outcome.metric is not None and not np.isfinite(outcome.metric):
            outcome = "the task's metric was not finite"
        training = outcome if isinstance(outcome, Training) else None
        error = outcome if isinstance(outcome, str) else ""
        candidates.append(Candidate(round_, one, answer, text, training, error))
    return candidates


def _refusal(text: str, task: TaskText, config: WritingConfig) -> str:
    """Why a written reward is none; empty where it is one."""
    try:
        with form_of(config.form).make(text, task, config.sandbox):
            return ""
    except RewardCodeError as error:
        return str(error)
