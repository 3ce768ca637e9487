"""Tables as people have them: CSV in any usual encoding and delimiter, XLSX, NDJSON. Streamed, row by row.

The first row is the header. Rows without any value are left out, as a spreadsheet has many of them below its last.
"""

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Generator, Iterator
from functools import partial
from typing import Any, BinaryIO, Literal

import msgspec
from charset_normalizer import from_bytes

from tallycast.rows import MAX_COLUMNS, Row, Unreadable
from tallycast.workbooks import read_workbook

CSV = "text/csv"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
NDJSON = "application/x-ndjson"
Rows = Generator[Row, None, None]
MEDIA_TYPES = (CSV, XLSX, NDJSON)

_MAX_LINE = 1_000_000
_MAX_CELL = 120_000
_MAX_RECORD_LINES = 500
_DELIMITERS = ",;\t|"
_BLANK = " \t\n\r\f\v\xa0\ufeff"
_ASCII = bytes(range(128))
_SAMPLE = 65_536
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# What spreadsheets of Windows write where they are not told to write Unicode, by language.
_LEGACY = ["cp1252", "cp1251", "cp1253", "big5hkscs", "big5", "gb18030", "cp932", "cp949"]
_WIDE_RUN = re.compile(rb"[\x80-\xff]+")
_WESTERN = "€£°©®™«»“”‘’„–—…¿¡·•\xa0"  # noqa: RUF001 - what Western text has beside letters
_UNSAID = frozenset({"", "utf-8", "utf8", "us-ascii"})
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_NUMBER = re.compile(r'[\s"\'=]*\+?[0-9][0-9 ().-]{5,18}[0-9][\s"]*')
_CLOSING = re.compile(r'[^"]*(?:""[^"]*)*"(?!")')
_UNREADABLE_CHARACTERS = "characters that are not of the file's encoding"
_STRAY = "a quotation mark opens a cell here and does not close it"
_TORN = "a quotation mark inside a cell is not doubled"

csv.field_size_limit(_MAX_CELL)


def read_rows(file: BinaryIO, media_type: str, charset: str = "") -> Rows:
    """The header, then the rows, of a seekable file; Unreadable where there is no telling what it is.

    An XLSX workbook is known by its first bytes: browsers and people name types wrongly. `charset`: what a CSV is
    said to be encoded in; it is found out where that is nothing, or UTF-8, which clients say of any file.
    """
    head = file.read(8)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        return _fit(read_workbook(file))
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise Unreadable("a workbook of Excel 97 or one with a password: save it as .xlsx without a password")
    if media_type == XLSX:
        raise Unreadable("not an XLSX workbook")
    if media_type == NDJSON:
        return _read_ndjson(file)
    return _read_csv(file, detect_encoding(file) if charset.lower() in _UNSAID else charset)


def _fit(rows: Iterator[Row]) -> Rows:
    """A workbook has no cell where nothing is: each row is as wide as its header, or set aside for being wider."""
    width = 0
    for line, cells, _ in rows:
        width = width or len(cells)
        is_wider = any(cell.strip(_BLANK) for cell in cells[width:])
        whole = cells + [""] * (width - len(cells))
        yield Row(line, whole, f"a value beyond the last of {width} columns" if is_wider else "")


def detect_encoding(file: BinaryIO) -> str:
    """The encoding of a text, by all of its bytes; the file is at its beginning before and after."""
    head = file.read(_SAMPLE)
    file.seek(0)
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            return encoding
    evens, odds = head[::2].count(0), head[1::2].count(0)
    if max(evens, odds) > len(head) // 8 and min(evens, odds) * 8 < max(evens, odds):
        return "utf-16-be" if evens > odds else "utf-16-le"
    return _detect_bytewise(file)


def _detect_bytewise(file: BinaryIO) -> str:
    """UTF-8, also where a few bytes of it are damaged; else what the lines that are not ASCII look like."""
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    damaged = wide = 0
    sample = bytearray()
    while chunk := file.read(1 << 20):
        # A damage that an editor has written down as its character is none of the encoding's.
        damaged += decode(chunk).count("\ufffd") - chunk.count("\ufffd".encode())
        if not chunk.isascii():
            wide += len(chunk.translate(None, _ASCII))
            if len(sample) < _SAMPLE:
                sample += b"\n".join(line for line in chunk.split(b"\n") if not line.isascii())
    file.seek(0)
    if damaged * 10 <= wide:
        return "utf-8"
    return _guess_legacy(bytes(sample[:_SAMPLE]))


def _guess_legacy(sample: bytes) -> str:
    """Western text has its accents one by one, and few bytes are enough to see it; other scripts come in runs."""
    runs = _WIDE_RUN.findall(sample)
    characters = b"".join(runs).decode("cp1252", "replace")
    if all(len(run) <= 2 for run in runs) and all(c.isalpha() or c in _WESTERN for c in characters):  # noqa: PLR2004
        return "cp1252"
    best = from_bytes(sample, cp_isolation=_LEGACY).best()
    return best.encoding if best is not None else "cp1252"


class _Lines:
    """Numbered lines, of which some can be put back. Every kind of line end is read as a newline."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._lines = enumerate(iter(partial(text.readline, _MAX_LINE), ""), 1)
        self._returned: deque[tuple[int, str]] = deque()

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> tuple[int, str]:
        if self._returned:
            return self._returned.popleft()
        number, line = next(self._lines)
        if len(line) >= _MAX_LINE:
            raise Unreadable(f"line {number} is longer than {_MAX_LINE} characters")
        return number, line

    def put_back(self, lines: list[tuple[int, str]]) -> None:
        self._returned.extendleft(reversed(lines))


def _read_csv(file: BinaryIO, encoding: str) -> Rows:
    try:
        text = io.TextIOWrapper(file, encoding, errors="replace")
    except LookupError:
        raise Unreadable(f"nothing is known of the charset {encoding[:40]!r}") from None
    try:
        lines = _Lines(text)
        delimiter = _find_delimiter(lines)
        width = 0
        for row in _read_records(lines, delimiter):
            if not width:
                width = len(row.cells)
                yield row
            else:
                yield _check(row, width)
    finally:
        text.detach()


def _check(row: Row, width: int) -> Row:
    """A row that does not fit its header is a broken one: a delimiter or line end in a cell without quotes."""
    cells, error = row.cells, row.error
    while len(cells) > width and not cells[-1].strip():
        cells.pop()
    if not error and len(cells) != width:
        error = f"{len(cells)} cells under {width} columns: a text with a delimiter or line end needs quotes"
    if not error and any("\ufffd" in cell for cell in cells):
        error = _UNREADABLE_CHARACTERS
    return Row(row.line, cells, error)


def _find_delimiter(lines: _Lines) -> str:
    """By Excel's line `sep=;`, else the one that the header has most of outside of quotes."""
    for number, line in lines:
        if said := _SEPARATOR_LINE.fullmatch(line):
            return said[1]
        if line.strip(_BLANK):
            lines.put_back([(number, line)])
            bare = re.sub(r'"[^"]*"?', "", line)
            return max(_DELIMITERS, key=bare.count)
    return ","


def _read_records(lines: _Lines, delimiter: str) -> Iterator[Row]:
    blank = _BLANK + delimiter
    opening = re.compile(rf'(?:^|{re.escape(delimiter)})"')
    for number, line in lines:
        if '"' in line:
            yield from _read_quoted(lines, number, line, delimiter, opening)
        elif line.strip(blank):
            yield Row(number, _split(line, delimiter))


_State = Literal["closed", "open", "torn"]


def _read_quoted(
    lines: _Lines, number: int, line: str, delimiter: str, opening: re.Pattern[str]
) -> Iterator[Row]:
    """A record with quotes, of one line or several; or what a stray quotation mark has made of one.

    A mark that never closes spoils its own line and no other. Where what lies inside looks like rows, none of them
    is trusted: they may be rows or a text, so each line is set aside.
    """
    parts = [(number, line)]
    state = _scan(line, False, delimiter, opening)
    size = len(line)
    while state == "open" and len(parts) < _MAX_RECORD_LINES and size < _MAX_CELL:
        following = next(lines, None)
        if following is None:
            break
        parts.append(following)
        size += len(following[1])
        state = _scan(following[1], True, delimiter, opening)
    if state != "closed":
        lines.put_back(parts[1:])
        yield Row(number, _split(line, delimiter), _TORN if state == "torn" and len(parts) == 1 else _STRAY)
    elif any(_looks_like_row(part, delimiter) for _, part in parts[1:]):
        error = f"inside a quotation mark that opens in line {number} and closes in line {parts[-1][0]}"
        for at, part in parts:
            yield Row(at, _split(part, delimiter), error)
    else:
        yield from _parse(number, "".join(part for _, part in parts), delimiter)


def _parse(number: int, record: str, delimiter: str) -> Iterator[Row]:
    try:
        cells = next(csv.reader([record], delimiter=delimiter, strict=True))
    except csv.Error as error:
        yield Row(number, _split(record, delimiter), f"not a CSV record: {error}")
    else:
        if any(cell.strip(_BLANK) for cell in cells):
            yield Row(number, cells)


def _split(line: str, delimiter: str) -> list[str]:
    return line.removesuffix("\n").split(delimiter, MAX_COLUMNS)


def _scan(line: str, is_open: bool, delimiter: str, opening: re.Pattern[str]) -> _State:
    """Where a line leaves a quoted cell. A quote opens one only where a cell begins (RFC 4180)."""
    position = 0
    while True:
        match = (_CLOSING.match if is_open else opening.search)(line, position)
        if match is None:
            return "open" if is_open else "closed"
        is_open, position = not is_open, match.end()
        if not is_open and line[position : position + 1] not in {"", "\n", delimiter}:
            return "torn"


def _looks_like_row(line: str, delimiter: str) -> bool:
    cells = line.split(delimiter)
    return len(cells) > 1 and any(map(_NUMBER.fullmatch, cells))


def _read_ndjson(file: BinaryIO) -> Rows:
    """One JSON object a line. The first one's names are the columns; its own row follows the header."""
    columns: list[str] | None = None
    number = 0
    while raw := file.readline(_MAX_LINE):
        number += 1
        if len(raw) >= _MAX_LINE:
            raise Unreadable(f"line {number} is longer than {_MAX_LINE} bytes")
        text = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        if not text.strip():
            continue
        values, error = _read_object(text)
        if columns is None:
            if error:
                raise Unreadable(f"line {number} is {error}")
            columns = list(values)
            yield Row(number, columns)
        yield _arrange(number, values, columns, error, text)


def _read_object(text: bytes) -> tuple[dict[str, Any], str]:
    try:
        return msgspec.json.decode(text, type=dict[str, str | int | float | bool | None]), ""
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return {}, f"not a JSON object of texts and numbers: {error}"


def _arrange(number: int, values: dict[str, Any], columns: list[str], error: str, raw: bytes) -> Row:
    if error:
        return Row(number, [raw.decode(errors="replace").strip()[:_MAX_CELL]], error)
    cells = [_show(values.pop(column, None)) for column in columns]
    if values:
        error = f"the first line has no {', '.join(values)[:100]!r}"
        cells += [_show(value) for value in values.values()][:MAX_COLUMNS]
    return Row(number, cells, error)


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return "" if value is None else str(value)
