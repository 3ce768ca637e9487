"""Telling endpoints the figures of campaigns: from the change feed, once a minute.

So a campaign is told at most once a minute while its figures change, and once more when they have come to rest.
"""

import logging
from hashlib import blake2b

import msgspec

from tallycast import changes, db, notices
from tallycast.changes import Change
from tallycast.errors import BadQuery
from tallycast.notices import FIGURES_SECONDS
from tallycast.sql import load

log = logging.getLogger("tallycast.figures")
_SQL = load("figures")
_PAGE = 200
_DIGEST_BYTES = 16
_REMEMBERED_SECONDS = 86_400


async def start(connection: db.Connection, app_id: str) -> None:
    """Tell what changes from now on, unless that is done already."""
    params = {"app_id": app_id, "cursor": await changes.begin(connection, app_id)}
    await db.execute(connection, _SQL["start_watch"], params)


async def tell(connection: db.Connection, app_id: str) -> None:
    """Tell the figures that changed since the last time, if that was a minute ago. In a transaction of the caller."""
    key = {"app_id": app_id}
    rows = await db.fetch_rows(connection, _SQL["hold_watch"], {**key, "seconds": FIGURES_SECONDS})
    if not rows:
        return
    if not await notices.is_heard(connection, app_id, "campaign.figures"):
        await db.execute(connection, _SQL["end_watch"], key)
        return
    cursor = await _tell_since(connection, app_id, rows[0][0])
    await db.execute(connection, _SQL["move_watch"], {**key, "cursor": cursor})
    await db.execute(connection, _SQL["forget_told"], {**key, "seconds": _REMEMBERED_SECONDS})


async def _tell_since(connection: db.Connection, app_id: str, cursor: str) -> str:
    """How far the figures are told then. One that another version wrote, or nobody, must not hold up all deliveries."""
    has_more = True
    while has_more:
        try:
            page = await changes.list_page(connection, app_id, cursor, _PAGE)
        except BadQuery:
            log.warning("how far figures were told cannot be read: from now on", extra={"app": app_id})
            return await changes.begin(connection, app_id)
        cursor, has_more = page.cursor, page.has_more
        await _tell(connection, app_id, page.changes)
    return cursor


async def _tell(connection: db.Connection, app_id: str, found: list[Change]) -> None:
    """The feed may give a change twice; an endpoint need not hear the same figures again."""
    params = {
        "app_id": app_id,
        "campaign_ids": [int(one.id) for one in found],
        "digests": [_digest(one) for one in found],
    }
    fresh = {one for (one,) in await db.fetch_rows(connection, _SQL["note_told"], params)}
    items = [(int(one.id), one) for one in found if int(one.id) in fresh]
    await notices.add(connection, app_id, "campaign.figures", items)


def _digest(change: Change) -> bytes:
    told = msgspec.json.encode(msgspec.structs.replace(change, changed_at=""))
    return blake2b(told, digest_size=_DIGEST_BYTES).digest()
