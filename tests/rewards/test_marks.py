"""Marks on a picture: what has a strong colour is found where it is, and every place has its cell."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robolearn.rewards.marks import CELLS, GRID, MARGIN_PX, MOST_THINGS, SHOWN_PX, cell_of, coloured_things, marked

GREY, BLUE = (120, 110, 105), (20, 60, 200)
REDS = ((200, 20, 45), (200, 45, 20))  # at both ends of the circle of hues


def test_things_of_strong_colour_are_found_largest_first() -> None:
    image = np.full((40, 80, 3), GREY, np.uint8)
    image[10:20, 60:70] = BLUE
    image[30:34, 8:12], image[30:34, 12:16] = REDS  # one thing
    image[0, 0] = BLUE  # too small to be one
    large, small = coloured_things(image)
    assert (large.centre, large.colour) == ((65 / 80, 15 / 40), BLUE)
    assert small.centre == (12 / 80, 32 / 40)
    assert coloured_things(np.full((40, 80, 3), GREY, np.uint8)) == ()
    image[:, ::8] = GREY
    image[::8] = GREY
    for row in range(1, 40, 8):
        for column in range(1, 80, 8):
            image[row : row + 4, column : column + 4] = BLUE
    assert len(coloured_things(image)) == MOST_THINGS


@given(st.floats(0, 1), st.floats(0, 1))
def test_every_place_is_in_the_cell_of_its_name(x: float, y: float) -> None:
    centre = CELLS[cell_of((x, y))]
    assert max(abs(centre[0] - x), abs(centre[1] - y)) <= 0.5 / GRID + 1e-9
    assert cell_of(centre) == cell_of((x, y))


@pytest.mark.parametrize("size", [(24, 24), (48, 64), (700, 900)])
def test_a_marked_picture_shows_the_grid_and_a_number_at_each_thing(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), GREY, np.uint8)
    image[-size[0] // 4 :, -size[1] // 4 :] = BLUE
    shown = marked(image, coloured_things(image))
    height, width = (side - MARGIN_PX for side in shown.shape[:2])
    assert max(height, width) >= SHOWN_PX
    assert (height % size[0], width % size[1]) == (0, 0)
    inside = shown[MARGIN_PX:, MARGIN_PX:].astype(int)
    assert (inside[5, width // GRID] > np.add(GREY, 40)).all()  # a line, drawn at half of white
    np.testing.assert_allclose(inside[5, 5], GREY, atol=3)
    y, x = int(0.875 * height), int(0.875 * width)
    disc = inside[y - 8 : y + 9, x - 8 : x + 9]
    assert (disc == 255).all(-1).mean() > 0.5
    assert (disc == 0).all(-1).any()  # the number
    assert (image[0, 0] == GREY).all()  # what came is left as it was
