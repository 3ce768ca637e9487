"""Webhooks: authenticate, parse, make durable, answer 200."""

import logging
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from litestar.types import Receive, Send

from tallycast.channels import PROOF_KEYS, OpenChannel
from tallycast.config import Settings
from tallycast.errors import Forbidden, MethodNotAllowed, MethodNotFound, NotFound, TooLarge, Unauthorized
from tallycast.events import Event, Receipt, Unreadable
from tallycast.providers import PROVIDERS, Signed, meta
from tallycast.providers.values import own_reference
from tallycast.receipts import Arrival, now_ms
from tallycast.telemetry import UNREADABLE
from tallycast.web.answers import Encoded, answer_or_fail, encode_answer, read_body, write_success
from tallycast.web.openapi import Doc, Operation, Parameter
from tallycast.web.services import Services

log = logging.getLogger("tallycast.webhooks")
_EXAMPLE = {"receipts": [{"messageID": "m-1", "status": "delivered", "timestamp": "2026-11-23T03:00:04Z"}]}
PATH = "/webhooks/{provider}/{channelID}"
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


class Hook(NamedTuple):
    """A webhook request, as far as it has to be known. `headers` have lower-case names."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    receive: Receive
    cid: str


def _read_hook(scope: Any, receive: Receive) -> Hook:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope["query_string"].decode("latin-1")
    return Hook(scope["method"], scope["path"], query, headers, receive, scope["state"]["cid"])


class Webhooks:
    """The ASGI application below `/webhooks/`.

    Plain ASGI, since receipts come by thousands a second, and a framework's handling of a request would be a third
    of the time that one takes.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        hook = _read_hook(scope, receive)
        scope["path_template"] = PATH
        answer = await answer_or_fail(self._answer(hook), hook.cid)
        await answer(scope, receive, send)

    async def _answer(self, hook: Hook) -> Encoded:
        _, _, provider, channel_id, *rest = [*hook.path.split("/"), "", ""]
        if not channel_id or any(rest):
            raise MethodNotFound.at(hook.method, hook.path)
        if hook.method not in {"GET", "POST"}:
            raise MethodNotAllowed(headers={"Allow": "GET, HEAD, POST"})
        known = await self._services.channels.find(channel_id)
        if known.channel.provider != provider:
            raise NotFound(f"no channel {channel_id} of {provider}")
        return await self._receive(hook, known) if hook.method == "POST" else _answer_handshake(hook, known)

    async def _receive(self, hook: Hook, known: OpenChannel) -> Encoded:
        """200 means that every fact of the body is durable. A body, or a part, that is not understood is kept raw."""
        channel, settings = known.channel, self._services.settings
        body = await read_body(hook.receive, hook.headers.get("content-length", ""), settings.max_body_mb)
        try:
            _authenticate(hook, known, settings, body)
        except Unauthorized:
            self._services.intake.hearings.note_refusal(channel.app_id, channel.channel_number)
            raise
        events = PROVIDERS[channel.provider].parse(body, hook.headers.get("content-type", ""))
        events = _add_reference(hook.query, events)
        self._services.intake.hearings.note(channel.app_id, channel.channel_number, events)
        if events:
            arrival = Arrival(channel.app_id, channel.channel_number, now_ms(), events)
            await self._services.intake.receive(arrival)
        for event in events:
            if isinstance(event, Unreadable):
                UNREADABLE.labels(channel.provider).inc()
                log.warning(
                    "not understood, kept raw: %s", event.reason, extra={"channel": channel.channel_id}
                )
        if channel.provider == "twilio":
            return encode_answer(_EMPTY_TWIML, content_type=b"text/xml")
        return encode_answer(write_success(b'{"events":%d}' % len(events), hook.cid))


def _add_reference(query: str, events: list[Event]) -> list[Event]:
    """The events, with the `reference` that the URL carries for providers which echo none: one URL, one message."""
    if "reference=" not in query:
        return events
    reference = own_reference(dict(parse_qsl(query)).get("reference"))
    if reference is None:
        return events
    return [
        msgspec.structs.replace(event, reference=reference)
        if isinstance(event, Receipt) and event.reference is None
        else event
        for event in events
    ]


def _urls(hook: Hook, settings: Settings) -> tuple[str, ...]:
    """Under what URLs the provider may have called us: as we are known outside, and as the request says."""
    tail = f"{hook.path}?{hook.query}" if hook.query else hook.path
    host = hook.headers.get("host", "")
    return f"{settings.base_url}{tail}", f"https://{host}{tail}", f"http://{host}{tail}"


def _authenticate(hook: Hook, known: OpenChannel, settings: Settings, body: bytes) -> None:
    secrets = known.secrets
    if not secrets.webhook_secret and PROOF_KEYS.isdisjoint(secrets.credentials):
        return
    signed = Signed(hook.headers, _urls(hook, settings), body)
    provider = PROVIDERS[known.channel.provider]
    if not provider.verify(secrets.webhook_secret, secrets.credentials, signed):
        raise Unauthorized("the request does not prove that it knows the channel's secret")


def _answer_handshake(hook: Hook, known: OpenChannel) -> Encoded:
    """Meta's `hub.challenge`, if `hub.verify_token` is the channel's, else Forbidden."""
    if known.channel.provider != "meta":
        raise NotFound("only Meta's webhooks have a handshake")
    query = dict(parse_qsl(hook.query, keep_blank_values=True))
    challenge = meta.answer_handshake(known.secrets.webhook_secret, known.secrets.credentials, query)
    if challenge is None:
        raise Forbidden("hub.verify_token is not the channel's")
    return encode_answer(challenge.encode(), content_type=b"text/plain; charset=utf-8")


_HANDSHAKE = Doc(
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
)
_RECEIPTS = Doc(
    operation_id="receiveWebhook",
    summary="Where a provider posts receipts, replies and inbound messages",
    tag="Webhooks",
    body=GenericReceipts,
    body_example=_EXAMPLE,
    result=dict[str, int],
    example={"events": 1},
    errors=(Unauthorized, NotFound, TooLarge),
)
OPERATIONS = [
    Operation(PATH, "GET", _answer_handshake, _HANDSHAKE),
    Operation(PATH, "POST", Webhooks._receive, _RECEIPTS),  # noqa: SLF001 - its docstring explains it
]
