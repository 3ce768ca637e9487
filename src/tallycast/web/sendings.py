"""Campaigns that tallycast sends itself, over HTTP: making them, looking at them, and what they will send."""

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from litestar import Response, delete, get, patch, post

from tallycast import campaigns, db, drafts, previews, rendering, sendings, standings
from tallycast.drafts import NewSending, SendingChange
from tallycast.errors import BadQuery, NotFound, TooLarge, Unprocessable, UnsupportedMediaType
from tallycast.idempotency import Answer
from tallycast.previews import Message
from tallycast.rendering import RenderError
from tallycast.sendings import STAGES
from tallycast.standings import Standing, Step
from tallycast.web.answers import (
    Asked,
    Query,
    create,
    decode,
    encode,
    next_link,
    read_choice,
    read_int,
    read_json,
    read_page,
    read_query,
    read_text,
    succeed,
)
from tallycast.web.auth import actor_of
from tallycast.web.openapi import LIMIT, OFFSET, Doc, Parameter
from tallycast.web.services import of

_MAX_SHOWN = 50
_DEFAULT_SHOWN = 5
_NEW_EXAMPLE = {
    "campaignName": "Spring sale",
    "kind": "smsDynamic",
    "channelID": "app-3fZk9Qw2LmXy-8sKdPq0vTnRzE4hJcB7aUf",
    "createdBy": "Mei",
    "content": "Hi {{name}}, your voucher: https://shop.example.com/sale",
    "trackLinks": True,
    "scheduledAt": "2027-12-01T09:00:00+08:00",
}
_EXAMPLE = {
    "id": "1882651363373254867",
    "campaignName": "Spring sale",
    "kind": "smsDynamic",
    "stage": "draft",
    "channelID": "app-3fZk9Qw2LmXy-8sKdPq0vTnRzE4hJcB7aUf",
    "createdBy": "Mei",
    "senderEID": "",
    "columns": [],
    "trackLinks": True,
    "createdAs": "token 4fGh7Kq2Lm (shop)",
    "createdAt": "2026-11-23T03:00:00.000Z",
    "totals": {
        "totalRecipients": 0,
        "queued": 0,
        "pending": 0,
        "delivered": 0,
        "read": 0,
        "failed": 0,
        "replied": 0,
    },
    "content": "Hi {{name}}, your voucher: https://shop.example.com/sale",
    "scheduledAt": "2027-12-01T01:00:00.000Z",
    "unknown": 0,
}


class _Fixed(msgspec.Struct):
    """What a campaign has for good."""

    kind: Any = None
    channel_id: Any = msgspec.field(name="channelID", default=None)


class Preview(msgspec.Struct, rename="camel"):
    """The first messages, and what all of them take: SMS parts, and their price where `costPerPart` is given.

    `failing` recipients' messages cannot be filled in; `error` says why, of the first of them.
    """

    messages: list[Message]
    total_recipients: int
    failing: int
    error: str | msgspec.UnsetType = msgspec.UNSET
    parts: int | msgspec.UnsetType = msgspec.UNSET
    cost: float | msgspec.UnsetType = msgspec.UNSET


@post(
    "/campaigns",
    scope="campaigns:write",
    doc=Doc(
        operation_id="createCampaign",
        summary="Make a campaign that tallycast sends",
        tag="Sending",
        body=NewSending,
        body_example=_NEW_EXAMPLE,
        result=Standing,
        status=201,
        example=_EXAMPLE,
        errors=(BadQuery, TooLarge, UnsupportedMediaType, Unprocessable),
        is_idempotent=True,
    ),
)
async def create_campaign(request: Asked, appID: str) -> Response[bytes]:
    """It begins as a draft: import its audience, look at the preview, send a test, then submit, schedule or start it.

    `smsStandard` sends each recipient the text of the file's `Content` column. `smsDynamic` sends `content`, where
    `{{column}}` stands for the recipient's value of that column. `whatsApp` sends the approved `template`, whose
    parameters may hold `{{column}}` too. With `trackLinks` each URL in an SMS text becomes a short link of its own
    per recipient.
    """
    body = await read_json(request)
    new = decode(body, NewSending)

    async def work(connection: db.Connection) -> Answer:
        made = await drafts.create(connection, appID, new, actor_of(request))
        return Answer(201, encode(standings.describe(made, 0)))

    return await create(request, appID, body, work)


@get(
    "/campaigns",
    scope="reports:read",
    doc=Doc(
        operation_id="listCampaigns",
        summary="The campaigns that tallycast sends, the newest first",
        tag="Sending",
        query=(
            LIMIT,
            OFFSET,
            Parameter("stage", "Only campaigns in this stage.", {"type": "string", "enum": list(STAGES)}),
        ),
        result=list[Standing],
        errors=(BadQuery,),
    ),
)
async def list_campaigns(request: Asked, appID: str) -> Response[bytes]:
    """In every stage, drafts too. `sent-campaigns-summary` has those that went out, also those of other systems. While
    there is more, the header `Link` leads to the next page.
    """
    query = read_query(request)
    limit, offset = read_page(query)
    stage = read_choice(query, "stage", STAGES)
    async with of(request).pool.connection() as connection:
        found = await sendings.list_page(connection, appID, stage, limit + 1, offset)
    headers = next_link(request, f"offset={offset + limit}") if len(found) > limit > 0 else None
    return succeed(request, [standings.describe(one) for one in found[:limit]], headers=headers)


@get(
    "/campaigns/{campaignID:str}",
    scope="reports:read",
    doc=Doc(
        operation_id="getCampaign",
        summary="One campaign that tallycast sends",
        tag="Sending",
        result=Standing,
        example={
            **_EXAMPLE,
            "stage": "sending",
            "waitingFor": {
                "reason": "What is left was put off: quiet hours until 01:00 UTC",
                "until": "2026-12-02T01:00:00.000Z",
            },
        },
        errors=(NotFound,),
    ),
)
async def get_campaign(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Its totals are those of this moment. `unknown` messages may have gone out or not: see `…/unknown`. `failures`
    says why messages failed, the most frequent first, 50 at most. `waitingFor` is there while the campaign is sending,
    or due, and does not move: it says why, and until when, where that is known.
    """
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        return succeed(request, await standings.find(connection, appID, campaign_id))


@patch(
    "/campaigns/{campaignID:str}",
    scope="campaigns:write",
    doc=Doc(
        operation_id="changeCampaign",
        summary="Change a draft",
        tag="Sending",
        body=SendingChange,
        body_example={"campaignName": "Summer sale", "scheduledAt": None},
        result=Standing,
        errors=(BadQuery, NotFound, Unprocessable, UnsupportedMediaType),
    ),
)
async def change_campaign(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """What is left out stays. Kind and channel cannot change; a scheduled campaign is moved by `…/schedule`."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        await sendings.find(connection, appID, campaign_id)
    body = await read_json(request)
    if decode(body, _Fixed) != _Fixed():
        raise BadQuery.of("kind and channelID cannot be changed: make another campaign")
    wanted = decode(body, SendingChange)
    async with of(request).pool.connection() as connection, connection.transaction():
        changed = await drafts.change(connection, appID, campaign_id, wanted)
    return succeed(request, standings.describe(changed, 0))


@delete(
    "/campaigns/{campaignID:str}",
    status_code=200,
    scope="campaigns:write",
    doc=Doc(
        operation_id="deleteCampaign",
        summary="Delete a draft with its audience",
        tag="Sending",
        result=dict[str, str],
        example={},
        errors=(NotFound, Unprocessable),
    ),
)
async def delete_campaign(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Only a draft: what was submitted is cancelled instead, and its history stays."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection, connection.transaction():
        await drafts.delete(connection, appID, campaign_id)
    return succeed(request, {})


@get(
    "/campaigns/{campaignID:str}/transitions",
    scope="reports:read",
    doc=Doc(
        operation_id="listTransitions",
        summary="What happened to a campaign: every change of its stage",
        tag="Sending",
        result=list[Step],
        example=[
            {
                "action": "submit",
                "from": "draft",
                "to": "pendingApproval",
                "actor": "token 4fGh7Kq2Lm (shop)",
                "note": "",
                "at": "2026-11-23T03:05:00.000Z",
            }
        ],
        errors=(NotFound,),
    ),
)
async def list_transitions(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """In order. `actor` is the token (its id and name), the user of the command line, or `tallycast` itself."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        return succeed(request, await standings.list_steps(connection, appID, campaign_id))


@get(
    "/campaigns/{campaignID:str}/preview",
    scope="reports:read",
    doc=Doc(
        operation_id="previewCampaign",
        summary="What the first recipients will get, and how many SMS parts all of them take",
        tag="Sending",
        query=(
            Parameter(
                "limit",
                "How many messages to show.",
                {"type": "integer", "minimum": 0, "maximum": _MAX_SHOWN, "default": _DEFAULT_SHOWN},
            ),
            Parameter("costPerPart", "The price of one SMS part, e.g. 0.045.", {"type": "number"}),
        ),
        result=Preview,
        example={
            "messages": [{"recipient": "+85298765432", "text": "Hi Mei, your voucher: 8821", "parts": 1}],
            "totalRecipients": 120_000,
            "failing": 0,
            "parts": 120_311,
            "cost": 5413.995,
        },
        errors=(BadQuery, NotFound, Unprocessable),
    ),
)
async def preview_campaign(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """The texts are exactly those that will be sent, tracked links too, and so is the number of parts: every
    message is filled in for it, which takes some seconds for a million.
    """
    campaign_id = campaigns.parse_id(campaignID)
    query = read_query(request)
    limit = read_int(query, "limit", _DEFAULT_SHOWN)
    if not 0 <= limit <= _MAX_SHOWN:
        raise BadQuery.of(f"limit must be from 0 to {_MAX_SHOWN}")
    price = _read_price(query)
    services = of(request)
    try:
        async with services.pool.connection() as connection:
            sending = await sendings.find(connection, appID, campaign_id)
            base_url = services.settings.base_url
            renderer = await rendering.load_renderer(connection, appID, campaign_id, base_url)
            first = await sendings.list_texts(connection, appID, campaign_id, 0, limit)
    except RenderError as error:
        raise Unprocessable(str(error)) from None
    size = await previews.measure(renderer, sendings.each_page(services.pool.connection, appID, campaign_id))
    preview = Preview(previews.show(renderer, sending, first), sending.total, size.failing)
    preview.error = size.error or msgspec.UNSET
    if sending.type == "sms":
        preview.parts = size.parts
        preview.cost = msgspec.UNSET if price is None else float(price * size.parts)
    return succeed(request, preview)


def _read_price(query: Query) -> Decimal | None:
    text = read_text(query, "costPerPart")
    try:
        price = None if text is None else Decimal(text)
    except InvalidOperation:
        price = Decimal(-1)
    if price is not None and not (price.is_finite() and 0 <= price <= 1_000_000):  # noqa: PLR2004 - more is a mistake
        raise BadQuery.of(f"costPerPart must be a price like 0.045, not {str(text)[:40]!r}")
    return price
