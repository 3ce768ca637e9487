"""Streams of messages: NDJSON and CSV, line by line, whatever their length."""

import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Iterator

from tallycast import messages
from tallycast.errors import BadQuery, UnsupportedMediaType
from tallycast.messages import Entry, Line

Reader = Callable[[AsyncIterator[bytes]], AsyncIterator[Line]]
_MAX_LINE = 1_000_000
_OPENING = re.compile(rb'(?:^|[,;\t])"')
_CLOSING = re.compile(rb'[^"]*(?:""[^"]*)*"(?!")')
_COLUMNS = {"recipient": "recipient", "messageid": "message_id", "content": "content"}
_NO_RECORD = "not a CSV record"
_UNREADABLE = "not a message: the line is not UTF-8"


def reader_of(content_type: str) -> Reader:
    """The reader for a Content-Type; UnsupportedMediaType for any but NDJSON and CSV."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}:
        return read_ndjson
    if kind == "text/csv":
        return read_csv
    raise UnsupportedMediaType(
        f"Content-Type must be application/x-ndjson or text/csv, not {kind[:80] or 'absent'}"
    )


async def batches(lines: AsyncIterator[Line], size: int = messages.BATCH) -> AsyncIterator[list[Line]]:
    batch: list[Line] = []
    async for line in lines:
        batch.append(line)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


async def _split(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """(number, line) from 1, without line ends. A line over a megabyte is a sign that this is no such stream."""
    rest = b""
    number = 0
    async for chunk in chunks:
        rest += chunk
        *whole, rest = rest.split(b"\n")
        for line in whole:
            number += 1
            yield number, line.removesuffix(b"\r")
        if len(rest) > _MAX_LINE:
            raise BadQuery.of(f"line {number + 1} is longer than {_MAX_LINE} bytes")
    if rest:
        yield number + 1, rest.removesuffix(b"\r")


async def read_ndjson(chunks: AsyncIterator[bytes]) -> AsyncIterator[Line]:
    index = 0
    async for number, line in _split(chunks):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if text.strip():
            yield messages.read_entry(index, number, text)
            index += 1


async def read_csv(chunks: AsyncIterator[bytes]) -> AsyncIterator[Line]:
    """CSV (RFC 4180) with a header; comma, semicolon or tab, as the header shows."""
    columns: list[str] | None = None
    delimiter = ","
    index = 0
    async for number, record in _records(chunks):
        if columns is None:
            text = record.decode("utf-8-sig", "replace")
            delimiter = max(",;\t", key=text.count)
            columns = _read_header(text, delimiter)
        else:
            for line in _read_lines(index, number, record, columns, delimiter):
                yield line
                index += 1
    if columns is None:
        raise BadQuery.of("the CSV is empty; its header must be recipient,messageID")


async def _records(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    """(first line's number, record): a quoted field may hold line ends, so a record ends outside of quotes.

    Quotes that never close must not take other lines with them: then each line is a record of its own.
    """
    started = size = 0
    lines: list[bytes] = []
    is_open = False
    async for number, line in _split(chunks):
        started = started or number
        lines.append(line)
        size += len(line) + 1
        is_open = (b'"' in line and _stays_open(line, is_open)) or (is_open and b'"' not in line)
        if is_open and size <= _MAX_LINE:
            continue
        for record in _close(started, lines, is_open):
            yield record
        started = size = 0
        lines, is_open = [], False
    for record in _close(started, lines, is_open):
        yield record


def _close(started: int, lines: list[bytes], is_open: bool) -> Iterator[tuple[int, bytes]]:
    if is_open:
        yield from enumerate(lines, started)
    elif lines:
        yield started, b"\n".join(lines)


def _stays_open(line: bytes, is_open: bool) -> bool:
    """Whether a quoted field is open after this line. A quote opens one only where a field begins (RFC 4180)."""
    position = 0
    while True:
        match = (_CLOSING.match if is_open else _OPENING.search)(line, position)
        if match is None:
            return is_open
        is_open, position = not is_open, match.end()


def _read_header(text: str, delimiter: str) -> list[str]:
    try:
        names = next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error as error:
        raise BadQuery.of(f"the CSV's header cannot be read: {error}") from None
    columns = [_COLUMNS.get(re.sub(r"[\s_]", "", name).lower(), "") for name in names]
    if "recipient" not in columns:
        raise BadQuery.of(f"the CSV's header must have a column recipient, not {text[:100]!r}")
    return columns


def _read_lines(index: int, number: int, record: bytes, columns: list[str], delimiter: str) -> Iterator[Line]:
    """The record; or, where a stray quote made one of several lines, each of them by itself."""
    if not record.strip():
        return
    line = _read_record(index, number, record, columns, delimiter)
    if b"\n" not in record or not line.error.startswith(_NO_RECORD):
        yield line
        return
    for offset, one in enumerate(record.split(b"\n")):
        for single in _read_lines(index, number + offset, one, columns, delimiter):
            yield single
            index += 1


def _read_record(index: int, number: int, record: bytes, columns: list[str], delimiter: str) -> Line:
    try:
        # not splitlines(): it also cuts at characters like U+2028, which a text may hold
        text = io.StringIO(record.decode(), newline="")
        cells, *more = csv.reader(text, delimiter=delimiter, strict=True)
    except UnicodeDecodeError:
        return Line(index, number, None, "", _UNREADABLE)
    except csv.Error as error:
        return Line(index, number, None, "", f"{_NO_RECORD}: {error}")
    if more:
        return Line(
            index,
            number,
            None,
            "".join(cells[:1])[:100],
            f"{_NO_RECORD}: a line end inside, without quotes",
        )
    values = {column: cell for column, cell in zip(columns, cells, strict=False) if column and cell}
    entry = Entry(values.get("recipient", ""), values.get("message_id"), values.get("content"))
    if len(cells) > len(columns):
        return Line(index, number, None, entry.recipient, f"{len(cells)} cells under {len(columns)} columns")
    return messages.check_entry(index, number, entry)
