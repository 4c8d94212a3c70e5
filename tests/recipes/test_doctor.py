"""The doctor finds what is wrong and says how to mend it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from robolearn.errors import TransportError
from robolearn.recipes import doctor


def test_everything_is_examined_once_and_works_here(tmp_path: Path) -> None:
    checks = doctor.examine(lambda: "a participant", tmp_path)
    names = [check.name for check in checks]
    assert len(set(names)) == len(names) == 11
    assert [check.name for check in checks if check.required and not check.ok] == []


def test_a_broken_transport_is_told_with_its_remedy() -> None:
    def broken() -> str:
        raise TransportError("domain 0: all 32 participants are taken")

    check = doctor.check_transport(broken)
    assert not check.ok
    assert check.required
    assert "32 participants" in check.found
    assert check.remedy


@pytest.mark.parametrize(("size", "ok"), [("212992\n", False), ("4194304\n", True)])
def test_a_small_udp_buffer_is_named_with_the_command(tmp_path: Path, size: str, ok: bool) -> None:
    path = tmp_path / "rmem_max"
    path.write_text(size)
    check = doctor.check_udp_buffer(path)
    assert check.ok is ok
    assert ("sysctl -w net.core.rmem_max" in check.remedy) is not ok
    assert not check.required


def test_a_machine_that_cannot_draw_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")  # what robolearn.twin chooses where there is no EGL
    check = doctor.check_rendering()
    assert not check.ok
    assert "libEGL" in check.found
    assert "libegl1" in check.remedy


def test_a_compiler_that_is_not_there_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    check = doctor.check_compiler()
    assert (check.ok, check.required) == (False, False)
    assert "g++" in check.found
    assert check.remedy == "apt-get install g++ python3-dev"
    monkeypatch.setenv("CXX", sys.executable)  # which is there, as anything else that runs
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
    assert doctor.check_compiler().found == "none: Python's headers (/nowhere/Python.h) is missing"
