"""The reports that existing clients read: sent-campaigns-summary and sent-campaigns-detail."""

from typing import Any

from litestar import get

from tallycast import reports
from tallycast.campaigns import parse_id
from tallycast.errors import BadQuery, NotFound
from tallycast.reports import Detail, Summary
from tallycast.web.answers import (
    Asked,
    Encoded,
    next_link,
    read_choice,
    read_int,
    read_page,
    read_period,
    read_query,
    read_text,
    succeed_fast,
)
from tallycast.web.notes import explain_absence
from tallycast.web.openapi import LIMIT, OFFSET, Doc, Parameter
from tallycast.web.services import of
from tallycast.web.tags import succeed_tagged

# A report takes milliseconds: a database that hangs is away, and the client is told so.
_PATIENCE_SECONDS = 10.0
_CHANNELS = ("sms", "whatsApp")
_MOMENT = {"type": "string", "format": "date-time", "examples": ["2022-11-07T00:00:00.000Z"]}
_SUMMARY_EXAMPLE: list[dict[str, Any]] = [
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
        "failed": 28,
    },
    {
        "id": "1882651363373250001",
        "date": "2026-11-22T09:30:00.000Z",
        "campaignName": "Reminder",
        "channel": "SMS",
        "createdBy": "Mei",
        "sender": {"phone": "SHOP", "senderEID": "eid-42"},
        "totalRecipients": 300,
        "delivered": 291,
    },
]
_DETAIL_EXAMPLE: list[dict[str, Any]] = [
    {
        "id": "1882651363373250001",
        "date": "2026-11-22T09:30:00.000Z",
        "sender": {"phone": "SHOP", "senderEID": "eid-42"},
        "recipient": "+85298765432",
        "recipientCountry": "HK",
        "content": "See you tomorrow at ten",
        "numSMS": 1,
        "status": "Delivered",
        "carrierNetworkStatus": "Delivered",
        "LastUpdatedDateTime": "2026-11-22T09:30:04.000Z",
    }
]


@get(
    "/data/sent-campaigns-summary",
    scope="reports:read",
    is_direct=True,
    doc=Doc(
        operation_id="getSentCampaignsSummary",
        summary="Sent campaigns with their totals, the newest first",
        tag="Reports",
        query=(
            Parameter("startAt", "The period's begin (RFC 3339), included. Needs endAt.", _MOMENT),
            Parameter("endAt", "The period's end (RFC 3339), not included. Needs startAt.", _MOMENT),
            Parameter(
                "channel",
                "sms or whatsApp; both when empty.",
                {"type": "string", "enum": ["sms", "whatsApp", ""]},
            ),
            LIMIT,
            OFFSET,
        ),
        result=list[Summary],
        example=_SUMMARY_EXAMPLE,
        errors=(BadQuery,),
        is_tagged=True,
    ),
)
async def get_sent_campaigns_summary(request: Asked, appID: str) -> Encoded:
    """Campaigns whose `date` is in `startAt <= date < endAt`. Fields that a channel does not have are left out:
    an SMS campaign has no `subject`, `read`, `replied`, `pending`, `failed`, `sender.channelName` and
    `sender.sourceName`; a WhatsApp campaign has no `sender.senderEID`.

    `delivered` includes the messages that were read. `replied` counts each button once per recipient, and every
    click of a link by a person. While there is more, the header `Link` leads to the next page.

    The `ETag` stands for the result: send it back in `If-None-Match`, and the answer is 304, without a body, as long
    as no figure of the page has changed.
    """
    query = read_query(request)
    limit, offset = read_page(query)
    start_at, end_at = read_period(query)
    channel_type = read_choice(query, "channel", _CHANNELS)
    async with of(request).readers.lend(_PATIENCE_SECONDS) as connection:
        page = await reports.summarize(connection, appID, limit, offset, start_at, end_at, channel_type)
    headers = next_link(request, f"offset={offset + limit}") if page.has_more and limit else None
    return succeed_tagged(request, page.rows, headers)


@get(
    "/data/sent-campaigns-detail",
    scope="reports:read",
    is_direct=True,
    doc=Doc(
        operation_id="getSentCampaignsDetail",
        summary="What became of each recipient of a campaign",
        tag="Reports",
        query=(
            Parameter("historyID", "A campaign's id from the summary.", {"type": "string"}, required=True),
            Parameter(
                "status",
                "Only recipients with this status.",
                {"type": "string", "enum": sorted(set(reports.STATUS_WORDS.values()))},
            ),
            Parameter(
                "cursor",
                "Where to go on: taken from the Link header, as fast at the millionth recipient as at the first.",
                {"type": "integer", "format": "int32", "minimum": 0},
            ),
            LIMIT,
            OFFSET,
        ),
        result=list[Detail],
        example=_DETAIL_EXAMPLE,
        errors=(BadQuery, NotFound),
    ),
)
async def get_sent_campaigns_detail(request: Asked, appID: str) -> Encoded:
    """Recipients in the order in which they were recorded. Page with `offset`, or follow `Link` with its cursor.

    SMS: Pending (not handed over), Submitted, Delivered, Undelivered. WhatsApp: Queued (not handed over), Pending,
    Delivered, Read, Failed.
    """
    query = read_query(request)
    limit, offset = read_page(query)
    history_id = read_text(query, "historyID")
    if history_id is None:
        raise BadQuery.of("historyID is required: the id of a campaign from sent-campaigns-summary")
    status = read_text(query, "status")
    if status is not None and status.lower() not in reports.STATUS_WORDS:
        raise BadQuery.of(
            f"status must be one of {', '.join(reports.STATUS_WORDS.values())}, not {status[:40]!r}"
        )
    cursor = read_int(query, "cursor", 0)
    if cursor < 0:
        raise BadQuery.of("cursor must be one that a Link header gave")
    async with of(request).readers.lend(_PATIENCE_SECONDS) as connection:
        page = await reports.detail(connection, appID, history_id, limit, offset, cursor, status)
        campaign_id = parse_id(history_id)
        headers = {} if page.rows else await explain_absence(connection, appID, campaign_id)
    if page.has_more and limit:
        headers = next_link(request, f"cursor={page.next_cursor}")
    return succeed_fast(request, page.rows, headers)
