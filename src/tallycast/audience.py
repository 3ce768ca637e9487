"""Audience imports: a file of recipients becomes the queued messages of a draft.

The file waits in chunks until a worker takes it. Each batch is one transaction: messages, counts, the rows set aside,
and how far the import is, so a crash leaves all of a batch or nothing. An import that starts again takes back what it
has added and begins anew.
"""

import asyncio
import contextlib
import logging
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import IO, BinaryIO, NamedTuple

import msgspec

from tallycast import apps, db, mending, optouts, sendings
from tallycast.candidates import (
    FAULTS,
    Candidate,
    Columns,
    Mapping,
    Misfit,
    find_errors,
    judge,
    map_columns,
)
from tallycast.errors import NotFound, Unprocessable
from tallycast.imports import Import, SetAside, State
from tallycast.keys import BadKey, Cipher
from tallycast.rows import Row, Unreadable
from tallycast.sendings import Sending
from tallycast.spreadsheets import read_rows
from tallycast.sql import load

log = logging.getLogger("tallycast.audience")
CHUNK = 1_000_000
_SQL = load("imports")
_BATCH_ROWS = 5000
_BATCH_CHARACTERS = 2_000_000
_BROKEN = "the import failed inside tallycast; the server's log says why"


class Upload(NamedTuple):
    """A file as it was sent: `media_type` may name a charset; `keeps_valid`: valid rows are kept beside bad ones."""

    file: IO[bytes]
    size: int
    file_name: str
    media_type: str
    keeps_valid: bool
    mapping: Mapping


class _Message(msgspec.Struct, gc=False):
    seq: int
    parts: int
    recipient: str
    country: str | None
    content: str | None
    variables: list[str] | None


class _Superseded(Exception):
    """Another worker has gone on with the import, or the campaign is gone: this one leaves it."""


async def add_import(
    connection: db.Connection, app_id: str, campaign_id: int, upload: Upload, actor: str
) -> str:
    """Store a file to be imported and wake a worker, in the caller's transaction; the import's id."""
    await hold_draft(connection, app_id, campaign_id)
    import_id = await store(connection, app_id, campaign_id, upload, actor, "waiting")
    await apps.wake(connection, app_id)
    return import_id


async def store(
    connection: db.Connection,
    app_id: str,
    campaign_id: int,
    upload: Upload,
    actor: str,
    state: State,
    header: Sequence[str] = (),
) -> str:
    """Write an import and its file, in the caller's transaction, the draft held; its id."""
    import_id = str(uuid.uuid4())
    params = {"app_id": app_id, "import_id": import_id}
    row = {
        "state": state,
        "header": [show(name) for name in header],
        "campaign_id": campaign_id,
        "file_name": upload.file_name,
        "media_type": upload.media_type,
        "keeps_valid": upload.keeps_valid,
        "mapping": msgspec.json.encode(upload.mapping).decode(),
        "bytes": upload.size,
        "asked_as": actor,
    }
    upload.file.seek(0)
    n = 0
    while data := upload.file.read(CHUNK):
        await db.execute(connection, _SQL["add_chunk"], params | {"n": n, "data": data})
        n += 1
    await db.execute(connection, _SQL["add_import"], params | row)
    return import_id


async def fetch_file(connection: db.Connection, app_id: str, import_id: str, file: BinaryIO) -> None:
    """Write an import's file into an open one, and go to its beginning."""
    n = 0
    key = {"app_id": app_id, "import_id": import_id}
    while rows := await db.fetch_rows(connection, _SQL["find_chunk"], key | {"n": n}):
        await asyncio.to_thread(file.write, rows[0][0])
        n += 1
    file.seek(0)


async def clear(connection: db.Connection, app_id: str, campaign_id: int) -> int:
    """Remove all recipients of a draft, in the caller's transaction; how many there were."""
    sending = await hold_draft(connection, app_id, campaign_id)
    params = {"app_id": app_id, "campaign_id": campaign_id}
    await db.take_time(connection)
    await db.execute(connection, _SQL["take_back"], params | {"from_seq": 0})
    await db.execute(connection, _SQL["change_columns"], params | {"columns": []})
    return sending.total


async def hold_draft(connection: db.Connection, app_id: str, campaign_id: int) -> Sending:
    """The draft, locked; Unprocessable where its audience cannot be changed now."""
    sending = await sendings.hold(connection, app_id, campaign_id)
    if sending.stage != "draft":
        raise Unprocessable(f"the audience of a draft can be changed; this campaign is {sending.stage}")
    if await is_importing(connection, app_id, campaign_id):
        raise Unprocessable("an import of this campaign's audience is not done yet: wait for its end")
    return sending


async def list_waiting(connection: db.Connection, app_id: str) -> list[str]:
    """Ids of the imports that are to be run, or were cut off; the oldest first."""
    return [found for (found,) in await db.fetch_rows(connection, _SQL["list_waiting"], {"app_id": app_id})]


async def is_importing(connection: db.Connection, app_id: str, campaign_id: int) -> bool:
    """Whether the audience may change at any moment: with the sending held, none can begin."""
    params = {"app_id": app_id, "campaign_id": campaign_id}
    return bool(await db.fetch_rows(connection, _SQL["is_importing"], params))


async def run_import(pool: db.Pool, cipher: Cipher, app_id: str, import_id: str) -> None:
    """Do an import from its beginning to its end; does nothing where it has ended.

    Raises one of db.AWAY where the database is away: run it again later. BadKey: another worker may have the right one.
    """
    with tempfile.TemporaryFile() as file:
        run = await _begin(pool, cipher, app_id, import_id, file)
        if run is None:
            return
        try:
            await run.take_all()
        except _Superseded:
            log.info("import %s goes on elsewhere", import_id, extra={"app": app_id})
        except (Unreadable, Misfit) as error:
            await run.end("refused", str(error))
        except (*db.AWAY, BadKey):
            raise
        except Exception:
            log.exception("import %s failed", import_id, extra={"app": app_id})
            await run.end("failed", _BROKEN)


async def _begin(pool: db.Pool, cipher: Cipher, app_id: str, import_id: str, file: BinaryIO) -> "_Run | None":
    """Take back what an earlier attempt has added, and fetch the file. None where there is nothing to be done."""
    params = {"app_id": app_id, "import_id": import_id}
    async with pool.connection() as connection:
        async with connection.transaction():
            found = await db.fetch_one(connection, Import, _SQL["find_import"], params)
            if found is None:
                return None
            try:
                sending = await sendings.hold(connection, app_id, found.campaign_id)
            except NotFound:
                return None
            run = _Run(pool, cipher, sending, import_id, file)
            if not await run.start(connection):
                return None
        await fetch_file(connection, app_id, import_id, file)
    return run


class _Run:
    """One attempt at an import."""

    _import: Import

    def __init__(
        self, pool: db.Pool, cipher: Cipher, sending: Sending, import_id: str, file: BinaryIO
    ) -> None:
        self._pool = pool
        self._cipher = cipher
        self._sending = sending
        self._file = file
        self._app_id = sending.app_id
        self._key = {"app_id": sending.app_id, "import_id": import_id}
        self._campaign = {"app_id": sending.app_id, "campaign_id": sending.campaign_id}
        self._columns: Columns | None = None
        self._first_seq = 0
        self._rows = 0
        self._accepted = 0

    async def start(self, connection: db.Connection) -> bool:
        """Whether the import is to be done, all traces of an earlier attempt gone. The sending is held."""
        if not await db.fetch_rows(connection, _SQL["hold_import"], self._key):
            return False
        found = await db.fetch_one(connection, Import, _SQL["find_import"], self._key)
        assert found is not None
        self._import = found
        if self._sending.stage != "draft":
            await self._close(connection, "failed", f"the campaign is {self._sending.stage}, not a draft")
            return False
        await self._take_back(connection, self._import.first_seq)
        await db.execute(connection, _SQL["delete_errors"], self._key)
        await db.execute(connection, _SQL["start_import"], self._key | self._campaign)
        self._first_seq = (await sendings.find(connection, self._app_id, self._sending.campaign_id)).total
        return True

    async def take_all(self) -> None:
        """Read the file to its end; then the last word."""
        media_type, _, charset = self._import.media_type.partition("; charset=")
        with contextlib.closing(await asyncio.to_thread(read_rows, self._file, media_type, charset)) as read:
            rows: Iterator[Row] = read
            header = await asyncio.to_thread(next, rows, None)
            if header is None:
                raise Unreadable("the file is empty")
            mapping = msgspec.json.decode(self._import.mapping, type=Mapping)
            errors = find_errors(header.cells, mapping, self._sending)
            if errors is not None:  # a log that was mended, or was not
                header, rows = mending.restore(header, errors), (mending.restore(row, errors) for row in read)
            await self._note_header(header)
            self._columns = map_columns(header.cells, mapping, self._sending)
            await self._take_rows(rows, self._columns)
        await self._conclude()

    async def _take_rows(self, rows: Iterator[Row], columns: Columns) -> None:
        """Read a batch while the one before is stored."""

        def read() -> tuple[list[Candidate], int]:
            return _read_batch(rows, columns), self._file.tell()

        reading = asyncio.create_task(asyncio.to_thread(read))
        try:
            while True:
                batch, bytes_read = await asyncio.shield(reading)
                if not batch:
                    break
                reading = asyncio.create_task(asyncio.to_thread(read))
                await self._store(batch, bytes_read)
        finally:  # the thread must be out of the file before that is closed
            await asyncio.wait([reading])
            reading.exception()

    async def _conclude(self) -> None:
        set_aside = self._rows - self._accepted
        if not self._rows:
            await self.end("refused", "the file has no rows below its header")
        elif set_aside and not self._import.keeps_valid:
            await self.end("refused", f"{set_aside} of {self._rows} rows cannot be taken, so none was")
        else:
            await self.end("done", "")

    async def _note_header(self, header: Row) -> None:
        names = [show(name) for name in header.cells]
        async with self._pool.connection() as connection:
            await db.execute(connection, _SQL["note_header"], self._key | {"header": names})

    async def _store(self, batch: list[Candidate], bytes_read: int) -> None:
        async def work(connection: db.Connection) -> int:
            async with connection.transaction():
                await self._hold(connection)
                await self._compare(connection, batch)
                return await self._write(connection, batch, bytes_read)

        async with self._pool.connection() as connection:
            accepted = await db.retry_conflicts(lambda: work(connection))
        self._rows += len(batch)
        self._accepted += accepted

    async def _hold(self, connection: db.Connection) -> None:
        """Batches are the same in every attempt, so another worker's batch shows by the number of rows."""
        if list(await db.fetch_rows(connection, _SQL["hold_import"], self._key)) != [(self._rows,)]:
            raise _Superseded

    async def _compare(self, connection: db.Connection, batch: list[Candidate]) -> None:
        """Set aside who has opted out, and who is there already. A batch that lost a race is compared anew."""
        able = [one for one in batch if one.fault not in {"invalid", "landline"}]
        recipients = [one.recipient for one in able]
        kind = self._sending.type
        out = await optouts.blocked(connection, self._cipher, self._app_id, kind, recipients)
        params = self._campaign | {"recipients": recipients}
        known = dict(await db.fetch_rows(connection, _SQL["find_known"], params))
        seen: set[str] = set()
        for one in able:
            one.fault, one.error = "", ""
            if one.recipient in out:
                one.fault, one.error = "opted_out", "the recipient has opted out"
            elif one.recipient in seen or known.get(one.recipient, -1) >= self._first_seq:
                one.fault, one.error = "duplicate", "a duplicate: an earlier row of this file has this number"
            elif one.recipient in known:
                one.fault, one.error = "duplicate", "a duplicate: the campaign has this number already"
            seen.add(one.recipient)

    async def _write(self, connection: db.Connection, batch: list[Candidate], bytes_read: int) -> int:
        """Messages, counts, errors and progress; how many were accepted."""
        first = self._first_seq + self._accepted
        accepted = [one for one in batch if not one.fault]
        messages = [
            _Message(seq, one.parts, one.recipient, one.country, one.content, one.variables)
            for seq, one in enumerate(accepted, first)
        ]
        params = self._campaign | {
            "channel_number": self._sending.channel_number,
            "messages": _write_json(messages),
            "accepted": len(accepted),
            "total": first,
        }
        if messages:
            if not await db.execute(connection, _SQL["move_counts"], params):
                raise _Superseded
            await db.execute(connection, _SQL["add_recipients"], params)
        await self._write_errors(connection, [one for one in batch if one.fault])
        counts = Counter(one.fault for one in batch)
        faults = {fault: counts[fault] for fault in FAULTS}
        counted = {"rows": len(batch), "accepted": len(accepted), "bytes_read": bytes_read}
        await db.execute(connection, _SQL["note_progress"], self._key | counted | faults)
        return len(accepted)

    async def _write_errors(self, connection: db.Connection, bad: list[Candidate]) -> None:
        first = self._rows - self._accepted
        errors = [
            SetAside(n, one.row.line, [show(cell) for cell in one.row.cells], one.error)
            for n, one in enumerate(bad, first)
        ]
        if errors:
            params = self._key | {"errors": _write_json(errors)}
            await db.execute(connection, _SQL["add_errors"], params)

    async def end(self, state: State, reason: str) -> None:
        """The last word, unless another worker goes on; what is not done leaves nothing in the campaign."""
        try:
            async with self._pool.connection() as connection, connection.transaction():
                await sendings.hold(connection, self._app_id, self._sending.campaign_id)
                await self._hold(connection)
                if state == "done":
                    assert self._columns is not None
                    params = self._campaign | {"columns": self._columns.names}
                    await db.execute(connection, _SQL["change_columns"], params)
                else:
                    await self._take_back(connection, self._first_seq)
                await self._close(connection, state, reason)
        except (_Superseded, NotFound):
            log.info("import %s goes on elsewhere", self._key["import_id"])

    async def _take_back(self, connection: db.Connection, from_seq: int | None) -> None:
        if from_seq is not None:
            await db.take_time(connection)
            await db.execute(connection, _SQL["take_back"], self._campaign | {"from_seq": from_seq})

    async def _close(self, connection: db.Connection, state: State, reason: str) -> None:
        await db.execute(connection, _SQL["delete_chunks"], self._key)
        await db.execute(connection, _SQL["end_import"], self._key | {"state": state, "reason": reason})


def _read_batch(rows: Iterator[Row], columns: Columns) -> list[Candidate]:
    """The next rows, as many as a batch holds; always the same ones in the same file."""
    batch: list[Candidate] = []
    size = 0
    for row in rows:
        batch.append(judge(row, columns))
        size += len(row.cells) + sum(map(len, row.cells))
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_CHARACTERS:
            break
    return batch


def show(text: str) -> str:
    """A text that PostgreSQL can hold: NUL becomes its picture."""
    return text.replace("\0", "\u2400")


def _write_json(rows: Sequence[msgspec.Struct]) -> str:
    return msgspec.json.encode(rows).decode()
