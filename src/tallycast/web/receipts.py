"""What waits for a message, and what was not understood."""

from typing import Any

import msgspec
from litestar import Response, get

from tallycast import receipts
from tallycast.errors import BadQuery
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
        return succeed(request, await receipts.list_parked(connection, appID, limit, offset))


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
    return succeed(request, [_readable(body) for body in bodies])


def _readable(body: receipts.UnreadableBody) -> dict[str, Any]:
    """With the body as text: what is not UTF-8 shows as replacement characters."""
    shown: dict[str, Any] = msgspec.to_builtins(body, builtin_types=(bytes,))
    return {**shown, "raw": body.raw.decode("utf-8", "replace")}
