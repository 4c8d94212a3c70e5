"""Where and how a training computes, as it is asked for; what that does is in `compile.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from robolearn.algorithms.compile import Wrapper

Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Compute:
    """Where and how a training computes. Another choice gives other roundings, so a run is resumed with its own."""

    device: str = "cpu"
    compile: bool = False
    precision: Precision = "float32"  # of products of hidden layers, see `reduced`

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision is {self.precision!r}, expected one of {', '.join(get_args(Precision))}")

    def wrapper(self) -> Wrapper:
        """What to make algorithms with. Memory that is freed stays with the process from then on."""
        from robolearn.algorithms import compile as how  # brings torch, without which the rest of a request is checked

        how.keep_memory()
        outer = how.compiled(self.device) if self.compile else how.plain
        if self.precision == "float32":
            return outer
        return lambda step: outer(how.reduced(step, self.device))
