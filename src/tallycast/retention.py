"""Retention: after so many days the recipients of a campaign are made anonymous or deleted, and its figures stay.

A campaign goes through it once it is over: it is marked, and from then on nothing changes its figures; when all that
others had begun before is finished, everything that is computed from its rows is frozen; then the rows go, batch by
batch. Each batch is one commit, which notes how far it came and, of deleted messages, what they were, so that counts and
rows agree at any moment: a worker that is killed leaves nothing half done, and the next one goes on.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple

from tallycast import db, digests, insights, sendings
from tallycast.digests import Key
from tallycast.errors import NotFound
from tallycast.keys import Cipher
from tallycast.policies import Mode
from tallycast.sql import load

log = logging.getLogger("tallycast.retention")
LOOK_SECONDS = 3600.0
_SQL = load("retention")
_BATCH = 2000
_MOST_CAMPAIGNS = 1000
_WAIT_SECONDS = 0.2
# No provider's receipt waits longer for a message that somebody still means to record.
_PARKED_DAYS = 30
# What goes by its own age, whatever campaign it belongs to. Each statement takes a portion; 0 rows are the end.
_BY_AGE = (
    _SQL["forget_texts"],
    _SQL["forget_trials"],
    _SQL["forget_unreadable"],
    _SQL["forget_import"],
)


class Rule(NamedTuple):
    """An app's policy, and when it was applied last."""

    days: int | None
    mode: Mode | None
    looked_at: datetime | None


class Open(NamedTuple):
    """A campaign that is on its way through retention."""

    campaign_id: int
    mode: Mode
    is_frozen: bool


Held = Callable[[], bool]


async def find_next(connection: db.Connection, app_id: str) -> datetime | None:
    """When there is something to do for an app; None for never."""
    rule = await _find_rule(connection, app_id)
    if await _list_open(connection, app_id):
        return datetime.now(UTC)
    if rule.days is None:
        return None
    if rule.looked_at is None:
        return datetime.now(UTC)
    return rule.looked_at + timedelta(seconds=LOOK_SECONDS)


async def _find_rule(connection: db.Connection, app_id: str) -> Rule:
    rows = await db.fetch_rows(connection, _SQL["find_rule"], {"app_id": app_id})
    return Rule(*rows[0]) if rows else Rule(None, None, None)


async def _list_open(connection: db.Connection, app_id: str) -> list[Open]:
    rows = await db.fetch_rows(connection, _SQL["list_open"], {"app_id": app_id})
    return [Open(*row) for row in rows]


async def work(pool: db.Pool, cipher: Cipher, app_id: str, is_held: Held) -> None:
    """Finish what was begun, then do what is due by the policy of the app, while `is_held`."""
    await _finish_open(pool, cipher, app_id, is_held)
    async with pool.connection() as connection:
        rule = await _find_rule(connection, app_id)
        if rule.days is None or rule.mode is None or not is_held():
            return
        before = datetime.now(UTC) - timedelta(days=rule.days)
        due = await _list_due(connection, app_id, rule.mode, before)
    for campaign_id in due:
        if is_held():
            await _begin(pool, app_id, campaign_id, rule.mode)
            await _finish_open(pool, cipher, app_id, is_held)
    await _forget(pool, app_id, rule.days, is_held)
    if is_held() and len(due) < _MOST_CAMPAIGNS:
        async with pool.connection() as connection:
            await db.execute(connection, _SQL["note_look"], {"app_id": app_id})


async def _list_due(connection: db.Connection, app_id: str, mode: Mode, before: datetime) -> list[int]:
    params = {"app_id": app_id, "mode": mode, "before": before, "limit": _MOST_CAMPAIGNS}
    return [campaign_id for (campaign_id,) in await db.fetch_rows(connection, _SQL["list_due"], params)]


async def _begin(pool: db.Pool, app_id: str, campaign_id: int, mode: Mode) -> None:
    """Mark a campaign, unless a person has sent it on its way again meanwhile."""
    params = {"app_id": app_id, "campaign_id": campaign_id, "mode": mode}
    async with pool.connection() as connection, connection.transaction():
        try:
            sending = await sendings.hold(connection, app_id, campaign_id)
        except NotFound:  # another system sent it
            sending = None
        if sending is None or (sending.stage in {"sent", "cancelled"} and sending.ended_at is not None):
            await db.execute(connection, _SQL["begin"], params)


async def _finish_open(pool: db.Pool, cipher: Cipher, app_id: str, is_held: Held) -> None:
    async with pool.connection() as connection:
        found = await _list_open(connection, app_id)
        key = await digests.take_key(connection, cipher, app_id) if found else None
    for one in found:
        if not one.is_frozen and not await _freeze(pool, app_id, one.campaign_id, is_held):
            return
        assert key is not None
        await _take_rows(pool, app_id, one, key, is_held)


async def _freeze(pool: db.Pool, app_id: str, campaign_id: int, is_held: Held) -> bool:
    """Keep all that is computed of a campaign, once nobody is left who does not know that it is marked."""
    async with pool.connection() as connection:
        _, marked_at = await db.find_horizon(connection)
        while (await db.find_horizon(connection))[0] < marked_at:
            if not is_held():
                return False
            await asyncio.sleep(_WAIT_SECONDS)
        params = {"app_id": app_id, "campaign_id": campaign_id}
        async with connection.transaction():
            await db.take_time(connection)
            await insights.freeze(connection, app_id, campaign_id)
            await db.execute(connection, _SQL["note_frozen"], params)
    return True


async def _take_rows(pool: db.Pool, app_id: str, one: Open, key: Key, is_held: Held) -> None:
    """Batch by batch, as long as there is one; each a transaction of its own, between which receipts flow."""
    batch = _delete_batch if one.mode == "delete" else _anonymise_batch

    async def work(connection: db.Connection) -> bool:
        async with connection.transaction():
            return await batch(connection, app_id, one.campaign_id, key)

    while is_held():
        async with pool.connection() as connection:
            if not await db.retry_conflicts(lambda: work(connection)):
                log.info("campaign %s: %s is done", one.campaign_id, one.mode, extra={"app": app_id})
                return


async def _anonymise_batch(connection: db.Connection, app_id: str, campaign_id: int, key: Key) -> bool:
    """The next recipients. False at the end, which is noted."""
    params = {"app_id": app_id, "campaign_id": campaign_id}
    position = await _hold(connection, params)
    if position is None:
        return False
    rows = await db.fetch_rows(
        connection, _SQL["list_batch"], {**params, "from_seq": position, "limit": _BATCH}
    )
    if not rows:
        await db.execute(connection, _SQL["end"], params)
        return False
    known = [(seq, recipient) for seq, recipient in rows if not digests.is_digest(recipient)]
    await anonymise(connection, app_id, campaign_id, known, key)
    await db.execute(connection, _SQL["advance"], {**params, "next_seq": rows[-1][0] + 1})
    return True


async def _delete_batch(connection: db.Connection, app_id: str, campaign_id: int, _key: Key) -> bool:
    params = {"app_id": app_id, "campaign_id": campaign_id}
    position = await _hold(connection, params)
    if position is None:
        return False
    rows = await db.fetch_rows(
        connection, _SQL["list_batch"], {**params, "from_seq": position, "limit": _BATCH}
    )
    if not rows:
        await db.execute(connection, _SQL["end"], params)
        return False
    await db.execute(connection, _SQL["delete_batch"], {**params, "next_seq": rows[-1][0] + 1})
    return True


async def _hold(connection: db.Connection, params: db.Params) -> int | None:
    """How far the campaign has come; None where another worker has ended it. Locked until the commit."""
    rows = await db.fetch_rows(connection, _SQL["hold"], params)
    return rows[0][0] if rows else None


async def anonymise(
    connection: db.Connection, app_id: str, campaign_id: int, rows: Sequence[tuple[int, str]], key: Key
) -> int:
    """Take all that tells who they are from these messages (seq, number) and what hangs on them. In a transaction."""
    if not rows:
        return 0
    params = {
        "app_id": app_id,
        "campaign_id": campaign_id,
        "seq": [seq for seq, _ in rows],
        "recipient": [recipient for _, recipient in rows],
        "digest": [key.digest(recipient) for _, recipient in rows],
    }
    done = await db.execute(connection, _SQL["anonymise_messages"], params)
    for query in (
        _SQL["anonymise_attempts"],
        _SQL["anonymise_clicks"],
        _SQL["anonymise_replies"],
        _SQL["anonymise_handovers"],
    ):
        await db.execute(connection, query, params)
    return done


async def _forget(pool: db.Pool, app_id: str, days: int, is_held: Held) -> None:
    """What people wrote, test messages, cells of files, and bodies and receipts that nobody could place."""
    now = datetime.now(UTC)
    params = {"app_id": app_id, "before": now - timedelta(days=days), "limit": _BATCH}
    parked = {**params, "before": now - timedelta(days=min(days, _PARKED_DAYS))}
    for query, said in [*((query, params) for query in _BY_AGE), (_SQL["forget_parked"], parked)]:
        await _repeat(pool, partial(db.execute, query=query, params=said), is_held)


async def _repeat(pool: db.Pool, take: Callable[[db.Connection], Awaitable[int]], is_held: Held) -> None:
    while is_held():
        async with pool.connection() as connection:
            if not await db.retry_conflicts(lambda: take(connection)):
                return
