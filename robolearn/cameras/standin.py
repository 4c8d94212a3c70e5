"""A stand-in for a network camera: JPEG frames over HTTP on the loopback. It can be unplugged and can freeze."""

from __future__ import annotations

import socket
import threading

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
