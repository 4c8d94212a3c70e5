"""Command line arguments of ROS: everything between `--ros-args` and `--`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from robolearn.errors import SpecError
from robolearn.ros.names import namespace_fault, node_name_fault, topic_fault

WILDCARD_ANY = "/**"  # every node
SCALARS = (bool, int, float, str)
SPECIAL = {  # what a rule may set that is no topic or service, and why a value is wrong
    "__node": node_name_fault,
    "__name": node_name_fault,
    "__ns": lambda text: namespace_fault(text if text.startswith("/") else f"/{text}"),
}
LOG_LEVELS = ("debug", "info", "warn", "warning", "error", "fatal")
OPTIONS = ("-r", "--remap", "-p", "--param", "--params-file", "--log-level", "-e", "--enclave", "--log-config-file")
INTEGER_LIMITS = (-(2**63), 2**63 - 1)


class ArgumentError(SpecError):
    """A ROS argument that cannot be understood, in one line."""


# what is no text when it stands without quotes in a parameter, as rcl_yaml_param_parser has it and not YAML 1.1:
# `1e-3` is a number, `y` a boolean; `1:30`, `1_000` and `2024-01-01` are texts
PLAIN_SCALARS = {
    "tag:yaml.org,2002:bool": re.compile(
        r"(?:[yY]|yes|Yes|YES|[nN]|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)\Z"
    ),
    "tag:yaml.org,2002:null": re.compile(r"(?:~|null|Null|NULL|)\Z"),
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))\Z|\.(?:nan|NaN|NAN)\Z"
    ),
}


class _ParameterLoader(yaml.SafeLoader):
    """YAML with the plain scalars of ROS 2, every key a text, and no aliases, which stand for gigabytes."""

    bool_values = yaml.SafeLoader.bool_values | {"y": True, "n": False}
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  an attribute of PyYAML's

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"it has the alias *{self.peek_event().anchor}, and ROS 2 takes none")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


for _tag, _pattern in PLAIN_SCALARS.items():
    _ParameterLoader.add_implicit_resolver(_tag, _pattern, None)


def value_fault(value: Any) -> str | None:
    """Why a value of YAML is no value of a parameter, or None."""
    items = value if isinstance(value, list) else [value]
    kinds = {type(item) for item in items}
    if not kinds <= set(SCALARS):
        return f"is {value!r}; wanted a boolean, number, text or a list of one of these"
    if len(kinds) > 1:
        names = " and ".join(sorted(kind.__name__ for kind in kinds))
        return f"is a list that mixes {names}; its values must be of one type"
    low, high = INTEGER_LIMITS
    if kinds == {int} and not all(low <= item <= high for item in items):
        return f"is {value!r}; wanted integers of 64 bits"
    return None


@dataclass(frozen=True)
class Remap:
    """`node:match:=replacement`; `node` is None when the rule holds for every node."""

    node: str | None
    match: str
    replacement: str


@dataclass
class RosArguments:
    """What was given on one command line, in its order."""

    remaps: list[Remap] = field(default_factory=list)
    parameters: list[tuple[str, str, Any]] = field(default_factory=list)  # node pattern, name, value
    log_levels: list[tuple[str | None, str]] = field(default_factory=list)
    enclave: str = "/"
    rosout: bool = True  # whether nodes publish what they log

    def remapped(self, key: str, node_name: str) -> str | None:
        """The replacement for `__node`, `__ns` or a fully qualified name; None if no rule holds."""
        for rule in self.remaps:
            if rule.match == key and rule.node in (None, node_name):
                return rule.replacement
        return None

    def overrides_for(self, namespace: str, name: str) -> dict[str, Any]:
        """Parameter values for one node; later arguments win."""
        full_name = f"{namespace.rstrip('/')}/{name}"
        return {key: value for pattern, key, value in self.parameters if _node_matches(pattern, full_name)}


def _node_matches(pattern: str, full_name: str) -> bool:
    """As rclcpp matches the node names of parameter files: `*` is any one part of the full name, `**` any number."""
    parts = pattern.removeprefix("/").split("/")
    regex = "".join({"*": r"/\w+", "**": r"(/\w+)*"}.get(part, "/" + re.escape(part)) for part in parts)
    return re.fullmatch(regex, full_name) is not None


def without_ros_arguments(args: Sequence[str]) -> list[str]:
    """The arguments that are not for ROS."""
    kept, inside = [], False
    for arg in args:
        if arg == "--ros-args":
            inside = True
        elif inside and arg == "--":
            inside = False
        elif not inside:
            kept.append(arg)
    return kept


def parse(args: Sequence[str]) -> RosArguments:
    """Read a whole command line. Raises ArgumentError."""
    parsed, inside = RosArguments(), False
    items = iter(args)
    for arg in items:
        if not inside:
            inside = arg == "--ros-args"
        elif arg == "--":
            inside = False
        elif arg in ("--enable-rosout-logs", "--disable-rosout-logs"):
            parsed.rosout = arg.startswith("--enable")
        elif arg == "--ros-args" or re.fullmatch(r"--(en|dis)able-(stdout|external-lib)-logs", arg):
            continue
        else:
            option, value = (
                (arg, next(items, None)) if ":=" not in arg or arg.startswith("--log-level") else ("-r", arg)
            )
            if option == "--log-level" and value is None:
                raise ArgumentError("--log-level wants a level after it")
            _apply(parsed, option, value)
    return parsed


def _apply(parsed: RosArguments, option: str, value: str | None) -> None:
    if option not in OPTIONS:
        raise ArgumentError(f"unknown ROS argument {option!r}; known: -r, -p, --params-file, --log-level, -e")
    if value is None:
        raise ArgumentError(f"ROS argument {option!r} wants a value after it")
    if option in ("-r", "--remap"):
        parsed.remaps.append(_remap(value))
    elif option in ("-p", "--param"):
        parsed.parameters.append(_parameter(value))
    elif option == "--params-file":
        parsed.parameters.extend(_parameters_file(Path(value)))
    elif option == "--log-level":
        name, _, level = value.rpartition(":=")
        if level.lower() not in LOG_LEVELS:
            raise ArgumentError(f"log level {level!r} is unknown; known: {', '.join(LOG_LEVELS)}")
        parsed.log_levels.append((name or None, level))
    elif option in ("-e", "--enclave"):
        parsed.enclave = value if value.startswith("/") else "/" + value


def _remap(rule: str) -> Remap:
    match, found, replacement = rule.partition(":=")
    if not found or not match or not replacement:
        raise ArgumentError(f"remap rule {rule!r} is not of the form from:=to")
    found_node = re.match(r"(\w+):(?!//)", match)
    name = match[found_node.end() :] if found_node else match
    if name not in SPECIAL and (fault := topic_fault(_without_scheme(name))):
        raise ArgumentError(f"remap rule {rule!r} names nothing: {fault}")
    if fault := SPECIAL.get(name, topic_fault)(_without_scheme(replacement)):
        raise ArgumentError(f"remap rule {rule!r} leads to no name: {fault}")
    return Remap(found_node[1] if found_node else None, name, replacement)


def _without_scheme(name: str) -> str:
    return re.sub(r"^(rostopic|rosservice)://", "", name)  # of a rule for topics, or for services, alone


def _parameter(rule: str) -> tuple[str, str, Any]:
    target, found, text = rule.partition(":=")
    node, _, name = target.rpartition(":")
    if not found or not name:
        raise ArgumentError(f"parameter {rule!r} is not of the form name:=value")
    value = _load(text, f"parameter {name!r} has the value {text!r}, which")
    return (node or WILDCARD_ANY, name, _checked(name, value))


def _load(text: str, what: str) -> Any:
    try:
        return yaml.load(text, _ParameterLoader)
    except (yaml.YAMLError, ValueError, LookupError) as error:
        raise ArgumentError(f"{what} is not YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise ArgumentError(f"{what} is not YAML: it is nested too deeply") from None


def _checked(name: str, value: Any) -> Any:
    fault = None if value is None else value_fault(value)
    if fault:
        raise ArgumentError(f"parameter {name!r} {fault}")
    return value


def _parameters_file(path: Path) -> list[tuple[str, str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ArgumentError(f"parameter file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ArgumentError(f"parameter file {path} is not a text in UTF-8") from None
    tree = _load(text, f"parameter file {path}")
    found: list[tuple[str, str, Any]] = []
    for node, body in _nodes_of(tree, "", path):
        found.extend((node, key, _checked(key, value)) for key, value in flatten(body))
    # general patterns first, so that a rule for one node wins over a wildcard wherever it stands in the file
    return sorted(found, key=lambda entry: (WILDCARD_ANY not in entry[0], "*" not in entry[0]))


def _nodes_of(tree: Any, prefix: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(tree, dict):
        raise ArgumentError(f"parameter file {path} has no 'ros__parameters' under {prefix or 'its top level'!r}")
    found: list[tuple[str, dict[str, Any]]] = []
    for key, value in tree.items():
        if key == "ros__parameters":
            if not isinstance(value, dict | None):
                fault = f"has {value!r} as 'ros__parameters' of {prefix!r}"
                raise ArgumentError(f"parameter file {path} {fault}, wanted name: value")
            found.append((prefix, value or {}))
        else:
            joined = f"{prefix.rstrip('/')}/{str(key).lstrip('/')}" if prefix else str(key)
            found.extend(_nodes_of(value, joined, path))
    return found


def flatten(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested parameters as dotted names."""
    flat: list[tuple[str, Any]] = []
    for key, value in tree.items():
        flat.extend(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)])
    return flat
