"""Substitutions in the text of a launch file: `$(name argument ...)`, as ROS 2 Jazzy reads and performs them.

The grammar is the one of ros2/launch (`launch/frontend/grammar.lark`): arguments are separated by one space, may be
quoted, and may hold further substitutions; a backslash takes the special meaning of the next character away.
`$(eval ...)` is the exception: native launch hands it to Python, here a few operators on literals are all there is.
"""

from __future__ import annotations

import math
import os
import random
import re
import shutil
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from robolearn.errors import LaunchError, UnknownNameError
from robolearn.ros.launch.expression import evaluate
from robolearn.ros.launch.packages import executable_in_package, package_prefix, package_share

MAX_DEPTH = 50
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_TRUE, _FALSE = ("true", "1"), ("false", "0")


@dataclass(frozen=True)
class Call:
    """One `$(name argument ...)`."""

    name: str
    arguments: tuple[Parts, ...]


Parts = tuple[str | Call, ...]


@dataclass(frozen=True)
class Template:
    """A text with substitutions: `parts` are literal strings and calls, in order."""

    source: str
    parts: Parts

    @property
    def literal(self) -> str | None:
        """The text when there is nothing to substitute, else None."""
        if any(isinstance(part, Call) for part in self.parts):
            return None
        return "".join(str(part) for part in self.parts)


@dataclass
class Scope:
    """What substitutions can see; a scoped group works on a copy. `asked` collects the names that `$(var)` read."""

    file: Path
    environment: dict[str, str]
    configurations: dict[str, str]
    parameters: list[tuple[str, Any] | Path] = field(default_factory=list)
    remaps: list[tuple[str, str]] = field(default_factory=list)
    after_s: float = 0.0
    asked: set[str] = field(default_factory=set)

    def copy(self, after_s: float = 0.0) -> Scope:
        """A scope whose changes stay in it, `after_s` later on the clock of the launch."""
        return replace(
            self,
            environment=dict(self.environment),
            configurations=dict(self.configurations),
            parameters=list(self.parameters),
            remaps=list(self.remaps),
            after_s=self.after_s + after_s,
        )


# --- reading ----------------------------------------------------------------------------------------------------------


def parse(text: str) -> Template:
    """Read the substitutions of `text`. Raises LaunchError with the place when it is malformed."""
    return Template(text, _Reader(text).template())


def unescape(text: str) -> str:
    """Text of an attribute that takes no substitutions (names and descriptions of arguments)."""
    return re.sub(r"\\(.)", r"\1", text)


class _Reader:
    """Recursive descent over one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def template(self, quote: str = "") -> Parts:
        """Literal text and calls up to the closing `quote`, or to the end."""
        parts: list[str | Call] = []
        while self.at < len(self.text):
            if self._at_call():
                parts.append(self._call(quote))
            elif quote and self.text[self.at] == quote:
                self.at += 1
                return tuple(parts)
            else:
                self._literal(parts)
        if quote:
            raise self._error(f"the quote {quote} is not closed")
        return tuple(parts)

    def _call(self, quote: str) -> Call:
        start = self.at
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self._error(f"substitutions nest deeper than {MAX_DEPTH}")
        self.at += len("$(")
        name = _NAME.match(self.text, self.at)
        if name is None:
            raise self._error(
                "expected the name of a substitution after '$('; write \\$( for the characters themselves"
            )
        self.at = name.end()
        arguments = []
        while self._peek() == " ":
            self.at += 1
            arguments.append(self._argument(quote))
        if self._peek() != ")":
            raise self._error(f"{self.text[start : self.at]!r} is not closed with ')'")
        self.at += 1
        self.depth -= 1
        call = Call(name.group(), tuple(arguments))
        _check(call)
        return call

    def _argument(self, quote: str) -> Parts:
        """One argument; inside a quoted text (`quote`) arguments cannot be quoted again."""
        if not quote and self._peek() in ("'", '"'):
            self.at += 1
            return self.template(self.text[self.at - 1])
        forbidden = quote or "'\""
        parts: list[str | Call] = []
        while (character := self._peek()) not in ("", " ", ")"):
            if self._at_call():
                parts.append(self._call(quote))
            elif character == "(" or character in forbidden:
                raise self._error(f"unexpected {character} in an argument; quote the argument or write \\{character}")
            elif character == "\\" and self.text[self.at + 1 : self.at + 2] in ("", " "):
                parts.append(character)
                self.at += 1
            else:
                self._literal(parts)
        if not parts:
            raise self._error("empty argument; separate arguments with exactly one space")
        return tuple(parts)

    def _literal(self, parts: list[str | Call]) -> None:
        """Move one character, with its backslash if it has one, to `parts`."""
        character = self.text[self.at]
        self.at += 1
        if character == "\\" and self._peek() not in ("", "\n"):
            character = self._peek()
            self.at += 1
        if parts and isinstance(parts[-1], str):
            parts[-1] += character
        else:
            parts.append(character)

    def _at_call(self) -> bool:
        """Native launch looks only at the one character before, so that even an escaped backslash keeps `$(` away."""
        return self.text.startswith("$(", self.at) and not (self.at and self.text[self.at - 1] == "\\")

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _error(self, problem: str) -> LaunchError:
        return LaunchError(f"{problem} (column {self.at + 1} of {self.text!r})")


# --- performing -------------------------------------------------------------------------------------------------------


def expand(template: Template, scope: Scope) -> str:
    """The text with every substitution performed. Raises LaunchError when one cannot be."""
    return _expand(template.parts, scope)


def is_true(template: Template, scope: Scope) -> bool:
    """The value of an `if` or `unless`: true, false, 1 or 0, whatever the case."""
    text = expand(template, scope).strip().lower()
    if text not in _TRUE + _FALSE:
        raise LaunchError(f"the condition {template.source!r} is {text!r}; wanted true, false, 1 or 0")
    return text in _TRUE


def to_bool(text: str) -> bool:
    """A boolean by YAML's rules, and 1 or 0."""
    try:
        value = {"1": True, "0": False}.get(text, yaml.safe_load(text))
    except (yaml.YAMLError, ValueError, RecursionError):
        value = None
    if not isinstance(value, bool):
        raise LaunchError(f"{text!r} is not a boolean; wanted true or false")
    return value


def _expand(parts: Parts, scope: Scope) -> str:
    return "".join(part if isinstance(part, str) else _perform(part, scope) for part in parts)


def _perform(call: Call, scope: Scope) -> str:
    known = _SUBSTITUTIONS[call.name]
    if known.lazy:
        return known.perform(scope, *call.arguments)
    return known.perform(scope, *(_expand(argument, scope) for argument in call.arguments))


def _variable(scope: Scope, parts: Parts, default: Parts | None = None) -> str:
    name = _expand(parts, scope)
    scope.asked.add(name)
    if name in scope.configurations:
        return scope.configurations[name]
    if default is None:
        raise LaunchError(str(UnknownNameError("variable", name, scope.configurations)))
    return _expand(default, scope)


def _if_else(scope: Scope, condition: Parts, value: Parts, other: Parts = ()) -> str:
    return _expand(value if to_bool(_expand(condition, scope)) else other, scope)


def _env(scope: Scope, name: str, default: str | None = None) -> str:
    value = scope.environment.get(name, default)
    if value is None:
        raise LaunchError(
            f"the environment variable {name!r} is not set; set it or give a default: $(env NAME DEFAULT)"
        )
    return value


def _find_exec(scope: Scope, name: str) -> str:
    path = shutil.which(name, path=scope.environment.get("PATH", os.defpath))
    if path is None:
        raise LaunchError(f"no executable {name!r} on PATH")
    return path


def _file_content(scope: Scope, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise LaunchError(f"$(file-content {path!r}): {getattr(error, 'strerror', error)}") from None


def _anon(scope: Scope, name: str) -> str:
    """The same name again gives the same anonymous name in one launch."""
    unique = f"{name}_{socket.gethostname()}_{os.getpid()}_{random.SystemRandom().getrandbits(63)}"
    return scope.configurations.setdefault(f"anon{name}", re.sub("[.:-]", "_", unique))


def _equals(left: str, right: str) -> bool:
    """Booleans compare as booleans, numbers as numbers, all else as text."""
    if left.lower() in _TRUE + _FALSE and right.lower() in _TRUE + _FALSE:
        return (left.lower() in _TRUE) == (right.lower() in _TRUE)
    try:
        return math.isclose(float(left), float(right))
    except ValueError:
        return left == right


def _spell(value: bool) -> str:
    return str(value).lower()


@dataclass(frozen=True)
class _Substitution:
    """How many arguments it takes and what it gives; a `lazy` one performs only the arguments that it needs."""

    least: int
    most: int
    perform: Callable[..., str]
    lazy: bool = False


_SUBSTITUTIONS: Mapping[str, _Substitution] = {
    "var": _Substitution(1, 2, _variable, lazy=True),
    "if": _Substitution(2, 3, _if_else, lazy=True),
    "env": _Substitution(1, 2, _env),
    "dirname": _Substitution(0, 0, lambda scope: str(scope.file.parent)),
    "filename": _Substitution(0, 0, lambda scope: str(scope.file)),
    "find-pkg-share": _Substitution(1, 1, lambda scope, name: str(package_share(name, scope.environment))),
    "find-pkg-prefix": _Substitution(1, 1, lambda scope, name: str(package_prefix(name, scope.environment))),
    "exec-in-pkg": _Substitution(2, 2, lambda scope, name, pkg: executable_in_package(pkg, name, scope.environment)),
    "find-exec": _Substitution(1, 1, _find_exec),
    "file-content": _Substitution(1, 1, _file_content),
    "anon": _Substitution(1, 1, _anon),
    "eval": _Substitution(1, 1, lambda scope, text: str(evaluate(text))),
    "not": _Substitution(1, 1, lambda scope, a: _spell(not to_bool(a))),
    "and": _Substitution(2, 2, lambda scope, a, b: _spell(to_bool(a) & to_bool(b))),
    "or": _Substitution(2, 2, lambda scope, a, b: _spell(to_bool(a) | to_bool(b))),
    "equals": _Substitution(2, 2, lambda scope, a, b: _spell(_equals(a, b))),
    "not-equals": _Substitution(2, 2, lambda scope, a, b: _spell(not _equals(a, b))),
}
_REFUSED = {
    **dict.fromkeys(("command", "param", "launch_log_dir", "log_dir"), "works with ros2 launch only"),
    "any": "fails in ros2 launch of ROS 2 Jazzy; nest $(or ...)",
    "all": "fails in ros2 launch of ROS 2 Jazzy; nest $(and ...)",
}


def _check(call: Call) -> None:
    """Refuse a call that is unknown, or has too few or too many arguments or one that ros2 launch misreads, before
    anything is performed."""
    if call.name in _REFUSED:
        raise LaunchError(f"$({call.name} ...) {_REFUSED[call.name]}")
    if call.name not in _SUBSTITUTIONS:
        raise LaunchError(str(UnknownNameError("substitution", call.name, _SUBSTITUTIONS)))
    known = _SUBSTITUTIONS[call.name]
    if not known.least <= len(call.arguments) <= known.most:
        wanted = f"{known.least}" if known.least == known.most else f"{known.least} to {known.most}"
        hint = "; quote the expression" if call.name == "eval" else ""
        raise LaunchError(f"$({call.name} ...) takes {wanted} arguments, got {len(call.arguments)}{hint}")
    if call.name in ("equals", "not-equals") and () in call.arguments:
        raise LaunchError(
            f"$({call.name} ...) compares with an empty text, which ros2 launch of ROS 2 Jazzy takes for the text []; "
            "put a letter before both: x$(var name) x"
        )
