"""What the database holds of an app: made without the detour of a command, and read to see that nothing changed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
import psycopg
from psycopg import sql

from harness import App, Server
from tallycast import apps, db

Result = TypeVar("Result")
_OF_APP = "select t::text from {} t where app_id = %(app_id)s order by 1"
_NAMING_IT = "select t::text from {} t where position(lower(%(app_id)s) in lower(t::text)) > 0 order by 1"
_TABLES = """
select c.relname, exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'app_id')
from pg_class c where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
"""


def in_database(url: str, work: Callable[[db.Connection], Awaitable[Result]]) -> Result:
    """What some work on a connection of its own gives."""

    async def run() -> Result:
        async with db.connect(url) as connection:
            return await work(connection)

    return asyncio.run(run())


def add_app(server: Server, database_url: str, client: httpx.Client) -> App:
    """An app on a server, with a token that may do everything."""

    async def make(connection: db.Connection) -> tuple[str, str]:
        made = await apps.create_app(connection, "Test")
        return made.app_id, (await apps.create_token(connection, made.app_id)).plain

    return App(server.url, *in_database(database_url, make), client)


def rows_of(url: str, app_id: str) -> dict[str, list[str]]:
    """Every row of an app, and those of other tables that name it (its people's emails)."""
    with psycopg.connect(url) as connection:
        return {
            name: [
                row
                for (row,) in connection.execute(
                    sql.SQL(_OF_APP if has_app_id else _NAMING_IT).format(sql.Identifier(name)),
                    {"app_id": app_id},
                )
            ]
            for name, has_app_id in connection.execute(_TABLES.encode()).fetchall()
        }
