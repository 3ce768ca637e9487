"""Webhooks: authenticate, parse, make durable, answer 200."""

import logging
from typing import Literal
from urllib.parse import parse_qsl

import msgspec
from litestar import Response, get, post

from tallycast.channels import OpenChannel
from tallycast.config import Settings
from tallycast.errors import Forbidden, NotFound, TooLarge, Unauthorized
from tallycast.events import Unreadable
from tallycast.providers import PROVIDERS, Signed, meta
from tallycast.receipts import Arrival, now_ms
from tallycast.telemetry import EVENTS, UNREADABLE
from tallycast.web.answers import Asked, read_body, succeed_raw
from tallycast.web.openapi import Doc, Parameter
from tallycast.web.services import of

log = logging.getLogger("tallycast.webhooks")
_EXAMPLE = {"receipts": [{"messageID": "m-1", "status": "delivered", "timestamp": "2026-11-23T03:00:04Z"}]}
# Credentials that prove a webhook's origin; the others are for sending.
_PROOF_KEYS = frozenset({"appSecret", "authToken", "signatureSecret", "verifyToken"})
_EMPTY_TWIML = b'<?xml version="1.0" encoding="UTF-8"?><Response/>'


class GenericReceipt(msgspec.Struct, rename="camel"):
    """One receipt of the generic format; the other providers' formats are theirs."""

    message_id: str = msgspec.field(name="messageID")
    status: Literal["accepted", "delivered", "read", "failed"]
    timestamp: str | int | None = None
    error_code: str | int | None = None
    error_title: str | None = None
    reference: str | None = None


class GenericReceipts(msgspec.Struct):
    receipts: list[GenericReceipt]


async def _open_channel(request: Asked, provider: str, channel_id: str) -> OpenChannel:
    known = await of(request).channels.find(channel_id)
    if known.channel.provider != provider:
        raise NotFound(f"no channel {channel_id} of {provider}")
    return known


def _urls(request: Asked, settings: Settings) -> tuple[str, ...]:
    """Under what URLs the provider may have called us: as we are known outside, and as the request says."""
    path = request.scope["path"]
    query = request.scope["query_string"].decode("latin-1")
    tail = f"{path}?{query}" if query else path
    host = request.headers.get("host", "")
    return f"{settings.base_url}{tail}", f"https://{host}{tail}", f"http://{host}{tail}"


def _authenticate(request: Asked, known: OpenChannel, body: bytes) -> None:
    secrets = known.secrets
    if not secrets.webhook_secret and _PROOF_KEYS.isdisjoint(secrets.credentials):
        return
    headers = dict(request.headers.items())
    signed = Signed(headers, _urls(request, of(request).settings), body)
    provider = PROVIDERS[known.channel.provider]
    if not provider.verify(secrets.webhook_secret, secrets.credentials, signed):
        raise Unauthorized("the request does not prove that it knows the channel's secret")


@post(
    "/webhooks/{provider:str}/{channelID:str}",
    status_code=200,
    doc=Doc(
        operation_id="receiveWebhook",
        summary="Where a provider posts receipts, replies and inbound messages",
        tag="Webhooks",
        body=GenericReceipts,
        body_example=_EXAMPLE,
        result=dict[str, int],
        example={"events": 1},
        errors=(Unauthorized, NotFound, TooLarge),
    ),
)
async def receive_webhook(request: Asked, provider: str, channelID: str) -> Response[bytes]:
    """200 means that every fact of the body is durable. A body, or a part, that is not understood is kept raw."""
    known = await _open_channel(request, provider, channelID)
    body = await read_body(request)
    _authenticate(request, known, body)
    events = PROVIDERS[provider].parse(body, request.headers.get("content-type", ""))
    channel = known.channel
    if events:
        await of(request).intake.receive(Arrival(channel.app_id, channel.channel_number, now_ms(), events))
        EVENTS.labels(provider, "all").inc(len(events))
    for event in events:
        if isinstance(event, Unreadable):
            UNREADABLE.labels(provider).inc()
            log.warning("not understood, kept raw: %s", event.reason, extra={"channel": channelID})
    if provider == "twilio":
        return Response(_EMPTY_TWIML, media_type="text/xml")
    return succeed_raw(request, b'{"events":%d}' % len(events))


@get(
    "/webhooks/{provider:str}/{channelID:str}",
    doc=Doc(
        operation_id="verifyWebhook",
        summary="Meta's handshake when a webhook is set",
        tag="Webhooks",
        query=(
            Parameter("hub.mode", "subscribe", {"type": "string"}, required=True),
            Parameter(
                "hub.verify_token", "the channel's verify token or secret", {"type": "string"}, required=True
            ),
            Parameter("hub.challenge", "what to answer", {"type": "string"}, required=True),
        ),
        content_type="text/plain",
        errors=(Forbidden, NotFound),
    ),
)
async def verify_webhook(request: Asked, provider: str, channelID: str) -> Response[str]:
    """Answers `hub.challenge` if `hub.verify_token` is the channel's, else 403."""
    known = await _open_channel(request, provider, channelID)
    if provider != "meta":
        raise NotFound("only Meta's webhooks have a handshake")
    query = dict(parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True))
    challenge = meta.answer_handshake(known.secrets.webhook_secret, known.secrets.credentials, query)
    if challenge is None:
        raise Forbidden("hub.verify_token is not the channel's")
    return Response(challenge, media_type="text/plain")
