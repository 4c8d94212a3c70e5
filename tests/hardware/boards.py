"""Pictures of a calibration board, drawn with a known camera at known places."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from robolearn.cameras.charuco import BoardConfig, Intrinsics, View, draw_board, find_board
from robolearn.cameras.hand_eye import Kind, inverse

H, W = 360, 480
BOARD = BoardConfig()
TRUTH = Intrinsics(
    H, W, np.array([[450.0, 0, 248], [0, 454, 177], [0, 0, 1]]), np.array([-0.12, 0.05, 0.001, -0.0005]), 0.0, 0
)


def pose(x: float, y: float, z: float, *turn: float) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = cv2.Rodrigues(np.array(turn))[0], (x, y, z)
    return out


@cache
def rays() -> np.ndarray:
    """Directions (H W, 2) of the true camera's pixels, distortion undone."""
    v, u = np.mgrid[:H, :W].astype(np.float64)
    pixels = np.stack([u.ravel(), v.ravel()], 1)[:, None]
    return cv2.undistortPoints(pixels, TRUTH.matrix, TRUTH.distortion).reshape(-1, 2)


def photograph(T_camera_board: np.ndarray, seed: int = 0) -> np.ndarray:
    """What the true camera sees: each pixel's ray meets the board's plane. With some noise."""
    scale = 60 / BOARD.square_m
    texture = cv2.GaussianBlur(draw_board(BOARD, 60), (3, 3), 0.8)
    normal, origin = T_camera_board[:3, 2], T_camera_board[:3, 3]
    directions = np.concatenate([rays(), np.ones((H * W, 1))], 1)
    points = directions * ((normal @ origin) / (directions @ normal))[:, None]
    local = (points - origin) @ T_camera_board[:3, :3]
    maps = (local[:, :2] * scale - 0.5).reshape(H, W, 2).astype(np.float32)
    image = cv2.remap(texture, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=170)
    noisy = image + np.random.default_rng(seed).normal(0, 2, image.shape)
    return np.repeat(np.clip(noisy, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def looking_at(x: float, y: float, distance: float, *turn: float) -> np.ndarray:
    """The board's middle at x, y in the picture (-1..1), tilted by `turn`."""
    middle = np.array([BOARD.columns, BOARD.rows, 0]) * BOARD.square_m / 2
    place = np.array([x * W / 2 / 450, y * H / 2 / 450, 1]) * distance
    out = pose(0, 0, 0, *turn)
    out[:3, 3] = place - out[:3, :3] @ middle
    return out


@cache
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    places = [(x, y) for x in (-0.55, 0.0, 0.55) for y in (-0.5, 0.0, 0.5)]
    return [photograph(looking_at(x, y, 0.3, *rng.uniform(-0.45, 0.45, 3)), i) for i, (x, y) in enumerate(places)]


def seen(images: list[np.ndarray]) -> list[View]:
    views = [find_board(BOARD, image) for image in images]
    return [view for view in views if view is not None]


CAMERA = pose(0.03, -0.02, 0.05, 0.1, -0.2, 1.4)  # in the tool, for an eye in hand


def arm_poses(kind: Kind, count: int, turns: float = 0.35) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """T_base_tool and T_camera_board at each pose, and T_parent_camera."""
    rng = np.random.default_rng(1)
    boards = [
        looking_at(*rng.uniform(-0.25, 0.25, 2), rng.uniform(0.28, 0.4), *rng.uniform(-turns, turns, 3))
        for _ in range(count)
    ]
    fixed = pose(0.3, 0.1, 0.02, 3.0, 0.1, 0.2)
    if kind == "eye_in_hand":
        return [fixed @ inverse(b) @ inverse(CAMERA) for b in boards], boards, CAMERA
    camera, on_tool = pose(0.5, 0.3, 0.6, 2.2, 0.4, -0.3), pose(0.02, 0.01, 0.03, 0.3, 0.1, 0.2)
    return [camera @ b @ inverse(on_tool) for b in boards], boards, camera
