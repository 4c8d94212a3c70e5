"""How many answers of a model behind a wire could not be read: few are passed over and told of, many end the work."""

from __future__ import annotations

import threading

from robolearn.errors import RobolearnError

MOST_UNREADABLE = 0.2  # share of the answers that may be passed over
JUDGED_AFTER = 20  # answers; of fewer as many may be passed over as of so many


class TooManyUnreadableError(RobolearnError):
    """Too many answers of a model cannot be read for the others to be believed."""


class AnswerCount:
    """Answers that came so far, from any thread, and how many of them could not be read."""

    def __init__(self) -> None:
        self.answers = self.unreadable = 0
        self.instance = ""  # the first one that could not be read
        self._counting = threading.Lock()

    def add(self, who: str, wanted: str, answers: int, unreadable: int = 0, instance: str = "") -> None:
        """Count what `who` answered. Raises TooManyUnreadableError once over MOST_UNREADABLE cannot be read."""
        with self._counting:
            self.answers += answers
            self.unreadable += unreadable
            if unreadable and not self.instance:
                self.instance = " ".join(instance.split())[:60]
            if unreadable and self.unreadable > MOST_UNREADABLE * max(self.answers, JUDGED_AFTER):
                raise TooManyUnreadableError(
                    f"{who}: {self}, more than {MOST_UNREADABLE:.0%}; {wanted} was wanted: take a model that answers "
                    "so, what was scored until now is kept"
                )

    def __str__(self) -> str:
        return f'{self.unreadable} of {self.answers} answers could not be read, for instance "{self.instance}"'
