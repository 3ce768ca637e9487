"""The HTTP interface of the simulated Twilio: messages with signed callbacks, and texts that people write."""

import base64
import hmac
import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

import msgspec
from aiohttp import web

from tallycast.segments import count_parts
from tallycast.simulator.channels import Channel, Webhook
from tallycast.simulator.cloud import WORLD, answer, write_json
from tallycast.simulator.courier import Notice, Target
from tallycast.simulator.fates import Happening, Why
from tallycast.simulator.ledger import Message
from tallycast.simulator.templates import find_links
from tallycast.simulator.world import World

_CONCURRENCY = 16
_VERSION = "2010-04-01"
_MAX_BODY = 1600
_STATUSES = {
    Happening.SENT: "sent",
    Happening.DELIVERED: "delivered",
    Happening.READ: "read",
    Happening.FAILED: "undelivered",
}


class _Account(msgspec.Struct):
    auth_token: str = msgspec.field(name="authToken")
    incoming_url: str = msgspec.field(name="incomingURL", default="")


class _Refusal(NamedTuple):
    status: int
    code: int
    title: str


_REFUSALS = {
    Why.KEY: _Refusal(401, 20003, "Authenticate"),
    Why.CEILING: _Refusal(429, 20429, "Too Many Requests"),
    Why.PAIR: _Refusal(429, 20429, "Too Many Requests"),
    Why.STOPPED: _Refusal(400, 21610, "Attempt to send to unsubscribed recipient"),
    Why.THROTTLED: _Refusal(429, 20429, "Too Many Requests"),
    Why.LIMITED: _Refusal(429, 20429, "Too Many Requests"),
    Why.BROKEN: _Refusal(500, 20500, "Internal Server Error"),
}
_BAD_RECIPIENT = _Refusal(400, 21211, "Invalid 'To' Phone Number")
_LONG_BODY = _Refusal(400, 21617, "The message body exceeds the 1600 character limit")
_NO_BODY = _Refusal(400, 21602, "Message body is required")
_NO_SENDER = _Refusal(400, 21603, "A 'From' phone number is required")


def _find_channel(world: World, sid: str) -> Channel:
    def make_target(channel: Channel) -> Target:
        return Target(partial(_deliver, world, channel), batch=1, concurrency=_CONCURRENCY)

    return world.channel("twilio", sid, make_target)


def _password(request: web.Request) -> str:
    scheme, _, proof = request.headers.get("Authorization", "").partition(" ")
    try:
        pair = base64.b64decode(proof, validate=True).decode()
    except ValueError:
        return ""
    return pair.partition(":")[2] if scheme.lower() == "basic" else ""


async def _set_account(request: web.Request) -> web.Response:
    account = msgspec.json.decode(await request.read(), type=_Account)
    channel = _find_channel(request.app[WORLD], request.match_info["sid"])
    channel.webhook = Webhook(account.incoming_url, {}, account.auth_token)
    return write_json({"incomingURL": account.incoming_url})


async def _send(request: web.Request) -> web.StreamResponse:
    world, fields = request.app[WORLD], await request.post()
    sent = {name: str(value) for name, value in fields.items()}
    channel = _find_channel(world, request.match_info["sid"])
    password = _password(request)
    if channel.webhook is None and password:  # an account's password is its auth token, unless told otherwise
        channel.webhook = Webhook("", {}, password)
    refusal = _find_fault(world, channel, sent, password)
    if refusal is not None:
        return _refuse(world, channel, sent, refusal)
    hearing = world.hear(channel, sent["To"])
    if hearing.why is not None:
        await world.wait(hearing, None)
        return _refuse(world, channel, sent, _REFUSALS[hearing.why])
    message = _make_message(world, channel, sent)
    message.silence = hearing.silence
    await world.wait(hearing, world.take(channel, message))
    return await answer(request, hearing, 201, _write_answer(message))


def _find_fault(world: World, channel: Channel, sent: Mapping[str, str], password: str) -> _Refusal | None:
    if world.is_key_refused(channel, password) or channel.key in world.profile.invalid_keys:
        return _REFUSALS[Why.KEY]
    number = sent.get("To", "").removeprefix("whatsapp:")
    if not number.startswith("+") or not number[1:].isdigit():
        return _BAD_RECIPIENT
    if not sent.get("Body") and not sent.get("ContentSid"):
        return _NO_BODY
    if len(sent.get("Body", "")) > _MAX_BODY:
        return _LONG_BODY
    return None if sent.get("From") or sent.get("MessagingServiceSid") else _NO_SENDER


def _refuse(world: World, channel: Channel, sent: Mapping[str, str], refusal: _Refusal) -> web.Response:
    world.refuse(channel, sent.get("To", ""), _reference(sent), str(refusal.code), refusal.title)
    body = {
        "code": refusal.code,
        "message": refusal.title,
        "more_info": f"https://www.twilio.com/docs/errors/{refusal.code}",
        "status": refusal.status,
    }
    is_busy = refusal.status == 429  # noqa: PLR2004 - HTTP
    headers = {"Retry-After": str(world.profile.retry_after_seconds)} if is_busy else None
    return write_json(body, refusal.status, headers)


def _reference(sent: Mapping[str, str]) -> str | None:
    """The sender's id of the message: Twilio echoes none, so the callback's URL carries it."""
    query = parse_qs(urlsplit(sent.get("StatusCallback", "")).query)
    return query.get("reference", [None])[0]


def _make_message(world: World, channel: Channel, sent: Mapping[str, str]) -> Message:
    text = sent.get("Body", "")
    return Message(
        "twilio",
        channel.key,
        sent.get("From") or sent["MessagingServiceSid"],
        sent["To"],
        [f"SM{world.new_id():0>32}"],
        _reference(sent),
        None,
        text,
        time.time(),
        world.draw(channel, sent["To"], "sms"),
        links=tuple(find_links(text)),
        callback_url=sent.get("StatusCallback", ""),
    )


def _write_answer(message: Message) -> bytes:
    sid = message.message_ids[0]
    return msgspec.json.encode(
        {
            "sid": sid,
            "account_sid": message.channel,
            "api_version": _VERSION,
            "body": message.text,
            "date_created": formatdate(message.at),
            "direction": "outbound-api",
            "error_code": None,
            "error_message": None,
            "from": message.sender,
            "num_segments": str(count_parts(message.text)),
            "status": "queued",
            "to": message.recipient,
            "uri": f"/{_VERSION}/Accounts/{message.channel}/Messages/{sid}.json",
        }
    )


async def _deliver(world: World, channel: Channel, notices: list[Notice]) -> bool:
    """Post one callback, or the text that somebody wrote; whether it was answered 200."""
    [notice] = notices
    message, hook = notice.message, channel.webhook
    is_text = notice.what is Happening.STOP_TEXT
    url = (hook.url if hook is not None else "") if is_text else message.callback_url
    if not url or hook is None:
        return True
    fields = _write_text(message) if is_text else _write_status(notice)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Twilio-Signature": sign(hook.secret, url, fields),
    }
    if not await world.post(url, urlencode(fields).encode(), headers):
        return False
    world.note_told(channel, notices)
    return True


def sign(token: str, url: str, fields: Mapping[str, str]) -> str:
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.digest(token.encode(), text.encode(), "sha1")).decode()


def _write_status(notice: Notice) -> dict[str, str]:
    message, status = notice.message, _STATUSES[notice.what]
    sid = message.message_ids[0]
    fields = {
        "AccountSid": message.channel,
        "ApiVersion": _VERSION,
        "From": message.sender,
        "MessageSid": sid,
        "MessageStatus": status,
        "SmsSid": sid,
        "SmsStatus": status,
        "To": message.recipient,
    }
    if notice.what is Happening.FAILED:
        fields["ErrorCode"] = str(message.fate.code)
    elif notice.what is Happening.DELIVERED:
        fields["RawDlrDoneDate"] = time.strftime("%y%m%d%H%M", time.gmtime(notice.at))
    return fields


def _write_text(message: Message) -> dict[str, str]:
    sid = f"SMf{message.message_ids[0][3:]}"  # no message that is sent has an id like this
    return {
        "AccountSid": message.channel,
        "ApiVersion": _VERSION,
        "Body": "STOP",
        "From": message.recipient,
        "MessageSid": sid,
        "NumMedia": "0",
        "NumSegments": "1",
        "SmsMessageSid": sid,
        "SmsSid": sid,
        "SmsStatus": "received",
        "To": message.sender,
    }


ROUTES: list[Any] = [
    web.post(f"/{_VERSION}/Accounts/{{sid}}/Messages.json", _send),
    web.post("/simulator/twilio/{sid}", _set_account),
]
