"""The HTTP interfaces of the simulated 360dialog and Meta: sending, templates, and where webhooks go."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import aiohttp
import msgspec
from aiohttp import web

from tallycast.simulator import whatsapp
from tallycast.simulator.channels import Channel, Webhook
from tallycast.simulator.courier import Target
from tallycast.simulator.fates import Hearing, Silence, Why
from tallycast.simulator.ledger import Message
from tallycast.simulator.templates import Fault, Template, Use, Written, find_links
from tallycast.simulator.world import World

WORLD = web.AppKey("world", World)


class _Text(msgspec.Struct):
    body: str


class _Send(msgspec.Struct):
    to: str
    type: str = "text"
    text: _Text | None = None
    template: Use | None = None
    biz_opaque_callback_data: str | None = None


class _NewWebhook(msgspec.Struct):
    url: str
    headers: dict[str, str] = {}


class _NewMetaWebhook(msgspec.Struct, rename={"webhook_url": "webhookURL"}):
    webhook_url: str
    app_secret: str = msgspec.field(name="appSecret")
    verify_token: str = msgspec.field(name="verifyToken")


class Refusal(NamedTuple):
    """How a provider says no. `code` names it in the ledger."""

    status: int
    code: str
    title: str
    body: bytes
    content_type: str = "application/json"


_SEND = msgspec.json.Decoder(_Send)


def _meta_error(status: int, code: int, title: str, details: str = "") -> Refusal:
    error = {
        "message": f"(#{code}) {title}",
        "type": "OAuthException",
        "code": code,
        "error_data": {"messaging_product": "whatsapp", "details": details or title},
        "fbtrace_id": "Asimulated",
    }
    return Refusal(status, str(code), title, msgspec.json.encode({"error": error}))


def _gateway_error(status: int, title: str, body: Any) -> Refusal:
    return Refusal(status, str(status), title, msgspec.json.encode(body))


_META_REFUSALS = {
    Why.KEY: _meta_error(401, 190, "Error validating access token: the session has expired"),
    Why.CEILING: _meta_error(400, 130429, "Rate limit hit", "Cloud API message throughput has been reached"),
    Why.PAIR: _meta_error(
        400, 131056, "(Business Account, Consumer Account) pair rate limit hit", "Too many to this recipient"
    ),
    Why.THROTTLED: _meta_error(429, 130429, "Rate limit hit", "Try again later"),
    Why.LIMITED: _meta_error(400, 80007, "Rate limit issues", "The account's rate limit has been reached"),
    Why.BROKEN: _meta_error(503, 2, "Service temporarily unavailable"),
}
_GATEWAY_REFUSALS = {
    **_META_REFUSALS,
    Why.KEY: _gateway_error(
        401,
        "Invalid api_key",
        {"meta": {"success": False, "http_code": 401, "developer_message": "Invalid api_key"}},
    ),
    Why.LIMITED: _gateway_error(
        400, "Endpoint rate limit exceeded", {"error": "Endpoint rate limit exceeded"}
    ),
    Why.BROKEN: Refusal(
        502, "502", "Bad Gateway", b"<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html"
    ),
}
REFUSALS = {"360dialog": _GATEWAY_REFUSALS, "meta": _META_REFUSALS}


def find_channel(world: World, provider: str, key: str) -> Channel:
    def make_target(channel: Channel) -> Target:
        return Target(partial(whatsapp.deliver, world, channel), whatsapp.BATCH, whatsapp.CONCURRENCY)

    return world.channel(provider, key, make_target)


def _bearer(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ").strip()


async def send_360dialog(request: web.Request) -> web.StreamResponse:
    key = request.headers.get("D360-API-KEY", "")
    return await _send(request, find_channel(request.app[WORLD], "360dialog", key), key)


async def send_meta(request: web.Request) -> web.StreamResponse:
    channel = find_channel(request.app[WORLD], "meta", request.match_info["number"])
    return await _send(request, channel, _bearer(request))


async def _send(request: web.Request, channel: Channel, key: str) -> web.StreamResponse:
    world, refusals = request.app[WORLD], REFUSALS[channel.provider]
    try:
        sent = _SEND.decode(await request.read())
        written = _write(world, sent)
    except (msgspec.MsgspecError, LookupError, ValueError, TypeError) as error:
        return _refuse(world, channel, None, _meta_error(400, 100, "Invalid parameter", str(error)))
    if world.is_key_refused(channel, key):
        return _refuse(world, channel, sent, refusals[Why.KEY])
    if isinstance(written, Fault):
        return _refuse(world, channel, sent, _meta_error(*written))
    recipient = f"+{sent.to.lstrip('+')}"
    hearing = world.hear(channel, recipient)
    if hearing.why is not None:
        await world.wait(hearing, None)
        return _refuse(world, channel, sent, refusals[hearing.why], hearing.why is Why.THROTTLED)
    message = _make_message(world, channel, sent, written, hearing)
    await world.wait(hearing, world.take(channel, message))
    return await answer(request, hearing, 200, _write_answer(sent, message))


def _write(world: World, sent: _Send) -> Written | Fault:
    if sent.template is not None and sent.type == "template":
        return world.templates.write(sent.template, world.origin())
    if sent.text is None or sent.type != "text":
        raise ValueError("type must be template or text, with a member of that name")
    return Written(sent.text.body, tuple(find_links(sent.text.body)), ())


def _make_message(world: World, channel: Channel, sent: _Send, written: Written, hearing: Hearing) -> Message:
    recipient = f"+{sent.to.lstrip('+')}"
    # A text stands for an SMS: tallycast's sandbox sends its SMS so.
    medium = channel.medium if sent.template is not None else "sms"
    return Message(
        channel.provider,
        channel.key,
        channel.key,
        recipient,
        [f"wamid.{world.new_id()}"],
        sent.biz_opaque_callback_data,
        sent.template.name if sent.template is not None else None,
        written.text,
        time.time(),
        world.draw(channel, recipient, medium),
        hearing.silence,
        links=written.links,
        buttons=written.buttons,
    )


def _write_answer(sent: _Send, message: Message) -> bytes:
    return msgspec.json.encode(
        {
            "messaging_product": "whatsapp",
            "contacts": [{"input": sent.to, "wa_id": message.recipient.lstrip("+")}],
            "messages": [{"id": message.message_ids[0], "message_status": "accepted"}],
        }
    )


def _refuse(
    world: World, channel: Channel, sent: _Send | None, refusal: Refusal, has_retry_after: bool = False
) -> web.Response:
    recipient = f"+{sent.to.lstrip('+')}" if sent is not None else ""
    reference = sent.biz_opaque_callback_data if sent is not None else None
    world.refuse(channel, recipient, reference, refusal.code, refusal.title)
    headers = {"Retry-After": str(world.profile.retry_after_seconds)} if has_retry_after else {}
    return _write_refusal(refusal, headers)


def _write_refusal(refusal: Refusal, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=refusal.status, body=refusal.body, content_type=refusal.content_type, headers=headers
    )


async def answer(request: web.Request, hearing: Hearing, status: int, body: bytes) -> web.StreamResponse:
    """The answer to a message that was taken; or none, and the connection ends."""
    if hearing.silence is Silence.HUNG:
        await asyncio.sleep(request.app[WORLD].profile.hung_seconds)
    if hearing.silence is not None and request.transport is not None:
        request.transport.close()
    return web.Response(status=status, body=body, content_type="application/json")


def write_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(value), content_type="application/json", headers=headers
    )


async def get_webhook(request: web.Request) -> web.Response:
    world = request.app[WORLD]
    hook = find_channel(world, "360dialog", request.headers.get("D360-API-KEY", "")).webhook
    if hook is None:
        return write_json({"message": "webhook is not set"}, 404)
    return write_json({"url": hook.url, "headers": dict(hook.headers)})


async def set_webhook(request: web.Request) -> web.Response:
    world = request.app[WORLD]
    wanted = msgspec.json.decode(await request.read(), type=_NewWebhook)
    channel = find_channel(world, "360dialog", request.headers.get("D360-API-KEY", ""))
    channel.webhook = Webhook(wanted.url, wanted.headers)
    return write_json({"url": wanted.url, "headers": wanted.headers})


async def set_meta_webhook(request: web.Request) -> web.Response:
    """Asks the URL for its handshake first, as Meta does; what does not answer the challenge is not called later."""
    world = request.app[WORLD]
    wanted = msgspec.json.decode(await request.read(), type=_NewMetaWebhook)
    challenge = secrets.token_hex(8)
    query = {"hub.mode": "subscribe", "hub.challenge": challenge, "hub.verify_token": wanted.verify_token}
    try:
        async with world.client.get(wanted.webhook_url, params=query) as found:
            is_ours = found.status == 200 and await found.text() == challenge  # noqa: PLR2004 - HTTP
    except (aiohttp.ClientError, OSError) as error:
        return write_json({"error": f"the handshake failed: {error}"}, 400)
    if not is_ours:
        return write_json({"error": f"the handshake failed: HTTP {found.status}"}, 400)
    channel = find_channel(world, "meta", request.match_info["number"])
    channel.webhook = Webhook(wanted.webhook_url, {}, wanted.app_secret)
    return write_json({"webhookURL": wanted.webhook_url})


async def list_gateway_templates(request: web.Request) -> web.Response:
    world, key = request.app[WORLD], request.headers.get("D360-API-KEY", "")
    if world.is_key_refused(find_channel(world, "360dialog", key), key):
        return _write_refusal(_GATEWAY_REFUSALS[Why.KEY])
    offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 100))
    page, total = world.templates.list(offset, limit, world.origin())
    items = [{**msgspec.to_builtins(one), "status": one.status.lower()} for one in page]
    return write_json(
        {"waba_templates": items, "count": len(items), "total": total, "limit": limit, "offset": offset}
    )


async def list_meta_templates(request: web.Request) -> web.Response:
    world = request.app[WORLD]
    account = find_channel(world, "meta", request.match_info["number"])
    if world.is_key_refused(account, _bearer(request)):
        return _write_refusal(_META_REFUSALS[Why.KEY])
    offset, limit = int(request.query.get("after", 0)), int(request.query.get("limit", 25))
    page, total = world.templates.list(offset, limit, world.origin())
    end = offset + len(page)
    paging: dict[str, Any] = {"cursors": {"before": str(offset), "after": str(end)}}
    if end < total:
        paging["next"] = str(request.url.update_query(after=end))
    return write_json({"data": [msgspec.to_builtins(one) for one in page], "paging": paging})


async def add_template(request: web.Request) -> web.Response:
    """As the providers', and with a `status`: the simulator approves at once what names none."""
    template = msgspec.json.decode(await request.read(), type=Template)
    request.app[WORLD].templates.add(template)
    return write_json(template, 201)


async def delete_template(request: web.Request) -> web.Response:
    if request.app[WORLD].templates.delete(request.match_info["name"]):
        return write_json({"success": True})
    return write_json({"message": "no such template"}, 404)


_NUMBER = r"/{version:v\d+(?:\.\d+)?}/{number:\d+}"
ROUTES = [
    web.post("/messages", send_360dialog),
    web.get("/v1/configs/webhook", get_webhook),
    web.post("/v1/configs/webhook", set_webhook),
    web.get("/v1/configs/templates", list_gateway_templates),
    web.post("/v1/configs/templates", add_template),
    web.delete("/v1/configs/templates/{name}", delete_template),
    web.post(f"{_NUMBER}/messages", send_meta),
    web.get(f"{_NUMBER}/message_templates", list_meta_templates),
    web.post(f"{_NUMBER}/message_templates", add_template),
    web.post(r"/simulator/meta/{number:\d+}", set_meta_webhook),
]
