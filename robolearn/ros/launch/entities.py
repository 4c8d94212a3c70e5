"""The YAML of a launch file, checked against the schema of `ros2 launch` (launch_yaml and launch_ros, Jazzy).

`launch_yaml` converts nothing: where it wants a text, `5` without quotes is refused, and where it wants a float, `2`
is. This reader is as strict, so that a file that runs here also runs there, but names the line and the remedy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from robolearn.errors import LaunchError, UnknownNameError
from robolearn.ros.launch.substitutions import Scope, Template, expand, parse, to_bool, unescape

MAX_DEPTH = 50


class LocatedError(LaunchError):
    """An error that already says where."""


@dataclass(frozen=True)
class Entity:
    """One action of a launch file (`node`, `group`, ...) or one item of an action (a `param`, a `remap`, ...).

    `values` holds the attributes that were given: text as Template, names as str, lists of items as tuples of Entity.
    """

    kind: str
    file: Path
    line: int
    values: Mapping[str, Any]
    children: tuple[Entity, ...] = ()

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    def items(self, name: str) -> tuple[Entity, ...]:
        """The items of an attribute that holds a list of mappings."""
        return self.values.get(name, ())

    def text(self, name: str, scope: Scope, default: str = "") -> str:
        """An attribute with its substitutions performed."""
        return expand(self.values[name], scope) if name in self.values else default

    def flag(self, name: str, scope: Scope, default: bool = False) -> bool:
        """An attribute that is true or false, or text that becomes it."""
        value = self.values.get(name, default)
        return value if isinstance(value, bool) else to_bool(expand(value, scope))

    def seconds(self, name: str, scope: Scope, default: str = "0.0") -> float:
        """An attribute that is a time, or text that becomes one. Never negative."""
        value = self.values.get(name, default)
        text = expand(value, scope) if isinstance(value, Template) else value
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0.0 <= seconds < math.inf:
            raise LaunchError(f"{name!r} is {text!r}; wanted seconds, 0.0 or more")
        return seconds


class Kind(Enum):
    """What an attribute holds, with what to write when it holds something else."""

    NAME = "a text without substitutions; put it in quotes"
    TEXT = "a text; put it in quotes"
    BOOL = "true or false without quotes"
    INT = "a whole number without quotes"
    FLOAT = "a number of seconds with a decimal point, without quotes: 2.0"
    FLOAT_OR_TEXT = "a number with a decimal point (2.0) or a text with a substitution"
    BOOL_OR_TEXT = "true, false or a text with a substitution"
    VALUE = "a boolean, a number, a text or a list of one of these"
    ITEMS = "a list of mappings, as in [{name: ..., value: ...}]"


@dataclass(frozen=True)
class Attribute:
    """One key of an action; `schema` is the one of its items when it holds ITEMS."""

    kind: Kind = Kind.TEXT
    required: bool = False
    schema: Schema | None = None


@dataclass(frozen=True)
class Schema:
    """The keys of an action. Keys of `native_only` are known to ros2 launch and refused here by name."""

    attributes: Mapping[str, Attribute]
    children: bool = False
    native_only: tuple[str, ...] = ()


def _texts(*names: str) -> dict[str, Attribute]:
    return {name: Attribute(required=True) for name in names}


def _items(**attributes: Attribute) -> Attribute:
    return Attribute(Kind.ITEMS, schema=Schema(attributes))


_PAIRS = _items(**_texts("name", "value"))
_CONDITIONS = {"if": Attribute(), "unless": Attribute()}
_PROCESS = {
    **_CONDITIONS,
    **{name: Attribute() for name in ("name", "cwd", "output", "on_exit", "respawn", "launch-prefix")},
    "respawn_delay": Attribute(Kind.FLOAT),
    "respawn_max_retries": Attribute(Kind.INT),
    "sigterm_timeout": Attribute(Kind.FLOAT),
    "sigkill_timeout": Attribute(Kind.FLOAT),
    "shell": Attribute(Kind.BOOL),
    "emulate_tty": Attribute(Kind.BOOL),
    "env": _PAIRS,
}
_PARAMETER: dict[str, Attribute] = {"name": Attribute(), "value": Attribute(Kind.VALUE), "type": Attribute(Kind.NAME)}
_NESTED_PARAMETER = Schema(_PARAMETER)
_PARAMETER["param"] = Attribute(Kind.ITEMS, schema=_NESTED_PARAMETER)
_NODE = {
    **_PROCESS,
    **_texts("exec"),
    **{name: Attribute() for name in ("pkg", "exec_name", "namespace", "args", "ros_args")},
    "param": _items(**_PARAMETER, **{"from": Attribute(), "allow_substs": Attribute(Kind.BOOL)}),
    "remap": _items(**_texts("from", "to")),
}
ROOT = Schema({"deprecated": Attribute()}, children=True)
ACTIONS: Mapping[str, Schema] = {
    "arg": Schema(
        {
            **_CONDITIONS,
            "name": Attribute(Kind.NAME, required=True),
            "default": Attribute(),
            "description": Attribute(Kind.NAME),
            "choice": _items(value=Attribute(Kind.NAME, required=True)),
        }
    ),
    "let": Schema({**_CONDITIONS, **_texts("name", "value")}),
    "set_env": Schema({**_CONDITIONS, **_texts("name", "value")}),
    "unset_env": Schema({**_CONDITIONS, **_texts("name")}),
    "append_env": Schema(
        {
            **_CONDITIONS,
            **_texts("name", "value"),
            "prepend": Attribute(Kind.BOOL_OR_TEXT),
            "separator": Attribute(),
        }
    ),
    "node": Schema(_NODE),
    "executable": Schema({**_PROCESS, **_texts("cmd")}),
    "include": Schema({**_CONDITIONS, **_texts("file"), "arg": _PAIRS}),
    "group": Schema({**_CONDITIONS, "scoped": Attribute(Kind.BOOL)}, children=True, native_only=("forwarding", "keep")),
    "timer": Schema(
        {
            **_CONDITIONS,
            "period": Attribute(Kind.FLOAT_OR_TEXT, required=True),
            "cancel_on_shutdown": Attribute(Kind.BOOL_OR_TEXT),
        },
        children=True,
    ),
    "log": Schema({**_CONDITIONS, **_texts("message")}),
    "shutdown": Schema({**_CONDITIONS, "reason": Attribute()}),
    "push_ros_namespace": Schema({**_CONDITIONS, **_texts("namespace")}),
    "push-ros-namespace": Schema({**_CONDITIONS, **_texts("namespace")}),
    "set_parameter": Schema({**_CONDITIONS, **_texts("name", "value")}),
    "set_parameters_from_file": Schema({**_CONDITIONS, **_texts("filename")}),
    "set_remap": Schema({**_CONDITIONS, **_texts("from", "to")}),
}
NATIVE_ONLY = (
    "composable_node",
    "load_composable_node",
    "node_container",
    "reset",
    "reset_env",
    "ros_timer",
    "set_ros_log_dir",
    "set_use_sim_time",
)


def read(path: Path) -> Entity:
    """The checked root entity of a launch file. Raises LaunchError with file and line."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise LaunchError(f"cannot read the launch file {path}: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise LaunchError(f"{path}:{line}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, LookupError, OverflowError, RecursionError) as error:
        raise LaunchError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, _Mapping) or "launch" not in tree:
        found = f"the key {next(iter(tree))!r}" if isinstance(tree, _Mapping) and tree else type(tree).__name__
        raise LaunchError(f"{path}:1: a launch file starts with 'launch:', found {found}")
    if len(tree) > 1:
        other = next(key for key in tree if key != "launch")
        raise LaunchError(
            f"{path}:{tree.lines.get(other, 1)}: {other!r} stands beside 'launch'; only 'launch:' may stand there"
        )
    return _Checker(path).entity("launch", ROOT, tree["launch"], tree.lines.get("launch", 1), 0)


class _Mapping(dict[str, Any]):
    """A mapping that knows the lines of its keys."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[Any, int] = {}


class _Loader(yaml.SafeLoader):
    """The safe loader, with `_Mapping` for mappings and an error for a key that is given twice."""


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> Any:
    mapping = _Mapping(node.start_mark.line + 1)
    yield mapping
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key is not a text", key.start_mark)
        if key.value in mapping.lines:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is given twice", key.start_mark)
        mapping.lines[key.value] = key.start_mark.line + 1
    mapping.update({str(key): value for key, value in loader.construct_mapping(node).items()})


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


@dataclass(frozen=True)
class _Checker:
    """Turns YAML data into entities, or says what is wrong and where."""

    file: Path

    def entity(self, kind: str, schema: Schema, data: Any, line: int, depth: int) -> Entity:
        if depth > MAX_DEPTH:
            raise self._error(line, f"actions nest deeper than {MAX_DEPTH}")
        known = [*schema.attributes, *(["children"] if schema.children else [])]
        if isinstance(data, list) and schema.children:
            return Entity(kind, self.file, line, {}, self._children(data, line, depth))
        if not isinstance(data, _Mapping):
            wanted = "a list of actions" if schema.children else f"a mapping with {', '.join(known)}"
            raise self._error(line, f"{kind!r} needs {wanted}; is its content indented?")
        for key in data:
            if key in schema.native_only:
                raise self._error(data.lines.get(key, line), f"{key!r} of {kind!r} works with ros2 launch only")
            if key not in known:
                raise self._error(data.lines.get(key, line), UnknownNameError(f"key of {kind!r},", str(key), known))
        for name, attribute in schema.attributes.items():
            if attribute.required and name not in data:
                raise self._error(line, f"{kind!r} needs {name!r}")
        if schema.children and "children" not in data:
            raise self._error(line, f"{kind!r} needs 'children', a list of actions")
        values = {
            name: self._value(kind, name, schema.attributes[name], value, data.lines.get(name, line), depth)
            for name, value in data.items()
            if name != "children"
        }
        children = self._children(data["children"], data.lines.get("children", line), depth) if schema.children else ()
        return Entity(kind, self.file, line, values, children)

    def _children(self, data: Any, line: int, depth: int) -> tuple[Entity, ...]:
        if not isinstance(data, list):
            raise self._error(line, "wanted a list of actions, each starting with '- '")
        return tuple(self._action(item, line, depth) for item in data)

    def _action(self, item: Any, line: int, depth: int) -> Entity:
        if not isinstance(item, _Mapping) or not item:
            raise self._error(line, f"wanted an action such as '- node:' with its keys, got {item!r}")
        if len(item) > 1:
            first, *rest = item
            raise self._error(
                item.line, f"{first!r} and {rest[0]!r} stand side by side; indent what belongs to {first!r}"
            )
        kind = next(iter(item))
        line = item.lines.get(kind, item.line)
        if kind in NATIVE_ONLY:
            raise self._error(line, f"{kind!r} works with ros2 launch only")
        if kind not in ACTIONS:
            raise self._error(line, UnknownNameError("action", str(kind), ACTIONS))
        return self.entity(kind, ACTIONS[kind], item[kind], line, depth + 1)

    def _value(self, kind: str, name: str, attribute: Attribute, value: Any, line: int, depth: int) -> Any:
        try:
            match attribute.kind, value:
                case Kind.NAME, str():
                    return unescape(value)
                case Kind.TEXT | Kind.FLOAT_OR_TEXT | Kind.BOOL_OR_TEXT | Kind.VALUE, str():
                    return parse(value)
                case Kind.BOOL | Kind.BOOL_OR_TEXT | Kind.VALUE, bool():
                    return value
                case (Kind.FLOAT | Kind.FLOAT_OR_TEXT | Kind.VALUE, float()):
                    return value
                case Kind.INT | Kind.VALUE, int() if not isinstance(value, bool):
                    return value
                case Kind.VALUE, list() if all(isinstance(item, bool | int | float | str) for item in value):
                    return [parse(item) if isinstance(item, str) else item for item in value]
                case Kind.ITEMS, list() if value and attribute.schema is not None:
                    return tuple(
                        self.entity(name, attribute.schema, item, _line(item, line), depth + 1) for item in value
                    )
        except LocatedError:
            raise
        except LaunchError as error:
            raise self._error(line, error) from None
        raise self._error(line, f"{name!r} of {kind!r} is {value!r}; wanted {attribute.kind.value}")

    def _error(self, line: int, problem: object) -> LaunchError:
        return LocatedError(f"{self.file}:{line}: {problem}")


def _line(item: Any, default: int) -> int:
    return item.line if isinstance(item, _Mapping) else default
