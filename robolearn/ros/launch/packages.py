"""Where a package and its nodes are, with and without ROS 2.

A package is a Python package that can be imported, or one that a sourced ROS 2 workspace lists in its ament index
(`<prefix>/share/ament_index/resource_index/packages/<name>` for every prefix of AMENT_PREFIX_PATH). Nothing is
imported to find out.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import os
import pkgutil
import shutil
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from robolearn.errors import LaunchError, UnknownNameError

_INDEX = Path("share", "ament_index", "resource_index", "packages")


def node_command(package: str, executable: str, environment: Mapping[str, str]) -> list[str]:
    """The command that starts a node: a module of the package, an installed executable or an entry point of it.

    Raises LaunchError with the near misses when there is no such package or no such node in it.
    """
    spec = _python_package(package, environment)
    if spec is not None and _is_program(spec, executable):
        return [sys.executable, "-P", "-m", f"{package}.{executable}"]
    prefix = _ament_prefix(package, environment)
    if prefix is not None and (path := shutil.which(executable, path=prefix / "lib" / package)):
        return [path]
    scripts = _console_scripts(package)
    if executable in scripts:
        module, function = scripts[executable].module, scripts[executable].attr
        return [sys.executable, "-c", f"import sys, {module}; sys.exit({module}.{function}())"]
    if spec is None and prefix is None and not scripts:
        raise _no_package(package, environment)
    known = {*scripts, *_programs(spec), *_ament_executables(package, prefix)}
    raise LaunchError(str(UnknownNameError(f"node of package {package},", executable, known)))


def package_share(package: str, environment: Mapping[str, str]) -> Path:
    """The share directory of a package; without ROS its source directory (beside package.xml) or its module's."""
    prefix = _ament_prefix(package, environment)
    if prefix is not None:
        return prefix / "share" / package
    spec = _python_package(package, environment)
    if spec is None:
        raise _no_package(package, environment)
    module = Path(_locations(spec)[0])
    return module.parent if (module.parent / "package.xml").is_file() else module


def package_prefix(package: str, environment: Mapping[str, str]) -> Path:
    """The install prefix of a package; only a sourced ROS 2 workspace has one."""
    prefix = _ament_prefix(package, environment)
    if prefix is None:
        raise LaunchError(f"package {package!r} has no install prefix without a sourced ROS 2; use $(find-pkg-share)")
    return prefix


def executable_in_package(package: str, executable: str, environment: Mapping[str, str]) -> str:
    """The path of an installed executable of a package; only a sourced ROS 2 workspace has one."""
    directory = package_prefix(package, environment) / "lib" / package
    path = shutil.which(executable, path=directory)
    if path is None:
        raise LaunchError(f"no executable {executable!r} in {directory}")
    return path


def _no_package(package: str, environment: Mapping[str, str]) -> LaunchError:
    known = {module.name for module in pkgutil.iter_modules() if module.ispkg}
    for prefix in _ament_prefixes(environment):
        known.update(path.name for path in (prefix / _INDEX).glob("*"))
    near = difflib.get_close_matches(package, known, n=3, cutoff=0.7)
    hint = f"did you mean {' or '.join(near)}?" if near else "install it, or source the ROS 2 workspace that holds it"
    return LaunchError(f"no package {package!r}; {hint}")


def _python_package(package: str, environment: Mapping[str, str]) -> ModuleSpec | None:
    """The spec of a top-level package, on the child's PYTHONPATH or on ours; a plain module is no package."""
    if not package.isidentifier():
        return None
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    spec = PathFinder.find_spec(package, paths)
    if spec is None:
        try:
            spec = importlib.util.find_spec(package)
        except ValueError:  # a module without a spec, such as __main__
            return None
    return spec if spec is not None and _locations(spec) else None


def _locations(spec: ModuleSpec | None) -> list[str]:
    return list(spec.submodule_search_locations or ()) if spec is not None else []


def _is_program(package: ModuleSpec, name: str) -> bool:
    spec = PathFinder.find_spec(f"{package.name}.{name}", _locations(package))
    if spec is None or "." in name:
        return False
    return spec.submodule_search_locations is None or _is_program(spec, "__main__")


def _programs(package: ModuleSpec | None) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(_locations(package)) if not module.name.startswith("_")]


def _console_scripts(package: str) -> dict[str, importlib.metadata.EntryPoint]:
    try:
        points = importlib.metadata.distribution(package).entry_points
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return {}
    return {point.name: point for point in points.select(group="console_scripts")}


def _ament_prefixes(environment: Mapping[str, str]) -> list[Path]:
    return [Path(prefix) for prefix in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]


def _ament_prefix(package: str, environment: Mapping[str, str]) -> Path | None:
    if not package or os.sep in package:
        return None
    return next((prefix for prefix in _ament_prefixes(environment) if (prefix / _INDEX / package).is_file()), None)


def _ament_executables(package: str, prefix: Path | None) -> list[str]:
    return [] if prefix is None else [path.name for path in (prefix / "lib" / package).glob("*")]
