"""Suspicion: when so much goes wrong that a person should look before more does."""

from collections import deque
from enum import Enum

_IN_A_ROW = 20
_UNKNOWN = 10
_REMEMBERED = 50


class Tried(Enum):
    ACCEPTED = 1
    REFUSED = 2
    UNKNOWN = 3


class Suspicion:
    """What happened to the last messages of one campaign."""

    def __init__(self) -> None:
        self._tried: deque[Tried] = deque(maxlen=_REMEMBERED)
        self._in_a_row = 0

    def note(self, tried: Tried, reason: str) -> str | None:
        """Why the campaign should be paused, or None."""
        self._tried.append(tried)
        self._in_a_row = 0 if tried is Tried.ACCEPTED else self._in_a_row + 1
        unknown = self._tried.count(Tried.UNKNOWN)
        if self._in_a_row >= _IN_A_ROW:
            return f"{self._in_a_row} messages in a row were not accepted. The last reason: {reason}"
        if tried is Tried.UNKNOWN and unknown >= _UNKNOWN:
            return (
                f"The outcome of {unknown} of the last {len(self._tried)} messages is unknown, "
                f"so they are not sent again. The last reason: {reason}"
            )
        return None
