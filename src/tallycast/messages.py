"""Messages: one recipient of one campaign each. Recording them, in batches, from JSON, NDJSON or CSV."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from tallycast import campaigns, db
from tallycast.errors import NotFound
from tallycast.numbers import InvalidNumber, parse_number
from tallycast.segments import count_parts
from tallycast.sql import load

BATCH = 2000
_SQL = load("messages")
_MAX_ID = 255
_MAX_CONTENT = 100_000
_MAX_PARTS = 32_767


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A line of a recording, as it came."""

    recipient: str
    message_id: str | None = msgspec.field(name="messageID", default=None)
    content: str | None = None


class Rejected(msgspec.Struct, frozen=True):
    """A line that was not kept. `index` counts messages from 0; `line` counts a stream's lines from 1."""

    index: int
    recipient: str
    error: str
    line: int | msgspec.UnsetType = msgspec.UNSET


class Line(msgspec.Struct, frozen=True, gc=False):
    """Where a line stands, and what it says: an entry, or why it is none."""

    index: int
    line: int | msgspec.UnsetType
    entry: Entry | None
    recipient: str
    error: str


class Held(msgspec.Struct, frozen=True):
    total: int
    channel_number: int
    type: str
    content: str
    dated: object


class Recorded(NamedTuple):
    accepted: int
    rejected: list[Rejected]
    channel_number: int
    message_ids: list[str]


class _Row(NamedTuple):
    line: Line
    e164: str
    country: str | None
    message_id: str | None
    content: str | None


class Listed(msgspec.Struct, frozen=True):
    seq: int
    recipient: str
    country: str | None
    message_id: str | None


_decoder = msgspec.json.Decoder(Entry)


def read_entry(index: int, line: int | msgspec.UnsetType, raw: bytes | msgspec.Raw) -> Line:
    """A line from JSON: `{"recipient", "messageID"?, "content"?}`."""
    try:
        entry = _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Line(index, line, None, _guess_recipient(raw), f"not a message: {error}")
    return check_entry(index, line, entry)


def check_entry(index: int, line: int | msgspec.UnsetType, entry: Entry) -> Line:
    error = ""
    if entry.message_id is not None and (len(entry.message_id) > _MAX_ID or "\0" in entry.message_id):
        error = f"messageID must be at most {_MAX_ID} characters, without NUL"
    elif entry.content is not None and (len(entry.content) > _MAX_CONTENT or "\0" in entry.content):
        error = f"content must be at most {_MAX_CONTENT} characters, without NUL"
    return Line(index, line, None if error else entry, entry.recipient, error)


def _guess_recipient(raw: bytes | msgspec.Raw) -> str:
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    return str(value.get("recipient", ""))[:100] if isinstance(value, dict) else ""


def parse_rows(lines: Iterable[Line]) -> tuple[list[_Row], list[Rejected]]:
    """Rows with their number as E.164, and the lines that cannot be rows. Pure and slow: run it off the loop."""
    rows: list[_Row] = []
    rejected: list[Rejected] = []
    for line in lines:
        if line.entry is None:
            rejected.append(Rejected(line.index, line.recipient, line.error, line.line))
            continue
        try:
            number = parse_number(line.entry.recipient)
        except InvalidNumber as error:
            rejected.append(Rejected(line.index, line.recipient[:100], str(error), line.line))
            continue
        rows.append(
            _Row(line, number.e164, number.country, line.entry.message_id or None, line.entry.content)
        )
    return rows, rejected


async def record(connection: db.Connection, app_id: str, campaign_id: int, rows: Sequence[_Row]) -> Recorded:
    """Add or complete messages of a campaign, in one transaction of the caller. Repeating it changes nothing.

    Unprocessable where the campaign's figures are frozen. What is refused: a recipient who has another message id, and a message id that belongs to another message.
    """
    params = {"app_id": app_id, "campaign_id": campaign_id}
    held = await _hold(connection, params)
    await campaigns.refuse_retained(connection, app_id, campaign_id)
    groups, rejected = _group(rows)
    unique = [_merge(group) for group in groups]
    # A refused message id does not take the recipient's lines without one with it.
    without_id = []
    for n, error in await _add(connection, params, held, unique):
        rejected += [_reject(row, error) for row in groups[n - 1] if row.message_id is not None]
        without_id += [row for row in groups[n - 1] if row.message_id is None][:1]
    if without_id:
        await _add(connection, params, await _hold(connection, params), without_id)
    message_ids = [row.message_id for row in unique if row.message_id is not None]
    return Recorded(len(rows) - len(rejected), rejected, held.channel_number, message_ids)


async def _hold(connection: db.Connection, params: dict[str, object]) -> Held:
    held = await db.fetch_one(connection, Held, _SQL["hold_campaign"], params)
    if held is None:
        raise NotFound(f"no campaign {params['campaign_id']}")
    return held


def _reject(row: _Row, error: str) -> Rejected:
    return Rejected(row.line.index, row.line.recipient, error, row.line.line)


def _group(rows: Sequence[_Row]) -> tuple[list[list[_Row]], list[Rejected]]:
    """The rows of each recipient that agree on one message id: a statement must not name one twice."""
    groups: dict[str, list[_Row]] = {}
    owners: dict[str, str] = {}
    ids: dict[str, str] = {}
    rejected: list[Rejected] = []
    for row in rows:
        if row.message_id is not None and owners.setdefault(row.message_id, row.e164) != row.e164:
            rejected.append(_reject(row, "messageID belongs to another message"))
        elif row.message_id is not None and ids.setdefault(row.e164, row.message_id) != row.message_id:
            rejected.append(_reject(row, "recipient has another messageID"))
        else:
            groups.setdefault(row.e164, []).append(row)
    return list(groups.values()), rejected


def _merge(group: list[_Row]) -> _Row:
    message_id = next((row.message_id for row in group if row.message_id is not None), None)
    return group[0]._replace(message_id=message_id)


async def _add(
    connection: db.Connection, params: dict[str, object], held: Held, rows: Sequence[_Row]
) -> Sequence[tuple[int, str]]:
    if not rows:
        return []
    is_sms = held.type == "sms"
    default_parts = count_parts(held.content) if is_sms else 1
    return await db.fetch_rows(
        connection,
        _SQL["add_messages"],
        {
            **params,
            "channel_number": held.channel_number,
            "total": held.total,
            "dated": held.dated,
            "recipient": [row.e164 for row in rows],
            "country": [row.country for row in rows],
            "message_id": [row.message_id for row in rows],
            "content": [row.content for row in rows],
            "parts": [
                min(count_parts(row.content), _MAX_PARTS)
                if is_sms and row.content is not None
                else default_parts
                for row in rows
            ],
        },
    )


async def list_from(
    connection: db.Connection, app_id: str, campaign_id: int, from_seq: int, limit: int
) -> list[Listed]:
    params = {"app_id": app_id, "campaign_id": campaign_id, "from_seq": from_seq, "limit": limit}
    return await db.fetch_all(connection, Listed, _SQL["list_messages"], params)
