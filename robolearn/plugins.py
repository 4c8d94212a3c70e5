"""What the library knows by name, and what installed packages add to it; a device of a cell by such a name.

A package adds a robot by an entry point, as its pyproject.toml says it:

    [project.entry-points."robolearn.robots"]
    my_arm = "my_arm:MyArm"
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TypeVar

from robolearn.errors import HardwareError, PluginError, RobolearnError

T = TypeVar("T")


@dataclass(frozen=True)
class Device:
    """A driver by name, and the configuration that it is made with."""

    driver: str
    config: Any


class Table(Mapping[str, T]):
    """Things of one kind by name: the library's own, and those of the entry points of `group`.

    What packages add is imported when it is asked for, and so is an own thing that stands as text, "module:name". A
    name of the library stays its own, whatever packages call theirs. Looking up raises PluginError where a package
    cannot be imported, lacks one of the attributes `owed`, or shares the name with another.
    """

    def __init__(
        self, group: str, kind: str, own: Mapping[str, T | str], owed: Sequence[str] = (), devices: bool = False
    ) -> None:
        """kind: the word for one of them in messages. devices: what packages add are classes of devices; whatever their
        methods raise is a HardwareError, for which a robot holds and says why."""
        self.group, self.kind = group, kind
        self._own = dict(own)
        self._owed = tuple(owed)
        self._devices = devices

    def __getitem__(self, name: str) -> T:
        if name in self._own:
            own: Any = self._own[name]
            return resolve_name(own) if isinstance(own, str) else own
        points = [point for point in self.added() if point.name == name]
        if not points:
            raise KeyError(name)
        if len(points) > 1:
            packages = " and ".join(sorted(map(package_of, points)))
            raise PluginError(f"{packages} both have a {self.kind} {name}; uninstall one of them")
        return self._load(points[0])

    def __contains__(self, name: object) -> bool:
        return name in self._own or any(point.name == name for point in self.added())

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from sorted({point.name for point in self.added()} - self._own.keys())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def added(self) -> tuple[EntryPoint, ...]:
        """What installed packages say that they add, not imported."""
        return tuple(entry_points(group=self.group))

    def is_own(self, name: str) -> bool:
        """Whether the library has something of this name itself."""
        return name in self._own

    def _load(self, point: EntryPoint) -> Any:
        said = f"the {self.kind} {point.name} of {package_of(point)} ({point.value})"
        try:
            made = point.load()
        except Exception as error:  # whatever others' code raises
            told = " ".join(str(error).split())
            raise PluginError(
                f"{said} cannot be imported: {type(error).__name__}: {told}; mend or uninstall that package"
            ) from error
        lacking = [name for name in self._owed if not hasattr(made, name)]
        if lacking:
            raise PluginError(f"{said} lacks {', '.join(lacking)}; see docs/plugins.md for what a {self.kind} owes")
        config_type = getattr(made, "config_type", None)
        if config_type is not None and not (isinstance(config_type, type) and is_dataclass(config_type)):
            raise PluginError(f"{said} has {config_type!r} for its config_type, expected a dataclass")
        return _device(made, point.name, self._owed) if self._devices and isinstance(made, type) else made


def _device(made: type, name: str, owed: Sequence[str]) -> type:
    """The class of a device with its methods among `owed` raising nothing but errors of the library."""

    def telling(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*arguments: Any, **settings: Any) -> Any:
            try:
                return method(*arguments, **settings)
            except RobolearnError:
                raise
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                told = " ".join(f"{type(error).__name__}: {error}".split())
                raise HardwareError(f"{name}: {told} ({Path(last.filename).name}, line {last.lineno})") from error

        return call

    methods = [each for each in ("__init__", *owed) if callable(getattr(made, each)) and each != "config_type"]
    return type(made.__name__, (made,), {each: telling(getattr(made, each)) for each in methods})


def package_of(point: EntryPoint) -> str:
    """The package that adds something, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unnamed package"
