"""Eureka's loop: write rewards, train with each, reflect on what happened, write better ones.

Ma et al., "Eureka: human-level reward design via coding large language models", 2023. Each round, K candidates are
written, each accepted one trains a policy, the task's own metric ranks them, and the best one's text goes back with
traces of every component, so that the next round can mend it. A candidate that fails tells its error when it is all
there is. Differences: a reward takes one of the forms of `forms.py`, and code runs in the sandbox only; candidates keep
their numbers through failures; the metric is an argument of the loop and not searched for in logs; a round without any
survivor does not end the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from robolearn.rewards.code.allow_list import RewardCodeError
from robolearn.rewards.code.client import ChatClient, Message
from robolearn.rewards.code.forms import Form, TaskText, Written, block, form_of
from robolearn.rewards.code.sandbox import SandboxConfig

TRACE_POINTS = 10


@dataclass(frozen=True)
class EurekaConfig:
    """Settings of the loop."""

    candidates: int = 8  # K, of each round
    rounds: int = 3
    form: str = "parameters"  # of FORMS
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)


@dataclass(frozen=True)
class Training:
    """What came of training with one reward: the task's metric, larger is better, and traces of the run."""

    metric: float
    traces: dict[str, NDArray[np.float64]]  # of each component and of the metric over the training
    run: str = ""  # where it is kept, if anywhere


Train = Callable[[Written], Training]
"""Trains a policy with a written reward; may raise RewardCodeError."""


@dataclass(frozen=True)
class Candidate:
    """One written reward, with its training or with what was wrong with it."""

    round: int
    number: int
    answer: str
    code: str
    training: Training | None
    error: str


def eureka(client: ChatClient, task: TaskText, train: Train, config: EurekaConfig) -> list[Candidate]:
    """All candidates of all rounds, best first; those that failed come last, in the order in which they came."""
    candidates: list[Candidate] = []
    form = form_of(config.form)
    messages = first_messages(task, form)
    for number in range(config.rounds):
        answers = client.answers(messages, config.candidates)
        fresh = [_try(answer, number, i, task, train, config) for i, answer in enumerate(answers)]
        candidates += fresh
        best = ranked(candidates)[0] if candidates else None
        if best is not None:
            feedback = reflection(best.training) if best.training is not None else failure_text(best.error)
            answer: Message = {"role": "assistant", "content": best.answer}
            messages = [*first_messages(task, form), answer, {"role": "user", "content": feedback}]
    return ranked(candidates)


def ranked(candidates: list[Candidate]) -> list[Candidate]:
    """Best metric first; of equals the earlier; failures last."""
    return sorted(candidates, key=lambda one: -one.training.metric if one.training else np.inf)


def first_messages(task: TaskText, form: Form) -> list[Message]:
    """The chat that asks for a reward: rules, then the task."""
    meanings = "\n".join(f"- {name}: {meaning}" for name, meaning in task.parameters.items())
    return [
        {"role": "system", "content": form.rules(task)},
        {"role": "user", "content": f"The task: {task.instruction}\nQuantities:\n{meanings}"},
    ]


def reflection(training: Training) -> str:
    """What the training showed: each trace at ten points with its maximum, mean and minimum, and advice."""
    lines = [f"A policy was trained with this reward. The task's metric reached {training.metric:.4g}."]
    for name, trace in training.traces.items():
        points = trace[np.linspace(0, len(trace) - 1, min(TRACE_POINTS, len(trace))).round().astype(int)]
        values = ", ".join(f"{value:.3g}" for value in points)
        lines.append(f"{name}: [{values}], max {trace.max():.3g}, mean {trace.mean():.3g}, min {trace.min():.3g}")
    constant = [name for name, trace in training.traces.items() if np.ptp(trace) < 1e-9]
    if constant:
        lines.append(f"Hardly changing, so rescale, rewrite or drop: {', '.join(constant)}.")
    lines.append(
        "If the metric stays near its least value, rewrite the whole reward. If one component is much larger than the "
        "others, rescale it. Write a better reward."
    )
    return "\n".join(lines)


def failure_text(error: str) -> str:
    """What is told when nothing worked."""
    return f"The reward could not be used: {error}\nWrite one that keeps to the rules."


def _try(answer: str, round_: int, number: int, task: TaskText, train: Train, config: EurekaConfig) -> Candidate:
    written = block(answer)
    try:
        with form_of(config.form).make(written, task, config.sandbox) as reward:
            training = train(reward)
    except RewardCodeError as error:
        return Candidate(round_, number, answer, written, None, str(error))
    if not np.isfinite(training.metric):
        return Candidate(round_, number, answer, written, None, "the task's metric was not finite")
    return Candidate(round_, number, answer, written, training, "")
