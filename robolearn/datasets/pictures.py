"""Pictures of an episode as JPEG, for whoever shows them. Legend: H W image."""

from __future__ import annotations

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.codecs import DECODE_ERRORS, Jpeg, without_checksum
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, UnknownNameError

QUALITY = 88
NEAR_MM = 250.0  # and what is nearer is white
DARKEST = 30  # of what was measured, however far away
GREYS = (DARKEST + (255 - DARKEST) * np.minimum(NEAR_MM / np.maximum(np.arange(1 << 16), 1), 1)).astype(np.uint8)
GREYS[0] = 0  # not measured


def jpegs(store: ZarrStore, index: int, field: str, start: int, stop: int) -> list[bytes | None]:
    """The pictures of steps [start, stop); None where one is masked.

    Those that lie on disk as JPEG come as they are; of video each group is decoded once. Depth is `grey_depth`.
    """
    if field not in store.spec.image_fields:
        raise UnknownNameError("camera", field, store.spec.image_fields)
    episode = store.episodes[index]
    if not 0 <= start <= stop <= episode.length:
        raise DatasetError(f"episode {episode.id!r} has {episode.length} steps; [{start}, {stop}) is not within it")
    row, reader = episode.start + start, store.reader(field)
    column = store.spec.stamped_fields.index(field)
    valid = store.reader("valid").read(row, episode.start + stop)[:, column]
    if isinstance(reader.layout.codec, Jpeg):
        stored = [reader.read_coded(row + step) if there else None for step, there in enumerate(valid)]
        try:
            return [None if data is None else without_checksum(data) for data in stored]
        except DECODE_ERRORS as error:
            raise DatasetError(f"{store.name}: {field} of episode {episode.id!r} is damaged ({error})") from error
    images = store.read(index, [field], start, stop)[field]
    return [_coded(image) if there else None for image, there in zip(images, valid, strict=True)]


def grey_depth(depth: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Depth [mm] to be looked at, of the same shape: the nearer the brighter, and black where nothing was measured.

    A grey stands for one and the same depth in all pictures, finer where it is near, as the camera measures.
    """
    return GREYS[depth]


def _coded(image: NDArray) -> bytes:
    if image.dtype != np.uint8:
        image = grey_depth(image)
    flat = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    return bytes(imagecodecs.jpeg8_encode(flat, level=QUALITY))
