"""A database of its own for tests that have a worker of their own: that of the shared server would compete with it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from engine import Provider, a_provider
from stage import Stage, make_stage
from tallycast import db, embedded, migrations


@pytest.fixture(scope="session")
def database_url(data_dir: Path) -> Iterator[str]:
    server = embedded.start(data_dir)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create database sending")
    url = server.url.replace("/tallycast?", "/sending?")
    migrations.migrate(url)
    yield url
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("drop database sending with (force)")
    server.stop()


@pytest.fixture
async def stage(connection: db.Connection) -> Stage:
    return await make_stage(connection)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with a_provider() as provider:
        yield provider
