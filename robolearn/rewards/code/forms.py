"""The forms that a written reward may take: closed parameters, of which nothing is executed, or code in the sandbox."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from robolearn.errors import UnknownNameError
from robolearn.rewards.code.allow_list import LINALG, NUMPY, RewardCodeError
from robolearn.rewards.code.parameters import KINDS, MAX_TERMS, Term, parse_terms, terms_reward
from robolearn.rewards.code.sandbox import FUNCTION, CodeRewards, Sandbox, SandboxConfig


@dataclass(frozen=True)
class TaskText:
    """What the author of a reward is told of a task."""

    instruction: str  # what is to be done, in a sentence
    parameters: dict[str, str]  # the quantities that a reward is made of: name to meaning, shape and unit
    sizes: dict[str, int] = field(default_factory=dict)  # entries of each; 1 unless it is here


class Written(Protocol):
    """A written reward, ready to score. A context manager; raises RewardCodeError for all that goes wrong."""

    def score(self, columns: Mapping[str, NDArray]) -> CodeRewards:
        """Rewards of N rows; the column of each quantity is (N, ...)."""
        ...

    def __enter__(self) -> Written: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ClosedReward:
    """A weighted sum of terms; see `parameters.py`."""

    def __init__(self, terms: tuple[Term, ...]) -> None:
        self.terms = terms

    def score(self, columns: Mapping[str, NDArray]) -> CodeRewards:
        rewards, parts = terms_reward(self.terms, columns)
        if not np.isfinite(rewards).all():
            raise RewardCodeError("a reward is not finite")
        return CodeRewards(rewards, parts)

    def __enter__(self) -> ClosedReward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


@dataclass(frozen=True)
class Form:
    """How a reward is asked for, and what is made of an answer's block."""

    rules: Callable[[TaskText], str]
    make: Callable[[str, TaskText, SandboxConfig], Written]


def block(answer: str) -> str:
    """The first fenced block of an answer, or all of it without one."""
    match = re.search(r"```(?:\w+)?\s*\n(.*?)```", answer, re.DOTALL)
    return (match.group(1) if match else answer).strip() + "\n"


def _code_rules(task: TaskText) -> str:
    return (
        f"Write one Python function `{FUNCTION}({', '.join(task.parameters)})` that returns `(reward, components)`: a "
        "float, and a dict of named floats that add up to it. It is called once per step. Use arithmetic, if, for over "
        f"range(number), and of NumPy only: {', '.join(f'np.{name}' for name in sorted(NUMPY - {'linalg'}))}, "
        f"{', '.join(f'np.linalg.{name}' for name in sorted(LINALG))}. No imports, classes, lambdas or comprehensions. "
        "Answer with the function in one fenced block."
    )


def _parameter_rules(task: TaskText) -> str:
    sizes = ", ".join(f"{name} ({task.sizes.get(name, 1)})" for name in task.parameters)
    return (
        f"Fill in a form: a reward that is the sum of at most {MAX_TERMS} terms, each of a kind of {', '.join(KINDS)}. "
        "distance: -weight min(|x - target|, scale). near: weight exp(-(|x - target| / scale)^2). above: weight where "
        f"x > target. smooth: -weight |x|^2. Quantities x with their number of entries: {sizes}. Answer with one "
        "fenced block of JSON: "
        '{"terms": [{"kind": ..., "quantity": ..., "weight": ..., "target": [...], "scale": ...}]}'
    )


FORMS: Mapping[str, Form] = {
    "parameters": Form(
        _parameter_rules,
        lambda text, task, limits: ClosedReward(
            parse_terms(text, {name: task.sizes.get(name, 1) for name in task.parameters})
        ),
    ),
    "code": Form(_code_rules, lambda text, task, limits: Sandbox(text, list(task.parameters), limits)),
}
"""Every form by name; the first one is safe where code is not wanted."""


def form_of(name: str) -> Form:
    """Raises UnknownNameError with the near misses."""
    if name not in FORMS:
        raise UnknownNameError("form of a written reward", name, FORMS)
    return FORMS[name]
