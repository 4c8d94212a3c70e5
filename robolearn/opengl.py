"""What has to be done before a process draws its first picture."""

from __future__ import annotations

import contextlib
import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def load_triton_first() -> None:
    """Load the library of Triton, which PyTorch brings where it knows GPUs, before any OpenGL driver.

    Mesa's drivers show their LLVM to all libraries that come later. Triton has another one, and where it comes later it
    calls Mesa's and crashes, as at the first optimizer or compiled step after a picture (Mesa 22.3, Triton 3.7).
    """
    package = find_spec("triton")
    for folder in (package.submodule_search_locations or ()) if package else ():
        with contextlib.suppress(OSError):  # who cannot load it will not use it
            ctypes.CDLL(str(Path(folder, "_C", "libtriton.so")))
