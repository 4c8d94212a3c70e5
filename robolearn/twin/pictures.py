"""Pictures of a scene, one off-screen renderer a size. Nothing is drawn, and no OpenGL context made, before somebody
asks."""

from __future__ import annotations

import os
import threading

import mujoco
import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError, SpecError, UnknownNameError
from robolearn.opengl import load_triton_first
from robolearn.twin.layout import Layout


class Pictures:
    """Draws the cameras of a layout as they are in `model` then. Its OpenGL contexts are the first drawing thread's: to
    draw or close in another one is a HardwareError."""

    def __init__(self, layout: Layout, model: mujoco.MjModel) -> None:
        self._layout, self._model = layout, model
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self._thread = threading.current_thread()  # whose they are, once there are some

    def draw(self, camera: str, data: mujoco.MjData, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Picture (H, W, 3) uint8 RGB of one camera, into `out` if that is given; bodies in `data` are up to date.

        Raises UnknownNameError for a camera that is not in the layout, and HardwareError without OpenGL.
        """
        if camera not in self._layout.camera_specs:
            raise UnknownNameError("camera", camera, self._layout.camera_specs)
        spec = self._layout.camera_specs[camera]
        size = (spec.height, spec.width)
        self._check_thread()
        if size not in self._renderers:
            self._thread = threading.current_thread()
            self._renderers[size] = _renderer(self._model, *size)
        renderer = self._renderers[size]
        if self._layout.model.nflex:
            mujoco.mj_flex(self._model, data)
        renderer.update_scene(data, self._layout.camera_ids[camera])
        return renderer.render(out=out)

    def close(self) -> None:
        """Free the OpenGL contexts. May be called twice."""
        self._check_thread()
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _check_thread(self) -> None:
        here = threading.current_thread()
        if self._renderers and here is not self._thread:
            raise HardwareError(
                f"this twin's pictures are the thread {self._thread.name}'s, which drew the first one, not "
                f"{here.name}'s; draw and close there, or make a twin for each thread"
            )


def _renderer(model: mujoco.MjModel, height: int, width: int) -> mujoco.Renderer:
    load_triton_first()
    try:
        renderer = mujoco.Renderer(model, height, width)
    except ValueError as error:
        raise SpecError(f"cannot render {height} x {width}: {' '.join(str(error).split())}") from error
    except (mujoco.FatalError, AttributeError, ImportError) as error:  # the latter two where MUJOCO_GL is `disable`
        raise HardwareError(
            f"cannot render, no OpenGL ({error}; MUJOCO_GL is {os.environ.get('MUJOCO_GL', 'not set')}); run "
            "`robolearn doctor`, and where mujoco is imported before robolearn.twin set MUJOCO_GL=egl"
        ) from error
    # Both cost a second pass over the scene, shadows thirty times the picture on software GL.
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    return renderer
