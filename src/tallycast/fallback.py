"""Fallback: a WhatsApp message that is not delivered in time, or fails for good, goes out as an SMS.

It stays one recipient and one row. The provider's id of the WhatsApp message becomes an earlier attempt: its delivery
still counts, its failure does not any more.
"""

import asyncio
import time
from collections.abc import Callable

import msgspec

from tallycast import db, retries
from tallycast.sql import load

_SQL = load("fallback")
_PORTION = 2000
_PAUSE_SECONDS = 1.0
# A pass over many messages that wait must not keep the database busy: it rests this many times as long as it took.
_REST = 20
# Who does not want messages gets none by another way, and who was given up stays so.
_FINAL_CODES = ["131050", "21610", "optedOut", "cancelled", "erased"]


class Split(msgspec.Struct, frozen=True, rename="camel"):
    """How the messages stand that fell back. `delivered_late`: the first channel delivered them all the same."""

    total: int
    delivered: int
    delivered_late: int
    failed: int
    pending: int
    queued: int


async def watch(pool: db.Pool, app_id: str, campaign_id: int, is_held: Callable[[], bool]) -> None:
    """Let messages of a campaign fall back, as long as it is being sent."""
    params = {"app_id": app_id, "campaign_id": campaign_id, "limit": _PORTION, "final_codes": _FINAL_CODES}
    while is_held():
        began = time.monotonic()
        async with pool.connection() as connection:
            rows = await db.fetch_rows(connection, _SQL["advance"], params)
            if not rows:
                return
            channel_number, _ = rows[0]
            found = await db.fetch_rows(connection, _SQL["find_undelivered"], params)
            seqs = [seq for (seq,) in found]
            if seqs:
                await _fall_back(connection, app_id, campaign_id, channel_number, seqs)
        if len(found) < _PORTION:
            await asyncio.sleep(max(_PAUSE_SECONDS, _REST * (time.monotonic() - began)))


async def _fall_back(
    connection: db.Connection, app_id: str, campaign_id: int, channel_number: int, seqs: list[int]
) -> None:
    async def work() -> None:
        async with connection.transaction():
            await retries.queue_again(connection, app_id, campaign_id, channel_number, seqs, "fallback")

    await db.retry_conflicts(work)


async def split(connection: db.Connection, app_id: str, campaign_id: int) -> Split:
    params = {"app_id": app_id, "campaign_id": campaign_id}
    found = await db.fetch_one(connection, Split, _SQL["split"], params)
    assert found is not None
    return found
