"""The audit: a recount from rows that proves the counts, portion by portion, while receipts stream in.

Messages that retention has deleted are recounted from the figures that were noted as they went.
"""

from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec

from tallycast import db
from tallycast.sql import load

FIELDS = ("totalRecipients", "queued", "pending", "delivered", "read", "failed", "buttonReplies", "clicks")
_SQL = load("audit")
_PORTION = 500_000


class Drift(msgspec.Struct, frozen=True, rename="camel"):
    """A campaign whose counts differ from its rows: field → [counted, recounted]."""

    app_id: str = msgspec.field(name="appID")
    id: str
    fields: dict[str, tuple[int, int]]

    @property
    def size(self) -> int:
        return sum(abs(counted - recounted) for counted, recounted in self.fields.values())


class Portion(msgspec.Struct, frozen=True):
    """`deleted`: how many of the messages are known by noted figures only."""

    campaigns: int
    messages: int
    drifts: list[Drift]
    deleted: int = 0


async def size(connection: db.Connection, app_id: str) -> int:
    """How many messages the app's counts speak of, for the progress bar."""
    return sum(total for _, total in await db.fetch_rows(connection, _SQL["list_totals"], {"app_id": app_id}))


async def audit(connection: db.Connection, app_id: str) -> AsyncIterator[Portion]:
    """Recount an app in portions of about half a million messages, each in a snapshot of its own."""
    totals = await db.fetch_rows(connection, _SQL["list_totals"], {"app_id": app_id})
    for campaign_ids in _portions(totals):
        params = {"app_id": app_id, "campaign_ids": campaign_ids}
        rows = await db.fetch_rows(connection, _SQL["recount"], params)
        drifts = [_drift(app_id, *row[:3]) for row in rows if row[1] != row[2]]
        messages, deleted = sum(row[2][0] for row in rows), sum(row[3] for row in rows)
        yield Portion(len(rows), messages, drifts, deleted)


def _drift(app_id: str, campaign_id: int, counted: list[int], recounted: list[int]) -> Drift:
    pairs = zip(FIELDS, counted, recounted, strict=True)
    return Drift(app_id, str(campaign_id), {name: (was, now) for name, was, now in pairs if was != now})


def _portions(totals: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    portion: list[int] = []
    messages = 0
    for campaign_id, total in totals:
        portion.append(campaign_id)
        messages += total
        if messages >= _PORTION or len(portion) >= 10_000:  # noqa: PLR2004 - keeps one statement small
            yield portion
            portion, messages = [], 0
    if portion:
        yield portion
