"""What waits for a message, and what was not understood."""

from datetime import datetime
from typing import Any

import msgspec
from litestar import Response, get

from tallycast import receipts
from tallycast.errors import BadQuery
from tallycast.moments import write_moment
from tallycast.web.answers import Asked, read_page, read_query, succeed
from tallycast.web.openapi import LIMIT, OFFSET, Doc
from tallycast.web.services import of


@get(
    "/receipts/parked",
    scope="reports:read",
    doc=Doc(
        operation_id="listParkedReceipts",
        summary="Receipts and clicks whose message is not known yet, the oldest first",
        tag="Receipts",
        query=(LIMIT, OFFSET),
        result=list[receipts.Parked],
        errors=(BadQuery,),
    ),
)
async def list_parked(request: Asked, appID: str) -> Response[bytes]:
    """They are matched as soon as their message is recorded; `ageSeconds` says how long they have waited."""
    limit, offset = read_page(read_query(request))
    async with of(request).pool.connection() as connection:
        parked = await receipts.list_parked(connection, appID, limit, offset)
    return succeed(request, [_shown(one) for one in parked])


@get(
    "/receipts/unreadable",
    scope="reports:read",
    doc=Doc(
        operation_id="listUnreadableBodies",
        summary="Webhook bodies, or parts of them, that were not understood, the latest first",
        tag="Receipts",
        query=(LIMIT, OFFSET),
        result=list[receipts.UnreadableBody],
        errors=(BadQuery,),
    ),
)
async def list_unreadable(request: Asked, appID: str) -> Response[bytes]:
    limit, offset = read_page(read_query(request))
    async with of(request).pool.connection() as connection:
        bodies = await receipts.list_unreadable(connection, appID, limit, offset)
    return succeed(request, [_shown(body) for body in bodies])


def _shown(row: msgspec.Struct) -> dict[str, Any]:
    """Moments with milliseconds, as everywhere; bodies as text: what is not UTF-8 shows as U+FFFD."""
    shown: dict[str, Any] = msgspec.to_builtins(row, builtin_types=(bytes, datetime))
    for name, value in shown.items():
        if isinstance(value, datetime):
            shown[name] = write_moment(value)
        elif isinstance(value, bytes):
            shown[name] = value.decode("utf-8", "replace")
    return shown
