"""Migrations: plain numbered SQL, applied once each, under a lock, in one transaction each."""

import re
from importlib import resources

import psycopg

_FILE = re.compile(r"(\d{4})_\w+\.sql")
_LOCK = 0x7461_6C6C_79  # "tally"
_MINIMUM_VERSION = 150_000


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
    instead of blocking everybody behind it.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        if connection.info.server_version < _MINIMUM_VERSION:
            version = connection.info.server_version // 10_000
            raise UnfitDatabase(f"PostgreSQL 15 or later is needed, this server is version {version}")
        connection.execute("select pg_advisory_lock(%s)", [_LOCK])
        try:
            return _apply_missing(connection)
        finally:
            connection.execute("select pg_advisory_unlock(%s)", [_LOCK])


def _apply_missing(connection: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    connection.execute(
        "create table if not exists migrations "
        "(number int primary key, name text not null, applied_at timestamptz not null default now())"
    )
    done = {row[0] for row in connection.execute("select number from migrations")}
    applied = []
    for number, name, sql in available():
        if number in done:
            continue
        with connection.transaction():
            connection.execute("set local lock_timeout = '10s'")
            connection.execute(sql.encode())
            connection.execute("insert into migrations (number, name) values (%s, %s)", [number, name])
        applied.append(name)
    return applied
