"""Pace: how fast a channel sends. Even spacing, so that no second has more than the rate."""

import time
from collections.abc import Callable

# How far a late sender may catch up: at 80 a second one or two messages, so that a second never has 5 % too many.
_CATCH_UP_SECONDS = 0.02
_SLOWEST = 0.02
# What comes back of the full rate with each second.
_RECOVERY = 0.05


class Pace:
    """When the next message may go, for one channel (the generic cell rate algorithm, ITU-T I.371, as a queue).

    A provider that takes only a part of what it is sent gets less: each second, the rate shrinks by the part that was
    refused as too fast, and grows by 5 % of the full one. So it settles at what is taken, and finds out when that grows.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full = rate
        self._share = 1.0
        self._next_at = clock()
        self._second_ends = clock() + 1
        self._gone = self._too_fast = 0

    @property
    def rate(self) -> float:
        """Messages a second at the moment."""
        return self._full * self._share

    def change(self, rate: float) -> None:
        self._full = rate

    def delay(self) -> float:
        """In how many seconds the next message may go."""
        return max(0.0, self._next_at - self._clock())

    def take(self, cost: float = 1.0) -> None:
        """The next message goes; an SMS in three parts costs three."""
        now = self._clock()
        self._adapt(now)
        self._gone += 1
        self._next_at = max(self._next_at, now - _CATCH_UP_SECONDS) + cost / self.rate

    def note_too_fast(self) -> None:
        """The provider refused a message as one too many."""
        self._too_fast += 1

    def wait(self, seconds: float) -> None:
        """The provider asked for a pause."""
        self._next_at = max(self._next_at, self._clock() + seconds)

    def _adapt(self, now: float) -> None:
        if now < self._second_ends:
            return
        seconds = 1 + now - self._second_ends
        taken = 1 - min(1.0, self._too_fast / max(1, self._gone))
        self._share = min(1.0, max(_SLOWEST, self._share * taken) + _RECOVERY * seconds)
        self._second_ends = now + 1
        self._gone = self._too_fast = 0
