"""Files of recipients that wait for a person's word on which column is what."""

import asyncio
import contextlib
import tempfile
from collections.abc import Sequence
from itertools import islice
from typing import IO, NamedTuple

import msgspec

from tallycast import apps, audience, candidates, db, imports, mending, sendings
from tallycast.audience import Upload
from tallycast.candidates import Guess, Mapping, Misfit
from tallycast.errors import Unprocessable
from tallycast.imports import Import
from tallycast.rows import Row, Unreadable
from tallycast.sendings import Sending
from tallycast.spreadsheets import read_rows
from tallycast.sql import load

_SQL = load("imports")
_SHOWN = 5
_KEPT_SECONDS = 86_400


class Head(NamedTuple):
    """The first rows of a file, and which column of it seems to be what."""

    header: list[str]
    rows: list[list[str]]
    guess: Guess


async def look(file: IO[bytes], media_type: str, sending: Sending) -> Head:
    """Unreadable or Misfit where no audience can be made of it, however its columns are taken."""
    return await asyncio.to_thread(_read_head, file, media_type, sending)


def _read_head(file: IO[bytes], media_type: str, sending: Sending) -> Head:
    file.seek(0)
    kind, _, charset = media_type.partition("; charset=")
    with contextlib.closing(read_rows(file, kind, charset)) as read:  # type: ignore[arg-type] # binary, as all of ours
        first = [*islice(read, _SHOWN + 1)]
    if not first:
        raise Unreadable("the file is empty")
    header, *rows = _without_errors(first, sending)
    return Head(header, rows, candidates.guess_columns(header, rows, sending))


def _without_errors(rows: Sequence[Row], sending: Sending) -> list[list[str]]:
    """The rows of an error log as they were in the file."""
    at = candidates.find_errors(rows[0].cells, Mapping(), sending)
    return [row.cells if at is None else mending.restore(row, at).cells for row in rows]


async def hold(
    connection: db.Connection, app_id: str, campaign_id: int, upload: Upload, head: Head, actor: str
) -> str:
    """Keep a file, in place of one that was kept before, in the caller's transaction; the import's id."""
    await audience.hold_draft(connection, app_id, campaign_id)
    await discard(connection, app_id, campaign_id)
    return await audience.store(connection, app_id, campaign_id, upload, actor, "uploading", head.header)


async def look_again(connect: db.Connect, app_id: str, found: Import, sending: Sending) -> Head:
    """The head of a file that is kept."""
    with tempfile.TemporaryFile() as file:
        async with connect() as connection:
            await audience.fetch_file(connection, app_id, found.import_id, file)
        return await look(file, found.media_type, sending)


async def begin(
    connection: db.Connection,
    app_id: str,
    campaign_id: int,
    import_id: str,
    chosen: Guess,
    *,
    keeps_valid: bool,
) -> None:
    """Have a file imported by these columns, in the caller's transaction. Misfit where one is missing."""
    await audience.hold_draft(connection, app_id, campaign_id)
    found = await imports.find_import(connection, app_id, campaign_id, import_id)
    mapping = candidates.make_mapping(found.header, chosen)
    _check(found, mapping, await sendings.find(connection, app_id, campaign_id))
    params = {
        "app_id": app_id,
        "import_id": import_id,
        "mapping": msgspec.json.encode(mapping).decode(),
        "keeps_valid": keeps_valid,
    }
    if not await db.execute(connection, _SQL["release_import"], params):
        raise Unprocessable("the import has begun already")
    await apps.wake(connection, app_id)


def _check(found: Import, mapping: Mapping, sending: Sending) -> None:
    columns = candidates.map_columns(found.header, mapping, sending)
    if columns.recipient == columns.content:
        raise Misfit("one column cannot be both the number and the text")


async def discard(connection: db.Connection, app_id: str, campaign_id: int) -> None:
    """Forget the file of a campaign that is kept, if there is one."""
    params = {"app_id": app_id, "campaign_id": campaign_id}
    await db.execute(connection, _SQL["drop_held"], params)


async def forget_old(connection: db.Connection, app_id: str) -> None:
    """What waits longer than a day was left behind."""
    await db.execute(connection, _SQL["drop_old_held"], {"app_id": app_id, "seconds": _KEPT_SECONDS})
