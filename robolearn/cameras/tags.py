"""Where things are, by printed tags on them that a calibrated camera sees. `robolearn cell board --tag N` prints one.

A tag lies level on its thing, which stands upright; its frame has x to the right of the printed picture, y up, z out of
the paper. Poses (7,) are position [m], quaternion wxyz, in the frame of the camera's calibration: the arm's base.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from robolearn.cameras.calibration import CameraCalibration
from robolearn.cameras.camera import Camera
from robolearn.cameras.charuco import Intrinsics
from robolearn.errors import HardwareError, SpecError

DICTIONARY = cv2.aruco.DICT_4X4_50
TAGS = 50  # that it has
MAX_SIZE_ERROR = 0.3  # of an edge: more is no tag of that size, a tilted one, or a wrong calibration


@dataclass(frozen=True)
class TagConfig:
    """A tag on a thing."""

    tag: int  # its number in DICT_4X4_50
    camera: str = "front"  # that sees it; a standing one, calibrated with `robolearn cell calibrate`
    size_m: float = 0.03  # edge of its black square
    height_m: float | None = None  # of the tag in the base frame, for what never leaves the table: far more precise
    offset_m: tuple[float, ...] = (0.0, 0.0, 0.0)  # from the tag's middle to the thing's, in the tag's frame

    def __post_init__(self) -> None:
        if not 0 <= self.tag < TAGS:
            raise SpecError(f"there is no tag {self.tag}; give a number from 0 to {TAGS - 1}")
        if not 0 < self.size_m <= 1:
            raise SpecError(f"size_m is {self.size_m:g}, expected above 0 and at most 1 m")


def draw_tag(tag: int, pixels: int = 400) -> NDArray[np.uint8]:
    """A tag with a white rim of a quarter of its size, to print (1.5 `pixels` squared)."""
    dictionary = cv2.aruco.getPredefinedDictionary(DICTIONARY)
    rim = pixels // 4
    image = cv2.aruco.generateImageMarker(dictionary, tag, pixels)
    return np.asarray(cv2.copyMakeBorder(image, rim, rim, rim, rim, cv2.BORDER_CONSTANT, value=255), np.uint8)


def find_tags(image: NDArray[np.uint8]) -> dict[int, NDArray[np.float64]]:
    """Corners (4, 2) [pixels] of every tag in an RGB picture (H, W, 3), from its top left one clockwise."""
    parameters = cv2.aruco.DetectorParameters()
    parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX
    detector = cv2.aruco.ArucoDetector(cv2.aruco.getPredefinedDictionary(DICTIONARY), parameters)
    corners, numbers, _ = detector.detectMarkers(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    found = [] if numbers is None else [int(number) for number in numbers.ravel()]
    return {number: np.asarray(at, np.float64).reshape(4, 2) for number, at in zip(found, corners, strict=True)}


def upright_pose(
    corners: NDArray[np.float64], size_m: float, height_m: float | None, lens: Intrinsics, T_base_camera: NDArray
) -> NDArray[np.float64] | None:
    """Pose (7,) in the base frame of a tag that lies level, of its corners (4, 2) [pixels].

    At a known height it is where the corners' rays meet that plane. Else its distance is that of a square of its size;
    the tilt that goes with it, which a small tag tells badly, is dropped. None where no such tag looks so.
    """
    turn, eye = T_base_camera[:3, :3], T_base_camera[:3, 3]
    if height_m is None:
        half = size_m / 2
        square = np.array([[-half, half, 0], [half, half, 0], [half, -half, 0], [-half, -half, 0]])
        found, _, shift = cv2.solvePnP(square, corners, lens.matrix, lens.distortion, flags=cv2.SOLVEPNP_IPPE_SQUARE)
        if not found:
            return None
        height_m = float(eye[2] + turn[2] @ shift.ravel())
    rays = cv2.undistortPoints(corners[:, None], lens.matrix, lens.distortion).reshape(4, 2)
    ways = np.column_stack([rays, np.ones(4)]) @ turn.T
    with np.errstate(divide="ignore"):
        reach = (height_m - eye[2]) / ways[:, 2]
    if not (np.isfinite(reach).all() and (reach > 0).all()):
        return None
    at = eye + reach[:, None] * ways
    edges = np.linalg.norm(at - np.roll(at, 1, axis=0), axis=1)
    if np.abs(edges - size_m).max() > MAX_SIZE_ERROR * size_m:
        return None
    along = (at[1] + at[2] - at[0] - at[3])[:2]
    yaw = np.arctan2(along[1], along[0])
    return np.array([*at.mean(0), np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


class TagReader:
    """Finds tagged things in pictures of standing cameras. Raises HardwareError for one whose place is not known."""

    def __init__(self, things: Mapping[str, TagConfig], calibrations: Mapping[str, CameraCalibration]) -> None:
        self.things, self._calibrations = dict(things), calibrations
        for thing in self.things.values():
            place = calibrations[thing.camera].extrinsics
            if place is None or place.kind != "eye_to_hand":
                raise HardwareError(
                    f"where camera {thing.camera} stands is not known; calibrate its place with the board on the tool"
                )

    @property
    def cameras(self) -> list[str]:
        """That see a thing."""
        return sorted({thing.camera for thing in self.things.values()})

    def find(self, camera: str, image: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Pose (7,) in the arm's base frame of each thing in a picture (H, W, 3) of the camera. Raises HardwareError
        for a picture of another size than the calibration's."""
        known = self._calibrations[camera]
        lens, place = known.intrinsics, known.extrinsics
        if image.shape[:2] != (lens.height, lens.width):
            raise HardwareError(
                f"camera {camera} was calibrated with pictures of {lens.width} x {lens.height} and gives "
                f"{image.shape[1]} x {image.shape[0]}; calibrate it again"
            )
        assert place is not None
        tags, found = find_tags(image), {}
        for body, thing in self.things.items():
            if thing.camera == camera and thing.tag in tags:
                pose = upright_pose(tags[thing.tag], thing.size_m, thing.height_m, lens, place.T_parent_camera)
                if pose is not None:
                    turn = 2 * np.arctan2(pose[6], pose[3])
                    x, y, z = thing.offset_m
                    pose[:3] += x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn), z
                    found[body] = pose.astype(np.float32)
        return found


class TagTracker:
    """Follows things by their tags. Reads the cameras, which somebody else opens and closes.

    Raises HardwareError for a camera that the cell does not have.
    """

    def __init__(self, reader: TagReader, cameras: Mapping[str, Camera]) -> None:
        self._reader, self._cameras = reader, cameras
        self._seen: dict[str, tuple[int, NDArray[np.float32]]] = {}
        self._looked_ns: dict[str, int] = {}
        for body, thing in reader.things.items():
            if thing.camera not in cameras:
                raise HardwareError(f"{body} is seen by camera {thing.camera!r}; the cell has {', '.join(cameras)}")

    def look(self) -> Mapping[str, tuple[int, NDArray[np.float32]]]:
        """By body: the stamp of the newest picture that shows it, and its pose (7,) in the arm's base frame."""
        for name in self._reader.cameras:
            frame = self._cameras[name].read()
            if frame.stamp_ns != self._looked_ns.get(name):
                self._looked_ns[name] = frame.stamp_ns
                found = self._reader.find(name, frame.image)
                self._seen |= {body: (frame.stamp_ns, pose) for body, pose in found.items()}
        return self._seen


def quaternion_of(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4,) wxyz of a rotation (3, 3), the dominant eigenvector of a symmetric matrix of it (Bar-Itzhack 2000)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    k = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    vector = np.linalg.eigh(k)[1][:, -1]
    return vector * (1.0 if vector[0] >= 0 else -1.0)
