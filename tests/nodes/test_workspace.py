"""What colcon reads of the workspace agrees with the files that are there."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import robolearn_nodes

NODES = Path(robolearn_nodes.__file__).parent
SRC = Path(__file__).parents[2] / "ros_ws" / "src"
MSGS = SRC / "robolearn_msgs"
INTERFACES = sorted(
    path.relative_to(MSGS).as_posix() for kind in ("msg", "srv", "action") for path in MSGS.glob(f"{kind}/*")
)
NOT_ROS = {"robolearn", "robolearn_nodes", "numpy", "cv2", "torch"}


def packages_named_in(path: Path) -> set[str]:
    return set(re.findall(r"<(?:\w+_)?depend>(\w+)<", path.read_text(encoding="utf-8")))


def test_every_interface_is_generated() -> None:
    listed = re.findall(r'"(\w+/\w+\.\w+)"', (MSGS / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert sorted(listed) == INTERFACES


def test_every_package_of_an_interface_is_a_dependency() -> None:
    used = {"action_msgs"} | {
        package for path in INTERFACES for package in re.findall(r"^(\w+)/\w+", (MSGS / path).read_text("utf-8"), re.M)
    }
    assert used <= packages_named_in(MSGS / "package.xml")
    found = re.findall(r"find_package\((\w+)", (MSGS / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert used <= set(found)


def test_field_names_are_what_rosidl_allows() -> None:
    for path in INTERFACES:
        for line in (MSGS / path).read_text(encoding="utf-8").splitlines():
            declaration = line.partition("#")[0].split()
            if not declaration or declaration == ["---"]:
                continue
            name = declaration[1].partition("=")[0]
            constant = "=" in line.partition("#")[0]
            assert re.fullmatch(r"[A-Z][A-Z0-9_]*" if constant else r"[a-z](?:_?[a-z0-9]+)*", name), (path, line)


def test_every_node_has_an_executable_and_its_packages_are_dependencies() -> None:
    setup = (NODES.parent / "setup.py").read_text(encoding="utf-8")
    (names,) = re.findall(r"NODES = \((.*?)\)", setup, re.DOTALL)
    assert set(re.findall(r'"(\w+)"', names)) == {path.stem.removesuffix("_node") for path in NODES.glob("*_node.py")}
    imported = set()
    for path in NODES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
            elif isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
    ros = imported - sys.stdlib_module_names - NOT_ROS
    assert ros <= packages_named_in(NODES.parent / "package.xml") | {"__future__"}
