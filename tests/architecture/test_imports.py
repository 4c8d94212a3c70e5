"""The import direction and the rules that a machine can check."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = sorted(ROOT.glob("robolearn/**/*.py")) + sorted(ROOT.glob("ros_ws/src/robolearn_nodes/robolearn_nodes/*.py"))
EVERYTHING = LIBRARY + sorted(ROOT.glob("tests/**/*.py")) + sorted(ROOT.glob("benchmarks/*.py"))

FORBIDDEN = {
    r"\bpickle\.loads?\(|\bimport pickle\b": "no pickle: safetensors, JSON, msgpack",
    r"torch\.load\(": "no torch.load: safetensors",
    r"except:\s*$": "no bare except",
    r"\btime\.time\(\)": "time is an argument; pacing and durations use time.monotonic",
    r"0\.0\.0\.0": "listen on loopback",
    r"(np|numpy)\.random\.seed\(|torch\.manual_seed\(": "randomness is passed in: no global seeding",
}
LIGHT = {
    "robolearn.policies.checkpoint",
    "robolearn.policies.scripted",
    "robolearn.serving.loop",
    "robolearn.robots.safety",
}
HEAVY = {"zarr", "mujoco", "gymnasium", "fastapi"}


def test_imports_point_one_way() -> None:
    lint = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert lint.returncode == 0, lint.stdout


@pytest.mark.parametrize("module", sorted(LIGHT))
def test_the_robots_computer_stays_light(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & {HEAVY!r}))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == []


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


def test_library_never_imports_tests() -> None:
    for path in LIBRARY:
        names = [
            name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        ]
        assert not any(name == "tests" or name.startswith("tests.") for name in names), path


def test_exported_names_exist() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in LIBRARY
        if path.is_relative_to(ROOT / "robolearn")
        and re.search(r"^__all__ = ", path.read_text(encoding="utf-8"), re.MULTILINE)
        and "embedded" not in path.parts
    ]
    code = (
        "import importlib\n"
        f"for name in {modules!r}:\n"
        "    module = importlib.import_module(name)\n"
        "    missing = [n for n in module.__all__ if not hasattr(module, n)]\n"
        "    assert not missing, (name, missing)\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr


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
