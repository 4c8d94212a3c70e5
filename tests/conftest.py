"""For every test: Ctrl-C means what it means on a terminal, also where the whole run was started in the background; a
property may take the time that it takes, for a busy machine proves nothing; and a process computes in one thread, for
others run beside it, and threads that wait for a core in vain take it from those that work. A file's tests run in one
worker, which makes once what they share, and so do all those in the one browser. The longest begin first; files that
wait for processes take turns with files that compute, so that no core is idle. A test that runs processes in real time
gets a second try, which the summary shows: a machine that stood still for a moment fails nobody, what fails twice does.
"""

from __future__ import annotations

import functools
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before anybody reads them, and for child processes

import hypothesis
import pytest

import robolearn.twin  # noqa: F401, settles which OpenGL is used before a test imports mujoco

HERE = Path(__file__).parent
BROWSER = "chromium"  # fixture of tests that run one after the other
LONGEST = ("test_readme.py", "test_demo.py", "test_walkthrough.py")
REAL_TIME = ("hardware", "nodes", "recipes", "ros", "serving", "web", "test_cli.py", "test_readme.py")


def pytest_configure() -> None:
    # a shell starts background jobs with SIGINT ignored, and children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("no_deadline", deadline=None)
    hypothesis.settings.load_profile("no_deadline")


@functools.cache
def in_real_time(path: Path) -> bool:
    return path.is_relative_to(HERE) and path.relative_to(HERE).parts[0] in REAL_TIME


def browses(item: pytest.Item) -> bool:
    return BROWSER in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    turns: dict[Path, float] = {}
    for waits in (True, False):
        files = list(dict.fromkeys(item.path for item in items if in_real_time(item.path) is waits))
        turns |= {path: number / len(files) for number, path in enumerate(files)}
    items.sort(key=lambda item: (not browses(item), item.path.name not in LONGEST, turns[item.path]))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(BROWSER if browses(item) else item.path.stem))
        if in_real_time(item.path):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected stays: the garbage collector need not look at it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
