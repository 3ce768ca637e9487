"""The change feed over HTTP."""

from typing import Any

import msgspec
from litestar import get

from tallycast import changes, db
from tallycast.changes import Change
from tallycast.errors import BadQuery
from tallycast.web.answers import MAX_LIMIT, Asked, Encoded, read_int, read_query, read_text, succeed_fast
from tallycast.web.openapi import Doc, Parameter
from tallycast.web.services import of

_PATIENCE_SECONDS = 10.0
_EXAMPLE: dict[str, Any] = {
    "campaigns": [
        {
            "id": "1882651363373254867",
            "date": "2026-11-23T03:00:00.000Z",
            "campaignName": "Spring sale",
            "channel": "WhatsApp",
            "createdBy": "Mei",
            "sender": {"phone": "+85230001234", "channelName": "Shop", "sourceName": "Marketing"},
            "subject": "spring_sale_v3",
            "totalRecipients": 1200,
            "delivered": 1130,
            "read": 845,
            "replied": 97,
            "pending": 42,
            "failed": 20,
            "queued": 8,
            "stage": "sending",
            "changedAt": "2026-11-23T03:02:11.482Z",
        }
    ],
    "cursor": "U7nJwWJ0b0uUzwAGRxPp8kAAAM8ABkcT6fJAAP8",
    "hasMore": False,
}


class CampaignChanges(msgspec.Struct, frozen=True, rename="camel"):
    """`cursor` is the next request's `since`: the next page while `hasMore`, and then what changes from now on."""

    campaigns: list[Change]
    cursor: str
    has_more: bool


@get(
    "/data/campaign-changes",
    scope="reports:read",
    is_direct=True,
    doc=Doc(
        operation_id="getCampaignChanges",
        summary="Sent campaigns whose figures changed since the last time",
        tag="Reports",
        query=(
            Parameter(
                "since", "The cursor of the last answer; everything when it is left out.", {"type": "string"}
            ),
            Parameter(
                "limit",
                "How many to return at most; a page may have fewer and yet not be the last.",
                {
                    "type": "integer",
                    "format": "int32",
                    "minimum": 1,
                    "maximum": MAX_LIMIT,
                    "default": MAX_LIMIT,
                },
            ),
        ),
        result=CampaignChanges,
        example=_EXAMPLE,
        errors=(BadQuery,),
    ),
)
async def get_campaign_changes(request: Asked, appID: str) -> Encoded:
    """Each campaign is the summary's row as it is now, with `queued`, `changedAt` and, where tallycast sends it, its
    `stage`. Keep the cursor, and write what comes over what you have by `id`.

    No change is missed, whatever is being written meanwhile; one of the last seconds may come twice. Drafts, and
    campaigns of which nothing was handed over yet, are not in it, as they are not in the summary.
    """
    query = read_query(request)
    limit = read_int(query, "limit", MAX_LIMIT)
    if limit < 1:
        raise BadQuery.of("limit must be at least 1")
    if limit > MAX_LIMIT:
        raise BadQuery(f"exceed maximum limit {MAX_LIMIT}")
    since = read_text(query, "since")
    async with db.lend(of(request).pool, _PATIENCE_SECONDS) as connection:
        page = await changes.list_page(connection, appID, since, limit)
    return succeed_fast(request, CampaignChanges(page.changes, page.cursor, page.has_more))
