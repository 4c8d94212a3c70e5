"""The operator's page on the graph: a node that looks on, and a web server in a thread of this process."""

from __future__ import annotations

import sys
from pathlib import Path

import rclpy
from rclpy.node import Node

from robolearn.listening import is_loopback, new_token
from robolearn.web.server import in_thread
from robolearn.web.settings import WebSettings
from robolearn_nodes.live_graph import LiveGraph
from robolearn_nodes.node import Diagnostics, parameter, run


class WebNode(Node):
    """Serves the page until asked to stop. `settings`: as the command line has them; None: by parameters. `namespace`:
    that of the robot's nodes."""

    def __init__(self, settings: WebSettings | None = None, namespace: str = "") -> None:
        super().__init__("web", namespace=namespace or None)
        self._settings = settings or self._read_settings()
        self._ending = "   (Ctrl-C ends it)" if settings else ""  # else it ends with its launch
        self._graph = LiveGraph(self)
        self._diagnostics = Diagnostics(self, lambda: {"url": self._settings.url().partition("#")[0]})

    def _read_settings(self) -> WebSettings:
        host = parameter(self, "host", WebSettings.host, "address to listen on; by default of this machine alone")
        port = parameter(self, "port", WebSettings.port, "its port; 0: any that is free")
        token = parameter(self, "token", "", "what browsers must know; empty: a new one, where others reach the host")
        data = parameter(self, "data", "runs", "folders of datasets, comma separated")
        runs = parameter(self, "runs", "runs", "folder of training and evaluation runs")
        if not token and not is_loopback(host):
            token = new_token()
        return WebSettings(host, port, token or None, tuple(map(Path, data.split(","))), Path(runs))

    def work(self) -> None:
        """Serve and look on."""
        with in_thread(self._settings, self._graph) as port:
            # not logged, for the token stands in it and logs go over the graph
            sys.stderr.write(f"the page is at {self._settings.url(port)}{self._ending}\n")
            sys.stderr.flush()
            rclpy.spin(self)

    def destroy_node(self) -> None:
        self._graph.close()
        super().destroy_node()


def main() -> int:
    return run(WebNode, WebNode.work)


if __name__ == "__main__":
    raise SystemExit(main())
