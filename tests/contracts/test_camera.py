"""What every camera of the table does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from robolearn.cameras import CAMERAS
from robolearn.cameras.camera import Camera
from robolearn.errors import HardwareError

ARGUMENTS = {
    "replay": {
        "name": "recorded",
        "images": np.arange(10 * 8 * 12 * 3, dtype=np.uint32).astype(np.uint8).reshape(10, 8, 12, 3),
        "stamps_ns": np.arange(10, dtype=np.int64) * 50_000_000,
    }
}


@pytest.fixture(params=sorted(CAMERAS))
def make(request: pytest.FixtureRequest) -> Callable[[], Camera]:
    return lambda: CAMERAS[request.param](**ARGUMENTS.get(request.param, {}))


def test_gives_pictures_of_its_spec(make: Callable[[], Camera]) -> None:
    camera = make()
    assert isinstance(camera, Camera)
    camera.connect()
    frames = [camera.read() for _ in range(3)]
    for frame in frames:
        assert frame.image.shape == (camera.spec.height, camera.spec.width, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.any()
    stamps = [frame.stamp_ns for frame in frames]
    assert stamps == sorted(stamps)
    camera.close()


def test_a_picture_belongs_to_its_reader(make: Callable[[], Camera]) -> None:
    camera = make()
    camera.connect()
    image = camera.read().image
    kept = image.copy()
    camera.read().image[:] = 0
    np.testing.assert_array_equal(image, kept)


def test_is_silent_unless_connected(make: Callable[[], Camera]) -> None:
    camera = make()
    with pytest.raises(HardwareError, match="connect"):
        camera.read()
    camera.connect()
    camera.close()
    camera.close()
    with pytest.raises(HardwareError, match="connect"):
        camera.read()
    camera.connect()
    camera.read()
