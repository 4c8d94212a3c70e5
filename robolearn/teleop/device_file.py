"""Reading a device of the kernel (`/dev/input/js0`, `/dev/hidraw0`) without ever waiting for it."""

from __future__ import annotations

import errno
import os

from robolearn.errors import HardwareError


class DeviceFile:
    """Raises HardwareError naming the device and the remedy."""

    def __init__(self, path: str, group: str) -> None:
        """group: whose members may read it."""
        self._path, self._group = path, group
        self._fd: int | None = None

    def open(self) -> None:
        self.close()
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            why = {
                errno.ENOENT: "there is no such device; plug it in, and see `robolearn cell find`",
                errno.EACCES: f"no permission; join the group {self._group} or install hardware/udev, log in again",
            }.get(error.errno or 0, str(error))
            raise HardwareError(f"cannot open {self._path}: {why}") from error

    def read(self, size: int) -> bytes:
        """What has come, at most `size` bytes of it; nothing when nothing has."""
        if self._fd is None:
            raise HardwareError(f"{self._path} is not open; call connect() first")
        try:
            data = os.read(self._fd, size)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._lost() from error
        if not data:
            raise self._lost()
        return data

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _lost(self) -> HardwareError:
        self.close()  # while it is held, the kernel gives the next one another name
        return HardwareError(f"lost {self._path}: it was unplugged; the robot holds until it is plugged in again")
