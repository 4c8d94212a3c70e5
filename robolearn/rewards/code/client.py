"""What writes rewards: a chat with a language model, or canned answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypedDict

from robolearn.errors import RobolearnError


class Message(TypedDict):
    """One turn of a chat; role is system, user or assistant, content a text, or parts of it that may be pictures."""

    role: str
    content: str | list[dict[str, Any]]


class ChatClient(Protocol):
    """Answers chats. Raises RobolearnError, in one line, when it cannot."""

    @property
    def model(self) -> str:
        """Who answers."""
        ...

    def answers(self, messages: Sequence[Message], count: int) -> list[str]:
        """`count` independent answers to one chat."""
        ...


class CannedClient:
    """Hands out prepared answers round by round and keeps what it was asked; proves a loop without a network."""

    model = "canned"

    def __init__(self, rounds: Sequence[Sequence[str]]) -> None:
        self._rounds = [list(one) for one in rounds]
        self.asked: list[list[Message]] = []

    def answers(self, messages: Sequence[Message], count: int) -> list[str]:
        if len(self.asked) >= len(self._rounds):
            raise RobolearnError(f"the canned client has {len(self._rounds)} rounds of answers and was asked once more")
        self.asked.append(list(messages))
        return self._rounds[len(self.asked) - 1][:count]
