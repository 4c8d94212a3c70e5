"""Pictures of a tag on a table, drawn with the lens of a known camera that looks down at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from robolearn.cameras.calibration import CameraCalibration
from robolearn.cameras.charuco import Intrinsics
from robolearn.cameras.hand_eye import Extrinsics
from robolearn.cameras.tags import draw_tag

SIZE_M = 0.03
MATRIX = np.array([[600.0, 0, 319.5], [0, 600.0, 239.5], [0, 0, 1]])
LENS = Intrinsics(480, 640, MATRIX, np.zeros(4), 0.1, 10)
TURN = np.array([[0.0, -1, 0], [-1, 0, 0], [0, 0, -1]])  # it looks straight down, its x along the base's -y
T_BASE_CAMERA = np.block([[TURN, np.array([[0.22], [0.0], [0.5]])], [np.zeros((1, 3)), np.ones((1, 1))]])


def pose_of(place: tuple[float, float, float], yaw: float = 0.0) -> np.ndarray:
    """T_base_tag of a tag that lies flat."""
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    pose[:3, 3] = place
    return pose


def calibration(placed: bool = True) -> CameraCalibration:
    place = Extrinsics("eye_to_hand", T_BASE_CAMERA, 0.1, 0.001, 0.001, 10) if placed else None
    return CameraCalibration("front", LENS, place)


def look_at_tag(tag: int, T_base_tag: np.ndarray) -> np.ndarray:
    """(480, 640, 3)."""
    picture, scale = draw_tag(tag, 200), 4  # drawn four times as large, then averaged: edges as a lens makes them
    edge = SIZE_M / 2 * 1.5
    rim = np.array([[-edge, edge, 0], [edge, edge, 0], [edge, -edge, 0], [-edge, -edge, 0]])
    corners = LENS.project(np.linalg.inv(T_BASE_CAMERA) @ T_base_tag, rim)
    side = picture.shape[0]
    before = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32) - 0.5
    warp: Any = cv2.getPerspectiveTransform(before, ((corners + 0.5) * scale - 0.5).astype(np.float32))
    large = cv2.warpPerspective(picture, warp, (640 * scale, 480 * scale), borderValue=128)
    grey = cv2.resize(large, (640, 480), interpolation=cv2.INTER_AREA)
    return np.repeat(grey[..., None], 3, axis=2)


def write_video(path: Path, image: np.ndarray) -> None:
    """One picture, over and over."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
        stream.bit_rate = 20_000_000
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
