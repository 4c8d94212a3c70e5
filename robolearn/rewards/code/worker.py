"""The child process of the sandbox: sets its own limits, then answers requests of one line of JSON each.

Started by `sandbox.py` as a script of an isolated Python without network; it imports nothing of robolearn. NumPy is the
only library that the code sees, and only the listed names of it. The first line is {code, name, cpu_s, memory_bytes,
drop_privileges, numpy, linalg, methods, builtins}; then each {columns: {name: list}} is answered by {rewards,
components} or by {error}.
"""

from __future__ import annotations

import builtins
import json
import os
import resource
import sys
import types

import numpy as np

MAX_COMPONENTS = 32


def limit(memory_bytes: int, drop_privileges: bool) -> None:
    """No files, no processes, no privileges, and so much memory. The three pipes are open; in the place of one that is
    closed nothing can be opened."""
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if drop_privileges:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def allow_cpu(cpu_s: int) -> None:
    """So much processor time from now on; the kernel ends the process that takes more."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = int(usage.ru_utime + usage.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (used + cpu_s, resource.RLIM_INFINITY))


def visible_numpy(names: list[str], linalg: list[str]) -> types.SimpleNamespace:
    """A namespace that holds the listed functions and nothing to walk on from."""
    values = {name: getattr(np, name) for name in names if name != "linalg"}
    return types.SimpleNamespace(
        **values, linalg=types.SimpleNamespace(**{name: getattr(np.linalg, name) for name in linalg})
    )


def load_rest(methods: list[str]) -> None:
    """NumPy loads what stands behind these methods when they are first called, and the code may load nothing."""
    row = np.ones(2)
    for name in methods:
        getattr(row, name)(*((0.0, 1.0) if name == "clip" else ()))
    np.median(row)


def rewards_of(function: types.FunctionType, columns: dict[str, list]) -> dict[str, object]:
    """Rewards and components of every row of the columns."""
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    rewards: list[float] = []
    components: dict[str, list[float]] = {}
    for row in range(len(next(iter(arrays.values())))):
        reward, parts = function(*[values[row] for values in arrays.values()])
        rewards.append(float(reward))
        for name, value in dict(parts).items():
            components.setdefault(str(name)[:60], []).append(float(value))
        if len(components) > MAX_COMPONENTS:
            raise ValueError(f"more than {MAX_COMPONENTS} components; name a few that add up to the reward")
    return {"rewards": rewards, "components": components}


def main() -> None:
    first = json.loads(sys.stdin.readline())
    load_rest(first["methods"])
    limit(first["memory_bytes"], first["drop_privileges"])
    allow_cpu(first["cpu_s"])
    np.seterr(all="ignore")  # a warning wants to import, which the code may not; what is not finite is refused anyway
    allowed = {name: getattr(builtins, name) for name in first["builtins"]}
    space: dict[str, object] = {"__builtins__": allowed, "np": visible_numpy(first["numpy"], first["linalg"])}
    reply: dict[str, object]
    try:
        exec(compile(first["code"], "<reward>", "exec"), space)
        reply = {"ready": True}
    except Exception as error:  # noqa: BLE001 - whatever the code raises is told to its author
        reply = {"error": f"{type(error).__name__}: {error}"[:500]}
    print(json.dumps(reply), flush=True)  # noqa: T201 - the pipe is the answer
    for line in sys.stdin:
        allow_cpu(first["cpu_s"])
        try:
            reply = rewards_of(space[first["name"]], json.loads(line)["columns"])  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001
            reply = {"error": f"{type(error).__name__}: {error}"[:500]}
        print(json.dumps(reply), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
