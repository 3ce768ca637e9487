"""The intake: natural batching of what providers and recipients send, and the spool behind it.

While one batch of an app commits, the next one gathers: no timer, no delay when there is little, large batches when
there is much. An arrival is done when it is durable, in the database or, while that is away, in the spool.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import psycopg
from psycopg import errors as pg

from tallycast import db, links, receipts
from tallycast.errors import ServiceUnavailable
from tallycast.events import Unreadable
from tallycast.hearings import Hearings
from tallycast.links import Click
from tallycast.receipts import Arrival
from tallycast.spool import Item, Spool, read
from tallycast.telemetry import BATCH_EVENTS, DATABASE_AWAY, EVENTS, RECEIPTS_PARKED, SPOOLED

log = logging.getLogger("tallycast.intake")
_MAX_EVENTS = 2000
# 360dialog gives an answer five seconds; the database gets this part of them before the spool takes over.
_PATIENCE_SECONDS = 2.5
_DRAIN_BATCH = 1000
_DRAIN_SECONDS = 60.0
_MAX_REASON = 500
# What PostgreSQL refuses for what it says: however often it is tried, and whatever comes with it.
_REFUSED = (psycopg.DataError, psycopg.IntegrityError, pg.ProgramLimitExceeded)


@dataclass(slots=True, eq=False)
class Batch:
    items: list[Item] = field(default_factory=list)
    size: int = 0
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def settle(self, error: Exception | None = None) -> None:
        """Tell everybody who waits; who has gone away meanwhile need not know."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)


class Intake:
    def __init__(self, pool: db.Pool, spool: Spool) -> None:
        self._pool = pool
        self._spool = spool
        self.hearings = Hearings(pool)
        self._spool_lock = asyncio.Lock()
        self._waiting: dict[str, list[Batch]] = defaultdict(list)
        self._busy: dict[str, asyncio.Task[None]] = {}
        self.is_away = False

    async def receive(self, arrival: Arrival) -> None:
        """Return when the arrival is durable; ServiceUnavailable when neither database nor spool took it."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._enqueue(arrival, len(arrival.events)).waiters.append(waiter)
        await waiter

    def note_click(self, click: Click) -> None:
        """Take a click without waiting: a redirect never waits for it."""
        self._enqueue(click, 1)

    def _enqueue(self, item: Item, size: int) -> Batch:
        app_id = item.app_id
        waiting = self._waiting[app_id]
        if not waiting or waiting[-1].size >= _MAX_EVENTS:
            waiting.append(Batch())
        batch = waiting[-1]
        batch.items.append(item)
        batch.size += size
        if app_id not in self._busy:
            self._busy[app_id] = asyncio.create_task(self._work(app_id))
        return batch

    async def _work(self, app_id: str) -> None:
        try:
            while waiting := self._waiting[app_id]:
                await self._commit(app_id, waiting.pop(0))
        finally:
            del self._busy[app_id], self._waiting[app_id]

    async def _commit(self, app_id: str, batch: Batch) -> None:
        BATCH_EVENTS.observe(batch.size)
        EVENTS.inc(batch.size)
        try:
            if self.is_away or not await self._store(app_id, batch.items):
                await self._write_spool(batch.items)
        except OSError:
            log.exception("neither database nor spool could take a batch", extra={"app": app_id})
            batch.settle(ServiceUnavailable())
        else:
            batch.settle()

    async def _store(self, app_id: str, items: Sequence[Item]) -> bool:
        """Whether the database took the batch. One that hangs is left behind: applying twice changes nothing."""
        try:
            await db.within(_PATIENCE_SECONDS, self._apply(app_id, items))
        except db.AWAY as error:
            self._leave(str(error) or "no answer in time")
            return False
        except psycopg.Error:
            # Not away, and yet it does not take what it should: a right that is missing, a table that is being changed.
            log.exception("a batch could not be stored, it is spooled", extra={"app": app_id})
            return False
        return True

    async def _apply(self, app_id: str, items: Sequence[Item]) -> None:
        try:
            await self._apply_together(app_id, items)
        except psycopg.OperationalError:
            # A connection of the pool may be dead while the database is back: the next one tells.
            await self._apply_together(app_id, items)

    async def _apply_together(self, app_id: str, items: Sequence[Item]) -> None:
        try:
            async with self._pool.connection() as connection:
                await _apply(connection, app_id, items)
        except _REFUSED as error:
            parts = _divide(items)
            if not parts:
                await self._keep_refused(items[0], error)
            for part in parts:
                await self._apply_together(app_id, part)

    async def _keep_refused(self, item: Item, error: Exception) -> None:
        """One event that would be refused for ever costs no other one: it is kept for people."""
        log.error("the database refused one event: %s", error, extra={"app": item.app_id})
        if isinstance(item, Arrival):
            kept = Unreadable(
                f"refused by the database: {error}"[:_MAX_REASON], msgspec.json.encode(item.events[0])
            )
            async with self._pool.connection() as connection:
                await _apply(connection, item.app_id, [msgspec.structs.replace(item, events=[kept])])

    def _leave(self, reason: str) -> None:
        if not self.is_away:
            self.is_away = True
            DATABASE_AWAY.set(1)
            log.error("the database is away, receipts are spooled: %s", reason)

    async def _write_spool(self, items: Sequence[Item]) -> None:
        async with self._spool_lock:
            await asyncio.to_thread(self._spool.write, items)
        SPOOLED.inc(len(items))

    async def recover(self) -> None:
        """Called again and again: see whether the database is back, then drain what was spooled."""
        if self.is_away and not await self._answers():
            return
        if self.is_away:
            self.is_away = False
            DATABASE_AWAY.set(0)
            log.warning("the database is back")
        async with self._spool_lock:
            self._spool.close()
        if not await asyncio.to_thread(self._spool.is_empty):
            await self.drain()

    async def _answers(self) -> bool:
        try:
            await db.within(_PATIENCE_SECONDS, self._ask())
        except (*db.AWAY, psycopg.Error):
            return False
        return True

    async def _ask(self) -> None:
        async with self._pool.connection() as connection:
            await connection.execute(b"select 1 from apps limit 1")

    async def drain(self) -> int:
        """Apply every spool file that nobody writes; the number of items. A file goes when all of it is durable."""
        drained = 0
        for path in self._spool.files():
            odd: list[bytes] = []
            for batch in read(path, _DRAIN_BATCH, odd):
                by_app: dict[str, list[Item]] = defaultdict(list)
                for item in batch:
                    by_app[item.app_id].append(item)
                for app_id, items in by_app.items():
                    await db.within(_DRAIN_SECONDS, self._apply(app_id, items))
                drained += len(batch)
            if odd:
                kept = path.rename(path.with_suffix(".odd"))
                log.error("%d lines of the spool are not understood, they are kept in %s", len(odd), kept)
            else:
                path.unlink()
            log.warning("spool drained", extra={"file": path.name, "items": drained})
        return drained

    async def close(self) -> None:
        """Finish everything that has arrived: nothing in flight is cut."""
        while self._busy:
            await asyncio.wait(list(self._busy.values()))
        async with self._spool_lock:
            self._spool.close()


def _divide(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Two halves of a batch, or of what one arrival says; nothing when that cannot be divided."""
    if len(items) > 1:
        half = len(items) // 2
        return [items[:half], items[half:]]
    (item,) = items
    if not isinstance(item, Arrival) or len(item.events) < 2:  # noqa: PLR2004 - one event is one
        return []
    half = len(item.events) // 2
    return [[msgspec.structs.replace(item, events=part)] for part in (item.events[:half], item.events[half:])]


async def _apply(connection: db.Connection, app_id: str, items: Sequence[Item]) -> None:
    arrivals = [item for item in items if isinstance(item, Arrival)]
    clicks = [item for item in items if isinstance(item, Click)]
    if arrivals:
        applied = await receipts.apply(connection, app_id, arrivals)
        if applied.parked:
            RECEIPTS_PARKED.inc(applied.parked)
    if clicks:
        await links.count(connection, app_id, clicks)
