"""One PostgreSQL and one server for the whole run; each test has an app of its own, so none sees another's data."""

import json
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from contents import add_app
from harness import TALLYCAST, App, Server, run, start_server
from tallycast import db, embedded, migrations

GIVEN = os.environ.get("TALLYCAST_TEST_DATABASE_URL")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    """A folder of our own: pytest closes its base folder to others at each start, also for a server in it."""
    with tempfile.TemporaryDirectory(prefix="tallycast-test-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tallycast-test-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def database_url(data_dir: Path) -> Iterator[str]:
    """A migrated database of this test process, or the given one, as tests/machines gives it."""
    if GIVEN is not None:
        migrations.migrate(GIVEN)
        yield GIVEN
        return
    server = embedded.start(data_dir)
    migrations.migrate(server.url)
    yield server.url
    server.stop()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[db.Connection]:
    async with db.connect(database_url) as connection:
        yield connection


@pytest.fixture(scope="session")
def server(data_dir: Path, database_url: str) -> Iterator[Server]:
    storage = [] if GIVEN is None else ["--database-url", database_url]  # else it joins the running database
    origins = "https://app.example.com,http://localhost:5999"
    started = start_server(data_dir, "--cors-origins", origins, *storage)
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="session")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=30, limits=httpx.Limits(max_connections=50)) as client:
        yield client


@pytest.fixture
def make_app(client: httpx.Client) -> Callable[[Server], App]:
    """Make an app on a server."""

    def make(server: Server) -> App:
        made = json.loads(run("app", "create", "--name", "Test", "--json", *server.storage))
        return App(server.url, made["appID"], made["token"], client)

    return make


@pytest.fixture
def app(server: Server, database_url: str, client: httpx.Client) -> App:
    """An app on the shared server."""
    return add_app(server, database_url, client)


@pytest.fixture(scope="module")
def simulator() -> Iterator[str]:
    """A simulator without faults, on a free port; its URL."""
    command = [*TALLYCAST, "simulate", "--port", "0", "--smpp-port", "0", "--profile", "calm"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()
        process.stdout.close()
