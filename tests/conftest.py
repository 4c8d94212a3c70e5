"""For every test: Ctrl-C means what it means on a terminal, also where the whole run was started in the background, and
a property may take the time that it takes, for a busy machine proves nothing."""

from __future__ import annotations

import signal

import hypothesis

import robolearn.twin  # noqa: F401, settles which OpenGL is used before a test imports mujoco


def pytest_configure() -> None:
    # a shell starts background jobs with SIGINT ignored, and children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    hypothesis.settings.register_profile("no_deadline", deadline=None)
    hypothesis.settings.load_profile("no_deadline")
