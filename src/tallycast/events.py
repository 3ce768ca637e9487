"""What a provider can say about a message, or about its recipient: the frozen events between the wire and the domain.

Providers' parsers return these; `receipts.py` decides what they mean.
"""

from enum import StrEnum

import msgspec


class Status(StrEnum):
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"


class Receipt(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A provider's word about one message.

    `at_ms` is the event's own time in Unix milliseconds; None where the provider gave none that can be used
    (the time of arrival is taken then). `reference` is tallycast's own id of the message, where the provider
    echoed it (`biz_opaque_callback_data`).
    """

    message_id: str
    status: Status
    at_ms: int | None = None
    error_code: str | None = None
    error_title: str | None = None
    reference: str | None = None


class ButtonClick(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A recipient chose a button (or list row) of a message.

    `button` is the button's identity: its payload or id without tallycast's reference, else its text.
    The message is known by `message_id` (the provider's context), by `reference` (our own id in the payload),
    or both. `inbound_id` is the provider's id of the click itself. `label` is the button's text, where that says
    something else than `button`.
    """

    button: str
    message_id: str | None = None
    reference: str | None = None
    at_ms: int | None = None
    inbound_id: str | None = None
    sender: str | None = None
    label: str | None = None


class TextReply(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A recipient wrote something himself: kept, not counted. `message_id` is the message that he quoted."""

    text: str
    inbound_id: str
    message_id: str | None = None
    at_ms: int | None = None
    sender: str | None = None


class Preference(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A recipient told the provider that he wants our messages, or that he does not. `sender`: his number, or the
    provider's own id of him. `detail`: the provider's words for it.
    """

    wants: bool
    sender: str
    at_ms: int | None = None
    detail: str = ""


class Identity(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Whose number a provider's own user id is."""

    user_id: str
    number: str


class Unreadable(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A body, or the part of a body, that was authentic and not understood: kept raw and listed."""

    reason: str
    raw: bytes


Event = Receipt | ButtonClick | TextReply | Preference | Identity | Unreadable
