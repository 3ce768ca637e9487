"""Attempts: the provider ids of a message beside its own. Each part of a long SMS has one, and so has each earlier try.

A receipt names the id that it is about. Those of parts say together what became of the message; those of earlier
attempts may still bring a delivery. Receipts for them are parked first, like all whose id no message has, and taken
from there: the way of ordinary receipts stays as short as it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tallycast import db
from tallycast.sql import load

_SQL = load("attempts")


class Concluded(NamedTuple):
    """What parts and earlier attempts say of their message, and the channel that the message is on now."""

    campaign_id: int
    seq: int
    channel_number: int
    delivered_ms: int | None
    read_ms: int | None
    failed_ms: int | None
    error_code: str | None
    error_title: str | None


class Chosen(NamedTuple):
    campaign_id: int
    seq: int
    channel_number: int
    button: str
    replied_ms: int


class Taken(NamedTuple):
    rows: int
    concluded: list[Concluded]
    chosen: list[Chosen]


class Part(NamedTuple):
    """A part of a message, numbered from 1, by the provider's id."""

    message_id: str
    campaign_id: int
    seq: int
    part: int


async def add(connection: db.Connection, app_id: str, channel_number: int, parts: Sequence[Part]) -> None:
    params = {
        "app_id": app_id,
        "channel_number": channel_number,
        "message_id": [part.message_id for part in parts],
        "campaign_id": [part.campaign_id for part in parts],
        "seq": [part.seq for part in parts],
        "part": [part.part for part in parts],
    }
    await db.execute(connection, _SQL["add_attempts"], params)


async def take(
    connection: db.Connection, app_id: str, channel_number: int, message_ids: Sequence[str]
) -> Taken:
    """Take what is parked for parts and earlier attempts; what follows for their messages. In a transaction."""
    params = {"app_id": app_id, "channel_number": channel_number, "message_ids": message_ids}
    receipts = await db.fetch_rows(connection, _SQL["take_parked"], params)
    clicks = await db.fetch_rows(connection, _SQL["take_parked_clicks"], params)
    named = sorted({(campaign_id, seq) for campaign_id, seq, *_ in (*receipts, *clicks)})
    if not named:
        return Taken(0, [], [])
    key = {"app_id": app_id, "campaign_id": [one for one, _ in named], "seq": [seq for _, seq in named]}
    held = await db.fetch_rows(connection, _SQL["hold_messages"], key)
    channels = {(campaign_id, seq): number for campaign_id, seq, number in held}
    await _merge(connection, app_id, channel_number, receipts)
    # An id that belongs to a test message has no message: what is said of it counts nowhere.
    concluded = [
        Concluded(campaign_id, seq, channels[campaign_id, seq], *facts)
        for campaign_id, seq, *facts in await db.fetch_rows(connection, _SQL["conclude"], key)
        if (campaign_id, seq) in channels
    ]
    chosen = [
        Chosen(campaign_id, seq, channels[campaign_id, seq], button, at)
        for campaign_id, seq, button, at in clicks
        if (campaign_id, seq) in channels
    ]
    return Taken(len(receipts) + len(clicks), concluded, chosen)


async def _merge(
    connection: db.Connection, app_id: str, channel_number: int, receipts: Sequence[tuple[object, ...]]
) -> None:
    if not receipts:
        return
    names = ("message_id", "accepted_at", "delivered_at", "read_at", "failed_at", "error_code", "error_title")
    columns = dict(zip(names, map(list, zip(*(row[2:] for row in receipts), strict=True)), strict=True))
    await db.execute(
        connection, _SQL["merge_attempts"], {"app_id": app_id, "channel_number": channel_number, **columns}
    )
