"""Who changed what of an app, over HTTP."""

from typing import Annotated, Any

import msgspec
from litestar import Response, get

from tallycast import administrations
from tallycast.administrations import ACTIONS
from tallycast.errors import BadQuery
from tallycast.moments import write_moment
from tallycast.web.answers import Asked, next_link, read_choice, read_page, read_period, read_query, succeed
from tallycast.web.openapi import LIMIT, OFFSET, Doc, Parameter
from tallycast.web.services import of

_MOMENT = {"type": "string", "format": "date-time", "examples": ["2026-11-01T00:00:00.000Z"]}
_EXAMPLE = {
    "id": "6f1d7c1e-8a4b-4a53-9d0e-3b9a6d2f4c11",
    "at": "2026-11-23T03:00:00.000Z",
    "actor": "staff E7 (Mei)",
    "action": "channel.changed",
    "subject": "app-x-5rNqzXKf8gk2wYvB7dPm1c",
    "details": {"channelName": "Shop", "secrets": ["webhookSecret"]},
    "address": "203.0.113.7",
}


class Administration(msgspec.Struct, frozen=True):
    """`actor` did `action` to `subject`, from `address` (empty: on the server's own machine). `details`: what it is now;
    of secrets only their names.
    """

    id: str
    at: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
    actor: str
    action: str
    subject: str
    details: dict[str, Any]
    address: str


@get(
    "/administrations",
    scope="channels:write",
    doc=Doc(
        operation_id="listAdministrations",
        summary="Who changed what of the app",
        tag="Administration",
        query=(
            Parameter("action", "Only these.", {"type": "string", "enum": list(ACTIONS)}),
            Parameter("startAt", "The period's begin (RFC 3339), included. Needs endAt.", _MOMENT),
            Parameter("endAt", "The period's end (RFC 3339), not included. Needs startAt.", _MOMENT),
            LIMIT,
            OFFSET,
        ),
        result=list[Administration],
        example=[_EXAMPLE],
        errors=(BadQuery,),
    ),
)
async def list_administrations(request: Asked, appID: str) -> Response[bytes]:
    """Tokens, channels, staff, rules, webhook endpoints, opt-outs taken back, exports of recipients, and what was shown
    or erased of a person; the latest first. Entries are never changed.
    """
    query = read_query(request)
    limit, offset = read_page(query)
    action, period = read_choice(query, "action", ACTIONS), read_period(query)
    async with of(request).pool.connection() as connection:
        found = await administrations.list_page(connection, appID, limit + 1, offset, action, *period)
    headers = next_link(request, f"offset={offset + limit}") if len(found) > limit > 0 else None
    shown = [
        Administration(
            one.entry_id, write_moment(one.at), one.actor, one.action, one.subject, one.details, one.address
        )
        for one in found[:limit]
    ]
    return succeed(request, shown, headers=headers)
