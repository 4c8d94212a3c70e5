"""Message packages on import: `from sensor_msgs.msg import JointState` without ROS 2.

The finder stands at the end of `sys.meta_path`, so that packages of a sourced ROS 2 win.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from robolearn.errors import UnknownNameError
from robolearn.ros import definitions, messages

_MAKERS = {"msg": messages.message_class, "srv": messages.service_class, "action": messages.action_class}


class InterfaceModule(ModuleType):
    """`package.msg`, `package.srv` or `package.action`: makes each class when it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        package, kind = self.__name__.split(".")
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            value = _MAKERS[kind](f"{package}/{kind}/{name}")
        except UnknownNameError as error:
            raise AttributeError(str(error)) from None
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        package, kind = self.__name__.split(".")
        return definitions.names(package, kind)

    @property
    def __all__(self) -> list[str]:
        return dir(self)


class InterfaceLoader(Loader):
    """Makes the package and its interface modules; there is nothing to execute."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return InterfaceModule(spec.name) if "." in spec.name else ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class InterfaceFinder(MetaPathFinder):
    """Finds `package` and `package.msg|srv|action` for every package that has definitions."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, kind = fullname.partition(".")
        if (kind and kind not in _MAKERS) or package not in definitions.packages():
            return None
        if kind and not definitions.names(package, kind):
            return None
        return ModuleSpec(fullname, InterfaceLoader(), is_package=not kind)


def install() -> None:
    """Append the finder once."""
    if not any(isinstance(finder, InterfaceFinder) for finder in sys.meta_path):
        sys.meta_path.append(InterfaceFinder())
