"""The part of `rclpy.node.Node` that is about parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .exceptions import ParameterNotDeclaredException
from .node_core import NodeCore
from .parameter import PARAMETER_SEPARATOR_STRING, Parameter
from .parameter_service import list_parameters


class ParameterMethods:
    """Declares, reads and sets the parameters of the node that it is part of."""

    _rclpy: NodeCore

    def declare_parameter(
        self, name: str, value: Any = None, descriptor: Any = None, ignore_override: bool = False
    ) -> Parameter:
        """Declare one. Raises if it is declared, or if the override or a callback does not allow it."""
        return self._rclpy.parameters.declare(name, value, descriptor, ignore_override)

    def declare_parameters(
        self, namespace: str, parameters: Sequence[Sequence[Any]], ignore_override: bool = False
    ) -> list[Parameter]:
        """Declare tuples of (name,), (name, value) or (name, value, descriptor)."""
        prefix = f"{namespace}{PARAMETER_SEPARATOR_STRING}" if namespace else ""
        declared = []
        for entry in parameters:
            if not 1 <= len(entry) <= 3 or not isinstance(entry[0], str):
                raise TypeError(f"a parameter to declare is {entry!r}, wanted (name[, value[, descriptor]])")
            value, descriptor = (*entry[1:], None, None)[:2]
            declared.append(self.declare_parameter(f"{prefix}{entry[0]}", value, descriptor, ignore_override))
        return declared

    def undeclare_parameter(self, name: str) -> None:
        self._rclpy.parameters.undeclare(name)

    def has_parameter(self, name: str) -> bool:
        return name in self._rclpy.parameters.values

    def get_parameter(self, name: str) -> Parameter:
        return self._rclpy.parameters.get(name)

    def get_parameters(self, names: list[str]) -> list[Parameter]:
        if not all(isinstance(name, str) for name in names):
            raise TypeError("All names must be instances of type str")
        return [self._rclpy.parameters.get(name) for name in names]

    def get_parameter_or(self, name: str, alternative_value: Parameter | None = None) -> Parameter:
        if alternative_value is None:
            alternative_value = Parameter(name)
        if self.has_parameter(name) and self._rclpy.parameters.values[name].type_ is not Parameter.Type.NOT_SET:
            return self._rclpy.parameters.values[name]
        return alternative_value

    def get_parameters_by_prefix(self, prefix: str) -> dict[str, Parameter]:
        start = f"{prefix}{PARAMETER_SEPARATOR_STRING}" if prefix else ""
        return {n.removeprefix(start): p for n, p in self._rclpy.parameters.values.items() if n.startswith(start)}

    def get_parameter_type(self, name: str) -> Parameter.Type:
        return self._rclpy.parameters.get(name).type_

    def get_parameter_types(self, names: list[str]) -> list[Parameter.Type]:
        return [self.get_parameter_type(name) for name in names]

    def set_parameters(self, parameter_list: list[Parameter]) -> list[Any]:
        """Set one after the other. Raises ParameterNotDeclaredException."""
        return self._rclpy.parameters.set(parameter_list)

    def set_parameters_atomically(self, parameter_list: list[Parameter]) -> Any:
        """Set all or none. Raises ParameterNotDeclaredException."""
        return self._rclpy.parameters.set_atomically(parameter_list)

    def list_parameters(self, prefixes: list[str], depth: int) -> Any:
        return list_parameters(self._rclpy.parameters, prefixes, depth)

    def describe_parameter(self, name: str) -> Any:
        return self._rclpy.parameters.describe(name)

    def describe_parameters(self, names: list[str]) -> list[Any]:
        return [self._rclpy.parameters.describe(name) for name in names]

    def set_descriptor(self, name: str, descriptor: Any, alternative_value: Any = None) -> Any:
        """Replace a descriptor. Returns the parameter's value."""
        if not self.has_parameter(name):
            raise ParameterNotDeclaredException(name)
        descriptor.name = name
        self._rclpy.parameters.descriptors[name] = descriptor
        return self._rclpy.parameters.values[name].get_parameter_value()

    def add_pre_set_parameters_callback(self, callback: Callable[[list[Parameter]], list[Parameter]]) -> None:
        self._rclpy.parameters.pre_set.insert(0, callback)

    def add_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        self._rclpy.parameters.on_set.insert(0, callback)

    def add_post_set_parameters_callback(self, callback: Callable[[list[Parameter]], None]) -> None:
        self._rclpy.parameters.post_set.insert(0, callback)

    def remove_pre_set_parameters_callback(self, callback: Callable[[list[Parameter]], list[Parameter]]) -> None:
        self._rclpy.parameters.pre_set.remove(callback)

    def remove_on_set_parameters_callback(self, callback: Callable[[list[Parameter]], Any]) -> None:
        self._rclpy.parameters.on_set.remove(callback)

    def remove_post_set_parameters_callback(self, callback: Callable[[list[Parameter]], None]) -> None:
        self._rclpy.parameters.post_set.remove(callback)
