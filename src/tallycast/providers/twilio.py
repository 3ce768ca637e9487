"""Twilio: one form per callback, signed together with the URL that it called."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qs, parse_qsl, urlsplit

from msgspec import Raw

from tallycast.events import ButtonClick, Event, Receipt, Status, TextReply
from tallycast.providers.contract import Signed
from tallycast.providers.proofs import equal, octets
from tallycast.providers.salvage import read_or_keep
from tallycast.providers.values import (
    OddError,
    choice,
    error_code,
    error_title,
    identity,
    identity_or_none,
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

_TITLES = {
    "20003": "Authentication failed",
    "20429": "Too many requests",
    "21211": "Not a valid recipient number",
    "21408": "Sending to this region is not enabled",
    "21606": "The sender cannot send to this recipient",
    "21610": "Recipient opted out",
    "21612": "No route from this sender to this recipient",
    "21614": "Not a mobile number",
    "21617": "Message too long",
    "21659": "Not a number of this account",
    "30001": "Queue overflow",
    "30002": "Account suspended",
    "30003": "Handset unreachable",
    "30004": "Message blocked",
    "30005": "Unknown handset",
    "30006": "Landline or unreachable carrier",
    "30007": "Filtered by the carrier",
    "30008": "Unknown error",
    "30034": "Sender is not registered for US 10DLC",
}

_PORTS = {"https": 443, "http": 80}


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
        return [_read_reply(identity(sid), fields)]
    return [_read_receipt(identity(sid), status, fields)]


def _read_receipt(sid: str, word: str, fields: dict[str, str]) -> Receipt:
    status = _STATUSES.get(word)
    if status is None:
        raise OddError(f"status {quote(word)} is unknown")
    at_ms = _read_done_date(fields.get("RawDlrDoneDate", ""))
    if status is not Status.FAILED:
        return Receipt(sid, status, at_ms)
    code = error_code(fields.get("ErrorCode"))
    title = _TITLES.get(code or "") or error_title(fields.get("ErrorMessage")) or word
    return Receipt(sid, status, at_ms, code, title)


def _read_reply(sid: str, fields: dict[str, str]) -> ButtonClick | TextReply:
    quoted = identity_or_none(fields.get("OriginalRepliedMessageSid"))
    sender = identity_or_none(fields.get("From", "").removeprefix("whatsapp:"))
    if "ButtonPayload" in fields or "ButtonText" in fields:
        reference, button = choice(fields.get("ButtonPayload"), fields.get("ButtonText"))
        if quoted is None and reference is None:
            raise OddError("a click without original message and without reference: its message is not known")
        return ButtonClick(button, quoted, reference, None, sid, sender)
    if not fields["Body"]:
        raise OddError("a message without text is kept, not counted")
    return TextReply(fields["Body"], sid, quoted, None, sender)


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
