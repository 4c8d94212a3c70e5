"""What the web server is told once, at its start."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from robolearn.datasets.zarr_layout import ROOT_FILE
from robolearn.errors import SpecError
from robolearn.listening import is_loopback, unsafe


@dataclass(frozen=True)
class WebSettings:
    """Where the page is served, to whom, and which folders it shows.

    Raises SpecError when that is unsafe, and for what is no folder of datasets or runs.
    """

    host: str = "127.0.0.1"
    port: int = 8770
    token: str | None = field(default=None, repr=False)  # what a browser must know; None: nothing, on loopback alone
    data_roots: tuple[Path, ...] = (Path("runs"),)  # folders of datasets; nothing outside them is read or changed
    runs_root: Path = Path("runs")  # folder of training and evaluation runs
    certificate: Path | None = None  # PEM files for https, which a phone asks for before it tells its pose
    key: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise SpecError(f"web: port {self.port}, expected 0 to 65535 (0: any that is free)")
        if problem := unsafe(self.host, self.token):
            raise SpecError(f"web: {problem}")
        if (self.certificate is None) != (self.key is None):
            raise SpecError("web: certificate and key go together; give both")
        for folder in (*self.data_roots, self.runs_root):
            what = "a dataset" if (folder / ROOT_FILE).exists() else "a file" if folder.is_file() else ""
            if what:
                raise SpecError(f"web: {folder} is {what}; name the folder that it lies in: {folder.absolute().parent}")

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches the page."""
        return is_loopback(self.host)

    def url(self, port: int | None = None) -> str:
        """What to open; the token is behind the `#`, which browsers send to nobody."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://{host}:{port or self.port}/" + (f"#token={self.token}" if self.token else "")
