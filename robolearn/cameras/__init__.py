"""Cameras by name. Drivers import their vendors' packages only when one is made."""

from __future__ import annotations

from collections.abc import Callable

from robolearn.cameras.camera import Camera
from robolearn.cameras.opencv import OpenCVCamera
from robolearn.cameras.realsense import RealSenseCamera
from robolearn.cameras.video import VideoCamera
from robolearn.plugins import Table

CAMERAS: Table[Callable[..., Camera]] = Table(
    "robolearn.cameras",
    "camera",
    {
        "opencv": OpenCVCamera,
        "realsense": RealSenseCamera,
        "video": VideoCamera,
    },
    owed=("config_type", "connect", "read", "close"),
    devices=True,
)
