"""When channels were heard last: what the check of a channel shows. Kept in memory, and written now and then."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from tallycast import db
from tallycast.events import Event, Receipt
from tallycast.sql import load

_SQL = load("channels")
WRITE_SECONDS = 5.0


class Hearing(msgspec.Struct):
    """`heard`: what kind of thing was said, without any text or id of it."""

    heard_at: datetime | None = None
    heard: str = ""
    refused_at: datetime | None = None


class Hearings:
    """What a process has heard since it wrote that down last."""

    def __init__(self, pool: db.Pool) -> None:
        self._pool = pool
        self._heard: dict[str, dict[int, Hearing]] = defaultdict(lambda: defaultdict(Hearing))

    def note(self, app_id: str, channel_number: int, events: Sequence[Event]) -> None:
        hearing = self._heard[app_id][channel_number]
        hearing.heard_at, hearing.heard = datetime.now(UTC), _name(events)

    def note_refusal(self, app_id: str, channel_number: int) -> None:
        self._heard[app_id][channel_number].refused_at = datetime.now(UTC)

    async def write(self) -> None:
        """What cannot be written now is forgotten: the next word is as good."""
        heard = dict(self._heard)
        self._heard.clear()
        for app_id, by_channel in heard.items():
            hearings = by_channel.values()
            params = {
                "app_id": app_id,
                "channel_number": list(by_channel),
                "heard_at": [one.heard_at for one in hearings],
                "heard": [one.heard for one in hearings],
                "refused_at": [one.refused_at for one in hearings],
            }
            async with self._pool.connection() as connection:
                await db.execute(connection, _SQL["note_heard"], params)


def _name(events: Sequence[Event]) -> str:
    if not events:
        return ""
    last = events[-1]
    return str(last.status) if isinstance(last, Receipt) else type(last).__name__
