"""Rewards as closed JSON parameters: the safe default, because nothing that was written is executed.

Yu et al., "Language to rewards for robotic skill synthesis", 2023: the model fills in a fixed form instead of writing
code. A reward is a weighted sum of terms over named quantities of the task:

    distance     -weight min(|x - target|, limit)         near       weight exp(-(|x - target| / scale)^2)
    above        weight 1[x > target]                     smooth     -weight |x|^2

Difference: the form is ours and knows quantities, not joints of one robot. Legend: N steps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from robolearn.rewards.code.allow_list import RewardCodeError

Array = NDArray[np.float64]
KINDS = ("distance", "near", "above", "smooth")
MAX_TERMS, MAX_VALUE = 12, 1e3


@dataclass(frozen=True)
class Term:
    """One term. Units are those of the quantity."""

    kind: str  # of KINDS
    quantity: str  # a column of the task
    weight: float  # 0 to 1000
    target: tuple[float, ...] = (0.0,)  # one number, or one per entry of the quantity
    scale: float = 1.0  # width of `near`, limit of `distance`; more than 0


def parse_terms(text: str, quantities: Mapping[str, int]) -> tuple[Term, ...]:
    """Terms of a JSON answer `{"terms": [...]}`; `quantities` are names and sizes. Raises RewardCodeError."""
    try:
        rows = json.loads(text)["terms"]
        terms = tuple(
            Term(
                str(row["kind"]),
                str(row["quantity"]),
                float(row["weight"]),
                tuple(float(v) for v in np.atleast_1d(row.get("target", 0.0))),
                float(row.get("scale", 1.0)),
            )
            for row in rows
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise RewardCodeError(f'the answer is not {{"terms": [{{kind, quantity, weight, ...}}]}}: {error!r}') from error
    if not 1 <= len(terms) <= MAX_TERMS:
        raise RewardCodeError(f"{len(terms)} terms came, expected 1 to {MAX_TERMS}")
    for term in terms:
        _check(term, quantities)
    return terms


def terms_reward(terms: tuple[Term, ...], columns: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
    """Reward (N,) and its parts by `<number>_<kind>_<quantity>`, from columns (N,) or (N, D)."""
    parts = {}
    for number, term in enumerate(terms):
        value = np.asarray(columns[term.quantity], float)
        value = value.reshape(len(value), -1)
        distance = np.linalg.norm(value - np.array(term.target), axis=1)
        if term.kind == "distance":
            part = -np.minimum(distance, term.scale)
        elif term.kind == "near":
            part = np.exp(-((distance / term.scale) ** 2))
        elif term.kind == "above":
            part = (value > np.array(term.target)).all(1).astype(float)
        else:
            part = -(value**2).sum(1)
        parts[f"{number}_{term.kind}_{term.quantity}"] = term.weight * part
    return np.sum(list(parts.values()), axis=0), parts


def _check(term: Term, quantities: Mapping[str, int]) -> None:
    if term.kind not in KINDS:
        raise RewardCodeError(f"the term {term.kind!r} is unknown; there are {', '.join(KINDS)}")
    if term.quantity not in quantities:
        raise RewardCodeError(f"the quantity {term.quantity!r} is unknown; there are {', '.join(quantities)}")
    if len(term.target) not in (1, quantities[term.quantity]):
        raise RewardCodeError(f"{term.quantity} has {quantities[term.quantity]} entries, its target {len(term.target)}")
    numbers = np.array([term.weight, term.scale, *term.target])
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > MAX_VALUE or term.weight < 0 or term.scale <= 0:
        raise RewardCodeError(f"{term.kind} of {term.quantity}: weight, scale and target must be finite, up to 1000")
