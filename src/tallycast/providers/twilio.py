"""Twilio: one form per message, and one form per callback, signed together with the URL that it called."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import msgspec
from msgspec import Raw

from tallycast.events import ButtonClick, Event, Receipt, Status, TextReply, Unreadable
from tallycast.providers.contract import (
    Accepted,
    Action,
    Call,
    Outcome,
    Outgoing,
    Refused,
    Rule,
    SendError,
    Signed,
    Unknown,
)
from tallycast.providers.needs import base_url, credential, path_part, text_of
from tallycast.providers.proofs import equal, octets
from tallycast.providers.refusals import BUSY, STATUSES, judge, read_retry_after, title_of
from tallycast.providers.salvage import read_or_keep
from tallycast.providers.values import (
    MAX_TITLE,
    OddError,
    choice,
    error_code,
    error_title,
    identity,
    identity_or_none,
    label_of,
    plausible_ms,
    quote,
    storable,
)

_STATUSES = {
    "accepted": Status.ACCEPTED,
    "scheduled": Status.ACCEPTED,
    "queued": Status.ACCEPTED,
    "sending": Status.ACCEPTED,
    "sent": Status.ACCEPTED,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "undelivered": Status.FAILED,
    "failed": Status.FAILED,
    "canceled": Status.FAILED,
}

# Of answers to a send and of callbacks alike; the first sentence is what a failed message shows.
ERRORS: dict[str, Rule] = {
    **STATUSES,
    "20003": Rule(
        Action.PAUSE_CHANNEL,
        "Authentication failed. Put the account's valid authToken into the channel's credentials, then resume.",
    ),
    "20005": Rule(Action.PAUSE_CHANNEL, "The account is not active. Activate it at Twilio, then resume."),
    "20404": Rule(
        Action.PAUSE_CHANNEL,
        "Twilio does not know the account. Correct accountSID and baseURL in the credentials, then resume.",
    ),
    "20429": Rule(Action.SLOW_DOWN, "Too many requests. Messages go out slower by themselves."),
    "20503": BUSY,
    "21211": Rule(Action.FAIL, "Not a valid recipient number. Correct it in the audience."),
    "21408": Rule(
        Action.FAIL,
        "Sending to this region is not enabled. Enable the country in Twilio's Geo Permissions, then retry.",
    ),
    "21606": Rule(
        Action.FAIL,
        "The sender cannot send to this recipient. Use a sender that reaches the recipient's country.",
    ),
    "21608": Rule(
        Action.FAIL,
        "A trial account writes to verified numbers only. Verify the recipient, or upgrade the account.",
    ),
    "21610": Rule(Action.OPT_OUT, "Recipient opted out. They are left out from now on."),
    "21612": Rule(
        Action.FAIL,
        "No route from this sender to this recipient. Use a sender that reaches the recipient's country.",
    ),
    "21614": Rule(Action.FAIL, "Not a mobile number. Take it out of the audience."),
    "21617": Rule(Action.FAIL, "Message too long. Twilio takes 1600 characters at most."),
    "21659": Rule(
        Action.PAUSE_CHANNEL, "Not a number of this account. Correct the channel's phone, then resume."
    ),
    "21703": Rule(
        Action.PAUSE_CHANNEL,
        "The messaging service has no sender. Add a number to it at Twilio, then resume.",
    ),
    "21705": Rule(
        Action.PAUSE_CHANNEL,
        "Twilio does not know the messaging service. Correct messagingServiceSID in the credentials, then resume.",
    ),
    "30001": Rule(
        Action.RETRY,
        "Queue overflow. Twilio had too many messages waiting; this one can be sent again.",
        60.0,
    ),
    "30002": Rule(
        Action.PAUSE_CHANNEL, "Account suspended. Ask Twilio's support for the reason, then resume."
    ),
    "30003": Rule(
        Action.RETRY,
        "Handset unreachable. It was off or without network for long; try again later.",
        900.0,
    ),
    "30004": Rule(Action.FAIL, "Message blocked. The recipient or the carrier does not take it."),
    "30005": Rule(Action.FAIL, "Unknown handset. Take the number out of the audience."),
    "30006": Rule(Action.FAIL, "Landline or unreachable carrier. Take the number out of the audience."),
    "30007": Rule(
        Action.FAIL,
        "Filtered by the carrier. Change the text or register the sender; the same would be filtered again.",
    ),
    "30008": Rule(Action.FAIL, "Unknown error. The carrier gave no reason."),
    "30022": Rule(
        Action.SLOW_DOWN,
        "More a second than US carriers allow this sender. Messages go out slower by themselves.",
    ),
    "30034": Rule(
        Action.PAUSE_CHANNEL,
        "Sender is not registered for US 10DLC. Register it at Twilio, then resume.",
    ),
    "63001": Rule(
        Action.PAUSE_CHANNEL,
        "WhatsApp does not accept Twilio's sender. Check the WhatsApp sender at Twilio, then resume.",
    ),
    "63003": Rule(Action.FAIL, "Not a WhatsApp number. Reach this recipient by SMS."),
    "63007": Rule(
        Action.PAUSE_CHANNEL,
        "Twilio has no WhatsApp sender with this number. Correct the channel's phone, then resume.",
    ),
    "63016": Rule(
        Action.FAIL,
        "The recipient has not written for more than 24 hours. Only a template reaches such a recipient.",
    ),
    "63018": Rule(
        Action.SLOW_DOWN,
        "More a second than WhatsApp allows this sender. Messages go out slower by themselves.",
    ),
    "63024": Rule(Action.FAIL, "Not a valid WhatsApp recipient. Reach this recipient by SMS."),
    "63032": Rule(Action.FAIL, "WhatsApp holds messages back from this recipient. Repeating does not help."),
}
_BASE_URL = "https://api.twilio.com"
_WHATSAPP = "whatsapp:"


_STRAY_CLICK = "a click without original message and without reference: its message is not known"
_PORTS = {"https": 443, "http": 80}
_JSON = msgspec.json.Decoder()


def compose(credentials: Mapping[str, str], message: Outgoing) -> Call:
    """A text as SMS, or through WhatsApp where the sender is `whatsapp:+…`; ValueError for a template.

    Twilio sends a template by its ContentSid, with variables of a numbering of its own: neither can be told from the
    template's name and components, and a wrong guess would reach people.
    """
    if message.template is not None:
        raise ValueError("templates cannot be sent through Twilio: use a channel of 360dialog or Meta")
    account = credential(credentials, "accountSID")
    proof = f"{account}:{credential(credentials, 'authToken')}".encode()
    headers = {
        "Authorization": f"Basic {base64.b64encode(proof).decode()}",
        "Content-Type": "application/x-www-form-urlencoded",
    }
    url = f"{base_url(credentials, _BASE_URL)}/2010-04-01/Accounts/{path_part(credentials, 'accountSID')}/Messages.json"
    return Call("POST", url, headers, urlencode(_write_form(credentials, message)).encode())


def _write_form(credentials: Mapping[str, str], message: Outgoing) -> dict[str, str]:
    form = {"To": message.recipient, "Body": text_of(message)}
    if message.sender.startswith(_WHATSAPP):
        form["To"] = _WHATSAPP + message.recipient
    service = credentials.get("messagingServiceSID", "").strip()
    form |= {"MessagingServiceSid": service} if service else {"From": message.sender}
    return form | ({"StatusCallback": message.callback_url} if message.callback_url else {})


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    members = _read_members(body)
    if 200 <= status < 300:  # noqa: PLR2004 - HTTP's successes
        return _read_success(members)
    code, text = error_code(members.get("code")), error_title(members.get("message"))
    rule = judge(ERRORS, status, code)
    if rule is None:
        return Unknown(f"HTTP {status}{f': {text}' if text else ''}"[:MAX_TITLE])
    return Refused(SendError(code or str(status), text or title_of(rule), rule, read_retry_after(headers)))


def _read_success(members: dict[str, Any]) -> Outcome:
    sid = members.get("sid")
    try:
        return Accepted([identity(sid)]) if isinstance(sid, str) else Unknown("an answer without a sid")
    except OddError as error:
        return Unknown(str(error))


def _read_members(body: bytes) -> dict[str, Any]:
    try:
        members = _JSON.decode(body)
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}


def verify(secret: str, credentials: Mapping[str, str], request: Signed) -> bool:
    key = (credentials.get("authToken") or secret).encode()
    given = octets(request.headers.get("x-twilio-signature", ""))
    is_json = "json" in request.headers.get("content-type", "").lower()
    fields = "" if is_json else _signed_fields(request.body)
    return bool(key) and any(
        equal(given, _sign(key, spelling + fields))
        for url in request.urls
        if not is_json or _names_body(url, request.body)
        for spelling in _spellings(url)
    )


def _sign(key: bytes, text: str) -> bytes:
    return base64.b64encode(hmac.digest(key, text.encode("utf-8", "surrogatepass"), "sha1"))


def _signed_fields(body: bytes) -> str:
    """The form as Twilio signs it: every distinct field, by name and then by value, without separators."""
    return "".join(name + value for name, value in sorted(set(_read_form(body))))


def _names_body(url: str, body: bytes) -> bool:
    """Whether the URL, which is signed, carries the hash of this body: Twilio signs JSON in no other way."""
    try:
        named = parse_qs(urlsplit(url).query).get("bodySHA256", [""])[0]
    except ValueError:
        return False
    return equal(octets(named.lower()), hashlib.sha256(body).hexdigest().encode())


def _spellings(url: str) -> Iterator[str]:
    """The URL, and the same one without or with its port: Twilio has signed either, over the years."""
    yield url
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return
    if port is not None:
        yield url.replace(f"//{parts.netloc}", f"//{parts.netloc.rpartition(':')[0]}", 1)
    elif parts.scheme in _PORTS:
        yield url.replace(f"//{parts.netloc}", f"//{parts.netloc}:{_PORTS[parts.scheme]}", 1)


def _read_form(body: bytes) -> list[tuple[str, str]]:
    return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace")


def parse(body: bytes, content_type: str) -> list[Event]:  # noqa: ARG001 - every provider is called alike
    return read_or_keep(body, _read_callback)


def _read_callback(body: bytes | Raw) -> list[Event]:
    fields = {name: storable(value) for name, value in _read_form(bytes(body))}
    sid = fields.get("MessageSid") or fields.get("SmsSid")
    if sid is None:
        raise OddError("no MessageSid")
    status = fields.get("MessageStatus") or fields.get("SmsStatus") or ""
    if status == "received" and "Body" in fields:
        return _read_inbound(identity(sid), fields, bytes(body))
    return [_read_receipt(identity(sid), status, fields)]


def _read_receipt(sid: str, word: str, fields: dict[str, str]) -> Receipt:
    status = _STATUSES.get(word)
    if status is None:
        raise OddError(f"status {quote(word)} is unknown")
    at_ms = _read_done_date(fields.get("RawDlrDoneDate", ""))
    if status is not Status.FAILED:
        return Receipt(sid, status, at_ms)
    code = error_code(fields.get("ErrorCode"))
    rule = ERRORS.get(code or "")
    title = title_of(rule) if rule else error_title(fields.get("ErrorMessage")) or word
    return Receipt(sid, status, at_ms, code, title)


def _read_inbound(sid: str, fields: dict[str, str], body: bytes) -> list[Event]:
    quoted = identity_or_none(fields.get("OriginalRepliedMessageSid"))
    sender = identity_or_none(fields.get("From", "").removeprefix("whatsapp:"))
    if "ButtonPayload" in fields or "ButtonText" in fields:
        reference, button = choice(fields.get("ButtonPayload"), fields.get("ButtonText"))
        label = label_of(button, fields.get("ButtonText"))
        if quoted is None and reference is None:  # no reply to count, but what it says may be a wish
            return [Unreadable(_STRAY_CLICK, body), TextReply(label or button, sid, None, None, sender)]
        return [ButtonClick(button, quoted, reference, None, sid, sender, label)]
    if not fields["Body"]:
        raise OddError("a message without text is kept, not counted")
    return [TextReply(fields["Body"], sid, quoted, None, sender)]


def _read_done_date(digits: str) -> int | None:
    """YYMMDDhhmm, as the carrier wrote it and in UTC, in Unix milliseconds."""
    if len(digits) != len("YYMMDDhhmm") or not (digits.isascii() and digits.isdigit()):
        return None
    year, month, day, hour, minute = (int(digits[at : at + 2]) for at in range(0, 10, 2))
    try:
        done = datetime(2000 + year, month, day, hour, minute, tzinfo=UTC)
    except ValueError:
        return None
    return plausible_ms(int(done.timestamp()) * 1000)
