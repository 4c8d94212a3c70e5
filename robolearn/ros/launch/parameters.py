"""Values of ROS parameters in a launch file, typed and written as ROS 2 reads them on a command line."""

from __future__ import annotations

import math
from typing import Any

import yaml

from robolearn.errors import LaunchError, UnknownNameError
from robolearn.ros.arguments import PLAIN_SCALARS, SCALARS, value_fault
from robolearn.ros.launch.entities import Entity
from robolearn.ros.launch.substitutions import Scope, Template, expand, to_bool

_TYPES: dict[str, tuple[type | None, bool]] = {
    **{kind.__name__: (kind, False) for kind in SCALARS},
    **{f"list_of_{kind.__name__}": (kind, True) for kind in SCALARS},
    "yaml": (None, False),
}


def parameter_values(entity: Entity, scope: Scope, prefix: str = "") -> dict[str, Any]:
    """The values of one `param`; nested ones get dotted names."""
    if "name" not in entity.values:
        raise LaunchError("'param' needs 'name', or 'from' for a file")
    name = prefix + expand(entity.values["name"], scope)
    nested = entity.items("param")
    if bool(nested) == ("value" in entity.values):
        raise LaunchError(f"parameter {name!r} needs either 'value' or nested 'param'")
    if not nested:
        return {name: _typed(name, entity.values["value"], entity.values.get("type", "yaml"), scope)}
    if "type" in entity.values:
        raise LaunchError(f"parameter {name!r} has nested parameters and therefore no 'type'")
    return {key: value for item in nested for key, value in parameter_values(item, scope, f"{name}.").items()}


def from_yaml(name: str, text: str) -> Any:
    """The value of a substituted text by YAML's rules; an empty text stays one."""
    try:
        value = yaml.safe_load(text) if text else ""
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError):
        raise LaunchError(f"the value {text!r} of parameter {name!r} is not YAML; add type: str for a text") from None
    return _allowed(name, value)


_LINE_BREAKS = frozenset("\x85\u2028\u2029")  # of YAML, besides those of ASCII


class _Dumper(yaml.SafeDumper):
    """Puts into quotes what ROS 2 would not read as a text, too."""


for _tag, _pattern in PLAIN_SCALARS.items():
    _Dumper.add_implicit_resolver(_tag, _pattern, None)


def to_yaml(value: Any) -> str:
    """One line of YAML for `-p name:=value`, as `ros2 launch` writes it into parameter files."""
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=math.inf, allow_unicode=True)
    if not _LINE_BREAKS.isdisjoint(text):  # a reader folds them into spaces
        text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...")


def _typed(name: str, value: Any, type_name: str, scope: Scope) -> Any:
    if type_name not in _TYPES:
        raise LaunchError(str(UnknownNameError("parameter type", type_name, _TYPES)))
    kind, is_list = _TYPES[type_name]
    if isinstance(value, list):
        result: Any = [_scalar(name, item, kind, scope) for item in value]
        if kind is not None and not is_list:
            raise LaunchError(f"parameter {name!r} is a list; wanted type list_of_{type_name}")
    elif is_list:
        raise LaunchError(f"parameter {name!r} is no list; wanted {type_name}: write [..., ...], or type: yaml")
    else:
        result = _scalar(name, value, kind, scope)
    return _allowed(name, result)


def _scalar(name: str, value: Any, kind: type | None, scope: Scope) -> Any:
    """A literal must have the wanted type already; the text of a substitution is converted to it."""
    if isinstance(value, Template):
        if value.literal is None:
            return _convert(name, expand(value, scope), kind)
        value = value.literal
    if kind is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        hint = "with a decimal point" if kind is float else "without quotes" if kind is not str else "in quotes"
        raise LaunchError(f"parameter {name!r} is {value!r}; wanted {kind.__name__}: write it {hint}")
    return value


def _convert(name: str, text: str, kind: type | None) -> Any:
    if kind is None:
        return from_yaml(name, text)
    if kind is bool:
        return to_bool(text)
    try:
        return kind(text)
    except ValueError:
        raise LaunchError(f"parameter {name!r} is {text!r}; wanted {kind.__name__}") from None


def _allowed(name: str, value: Any) -> Any:
    fault = value_fault(value)
    if fault:
        raise LaunchError(f"parameter {name!r} {fault}")
    return value
