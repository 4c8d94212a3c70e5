"""What the web server is told once, at its start."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from robolearn.errors import SpecError

SHORTEST_TOKEN = 16  # letters


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or name."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


@dataclass(frozen=True)
class WebSettings:
    """Where the page is served, to whom, and which folders it shows. Raises SpecError when that is unsafe."""

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
        if self.token is None and not is_loopback(self.host):
            raise SpecError(f"web: {self.host} is reached from other machines; give a token, or leave out the host")
        if self.token is not None and len(self.token) < SHORTEST_TOKEN:
            raise SpecError(f"web: the token has {len(self.token)} letters, expected at least {SHORTEST_TOKEN}")
        if (self.certificate is None) != (self.key is None):
            raise SpecError("web: certificate and key go together; give both")

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches the page."""
        return is_loopback(self.host)

    def url(self, port: int | None = None) -> str:
        """What to open; the token is behind the `#`, which browsers send to nobody."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://{host}:{port or self.port}/" + (f"#token={self.token}" if self.token else "")


def new_token() -> str:
    """A token that nobody guesses: 256 bits."""
    return secrets.token_urlsafe(32)
