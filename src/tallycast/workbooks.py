"""The first visible sheet of an XLSX workbook (ECMA-376), streamed: memory does not grow with its rows.

The sheet and its texts are read as the zip unpacks; the texts that cells share wait on disk, with their places in
memory (8 bytes each). A cell is the text that a person sees where that can be known: a number without Excel's
exponent, a date as ISO 8601, the last result of a formula.
"""

import os
import posixpath
import re
import tempfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import IO, BinaryIO, NamedTuple
from xml.parsers import expat

from tallycast.rows import MAX_COLUMNS, Row, Unreadable

_CHUNK = 1 << 16
_MAX_PART = 2_000_000_000
_MAX_SMALL_PART = 20_000_000
_MAX_RATIO = 100  # a sheet packs to a tenth or a thirtieth
_MAX_TEXTS = 10_000_000
_MAX_TEXT = 1_000_000
_MAX_DEPTH = 100  # an open element takes a hundred bytes of memory, and packs to nothing
_EXACT_DIGITS = 10**15  # Excel keeps 15 digits of a number
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_COLUMN = re.compile(r"[A-Z]{1,3}")
_NOT_A_DATE = re.compile(r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]|General|E[+-]', re.IGNORECASE)
# The built-in number formats that show a date, a time or both (ECMA-376 part 1, 18.8.30).
_DATE_FORMATS = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
Attributes = dict[str, str]


def read_workbook(file: BinaryIO) -> Iterator[Row]:
    """The rows that have a value, the first one (the header) included; Unreadable where it is no such workbook."""
    try:
        with zipfile.ZipFile(file) as archive:
            book = _read_book(archive)
            with tempfile.TemporaryFile() as file_of_texts:
                texts = _read_shared_texts(archive, book, file_of_texts)
                yield from _read_sheet(archive, book, texts)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise Unreadable(f"the XLSX workbook is damaged or encrypted: {error}") from None
    except expat.ExpatError as error:
        raise Unreadable(f"the XLSX workbook is damaged: {error}") from None
    except KeyError as error:
        raise Unreadable(f"not an XLSX workbook: {error.args[0]}") from None


class _Book(NamedTuple):
    sheet: str
    shared_texts: str | None
    epoch: datetime
    date_styles: frozenset[str]


def _read_book(archive: zipfile.ZipFile) -> _Book:
    sheets: list[Attributes] = []
    is_1904 = False

    def see(name: str, attributes: Attributes) -> None:
        nonlocal is_1904
        if name == "sheet":
            sheets.append(attributes)
        elif name == "workbookPr":
            is_1904 = attributes.get("date1904") in {"1", "true"}

    _parse_small(archive, "xl/workbook.xml", see)
    visible = [sheet for sheet in sheets if sheet.get("state", "visible") == "visible"] or sheets
    if not visible:
        raise Unreadable("the XLSX workbook has no sheet")
    by_id, by_kind = _read_relations(archive)
    relation = next((value for name, value in visible[0].items() if name.rpartition(":")[2] == "id"), "")
    # Excel takes 1900 for a leap year, so its days from March 1900 count from this one.
    epoch = datetime(1904, 1, 1) if is_1904 else datetime(1899, 12, 30)  # noqa: DTZ001 - a sheet has no time zone
    styles = _read_date_styles(archive, by_kind.get("styles"))
    return _Book(by_id[relation], by_kind.get("sharedStrings"), epoch, styles)


def _read_relations(archive: zipfile.ZipFile) -> tuple[dict[str, str], dict[str, str]]:
    """The parts of the workbook by relation id, and by the last word of their type."""
    by_id: dict[str, str] = {}
    by_kind: dict[str, str] = {}

    def see(name: str, attributes: Attributes) -> None:
        if name == "Relationship":
            path = posixpath.normpath(posixpath.join("/xl", attributes.get("Target", "")))[1:]
            by_id[attributes.get("Id", "")] = path
            by_kind[attributes.get("Type", "").rpartition("/")[2]] = path

    _parse_small(archive, "xl/_rels/workbook.xml.rels", see)
    return by_id, by_kind


def _read_date_styles(archive: zipfile.ZipFile, path: str | None) -> frozenset[str]:
    """The cell styles (their numbers, as cells name them) that show a date."""
    formats: dict[str, str] = {}
    styles: list[str] = []
    inside = ""

    def see(name: str, attributes: Attributes) -> None:
        nonlocal inside
        if name == "numFmt":
            formats[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
        elif name in {"cellXfs", "cellStyleXfs"}:
            inside = name
        elif name == "xf" and inside == "cellXfs":
            styles.append(attributes.get("numFmtId", ""))

    if path is not None:
        _parse_small(archive, path, see)
    return frozenset(str(n) for n, style in enumerate(styles) if _shows_date(style, formats.get(style)))


def _shows_date(format_id: str, code: str | None) -> bool:
    if code is None:
        return format_id.isdecimal() and int(format_id) in _DATE_FORMATS
    return re.search("[dmyhs]", _NOT_A_DATE.sub("", code), re.IGNORECASE) is not None


def _parse_small(archive: zipfile.ZipFile, path: str, see: Callable[[str, Attributes], None]) -> None:
    parser, depth = _make_parser(), 0

    def start(name: str, attributes: Attributes) -> None:
        nonlocal depth
        depth += 1
        _check_depth(depth)
        see(name.rpartition(":")[2], attributes)

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    parser.StartElementHandler, parser.EndElementHandler = start, end
    for _ in _feed(archive, path, parser, _MAX_SMALL_PART):
        pass


def _make_parser() -> expat.XMLParserType:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    return parser


def _check_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise Unreadable(f"the XLSX workbook is nested deeper than {_MAX_DEPTH} elements")


def _refuse_doctype(*_: object) -> None:
    raise Unreadable("the XLSX workbook defines entities, which no spreadsheet needs")


def _feed(archive: zipfile.ZipFile, path: str, parser: expat.XMLParserType, limit: int) -> Iterator[None]:
    """Parse a part of the zip; a pause after each chunk. What unpacks to more than the limit is refused."""
    size = 0
    limit = min(limit, max(_MAX_SMALL_PART, _MAX_RATIO * archive.getinfo(path).compress_size))
    with archive.open(path) as part:
        while chunk := part.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                raise Unreadable(f"a part of the XLSX workbook unpacks to more than {limit} bytes")
            parser.Parse(chunk, False)
            yield
    parser.Parse(b"", True)
    yield


class _Texts:
    """The texts that cells share, by their index."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ends = array("Q", [0])

    def add(self, text: str) -> None:
        if len(self._ends) > _MAX_TEXTS:
            raise Unreadable(f"the XLSX workbook has more than {_MAX_TEXTS} texts")
        raw = text.encode()
        self._file.write(raw)
        self._ends.append(self._ends[-1] + len(raw))

    def seal(self) -> None:
        self._file.flush()

    def find(self, index: str) -> str:
        try:
            n = int(index)
            start, end = self._ends[n], self._ends[n + 1]
        except (ValueError, IndexError):
            raise Unreadable("the XLSX workbook is damaged: a cell's text is missing") from None
        return os.pread(self._file.fileno(), end - start, start).decode()


def _read_shared_texts(archive: zipfile.ZipFile, book: _Book, file: IO[bytes]) -> _Texts:
    texts = _Texts(file)
    if book.shared_texts is not None and book.shared_texts in archive.NameToInfo:
        parser = _make_parser()
        collector = _Collector(parser)
        collector.on_end["si"] = lambda: texts.add(collector.take())
        for _ in _feed(archive, book.shared_texts, parser, _MAX_PART):
            pass
    texts.seal()
    return texts


class _Collector:
    """Gathers the text of `t` and `v` elements, but not of phonetic hints (`rPh`)."""

    def __init__(self, parser: expat.XMLParserType) -> None:
        self.on_start: dict[str, Callable[[Attributes], None]] = {}
        self.on_end: dict[str, Callable[[], None]] = {}
        self._parser = parser
        self._parts: list[str] = []
        self._size = 0
        self._is_hint = False
        self._depth = 0
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end

    def take(self) -> str:
        text = "".join(self._parts)
        self._parts.clear()
        self._size = 0
        return _ESCAPE.sub(_unescape, text) if "_x" in text else text

    def _start(self, name: str, attributes: Attributes) -> None:
        self._depth += 1
        _check_depth(self._depth)
        if ":" in name:
            name = name.rpartition(":")[2]
        if name in {"v", "t"}:
            self._parser.CharacterDataHandler = None if self._is_hint else self._add
        elif name == "rPh":
            self._is_hint = True
        elif name in self.on_start:
            self.on_start[name](attributes)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if ":" in name:
            name = name.rpartition(":")[2]
        if name in {"v", "t"}:
            self._parser.CharacterDataHandler = None
        elif name == "rPh":
            self._is_hint = False
        elif name in self.on_end:
            self.on_end[name]()

    def _add(self, text: str) -> None:
        self._parts.append(text)
        self._size += len(text)
        if self._size > _MAX_TEXT:
            raise Unreadable(f"a cell of the XLSX workbook is longer than {_MAX_TEXT} characters")


def _unescape(match: re.Match[str]) -> str:
    """ECMA-376 part 1, 22.9.2.19: `_x000D_` stands for a character that XML cannot hold."""
    character = chr(int(match[1], 16))
    return character if character.isprintable() or character in "\t\n\r" else "\ufffd"


def _read_sheet(archive: zipfile.ZipFile, book: _Book, texts: _Texts) -> Iterator[Row]:
    parser = _make_parser()
    sheet = _Sheet(_Collector(parser), book, texts)
    for _ in _feed(archive, book.sheet, parser, _MAX_PART):
        yield from sheet.rows
        sheet.rows.clear()


class _Sheet:
    def __init__(self, collector: _Collector, book: _Book, texts: _Texts) -> None:
        self.rows: list[Row] = []
        self._take = collector.take
        self._book = book
        self._texts = texts
        self._line = 0
        self._cells: list[str] = []
        self._cell: Attributes = {}
        self._columns: dict[str, int] = {}
        collector.on_start.update(row=self._start_row, c=self._start_cell)
        collector.on_end.update(row=self._end_row, c=self._end_cell)

    def _start_row(self, attributes: Attributes) -> None:
        number = attributes.get("r", "")
        self._line = int(number) if number.isdecimal() else self._line + 1
        self._cells = []

    def _end_row(self) -> None:
        if any(cell.strip() for cell in self._cells):
            self.rows.append(Row(self._line, self._cells))

    def _start_cell(self, attributes: Attributes) -> None:
        self._cell = attributes

    def _end_cell(self) -> None:
        text = self._take()
        if text and len(self._cells) <= MAX_COLUMNS:
            column = self._find_column(self._cell.get("r", ""))
            missing = column - len(self._cells)
            if missing > 0:
                self._cells += [""] * missing
            self._cells.append(self._show(text))

    def _find_column(self, reference: str) -> int:
        """From 0. Cells beyond the last column that is read gather there, so that they are seen to be too many."""
        letters = _COLUMN.match(reference)
        if letters is None:
            return len(self._cells)
        column = self._columns.get(letters[0])
        if column is None:
            column = 0
            for letter in letters[0]:
                column = column * 26 + ord(letter) - 64
            column = self._columns[letters[0]] = min(column - 1, MAX_COLUMNS)
        return column

    def _show(self, text: str) -> str:
        kind = self._cell.get("t", "n")
        if kind == "s":
            return self._texts.find(text)
        if kind == "b":
            return "TRUE" if text == "1" else "FALSE"
        if kind != "n":
            return text
        is_date = self._cell.get("s", "0") in self._book.date_styles
        return _show_date(text, self._book.epoch) if is_date else _show_number(text)


def _show_number(text: str) -> str:
    """All digits of an integer that Excel has kept exactly; what it has not is left as it is."""
    if text.isdecimal() and len(text) <= 15:  # noqa: PLR2004 - the digits that Excel keeps
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    if number.is_integer():
        return str(int(number)) if abs(number) < _EXACT_DIGITS else text
    return repr(number)


def _show_date(text: str, epoch: datetime) -> str:
    """ISO 8601, without a date or a time that the number does not have."""
    try:
        days = float(text)
        moment = epoch + timedelta(seconds=round(days * 86_400))
    except (ValueError, OverflowError):
        return text
    if 0 <= days < 1:
        return moment.time().isoformat()
    return moment.date().isoformat() if days.is_integer() else moment.isoformat(" ")
