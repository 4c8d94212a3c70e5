"""Intrinsics of a camera from pictures of a ChArUco board, and where a board is. Legend: H W image, N corners.

The model is OpenCV's: pinhole matrix, radial distortion k1 k2 and tangential p1 p2. Poses `T_a_b` (4, 4) are those of b
in a; a camera looks along its z, x to the right, y down; the board's z points into it, away from who looks at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from robolearn.errors import HardwareError

Floats = NDArray[np.float64]

MIN_CORNERS = 8  # of a view
MIN_VIEWS = 8
MIN_COVERAGE = 0.6  # of the 4 x 3 parts of the picture, that corners must have been seen in
MIN_TILT = 0.2  # [rad] spread of the board's normal: without tilt, focal length and distance cannot be told apart
MAX_RESIDUAL_PX = 1.0


@dataclass(frozen=True)
class BoardConfig:
    """The board, as `robolearn cell board` prints it; measure a printed square."""

    columns: int = 7
    rows: int = 5
    square_m: float = 0.03
    marker_share: float = 0.75  # of a square
    dictionary: str = "DICT_4X4_50"


@dataclass(frozen=True)
class View:
    """What was seen of the board in one picture: pixels (N, 2) and places on the board (N, 3) [m]."""

    pixels: Floats
    places: Floats


@dataclass(frozen=True)
class Intrinsics:
    """Of one camera at one size. residual_px: root mean square over all corners."""

    height: int
    width: int
    matrix: Floats  # (3, 3)
    distortion: Floats  # (4,) k1 k2 p1 p2
    residual_px: float
    views: int

    def project(self, T_camera_board: Floats, places: Floats) -> Floats:
        """Pixels (N, 2) of places (N, 3) on the board."""
        turn, _ = cv2.Rodrigues(T_camera_board[:3, :3])
        pixels, _ = cv2.projectPoints(places, turn, T_camera_board[:3, 3], self.matrix, self.distortion)
        return pixels.reshape(-1, 2).astype(np.float64)


def board_of(config: BoardConfig) -> Any:
    """OpenCV's board."""
    if not hasattr(cv2.aruco, config.dictionary):
        raise HardwareError(f"there is no ArUco dictionary {config.dictionary!r}; DICT_4X4_50 is one")
    dictionary = cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, config.dictionary))
    size = (config.columns, config.rows)
    return cv2.aruco.CharucoBoard(size, config.square_m, config.marker_share * config.square_m, dictionary)


def draw_board(config: BoardConfig, pixels_per_square: int = 200) -> NDArray[np.uint8]:
    """The board as a picture to print."""
    size = (config.columns * pixels_per_square, config.rows * pixels_per_square)
    return np.asarray(board_of(config).generateImage(size), np.uint8)


def find_board(config: BoardConfig, image: NDArray[np.uint8]) -> View | None:
    """What is seen of the board in an RGB picture (H, W, 3), None where it is too little."""
    board = board_of(config)
    corners, ids, _, _ = cv2.aruco.CharucoDetector(board).detectBoard(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    if ids is None or len(ids) < MIN_CORNERS:
        return None
    places, pixels = board.matchImagePoints(corners, ids)
    return View(pixels.reshape(-1, 2).astype(np.float64), places.reshape(-1, 3).astype(np.float64))


def calibrate_intrinsics(views: Sequence[View], height: int, width: int) -> Intrinsics:
    """Raises HardwareError saying what the views lack: number, coverage, tilt, or agreement."""
    if len(views) < MIN_VIEWS:
        raise HardwareError(f"{len(views)} views of the board, at least {MIN_VIEWS} are wanted")
    coverage = covered(views, height, width).mean()
    if coverage < MIN_COVERAGE:
        raise HardwareError(
            f"the board was seen in {coverage:.0%} of the picture, at least {MIN_COVERAGE:.0%} are wanted; show it "
            "near the corners and edges too"
        )
    rms, matrix, distortion, turns, _ = cv2.calibrateCamera(
        [v.places.astype(np.float32) for v in views],
        [v.pixels.astype(np.float32) for v in views],
        (width, height),
        None,
        None,
        flags=cv2.CALIB_FIX_K3,
    )
    normals = np.array([cv2.Rodrigues(turn)[0][:, 2] for turn in turns])
    tilt = float(np.arccos(np.clip(normals @ normals.T, -1, 1)).max())
    if tilt < MIN_TILT:
        raise HardwareError(
            f"the board was tilted by {tilt:.2f} rad at most between two views, at least {MIN_TILT} are wanted; "
            "turn it towards all sides"
        )
    if rms > MAX_RESIDUAL_PX:
        raise HardwareError(
            f"the corners lie {rms:.2f} px from where they should, at most {MAX_RESIDUAL_PX:g}; is the board flat and "
            "the picture sharp? hold the board still, fix the focus"
        )
    return Intrinsics(
        height,
        width,
        np.asarray(matrix, np.float64),
        np.asarray(distortion, np.float64).reshape(-1)[:4],
        float(rms),
        len(views),
    )


def covered(views: Sequence[View], height: int, width: int) -> NDArray[np.bool_]:
    """In which of the 4 x 3 parts of the picture corners were seen (3, 4)."""
    seen = np.zeros((3, 4), bool)
    for view in views:
        columns = np.clip((view.pixels[:, 0] * 4 / width).astype(int), 0, 3)
        rows = np.clip((view.pixels[:, 1] * 3 / height).astype(int), 0, 2)
        seen[rows, columns] = True
    return seen


def locate_board(intrinsics: Intrinsics, view: View) -> tuple[Floats, float]:
    """T_camera_board (4, 4), and the root mean square [px] of what is left."""
    found, turn, place = cv2.solvePnP(
        view.places, view.pixels, intrinsics.matrix, intrinsics.distortion, flags=cv2.SOLVEPNP_IPPE
    )
    if not found:
        raise HardwareError("the board's corners fit no pose; is it the board that was configured?")
    turn, place = cv2.solvePnPRefineLM(view.places, view.pixels, intrinsics.matrix, intrinsics.distortion, turn, place)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = cv2.Rodrigues(turn)[0], place.reshape(3)
    off = intrinsics.project(pose, view.places) - view.pixels
    return pose, float(np.sqrt((off**2).sum(axis=1).mean()))


def draw_residuals(
    image: NDArray[np.uint8], views: Sequence[View], expected: Sequence[Floats], gain: float = 50.0
) -> NDArray[np.uint8]:
    """The last picture with the corners of all views, and `gain` times what each is off, (H, W, 3)."""
    picture = cv2.addWeighted(image, 0.6, np.full_like(image, 255), 0.4, 0)
    for view, pixels in zip(views, expected, strict=True):
        for seen, wanted in zip(view.pixels, pixels, strict=True):
            start, end = np.round(seen).astype(int), np.round(seen + gain * (wanted - seen)).astype(int)
            cv2.circle(picture, start.tolist(), 2, (0, 90, 200), -1, cv2.LINE_AA)
            cv2.line(picture, start.tolist(), end.tolist(), (220, 30, 30), 1, cv2.LINE_AA)
    cv2.putText(picture, f"residuals x {gain:g}", (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (220, 30, 30), 1, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)
