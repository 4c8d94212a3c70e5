"""One HTTP request as all clients of models make it: with a key, a timeout, and again after what may pass.

The key goes to the server that was named and to no other: where that sends on to another address, it is an error.
"""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from robolearn.errors import RobolearnError

log = logging.getLogger(__name__)

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
MAX_ANSWER_BYTES, READ_BYTES = 256 << 20, 1 << 16
FIRST_PAUSE_S = 0.5  # before the first retry; each further one waits twice as long
MAX_PAUSE_S = 30.0
ABSENT = (ConnectionRefusedError, socket.gaierror)  # of an address where nobody is, unless it has answered before


class Unanswered(RobolearnError):
    """A server cannot be reached, or refuses. `status` is that of its refusal, `said` what came with it."""

    def __init__(self, message: str, status: int = 0, said: bytes = b"") -> None:
        super().__init__(message)
        self.status, self.said = status, said


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Takes being sent on, which would lose what is posted and show the key to somebody else, for a refusal."""

    def redirect_request(self, *about: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


@dataclass
class HttpClient:
    """Requests to one server, from any thread. Counts them. Raises Unanswered for a key that no header can hold."""

    key: str  # sent as a bearer token; none is sent where empty
    key_variable: str  # that the key comes from, for what is said of a refusal
    timeout_s: float  # of one request, from asking to the end of the answer
    retries: int  # after a failure that may pass
    requests: int = 0
    _found: bool = field(default=False, repr=False, compare=False)  # whether it has ever answered
    _told: set[str] = field(default_factory=set, repr=False, compare=False)  # why it was tried again
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (self.key.isascii() and self.key.isprintable()):
            raise Unanswered(f"{self.key_variable} holds what no key does, as a line break; set it again without")

    def request(self, url: str, server: str, data: bytes | None = None) -> bytes:
        """The answer to a GET, or a POST of JSON. Raises Unanswered, in one line that speaks of `server`."""
        headers = {"Content-Type": "application/json"} if data is not None else {}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            request = urllib.request.Request(url, data, headers)
            if not request.host:
                raise ValueError("it names no host")
        except ValueError as error:
            raise Unanswered(f"{server} is no address that could be asked: {error}") from error
        for attempt in range(self.retries + 1):
            pause_s = min(FIRST_PAUSE_S * 2**attempt, MAX_PAUSE_S)
            try:
                with self._counting:
                    self.requests += 1
                end_s = time.monotonic() + self.timeout_s
                with _opener.open(request, timeout=self.timeout_s) as response:
                    self._found = True
                    return _body(response, end_s)
            except urllib.error.HTTPError as error:
                self._found = True
                with error:
                    said = error.read(4096) if error.code not in RETRIED else b""
                problem = f"answers {error.code} {error.reason}"
                if error.code not in RETRIED:
                    hint = f"; is {self.key_variable} set and valid?" if error.code in (401, 403) else ""
                    if 300 <= error.code < 400:
                        hint = f"; name {error.headers.get('Location', 'where it is')} if that is the right address"
                    raise Unanswered(f"{server} {problem}{hint}", error.code, said) from error
                after = error.headers.get("Retry-After", "")
                pause_s = min(float(after), MAX_PAUSE_S) if after.replace(".", "", 1).isdecimal() else pause_s
            except http.client.InvalidURL as error:
                raise Unanswered(f"{server} is no address that could be asked: {error}") from error
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", None) or error
                problem = f"cannot be reached ({reason or type(error).__name__})"
                if isinstance(reason, ABSENT) and not self._found:
                    raise Unanswered(f"{server} {problem}; is it running? check the address and the network") from error
            if attempt < self.retries:
                if problem not in self._told:
                    log.warning("%s %s; it is tried again, up to %d times", server, problem, self.retries)
                self._told.add(problem)
                time.sleep(pause_s)
        raise Unanswered(f"{server} {problem}, tried {self.retries + 1} times; check the address and the network")


def _body(response: http.client.HTTPResponse, end_s: float) -> bytes:
    """All of an answer. Raises TimeoutError for one that is still trickling in at `end_s` of the monotonic clock."""
    length, parts, left = response.length, [], MAX_ANSWER_BYTES
    while left and (part := response.read1(min(left, READ_BYTES))):
        if time.monotonic() > end_s:
            raise TimeoutError("timed out in the middle of the answer")
        parts.append(part)
        left -= len(part)
    answer = b"".join(parts)
    if left and length is not None and len(answer) < length:
        raise http.client.IncompleteRead(answer, length - len(answer))
    return answer
