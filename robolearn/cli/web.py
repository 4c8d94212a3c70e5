"""The command `web`: the operator's page."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from robolearn.cli.graph import namespace_of
from robolearn.cli.output import say
from robolearn.errors import RobolearnError, SpecError


def web(
    host: str = "127.0.0.1",
    port: int = 8770,
    token: str | None = None,
    data: tuple[Path, ...] = (Path("runs"),),
    runs: Path = Path("runs"),
    graph: bool = True,
    namespace: str = "",
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
        graph: join the ROS 2 graph for the live page; --no-graph serves the other pages alone.
        namespace: of the robot's nodes on the graph, such as left; none by default.
        certificate: PEM file for https, which a phone asks for before it tells its pose.
        key: PEM file of its private key.
    """
    from robolearn.listening import is_loopback, new_token
    from robolearn.web.server import in_thread
    from robolearn.web.settings import WebSettings

    if token is None and not is_loopback(host):
        token = new_token()
    settings = WebSettings(host, port, token, data, runs, certificate, key)
    if namespace and not graph:
        raise SpecError("--namespace is that of nodes on the ROS graph; leave out --no-graph")
    absolute = namespace_of(namespace)
    for folder in dict.fromkeys((*data, runs)):
        if not folder.exists():
            say(f"{folder} does not exist yet; what comes there will be shown")
    if graph:
        import robolearn.ros  # noqa: F401  supplies rclpy and the messages where ROS 2 is not installed

        # isort: split
        from robolearn_nodes.node import live
        from robolearn_nodes.web_node import WebNode

        live(lambda: WebNode(settings, absolute), WebNode.work)
        return 0
    with in_thread(settings) as opened:
        say(f"the page is at {settings.url(opened)}   (Ctrl-C ends it)")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


def has_web() -> bool:
    """Whether what the page is served with is installed."""
    return all(importlib.util.find_spec(name) for name in ("fastapi", "uvicorn", "websockets"))


def show_episode(dataset: Path, episode: str) -> None:
    """Serve the page on any free port of this machine, open a browser on an episode where there is a display, and
    return at Ctrl-C."""
    from robolearn.datasets.view import has_display

    with _page((dataset.absolute().parent,), dataset.absolute().parent) as address:
        address += f"#/episode/{quote(dataset.absolute().name, safe='')}/{quote(episode, safe='')}"
        say(f"the episode is at {address}   (Ctrl-C ends it)")
        if has_display():
            webbrowser.open(address)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


@contextlib.contextmanager
def beside(wanted: bool, run: Path | None = None, *datasets: Path | None) -> Iterator[None]:
    """While a command runs, the page with its run among its neighbours, and the datasets that it works with."""
    if not wanted:
        yield
        return
    if not has_web():
        raise RobolearnError("--web wants what the page is served with: pip install robolearn[web]")
    roots = tuple(dict.fromkeys(path.absolute().parent for path in datasets if path is not None))
    runs = run.absolute().parent if run else Path("runs").absolute()
    with _page(roots or (runs,), runs) as address:
        where = f"#/run/{quote(run.absolute().name, safe='')}" if run else "#/datasets"
        say(f"the page is at {address}{where} until this command ends")
        yield


@contextlib.contextmanager
def _page(data_roots: tuple[Path, ...], runs_root: Path) -> Iterator[str]:
    from robolearn.web.server import in_thread
    from robolearn.web.settings import WebSettings

    settings = WebSettings(port=0, data_roots=data_roots, runs_root=runs_root)
    with in_thread(settings) as port:
        yield settings.url(port)
