"""YAML that anybody may have written: plain values of a bounded size, or one error."""

from __future__ import annotations

from typing import Any

import yaml

DEEPEST = 50  # values in each other
LARGEST = 1 << 20  # values and letters, each alias counted as what it stands for
A_LETTER = 2  # of them, that a letter of a long text may stand for: without aliases there are no more


def load_yaml(text: str) -> Any:
    """The values of a text. Raises YAMLError for all that is wrong with it: a date or number that is none, and aliases
    by which a few lines stand for gigabytes, or for what they stand in."""
    try:
        value = yaml.safe_load(text)
        require_bounded(value, max(LARGEST, A_LETTER * len(text)))
    except (ValueError, ArithmeticError, LookupError, TypeError, RecursionError) as error:
        raise yaml.YAMLError(str(error) or type(error).__name__) from error
    return value


def require_bounded(value: Any, most: int = LARGEST) -> None:
    """Raise ValueError where mappings and lists hold more than `most`, or lie deeper than DEEPEST in each other."""
    left, waiting = most, [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        left -= 1 + (len(one) if isinstance(one, str | bytes) else 0)
        if left < 0 or depth > DEEPEST:
            raise ValueError(f"it holds over {most} values and letters, or over {DEEPEST} in each other")
        if isinstance(one, dict):
            waiting += [(each, depth + 1) for pair in one.items() for each in pair]
        elif isinstance(one, list | tuple | set):
            waiting += [(each, depth + 1) for each in one]
