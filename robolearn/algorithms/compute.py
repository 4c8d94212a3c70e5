"""Where and how a training computes, as it is asked for; what that does is in `compile.py`."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from robolearn.errors import SpecError

if TYPE_CHECKING:
    from robolearn.algorithms.compile import Wrapper

Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]

COMPILER_REMEDY = "apt-get install g++ python3-dev"


@dataclass(frozen=True)
class Compute:
    """Where and how a training computes. Another choice gives other roundings, so a run is resumed with its own."""

    device: str = "cpu"
    compile: bool = False
    precision: Precision = "auto"  # of products of hidden layers, see `reduced`; `settled` says what `auto` is

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision is {self.precision!r}, expected one of {', '.join(get_args(Precision))}")

    @classmethod
    def begun(cls, told: Mapping[str, Any]) -> Compute:
        """How a run that was begun computes, by what it tells: in float32 where it tells no precision, for that was the
        default before there was `auto`. Raises TypeError or ValueError for what says nothing here."""
        return cls(**{"precision": "float32", **told})

    def require(self) -> None:
        """Raise SpecError where the device is not there, or what compiles for it."""
        from robolearn.networks.devices import usable_device  # brings torch

        usable_device(self.device)
        if self.compile and (lack := compiler_lacks(self.device)):
            raise SpecError(f"--compile wants {lack}; {COMPILER_REMEDY}, or leave --compile out")

    def settled(self) -> Compute:
        """With `auto` decided: bfloat16 where updates are compiled for a device that multiplies it, else float32."""
        if self.precision != "auto":
            return self
        from robolearn.algorithms import compile as how

        return replace(self, precision="bfloat16" if self.compile and how.has_bfloat16(self.device) else "float32")

    def wrapper(self) -> Wrapper:
        """What to make algorithms with. Memory that is freed stays with the process from then on. Raises what `require`
        raises."""
        from robolearn.algorithms import compile as how  # brings torch, without which the rest of a request is checked

        self.require()
        how.keep_memory()
        outer = how.compiled(self.device) if self.compile else how.plain
        if self.settled().precision == "float32":
            return outer
        return lambda step: outer(how.reduced(step, self.device))


def compiler_lacks(device: str = "cpu") -> str:
    """What a step cannot be compiled without and this machine does not have; empty where it has all."""
    variable, usual = ("CC", ["gcc", "clang"]) if device.startswith("cuda") else ("CXX", ["g++"])
    compilers = [os.environ[variable]] if os.environ.get(variable) else usual
    if not any(shutil.which(name) for name in compilers):
        return f"a compiler of C++ ({' or '.join(compilers)})"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return "" if header.is_file() else f"Python's headers ({header})"
