"""What became of a campaign and of each of its recipients, and what of an app waits for a person."""

from typing import Any

from litestar import Response, get

from tallycast import attention, campaigns, insights, recipients
from tallycast.attention import Attention
from tallycast.errors import BadQuery, NotFound
from tallycast.insights import Insights
from tallycast.recipients import STANDINGS, Filter, Recipient, Story
from tallycast.web.answers import (
    Asked,
    Encoded,
    Query,
    next_link,
    read_choice,
    read_int,
    read_page,
    read_query,
    read_text,
    succeed,
    succeed_fast,
)
from tallycast.web.notes import explain_absence
from tallycast.web.openapi import LIMIT, Doc, Parameter
from tallycast.web.services import of

# How a parameter names what has none: an empty one is absent.
_NONE = "-"
_INT32_DIGITS = 10
_MAX_SEQ = 2**31 - 1
_TEXT = {"type": "string"}
_INSIGHTS_EXAMPLE: dict[str, Any] = {
    "computedAt": "2026-11-23T03:10:00.000Z",
    "funnel": {
        "total": 1200,
        "queued": 0,
        "pending": 42,
        "sent": 1200,
        "delivered": 1130,
        "read": 845,
        "failed": 28,
        "unknown": 0,
        "replied": 97,
        "repliedPeople": 88,
        "clickedPeople": 31,
        "deliveredRate": 0.9417,
        "failedRate": 0.0233,
        "readRate": 0.7478,
        "repliedRate": 0.0779,
        "clickedRate": 0.0274,
    },
    "timeline": {
        "bucketSeconds": 60,
        "points": [
            {
                "at": "2026-11-23T03:00:00.000Z",
                "accepted": 1200,
                "delivered": 1130,
                "read": 845,
                "failed": 28,
                "clicks": 40,
            }
        ],
    },
    "countries": [{"country": "HK", "total": 1200, "delivered": 1130, "read": 845, "failed": 28}],
    "links": [
        {
            "url": "https://shop.example.com/sale",
            "hits": 55,
            "clicks": 40,
            "people": 31,
            "setAside": {"preview or crawler: whatsapp": 15},
        }
    ],
    "buttons": [{"button": "yes", "people": 57}],
    "failures": [
        {
            "code": "131026",
            "title": "Message undeliverable",
            "count": 28,
            "words": "The message cannot be delivered: the number is not on WhatsApp, has an old version, or has not "
            "accepted its terms.",
            "retryable": False,
            "provider": "meta",
            "whatToDo": "Reach this recipient by SMS.",
        }
    ],
}
_RECIPIENT_EXAMPLE = {
    "seq": 3,
    "recipient": "+85298765432",
    "country": "HK",
    "channelID": "app-3fZk9Qw2LmXy-8sKdPq0vTnRzE4hJcB7aUf",
    "referenceID": "tc:1882651363373254867.3",
    "state": "read",
    "parts": 1,
    "messageID": "wamid.HBgLODUyOTg3NjU0MzI",
    "acceptedAt": "2026-11-23T03:00:01.000Z",
    "deliveredAt": "2026-11-23T03:00:04.000Z",
    "readAt": "2026-11-23T03:07:00.000Z",
}
_STORY_EXAMPLE = {
    "recipient": _RECIPIENT_EXAMPLE,
    "events": [
        {
            "kind": "accepted",
            "at": "2026-11-23T03:00:01.000Z",
            "words": "Handed over as a WhatsApp message.",
            "about": "message",
            "channelID": "app-3fZk9Qw2LmXy-8sKdPq0vTnRzE4hJcB7aUf",
            "messageID": "wamid.HBgLODUyOTg3NjU0MzI",
        },
        {
            "kind": "delivered",
            "at": "2026-11-23T03:00:04.000Z",
            "words": "Delivered.",
            "about": "message",
        },
        {"kind": "read", "at": "2026-11-23T03:07:00.000Z", "words": "Read.", "about": "message"},
        {
            "kind": "button",
            "at": "2026-11-23T03:07:30.000Z",
            "words": "Chose the button yes.",
            "about": "message",
            "button": "yes",
        },
    ],
}
_ATTENTION_EXAMPLE = {
    "parked": {"count": 2, "oldestAt": "2026-11-23T03:00:00.000Z", "ageSeconds": 614.2},
    "unknown": {"count": 1, "oldestAt": "2026-11-23T03:02:00.000Z", "ageSeconds": 494.2},
    "unknownByCampaign": [
        {"campaignID": "1882651363373254867", "count": 1, "oldestAt": "2026-11-23T03:02:00.000Z"}
    ],
    "unreadable": {"count": 0, "latestAt": None},
    "pausedChannels": [],
    "pausedCampaigns": [
        {
            "campaignID": "1882651363373254867",
            "campaignName": "Spring sale",
            "pausedAt": "2026-11-23T03:05:00.000Z",
            "reason": "paused by token 4fGh7Kq2Lm (shop)",
        }
    ],
}


@get(
    "/data/campaigns/{campaignID:str}/insights",
    scope="reports:read",
    doc=Doc(
        operation_id="getInsights",
        summary="A campaign's funnel, timeline, countries, links, buttons and failures",
        tag="Reports",
        result=Insights,
        example=_INSIGHTS_EXAMPLE,
        errors=(NotFound,),
    ),
)
async def get_insights(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """For campaigns that tallycast sends and for those that were recorded. The funnel's totals are those of this
    moment; the rest may be some seconds old while a large campaign moves: `computedAt`.
    """
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        return succeed(request, await insights.find_all(connection, appID, campaign_id))


@get(
    "/data/campaigns/{campaignID:str}/recipients",
    scope="reports:read",
    doc=Doc(
        operation_id="listRecipients",
        summary="Who is behind a figure of a campaign, and who has a number",
        tag="Reports",
        query=(
            Parameter(
                "state",
                "A figure of the funnel: sent is all that left the queue, delivered holds read, pending holds unknown, "
                "replied are those who chose a button or followed a link, clicked those who followed one.",
                {"type": "string", "enum": list(STANDINGS)},
            ),
            Parameter("errorCode", "Only those that failed with this code; - for none.", _TEXT),
            Parameter("errorTitle", "Only those that failed with this title; - for none.", _TEXT),
            Parameter("provider", "Only those that failed at this provider.", _TEXT),
            Parameter("country", "An ISO 3166 code; - for numbers that tell none.", _TEXT),
            Parameter("button", "Only those who chose this button.", _TEXT),
            Parameter("link", "Only those who followed the link to this URL.", _TEXT),
            Parameter("number", "A phone number, or its first digits, with the country code.", _TEXT),
            Parameter(
                "cursor",
                "Where to go on: taken from the Link header.",
                {"type": "integer", "format": "int32", "minimum": 0},
            ),
            LIMIT,
        ),
        result=list[Recipient],
        example=[_RECIPIENT_EXAMPLE],
        errors=(BadQuery, NotFound),
    ),
)
async def list_recipients(request: Asked, appID: str, campaignID: str) -> Encoded:
    """In the order of recording; all conditions must hold. Each figure of the insights has the filter that lists
    exactly the recipients behind it. While there is more, the header `Link` leads to the next page.
    """
    campaign_id = campaigns.parse_id(campaignID)
    query = read_query(request)
    limit, _ = read_page(query)
    cursor = read_int(query, "cursor", 0)
    if cursor < 0:
        raise BadQuery.of("cursor must be one that a Link header gave")
    wanted = _read_filter(query)
    async with of(request).readers.connection() as connection:
        page = await recipients.list_page(connection, appID, campaign_id, wanted, cursor, limit)
        headers = {} if page.rows else await explain_absence(connection, appID, campaign_id)
    if page.next_cursor is not None:
        headers = next_link(request, f"cursor={page.next_cursor}")
    return succeed_fast(request, page.rows, headers)


def _read_filter(query: Query) -> Filter:
    country = _read_plain(query, "country")
    return Filter(
        read_choice(query, "state", STANDINGS),
        _read_plain(query, "errorCode"),
        _read_plain(query, "errorTitle"),
        _read_plain(query, "provider"),
        None if country is None else country.upper(),
        _read_said(query, "button"),
        _read_said(query, "link"),
        _read_said(query, "number"),
    )


def _read_plain(query: Query, name: str) -> str | None:
    text = _read_said(query, name)
    return "" if text == _NONE else text


def _read_said(query: Query, name: str) -> str | None:
    """No row has a NUL, and the database takes none."""
    text = read_text(query, name)
    if text is not None and "\0" in text:
        raise BadQuery.of(f"{name} must be a text without NUL")
    return text


@get(
    "/data/campaigns/{campaignID:str}/recipients/{seq:str}",
    scope="reports:read",
    doc=Doc(
        operation_id="getRecipient",
        summary="One recipient's whole story",
        tag="Reports",
        result=Story,
        example=_STORY_EXAMPLE,
        errors=(NotFound,),
    ),
)
async def get_recipient(request: Asked, appID: str, campaignID: str, seq: str) -> Response[bytes]:
    """Every event in order, with words for people: facts, earlier attempts and fallback, buttons, hits of links with
    why one is not counted, what the recipient wrote, and what the message waits for. `seq` is a recipient's position.
    """
    campaign_id = campaigns.parse_id(campaignID)
    is_position = seq.isascii() and seq.isdecimal() and len(seq) <= _INT32_DIGITS and int(seq) <= _MAX_SEQ
    if not is_position:
        raise NotFound(f"no recipient {seq[:40]}")
    async with of(request).pool.connection() as connection:
        return succeed(request, await recipients.tell_story(connection, appID, campaign_id, int(seq)))


@get(
    "/data/attention",
    scope="reports:read",
    doc=Doc(
        operation_id="getAttention",
        summary="What waits for a person: parked receipts, unknown outcomes, what is paused or not understood",
        tag="Reports",
        result=Attention,
        example=_ATTENTION_EXAMPLE,
    ),
)
async def get_attention(request: Asked, appID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        return succeed(request, await attention.find(connection, appID))
