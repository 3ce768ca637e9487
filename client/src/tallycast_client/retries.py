"""When a call is sent again, and after how long."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from tallycast_client.errors import ConnectionFailed, TallycastError

_PASSING = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Retries:
    """Calls that are safe to repeat are, on a broken connection, 429, 502, 503 and 504.

    The server's `Retry-After` is honoured; else the pause doubles from `first_seconds` up to `longest_seconds`, less a
    random part of up to a half. No attempt begins after `total_seconds`: a longer `Retry-After` ends it at once.
    """

    attempts: int = 5
    total_seconds: float = 60.0
    first_seconds: float = 0.5
    longest_seconds: float = 15.0

    def pause(self, problem: TallycastError, attempt: int, elapsed: float) -> float | None:
        """Seconds until the next attempt, after the `attempt`th (from 1); None to give up."""
        is_passing = problem.status in _PASSING or isinstance(problem, ConnectionFailed)
        if not is_passing or attempt >= self.attempts:
            return None
        wait = self._back_off(attempt) if problem.retry_after is None else problem.retry_after
        return wait if elapsed + wait <= self.total_seconds else None

    def _back_off(self, attempt: int) -> float:
        longest = min(self.longest_seconds, self.first_seconds * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


USUAL = Retries()
NEVER = Retries(attempts=1)


def read_retry_after(response: httpx.Response) -> float | None:
    """Seconds from now (RFC 9110 section 10.2.3: a number of them, or a date); None where it says neither."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
