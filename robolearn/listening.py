"""Whom a server may listen to: this computer, or others that know its token."""

from __future__ import annotations

import ipaddress
import secrets

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


def new_token() -> str:
    """A token that nobody guesses: 256 bits."""
    return secrets.token_urlsafe(32)
