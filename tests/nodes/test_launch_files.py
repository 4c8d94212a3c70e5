"""Our launch files: what they pass is what the nodes declare."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import robolearn_nodes
import yaml

from robolearn.ros.launch import load
from robolearn.ros.launch.description import Process
from robolearn.serving.loop import EXECUTE_STEPS

NODES = Path(robolearn_nodes.__file__).parent
LAUNCH = Path(__file__).parents[2] / "launch"
NAMES = sorted({path.name.removesuffix(".launch.yaml") for path in LAUNCH.glob("*.launch.yaml")} - {"namespaced"})


def entries(name: str, kind: str) -> list[dict]:
    description = yaml.safe_load((LAUNCH / f"{name}.launch.yaml").read_text(encoding="utf-8"))["launch"]
    return [entry[kind] for entry in description if kind in entry]


def declared(node: str) -> set[str]:
    """Parameters that a node declares: in its own file, and in those modules of the package that it reads them with."""
    found = set()
    source = (NODES / f"{node}.py").read_text(encoding="utf-8")
    for module in [node, *re.findall(r"from robolearn_nodes\.(interface|simulation|mirror) import", source)]:
        text = (NODES / f"{module}.py").read_text(encoding="utf-8")
        found |= set(re.findall(r'parameter\(\s*(?:self|node),\s*"(\w+)"', text))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_declared_and_every_argument_used_and_described(name: str) -> None:
    nodes, includes, arguments = entries(name, "node"), entries(name, "include"), entries(name, "arg")
    assert nodes or includes
    for node in nodes:
        assert {parameter["name"] for parameter in node["param"]} <= declared(node["exec"])
    for include in includes:
        included = re.fullmatch(r"\$\(dirname\)/(\w+)\.launch\.yaml", include["file"])
        assert included is not None
        theirs = {argument["name"] for argument in entries(included.group(1), "arg")}
        assert {argument["name"] for argument in include["arg"]} <= theirs
    used = set(re.findall(r"\$\(var (\w+)\)", str([nodes, includes])))
    assert used == {argument["name"] for argument in arguments}
    assert all(len(argument["description"]) > 10 for argument in arguments)


@pytest.mark.parametrize("name", NAMES)
def test_the_launcher_reads_it(name: str) -> None:
    wanted = [a["name"] for a in entries(name, "arg") if "default" not in a]
    description = load(LAUNCH / f"{name}.launch.yaml", dict.fromkeys(wanted, "something"))
    assert description is not None
    given = {"file": name, "namespace": "left", **dict.fromkeys(wanted, "something")}
    named = load(LAUNCH / "namespaced.launch.yaml", given)
    commands = [step.action.command for step in named.steps if isinstance(step.action, Process)]
    of_nodes = [command for command in commands if "--ros-args" in command]
    assert len(commands) == len(description.steps)
    assert of_nodes
    assert all({"__ns:=/left", "/clock:=clock"} <= set(map(str, command)) for command in of_nodes)


TEXTS = {"cell", "dataset", "instruction", "policy", "results", "streams", "task", "terminal", "model", "data"}
AWKWARD = "it's 5: [a] #1"  # which is none of these where it is read as YAML, and the end of one in $(eval)


@pytest.mark.parametrize("name", NAMES)
def test_a_path_or_an_instruction_arrives_as_it_was_given(name: str) -> None:
    passed = {argument["name"]: argument.get("default") for argument in entries(name, "arg")}
    switches = {"teleop": "keyboard", **dict.fromkeys(("tags", "twin", "web"), "true")}
    on = {switch: value for switch, value in switches.items() if switch in passed}
    texts = {"reward", "run", "web_data", *TEXTS} & passed.keys()
    processes = load(LAUNCH / f"{name}.launch.yaml", {**dict.fromkeys(texts, AWKWARD), **on}).processes
    said = [str(word).partition(":=") for process in processes for word in process.command]
    values = {key: yaml.safe_load(value) for key, _, value in said if key in TEXTS}
    assert values
    assert set(values.values()) <= {AWKWARD}


def test_launched_and_in_process_evaluations_execute_the_same_part_of_a_chunk() -> None:
    (default,) = [a["default"] for a in entries("evaluate", "arg") if a["name"] == "execute_steps"]
    assert int(default) == EXECUTE_STEPS


def test_recorder_is_told_the_image_size_of_the_twin() -> None:
    for name in ("collect", "evaluate"):
        told = [p for node in entries(name, "node") for p in node["param"] if p["name"] == "image_size"]
        assert len(told) == 2


CHUNKS = """
import resource
import numpy as np

for chunk in range(30):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    maps = [np.ones(5_000_000, np.uint8) for _ in range(20)]
    del maps
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_the_policy_of_a_robot_is_not_given_the_same_memory_anew_at_every_chunk() -> None:
    (process,) = load(LAUNCH / "policy.launch.yaml", {"policy": "scripted"}).processes
    command = [sys.executable, "-c", CHUNKS]
    assert int(subprocess.run(command, env=process.environment, capture_output=True, check=True).stdout) < 100
