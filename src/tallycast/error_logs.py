"""Error logs: the rows that an import has set aside, as CSV that can be mended and imported again."""

import csv
import io
import re
from collections.abc import AsyncIterator

from tallycast import db, imports
from tallycast.imports import Import

_PAGE = 2000
# What a spreadsheet would compute; a plain phone number that begins with + is none.
_FORMULA = re.compile(r"[=+\-@\t\r]")
_PHONE = re.compile(r"\+[0-9 ().-]+")


async def write(connect: db.Connect, app_id: str, found: Import) -> AsyncIterator[bytes]:
    """The file's own columns, then `Error`, in UTF-8 with a byte order mark. No connection is held in between."""
    width = len(found.header)
    yield _write_rows([[*found.header, "Error"]]).encode("utf-8-sig")
    position = 0
    while True:
        async with connect() as connection:
            page = await imports.list_errors(connection, app_id, found.import_id, position, _PAGE)
        if not page:
            return
        yield _write_rows([_arrange(list(one.cells), width, one.error) for one in page]).encode()
        position = page[-1].n + 1


def _arrange(cells: list[str], width: int, error: str) -> list[str]:
    """The error stands under its header; cells for which there is no column come after it."""
    return [*cells[:width], *[""] * (width - len(cells)), error, *cells[width:]]


def _write_rows(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([list(map(_defuse, row)) for row in rows])
    return text.getvalue()


def _defuse(cell: str) -> str:
    return f"'{cell}" if _FORMULA.match(cell) and not _PHONE.fullmatch(cell) else cell
