"""For every test: Ctrl-C means what it means on a terminal, also where the whole run was started in the background; a
property may take the time that it takes, for a busy machine proves nothing; and a process computes in one thread, for
others run beside it, and threads that wait for a core in vain take it from those that work."""

from __future__ import annotations

import os
import signal

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before anybody reads them, and for child processes

import hypothesis

import robolearn.twin  # noqa: F401, settles which OpenGL is used before a test imports mujoco


def pytest_configure() -> None:
    # a shell starts background jobs with SIGINT ignored, and children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("no_deadline", deadline=None)
    hypothesis.settings.load_profile("no_deadline")
