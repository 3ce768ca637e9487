"""SMPP 3.4: how an SMSC is to be spoken to, what is written to it, and what its refusals mean.

What an SMSC brings (receipts and texts) is read in `deliveries.py`; the connection is in `smsc.py`.
"""

import re
import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import Final, Literal, NamedTuple, TypeVar, get_args
from zoneinfo import ZoneInfo

import msgspec
import smpp34

from tallycast.alphabets import Alphabet, encode
from tallycast.providers.contract import Action, Outgoing, Rule, SendError
from tallycast.segments import Encoding, encoding_of, split_parts

DefaultAlphabet = Literal["gsm", "latin1", "ascii"]
Concatenation = Literal["udh8", "udh16", "sar", "payload"]
MessageIDs = Literal["exact", "hexToDecimal", "decimalToHex", "stripZeros", "foldCase"]

Choice = TypeVar("Choice", bound=str)

RESPONSE: Final = 0x8000_0000  # the bit that makes a command the answer to it
HEADER: Final = struct.Struct(">IIII")  # length, command, status, sequence number
_VERSION = 0x34
_UCS_2 = 8  # data_coding
_HAS_HEADER = 0x40  # esm_class: the text begins with a user data header
_MAX_PARTS = 255
_MAX_ADDRESS = 20
_MAX_PAYLOAD = 65_535
_SHORT_CODE_DIGITS = 6
_MAX_LETTERS = 11


class Command(IntEnum):
    SUBMIT_SM = 0x04
    DELIVER_SM = 0x05
    UNBIND = 0x06
    BIND_TRANSCEIVER = 0x09
    ENQUIRE_LINK = 0x15
    DATA_SM = 0x103
    GENERIC_NACK = 0x8000_0000


class Tag(IntEnum):
    """The optional fields that are written or read here."""

    RECEIPTED_MESSAGE_ID = 0x001E
    SAR_MSG_REF_NUM = 0x020C
    SAR_TOTAL_SEGMENTS = 0x020E
    SAR_SEGMENT_SEQNUM = 0x020F
    NETWORK_ERROR_CODE = 0x0423
    MESSAGE_PAYLOAD = 0x0424
    MESSAGE_STATE = 0x0427


class Options(msgspec.Struct, frozen=True):
    """A channel's credentials, read. A TON or NPI of None follows from the look of the address."""

    host: str
    port: int
    system_id: str
    password: str
    system_type: str = ""
    tls: bool = False
    source_ton: int | None = None
    source_npi: int | None = None
    destination_ton: int = 1
    destination_npi: int = 1
    default_alphabet: DefaultAlphabet = "gsm"
    concatenation: Concatenation = "udh8"
    message_ids: MessageIDs = "exact"
    receipt_time_zone: str = "UTC"
    accepted_is_final: bool = False
    window: int = 10
    registered_delivery: int = 1


def read_options(credentials: Mapping[str, str]) -> Options:
    """ValueError names the credential, and what was expected."""
    return Options(
        host=_text(credentials, "host", 253, 1),
        port=_number(credentials, "port", 1, 65_535, 2775),
        system_id=_text(credentials, "systemID", 15, 1),
        password=_text(credentials, "password", 64),
        system_type=_text(credentials, "systemType", 12),
        tls=_flag(credentials, "tls"),
        source_ton=_optional_number(credentials, "sourceTON", 6),
        source_npi=_optional_number(credentials, "sourceNPI", 18),
        destination_ton=_number(credentials, "destinationTON", 0, 6, 1),
        destination_npi=_number(credentials, "destinationNPI", 0, 18, 1),
        default_alphabet=_choice(credentials, "defaultAlphabet", get_args(DefaultAlphabet)),
        concatenation=_choice(credentials, "concatenation", get_args(Concatenation)),
        message_ids=_choice(credentials, "messageIDs", get_args(MessageIDs)),
        receipt_time_zone=_time_zone(credentials, "receiptTimeZone"),
        accepted_is_final=_flag(credentials, "acceptedIsFinal"),
        window=_number(credentials, "window", 1, 1000, 10),
        registered_delivery=_number(credentials, "registeredDelivery", 0, 31, 1),
    )


class BadSender(ValueError):
    """No message of the channel can be sent: its sender is none."""


class Part(NamedTuple):
    """One submit_sm's share of a message."""

    octets: bytes
    data_coding: int
    esm_class: int = 0
    tlvs: tuple[tuple[int, bytes], ...] = ()


def cut(options: Options, text: str, number: int) -> list[Part]:
    """The text as the parts of one message; `number` tells it from others on their way to the same handset.

    ValueError where there is no text, or too much. An alphabet that the SMSC only calls its default is still sent on in
    septets, so GSM 03.38 decides where it is cut.
    """
    if not text:
        raise ValueError("the message has no text")
    alphabet = _alphabet_of(options, text)
    data_coding = _UCS_2 if alphabet == "ucs2" else 0
    if options.concatenation == "payload":
        return [_payload(encode(text, alphabet), data_coding)]
    encoding: Encoding = "UCS-2" if alphabet == "ucs2" else "GSM-7"
    texts = split_parts(text, encoding, wide_header=options.concatenation == "udh16")
    if len(texts) > _MAX_PARTS:
        raise ValueError(f"the text takes {len(texts)} parts, at most {_MAX_PARTS} can be sent")
    octets = [encode(part, alphabet) for part in texts]
    if len(octets) == 1:
        return [Part(octets[0], data_coding)]
    return [
        _concatenated(options.concatenation, part, data_coding, number, len(octets), position)
        for position, part in enumerate(octets, 1)
    ]


def _alphabet_of(options: Options, text: str) -> Alphabet:
    if encoding_of(text) == "UCS-2":
        return "ucs2"
    try:
        encode(text, options.default_alphabet)
    except ValueError:
        return "ucs2"
    return options.default_alphabet


def _payload(octets: bytes, data_coding: int) -> Part:
    if len(octets) > _MAX_PAYLOAD:
        raise ValueError(f"the text takes {len(octets)} octets, at most {_MAX_PAYLOAD} can be sent")
    return Part(b"", data_coding, tlvs=((Tag.MESSAGE_PAYLOAD, octets),))


def _concatenated(
    how: Concatenation, octets: bytes, data_coding: int, number: int, total: int, position: int
) -> Part:
    if how == "udh8":
        header = bytes([5, 0, 3, number & 0xFF, total, position])
        return Part(header + octets, data_coding, _HAS_HEADER)
    wide = (number & 0xFFFF).to_bytes(2)
    if how == "udh16":
        return Part(bytes([6, 8, 4, *wide, total, position]) + octets, data_coding, _HAS_HEADER)
    sar = (
        (Tag.SAR_MSG_REF_NUM, wide),
        (Tag.SAR_TOTAL_SEGMENTS, bytes([total])),
        (Tag.SAR_SEGMENT_SEQNUM, bytes([position])),
    )
    return Part(octets, data_coding, tlvs=sar)


def write_submit(options: Options, message: Outgoing, part: Part, sequence: int) -> bytes:
    """A submit_sm. BadSender, or ValueError where the recipient cannot be an address."""
    sender, ton, npi = _source(options, message.sender)
    recipient = message.recipient.removeprefix("+")
    if not (recipient.isascii() and recipient.isdigit() and len(recipient) <= _MAX_ADDRESS):
        raise ValueError("the recipient is no number")
    return smpp34.SubmitSm(
        sender,
        recipient,
        part.octets,
        source_addr_ton=ton,
        source_addr_npi=npi,
        dest_addr_ton=options.destination_ton,
        dest_addr_npi=options.destination_npi,
        esm_class=part.esm_class,
        registered_delivery=options.registered_delivery,
        data_coding=part.data_coding,
        tlvs=[smpp34.Tlv(tag, value) for tag, value in part.tlvs],
        sequence_number=sequence,
    ).encode()


def _source(options: Options, sender: str) -> tuple[str, int, int]:
    """(address, TON, NPI): international number, short code, or name, unless the credentials say otherwise."""
    address = sender.removeprefix("+")
    digits = address.isascii() and address.isdigit()
    longest = _MAX_ADDRESS if digits else _MAX_LETTERS
    if not (0 < len(address) <= longest and address.isascii() and address.isprintable()):
        raise BadSender(
            f"the sender must be a number, or a name of at most {_MAX_LETTERS} letters without accents"
        )
    ton, npi = (1, 1) if digits else (5, 0)
    if digits and len(sender) <= _SHORT_CODE_DIGITS:
        ton, npi = 3, 0
    return (
        address,
        ton if options.source_ton is None else options.source_ton,
        npi if options.source_npi is None else options.source_npi,
    )


def write_bind(options: Options, sequence: int) -> bytes:
    """A bind_transceiver."""
    texts = (options.system_id, options.password, options.system_type)
    body = b"".join(text.encode() + b"\0" for text in texts) + bytes([_VERSION, 0, 0, 0])
    return write(Command.BIND_TRANSCEIVER, sequence, body=body)


def write(command: int, sequence: int, status: int = 0, body: bytes = b"") -> bytes:
    """Any PDU."""
    return HEADER.pack(HEADER.size + len(body), command, status, sequence) + body


def read_message_id(options: Options, body: bytes) -> str:
    """The id in the body of a submit_sm_resp, written as this SMSC's receipts will write it; may be empty."""
    text = body.partition(b"\0")[0].decode("latin-1")
    match options.message_ids:
        case "hexToDecimal" if re.fullmatch("[0-9A-Fa-f]+", text):
            return str(int(text, 16))
        case "decimalToHex" if re.fullmatch("[0-9]+", text):
            return f"{int(text):x}"
    return receipt_id(options, text)


def receipt_id(options: Options, text: str) -> str:
    """The id in a receipt, in the one spelling that all its spellings share."""
    match options.message_ids:
        case "hexToDecimal" | "stripZeros":
            return text.lstrip("0") or text[:1]
        case "decimalToHex":
            return text.lstrip("0").lower() or text[:1]
        case "foldCase":
            return text.lower()
    return text


_AGAIN: Final = Action.RETRY
_SLOWER: Final = Action.SLOW_DOWN
_NEVER: Final = Action.FAIL
_STOP: Final = Action.PAUSE_CHANNEL

ERRORS: dict[str, Rule] = {
    "0x01": Rule(_NEVER, "The SMSC takes no message of this length"),
    "0x02": Rule(_NEVER, "The SMSC found a wrong length in the request"),
    "0x03": Rule(_NEVER, "The SMSC does not know the command"),
    "0x04": Rule(_AGAIN, "The SMSC says that the connection is not bound for sending", 30),
    "0x05": Rule(_AGAIN, "This account is connected already; the SMSC allows no second connection", 30),
    "0x06": Rule(_NEVER, "The SMSC refuses the message's priority"),
    "0x07": Rule(_STOP, "The SMSC refuses the kind of receipt: check the credential registeredDelivery"),
    "0x08": Rule(_AGAIN, "The SMSC has an error of its own", 5),
    "0x0A": Rule(_NEVER, "The SMSC refuses the sender: it may have to be registered with the operator"),
    "0x0B": Rule(_NEVER, "The SMSC refuses the recipient's number"),
    "0x0C": Rule(_NEVER, "The SMSC does not know the message id"),
    "0x0D": Rule(_STOP, "The SMSC refused the connection: check systemID, password and this host's IP address"),
    "0x0E": Rule(_STOP, "The SMSC refused the password: check the credential password"),
    "0x0F": Rule(_STOP, "The SMSC does not know the account: check the credential systemID"),
    "0x14": Rule(_SLOWER, "The SMSC's queue is full", 1),
    "0x15": Rule(_STOP, "The SMSC refuses the service type"),
    "0x43": Rule(_NEVER, "The SMSC refuses the message's class: another concatenation may help"),
    "0x45": Rule(_AGAIN, "The SMSC could not take the message", 5),
    "0x48": Rule(_STOP, "The SMSC refuses the sender's type of number: check the credential sourceTON"),
    "0x49": Rule(_STOP, "The SMSC refuses the sender's numbering plan: check the credential sourceNPI"),
    "0x50": Rule(_STOP, "The SMSC refuses the recipient's type of number: check the credential destinationTON"),
    "0x51": Rule(_STOP, "The SMSC refuses the recipient's numbering plan: check the credential destinationNPI"),
    "0x53": Rule(_STOP, "The SMSC refuses the system type: check the credential systemType"),
    "0x58": Rule(_SLOWER, "Sent faster than the SMSC allows", 1),
    "0x61": Rule(_NEVER, "The SMSC refuses the time of delivery"),
    "0x62": Rule(_NEVER, "The SMSC refuses the time of expiry"),
    "0x64": Rule(_AGAIN, "The SMSC cannot take the message at the moment", 30),
    "0x65": Rule(_NEVER, "The SMSC will never take this message"),
    "0x66": Rule(_NEVER, "The SMSC rejected the message"),
    "0xC0": Rule(_NEVER, "The SMSC cannot read the message's optional fields: try another concatenation"),
    "0xC1": Rule(_NEVER, "The SMSC does not allow an optional field: try another concatenation"),
    "0xC2": Rule(_NEVER, "The SMSC finds an optional field too long or too short"),
    "0xC3": Rule(_NEVER, "The SMSC misses an optional field"),
    "0xC4": Rule(_NEVER, "The SMSC refuses the value of an optional field"),
    "0xFE": Rule(_NEVER, "The SMSC could not deliver the message"),
    "0xFF": Rule(_AGAIN, "The SMSC has an error that it does not name", 5),
}  # fmt: skip
_UNLISTED = Rule(_AGAIN, "The SMSC refused with a code of its own: its operator knows what it means", 10)


def refusal(status: int) -> SendError:
    """What a command_status other than 0 means."""
    code = f"0x{status:02X}"
    rule = ERRORS.get(code, _UNLISTED)
    return SendError(code, rule.words, rule)


def bind_refusal(status: int) -> SendError:
    """What a command_status means where it answers a bind: no message is at fault, and none shall fail of it."""
    error = refusal(status)
    passing = error.rule.action in {Action.RETRY, Action.SLOW_DOWN}
    rule = error.rule._replace(action=Action.SLOW_DOWN if passing else Action.PAUSE_CHANNEL)
    return SendError(error.code, error.title, rule)


def _text(credentials: Mapping[str, str], name: str, longest: int, shortest: int = 0) -> str:
    text = credentials.get(name, "")
    if not (shortest <= len(text) <= longest and text.isascii() and text.isprintable()):
        raise ValueError(f"credentials: {name} must be {shortest} to {longest} characters of ASCII")
    return text


def _optional_number(credentials: Mapping[str, str], name: str, high: int) -> int | None:
    return _number(credentials, name, 0, high, 0) if credentials.get(name) else None


def _number(credentials: Mapping[str, str], name: str, low: int, high: int, default: int) -> int:
    text = credentials.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(high)) and low <= int(text) <= high):
        raise ValueError(f"credentials: {name} must be a number from {low} to {high}")
    return int(text)


def _flag(credentials: Mapping[str, str], name: str) -> bool:
    return _choice(credentials, name, ("false", "true")) == "true"


def _choice(credentials: Mapping[str, str], name: str, choices: tuple[Choice, ...]) -> Choice:
    """The first one where nothing is said."""
    word = credentials.get(name) or choices[0]
    for choice in choices:
        if choice == word:
            return choice
    raise ValueError(f"credentials: {name} must be one of {', '.join(choices)}")


def _time_zone(credentials: Mapping[str, str], name: str) -> str:
    text = credentials.get(name) or "UTC"
    try:
        return ZoneInfo(text).key
    except (ValueError, OSError, KeyError):
        raise ValueError(
            f"credentials: {name} must be the name of a time zone, such as Asia/Hong_Kong"
        ) from None
