"""Recipients of a campaign: who is behind a figure, who has a number, and what happened to each."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec

from tallycast import campaigns, db, digests, stories
from tallycast.errors import BadQuery, NotFound
from tallycast.moments import write_moment
from tallycast.numbers import InvalidNumber, clean, parse_number
from tallycast.references import write_reference
from tallycast.sql import load
from tallycast.stories import Attempt, Event, Handover, Row

UNSET = msgspec.UNSET
Unset = msgspec.UnsetType
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
Standing = Literal[
    "queued", "pending", "sent", "delivered", "read", "failed", "unknown", "replied", "clicked"
]
STANDINGS: tuple[Standing, ...] = get_args(Standing)
_SQL = load("recipients")
# Figures that hold others: who has read it was delivered, and all of these left the queue.
_STATES: dict[str, list[str]] = {
    "queued": ["queued"],
    "pending": ["pending"],
    "sent": ["pending", "delivered", "read", "failed"],
    "delivered": ["delivered", "read"],
    "read": ["read"],
    "failed": ["failed"],
}
_PORTION = 20_000
# What a recipient writes within a week of the message is taken for an answer to it, unless it quotes another one.
_ANSWER_DAYS = 7
_MAX_EVENTS = 200


class Filter(msgspec.Struct, frozen=True):
    """Whom to list: those to whom all of it applies. None does not matter, an empty text stands for none.

    `state` is a figure of the funnel and lists exactly those that it counts. Failures are told apart by
    `error_code`, `error_title` and `provider`. `number`: the beginning of a number, or all of it, in any spelling.
    """

    state: Standing | None = None
    error_code: str | None = None
    error_title: str | None = None
    provider: str | None = None
    country: str | None = None
    button: str | None = None
    link: str | None = None
    number: str | None = None


class Recipient(msgspec.Struct, frozen=True, rename="camel"):
    """A recipient and what became of the message. `seq`: the position in the campaign, from 0. `failureReason` and
    `whatToDo` are plain words, for one that has failed.
    """

    seq: int
    recipient: str
    country: str
    channel_id: str = msgspec.field(name="channelID")
    reference_id: str = msgspec.field(name="referenceID")
    state: Literal["queued", "pending", "delivered", "read", "failed"]
    parts: int
    message_id: str | Unset = msgspec.field(name="messageID", default=UNSET)
    content: str | Unset = UNSET
    accepted_at: Moment | Unset = UNSET
    delivered_at: Moment | Unset = UNSET
    read_at: Moment | Unset = UNSET
    failed_at: Moment | Unset = UNSET
    error_code: str | Unset = UNSET
    error_title: str | Unset = UNSET
    failure_reason: str | Unset = UNSET
    what_to_do: str | Unset = UNSET


class Page(NamedTuple):
    """`next_cursor` is where the list goes on; None at its end."""

    rows: list[Recipient]
    next_cursor: int | None


class Story(msgspec.Struct, frozen=True):
    """A recipient and all that happened, in order; of hits and texts the first 200."""

    recipient: Recipient
    events: list[Event]


_Find = Callable[[int, int], Awaitable[list[int]]]


async def list_page(
    connection: db.Connection, app_id: str, campaign_id: int, wanted: Filter, cursor: int, limit: int
) -> Page:
    """Up to `limit` recipients from position `cursor` on, in order. NotFound; BadQuery for what is no number."""
    await campaigns.require(connection, app_id, campaign_id)
    sources = _choose_sources(connection, app_id, campaign_id, wanted)
    seqs = await _meet(sources, cursor, limit + 1) if limit else []
    rows = await _read(connection, app_id, campaign_id, seqs[:limit])
    page = [_describe(campaign_id, row) for row in rows]
    return Page(page, seqs[limit] if len(seqs) > limit else None)


def _choose_sources(connection: db.Connection, app_id: str, campaign_id: int, wanted: Filter) -> list[_Find]:
    """One way to find recipients for each condition that is not on the message itself, and one for all that are."""
    number = None if wanted.number is None else read_prefix(wanted.number)
    is_failure = any(one is not None for one in (wanted.error_code, wanted.error_title, wanted.provider))
    states = _STATES.get(wanted.state or "")
    if is_failure:
        states = [state for state in states or ["failed"] if state == "failed"]
    params = {
        "app_id": app_id,
        "campaign_id": campaign_id,
        **msgspec.structs.asdict(wanted),
        "states": states,
        "number": number,
    }
    queries = []
    if wanted.button is not None:
        queries.append(_SQL["find_by_button"])
    if wanted.link is not None or wanted.state == "clicked":
        queries.append(_SQL["find_by_link"])
    if wanted.state == "replied":
        queries.append(_SQL["find_replied"])
    if wanted.state == "unknown":
        queries.append(_SQL["find_unknown"])
    if not queries or any(one is not None for one in (states, wanted.country, number)):
        queries.append(_SQL["find_by_message"])
    return [_source(connection, query, params) for query in queries]


def _source(connection: db.Connection, query: bytes, params: dict[str, Any]) -> _Find:
    async def find(from_seq: int, limit: int) -> list[int]:
        rows = await db.fetch_rows(connection, query, {**params, "from_seq": from_seq, "limit": limit})
        return [seq for (seq,) in rows]

    return find


async def _meet(sources: Sequence[_Find], position: int, limit: int) -> list[int]:
    """The first positions from `position` on that every source gives, portion by portion."""
    size = limit if len(sources) == 1 else max(limit, _PORTION)
    found: list[int] = []
    while len(found) < limit:
        portions = [await find(position, size) for find in sources]
        found += sorted(set(portions[0]).intersection(*portions[1:]))
        # A source that gave all that was asked for may have more; beyond the nearest such end not all is known yet.
        end = min((one[-1] for one in portions if len(one) == size), default=None)
        if end is None:
            break
        position = end + 1
    return found[:limit]


def read_prefix(text: str) -> str:
    """E.164 of a number, or the beginning of it; the digest of one who is anonymous as it is. BadQuery."""
    if digests.is_digest(text):
        return text
    try:
        return parse_number(text).e164
    except InvalidNumber:
        pass
    try:
        return "+" + clean(text).removeprefix("+")
    except InvalidNumber:
        raise BadQuery.of(
            f"number must be a phone number or its first digits, with its country code, not {text[:40]!r}"
        ) from None


async def _read(connection: db.Connection, app_id: str, campaign_id: int, seqs: list[int]) -> list[Row]:
    params = {"app_id": app_id, "campaign_id": campaign_id, "seqs": seqs}
    return await db.fetch_all(connection, Row, _SQL["read_recipients"], params)


def _describe(campaign_id: int, row: Row) -> Recipient:
    recipient = Recipient(
        seq=row.seq,
        recipient=row.recipient,
        country=row.country or "",
        channel_id=row.channel_id,
        reference_id=write_reference(campaign_id, row.seq),
        state=row.state,
        parts=row.parts,
        message_id=row.message_id or UNSET,
        content=UNSET if row.content is None else row.content,
        accepted_at=_moment(row.accepted_at),
        delivered_at=_moment(row.delivered_at),
        read_at=_moment(row.read_at),
        failed_at=_moment(row.failed_at),
    )
    if row.state != "failed":
        return recipient
    why = stories.explain(row)
    return msgspec.structs.replace(
        recipient,
        error_code=why.code,
        error_title=why.title,
        failure_reason=why.words or why.title,
        what_to_do=why.what_to_do,
    )


def _moment(moment: datetime | None) -> str | Unset:
    return UNSET if moment is None else write_moment(moment)


async def tell_story(connection: db.Connection, app_id: str, campaign_id: int, seq: int) -> Story:
    """All that is known of one recipient of a campaign. NotFound."""
    await campaigns.require(connection, app_id, campaign_id)
    rows = await _read(connection, app_id, campaign_id, [seq])
    if not rows:
        raise NotFound(f"no recipient {seq} of campaign {campaign_id}")
    [row] = rows
    key = {"app_id": app_id, "campaign_id": campaign_id, "seq": seq, "limit": _MAX_EVENTS}
    tries = await db.fetch_all(connection, Attempt, _SQL["list_attempts"], key)
    events = stories.tell(
        row,
        tries,
        await db.fetch_one(connection, Handover, _SQL["find_handover"], key),
        await db.fetch_rows(connection, _SQL["list_buttons"], key),
        await db.fetch_rows(connection, _SQL["list_hits"], key),
        await _list_texts(connection, key, row, tries),
    )
    return Story(_describe(campaign_id, row), events)


async def _list_texts(
    connection: db.Connection, key: dict[str, Any], row: Row, tries: Sequence[Attempt]
) -> Sequence[tuple[Any, ...]]:
    """What the recipient wrote: who is known by number, with and without `+`, or by ids of the provider's own."""
    ways: list[Row | Attempt] = [row, *tries]
    began = min((one.accepted_at for one in ways if one.accepted_at), default=None)
    if began is None:
        return []
    params = {
        **key,
        "recipient": row.recipient,
        "senders": [row.recipient, row.recipient.removeprefix("+")],
        "channel_ids": sorted({one.channel_id for one in ways}),
        "message_ids": sorted({one.message_id for one in ways if one.message_id}),
        "first_at": began,
        "last_at": began + timedelta(days=_ANSWER_DAYS),
    }
    return await db.fetch_rows(connection, _SQL["list_texts"], params)
