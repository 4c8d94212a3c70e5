"""Cameras by name. Drivers import their vendors' packages, and the twin imports MuJoCo, only when one is made."""

from __future__ import annotations

from collections.abc import Callable

from robolearn.cameras.camera import Camera
from robolearn.cameras.fake import FakeCamera
from robolearn.cameras.opencv import OpenCVCamera
from robolearn.cameras.realsense import RealSenseCamera
from robolearn.cameras.replay import ReplayCamera
from robolearn.cameras.video import VideoCamera


def _twin_camera(task_id: str = "reach-v1", name: str = "front", height: int = 96, width: int = 96) -> Camera:
    from robolearn.tasks import make_task
    from robolearn.twin.devices import TwinCamera
    from robolearn.twin.twin import Twin

    return TwinCamera(Twin(make_task(task_id), {name: (height, width)}), name)


CAMERAS: dict[str, Callable[..., Camera]] = {
    "fake": FakeCamera,
    "opencv": OpenCVCamera,
    "realsense": RealSenseCamera,
    "replay": ReplayCamera,
    "twin": _twin_camera,
    "video": VideoCamera,
}
