"""Launch files as plain data: what native launch makes of the same file, and what it refuses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from robolearn.errors import LaunchError
from robolearn.ros.arguments import parse
from robolearn.ros.launch import (
    LaunchArgument,
    LaunchDescription,
    Message,
    ParamsFile,
    Process,
    Shutdown,
    describe_arguments,
    load,
)
from robolearn.ros.launch.parameters import to_yaml

FILES = Path(__file__).with_name("launch_files")
ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


@pytest.fixture
def workspace(tmp_path: Path) -> dict[str, str]:
    """The environment of a sourced ROS 2 workspace that holds our nodes as executables."""
    index = tmp_path / "ws" / "share" / "ament_index" / "resource_index" / "packages"
    programs = tmp_path / "ws" / "lib" / "cell_nodes"
    for directory in (index, programs):
        directory.mkdir(parents=True)
    (index / "cell_nodes").touch()
    for name in ("twin_node", "policy_node", "recorder_node", "viewer_node"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    return {**ENVIRONMENT, "AMENT_PREFIX_PATH": str(tmp_path / "ws")}


def write(directory: Path, text: str, name: str = "a.launch.yaml") -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def loaded(directory: Path, text: str, **arguments: str) -> LaunchDescription:
    return load(write(directory, text), arguments, ENVIRONMENT)


def parameters(command: tuple[str | ParamsFile, ...]) -> tuple[list[str], dict[str, Any]]:
    """A command without its program and parameters, and the parameters."""
    words: list[str] = []
    values: dict[str, Any] = {}
    rest = iter(command[1:])
    for word in rest:
        if word == "-p":
            name, _, value = str(next(rest)).partition(":=")
            values[name] = yaml.safe_load(value)
        elif word == "--params-file":
            file = next(rest)
            assert isinstance(file, ParamsFile)
            for section in yaml.safe_load(file.text).values():
                values.update(section["ros__parameters"])
        else:
            words.append(str(word))
    return words, values


def test_starts_what_native_launch_starts(workspace: dict[str, str]) -> None:
    native = json.loads((FILES / "native.json").read_text(encoding="utf-8"))
    description = load(FILES / "graph.launch.yaml", {"task": "reach"}, workspace)

    assert [step.action.text for step in description.steps if isinstance(step.action, Message)] == native["logs"]
    assert [process.name for process in description.processes] == [row["name"] for row in native["processes"]]
    for process, row in zip(description.processes, native["processes"], strict=True):
        words, values = parameters(process.command)
        assert Path(str(process.command[0])).name == row["program"]
        assert words == row["words"]
        assert values == dict(row["parameters"])
        assert process.environment.get("WHERE") == row["where"]


def test_the_command_of_a_node_word_for_word(workspace: dict[str, str], tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
launch:
- arg: {name: seed, default: "3"}
- node:
    pkg: cell_nodes
    exec: twin_node
    name: twin
    namespace: left
    output: screen
    args: --fast
    param:
    - {name: seed, value: $(var seed)}
    - {name: cameras, value: [front, "5"]}
    remap:
    - {from: image, to: image_raw}
""",
    )
    (process,) = load(path, {"seed": "7"}, workspace).processes
    program = f"{workspace['AMENT_PREFIX_PATH']}/lib/cell_nodes/twin_node"
    words = f"{program} --fast --ros-args -r __node:=twin -r __ns:=/left -p seed:=7".split()
    assert process.command == (*words, "-p", "cameras:=[front, '5']", "-r", "image:=image_raw")
    assert process == Process("twin_node-1", process.command, process.environment, output="screen")
    assert process.environment["PYTHONUNBUFFERED"] == "1"


def test_values_beside_a_file_go_into_the_section_of_the_node(workspace: dict[str, str], tmp_path: Path) -> None:
    """A section for the very node in the file would beat a `-p`."""
    (tmp_path / "p.yaml").write_text("/left/twin: {ros__parameters: {seed: 1}}")
    (tmp_path / "s.yaml").write_text("/**: {ros__parameters: {seed: $(var seed)}}")
    node = """
- node:
    pkg: cell_nodes
    exec: twin_node
    %s
    param:
    - {from: $(dirname)/p.yaml}
    - {from: $(dirname)/s.yaml, allow_substs: true}
    - {name: seed, value: 2}
"""
    text = "launch:\n- arg: {name: seed}\n" + node % "name: twin\n    namespace: left" + node % "name: twin"
    full, bare = load(write(tmp_path, text), {"seed": "7"}, workspace).processes
    files = ("--params-file", f"{tmp_path}/p.yaml", "--params-file", ParamsFile("/**: {ros__parameters: {seed: 7}}"))
    section = ParamsFile("/left/twin:\n  ros__parameters:\n    seed: 2\n")
    assert full.command[-6:] == (*files, "--params-file", section)
    assert bare.command[-6:] == (*files, "-p", "seed:=2")


def test_a_python_package_runs_as_a_module_without_being_imported(tmp_path: Path) -> None:
    package = tmp_path / "src" / "cell" / "robot_cell"
    (package / "tool").mkdir(parents=True)
    (package.parent / "package.xml").touch()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "arm_node.py").touch()
    (package / "tool" / "__init__.py").touch()
    text = "launch:\n- node: {pkg: robot_cell, exec: %s, args: $(find-pkg-share robot_cell)}"
    environment = {**ENVIRONMENT, "PYTHONPATH": str(package.parent)}

    (process,) = load(write(tmp_path, text % "arm_node"), {}, environment).processes
    assert process.command[:4] == (sys.executable, "-P", "-m", "robot_cell.arm_node")
    assert process.command[4] == str(package.parent)
    with pytest.raises(
        LaunchError, match=r"a.launch.yaml:2: unknown node of package robot_cell, 'arm_nod'; did you mea"
    ):
        load(write(tmp_path, text % "arm_nod"), {}, environment)
    with pytest.raises(LaunchError, match="unknown node of package robot_cell, 'tool'"):  # a package without __main__
        load(write(tmp_path, text % "tool"), {}, environment)
    with pytest.raises(LaunchError, match="no package 'robot_cel'"):
        load(write(tmp_path, text.replace("pkg: robot_cell", "pkg: robot_cel") % "arm_node"), {}, environment)


def test_an_entry_point_of_the_distribution(tmp_path: Path) -> None:
    (process,) = loaded(tmp_path, "launch:\n- node: {pkg: pytest, exec: py.test}").processes
    assert process.command[:2] == (sys.executable, "-c")
    assert "pytest" in str(process.command[2])


def test_arguments_are_described_without_being_given(tmp_path: Path) -> None:
    write(tmp_path, "launch:\n- arg: {name: fixed}\n- arg: {name: inner, default: '5'}", "b.launch.yaml")
    path = write(
        tmp_path,
        """
launch:
- arg: {name: task, description: What to do, choice: [{value: reach}, {value: push}]}
- arg: {name: robot, default: $(var task)_arm}
- arg: {name: other, default: b}
- group:
    if: $(var nothing)
    children:
    - include: {file: $(dirname)/$(var other).launch.yaml, arg: [{name: fixed, value: x}]}
- include: {file: $(var unknown)}
""",
    )
    assert describe_arguments(path) == (
        LaunchArgument("task", None, "What to do", ("reach", "push")),
        LaunchArgument("robot", "$(var task)_arm"),
        LaunchArgument("other", "b"),
        LaunchArgument("inner", "5"),
    )


def test_scopes_and_times(tmp_path: Path) -> None:
    description = loaded(
        tmp_path,
        """
launch:
- let: {name: a, value: outer}
- timer:
    period: 2.0
    children:
    - log: {message: late $(var a)}
    - timer: {period: "0.5", children: [{shutdown: {reason: enough}}]}
- group:
    children:
    - let: {name: a, value: inner}
    - append_env: {name: E, value: x}
    - append_env: {name: E, value: y, prepend: true}
    - log: {message: $(var a) $(env E)}
    - unset_env: {name: E}
    - log: {message: $(env E none)}
- group: {scoped: false, children: [{let: {name: b, value: kept}}]}
- log: {message: $(var a) $(env E none) $(var b)}
""",
    )
    assert [(step.after_s, step.action) for step in description.steps] == [
        (0.0, Message("inner y:x")),
        (0.0, Message("none")),
        (0.0, Message("outer none kept")),
        (2.0, Message("late outer")),
        (2.5, Shutdown("enough")),
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("- nod: {pkg: a, exec: b}", ":2: unknown action 'nod'; did you mean node?"),
        ("- node: {pgk: a, exec: b}", ":2: unknown key of 'node', 'pgk'; did you mean pkg?"),
        ("- log:\n    message: a\n    mesage: b", ":4: unknown key of 'log', 'mesage'"),
        ("- node: {pkg: a}", ":2: 'node' needs 'exec'"),
        ("- node:\n  pkg: a", "indent what belongs to 'node'"),
        ("- node:", "needs a mapping"),
        ("- node", "wanted an action"),
        ("  log: {message: a}", ":2: unknown key of 'launch', 'log'"),
        ("- arg: {name: a, default: 5}", ":2: 'default' of 'arg' is 5; wanted a text; put it in quotes"),
        ("- node: {pkg: a, exec: b, respawn: true}", "put it in quotes"),
        ("- timer: {period: 2, children: []}", "with a decimal point"),
        ("- timer: {period: soon, children: []}", "wanted seconds"),
        ("- timer: {period: -1.0, children: []}", "wanted seconds"),
        ("- group: {scoped: 'false', children: []}", "without quotes"),
        ("- group: {keep: [{name: a, value: b}], children: []}", "works with ros2 launch only"),
        ("- group: {children: {log: {message: a}}}", "wanted a list of actions"),
        ("- node_container: {}", "works with ros2 launch only"),
        ("- log: {message: a, message: b}", ":2: not YAML: 'message' is given twice"),
        ("- log: {message: $(var no)}", ":2: unknown variable 'no'"),
        ("- log: {message: '$(vra no)'}", ":2: unknown substitution 'vra'; did you mean var"),
        ("- log: {message: a, if: perhaps}", "the condition 'perhaps' is 'perhaps'; wanted true, false, 1 or 0"),
        ("- log: {message: a, if: 'true', unless: 'true'}", "'if' and 'unless' stand together"),
        ("- executable: {cmd: 'no-such-program -x'}", "no program 'no-such-program'"),
        ("- executable: {cmd: ''}", "'cmd' is empty"),
        ("- executable: {cmd: 'ls \"a'}", "No closing quotation"),
        ("- executable: {cmd: ls, output: scren}", "unknown output 'scren'; did you mean screen?"),
        ("- executable: {cmd: ls, on_exit: restart}", "ros2 launch knows only 'shutdown'"),
        ("- executable: {cmd: ls, respawn_max_retries: 2.0}", "wanted a whole number"),
        ("- node: {exec: /bin/ls, name: 1a}", "is no node name"),
        ("- node: {exec: /bin/ls, name: a-b}", "'a-b' is no node name"),
        ("- node: {exec: /bin/ls, namespace: a//b}", "is no ROS namespace"),
        ("- node: {exec: /bin/ls, param: [{value: 1}]}", "'param' needs 'name'"),
        ("- node: {exec: /bin/ls, param: [{name: a}]}", "needs either 'value' or nested 'param'"),
        ("- node: {exec: /bin/ls, param: [{name: a, value: [1, 2.0]}]}", "mixes float and int"),
        ("- node: {exec: /bin/ls, param: [{name: a, value: 2024-01-01}]}", "wanted a boolean, a number"),
        ("- node: {exec: /bin/ls, param: [{name: a, value: '1', type: int}]}", "wanted int"),
        ("- node: {exec: /bin/ls, param: [{name: a, value: 1, type: itn}]}", "did you mean int"),
        ("- node: {exec: /bin/ls, param: [{from: /no/such.yaml}]}", "no parameter file"),
        ("- node: {exec: /bin/ls, param: []}", "wanted a list of mappings"),
        ("- include: {file: /no/such.launch.yaml}", "cannot read the launch file"),
        ("- include: {file: /no/such.launch.py}", "only launch files in YAML"),
        ("- include: {file: $(filename)}", "does a.launch.yaml include itself?"),
        ("- group: &g [{group: *g}]", "nest deeper"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, body: str, problem: str) -> None:
    with pytest.raises(LaunchError) as caught:
        loaded(tmp_path, f"launch:\n{body}")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/a.launch.yaml:")
    assert "\n" not in message
    assert problem in message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "starts with 'launch:'"),
        ("- a", "starts with 'launch:'"),
        ("lanch: []", "found the key 'lanch'"),
        ("launch: []\nnodes: []", ":2: 'nodes' stands beside 'launch'"),
        ("launch:\n- log: {message: 'a}", ":2: not YAML"),
        ("launch:\n\t- a", ":2: not YAML"),
        ("launch: *a", ":1: not YAML"),
        ("launch: [2024-13-45]", "not YAML"),
        ("launch: " + "[" * 1000, "not YAML"),
        ("\x00", "not YAML"),
    ],
)
def test_a_file_that_is_no_launch_file(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(LaunchError) as caught:
        loaded(tmp_path, text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.launch.yaml").write_bytes(b"launch: [\xff]")
    for path in (tmp_path, tmp_path / "no.launch.yaml", tmp_path / "latin.launch.yaml"):
        with pytest.raises(LaunchError):
            load(path)


def test_wrong_arguments(tmp_path: Path) -> None:
    text = "launch:\n- arg: {name: task, choice: [{value: reach}]}\n- arg: {name: seed, default: '1'}"
    with pytest.raises(LaunchError, match=r":2: the launch argument 'task' is missing; add task:=VALUE"):
        loaded(tmp_path, text)
    with pytest.raises(LaunchError, match=r"'task' is missing \(given: taks\)"):
        loaded(tmp_path, text, taks="reach")
    with pytest.raises(LaunchError, match=r"'task' is 'push'; wanted one of reach"):
        loaded(tmp_path, text, task="push")
    with pytest.raises(LaunchError, match=r"unknown launch argument 'sede'; did you mean seed"):
        loaded(tmp_path, text, task="reach", sede="1")
    with pytest.raises(LaunchError, match=r"takes no arguments"):
        loaded(tmp_path, "launch: []", seed="1")
    loaded(tmp_path, "launch:\n- log: {message: $(var hidden 1)}", hidden="2")  # read without being declared


def test_a_missing_argument_of_an_included_file(tmp_path: Path) -> None:
    write(tmp_path, "launch:\n- arg: {name: inner}\n- log: {message: $(var inner)}", "b.launch.yaml")
    text = "launch:\n- include: {file: $(dirname)/b.launch.yaml}"
    with pytest.raises(LaunchError, match=r"b.launch.yaml:2: the launch argument 'inner' is missing"):
        loaded(tmp_path, text)
    assert loaded(tmp_path, text, inner="x").steps[0].action == Message("x")


yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("$(var a)"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["node", "group", "children", "name", "value", "if", "log", "x"]), inner)
    ),
    max_leaves=12,
)


@given(yaml_values | st.builds(lambda value: {"launch": [value]}, yaml_values))
def test_any_yaml_loads_or_is_refused(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = write(tmp_path_factory.getbasetemp(), yaml.safe_dump(tree), "any.launch.yaml")
    problem = ""
    try:
        load(path, {}, ENVIRONMENT)
    except LaunchError as error:
        problem = str(error)
    assert "\n" not in problem


# --- the repository's own files ---------------------------------------------------------------------------------------

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "launch").glob("*.yaml")), ids=lambda path: path.name)
def test_our_launch_files_are_launch_files(path: Path) -> None:
    assert all(argument.description for argument in describe_arguments(path)), "every argument says what it is for"


def test_the_example_of_the_documentation(workspace: dict[str, str], tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "launch.md").read_text(encoding="utf-8")
    example = page.partition("```yaml\n")[2].partition("```")[0].replace("robolearn_nodes", "cell_nodes")
    path = write(tmp_path, example)
    assert [process.name for process in load(path, {}, workspace).processes] == ["twin_node-1"]
    twin, recorder = load(path, {"record": "true"}, workspace).processes
    assert twin.required
    assert recorder.respawn_delay_s == 1.0


@pytest.mark.parametrize("text", ["1e3", "12e4567", "y", "N", "010", "1:30", "2024-01-01", "null", "", "1.5", "a: b"])
@given(other=st.text() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans())
@settings(max_examples=10, deadline=None)
def test_values_reach_the_node_as_they_are(text: str, other: object) -> None:
    """What `-p name:=value` carries is read again by the rules of ROS 2, which are not those of YAML 1.1."""
    for value in (text, other):
        found = parse(["--ros-args", "-p", f"a:={to_yaml(value)}"]).overrides_for("/", "n")["a"]
        assert found == value
        assert type(found) is type(value)
