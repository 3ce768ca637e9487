"""Migrations: plain numbered SQL, applied once each, under a lock, in one transaction each."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources

import psycopg

from tallycast import poolers
from tallycast.poolers import Connection

_FILE = re.compile(r"(\d{4})_\w+\.sql")
_LOCK = 0x7461_6C6C_79  # "tally"
_MINIMUM_VERSION = 150_000
# What the sessions of servers set may be the role's default.
_FREEDOM = (
    "set local statement_timeout = 0; set local enable_seqscan = on; set local enable_bitmapscan = on; "
    "set local enable_hashjoin = on; set local enable_mergejoin = on"
)


class UnfitDatabase(RuntimeError):
    """The database server cannot be used; the message says why."""


def available() -> list[tuple[int, str, str]]:
    """(number, file name, SQL) of every migration, in order."""
    folder = resources.files("tallycast.sql") / "migrations"
    found = [(_FILE.fullmatch(entry.name), entry) for entry in folder.iterdir()]
    return sorted((int(match[1]), entry.name, entry.read_text()) for match, entry in found if match)


def migrate(url: str) -> list[str]:
    """Bring the schema up to date; the names of the migrations that were applied now.

    Servers that start at once wait for each other. A table that is locked by others fails a migration in ten seconds
    instead of blocking everybody behind it. A pooler in transaction mode may stand between.
    """
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        if connection.info.server_version < _MINIMUM_VERSION:
            version = connection.info.server_version // 10_000
            raise UnfitDatabase(f"PostgreSQL 15 or later is needed, this server is version {version}")
        with locked(connection):
            connection.execute(
                "create table if not exists migrations "
                "(number int primary key, name text not null, applied_at timestamptz not null default now())"
            )
            if poolers.is_pooled(connection):
                poolers.keep_settings(connection)
        return [name for number, name, text in available() if _apply_missing(connection, number, name, text)]


@contextmanager
def locked(connection: Connection) -> Iterator[None]:
    """A transaction that no other migration runs beside; it may take as long as it needs, and plan as it likes."""
    with connection.transaction():
        connection.execute(_FREEDOM)
        connection.execute("select pg_advisory_xact_lock(%s)", [_LOCK])
        connection.execute("set local lock_timeout = '10s'")
        yield


def _apply_missing(connection: Connection, number: int, name: str, text: str) -> bool:
    """Apply a migration; whether it was missing."""
    known = "select from migrations where number = %s"
    if connection.execute(known, [number]).rowcount:
        return False
    with locked(connection):
        if connection.execute(known, [number]).rowcount:  # while this one waited
            return False
        connection.execute(text.encode())
        connection.execute("insert into migrations (number, name) values (%s, %s)", [number, name])
    return True
