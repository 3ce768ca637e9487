"""The way to PostgreSQL: a pool, typed fetches, and the words for what can go wrong on the way."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import errors as pg
from psycopg.rows import class_row, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

log = logging.getLogger("tallycast.db")
Connection = psycopg.AsyncConnection[Any]
Pool = AsyncConnectionPool[Connection]
Connect = Callable[[], AbstractAsyncContextManager[Connection]]
Params = Mapping[str, Any]
Row = TypeVar("Row")
Result = TypeVar("Result")
_TRIES = 10
# Tasks that nobody waits for any more; without a reference they could vanish half way.
_STRAY: set[asyncio.Task[Any]] = set()

# What two writers can do to each other without either being wrong: the loser simply tries again.
# A check belongs to them: PostgreSQL tests it on the row version that it saw first, before it waits for a newer one.
CONFLICTS = (pg.DeadlockDetected, pg.SerializationFailure, pg.UniqueViolation, pg.CheckViolation)
# The database cannot be written to now: down, starting, stopping, full, a standby, or not reached in time.
AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    PoolTimeout,
    pg.ReadOnlySqlTransaction,
    TimeoutError,
)

# Every query reaches its rows through an index, whatever its parameters and however young the table's statistics:
# one plan for all saves planning each time, and a plan that was made for an empty table must not scan a full one.
SETTINGS = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "timezone": "UTC",
    "statement_timeout": "60s",
    "default_transaction_isolation": "read committed",
}
_SESSION = "".join(f"set {name} = '{value}'; " for name, value in SETTINGS.items()).encode()
_SESSION += b"set application_name = 'tallycast'"


# Asked apart from its use: PostgreSQL checks the right before it runs a statement, and an error ends a transaction.
_MAY_IDENTIFY = b"select has_function_privilege('pg_control_system()', 'execute')"
# Of the log that is written now: the control file learns of a new timeline at the first checkpoint after a promotion,
# which may be minutes later. A server that only recovers has none.
_IDENTITY = b"""
select system_identifier, case when pg_is_in_recovery() then '' else
  ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int::text end
from pg_control_system()
"""

# Autovacuum and the like change no row of ours, and would hold the moment back; nor do exports, which may take long.
_HORIZON = (
    b"select least(now(), min(a.xact_start)), now() from pg_stat_get_activity(null) a "
    b"where a.datid = (select oid from pg_database where datname = current_database()) "
    b"and a.backend_type = 'client backend' and a.application_name <> 'tallycast export'"
)

# A database host that vanishes without a word is noticed in half a minute, not in the kernel's hours.
_REACHING: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}


async def _configure(connection: Connection) -> bool:
    """Whether a pooler such as PgBouncer stands between: it gives its clients other numbers than sessions have.

    It may give each transaction another session, which knows no statement that was prepared in one before. What is set
    here then stays with one session of many, which does no harm: `migrations` made it the role's own default.
    """
    ((number,),) = await fetch_rows(connection, b"select pg_backend_pid()", {})
    is_pooled: bool = number != connection.info.backend_pid
    if is_pooled:
        connection.prepare_threshold = None
    await connection.execute(_SESSION)
    return is_pooled


async def _prepare(connection: Connection) -> None:
    await _configure(connection)


def make_pool(url: str, size: int) -> Pool:
    """A pool that is not open yet. Connections commit each statement by themselves unless in a transaction."""
    return AsyncConnectionPool(
        url,
        min_size=1,
        max_size=size,
        timeout=2.0,
        reconnect_timeout=5.0,
        kwargs={"autocommit": True, **_REACHING},
        configure=_prepare,
        open=False,
    )


@asynccontextmanager
async def connect(url: str) -> "AsyncIterator[Connection]":
    """One connection of its own, for commands, with the pool's settings but for the statement time-out.

    Behind a pooler that stays as well: without it a session would be handed on to others.
    """
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, **_REACHING) as connection:
        if not await _configure(connection):
            await connection.execute(b"set statement_timeout = 0")
        yield connection


@asynccontextmanager
async def lend(pool: Pool, seconds: float) -> "AsyncIterator[Connection]":
    """A connection for single statements, which together take no longer than `seconds`, else TimeoutError.

    The pool's own context would end a transaction, which there is none of, for a tenth of what a report takes.
    """
    async with asyncio.timeout(seconds):
        connection = await pool.getconn()
        try:
            yield connection
        finally:
            await pool.putconn(connection)


def always(connection: Connection) -> Connect:
    """One connection for work that would take one of a pool each time."""
    return lambda: nullcontext(connection)


async def fetch_all(connection: Connection, kind: type[Row], query: bytes, params: Params) -> list[Row]:
    async with connection.cursor(row_factory=class_row(kind), binary=True) as cursor:
        await cursor.execute(query, params)
        return await cursor.fetchall()


async def fetch_one(connection: Connection, kind: type[Row], query: bytes, params: Params) -> Row | None:
    async with connection.cursor(row_factory=class_row(kind), binary=True) as cursor:
        await cursor.execute(query, params)
        return await cursor.fetchone()


async def fetch_rows(connection: Connection, query: bytes, params: Params) -> Sequence[tuple[Any, ...]]:
    cursor = await connection.execute(query, params, binary=True)
    return await cursor.fetchall()


async def fetch_dicts(connection: Connection, query: bytes, params: Params) -> list[dict[str, Any]]:
    async with connection.cursor(row_factory=dict_row, binary=True) as cursor:
        await cursor.execute(query, params)
        return await cursor.fetchall()


async def execute(connection: Connection, query: bytes, params: Params) -> int:
    """Run a statement; the number of rows that it touched."""
    cursor = await connection.execute(query, params)
    return cursor.rowcount


async def identity(connection: Connection) -> str:
    """Which database this is, and on which timeline: a restored copy is on another, or is another.

    Empty where the role may not ask (it needs pg_monitor on some servers).
    """
    if not (await fetch_rows(connection, _MAY_IDENTIFY, {}))[0][0]:
        return ""
    system, timeline = (await fetch_rows(connection, _IDENTITY, {}))[0]
    return f"{system}.{timeline}"


async def find_horizon(connection: Connection) -> tuple[datetime, datetime]:
    """(a moment, now): all that others began before the moment is finished. Asked before what is to be seen is read.

    Only transactions of the same role show when they began, so everything that writes must share one.
    """
    horizon, now = (await fetch_rows(connection, _HORIZON, {}))[0]
    return horizon, now


async def take_time(connection: Connection) -> None:
    """Let the statements of the current transaction take as long as a whole audience needs."""
    await connection.execute(b"set local statement_timeout = 0")


async def retry_conflicts(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run a whole transaction again when it lost a race with another writer."""
    for _ in range(_TRIES - 1):
        try:
            return await work()
        except CONFLICTS:
            continue
    return await work()


async def within(seconds: float, work: Coroutine[Any, Any, Result]) -> Result:
    """The work's result, or TimeoutError. Work that hangs is left behind: cancelling a statement of a server that
    does not answer would wait for that server.
    """
    task = asyncio.create_task(work)
    await asyncio.wait([task], timeout=seconds)
    if task.done():
        return task.result()
    _STRAY.add(task)
    task.add_done_callback(_forget)
    raise TimeoutError


def _forget(task: asyncio.Task[Any]) -> None:
    _STRAY.discard(task)
    if not task.cancelled():
        task.exception()


async def repeat(work: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Do it again and again until cancelled, whatever it raises; `seconds` lie between two times."""
    while True:
        try:
            await work()
        except AWAY as error:
            log.debug("the database is away: %s", error)
        except Exception:
            log.exception("background work failed, it is tried again")
        await asyncio.sleep(seconds)
