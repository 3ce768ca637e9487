"""A recipient's story: everything that happened to a message, in words for people."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from tallycast import failures
from tallycast.failures import Cause
from tallycast.moments import write_moment

UNSET = msgspec.UNSET
Unset = msgspec.UnsetType
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
_SENT_AS = {"sms": "an SMS", "whatsApp": "a WhatsApp message"}
EventKind = Literal[
    "queued", "waiting", "sending", "unknown", "accepted", "delivered", "read", "failed", "fallback", "button", "click",
    "text",
]  # fmt: skip


class Event(msgspec.Struct, frozen=True, rename="camel"):
    """Something that happened to a message, in words for people. `at`: null where the moment is not known.

    `about` tells facts of the message itself from those of an earlier attempt, or of one of an SMS's parts.
    `setAside`: why a hit of a link is not counted. `text`: what the recipient wrote.
    """

    kind: EventKind
    at: Moment | None
    words: str
    about: Literal["message", "attempt", "part"] = "message"
    what_to_do: str | Unset = UNSET
    channel_id: str | Unset = msgspec.field(name="channelID", default=UNSET)
    message_id: str | Unset = msgspec.field(name="messageID", default=UNSET)
    error_code: str | Unset = UNSET
    error_title: str | Unset = UNSET
    button: str | Unset = UNSET
    url: str | Unset = UNSET
    set_aside: str | Unset = UNSET
    user_agent: str | Unset = UNSET
    text: str | Unset = UNSET


class Row(msgspec.Struct, frozen=True):
    """A message and its channel."""

    seq: int
    recipient: str
    country: str | None
    channel_id: str
    type: Literal["sms", "whatsApp"]
    provider: str
    message_id: str | None
    state: Literal["queued", "pending", "delivered", "read", "failed"]
    parts: int
    content: str | None
    accepted_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    error_code: str | None
    error_title: str | None


class Attempt(msgspec.Struct, frozen=True):
    """An earlier attempt (part 0), or a part of an SMS: of this attempt (from 1) or of an earlier one (-1)."""

    part: int
    channel_id: str
    type: Literal["sms", "whatsApp"]
    provider: str
    message_id: str
    accepted_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    error_code: str | None
    error_title: str | None


class Handover(msgspec.Struct, frozen=True):
    status: Literal["claimed", "due", "unknown"]
    due_at: datetime
    claimed_at: datetime | None
    attempts: int
    reason: str


_Happened = tuple[datetime | None, Event]


def tell(
    row: Row,
    tries: Sequence[Attempt],
    handover: Handover | None,
    buttons: Iterable[Sequence[Any]],
    hits: Iterable[Sequence[Any]],
    texts: Iterable[Sequence[Any]],
) -> list[Event]:
    """All events in order; those whose moment is not known come last: they have not happened yet."""
    happened = [
        *_tell_way(row, tries, handover),
        *_tell_facts(row, tries, handover),
        *(event for one in tries for event in _tell_attempt(one, row)),
        *(_tell_button(*one) for one in buttons),
        *(_tell_hit(*one) for one in hits),
        *(_tell_text(*one) for one in texts),
    ]
    last = datetime.max.replace(tzinfo=UTC)
    return [event for _, event in sorted(happened, key=lambda one: one[0] or last)]


def explain(one: Row | Attempt) -> Cause:
    """Why it failed."""
    return failures.explain(one.error_code or "", one.error_title or "", one.provider)


def _event(kind: EventKind, at: datetime | None, words: str, **fields: Any) -> _Happened:
    return at, Event(kind, None if at is None else write_moment(at), words, **fields)


def _tell_way(row: Row, tries: Sequence[Attempt], handover: Handover | None) -> Iterator[_Happened]:
    """How the message gets to the provider: by which channel, and what it waits for."""
    first = next((one for one in tries if one.part == 0 and one.channel_id != row.channel_id), None)
    if first is not None:
        moments = (row.accepted_at, row.failed_at, handover and handover.due_at)
        words = f"It did not arrive as {_SENT_AS[first.type]}: it goes out as {_SENT_AS[row.type]} instead."
        yield _event("fallback", next((at for at in moments if at), None), words, channel_id=row.channel_id)
    if handover is None:
        if row.state == "queued":
            yield _event("queued", None, "It waits for its turn.", channel_id=row.channel_id)
    elif handover.status == "due":
        why = f": {handover.reason}" if handover.reason else ""
        yield _event("waiting", handover.due_at, f"It is put off until then{why}.", channel_id=row.channel_id)
    elif handover.status == "claimed":
        yield _event("sending", handover.claimed_at, "It is on its way to the provider.")


def _tell_facts(row: Row, tries: Sequence[Attempt], handover: Handover | None) -> Iterator[_Happened]:
    is_open = row.message_id is None and not (row.delivered_at or row.read_at or row.failed_at)
    if handover is not None and handover.status == "unknown" and is_open:
        yield _event(
            "unknown",
            row.accepted_at,
            f"Nobody knows whether it went out: {handover.reason}.",
            what_to_do="Its receipt settles that, or a person who knows: say sent, notSent or resend.",
            channel_id=row.channel_id,
        )
    elif row.accepted_at:
        again = ", again" if any(one.part == 0 for one in tries) else ""
        words = f"Handed over as {_SENT_AS[row.type]}{again}."
        yield _event(
            "accepted", row.accepted_at, words, channel_id=row.channel_id, message_id=row.message_id or UNSET
        )
    if row.delivered_at:
        yield _event("delivered", row.delivered_at, "Delivered.")
    if row.read_at:
        yield _event("read", row.read_at, "Read.")
    if row.failed_at:
        yield _tell_failure(row, row.failed_at, "message", is_over=row.state != "failed")


def _tell_failure(
    one: Row | Attempt, at: datetime, about: Literal["message", "attempt", "part"], *, is_over: bool
) -> _Happened:
    why = explain(one)
    said = why.words or f"Failed: {why.title or 'the provider gives no reason'}."
    return _event(
        "failed",
        at,
        f"{said} It was tried again, or delivered after all." if is_over else said,
        about=about,
        what_to_do=UNSET if is_over else why.what_to_do,
        error_code=why.code,
        error_title=why.title,
    )


def _tell_attempt(one: Attempt, row: Row) -> Iterator[_Happened]:
    about: Literal["attempt", "part"] = "attempt" if one.part == 0 else "part"
    name = "An earlier attempt" if one.part == 0 else f"Part {one.part} of {row.parts}"
    name = "A part of an earlier attempt" if one.part < 0 else name
    where = {"about": about, "channel_id": one.channel_id, "message_id": one.message_id}
    if one.accepted_at and one.part == 0:
        yield _event("accepted", one.accepted_at, f"{name} was handed over as {_SENT_AS[one.type]}.", **where)
    if one.delivered_at:
        yield _event("delivered", one.delivered_at, f"{name} was delivered.", **where)
    if one.read_at:
        yield _event("read", one.read_at, f"{name} was read.", **where)
    if one.failed_at:
        yield _tell_failure(one, one.failed_at, about, is_over=one.part <= 0)


def _tell_button(button: str, at: datetime) -> _Happened:
    return _event("button", at, f"Chose the button {button}.", button=button)


def _tell_hit(url: str, at: datetime, set_aside: str | None, user_agent: str) -> _Happened:
    said = f"Followed the link {url}." if set_aside is None else f"The link {url} was fetched: {set_aside}."
    return _event("click", at, said, url=url, set_aside=set_aside or UNSET, user_agent=user_agent)


def _tell_text(text: str, at: datetime, is_quoting: bool) -> _Happened:
    return _event("text", at, "Answered the message." if is_quoting else "Wrote a message.", text=text)
