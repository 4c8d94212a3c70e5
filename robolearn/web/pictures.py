"""Camera streams: a picture is encoded while somebody looks, once for all onlookers, and only the newest one."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

from robolearn.web.live_source import LiveSource

QUALITY = 80
HEADER = struct.Struct("<d")  # before the JPEG: its stamp [s]


class Stream:
    """One camera. `number` counts its pictures; `data` is the newest one as it is sent."""

    def __init__(self) -> None:
        self.onlookers = self.number = 0
        self.data = b""
        self.came = asyncio.Event()
        self.encoded = asyncio.Condition()


class Pictures:
    """The streams of all cameras."""

    def __init__(self, source: LiveSource) -> None:
        self._source = source
        self._streams: dict[str, Stream] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pool = ThreadPoolExecutor(1, "jpeg")

    @asynccontextmanager
    async def look(self, camera: str) -> AsyncIterator[Stream]:
        """The stream of a camera, which runs while the block does."""
        stream = self._streams.setdefault(camera, Stream())
        stream.onlookers += 1
        if stream.onlookers == 1:
            self._tasks[camera] = asyncio.create_task(self._encode(camera, stream))
            self._tell()
        try:
            yield stream
        finally:
            stream.onlookers -= 1
            if not stream.onlookers:
                self._tasks.pop(camera).cancel()
                self._streams.pop(camera)
                self._tell()

    def _tell(self) -> None:
        loop = asyncio.get_running_loop()

        def came(camera: str) -> None:  # in a thread of the source
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._came, camera)

        self._source.look(list(self._streams), came)

    def _came(self, camera: str) -> None:
        if stream := self._streams.get(camera):
            stream.came.set()

    async def _encode(self, camera: str, stream: Stream) -> None:
        loop = asyncio.get_running_loop()
        while True:
            picture = self._source.picture(camera)
            if picture is not None:
                stamp_ns, pixels = picture
                jpeg = pixels if isinstance(pixels, bytes) else await loop.run_in_executor(self._pool, _jpeg, pixels)
                async with stream.encoded:
                    stream.data, stream.number = HEADER.pack(stamp_ns * 1e-9) + jpeg, stream.number + 1
                    stream.encoded.notify_all()
            await stream.came.wait()
            stream.came.clear()


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
