"""What an SMSC brings in deliver_sm: receipts (SMPP 3.4 appendix B, and as optional fields), and people's texts."""

import hashlib
import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import smpp34
from msgspec import Raw

from tallycast.alphabets import Alphabet, decode
from tallycast.events import Event, Receipt, Status, TextReply
from tallycast.providers.salvage import read_or_keep
from tallycast.providers.smpp import Options, Tag, receipt_id
from tallycast.providers.values import OddError, error_code, identity, plausible_ms, quote, storable

_KIND = 0x3C  # bits of esm_class
_PLAIN = 0x00
_RECEIPT = 0x04
_INTERMEDIATE = 0x20
_HAS_HEADER = 0x40
_INTERNATIONAL = 1
_MIN_INTERNATIONAL_DIGITS = 8
# An SMSC brings a text again when our answer was lost: soon. The same words later are said anew (STOP, START, STOP).
_SAME_TEXT_MS = 600_000

_STATES: Final[Mapping[str, tuple[Status, str]]] = {
    "ENROUTE": (Status.ACCEPTED, ""),
    "BUFFRED": (Status.ACCEPTED, ""),
    "BUFFERED": (Status.ACCEPTED, ""),
    "SCHEDULED": (Status.ACCEPTED, ""),
    "ACCEPTD": (Status.ACCEPTED, ""),
    "ACCEPTED": (Status.ACCEPTED, ""),
    "DELIVRD": (Status.DELIVERED, ""),
    "DELIVERED": (Status.DELIVERED, ""),
    "EXPIRED": (Status.FAILED, "Expired before it could be delivered"),
    "DELETED": (Status.FAILED, "Deleted by the operator"),
    "UNDELIV": (Status.FAILED, "Could not be delivered"),
    "UNDELIVERABLE": (Status.FAILED, "Could not be delivered"),
    "UNKNOWN": (Status.FAILED, "The operator does not know what became of it"),
    "REJECTD": (Status.FAILED, "Rejected by the operator"),
    "REJECTED": (Status.FAILED, "Rejected by the operator"),
    "FAILED": (Status.FAILED, "Failed at the operator"),
    "SKIPPED": (Status.FAILED, "Skipped by the operator"),
}
_STATE_NUMBERS = (
    "SCHEDULED", "ENROUTE", "DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "ACCEPTD", "UNKNOWN", "REJECTD", "SKIPPED",
)  # fmt: skip
_ACCEPTED_WORDS = frozenset({"ACCEPTD", "ACCEPTED"})
_GSM_NETWORK = 3
# MAP errors of 3GPP TS 29.002, as GSM networks write them in network_error_code.
_GSM_ERRORS = {
    1: "Unknown subscriber",
    5: "Unidentified subscriber",
    6: "Absent subscriber",
    9: "Illegal subscriber",
    11: "SMS is not part of the subscription",
    12: "Illegal equipment",
    13: "Call barred",
    21: "The handset does not support it",
    27: "Absent subscriber",
    28: "Incompatible terminal",
    31: "Subscriber busy",
    32: "Delivery failed at the handset: its memory may be full",
    34: "System failure in the network",
}
_DATES = {
    10: ("%y%m%d%H%M",),
    12: ("%y%m%d%H%M%S", "%Y%m%d%H%M"),
    14: ("%Y%m%d%H%M%S",),
}


def _find(key: str, value: str) -> Callable[[str], "re.Match[str] | None"]:
    return re.compile(rf"\b{key}:\s?({value})(?=\s|$)", re.IGNORECASE | re.ASCII).search


_find_id = _find("id", r"[^\s:]*")
_find_state = _find("stat", r"\w*")
_find_error = _find("err", r"\w*")
_find_done = _find("done[ _]?date", r"\d*")
_text_begins = re.compile(r"\btext:", re.IGNORECASE).search


def read_delivery(pdu: bytes, options: Options, now_ms: int) -> list[Event]:
    """What a whole deliver_sm (or data_sm) says; never raises, and keeps what it cannot read as `Unreadable`.

    SMPP gives texts of people no id. A digest takes its place, which the same text keeps for some minutes.
    """

    def read(part: bytes | Raw) -> list[Event]:
        return [_read(_decode(bytes(part)), options, now_ms)]

    return read_or_keep(pdu, read)


def _decode(pdu: bytes) -> smpp34.DeliverSm:
    try:
        decoded = smpp34.decode(pdu)
    except smpp34.SmppError as error:
        raise OddError(f"not a deliver_sm: {error}") from error
    if not isinstance(decoded, smpp34.DeliverSm):
        raise OddError("not a deliver_sm")
    return decoded


def _read(delivery: smpp34.DeliverSm, options: Options, now_ms: int) -> Event:
    fields = {tlv.tag: tlv.value for tlv in delivery.tlvs}
    kind = delivery.esm_class & _KIND
    # Some SMSCs forget to mark receipts. These fields tell them from a text, as no handset can set them.
    told = Tag.RECEIPTED_MESSAGE_ID in fields and Tag.MESSAGE_STATE in fields
    if kind in {_RECEIPT, _INTERMEDIATE} or (kind == _PLAIN and told):
        return _read_receipt(_body(delivery, fields), fields, options, final=kind != _INTERMEDIATE)
    if kind == _PLAIN:
        return _read_text(delivery, _body(delivery, fields), options, now_ms)
    raise OddError(f"a message of esm_class 0x{delivery.esm_class:02X} is kept, not counted")


def _body(delivery: smpp34.DeliverSm, fields: Mapping[int, bytes]) -> bytes:
    return delivery.short_message or fields.get(Tag.MESSAGE_PAYLOAD, b"")


def _read_receipt(body: bytes, fields: Mapping[int, bytes], options: Options, *, final: bool) -> Receipt:
    text = storable(body.decode("latin-1"))  # without NUL, UCS-2 reads like ASCII
    begins = _text_begins(text)
    text = text[: begins.start()] if begins else text
    message_id = identity(receipt_id(options, _id_in(fields) or _value(_find_id(text))))
    word = _state_in(fields) or _value(_find_state(text)).upper()
    if word not in _STATES:
        raise OddError(f"state {quote(word)} is unknown")
    status, title = _STATES[word]
    if word in _ACCEPTED_WORDS and options.accepted_is_final:
        status = Status.DELIVERED
    at_ms = _read_date(_value(_find_done(text)), options.receipt_time_zone)
    if not final:
        return Receipt(message_id, Status.ACCEPTED, at_ms)
    if status is not Status.FAILED:
        return Receipt(message_id, status, at_ms)
    code, meaning = _error_in(fields) or (_value(_find_error(text)), "")
    return Receipt(message_id, status, at_ms, _known_code(code) or word, meaning or title)


def _value(match: "re.Match[str] | None") -> str:
    return match[1] if match else ""


def _id_in(fields: Mapping[int, bytes]) -> str:
    return fields.get(Tag.RECEIPTED_MESSAGE_ID, b"").partition(b"\0")[0].decode("latin-1")


def _state_in(fields: Mapping[int, bytes]) -> str:
    state = fields.get(Tag.MESSAGE_STATE, b"")
    if not state:
        return ""
    number = int.from_bytes(state)
    return _STATE_NUMBERS[number] if number < len(_STATE_NUMBERS) else str(number)


def _error_in(fields: Mapping[int, bytes]) -> tuple[str, str] | None:
    """(code, words) of network_error_code: a kind of network, and its error."""
    try:
        network, code = struct.unpack(">BH", fields.get(Tag.NETWORK_ERROR_CODE, b""))
    except struct.error:
        return None
    return (str(code), _GSM_ERRORS.get(code, "") if network == _GSM_NETWORK else "") if code else None


def _known_code(code: str) -> str | None:
    """The vendor's code as it stands; zeros say that there is none."""
    return error_code(code) if code.strip("0") else None


def _read_date(digits: str, time_zone: str) -> int | None:
    """YYMMDDhhmm[ss] or YYYYMMDDhhmm[ss], in the SMSC's own time, in Unix milliseconds."""
    for form in _DATES.get(len(digits), ()):
        try:
            local = datetime.strptime(digits, form).replace(tzinfo=ZoneInfo(time_zone))
            return plausible_ms(int(local.astimezone(UTC).timestamp()) * 1000)
        except (ValueError, OverflowError):
            continue
    return None


def _read_text(delivery: smpp34.DeliverSm, body: bytes, options: Options, now_ms: int) -> TextReply:
    octets = body[body[0] + 1 :] if delivery.esm_class & _HAS_HEADER and body else body
    text = storable(decode(octets, _alphabet(delivery.data_coding, options)))
    if not text:
        raise OddError("a message without text is kept, not counted")
    return TextReply(text, _digest(delivery, body, now_ms), None, None, _sender(delivery))


def _alphabet(data_coding: int, options: Options) -> Alphabet:
    """By SMPP 3.4 §5.2.19, and the message classes of GSM 03.38."""
    if data_coding in {1, 3}:
        return "ascii" if data_coding == 1 else "latin1"
    if data_coding >= 0xF0:  # noqa: PLR2004 - the coding group of message classes
        return "latin1" if data_coding & 0x04 else options.default_alphabet
    coding = data_coding & 0x0C
    return "ucs2" if coding == 0x08 else "latin1" if coding == 0x04 else options.default_alphabet  # noqa: PLR2004 - bits


def _sender(delivery: smpp34.DeliverSm) -> str | None:
    address = storable(delivery.source_addr)
    digits = address.isascii() and address.isdigit()
    long = delivery.source_addr_ton == 0 and len(address) >= _MIN_INTERNATIONAL_DIGITS
    if digits and (delivery.source_addr_ton == _INTERNATIONAL or long):
        return identity(f"+{address}")
    return identity(address) if address else None


def _digest(delivery: smpp34.DeliverSm, body: bytes, now_ms: int) -> str:
    addresses = f"{delivery.source_addr}\0{delivery.destination_addr}\0{now_ms // _SAME_TEXT_MS}\0".encode()
    return f"mo-{hashlib.blake2b(addresses + body, digest_size=16).hexdigest()}"
