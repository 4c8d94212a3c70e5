"""What is shipped of the front end is what its sources say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from robolearn.web.app import STATIC

FRONTEND = STATIC.parent / "frontend"
SOURCES = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")


def digest(root: Path, paths: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in paths if path.is_file()):
        total.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def test_the_committed_build_is_that_of_the_sources() -> None:
    build = json.loads((STATIC / "build.json").read_text("utf-8"))
    folders = [path for name in ("src", "public") for path in (FRONTEND / name).rglob("*")]
    assert build["sources"] == digest(FRONTEND, [*folders, *(FRONTEND / name for name in SOURCES)]), "run `make page`"
    built = [path for path in STATIC.rglob("*") if path.name != "build.json"]
    assert build["built"] == digest(STATIC, built), "static/ was changed by hand; run `make page`"


def test_versions_of_the_front_end_are_locked() -> None:
    package = json.loads((FRONTEND / "package.json").read_text("utf-8"))
    lock = json.loads((FRONTEND / "package-lock.json").read_text("utf-8"))
    wanted = package["dependencies"] | package["devDependencies"]
    assert all(lock["packages"][f"node_modules/{name}"]["version"] == version for name, version in wanted.items())
    assert set(package["dependencies"]) == {"preact", "@preact/signals", "uplot"}
