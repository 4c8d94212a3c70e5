"""One HTTP request as all clients of models make it: with a key, a timeout, and again after what may pass."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from robolearn.errors import RobolearnError

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
MAX_ANSWER_BYTES = 256 << 20
FIRST_PAUSE_S = 0.5  # before the first retry; each further one waits twice as long
MAX_PAUSE_S = 30.0


class Unanswered(RobolearnError):
    """A server cannot be reached, or refuses. `status` is that of its refusal, `said` what came with it."""

    def __init__(self, message: str, status: int = 0, said: bytes = b"") -> None:
        super().__init__(message)
        self.status, self.said = status, said


@dataclass
class HttpClient:
    """Requests to one server, from any thread. Counts them."""

    key: str  # sent as a bearer token; none is sent where empty
    key_variable: str  # that the key comes from, for what is said of a refusal
    timeout_s: float  # of one request
    retries: int  # after a failure that may pass
    requests: int = 0
    _counting: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def request(self, url: str, server: str, data: bytes | None = None) -> bytes:
        """The answer to a GET, or a POST of JSON. Raises Unanswered, in one line that speaks of `server`."""
        headers = {"Content-Type": "application/json"} if data is not None else {}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(url, data, headers)
        for attempt in range(self.retries + 1):
            pause_s = min(FIRST_PAUSE_S * 2**attempt, MAX_PAUSE_S)
            try:
                with self._counting:
                    self.requests += 1
                with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                    answer: bytes = response.read(MAX_ANSWER_BYTES)
                    if response.length:  # of a known length, and some of it did not come
                        raise http.client.IncompleteRead(answer, response.length)
                    return answer
            except urllib.error.HTTPError as error:
                with error:
                    said = error.read(4096) if error.code not in RETRIED else b""
                problem = f"answers {error.code} {error.reason}"
                if error.code not in RETRIED:
                    hint = f"; is {self.key_variable} set and valid?" if error.code in (401, 403) else ""
                    raise Unanswered(f"{server} {problem}{hint}", error.code, said) from error
                after = error.headers.get("Retry-After", "")
                pause_s = min(float(after), MAX_PAUSE_S) if after.replace(".", "", 1).isdigit() else pause_s
            except (OSError, http.client.HTTPException) as error:
                problem = f"cannot be reached ({getattr(error, 'reason', None) or error or type(error).__name__})"
            if attempt < self.retries:
                time.sleep(pause_s)
        raise Unanswered(f"{server} {problem}, tried {self.retries + 1} times; check the address and the network")
