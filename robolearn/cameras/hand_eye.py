"""Where a camera is, from views of one board at many poses of the arm. Legend: V views.

    eye in hand   the camera rides on the tool, the board lies still: T_base_tool T_tool_camera T_camera_board is fixed
    eye to hand   the board rides on the tool, the camera stands:     T_tool_base T_base_camera T_camera_board is fixed

Both are A_i X B_i = Z with another A. Pairs of views give A_ij X = X B_ij; its rotation is found in closed form (Park
and Martin 1994, eq. 14), its translation by least squares, and X and Z together are refined until the corners lie best
in the pictures. (OpenCV 5.0 has the names of its hand-eye methods in Python, but not the function.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from robolearn.cameras.charuco import Intrinsics, View, locate_board
from robolearn.errors import HardwareError

Floats = NDArray[np.float64]
Kind = Literal["eye_in_hand", "eye_to_hand"]

MIN_POSES = 6
MIN_TURN = 0.3  # [rad] by which the tool must have turned about a second axis
MAX_RESIDUAL_PX = 3.0
ITERATIONS = 20


@dataclass(frozen=True)
class Extrinsics:
    """The camera in its parent (`tool` for an eye in hand, `base` for an eye to hand), and how well it is known.

    residual_px: of all corners. residual_m, residual_rad: how far single views lie from the result, root mean square.
    """

    kind: Kind
    T_parent_camera: Floats  # (4, 4)
    residual_px: float
    residual_m: float
    residual_rad: float
    views: int


def calibrate_extrinsics(
    kind: Kind, intrinsics: Intrinsics, T_base_tool: Sequence[Floats], views: Sequence[View]
) -> tuple[Extrinsics, list[Floats]]:
    """The camera's place, and the pixels (N, 2) where it lets the corners of each view be expected.

    Raises HardwareError saying what the poses lack: number, turns, or agreement.
    """
    if len(views) < MIN_POSES:
        raise HardwareError(f"{len(views)} poses of the arm, at least {MIN_POSES} are wanted")
    a = [np.asarray(pose, np.float64) if kind == "eye_in_hand" else inverse(pose) for pose in T_base_tool]
    b = [locate_board(intrinsics, view)[0] for view in views]
    x = _closed_form(a, b)
    z = _mean([ai @ x @ bi for ai, bi in zip(a, b, strict=True)])
    x, z = _refine(intrinsics, a, views, x, z)
    expected = [intrinsics.project(inverse(x) @ inverse(ai) @ z, v.places) for ai, v in zip(a, views, strict=True)]
    off = np.concatenate([e - v.pixels for e, v in zip(expected, views, strict=True)])
    residual_px = float(np.sqrt((off**2).sum(axis=1).mean()))
    if residual_px > MAX_RESIDUAL_PX:
        raise HardwareError(
            f"the corners lie {residual_px:.1f} px from where they should, at most {MAX_RESIDUAL_PX:g}; did board and "
            f"camera stay where they are fixed, and did the arm stand still? is the kind really {kind}?"
        )
    errors = [inverse(z) @ ai @ x @ bi for ai, bi in zip(a, b, strict=True)]
    metres = float(np.sqrt(np.mean([e[:3, 3] @ e[:3, 3] for e in errors])))
    radians = float(np.sqrt(np.mean([np.sum(_log(e[:3, :3]) ** 2) for e in errors])))
    return Extrinsics(kind, x, residual_px, metres, radians, len(views)), expected


def inverse(pose: Floats) -> Floats:
    """Of a pose (4, 4)."""
    out = np.eye(4)
    out[:3, :3] = pose[:3, :3].T
    out[:3, 3] = -pose[:3, :3].T @ pose[:3, 3]
    return out


def _closed_form(a: Sequence[Floats], b: Sequence[Floats]) -> Floats:
    pairs = [(inverse(a[j]) @ a[i], b[j] @ inverse(b[i])) for i, j in combinations(range(len(a)), 2)]
    turns = np.array([_log(p[:3, :3]) for p, _ in pairs])
    spread = np.linalg.svd(turns, compute_uv=False)[1] / np.sqrt(len(turns))
    if spread < MIN_TURN / 2:
        raise HardwareError(
            f"the tool turned about one axis only (about another by some {spread:.2f} rad), which leaves the camera's "
            f"place open; turn it about a second axis by at least {MIN_TURN:g} rad"
        )
    m = np.sum([np.outer(_log(q[:3, :3]), turn) for turn, (_, q) in zip(turns, pairs, strict=True)], axis=0)
    u, _, vt = np.linalg.svd(m)
    rotation = vt.T @ np.diag([1.0, 1.0, np.linalg.det(vt.T @ u.T)]) @ u.T  # (M^T M)^-1/2 M^T, kept proper
    left = np.concatenate([p[:3, :3] - np.eye(3) for p, _ in pairs])
    right = np.concatenate([rotation @ q[:3, 3] - p[:3, 3] for p, q in pairs])
    x = np.eye(4)
    x[:3, :3], x[:3, 3] = rotation, np.linalg.lstsq(left, right, rcond=None)[0]
    return x


def _refine(
    intrinsics: Intrinsics, a: Sequence[Floats], views: Sequence[View], x: Floats, z: Floats
) -> tuple[Floats, Floats]:
    """Gauss and Newton over both poses (12 numbers), on the distances in the pictures [px]."""

    def off(step: Floats) -> Floats:
        T, Z = x @ _exp(step[:6]), z @ _exp(step[6:])
        return np.concatenate(
            [
                (intrinsics.project(inverse(T) @ inverse(ai) @ Z, v.places) - v.pixels).ravel()
                for ai, v in zip(a, views, strict=True)
            ]
        )

    delta = 1e-6
    for _ in range(ITERATIONS):
        now = off(np.zeros(12))
        jacobian = np.stack([(off(delta * row) - now) / delta for row in np.eye(12)], axis=1)
        step: Floats = -np.linalg.lstsq(jacobian, now, rcond=None)[0].astype(np.float64)
        if np.sum(off(step) ** 2) >= np.sum(now**2):
            break
        x, z = x @ _exp(step[:6]), z @ _exp(step[6:])
    return x, z


def _mean(poses: Sequence[Floats]) -> Floats:
    u, _, vt = np.linalg.svd(np.sum([p[:3, :3] for p in poses], axis=0))
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = u @ vt, np.mean([p[:3, 3] for p in poses], axis=0)
    return out


def _log(rotation: Floats) -> Floats:
    return cv2.Rodrigues(rotation)[0].reshape(3).astype(np.float64)


def _exp(step: Floats) -> Floats:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = cv2.Rodrigues(step[3:])[0], step[:3]
    return out
