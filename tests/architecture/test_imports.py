"""The import direction and the rules that a machine can check."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = sorted(ROOT.glob("robolearn/**/*.py")) + sorted(ROOT.glob("ros_ws/src/robolearn_nodes/robolearn_nodes/*.py"))

FORBIDDEN = {
    r"\bpickle\.loads?\(|\bimport pickle\b": "no pickle: safetensors, JSON, msgpack",
    r"torch\.load\(": "no torch.load: safetensors",
    r"except:\s*$": "no bare except",
    r"\btime\.time\(\)": "time is an argument; pacing and durations use time.monotonic",
    r"0\.0\.0\.0": "listen on loopback",
    r"^\s*(from|import) tests\b": "the library knows no tests",
    r"(np|numpy)\.random\.seed\(|torch\.manual_seed\(": "randomness is passed in: no global seeding",
}
ROBOT = (
    "robolearn.robots.safety",
    "robolearn.serving.loop",
    "robolearn.policies.scripted",
    "robolearn_nodes.policy_node",
    "robolearn.policies.checkpoint",
)  # each may import what is above it
NO_NETWORK = (
    "robolearn.recipes.collect",
    "robolearn.recipes.evaluate",
    "robolearn_nodes.policy_node",
)


def test_no_file_imports_mujoco_before_the_twin_has_chosen_its_opengl() -> None:
    files = [file for file in LIBRARY if file.parent.name != "twin"]
    assert [str(file) for file in files if re.search(r"^(import|from) mujoco\b", file.read_text(), re.MULTILINE)] == []


def test_imports_point_one_way() -> None:
    lint = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert lint.returncode == 0, lint.stdout


def test_what_is_imported_from_the_library_is_there() -> None:
    """Also where mypy does not look: in nodes, which a launch is the first to import, and in slow tests."""
    wanted = {
        (node.module, name.name)
        for file in ROOT.glob("*/**/*.py")
        if file.relative_to(ROOT).parts[0] in ("robolearn", "ros_ws", "tests", "benchmarks", "hardware")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "robolearn"
        for name in node.names
    }
    missing = []
    for place, name in sorted(wanted):
        module = importlib.import_module(place)
        submodules = {found.name for found in pkgutil.iter_modules(getattr(module, "__path__", ()))}
        if not hasattr(module, name) and name not in submodules:
            missing.append(f"{place}.{name}")
    assert len(wanted) > 1000
    assert missing == []


def test_every_module_has_its_place_in_the_contracts_and_in_the_page() -> None:
    modules = {
        path.stem for path in (ROOT / "robolearn").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    modules -= {"__init__", "ros"}  # `ros` stands alone
    flow, alone, known, _ = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    order = [layer.replace("robolearn.", "").split(" | ") for layer in flow["layers"]]
    assert {name for layer in order for name in layer} == modules
    assert {name.removeprefix("robolearn.") for name in alone["forbidden_modules"]} == modules - {"errors"}
    assert {name.removeprefix("robolearn.") for name in known["source_modules"]} == modules - {"cli"}
    page = re.search(r"^    (cli > [^`]+?)\n\n", (ROOT / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert page is not None
    told = [{name.strip() for name in layer.split("|")} for layer in page.group(1).split(">")]
    assert told == [set(layer) for layer in order]


@pytest.mark.parametrize(
    ("names", "heavy"),
    [
        (ROBOT, {"zarr", "mujoco", "gymnasium", "fastapi"}),
        (NO_NETWORK, {"torch", "zarr"}),
        (("robolearn.recipes.train_request",), {"torch", "gymnasium", "robolearn.datasets"}),
    ],
)
def test_who_does_without_stays_light(names: tuple[str, ...], heavy: set[str]) -> None:
    """The robot's computer without a twin and datasets, the expert without a network, a wrong request without all."""
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    print(*(f'{{name}} imports {{each}}' for each in sorted(set(sys.modules) & {heavy!r})))\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == [], child.stdout


def test_rules_of_the_contributing_guide() -> None:
    broken = []
    for path in LIBRARY:
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, (before, line) in enumerate(zip(["", *lines], lines, strict=False), start=1):
            if "fork_rng" in before:
                continue  # a seed for one block, which leaves the caller's random numbers alone
            broken += [
                f"{path.relative_to(ROOT)}:{number}: {why}"
                for pattern, why in FORBIDDEN.items()
                if re.search(pattern, line)
            ]
    assert broken == []


def test_exported_names_exist() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in LIBRARY
        if path.is_relative_to(ROOT / "robolearn")
        and re.search(r"^__all__ = ", path.read_text(encoding="utf-8"), re.MULTILINE)
        and "embedded" not in path.parts
    ]
    for name in modules:
        module = importlib.import_module(name)
        assert [exported for exported in module.__all__ if not hasattr(module, exported)] == [], name


def test_no_machine_paths_in_what_we_ship() -> None:
    shipped = [
        *LIBRARY,
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("launch/*"),
        *ROOT.glob("hardware/**/*.yaml"),
    ]
    for path in shipped:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/home/|/root/|/work/", text), path


def test_test_files_have_names_of_their_own() -> None:
    """pytest takes two files of one name, in folders that are no packages, for one."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
