from __future__ import annotations

import numpy as np
import pytest
import torch

from robolearn.errors import SpecError
from robolearn.networks.augmentation import random_shift
from robolearn.networks.encoders import ImageEncoder, SpatialSoftmax
from robolearn.networks.mlp import mlp
from robolearn.networks.normalizer import FieldStatistics, Normalizer, ObservationNormalizer
from robolearn.specs import block_px


@pytest.mark.parametrize(("row", "column"), [(0, 0), (3, 7), (9, 12)])
def test_spatial_softmax_finds_the_peak(row: int, column: int) -> None:
    maps = torch.zeros(1, 2, 10, 13)
    maps[0, 1, row, column] = 50.0
    points = SpatialSoftmax(10, 13)(maps)[0]
    assert points[[0, 2]].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)  # a flat map has its mean in the middle
    assert points[1].item() == pytest.approx(2 * column / 12 - 1, abs=1e-5)
    assert points[3].item() == pytest.approx(2 * row / 9 - 1, abs=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (65, 33)])
def test_encoder_takes_any_size(size: tuple[int, int]) -> None:
    encoder = ImageEncoder(*size, channels=(4, 8))
    features = encoder(torch.randint(0, 256, (3, *size, 3), dtype=torch.uint8))
    assert features.shape == (3, encoder.output_size) == (3, 16)


def test_a_picture_is_seen_alike_whole_and_shrunk() -> None:
    whole = torch.randint(0, 256, (2, 47, 62, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    encoder = ImageEncoder(47, 62, block=3)
    blocks = whole[:, :45, :60].reshape(2, 15, 3, 20, 3, 3).float().mean((2, 4)).round().to(torch.uint8)
    alone = ImageEncoder(15, 20)
    alone.load_state_dict(encoder.state_dict())
    seen = encoder(whole)
    torch.testing.assert_close(encoder(blocks), seen, rtol=0, atol=2e-3)  # to the rounding of the pixels
    torch.testing.assert_close(alone(blocks), encoder(blocks), rtol=0, atol=0)
    with pytest.raises(SpecError, match=r"policy.shrink is 48, for a picture of 47 x 62; expected 0 to 47"):
        block_px((47, 62, 3), 48)
    assert [block_px(size, 0) for size in ((64, 64), (191, 300), (192, 500), (480, 640))] == [1, 1, 2, 5]


def test_random_shift_moves_whole_images_and_repeats_the_border() -> None:
    image = torch.arange(8 * 8 * 3, dtype=torch.uint8).reshape(1, 8, 8, 3)
    padded = np.pad(image[0].numpy(), ((2, 2), (2, 2), (0, 0)), mode="edge")
    crops = {padded[y : y + 8, x : x + 8].tobytes() for y in range(5) for x in range(5)}
    shifted = random_shift(image.expand(200, -1, -1, -1), 2, torch.Generator().manual_seed(0))
    assert {s.numpy().tobytes() for s in shifted} == crops  # every shift occurs, and nothing else


def test_random_shift_of_zero_is_the_same_tensor() -> None:
    images = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)
    assert random_shift(images, 0) is images


def test_normalizer_inverts_and_does_not_blow_up_a_still_joint() -> None:
    statistics = FieldStatistics((1.0, 2.0), (0.5, 0.0), (0.0, 2.0), (2.0, 2.0))
    normalizer = Normalizer(statistics)
    value = torch.tensor([[1.5, 2.001]])
    assert normalizer(value).abs().max() < 1.01
    torch.testing.assert_close(normalizer.inverse(normalizer(value)), value)
    assert not normalizer.state_dict()  # the numbers are in the checkpoint's config, once
    assert FieldStatistics.from_json(statistics.to_json()) == statistics


def test_a_field_that_never_moved_keeps_its_unit() -> None:
    statistics = FieldStatistics((0.2, 0.3), (0.0, 0.0), (0.2, 0.3), (0.2, 0.3))  # a mark that lay in one place
    torch.testing.assert_close(Normalizer(statistics)(torch.tensor([0.2, 0.35])), torch.tensor([0.0, 0.05]))


def test_what_was_held_still_in_the_data_is_shown_on_a_scale_that_does_not_explode() -> None:
    statistics = FieldStatistics((0.0, 0.0), (1.0, 0.01), (-2.0, 0.0), (2.0, 0.0))
    exact, shown = Normalizer(statistics), ObservationNormalizer(statistics)
    inside = torch.tensor([[-4.9, 0.049], [3.0, -0.02]])
    torch.testing.assert_close(shown(inside), exact(inside))
    far = shown(torch.tensor([[0.0, value] for value in (0.05, 0.0501, 0.1, 1.0, 10.0)]))[:, 1]
    assert (far.diff() > 0).all()  # it is still told which is the farther
    assert far[-2:].tolist() == pytest.approx([5 + np.log(96), 5 + np.log(996)])
    torch.testing.assert_close(shown(torch.tensor([[0.0, -1.0]]))[0, 1], -far[-2])
    slope = torch.autograd.functional.jacobian(shown, torch.tensor([[0.0, 0.0500001]]))[0, 1, 0, 1]
    assert slope == pytest.approx(100.0, rel=1e-3)  # no jump, and no corner


def test_mlp_has_the_sizes_asked_for() -> None:
    network = mlp((3, 8, 2))
    assert network(torch.zeros(5, 3)).shape == (5, 2)
    assert isinstance(network[-1], torch.nn.Linear)
