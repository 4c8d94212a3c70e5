"""Whom a server may listen to: this computer, or others that know its token."""

from __future__ import annotations

import errno
import ipaddress
import os
import secrets
import socket

SHORTEST_TOKEN = 16  # letters


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address or name."""
    name = host.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def unsafe(host: str, token: str | None) -> str:
    """What is wrong with listening there with that token, in words; empty: nothing."""
    if token is None and not is_loopback(host):
        return f"{host} is reached from other machines; give a token, or listen on 127.0.0.1"
    if token is not None and len(token) < SHORTEST_TOKEN:
        return f"the token has {len(token)} letters, expected at least {SHORTEST_TOKEN}"
    return ""


def cannot_listen(host: str, port: int, error: OSError | OverflowError) -> str:
    """Why an address cannot be listened on, and which half of it to change."""
    code = None if isinstance(error, (socket.gaierror, OverflowError)) else error.errno
    why = getattr(error, "strerror", error) if code is None else os.strerror(code)  # Python adds the address to its own
    other = "--port" if code in (errno.EADDRINUSE, errno.EACCES) else "--host"
    return f"cannot listen on {host} port {port}: {why}; take another {other}"


def new_token() -> str:
    """A token that nobody guesses: 256 bits."""
    return secrets.token_urlsafe(32)
