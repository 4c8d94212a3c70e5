"""Triton's library comes before any OpenGL driver, for Mesa's shows its LLVM to all that come later."""

from __future__ import annotations

import _ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WATCH = """
import sys
def loaded():
    return "libtriton.so" in open("/proc/self/maps").read()
def watch(module, name, what):
    made = getattr(module, name)
    def make(*rest, **named):
        assert loaded(), what
        print(what)
        return made(*rest, **named)
    setattr(module, name, make)
"""
TWIN = """
import robolearn.twin.twin, mujoco
from robolearn.tasks import make_task
watch(mujoco, "Renderer", "drawn")
assert not loaded()
robolearn.twin.twin.Twin(make_task("reach-v1"), {"front": (16, 16)}).render("front")
"""
GYM = """
import gymnasium
from robolearn.envs.gym_env import GymVectorEnv
watch(gymnasium, "make_vec", "drawn")
assert not loaded()
GymVectorEnv("gym:Reacher-v5", 1, image_size=(16, 16))
"""
OSMESA = """
import ctypes, os
os.environ["MUJOCO_GL"] = "osmesa"
load = ctypes.CDLL
def watching(name, *rest, **named):
    if name and "OSMesa" in name:
        assert loaded()
        raise SystemExit(print("drawn"))
    return load(name, *rest, **named)
ctypes.CDLL = watching
assert not loaded()
import robolearn.twin
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("who", [TWIN, GYM, OSMESA])
def test_tritons_library_is_loaded_before_the_first_picture(who: str, tmp_path: Path) -> None:
    library = tmp_path / "triton" / "_C" / "libtriton.so"
    library.parent.mkdir(parents=True)
    (tmp_path / "triton" / "__init__.py").touch()
    shutil.copy(_ctypes.__file__, library)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})" + WATCH + who
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["drawn"]
