"""The WhatsApp Cloud payload, which Meta sends and 360dialog passes on: entries of changes of items.

A body is first decoded as a whole into the types below. Where it does not fit, or says something unusual, it
is walked again part by part, and the same functions read its items.
"""

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from tallycast.events import ButtonClick, Event, Identity, Preference, Receipt, Status, TextReply, Unreadable
from tallycast.providers.salvage import Reader, members, members_of_body, read_each, read_or_keep
from tallycast.providers.values import (
    MAX_TITLE,
    OddError,
    choice,
    error_code,
    error_title,
    identity,
    identity_or_none,
    label_of,
    own_reference,
    quote,
    seconds_to_ms,
    storable,
)

_STATUSES = {
    "sent": Status.ACCEPTED,
    "delivered": Status.DELIVERED,
    "read": Status.READ,
    "played": Status.READ,  # a voice message that was listened to
    "failed": Status.FAILED,
}
_IGNORED_STATUSES = frozenset({"deleted", "warning"})

_PREFERENCES = {"stop": False, "resume": True, "signup": True}

_IGNORED_FIELDS = frozenset(
    {
        "account_review_update",
        "account_update",
        "business_capability_update",
        "flows",
        "message_template_quality_update",
        "message_template_status_update",
        "phone_number_name_update",
        "phone_number_quality_update",
        "security",
        "template_category_update",
    }
)
# `user_actions` (link clicks of Meta's marketing API) name neither the recipient nor the message.
_KNOWN_MEMBERS = frozenset({"statuses", "messages", "errors", "user_actions"})


class _Status(msgspec.Struct, gc=False):
    id: str
    status: str
    timestamp: Any = None
    errors: Any = None
    biz_opaque_callback_data: Any = None


class _Context(msgspec.Struct, gc=False):
    id: str | None = None


class _Button(msgspec.Struct, gc=False):
    payload: str | None = None
    text: str | None = None


class _Choice(msgspec.Struct, gc=False):
    id: str | None = None
    title: str | None = None


class _Interactive(msgspec.Struct, gc=False):
    type: str
    button_reply: _Choice | None = None
    list_reply: _Choice | None = None


class _Text(msgspec.Struct, gc=False):
    body: str


class _Message(msgspec.Struct, gc=False, rename={"sender": "from"}):
    id: str
    type: str
    timestamp: Any = None
    sender: str | None = None
    from_user_id: str | None = None  # all that is known of a recipient who took a username
    context: _Context | None = None
    button: _Button | None = None
    interactive: _Interactive | None = None
    text: _Text | None = None


class _Contact(msgspec.Struct, gc=False):
    wa_id: str | None = None
    user_id: str | None = None


class _Preference(msgspec.Struct, gc=False):
    value: str
    wa_id: str | None = None
    user_id: str | None = None
    timestamp: Any = None
    detail: Any = None


class _Value(msgspec.Struct, gc=False):
    contacts: list[_Contact] | None = None
    statuses: list[_Status] | None = None
    messages: list[_Message] | None = None
    errors: list[Raw] | None = None


class _Change(msgspec.Struct, gc=False):
    value: _Value
    field: str = "messages"


class _Entry(msgspec.Struct, gc=False):
    changes: list[_Change]


class _Envelope(_Value, gc=False):
    """An envelope of entries, or of the on-premise API, which has the items at the top."""

    entry: list[_Entry] | UnsetType = UNSET


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_STATUS = msgspec.json.Decoder(_Status)
_MESSAGE = msgspec.json.Decoder(_Message)
_CONTACT = msgspec.json.Decoder(_Contact)
_PREFERENCE = msgspec.json.Decoder(_Preference)
_STRING = msgspec.json.Decoder(str)


def parse(body: bytes) -> list[Event]:
    try:
        return _read_envelope(_ENVELOPE.decode(body))
    except (ValueError, RecursionError):
        return read_or_keep(body, _walk_body)


def _read_envelope(envelope: _Envelope) -> list[Event]:
    if envelope.entry is UNSET:
        return _read_value(envelope)
    if envelope.statuses is not None or envelope.messages is not None or envelope.errors is not None:
        raise OddError("items beside the entries")
    events: list[Event] = []
    for entry in envelope.entry:
        for change in entry.changes:
            if change.field != "messages":
                raise OddError("a field that needs a closer look")
            events += _read_value(change.value)
    return events


def _read_value(value: _Value) -> list[Event]:
    if value.statuses is None and value.messages is None:
        raise OddError("no items")
    receipts = [_read_status(status) for status in value.statuses or ()]
    events: list[Event] = [receipt for receipt in receipts if receipt is not None]
    if value.errors and not events:
        raise OddError("an error that belongs to no status")
    events += [_read_message(message) for message in value.messages or ()]
    if value.contacts is not None:
        events += _read_contacts(value.contacts)
    return events


def _read_contacts(contacts: list[_Contact]) -> list[Identity]:
    """Whose number a user id is: WhatsApp tells both where it knows both."""
    return [
        Identity(identity(one.user_id), identity(one.wa_id))
        for one in contacts
        if one.user_id and one.wa_id and _is_number(one.wa_id)
    ]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _read_status(item: _Status) -> Receipt | None:
    status = _STATUSES.get(item.status)
    if status is None:
        if item.status in _IGNORED_STATUSES:
            return None
        raise OddError(f"status {quote(item.status)} is unknown")
    code, title = _read_error(item.errors) if status is Status.FAILED else (None, None)
    reference = item.biz_opaque_callback_data
    return Receipt(
        identity(item.id),
        status,
        seconds_to_ms(item.timestamp),
        code,
        title,
        None if reference is None else own_reference(reference),
    )


def _read_error(errors: Any) -> tuple[str | None, str | None]:
    """The first error's (code, title): however odd it is, the message has failed."""
    first = errors[0] if isinstance(errors, list) and errors else None
    if not isinstance(first, dict):
        return None, None
    title = error_title(first.get("title")) or error_title(first.get("message"))
    data = first.get("error_data")
    details = error_title(data.get("details")) if isinstance(data, dict) else None
    return error_code(first.get("code")), _describe(title, details)


def _describe(title: str | None, details: str | None) -> str | None:
    if title is None or details is None:
        return title or details
    if details.casefold() in title.casefold():
        return title
    if details.casefold().startswith(title.casefold()):
        return details
    return f"{title}: {details}"[:MAX_TITLE]


def _read_message(item: _Message) -> ButtonClick | TextReply:
    if item.type == "button" and item.button is not None:
        return _read_click(item, item.button.payload, item.button.text)
    if item.type == "interactive" and item.interactive is not None:
        chosen = item.interactive.button_reply or item.interactive.list_reply
        if chosen is None:
            raise OddError(f"interactive type {quote(item.interactive.type)} is kept, not counted")
        return _read_click(item, chosen.id, chosen.title)
    if item.type == "text" and item.text is not None:
        return TextReply(
            storable(item.text.body),
            identity(item.id),
            _quoted(item),
            seconds_to_ms(item.timestamp),
            _sender(item),
        )
    raise OddError(f"message type {quote(item.type)} is kept, not counted")


def _read_click(item: _Message, payload: str | None, text: str | None) -> ButtonClick:
    reference, button = choice(payload, text)
    message_id = _quoted(item)
    if message_id is None and reference is None:
        raise _StrayClick(_read_stray(item, button, text))
    return ButtonClick(
        button,
        message_id,
        reference,
        seconds_to_ms(item.timestamp),
        identity(item.id),
        _sender(item),
        label_of(button, text),
    )


class _StrayClick(OddError):
    """A click whose message is not known: it is no reply to count, but what it says may be a wish."""

    def __init__(self, text: TextReply) -> None:
        super().__init__("a click without context and without reference: its message is not known")
        self.text = text


def _read_stray(item: _Message, button: str, text: str | None) -> TextReply:
    said = label_of(button, text) or button
    return TextReply(said, identity(item.id), None, seconds_to_ms(item.timestamp), _sender(item))


def _quoted(item: _Message) -> str | None:
    return identity_or_none(item.context.id) if item.context is not None else None


def _sender(item: _Message) -> str | None:
    return identity_or_none(item.sender or item.from_user_id)


def _walk_body(body: bytes | Raw) -> list[Event]:
    envelope = members_of_body(bytes(body))
    if "entry" not in envelope:
        return _walk_value(envelope)
    events = read_each(envelope["entry"], _walk_entry)
    return events + _walk_value(envelope) if _KNOWN_MEMBERS & envelope.keys() else events


def _walk_entry(entry: bytes | Raw) -> list[Event]:
    changes = members(entry).get("changes")
    if changes is None:
        raise OddError("an entry without changes")
    return read_each(changes, _walk_change)


def _walk_change(raw: bytes | Raw) -> list[Event]:
    change = members(raw)
    field = _STRING.decode(change["field"]) if "field" in change else "messages"
    if field in _IGNORED_FIELDS:
        return []
    if field == "user_preferences":
        return _walk_preferences(change)
    if field != "messages":
        raise OddError(f"field {quote(field)} is unknown")
    if "value" not in change:
        raise OddError("a change without a value")
    return _walk_value(members(change["value"]))


def _walk_value(value: dict[str, Raw]) -> list[Event]:
    if not _KNOWN_MEMBERS & value.keys():
        raise OddError("neither statuses nor messages")
    events = _walk_array(value.get("statuses"), _walk_status)
    if not events:
        events += _walk_array(value.get("errors"), _walk_stray_error)
    return events + _walk_array(value.get("messages"), _walk_message) + _walk_contacts(value)


def _walk_preferences(change: dict[str, Raw]) -> list[Event]:
    value = members(change["value"]) if "value" in change else {}
    if "user_preferences" not in value:
        raise OddError("a change of preferences without any")
    return _walk_array(value["user_preferences"], _walk_preference) + _walk_contacts(value)


def _walk_preference(raw: bytes | Raw) -> list[Event]:
    item = _PREFERENCE.decode(raw)
    if item.value not in _PREFERENCES:
        raise OddError(f"preference {quote(item.value)} is unknown")
    sender = identity_or_none(item.wa_id or item.user_id)
    if sender is None:
        raise OddError("a preference of nobody")
    at_ms, detail = seconds_to_ms(item.timestamp), error_title(item.detail)
    return [Preference(_PREFERENCES[item.value], sender, at_ms, detail or "")]


def _walk_contacts(value: dict[str, Raw]) -> list[Event]:
    """Contacts only help to know who somebody is: an odd one costs nothing, and is nothing to keep."""
    events = _walk_array(value.get("contacts"), lambda raw: [*_read_contacts([_CONTACT.decode(raw)])])
    return [event for event in events if isinstance(event, Identity)]


def _walk_array(array: Raw | None, read: Reader) -> list[Event]:
    return [] if array is None else read_or_keep(array, lambda part: read_each(part, read))


def _walk_status(raw: bytes | Raw) -> list[Event]:
    receipt = _read_status(_STATUS.decode(raw))
    return [] if receipt is None else [receipt]


def _walk_message(raw: bytes | Raw) -> list[Event]:
    try:
        return [_read_message(_MESSAGE.decode(raw))]
    except _StrayClick as stray:
        return [Unreadable(str(stray), bytes(raw)), stray.text]


def _walk_stray_error(_raw: bytes | Raw) -> list[Event]:
    raise OddError("an error that belongs to no status is kept, not counted")
