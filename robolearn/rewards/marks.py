"""Marks on a picture, by which a vision-language model can point: numbered things and the cells of a grid.

Mark-based visual prompting as in MOKA (Liu et al. 2024), which KAGI (Lee et al. 2024) asks for keypoints and waypoints
with: candidates are numbered, free space is a grid. Differences: the candidates are regions of strong colour, which is
what `keypoints.py` can follow, in the place of points sampled on segmented objects; the grid lies over the whole
picture, so what was not marked can be a destination, too. Places are x, y as fractions of the picture from its upper
left corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

GRID = 8  # columns and rows
MOST_THINGS = 9
LEAST_SHARE = 0.002  # of the picture; a smaller region is no thing
LEAST_SATURATION, LEAST_BRIGHTNESS = 110, 60  # of 255, for a colour to be a strong one
HUES = 12  # bands of the circle of 180; neighbours of one band are one thing
SHOWN_PX = 640  # a smaller picture is enlarged to about this, so that its marks can be read
MARGIN_PX = 28  # with the names of columns and rows

Place = tuple[float, float]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Thing:
    """A region of one strong colour: its centre, and its median colour (RGB)."""

    centre: Place
    colour: tuple[int, int, int]


def coloured_things(image: Image) -> tuple[Thing, ...]:
    """The largest regions of strong colour in an image (H, W, 3) RGB, largest first."""
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    strong = (saturation >= LEAST_SATURATION) & (value >= LEAST_BRIGHTNESS)
    width = 180 // HUES
    band = (hue.astype(int) + width // 2) % 180 // width  # red, at both ends of the circle, is one band
    found: list[tuple[int, Thing]] = []
    for number in np.unique(band[strong]):
        count, labels, stats, centres = cv2.connectedComponentsWithStats((strong & (band == number)).astype(np.uint8))
        for region in range(1, count):
            area = int(stats[region, cv2.CC_STAT_AREA])
            if area >= LEAST_SHARE * labels.size:
                x, y = (centres[region] + 0.5) / (labels.shape[1], labels.shape[0])
                red, green, blue = np.median(image[labels == region], axis=0).astype(int).tolist()
                found.append((area, Thing((float(x), float(y)), (red, green, blue))))
    found.sort(key=lambda one: -one[0])
    return tuple(thing for _, thing in found[:MOST_THINGS])


def cell_of(place: Place) -> str:
    """The name of the cell, as `B3`: second column, third row."""
    column, row = (min(int(share * GRID), GRID - 1) for share in place)
    return f"{chr(ord('A') + column)}{row + 1}"


CELLS = {
    cell_of(place): place
    for place in (((column + 0.5) / GRID, (row + 0.5) / GRID) for row in range(GRID) for column in range(GRID))
}
"""The centre of each cell by its name."""


def marked(image: Image, things: Sequence[Thing]) -> Image:
    """The image, enlarged, with the grid, its names in a margin, and a number at each thing."""
    scale = max(-(-SHOWN_PX // max(image.shape[:2])), 1)
    large: Image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    height, width = large.shape[:2]
    lines = large.copy()
    for number in range(1, GRID):
        x, y = number * width // GRID, number * height // GRID
        cv2.line(lines, (x, 0), (x, height), (255, 255, 255), 1)
        cv2.line(lines, (0, y), (width, y), (255, 255, 255), 1)
    large = cv2.addWeighted(large, 0.5, lines, 0.5, 0).astype(np.uint8)
    for number, thing in enumerate(things, 1):
        at = int(thing.centre[0] * width), int(thing.centre[1] * height)
        cv2.circle(large, at, 11, (255, 255, 255), -1)
        _write(large, str(number), at)
    shown = np.full((MARGIN_PX + height, MARGIN_PX + width, 3), 255, np.uint8)
    shown[MARGIN_PX:, MARGIN_PX:] = large
    for number in range(GRID):
        share = (number + 0.5) / GRID
        _write(shown, chr(ord("A") + number), (MARGIN_PX + int(share * width), MARGIN_PX // 2))
        _write(shown, str(number + 1), (MARGIN_PX // 2, MARGIN_PX + int(share * height)))
    return shown


def _write(image: Image, word: str, centre: tuple[int, int]) -> None:
    (width, height), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 2)
    at = (centre[0] - width // 2, centre[1] + height // 2)
    cv2.putText(image, word, at, cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 2, cv2.LINE_AA)
