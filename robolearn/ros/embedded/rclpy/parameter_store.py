"""The parameters of one node: what is declared, who has a say in changes, and what came from the command line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from robolearn.ros.messages import message_class

from .exceptions import (
    InvalidParameterException,
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterAlreadyDeclaredException,
    ParameterImmutableException,
    ParameterNotDeclaredException,
    ParameterUninitializedException,
)
from .parameter import Parameter

Callback = Callable[[list[Parameter]], Any]


def result(successful: bool, reason: str = "") -> Any:
    """A SetParametersResult."""
    return message_class("rcl_interfaces/msg/SetParametersResult")(successful=successful, reason=reason)


class ParameterStore:
    """Holds parameters and their descriptors; publishes no event itself but tells `on_event`."""

    def __init__(
        self,
        overrides: dict[str, Parameter],
        allow_undeclared: bool,
        on_event: Callable[[list[Parameter], list[Parameter], list[Parameter]], None],
    ) -> None:
        self.overrides = overrides
        self.allow_undeclared = allow_undeclared
        self.values: dict[str, Parameter] = {}
        self.descriptors: dict[str, Any] = {}
        self.pre_set: list[Callable[[list[Parameter]], list[Parameter]]] = []
        self.on_set: list[Callback] = []
        self.post_set: list[Callback] = []
        self._on_event = on_event
        self._lock = threading.RLock()

    def declare(self, name: str, value: Any, descriptor: Any, ignore_override: bool) -> Parameter:
        """Declare one. `value` is a Python value, a Parameter.Type for a type without value, or None."""
        if not name:
            raise InvalidParameterException(name)
        with self._lock:
            if name in self.values:
                raise ParameterAlreadyDeclaredException(name)
            descriptor = message_class("rcl_interfaces/msg/ParameterDescriptor")() if descriptor is None else descriptor
            descriptor.name = name
            parameter = self._initial(name, value, descriptor)
            if not ignore_override and name in self.overrides:
                parameter = self._typed_override(self.overrides[name], descriptor)
            if parameter.type_ is not Parameter.Type.NOT_SET:
                fault = _range_fault(parameter, descriptor)
                outcome = result(False, fault) if fault else self._ask(self.on_set, [parameter])
                if not outcome.successful:
                    raise InvalidParameterValueException(name, parameter.value, outcome.reason)
            self.values[name], self.descriptors[name] = parameter, descriptor
        self._tell(self.post_set, [parameter])
        self._on_event([parameter], [], [])
        return parameter

    @staticmethod
    def _initial(name: str, value: Any, descriptor: Any) -> Parameter:
        if isinstance(value, Parameter.Type):
            if value is Parameter.Type.NOT_SET:
                raise ValueError(f"Cannot declare parameter '{name}' as statically typed of type NOT_SET")
            if descriptor.dynamic_typing:
                raise ValueError(f"When declaring {name!r} with a type, its descriptor must not allow dynamic typing")
            descriptor.type = value.value
            return Parameter(name)
        parameter = Parameter(name, value=value)
        if not descriptor.dynamic_typing:
            if value is None and not descriptor.type:
                descriptor.dynamic_typing = True
            elif value is not None:
                descriptor.type = parameter.type_.value
        return parameter

    @staticmethod
    def _typed_override(override: Parameter, descriptor: Any) -> Parameter:
        """The override, an empty list made to fit the declared type. Raises if it does not fit."""
        wanted = Parameter.Type(descriptor.type)
        if descriptor.dynamic_typing or wanted in (Parameter.Type.NOT_SET, override.type_):
            return override
        if override.value == [] and wanted.check([]):
            return Parameter(override.name, wanted, [])
        raise InvalidParameterTypeException(override.name, wanted.name)

    def undeclare(self, name: str) -> None:
        with self._lock:
            if name not in self.values:
                raise ParameterNotDeclaredException(name)
            if self.descriptors[name].read_only:
                raise ParameterImmutableException(name)
            removed = self.values.pop(name)
            del self.descriptors[name]
        self._on_event([], [], [removed])

    def get(self, name: str) -> Parameter:
        parameter = self.values.get(name)
        if parameter is None:
            if self.allow_undeclared:
                return Parameter(name)
            raise ParameterNotDeclaredException(name)
        if parameter.type_ is Parameter.Type.NOT_SET and not self.descriptors[name].dynamic_typing:
            raise ParameterUninitializedException(name)
        return parameter

    def describe(self, name: str) -> Any:
        if name in self.descriptors:
            return self.descriptors[name]
        if self.allow_undeclared:
            return message_class("rcl_interfaces/msg/ParameterDescriptor")(name=name)
        raise ParameterNotDeclaredException(name)

    def set(self, parameters: list[Parameter]) -> list[Any]:
        """Set one after the other. Raises ParameterNotDeclaredException at the first that is unknown."""
        return [self.set_atomically([parameter]) for parameter in parameters]

    def set_atomically(self, parameters: Iterable[Parameter]) -> Any:
        """All or none. Raises ParameterNotDeclaredException if one is unknown."""
        with self._lock:
            parameters = list(parameters)
            for change in self.pre_set:
                parameters = change(parameters)
            unknown = [p.name for p in parameters if p.name not in self.values]
            if unknown and not self.allow_undeclared:
                raise ParameterNotDeclaredException(unknown)
            outcome = self._refusal(parameters) or self._ask(self.on_set, parameters)
            if not outcome.successful:
                return outcome
            new = [p for p in parameters if p.name not in self.values and p.type_ is not Parameter.Type.NOT_SET]
            gone = [p for p in parameters if p.type_ is Parameter.Type.NOT_SET and p.name in self.values]
            changed = [p for p in parameters if p not in new and p not in gone]
            for parameter in (*new, *changed):
                self.values[parameter.name] = parameter
                self.descriptors.setdefault(parameter.name, self._dynamic(parameter.name))
            for parameter in gone:
                del self.values[parameter.name], self.descriptors[parameter.name]
        self._tell(self.post_set, parameters)
        self._on_event(new, changed, gone)
        return outcome

    @staticmethod
    def _dynamic(name: str) -> Any:
        return message_class("rcl_interfaces/msg/ParameterDescriptor")(name=name, dynamic_typing=True)

    def _refusal(self, parameters: list[Parameter]) -> Any | None:
        """Why the descriptors forbid a change, or None."""
        for parameter in parameters:
            descriptor = self.descriptors.get(parameter.name)
            if descriptor is None:
                continue
            if descriptor.read_only:
                return result(False, f"Trying to set a read-only parameter: {parameter.name}.")
            wanted = Parameter.Type(descriptor.type)
            if not descriptor.dynamic_typing and wanted not in (Parameter.Type.NOT_SET, parameter.type_):
                return result(
                    False,
                    f"Wrong parameter type for {parameter.name}, expected {wanted} got {parameter.type_}",
                )
            fault = _range_fault(parameter, descriptor)
            if fault:
                return result(False, fault)
        return None

    def _ask(self, callbacks: list[Callback], parameters: list[Parameter]) -> Any:
        for callback in list(callbacks):
            outcome = callback(parameters)
            if not outcome.successful:
                return outcome
        return result(True)

    @staticmethod
    def _tell(callbacks: list[Callback], parameters: list[Parameter]) -> None:
        for callback in list(callbacks):
            callback(parameters)


def _range_fault(parameter: Parameter, descriptor: Any) -> str:
    """Why the value is outside the descriptor's range, or ''."""
    integer = parameter.type_ is Parameter.Type.INTEGER
    if not integer and parameter.type_ is not Parameter.Type.DOUBLE:
        return ""
    ranges = descriptor.integer_range if integer else descriptor.floating_point_range
    if not ranges:
        return ""
    low, high, step = ranges[0].from_value, ranges[0].to_value, ranges[0].step
    value = parameter.value
    if value in (low, high):
        return ""
    if not low <= value <= high:
        return f"Parameter {parameter.name} out of range Min: {low}, Max: {high}, value: {value}"
    if step:
        steps = (value - low) / step
        if abs(steps - round(steps)) > 1e-9 * max(1.0, abs(steps)):
            return f"Parameter {parameter.name} is not a multiple of step {step} from {low}, value: {value}"
    return ""
