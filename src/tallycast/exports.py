"""Exports: the recipients of a campaign and the summaries of a period as CSV, XLSX, Parquet and NDJSON.

An export is read within one snapshot, in blocks of about a megabyte. PostgreSQL writes each row as a line of the file,
so that a block is a few bytes to add, compress or parse, and memory does not grow with the number of rows.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, get_args

import msgspec

from tallycast import campaigns, cells, db, failures, reports, sheets
from tallycast.cells import Block, Column, Columns, Kind, Options
from tallycast.errors import NotFound
from tallycast.sql import load
from tallycast.summaries import Wanted

_SQL = load("exports")
Format = Literal["csv", "xlsx", "parquet", "ndjson"]
State = Literal["queued", "pending", "delivered", "read", "failed"]
FORMATS: tuple[Format, ...] = get_args(Format)
STATES: tuple[State, ...] = get_args(State)
_BOM = "\ufeff"
_FIRST_ROWS = 250
_MOST_ROWS = 5_000
_BLOCK_BYTES = 1_000_000
_PAGE = 2_000
_MOST_CODES = 10_000
# The name tells `db.find_horizon` that nothing is written here.
_SNAPSHOT = (
    b"set transaction isolation level repeatable read, read only; set local statement_timeout = '60s'; "
    b"set local application_name = 'tallycast export'"
)
# Recipients, their buttons and their clicks are read side by side, each in the order of its index. A block takes
# a few thousand rows of each, so that the plan cannot be a bad one.
_MERGE_JOINS = b"set local enable_mergejoin = on; set local enable_nestloop = off"
# The lines of a named query's rows, as one value. The inner select is computed once for each row.
_BLOCK = b"""
select count(*)::int, convert_to(string_agg(%b, '' order by t.position), 'UTF8')
from (
  select s.*, %%(line)s::int - 1 + row_number() over (order by s.position) as line from (%b) s
) t
"""

RECIPIENTS: Columns = (
    Column("campaignID", Kind.DIGITS, repeats=True),
    Column("campaignName", Kind.TEXT, repeats=True),
    Column("channel", Kind.WORD, repeats=True),
    Column("recipient", Kind.NUMBER),
    Column("country", Kind.WORD, repeats=True),
    Column("referenceID", Kind.WORD),
    Column("messageID", Kind.NUMBER),
    Column("state", Kind.WORD, repeats=True),
    Column("status", Kind.WORD, repeats=True),
    Column("parts", Kind.COUNT),
    Column("acceptedAt", Kind.MOMENT),
    Column("deliveredAt", Kind.MOMENT),
    Column("readAt", Kind.MOMENT),
    Column("failedAt", Kind.MOMENT),
    Column("errorCode", Kind.NUMBER, repeats=True),
    Column("failureReason", Kind.TEXT, repeats=True),
    Column("buttons", Kind.TEXT, repeats=True),
    Column("clicks", Kind.COUNT),
    Column("content", Kind.TEXT),
)
CAMPAIGNS: Columns = (
    Column("campaignID", Kind.DIGITS),
    Column("date", Kind.MOMENT),
    Column("campaignName", Kind.TEXT),
    Column("channel", Kind.WORD, repeats=True),
    Column("createdBy", Kind.TEXT, repeats=True),
    Column("senderPhone", Kind.NUMBER, repeats=True),
    Column("senderChannelName", Kind.TEXT, repeats=True),
    Column("senderSourceName", Kind.TEXT, repeats=True),
    Column("senderEID", Kind.NUMBER, repeats=True),
    Column("subject", Kind.TEXT),
    Column("totalRecipients", Kind.COUNT),
    Column("queued", Kind.COUNT),
    Column("delivered", Kind.COUNT),
    Column("read", Kind.COUNT),
    Column("replied", Kind.COUNT),
    Column("pending", Kind.COUNT),
    Column("failed", Kind.COUNT),
)


class Table(NamedTuple):
    """What is exported: `total` rows, known beforehand. `read` gets the SQL that writes a line, and gives the blocks.

    `name` is for sheets, `file_name` has no suffix. `note`: why rows are missing.
    """

    name: str
    file_name: str
    columns: Columns
    total: int
    read: Callable[[str], AsyncGenerator[Block, None]]
    note: str = ""


class Writer(Protocol):
    """Makes a file of blocks; each method gives the bytes that are ready."""

    line: str

    def begin(self) -> bytes: ...

    def add(self, block: Block) -> bytes: ...

    def end(self) -> bytes: ...


class _Campaign(msgspec.Struct, frozen=True):
    name: str
    type: str
    content: str
    total: int
    queued: int
    pending: int
    delivered: int
    read: int
    failed: int
    until: int


@contextlib.asynccontextmanager
async def open_snapshot(way: AbstractAsyncContextManager[db.Connection]) -> AsyncIterator[db.Connection]:
    """A connection of its own that sees the database as it is now: all figures of an export are of one moment."""
    async with way as connection, connection.transaction():
        await connection.execute(_SNAPSHOT)
        yield connection


async def find_recipients(
    connection: db.Connection, app_id: str, campaign_id: int, state: State | None = None
) -> Table:
    """The recipients of a campaign, in the order in which they were recorded; those in one state where it is given."""
    key = {"app_id": app_id, "campaign_id": campaign_id}
    campaign = await db.fetch_one(connection, _Campaign, _SQL["find_campaign"], key)
    if campaign is None:
        raise NotFound(f"no campaign {campaign_id}")
    total = campaign.total if state is None else getattr(campaign, state)
    file_name = f"{campaign.name} {campaign_id} {state or 'recipients'}"
    read = partial(_read_recipients, connection, key, campaign, state)
    retention = None if campaign.total else await campaigns.find_retention(connection, app_id, campaign_id)
    note = retention.describe() if retention is not None else ""
    return Table("recipients", file_name, RECIPIENTS, total, read, note)


async def find_campaigns(
    connection: db.Connection,
    app_id: str,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    channel_type: str | None = None,
    search: str | None = None,
) -> Table:
    """The campaigns that the summary has for a period, the newest first, with its figures."""
    wanted = Wanted(start_at, end_at, channel_type, search)
    total = (await reports.add_up(connection, app_id, wanted)).campaigns
    days = [moment.strftime("%Y-%m-%d") for moment in (start_at, end_at) if moment]
    file_name = " ".join(["campaigns", *days, *([channel_type] if channel_type else [])])
    read = partial(_read_campaigns, connection, app_id, wanted)
    return Table("campaigns", file_name, CAMPAIGNS, total, read)


async def stream(table: Table, file_format: Format, options: Options) -> AsyncGenerator[bytes, None]:
    """The file, piece by piece. What costs time is done in a thread: others are answered meanwhile."""
    writer = _make_writer(table, file_format, options)
    yield await asyncio.to_thread(writer.begin)
    async with contextlib.aclosing(_read_ahead(table.read(writer.line))) as blocks:
        async for block in blocks:
            yield await asyncio.to_thread(writer.add, block)
    yield await asyncio.to_thread(writer.end)


def _make_writer(table: Table, file_format: Format, options: Options) -> Writer:
    if file_format == "xlsx":
        return sheets.Book(table.name, table.columns, options)
    if file_format == "parquet":
        from tallycast import parquet  # noqa: PLC0415 - it takes 60 MB that a server may never need

        return parquet.File(table.columns)
    if file_format == "ndjson":
        return _Lines(b"", cells.write_json(table.columns))
    mark = _BOM if options.bom or options.excel else ""
    header = mark + ",".join(column.name for column in table.columns) + "\r\n"
    return _Lines(header.encode(), cells.write_csv(table.columns, options))


class _Lines:
    """A file that is nothing but its lines."""

    def __init__(self, header: bytes, line: str) -> None:
        self.line = line
        self._header = header

    def begin(self) -> bytes:
        return self._header

    def add(self, block: Block) -> bytes:
        return block.data

    def end(self) -> bytes:
        return b""


async def _read_ahead(blocks: AsyncGenerator[Block, None]) -> AsyncGenerator[Block, None]:
    """The same blocks; the next one is read while one is being sent."""
    coming = asyncio.ensure_future(anext(blocks, None))
    try:
        while (block := await coming) is not None:
            coming = asyncio.ensure_future(anext(blocks, None))
            yield block
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await blocks.aclose()


async def _read_recipients(
    connection: db.Connection, key: dict[str, Any], campaign: _Campaign, state: State | None, line: str
) -> AsyncGenerator[Block, None]:
    await connection.execute(_MERGE_JOINS)
    params = {
        **key,
        "campaign": str(key["campaign_id"]),
        "name": campaign.name,
        "channel": "SMS" if campaign.type == "sms" else "WhatsApp",
        "content": campaign.content,
        "state": state,
        "statuses": _write_json(reports.STATUSES[campaign.type]),
        "words": _write_json(await _list_words(connection, key)),
    }
    reader = _Reader(connection, _SQL["list_recipients"], line)
    seq, size = 0, _FIRST_ROWS
    while campaign.total and seq < campaign.until:  # seq has no gaps, but what was deleted
        block = await reader.read({**params, "from_seq": seq, "to_seq": seq + size})
        yield block
        seq += size
        size = max(1, min(_MOST_ROWS, 4 * size, size * _BLOCK_BYTES // (len(block.data) + 1)))


async def _list_words(connection: db.Connection, key: dict[str, Any]) -> dict[str, str]:
    """What a campaign's error codes mean, by channel number and code. The title says more where a message is unfit."""
    found = await db.fetch_rows(connection, _SQL["list_codes"], {**key, "limit": _MOST_CODES})
    words = {
        f"{number}:{code}": failures.explain(code, "", provider).words
        for number, code, provider in found
        if code != "unfit"
    }
    return {code: text for code, text in words.items() if text}


async def _read_campaigns(
    connection: db.Connection,
    app_id: str,
    wanted: Wanted,
    line: str,
) -> AsyncGenerator[Block, None]:
    reader = _Reader(connection, _SQL["list_campaigns"], line)
    offset, has_more = 0, True
    while has_more:
        page = await reports.summarize(connection, app_id, _PAGE, offset, *wanted)
        yield await reader.read({"app_id": app_id, "page": _write_json(page.rows)})
        offset, has_more = offset + _PAGE, page.has_more


def _write_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


class _Reader:
    """Reads blocks with one query, and numbers their lines: from 2 on each sheet that they may go to."""

    def __init__(self, connection: db.Connection, source: bytes, line: str) -> None:
        self._connection = connection
        self._query = _BLOCK % (line.encode(), source)
        self._line = sheets.FIRST_LINE
        self._bytes = 0

    async def read(self, params: dict[str, Any]) -> Block:
        rows = await db.fetch_rows(self._connection, self._query, {**params, "line": self._line})
        block = Block(self._line, rows[0][0], rows[0][1] or b"")
        self._line += block.rows
        self._bytes += len(block.data)
        if self._line + _MOST_ROWS > sheets.MOST_LINES or self._bytes > sheets.MOST_BYTES:
            self._line, self._bytes = sheets.FIRST_LINE, 0
        return block
