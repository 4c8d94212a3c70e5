"""Stand-ins for cameras: one of the network that serves JPEG frames over HTTP on the loopback, and videos.

The network camera can be unplugged and can freeze. Videos:

    python -m robolearn.cameras.standin /tmp/robolearn-front.mp4 /tmp/robolearn-wrist.mp4
"""

from __future__ import annotations

import argparse
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np


class MjpegServer:
    """Serves `rate_hz` frames (height, width); their grey level counts up. Use as a context manager."""

    def __init__(self, height: int = 48, width: int = 64, rate_hz: float = 50.0) -> None:
        self.size = (height, width)
        self.rate_hz = rate_hz
        self.frozen = False  # connected, but gives nothing
        self.port = 0
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/stream.mjpg"

    def __enter__(self) -> MjpegServer:
        self.plug_in()
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()

    def plug_in(self) -> None:
        """Listen, on the same port as before."""
        self._stop.clear()
        self._socket = socket.create_server(("127.0.0.1", self.port))
        self._socket.settimeout(0.1)
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def unplug(self) -> None:
        """Drop whoever watches, and stop listening."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._socket.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=self._send, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _send(self, client: socket.socket) -> None:
        import cv2

        client.settimeout(1.0)
        head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
        with client:
            try:
                client.recv(4096)
                client.sendall(head)
                count = 0
                while not self._stop.wait(1 / self.rate_hz):
                    if self.frozen:
                        continue
                    count += 1
                    image = np.full((*self.size, 3), (40, 90, 40 + count % 200), np.uint8)  # BGR
                    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
                    client.sendall(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
                    client.sendall(jpeg + b"\r\n")
            except (OSError, TimeoutError):
                return


class StandInRealSense:
    """Stands in for the module `pyrealsense2`, as far as the driver calls it, with one camera. `options`: what was set.

    `plugged` False: frames no longer come, and it can be neither opened nor stopped. `blind` True: the next frame has
    no colours. Depth rises to the right, from 0 (not measured), with every frame more steeply; it is measured with half
    as many pixels a row and column, until `align` moves it to the colours'. `has_depth` False: a model without it.
    """

    stream = SimpleNamespace(color="color", depth="depth")
    format = SimpleNamespace(rgb8="rgb8", z16="z16")
    option = SimpleNamespace(enable_auto_exposure="enable_auto_exposure", exposure="exposure", gain="gain")
    timestamp_domain = SimpleNamespace(global_time="global_time", hardware_clock="hardware_clock")

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self.plugged = True
        self.blind = False
        self.domain = "global_time"
        self.age_s = 0.02  # of a frame when it is handed out
        self.options: dict[str, float] = {}
        self.has_depth = True
        self.depth_scale = 0.001  # [m], what a number of depth counts

    def config(self) -> SimpleNamespace:
        asked = SimpleNamespace(streams={})
        asked.enable_device = lambda serial: setattr(asked, "serial", serial)
        asked.enable_stream = lambda *stream: asked.streams.update({stream[0]: stream[1:]})
        return asked

    def align(self, to: str) -> SimpleNamespace:
        def process(frames: SimpleNamespace) -> SimpleNamespace:
            height, width = frames.get_color_frame().get_data().shape[:2]
            measured = frames.get_depth_frame().get_data()
            moved = np.repeat(np.repeat(measured, 2, axis=0), 2, axis=1)[:height, :width]
            return SimpleNamespace(get_depth_frame=lambda: SimpleNamespace(get_data=lambda: moved))

        assert to == self.stream.color
        return SimpleNamespace(process=process)

    def pipeline(self) -> SimpleNamespace:
        pipeline = SimpleNamespace(count=0)

        def start(asked: SimpleNamespace) -> SimpleNamespace:
            if not self.plugged or asked.serial != self.serial:
                raise RuntimeError("No device connected")
            width, height, colours, pipeline.rate = asked.streams[self.stream.color]
            pipeline.size, pipeline.depth = (height, width), asked.streams.get(self.stream.depth)
            known = (None, (self.format.z16, pipeline.rate)) if self.has_depth else (None,)
            if pipeline.depth not in known or colours != self.format.rgb8:
                raise RuntimeError("Couldn't resolve requests")
            return SimpleNamespace(
                get_device=lambda: SimpleNamespace(
                    first_color_sensor=lambda: SimpleNamespace(set_option=self.options.__setitem__),
                    first_depth_sensor=lambda: SimpleNamespace(get_depth_scale=lambda: self.depth_scale),
                )
            )

        def stop() -> None:
            if not self.plugged:
                raise RuntimeError("device disconnected")

        def no_frame() -> None:
            raise RuntimeError('null pointer passed for argument "frame_ref"')

        def wait_for_frames(timeout_ms: int) -> SimpleNamespace:
            time.sleep(1 / pipeline.rate)
            if self.blind:
                self.blind = False
                names = ("get_data", "get_timestamp", "get_frame_timestamp_domain")
                nothing = SimpleNamespace(**dict.fromkeys(names, no_frame))
                return SimpleNamespace(get_color_frame=lambda: nothing, get_depth_frame=lambda: nothing)
            if not self.plugged:
                raise RuntimeError(f"Frame didn't arrive within {timeout_ms}")
            pipeline.count += 1
            image = np.full((*pipeline.size, 3), 40 + pipeline.count % 200, np.uint8)
            frame = SimpleNamespace(
                get_data=lambda: image,
                get_timestamp=lambda: time.time_ns() * 1e-6 - self.age_s * 1e3,
                get_frame_timestamp_domain=lambda: self.domain,
            )
            depth_frame = SimpleNamespace(get_data=no_frame if pipeline.depth is None else depth)
            return SimpleNamespace(get_color_frame=lambda: frame, get_depth_frame=lambda: depth_frame)

        def depth() -> np.ndarray:
            height, width = (-(-length // 2) for length in pipeline.size)
            return np.tile(np.arange(width, dtype=np.uint16) * np.uint16(10 + pipeline.count % 50), (height, 1))

        pipeline.start, pipeline.wait_for_frames, pipeline.stop = start, wait_for_frames, stop
        return pipeline


def write_videos(paths: Sequence[Path], seconds: float, height: int = 120, width: int = 160, rate_hz: int = 30) -> None:
    """Videos of a square that goes round, for cells whose cameras are files (driver `video`)."""
    import av

    for n, path in enumerate(paths):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=rate_hz)
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            count = round(seconds * rate_hz)
            for i in range(count):
                image = np.full((height, width, 3), (60 + 60 * n, 110, 150), np.uint8)
                angle = 2 * np.pi * i / count
                y, x = height / 2 + height / 4 * np.sin(angle), width / 2 + width / 4 * np.cos(angle)
                image[int(y) - 8 : int(y) + 8, int(x) - 8 : int(x) + 8] = (240, 200, 40)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))


def main() -> None:
    """Write videos that stand in for cameras."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("videos", nargs="+", type=Path, help="MP4 files to write")
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    write_videos(args.videos, args.seconds)


if __name__ == "__main__":
    main()
