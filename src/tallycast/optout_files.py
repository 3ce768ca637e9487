"""Lists of people who do not want messages any more, as files: CSV, XLSX or NDJSON with a column of numbers."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import IO, NamedTuple

from tallycast import db, messages, optouts
from tallycast.candidates import Misfit, find_numbers, find_places, is_number
from tallycast.messages import BATCH, Entry, Line, Rejected
from tallycast.optouts import AnyKind
from tallycast.rows import Row, Unreadable
from tallycast.spreadsheets import read_rows

_SAMPLE = 5
_TOLD = 20


class Taken(NamedTuple):
    """How many numbers were opted out, how many rows are no numbers, and the first of those."""

    accepted: int
    rejected: int
    first: list[Rejected]


async def take(
    connect: db.Connect,
    app_id: str,
    kind: AnyKind,
    file: IO[bytes],
    media_type: str,
    source: str,
    evidence: str,
) -> Taken:
    """Opt out the numbers of a file, batch by batch. Unreadable or Misfit where it has no column of numbers."""
    taken = Taken(0, 0, [])
    file.seek(0)
    name, _, charset = media_type.partition("; charset=")
    with contextlib.closing(read_rows(file, name, charset)) as rows:  # type: ignore[arg-type] # binary, as all of ours
        lines = await asyncio.to_thread(_read_lines, rows)
        while batch := await asyncio.to_thread(lambda: [*islice(lines, BATCH)]):
            accepted, rejected = await _add(connect, app_id, kind, batch, source, evidence)
            first = [*taken.first, *rejected][:_TOLD]
            taken = Taken(taken.accepted + accepted, taken.rejected + len(rejected), first)
    return taken


async def _add(
    connect: db.Connect, app_id: str, kind: AnyKind, batch: Sequence[Line], source: str, evidence: str
) -> tuple[int, list[Rejected]]:
    async with connect() as connection:

        async def work() -> tuple[int, list[Rejected]]:
            async with connection.transaction():
                return await optouts.add_lines(connection, app_id, kind, batch, source, evidence)

        return await db.retry_conflicts(work)


def _read_lines(rows: Iterator[Row]) -> Iterator[Line]:
    """The numbers, each as a line of a recording. A list may have no header."""
    first = [*islice(rows, _SAMPLE + 1)]
    if not first:
        raise Unreadable("the file is empty")
    has_header = not any(map(is_number, first[0].cells))
    sample = [row.cells for row in first[has_header:]]
    place = find_numbers(find_places(first[0].cells) if has_header else {"": 0}, sample)
    if place is None:
        raise Misfit("the file has no column of numbers")
    kept = chain(first[has_header:], rows)
    return (_read_line(index, row, place) for index, row in enumerate(kept))


def _read_line(index: int, row: Row, place: int) -> Line:
    number = row.cells[place] if place < len(row.cells) else ""
    return messages.check_entry(index, row.line, Entry(number))
