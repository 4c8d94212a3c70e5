"""What is known of a camera, as a file: `hardware/calibration/<cell>_<camera>.json`, and a picture beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from robolearn import durable
from robolearn.cameras.charuco import Intrinsics
from robolearn.cameras.hand_eye import Extrinsics
from robolearn.errors import HardwareError

FORMAT = "robolearn-camera-calibration-1"


@dataclass(frozen=True)
class CameraCalibration:
    """Intrinsics always, extrinsics once they are known."""

    camera: str
    intrinsics: Intrinsics
    extrinsics: Extrinsics | None = None

    def save(self, path: Path, picture: NDArray[np.uint8] | None = None) -> None:
        """Write as JSON, whole or not at all, and the picture (H, W, 3) as PNG beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"format": FORMAT, **asdict(self)}
        durable.write(path, (json.dumps(data, indent=2, default=np.ndarray.tolist) + "\n").encode())
        if picture is not None:
            cv2.imwrite(str(path.with_suffix(".png")), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    @classmethod
    def load(cls, path: Path) -> CameraCalibration:
        """Read a file of `save`. Raises HardwareError saying what is wrong with it."""
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                raise HardwareError(f"{path} is no {FORMAT}; calibrate the camera again")
            inner, outer = data["intrinsics"], data["extrinsics"]
            matrix, distortion = _array(inner.pop("matrix"), (3, 3)), _array(inner.pop("distortion"), (4,))
            intrinsics = Intrinsics(matrix=matrix, distortion=distortion, **inner)
            extrinsics = None
            if outer is not None:
                extrinsics = Extrinsics(T_parent_camera=_array(outer.pop("T_parent_camera"), (4, 4)), **outer)
            return cls(data["camera"], intrinsics, extrinsics)
        except FileNotFoundError as error:
            raise HardwareError(f"no camera calibration at {path}; calibrate its intrinsics first") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise HardwareError(
                f"camera calibration {path} is damaged ({error}); calibrate the camera again"
            ) from error


def _array(values: object, shape: tuple[int, ...]) -> NDArray[np.float64]:
    array = np.array(values, np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"an array of shape {array.shape}, expected finite {shape}")
    return array
