"""Our launch files: what they pass is what the nodes declare."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import robolearn_nodes
import yaml

from robolearn.serving.loop import EXECUTE_STEPS

NODES = Path(robolearn_nodes.__file__).parent
LAUNCH = Path(__file__).parents[2] / "launch"


def entries(name: str, kind: str) -> list[dict]:
    description = yaml.safe_load((LAUNCH / f"{name}.launch.yaml").read_text(encoding="utf-8"))["launch"]
    return [entry[kind] for entry in description if kind in entry]


@pytest.mark.parametrize("name", ["twin", "collect", "evaluate"])
def test_every_parameter_is_declared_and_every_argument_used_and_described(name: str) -> None:
    nodes, arguments = entries(name, "node"), entries(name, "arg")
    assert nodes
    for node in nodes:
        source = (NODES / f"{node['exec']}.py").read_text(encoding="utf-8")
        declared = set(re.findall(r'parameter\(\s*self, "(\w+)"', source))
        assert {parameter["name"] for parameter in node["param"]} <= declared
    used = set(re.findall(r"\$\(var (\w+)\)", str(nodes)))
    assert used == {argument["name"] for argument in arguments}
    assert all(len(argument["description"]) > 10 for argument in arguments)


def test_launched_and_in_process_evaluations_execute_the_same_part_of_a_chunk() -> None:
    (default,) = [a["default"] for a in entries("evaluate", "arg") if a["name"] == "execute_steps"]
    assert int(default) == EXECUTE_STEPS


def test_recorder_is_told_the_image_size_of_the_twin() -> None:
    for name in ("collect", "evaluate"):
        told = [p for node in entries(name, "node") for p in node["param"] if p["name"] == "image_size"]
        assert len(told) == 2
