from __future__ import annotations

import numpy as np
import pytest

from robolearn.cameras.fake import FakeCamera
from robolearn.cameras.replay import ReplayCamera
from robolearn.errors import HardwareError, SpecError


def test_a_fake_camera_counts_its_frames_and_goes_silent_on_request() -> None:
    camera = FakeCamera(silent_after=2)
    camera.connect()
    first, second = camera.read(), camera.read()
    assert (first.image[..., 2] == 0).all()
    assert (second.image[..., 2] == 1).all()
    with pytest.raises(HardwareError, match="cable"):
        camera.read()


def test_replay_gives_the_recording_and_ends() -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 4, 5, 3), dtype=np.uint8)
    camera = ReplayCamera("front", images, np.array([5, 10, 15]) * 10_000_000)
    assert (camera.spec.height, camera.spec.width, camera.spec.rate_hz) == (4, 5, 20.0)
    for _ in range(2):
        camera.connect()
        frames = [camera.read() for _ in range(3)]
        np.testing.assert_array_equal([frame.image for frame in frames], images)
        assert [frame.stamp_ns for frame in frames] == [50_000_000, 100_000_000, 150_000_000]
        with pytest.raises(HardwareError, match="over after 3 frames"):
            camera.read()


@pytest.mark.parametrize(
    ("images", "stamps"),
    [
        (np.zeros((3, 4, 5), np.uint8), [1, 2, 3]),
        (np.zeros((3, 4, 5, 3), np.float32), [1, 2, 3]),
        (np.zeros((3, 4, 5, 3), np.uint8), [1, 2]),
        (np.zeros((3, 4, 5, 3), np.uint8), [1, 3, 3]),
    ],
)
def test_replay_refuses_what_does_not_belong_together(images: np.ndarray, stamps: list[int]) -> None:
    with pytest.raises(SpecError, match="expected"):
        ReplayCamera("front", images, np.array(stamps))
