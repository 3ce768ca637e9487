"""Telling tallycast about campaigns that another system sent: the campaign, its messages, its links."""

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Iterable
from typing import IO

import msgspec
from litestar import Response, get, post
from litestar.response import Stream

from tallycast import (
    apps,
    campaigns,
    channels,
    db,
    idempotency,
    links,
    messages,
    receipts,
    recordings,
    sendings,
)
from tallycast.campaigns import SentCampaign
from tallycast.errors import BadQuery, NotFound, TooLarge, Unprocessable, UnsupportedMediaType
from tallycast.idempotency import Answer
from tallycast.messages import Entry, Line, Rejected
from tallycast.references import write_reference
from tallycast.web.answers import (
    Asked,
    cid_of,
    create,
    decode,
    encode,
    read_json,
    refuse_compressed,
    succeed_raw,
)
from tallycast.web.openapi import Doc
from tallycast.web.services import of
from tallycast.web.streams import read_chunks, send_report

log = logging.getLogger("tallycast.campaigns")
_PAGE = 5000
_KEPT_REPORT = 1_000_000
_CAMPAIGN_EXAMPLE = {
    "campaignName": "Spring sale",
    "channelID": "app-3fZk9Qw2LmXy-8sKdPq0vTnRzE4hJcB7aUf",
    "createdBy": "Mei",
    "subject": "spring_sale_v3",
    "messages": [{"recipient": "+85298765432", "messageID": "wamid.HBgLODUyOTg3NjU0MzI"}],
}


class Recording(msgspec.Struct):
    """How a recording went: `accepted` counts the messages that are kept now, also those that were before."""

    id: str
    accepted: int
    rejected: list[Rejected]


class NewLink(msgspec.Struct, forbid_unknown_fields=True):
    url: str


class MessageLink(msgspec.Struct):
    recipient: str
    url: str


class Links(msgspec.Struct):
    links: list[MessageLink]


class Reference(msgspec.Struct, rename="camel"):
    """tallycast's own id of a message, for `biz_opaque_callback_data` and button payloads."""

    recipient: str
    reference: str
    message_id: str | None = msgspec.field(name="messageID", default=None)


class References(msgspec.Struct):
    messages: list[Reference]


@post(
    "/sent-campaigns",
    scope="campaigns:write",
    doc=Doc(
        operation_id="recordSentCampaign",
        summary="Record a campaign that another system sent",
        tag="Campaigns",
        body=SentCampaign,
        body_example=_CAMPAIGN_EXAMPLE,
        result=Recording,
        status=201,
        example={"id": "1882651363373254867", "accepted": 1, "rejected": []},
        errors=(BadQuery, TooLarge, UnsupportedMediaType, Unprocessable),
        is_idempotent=True,
    ),
)
async def record_sent_campaign(request: Asked, appID: str) -> Response[bytes]:
    """A message with a `messageID` was handed to the provider; one without is queued until it is completed by
    `…/messages`. Bad messages are answered in `rejected`, the good ones are kept. Many messages: use `…/messages`.
    """
    body = await read_json(request)
    sent = decode(body, SentCampaign)
    lines = (messages.read_entry(index, msgspec.UNSET, raw) for index, raw in enumerate(sent.messages))
    rows, rejected = await asyncio.to_thread(messages.parse_rows, lines)
    matchable: list[tuple[int, list[str]]] = []

    async def work(connection: db.Connection) -> Answer:
        channel = await _find_channel(connection, appID, sent.channel_id)
        campaign_id = await campaigns.record(connection, appID, channel, sent)
        matchable.clear()
        accepted, refused = 0, list(rejected)
        for start in range(0, len(rows), messages.BATCH):
            part = await messages.record(connection, appID, campaign_id, rows[start : start + messages.BATCH])
            accepted += part.accepted
            refused += part.rejected
            matchable.append((part.channel_number, part.message_ids))
        refused.sort(key=lambda row: row.index)
        return Answer(201, encode(Recording(str(campaign_id), accepted, refused)))

    answer = await create(request, appID, body, work)
    await _match(request, appID, matchable)
    return answer


async def _find_channel(connection: db.Connection, app_id: str, channel_id: str) -> channels.Channel:
    try:
        return await channels.find(connection, app_id, channel_id)
    except NotFound:
        raise BadQuery.of(f"channelID must be a channel of this app, not {channel_id[:80]!r}") from None


async def _match(request: Asked, app_id: str, named: Iterable[tuple[int, list[str]]]) -> None:
    """After the commit: receipts may have come before their messages."""
    try:
        async with of(request).pool.connection() as connection:
            for channel_number, message_ids in named:
                await receipts.match_recorded(connection, app_id, channel_number, message_ids)
    except db.AWAY as error:  # what was recorded stays; tidying matches the rest
        log.warning("parked receipts are matched later: %s", error, extra={"app": app_id})


@post(
    "/sent-campaigns/{campaignID:str}/messages",
    scope="campaigns:write",
    doc=Doc(
        operation_id="recordMessages",
        summary="Add or complete messages of a recorded campaign, streamed",
        tag="Campaigns",
        body=Entry,
        body_types=("application/x-ndjson", "text/csv"),
        result=Recording,
        status=201,
        example={
            "id": "1882651363373254867",
            "accepted": 999_999,
            "rejected": [{"index": 6, "recipient": "12", "error": "too short", "line": 7}],
        },
        errors=(BadQuery, NotFound, UnsupportedMediaType, Unprocessable),
        is_idempotent=True,
    ),
)
async def record_messages(request: Asked, appID: str, campaignID: str) -> Response[bytes] | Stream:
    """One JSON object per line, or CSV with the header `recipient,messageID` (and `content`, if you like). Lines are
    kept as they come, of any number; each bad line is answered with its number and the reason. Repeating the request
    changes nothing, so after a broken connection just send it again.
    """
    campaign_id = campaigns.parse_id(campaignID)
    read = recordings.reader_of(request.headers.get("content-type", ""))
    refuse_compressed(request)
    key = request.headers.get("idempotency-key")
    known = await _claim_stream(request, appID, campaign_id, key)
    if known is not None:
        return succeed_raw(request, known.result, known.status, {"Idempotency-Replayed": "true"})
    accepted = 0
    # Rejections can be as many as lines: beyond a megabyte they wait on disk, not in memory.
    report = tempfile.SpooledTemporaryFile(max_size=1_000_000)  # noqa: SIM115 - closed by the answer's stream
    count = 0
    async for lines in recordings.batches(read(read_chunks(request))):
        part = await _record_batch(request, appID, campaign_id, lines)
        accepted += part.accepted
        for row in sorted(part.rejected, key=lambda row: row.index):
            report.write((b"," if count else b"") + encode(row))
            count += 1
    head = b'{"id":"%d","accepted":%d,"rejected":[' % (campaign_id, accepted)
    if key is not None:
        await _keep_stream(request, appID, key, head, report)
    return Stream(
        send_report(report, b'{"code":200,"result":' + head, cid_of(request)),
        status_code=201,
        media_type="application/json",
    )


async def _record_batch(
    request: Asked, app_id: str, campaign_id: int, lines: list[Line]
) -> messages.Recorded:
    rows, rejected = await asyncio.to_thread(messages.parse_rows, lines)

    async def work(connection: db.Connection) -> messages.Recorded:
        async with connection.transaction():
            return await messages.record(connection, app_id, campaign_id, rows)

    async with of(request).pool.connection() as connection:
        part = await db.retry_conflicts(lambda: work(connection))
        await receipts.match_recorded(connection, app_id, part.channel_number, part.message_ids)
    return part._replace(rejected=[*rejected, *part.rejected])


async def _claim_stream(request: Asked, app_id: str, campaign_id: int, key: str | None) -> Answer | None:
    """The stored answer for a key. A stream's body cannot be compared, so the key stands for its path alone; a
    request that was cut off before its answer may simply be sent again, since repeating lines changes nothing.
    """
    async with of(request).pool.connection() as connection:
        await campaigns.require(connection, app_id, campaign_id)
        await sendings.refuse(connection, app_id, campaign_id)
        if key is None:
            return None
        idempotency.check_key(key)
        return await idempotency.claim_again(connection, app_id, key, _stream_print(request))


def _stream_print(request: Asked) -> bytes:
    return idempotency.fingerprint(b"stream", request.scope["path"].encode())


async def _keep_stream(request: Asked, app_id: str, key: str, head: bytes, report: IO[bytes]) -> None:
    if report.tell() > _KEPT_REPORT:
        return  # repeating the request gives it again, since lines that are known change nothing
    report.seek(0)
    result = head + report.read() + b"]}"
    async with of(request).pool.connection() as connection:
        await idempotency.keep(connection, app_id, key, Answer(201, result))


@get(
    "/sent-campaigns/{campaignID:str}/messages",
    scope="campaigns:write",
    doc=Doc(
        operation_id="listReferences",
        summary="tallycast's own reference of each message of a campaign",
        tag="Campaigns",
        result=References,
        example={"messages": [{"recipient": "+85298765432", "reference": "tc:1882651363373254867.0"}]},
        errors=(NotFound,),
    ),
)
async def list_references(request: Asked, appID: str, campaignID: str) -> Stream:
    """Send a reference along as `biz_opaque_callback_data`, or in front of a quick-reply payload
    (`<reference>:<payload>`): receipts and clicks then find their message without its `messageID`.
    """
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        await campaigns.require(connection, appID, campaign_id)
    rows = (
        encode(Reference(row.recipient, write_reference(campaign_id, row.seq), row.message_id))
        async for row in _each_message(request, appID, campaign_id)
    )
    return Stream(_send_list(rows, b"messages", cid_of(request)), media_type="application/json")


@post(
    "/sent-campaigns/{campaignID:str}/links",
    scope="campaigns:write",
    doc=Doc(
        operation_id="createLinks",
        summary="One tracked link per message of a campaign",
        tag="Campaigns",
        body=NewLink,
        body_example={"url": "https://shop.example.com/sale"},
        result=Links,
        status=201,
        example={
            "links": [{"recipient": "+85298765432", "url": "https://l.example.com/r/aB3dXy7Zk3vQ9pLw2Qe"}]
        },
        errors=(BadQuery, NotFound, UnsupportedMediaType, Unprocessable),
        is_idempotent=True,
    ),
)
async def create_links(request: Asked, appID: str, campaignID: str) -> Response[bytes] | Stream:
    """The same target gives the same links again, for messages that were added meanwhile too."""
    campaign_id = campaigns.parse_id(campaignID)
    body = await read_json(request)
    url = links.check_url(decode(body, NewLink).url)
    made: list[links.Link] = []

    async def work(connection: db.Connection) -> Answer:
        await campaigns.require(connection, appID, campaign_id)
        made.append(await links.create(connection, appID, campaign_id, url))
        return Answer(201, b"{}")

    answer = await create(request, appID, body, work)
    async with of(request).pool.connection() as connection:
        app = await apps.find_app(connection, appID)
        link = made[-1] if made else await links.create(connection, appID, campaign_id, url)
    assert app is not None
    of(request).targets.remember(app.app_key, link)
    base = of(request).settings.base_url
    rows = (
        encode(MessageLink(row.recipient, f"{base}/r/{links.mint_code(link, app.app_key, row.seq)}"))
        async for row in _each_message(request, appID, campaign_id)
    )
    headers = {
        name: value for name, value in answer.headers.items() if name.lower() == "idempotency-replayed"
    }
    return Stream(
        _send_list(rows, b"links", cid_of(request)),
        status_code=201,
        media_type="application/json",
        headers=headers,
    )


async def _each_message(request: Asked, app_id: str, campaign_id: int) -> AsyncIterator[messages.Listed]:
    """All messages page by page: no connection is held while a slow client reads."""
    position = 0
    while True:
        async with of(request).pool.connection() as connection:
            page = await messages.list_from(connection, app_id, campaign_id, position, _PAGE)
        for row in page:
            yield row
        if len(page) < _PAGE:
            return
        position = page[-1].seq + 1


async def _send_list(rows: AsyncIterator[bytes], name: bytes, cid: str) -> AsyncIterator[bytes]:
    buffer = bytearray(b'{"code":200,"result":{"%b":[' % name)
    comma = b""
    async for row in rows:
        buffer += comma + row
        comma = b","
        if len(buffer) > 65_536:  # noqa: PLR2004 - one write per 64 KiB
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer) + b']},"cid":"%b"}' % cid.encode()
