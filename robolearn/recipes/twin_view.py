"""Look at a twin: a task with its expert, a cell's twin, or a recorded episode beside what the twin makes of it.

In a window where there is a display, else as a film or a picture.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from robolearn.cell import load_cell
from robolearn.datasets.edit import episode_index
from robolearn.datasets.held import read_held
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import HardwareError, SpecError
from robolearn.recipes.report import side_by_side, write_video
from robolearn.recipes.twin import log_of, task_of
from robolearn.tasks import make_task
from robolearn.tasks.task import Task
from robolearn.twin.twin import Twin

if TYPE_CHECKING:
    import mujoco

VIEW_SIZE = (240, 320)  # of each camera's picture
CELL_TASK = "reach-v1"  # what a cell's twin does unless a task is named
FILM, PICTURE = ".mp4", ".png"
LOOK_AT = (0.18, 0.0, 0.08)  # of the window [m]
LOOK_ALONG_DEG = (150.0, -25.0)  # azimuth and elevation
DISTANCE_RADII = 3.0
JOIN_S = 5.0

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Show:
    """begin: puts the twin at the start. commands: the joint targets (J,) from there on, one after the other, for as
    long as the episode lasts. recorded: pictures of the cameras at each step, where there are any."""

    twin: Twin
    begin: Callable[[], None]
    commands: Callable[[], Iterator[NDArray]]
    recorded: dict[str, NDArray]


def open_show(what: str, episode: int = 0, task_id: str = "", seed: int = 0) -> Show:
    """what: a task's id, the path of a dataset, or of a cell (.yaml). Raises what the twin raises, and DatasetError for
    an episode that is not there."""
    path = Path(what)
    if path.suffix in (".yaml", ".yml"):
        task = make_task(task_id or CELL_TASK)
        return _expert(load_cell(path).make_twin(task, _sizes(task)), seed)
    named = Path(what.partition("@")[0])
    if path.exists() or str(named) != named.stem:  # no task's id has a folder or a suffix
        return _recording(path, episode, task_id)
    task = make_task(what)
    return _expert(Twin(task, _sizes(task)), seed)


def _sizes(task: Task) -> dict[str, tuple[int, int]]:
    return dict.fromkeys(task.cameras, VIEW_SIZE)


def _expert(twin: Twin, seed: int) -> Show:
    task = twin.task
    seen = ["proprio", *(f"pose_{body}" for body in task.bodies)]

    def commands() -> Iterator[NDArray]:
        for _ in range(task.max_steps):
            yield task.expert(twin.observe(seen))
            if twin.status().success or twin.status().failed:
                return

    return Show(twin, lambda: twin.reset(seed), commands, {})


def _recording(path: Path, episode: int, task_id: str) -> Show:
    """The recorded commands, open loop from where the episode started."""
    store = ZarrStore.open(path)
    episode = episode_index(store, episode)
    task, seed = task_of(store, path, task_id), store.episodes[episode].seed or 0
    log = log_of(store, episode, task)
    fields = store.spec.interface.observation
    images = [name for name in (f"image_{camera}" for camera in task.cameras) if name in fields]
    sizes = {name.removeprefix("image_"): fields[name].shape[:2] for name in images}
    twin = Twin(task, {name: (height, width) for name, (height, width) in sizes.items()} or _sizes(task))

    def begin() -> None:
        twin.reset(seed)
        twin.place_robot(log.position[0])

    return Show(twin, begin, lambda: iter(log.command), read_held(store, episode, images))


def pictures(show: Show) -> Iterator[Picture]:
    """What the twin's cameras see at every step, beside each other, below what was recorded if there is such."""
    show.begin()
    for k, command in enumerate(show.commands()):
        seen = side_by_side([show.twin.render(name) for name in show.twin.camera_specs])
        there = [rows[min(k, len(rows) - 1)] for rows in show.recorded.values()]
        yield np.concatenate([side_by_side(there), seen]) if there else seen
        show.twin.step(command)


def write_view(show: Show, out: Path) -> None:
    """A film of the episode (.mp4), or a picture of its start (.png). Raises SpecError for another name."""
    if out.suffix not in (FILM, PICTURE) or not out.absolute().parent.is_dir():
        raise SpecError(f"cannot write {out}; name a file ending in {FILM} or {PICTURE} in a folder that exists")
    frames = pictures(show)
    if out.suffix == FILM:
        height = min(spec.height for spec in show.twin.camera_specs.values())
        write_video(out, frames, show.twin.control_hz, scale=max(VIEW_SIZE[0] // height, 1))
        return
    from PIL import Image

    Image.fromarray(next(frames)).save(out)


def display_there() -> bool:
    """Whether a window could be opened here."""
    if sys.platform != "linux":
        return True
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    import glfw

    with warnings.catch_warnings():  # it warns of a display that does not answer, and says no
        warnings.simplefilter("ignore")
        there = bool(glfw.init())
    glfw.terminate()  # the viewer begins anew, in a thread of its own
    return there


def open_window(
    show: Show, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Show the episode in MuJoCo's viewer, again and again at the pace of the real thing, until the window is closed.

    Raises HardwareError where there is no display.
    """
    if not display_there():
        raise HardwareError("there is no display here; add --out FILE.mp4 or --out FILE.png to get a film or a picture")
    from mujoco import viewer  # it looks for a display when it is imported

    others = set(threading.enumerate())
    try:
        _play(show, viewer, clock, sleep)
    finally:  # a program that ends before the viewer's thread has, crashes
        for thread in set(threading.enumerate()) - others:
            thread.join(JOIN_S)


def _play(show: Show, viewer: ModuleType, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    twin, period_s = show.twin, show.twin.period_ns * 1e-9
    with viewer.launch_passive(twin.model, twin.data, show_left_ui=False, show_right_ui=False) as window:
        with window.lock():
            show.begin()
            _look(window.cam, twin.data)
        while window.is_running():
            due_s = clock()
            for command in show.commands():
                with window.lock():
                    twin.step(command)
                window.sync()
                due_s += period_s
                sleep(max(due_s - clock(), 0.0))
                if not window.is_running():
                    return
            with window.lock():
                show.begin()


def _look(camera: mujoco.MjvCamera, data: mujoco.MjData) -> None:
    """From above and across the table, far enough away for the whole robot."""
    camera.lookat[:] = LOOK_AT
    camera.distance = DISTANCE_RADII * np.linalg.norm(data.xpos[1:] - LOOK_AT, axis=1).max()
    camera.azimuth, camera.elevation = LOOK_ALONG_DEG
