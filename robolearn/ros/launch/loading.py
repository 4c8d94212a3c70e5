"""From a launch file and its arguments to a LaunchDescription, with the semantics of `ros2 launch` (Jazzy).

The file is evaluated as a whole before anything starts, so that every mistake is found first. Native launch evaluates
the content of a timer when it fires; here it sees the values of its place in the file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from robolearn.errors import LaunchError, UnknownNameError
from robolearn.ros.launch.commands import (
    NAMESPACE,
    applies,
    executable_process,
    full_namespace,
    node_process,
    parameter_file,
)
from robolearn.ros.launch.description import LaunchArgument, LaunchDescription, Message, Process, Shutdown, Step
from robolearn.ros.launch.entities import Entity, LocatedError, read
from robolearn.ros.launch.parameters import from_yaml
from robolearn.ros.launch.substitutions import Scope, Template, expand

MAX_INCLUDES = 20


def load(
    path: str | os.PathLike[str],
    arguments: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> LaunchDescription:
    """Evaluate a launch file. `environment` stands for os.environ, where programs beside this Python are found, too.

    Raises LaunchError, in one line with file and line, for anything that the file or the arguments have wrong.
    """
    given = dict(arguments or {})
    environment = dict(_own_environment() if environment is None else environment)
    root = read(Path(os.path.abspath(path)))
    declared = _declared(root, Scope(root.file, environment, given.copy()))
    evaluation = _Evaluation(strangers=[name for name in given if name not in declared])
    scope = Scope(root.file, environment, given)
    evaluation.visit(root.children, scope)
    for name in evaluation.strangers:
        if name not in scope.asked:
            problem = UnknownNameError("launch argument", name, declared) if declared else "it takes no arguments"
            raise LaunchError(f"{root.file}: {problem}")
    return LaunchDescription(root.file, tuple(declared.values()), _numbered(evaluation.steps))


def _own_environment() -> dict[str, str]:
    """A virtual environment need not be activated for the programs that it has."""
    path = (os.environ.get("PATH", os.defpath), os.path.dirname(sys.executable))
    return {**os.environ, "PATH": os.pathsep.join(path)}


def describe_arguments(path: str | os.PathLike[str]) -> tuple[LaunchArgument, ...]:
    """The arguments of a launch file and of the files it includes, as far as their paths do not depend on arguments."""
    root = read(Path(os.path.abspath(path)))
    return tuple(_declared(root, Scope(root.file, dict(os.environ), {})).values())


def _declared(root: Entity, scope: Scope, depth: int = 0) -> dict[str, LaunchArgument]:
    """Every `arg` of the tree, whatever the conditions; what an include sets itself is not an argument of the user."""
    found: dict[str, LaunchArgument] = {}
    for entity in root.children:
        values = entity.values
        if entity.kind == "arg":
            default = values["default"].source if "default" in values else None
            choices = tuple(choice.values["value"] for choice in entity.items("choice"))
            argument = LaunchArgument(values["name"], default, values.get("description", ""), choices)
            found.setdefault(argument.name, argument)
            if "default" in values and (text := _try_expand(values["default"], scope)) is not None:
                scope.configurations.setdefault(argument.name, text)
        elif entity.kind == "include" and depth < MAX_INCLUDES:
            path = _try_expand(values["file"], scope)
            fixed = {_try_expand(argument.values["name"], scope) for argument in entity.items("arg")}
            for name, argument in _declared_in(path, scope, depth + 1).items():
                if name not in fixed:
                    found.setdefault(name, argument)
        for name, argument in _declared(entity, scope, depth).items():
            found.setdefault(name, argument)
    return found


def _declared_in(path: str | None, scope: Scope, depth: int) -> dict[str, LaunchArgument]:
    """The arguments of an included file; none when it cannot be read, which matters only if it is really included."""
    if path is None:
        return {}
    file = Path(os.path.abspath(path))
    try:
        return _declared(read(file), replace(scope, file=file), depth)
    except LaunchError:
        return {}


def _try_expand(template: Template, scope: Scope) -> str | None:
    try:
        return expand(template, scope)
    except LaunchError:
        return None


def _numbered(steps: list[Step]) -> tuple[Step, ...]:
    """Steps in the order of their times, with processes numbered in the order in which they start."""
    numbered: list[Step] = []
    count = 0
    for step in sorted(steps, key=lambda step: step.after_s):
        if isinstance(step.action, Process):
            count += 1
            step = replace(step, action=replace(step.action, name=f"{step.action.name}-{count}"))
        numbered.append(step)
    return tuple(numbered)


class _Evaluation:
    """Walks the entities in order, as the launch service does, and collects the steps."""

    def __init__(self, strangers: list[str]) -> None:
        self.strangers = strangers  # arguments of the user that no file declares
        self.steps: list[Step] = []
        self.includes = 0

    def visit(self, entities: tuple[Entity, ...], scope: Scope) -> None:
        for entity in entities:
            try:
                if applies(entity, scope):
                    _HANDLERS[entity.kind](self, entity, scope)
            except LocatedError:
                raise
            except LaunchError as error:
                raise LocatedError(f"{entity.where}: {error}") from None

    def step(self, scope: Scope, action: Process | Message | Shutdown) -> None:
        self.steps.append(Step(scope.after_s, action))

    # --- variables, environment, structure ---

    def arg(self, entity: Entity, scope: Scope) -> None:
        name = entity.values["name"]
        if name not in scope.configurations:
            if "default" not in entity.values:
                others = f" (given: {', '.join(self.strangers)})" if self.strangers else ""
                raise LaunchError(f"the launch argument {name!r} is missing{others}; add {name}:=VALUE")
            scope.configurations[name] = expand(entity.values["default"], scope)
        choices = [choice.values["value"] for choice in entity.items("choice")]
        value = scope.configurations[name]
        if choices and value not in choices:
            raise LaunchError(f"the launch argument {name!r} is {value!r}; wanted one of {', '.join(choices)}")

    def let(self, entity: Entity, scope: Scope) -> None:
        scope.configurations[entity.text("name", scope)] = entity.text("value", scope)

    def set_env(self, entity: Entity, scope: Scope) -> None:
        scope.environment[entity.text("name", scope)] = entity.text("value", scope)

    def unset_env(self, entity: Entity, scope: Scope) -> None:
        scope.environment.pop(entity.text("name", scope), None)

    def append_env(self, entity: Entity, scope: Scope) -> None:
        name, value = entity.text("name", scope), entity.text("value", scope)
        parts = [scope.environment[name], value] if name in scope.environment else [value]
        if entity.flag("prepend", scope):
            parts.reverse()
        scope.environment[name] = entity.text("separator", scope, os.pathsep).join(parts)

    def group(self, entity: Entity, scope: Scope) -> None:
        self.visit(entity.children, scope.copy() if entity.values.get("scoped", True) else scope)

    def timer(self, entity: Entity, scope: Scope) -> None:
        self.visit(entity.children, scope.copy(after_s=entity.seconds("period", scope)))

    def include(self, entity: Entity, scope: Scope) -> None:
        path = Path(os.path.abspath(entity.text("file", scope)))
        if path.suffix not in (".yaml", ".yml"):
            raise LaunchError(f"only launch files in YAML can be included, not {path}")
        self.includes += 1
        if self.includes > MAX_INCLUDES:
            raise LaunchError(f"more than {MAX_INCLUDES} nested includes; does {path.name} include itself?")
        for argument in entity.items("arg"):
            scope.configurations[argument.text("name", scope)] = argument.text("value", scope)
        outer, scope.file = scope.file, path
        self.visit(read(path).children, scope)
        scope.file = outer
        self.includes -= 1

    def log(self, entity: Entity, scope: Scope) -> None:
        self.step(scope, Message(entity.text("message", scope)))

    def shutdown(self, entity: Entity, scope: Scope) -> None:
        self.step(scope, Shutdown(entity.text("reason", scope, "reason not given")))

    # --- what all nodes of a scope get ---

    def push_ros_namespace(self, entity: Entity, scope: Scope) -> None:
        namespace = full_namespace(scope.configurations.get(NAMESPACE), entity.text("namespace", scope))
        scope.configurations[NAMESPACE] = namespace or "/"

    def set_parameter(self, entity: Entity, scope: Scope) -> None:
        name = entity.text("name", scope)
        scope.parameters.append((name, from_yaml(name, entity.text("value", scope))))

    def set_parameters_from_file(self, entity: Entity, scope: Scope) -> None:
        scope.parameters.append(parameter_file(entity.text("filename", scope)))

    def set_remap(self, entity: Entity, scope: Scope) -> None:
        scope.remaps.append((entity.text("from", scope), entity.text("to", scope)))

    def executable(self, entity: Entity, scope: Scope) -> None:
        self.step(scope, executable_process(entity, scope))

    def node(self, entity: Entity, scope: Scope) -> None:
        self.step(scope, node_process(entity, scope))


_HANDLERS: Mapping[str, Callable[[_Evaluation, Entity, Scope], None]] = {
    "arg": _Evaluation.arg,
    "let": _Evaluation.let,
    "set_env": _Evaluation.set_env,
    "unset_env": _Evaluation.unset_env,
    "append_env": _Evaluation.append_env,
    "group": _Evaluation.group,
    "timer": _Evaluation.timer,
    "include": _Evaluation.include,
    "log": _Evaluation.log,
    "shutdown": _Evaluation.shutdown,
    "push_ros_namespace": _Evaluation.push_ros_namespace,
    "push-ros-namespace": _Evaluation.push_ros_namespace,
    "set_parameter": _Evaluation.set_parameter,
    "set_parameters_from_file": _Evaluation.set_parameters_from_file,
    "set_remap": _Evaluation.set_remap,
    "executable": _Evaluation.executable,
    "node": _Evaluation.node,
}
