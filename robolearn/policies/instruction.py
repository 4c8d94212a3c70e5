"""The instruction of a task as a vector, which policies that follow words look at like at any other field.

The `unit` of the field's spec names who makes the vector, so that whoever runs a policy can make it of new words:
`words`, a hashed bag of words and pairs of words that needs no network, or a text tower of open_clip, `MODEL/TAG` or a
folder. Its length is the square root of its size, so that an entry is about as large as a normalised number.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robolearn.specs import ArraySpec

WORDS, WORDS_SIZE = "words", 64


def instruction_spec(encoder: str) -> ArraySpec:
    """The field that this encoder makes. Raises CheckpointError for a network that cannot be had."""
    return ArraySpec((WORDS_SIZE if encoder == WORDS else _tower(encoder).size,), unit=encoder)


@lru_cache(maxsize=256)
def embed(text: str, spec: ArraySpec) -> NDArray[np.float32]:
    """The vector (E,) of a sentence, read-only; of none, zeros."""
    vector = np.zeros(spec.shape, np.float32)
    words = re.findall(r"\w+", text.lower())
    if spec.unit != WORDS:
        vector = _tower(spec.unit).text([text])[0].cpu().numpy() if words else vector
    else:
        for term in (*words, *map(" ".join, pairwise(words))):
            code = zlib.crc32(term.encode())
            vector[code // 2 % len(vector)] += 1.0 if code % 2 else -1.0
    length = float(np.linalg.norm(vector))
    vector = (vector * (np.sqrt(len(vector)) / length) if length else vector).astype(np.float32)
    vector.setflags(write=False)
    return vector


@lru_cache(maxsize=2)
def _tower(name: str) -> Any:
    from robolearn.networks.open_clip import open_clip_network

    return open_clip_network(name)
