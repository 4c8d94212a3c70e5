"""A loopback HTTP server that answers as an OpenAI-compatible endpoint does."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from robolearn.rewards.endpoint import EndpointConfig


class ModelServer:
    """Answers by `reply`: a text, or (status, headers, body) as it is to go out, the body in parts or whole."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.reply: Callable[[dict[str, Any]], Any] = lambda body: "fine"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append(body)
                outer.paths.append(self.path)
                outer.keys.append(self.headers.get("Authorization"))
                reply = outer.reply(body)
                if isinstance(reply, str):
                    usage = {"prompt_tokens": 1000, "completion_tokens": 10}
                    text = json.dumps({"choices": [{"message": {"content": reply}}], "usage": usage})
                    reply = (200, {}, text)
                status, headers, text = reply
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(OSError):  # nobody listens any more
                    for part in [text] if isinstance(text, str) else text:
                        self.wfile.write(part.encode())

            def log_message(self, *args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def config(self) -> EndpointConfig:
        url = f"http://127.0.0.1:{self.http.server_port}/v1"
        return EndpointConfig(url=url, model="tiny", retries=2, input_price=2.0, output_price=100.0)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
