"""Error logs: the rows that an import has set aside, as CSV that can be mended and imported again."""

import csv
import io
from collections.abc import AsyncIterator

from tallycast import db, imports, mending
from tallycast.imports import Import

_PAGE = 2000


async def write(connect: db.Connect, app_id: str, found: Import) -> AsyncIterator[bytes]:
    """The file's own columns, then `Error`, in UTF-8 with a byte order mark. No connection is held in between."""
    width = len(found.header)
    yield _write_rows([mending.arrange(found.header, width, mending.COLUMN)]).encode("utf-8-sig")
    position = 0
    while True:
        async with connect() as connection:
            page = await imports.list_errors(connection, app_id, found.import_id, position, _PAGE)
        if not page:
            return
        yield _write_rows([mending.arrange(one.cells, width, one.error) for one in page]).encode()
        position = page[-1].n + 1


def _write_rows(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()
