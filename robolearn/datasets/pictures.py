"""Pictures of an episode as JPEG, for whoever shows them. Legend: H W image."""

from __future__ import annotations

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from robolearn.datasets.codecs import DECODE_ERRORS, Jpeg, without_checksum
from robolearn.datasets.zarr_store import ZarrStore
from robolearn.errors import DatasetError, UnknownNameError

QUALITY = 88


def jpegs(store: ZarrStore, index: int, field: str, start: int, stop: int) -> list[bytes | None]:
    """The pictures of steps [start, stop); None where one is masked.

    Those that lie on disk as JPEG come as they are; of video each group is decoded once. Depth is grey, near is black.
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
    brightest = max(int(images.max(initial=0)), 1) if images.dtype != np.uint8 else 255
    return [_coded(image, brightest) if there else None for image, there in zip(images, valid, strict=True)]


def _coded(image: NDArray, brightest: int) -> bytes:
    if image.dtype != np.uint8:
        image = (image.astype(np.float32) * (255 / brightest)).astype(np.uint8)
    flat = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    return bytes(imagecodecs.jpeg8_encode(flat, level=QUALITY))
