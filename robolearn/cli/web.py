"""The command `web`: the operator's page."""

from __future__ import annotations

from pathlib import Path

from robolearn.cli.output import say


def web(
    host: str = "127.0.0.1",
    port: int = 8770,
    token: str | None = None,
    data: tuple[Path, ...] = (Path("runs"),),
    runs: Path = Path("runs"),
    graph: bool = True,
    certificate: Path | None = None,
    key: Path | None = None,
) -> int:
    """Serve the operator's page: watch, drive, browse, annotate, compare.

    It listens on this machine alone. With --host it is reached from others, who need the link that is printed.

    Example: robolearn web --data runs datasets --host 192.168.1.20

    Args:
        host: address to listen on.
        port: 0 for any that is free.
        token: what browsers must know; made up and printed when --host is not of this machine alone.
        data: folders of datasets; nothing outside them is shown or changed.
        runs: folder of training and evaluation runs.
        graph: whether to join the ROS 2 graph for the live page.
        certificate: PEM file for https, which a phone asks for before it tells its pose.
        key: PEM file of its private key.
    """
    from robolearn.web.server import make_server
    from robolearn.web.settings import WebSettings, is_loopback, new_token

    if token is None and not is_loopback(host):
        token = new_token()
    settings = WebSettings(host, port, token, data, runs, certificate, key)
    server = make_server(settings)
    say(f"the page is at {settings.url()}   (Ctrl-C ends it)")
    server.run()
    return 0
