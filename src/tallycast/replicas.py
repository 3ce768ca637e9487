"""Reports from a read replica, which never show less than what was acknowledged, to whomever, at whichever server.

Before each report the primary is asked for its position in the log, which costs it no look at a table, and the replica
is asked whether it has come so far. Where it has not, soon, or does not answer, the report is the primary's.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from tallycast import db

log = logging.getLogger("tallycast.replicas")
# What was acknowledged is flushed, unless synchronous_commit is off.
_POSITION = b"select pg_current_wal_flush_lsn()::text"
_IS_LEVEL = b"select pg_is_in_recovery() and pg_last_wal_replay_lsn() >= %(position)s::pg_lsn"
# A replica is a few milliseconds behind. Whoever waits longer would wait for the primary no longer than that.
_WAITS = (0.0, 0.002, 0.005, 0.01, 0.02, 0.04)
_REACH_SECONDS = 0.5
# While it lags, is away or was promoted it is not tried for each report.
_REST_SECONDS = 2.0
_Opened = tuple[AsyncExitStack, db.Connection]
# Without a reference a task could vanish half way.
_CLOSING: set[asyncio.Future[None]] = set()


class Readers:
    """A process's ways to what reports read. Without a replica all are the primary's."""

    def __init__(self, pool: db.Pool, url: str, replica_url: str | None, size: int) -> None:
        self._pool = pool
        self._url = url
        self._replica_url = replica_url
        self._replica = db.make_pool(replica_url, size) if replica_url else None
        self._rests_until = 0.0

    async def open(self) -> None:
        """A replica that is away keeps nobody from starting."""
        if self._replica is not None:
            await self._replica.open()

    async def close(self) -> None:
        if self._replica is not None:
            await self._replica.close()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[db.Connection]:
        """A connection of a pool that sees all that was acknowledged by now."""
        async with AsyncExitStack() as stack:
            replica = self._replica
            found = await self._enter(stack, replica.connection(_REACH_SECONDS)) if replica else None
            if found is None:
                found = await stack.enter_async_context(self._pool.connection())
            yield found

    def lend(self, seconds: float) -> AbstractAsyncContextManager[db.Connection]:
        """The same for single statements, which together take no longer than `seconds`, else TimeoutError."""
        return db.lend(self._pool, seconds) if self._replica is None else self._lend(seconds)

    @contextlib.asynccontextmanager
    async def _lend(self, seconds: float) -> AsyncIterator[db.Connection]:
        async with asyncio.timeout(seconds), self.connection() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[db.Connection]:
        """The same, as a connection of its own for an export."""
        async with AsyncExitStack() as stack:
            url = self._replica_url
            found = await self._enter(stack, db.connect(url)) if url else None
            if found is None:
                found = await stack.enter_async_context(db.connect(self._url))
            yield found

    async def _enter(
        self, stack: AsyncExitStack, way: AbstractAsyncContextManager[db.Connection]
    ) -> db.Connection | None:
        """The connection to the replica, where it is level with the primary; closed with the stack, else here."""
        if time.monotonic() < self._rests_until:
            return None
        async with self._pool.connection() as primary:
            ((position,),) = await db.fetch_rows(primary, _POSITION, {})
        reaching = asyncio.create_task(_reach(way, position))
        try:
            opened = await db.within(_REACH_SECONDS, _result(reaching))
        except db.AWAY as error:
            reaching.add_done_callback(_let_go)
            self._rest(f"is away: {str(error) or 'no answer in time'}")
            return None
        if opened is None:
            self._rest("lags, or is none any more")
            return None
        held, connection = opened
        stack.push_async_exit(held)
        return connection

    def _rest(self, reason: str) -> None:
        self._rests_until = time.monotonic() + _REST_SECONDS
        log.warning("the replica %s; reports are the primary's", reason)


async def _result(task: "asyncio.Task[_Opened | None]") -> "_Opened | None":
    """A replica that hangs is left behind: cancelling what was asked of it would wait for it."""
    return await asyncio.shield(task)


async def _reach(way: AbstractAsyncContextManager[db.Connection], position: str) -> "_Opened | None":
    async with AsyncExitStack() as own:
        connection = await own.enter_async_context(way)
        if await _await_level(connection, position):
            return own.pop_all(), connection
    return None


def _let_go(reaching: "asyncio.Task[_Opened | None]") -> None:
    """Close what was opened after nobody waited for it any more."""
    if reaching.cancelled() or reaching.exception() is not None:
        return
    opened = reaching.result()
    if opened is not None:
        closing = asyncio.ensure_future(opened[0].aclose())
        _CLOSING.add(closing)
        closing.add_done_callback(_CLOSING.discard)


async def _await_level(connection: db.Connection, position: str) -> bool:
    """Whether a replica has come so far, now or soon."""
    for seconds in _WAITS:
        await asyncio.sleep(seconds)
        if await db.fetch_rows(connection, _IS_LEVEL, {"position": position}) == [(True,)]:
            return True
    return False
