"""The command of a node or executable, word for word as `ros2 launch` builds it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import yaml

from robolearn.errors import LaunchError, UnknownNameError
from robolearn.ros.launch.description import OUTPUTS, SIGKILL_TIMEOUT_S, SIGTERM_TIMEOUT_S, ParamsFile, Process
from robolearn.ros.launch.entities import Entity
from robolearn.ros.launch.packages import node_command
from robolearn.ros.launch.parameters import parameter_values, to_yaml
from robolearn.ros.launch.substitutions import Scope, Template, expand, is_true, parse

NAMESPACE = "ros_namespace"  # native launch keeps the pushed namespace among the variables
_NODE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAMESPACE = re.compile(r"/|(/[A-Za-z_][A-Za-z0-9_]*)+")

Words = list[str | ParamsFile]


def applies(entity: Entity, scope: Scope) -> bool:
    """Whether the `if` and `unless` of an action let it happen."""
    if "if" in entity.values and "unless" in entity.values:
        raise LaunchError("'if' and 'unless' stand together; join them in one condition")
    if "if" in entity.values:
        return is_true(entity.values["if"], scope)
    return not ("unless" in entity.values and is_true(entity.values["unless"], scope))


def executable_process(entity: Entity, scope: Scope) -> Process:
    """The process of an `executable`."""
    environment = _environment(entity, scope)
    words = split_command(entity.values["cmd"], scope)
    if not words:
        raise LaunchError("'cmd' is empty")
    if not entity.values.get("shell", False):
        _require_program(words[0], entity.text("cwd", scope), environment)
    return _process(entity, scope, [*words], environment, entity.text("name", scope) or Path(words[0]).name)


def node_process(entity: Entity, scope: Scope) -> Process:
    """The process of a `node`: program, arguments, then what ROS 2 reads after `--ros-args`."""
    environment = _environment(entity, scope)
    executable = entity.text("exec", scope)
    if "pkg" in entity.values:
        program = node_command(entity.text("pkg", scope), executable, environment)
    else:
        _require_program(executable, entity.text("cwd", scope), environment)
        program = [executable]
    words: Words = [*program]
    if "args" in entity.values:
        words += split_command(entity.values["args"], scope)
    if "ros_args" in entity.values:
        words += ["--ros-args", *split_command(entity.values["ros_args"], scope)]
    words += ["--ros-args", *_ros_arguments(entity, scope)]
    return _process(entity, scope, words, environment, entity.text("exec_name", scope) or Path(executable).name)


def split_command(template: Template, scope: Scope) -> list[str]:
    """Words of a command line; the text of a substitution is never split."""
    words: list[str] = []
    glue = False  # whether the next piece continues the last word
    for part in template.parts:
        if not isinstance(part, str):
            pieces, starts, ends = [expand(Template("", (part,)), scope)], False, False
        else:
            pieces, starts, ends = _shell_words(part), part[0].isspace(), part[-1].isspace()
        if pieces and glue and not starts:
            words[-1] += pieces.pop(0)
        words += pieces
        glue = not ends
    return words


def full_namespace(base: str | None, namespace: str | None) -> str | None:
    """A namespace below the pushed one, absolute; None when neither is given. Raises LaunchError for a bad one."""
    if base is None and namespace is None:
        return None
    if namespace is None:
        joined = base or ""
    elif not base or namespace.startswith("/"):
        joined = namespace
    else:
        joined = f"{base.rstrip('/')}/{namespace}"
    absolute = "/" + joined.strip("/") if not joined.startswith("/") else joined.rstrip("/") or "/"
    if not _NAMESPACE.fullmatch(absolute):
        raise LaunchError(f"{absolute!r} is no ROS namespace; wanted letters, digits and _ between single slashes")
    return absolute


def parameter_file(path: str) -> Path:
    """The path of a parameter file, absolute; it must be there."""
    file = Path(os.path.abspath(path))
    if not file.is_file():
        raise LaunchError(f"no parameter file {file}")
    return file


def _ros_arguments(entity: Entity, scope: Scope) -> Words:
    words: Words = []
    name = entity.text("name", scope)
    if "name" in entity.values:
        if not _NODE_NAME.fullmatch(name):
            raise LaunchError(f"{name!r} is no node name; wanted letters, digits and _, no digit first")
        words += ["-r", f"__node:={name}"]
    given = entity.text("namespace", scope) if "namespace" in entity.values else None
    namespace = full_namespace(scope.configurations.get(NAMESPACE), given)
    if namespace is not None:
        words += ["-r", f"__ns:={namespace}"]
    own = [item for param in entity.items("param") for item in _parameters(param, scope)]
    words += _parameter_words(scope.parameters, own, f"{namespace.rstrip('/')}/{name}" if name and namespace else "")
    remaps = [*scope.remaps, *((item.text("from", scope), item.text("to", scope)) for item in entity.items("remap"))]
    for old, new in remaps:
        words += ["-r", f"{old}:={new}"]
    return words


def _parameters(param: Entity, scope: Scope) -> list[tuple[str, Any] | Path | ParamsFile]:
    """What one `param` gives: named values, or a file."""
    if "from" not in param.values:
        if "allow_substs" in param.values:
            raise LaunchError("'allow_substs' goes with 'from'")
        return list(parameter_values(param, scope).items())
    if "name" in param.values:
        raise LaunchError("'param' has both 'name' and 'from'; wanted one of them")
    file = parameter_file(param.text("from", scope))
    if not param.flag("allow_substs", scope):
        return [file]
    try:
        text = expand(parse(file.read_text(encoding="utf-8")), scope)
        yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise LaunchError(f"the parameter file {file} is not YAML: {str(error).splitlines()[0]}") from None
    return [ParamsFile(text)]


def _parameter_words(
    common: list[tuple[str, Any] | Path], own: list[tuple[str, Any] | Path | ParamsFile], full_name: str
) -> Words:
    """Values as `-p`, files as `--params-file`.

    In ROS 2 a file's section for the very node beats a `-p`, so where a file is in play the node's own values are
    written to a section for it too, as native launch does with all of them. Without a full name it writes `/**`, which
    is what `-p` means.
    """
    files = any(not isinstance(item, tuple) for item in (*common, *own))
    words: Words = []
    for item, is_own in (*((item, False) for item in common), *((item, True) for item in own)):
        match item:
            case (name, value) if is_own and files and full_name:
                section = {full_name: {"ros__parameters": {name: value}}}
                words += ["--params-file", ParamsFile(yaml.safe_dump(section, allow_unicode=True))]
            case (name, value):
                words += ["-p", f"{name}:={to_yaml(value)}"]
            case ParamsFile():
                words += ["--params-file", item]
            case _:
                words += ["--params-file", str(item)]
    return words


def _process(entity: Entity, scope: Scope, words: Words, environment: dict[str, str], label: str) -> Process:
    on_exit = entity.text("on_exit", scope)
    if on_exit not in ("", "shutdown"):
        raise LaunchError(f"'on_exit' is {on_exit!r}; ros2 launch knows only 'shutdown'")
    output = environment.get("OVERRIDE_LAUNCH_PROCESS_OUTPUT") or entity.text("output", scope, "log")
    if output not in OUTPUTS:
        raise LaunchError(str(UnknownNameError("output", output, OUTPUTS)))
    scope.asked.add("launch-prefix")
    prefix = entity.text("launch-prefix", scope, scope.configurations.get("launch-prefix", ""))
    return Process(
        name=label,
        command=(*_shell_words(prefix), *words),
        shell=entity.values.get("shell", False),
        environment=environment,
        cwd=entity.text("cwd", scope) or None,
        output=output,
        required=on_exit == "shutdown",
        respawn=entity.flag("respawn", scope),
        respawn_delay_s=entity.seconds("respawn_delay", scope),
        respawn_max_retries=entity.values.get("respawn_max_retries", -1),
        sigterm_timeout_s=_timeout(entity, "sigterm_timeout", scope, SIGTERM_TIMEOUT_S),
        sigkill_timeout_s=_timeout(entity, "sigkill_timeout", scope, SIGKILL_TIMEOUT_S),
    )


def _timeout(entity: Entity, name: str, scope: Scope, default_s: float) -> float:
    """From the action, else from the launch argument of the same name, as in native launch."""
    scope.asked.add(name)
    return entity.seconds(name, scope, scope.configurations.get(name, str(default_s)))


def _environment(entity: Entity, scope: Scope) -> dict[str, str]:
    own = {item.text("name", scope): item.text("value", scope) for item in entity.items("env")}
    return {**scope.environment, "PYTHONUNBUFFERED": "1", **own}


def _require_program(program: str, cwd: str, environment: dict[str, str]) -> None:
    """A program that is not there is found out before anything starts."""
    path = os.path.join(cwd or os.curdir, program) if os.sep in program else program
    if shutil.which(path, path=environment.get("PATH", os.defpath)) is None:
        raise LaunchError(f"no program {program!r}; wanted a path or a command on PATH")


def _shell_words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise LaunchError(f"cannot split {text!r} into words: {error}; a quote cannot hold a substitution") from None
