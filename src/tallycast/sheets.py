"""Writes an XLSX workbook (ECMA-376) of any number of rows while it is being sent: one table, on as many sheets as needed.

The rows come as XML, from the database. A zip file can be written into a stream that has no way back, since each part's
size may stand behind it; what names the sheets comes last.
"""

import zipfile
from typing import IO
from xml.sax.saxutils import quoteattr

from tallycast.cells import Block, Columns, Kind, Options, write_row

FIRST_LINE = 2  # below the header
# Excel's own limit; and a part's size that zip needs no longer headers for, which Excel may not expect.
MOST_LINES = 1_048_576
MOST_BYTES = 1_500_000_000
_MOMENT = (1980, 1, 1, 0, 0, 0)  # the same table is the same file, whenever it is written
_HEAD = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_WIDTHS = {Kind.WORD: 14, Kind.DIGITS: 22, Kind.NUMBER: 18, Kind.TEXT: 28, Kind.COUNT: 11, Kind.MOMENT: 23}

# Every part is a sheet unless it is named: so this can come before the number of sheets is known.
_TYPES = (
    f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Default Extension="xml" ContentType="{_TYPE}.worksheet+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_TYPE}.styles+xml"/></Types>'
)
_ROOT = (
    f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>'
)
# Cell styles: 0 plain, 1 a moment, 2 digits that are a text, 3 a heading.
_STYLES = (
    f'<styleSheet xmlns="{_MAIN}">'
    '<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd\\ hh:mm:ss.000"/></numFmts>'
    '<fonts count="2"><font><sz val="11"/><name val="Calibri"/></font>'
    '<font><b/><sz val="11"/><name val="Calibri"/></font></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>'
    '<borders count="1"><border><left/><right/><top/><bottom/><diagonal/></border></borders>'
    '<cellStyleXfs count="1"><xf numFmtId="0" fontId="0" fillId="0" borderId="0"/></cellStyleXfs>'
    '<cellXfs count="4"><xf numFmtId="0" fontId="0" fillId="0" borderId="0" xfId="0"/>'
    '<xf numFmtId="164" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
    '<xf numFmtId="49" fontId="0" fillId="0" borderId="0" xfId="0" applyNumberFormat="1"/>'
    '<xf numFmtId="0" fontId="1" fillId="0" borderId="0" xfId="0" applyFont="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>'
)


class Pipe:
    """A file that can only be written; what was written is taken out at the other side."""

    closed = False  # Arrow asks

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


class Book:
    """The writer of one workbook."""

    def __init__(self, title: str, columns: Columns, options: Options) -> None:
        self.line = write_row(columns, options)
        self._pipe = Pipe()
        self._zip = zipfile.ZipFile(self._pipe, "w", zipfile.ZIP_DEFLATED)  # type: ignore[call-overload]
        self._title = title
        self._columns = columns
        self._sheets = 0
        self._sheet: IO[bytes]
        self._next = FIRST_LINE

    def begin(self) -> bytes:
        self._add("[Content_Types].xml", _TYPES)
        self._add("_rels/.rels", _ROOT)
        self._add("xl/styles.xml", _STYLES)
        self._begin_sheet()
        return self._pipe.take()

    def add(self, block: Block) -> bytes:
        """Lines that begin again are on another sheet."""
        if block.first_line < self._next:
            self._end_sheet()
            self._begin_sheet()
        self._sheet.write(block.data)
        self._next = block.first_line + block.rows
        return self._pipe.take()

    def end(self) -> bytes:
        self._end_sheet()
        numbers = range(1, self._sheets + 1)
        names = [self._title if n == 1 else f"{self._title} {n}" for n in numbers]
        sheets = "".join(
            f'<sheet name={quoteattr(name)} sheetId="{n}" r:id="rId{n}"/>' for n, name in enumerate(names, 1)
        )
        parts = [("worksheet", f"worksheets/sheet{n}.xml") for n in numbers] + [("styles", "styles.xml")]
        relations = "".join(
            f'<Relationship Id="rId{n}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
            for n, (kind, target) in enumerate(parts, 1)
        )
        self._add(
            "xl/workbook.xml",
            f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{sheets}</sheets></workbook>',
        )
        self._add(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships">{relations}</Relationships>',
        )
        self._zip.close()
        return self._pipe.take()

    def _add(self, name: str, text: str) -> None:
        with self._zip.open(_describe(name), "w") as part:
            part.write(_HEAD + text.encode())

    def _begin_sheet(self) -> None:
        self._sheets += 1
        self._sheet = self._zip.open(_describe(f"xl/worksheets/sheet{self._sheets}.xml"), "w")
        widths = "".join(
            f'<col min="{n}" max="{n}" width="{_WIDTHS[column.kind]}" customWidth="1"/>'
            for n, column in enumerate(self._columns, 1)
        )
        names = "".join(
            f'<c r="{chr(ord("A") + n)}1" s="3" t="inlineStr"><is><t>{column.name}</t></is></c>'
            for n, column in enumerate(self._columns)
        )
        head = (
            f'<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
            '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
            f'<cols>{widths}</cols><sheetData><row r="1">{names}</row>'
        )
        self._sheet.write(_HEAD + head.encode())

    def _end_sheet(self) -> None:
        # Excel would mark each telephone number as a number that is stored as text.
        last = chr(ord("A") + len(self._columns) - 1)
        self._sheet.write(
            f'</sheetData><ignoredErrors><ignoredError sqref="A1:{last}{MOST_LINES}" numberStoredAsText="1"/>'
            "</ignoredErrors></worksheet>".encode()
        )
        self._sheet.close()


def _describe(name: str) -> zipfile.ZipInfo:
    part = zipfile.ZipInfo(name, _MOMENT)
    part.compress_type = zipfile.ZIP_DEFLATED
    part._compresslevel = 1  # type: ignore[attr-defined]  # noqa: SLF001 - there is no public name before Python 3.13
    return part
