"""The command `bench`: everything in benchmarks/ by name."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

from tyro.conf import Positional, arg

from robolearn.cli.output import EXIT_NO

PEERS = "_peers"  # end of the names of scripts that other benchmarks run, under a Python of their own


def bench(
    name: Annotated[str, Positional, arg(metavar="NAME")],
    arguments: Annotated[tuple[str, ...], Positional, arg(metavar="ARGUMENT ...")] = (),
    json: bool = False,
) -> int:
    """Run one of the benchmarks.

    Example: robolearn bench sim_speed --json

    Args:
        name: of a file in benchmarks/, without .py.
        arguments: for the benchmark, after `--`; `robolearn bench NAME -- --help` lists them.
    """
    from robolearn.assets import asset, asset_roots
    from robolearn.errors import UnknownNameError

    known = {path.stem for root in asset_roots() for path in (root / "benchmarks").glob("*.py")}
    known = {stem for stem in known if not stem.endswith(PEERS)}
    if name not in known:
        raise UnknownNameError("benchmark", name, known)
    command = [sys.executable, str(asset(f"benchmarks/{name}.py")), *(["--json"] if json else []), *arguments]
    code = subprocess.run(command).returncode
    return code if code in (0, EXIT_NO, 2) else EXIT_NO
