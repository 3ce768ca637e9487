"""What runs by itself, killed in the middle and run again: migrations, retention, replay."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from faults import points
from faults.checker import Verdict
from faults.figures import Storm
from faults.place import Place, make_place, rows_of
from harness import TALLYCAST, App, wait_for
from tallycast import embedded, migrations
from test_sql import CATALOGS, SOURCE, catalog

Note = Callable[[Storm], None]
pytestmark = pytest.mark.faults
Catalog = dict[str, list[tuple[Any, ...]]]
# Where a semicolon does not end a statement: in texts, names, bodies of functions and comments.
_STATEMENT = re.compile(
    r"(?:\$(\w*)\$.*?\$\1\$|'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|[^;])+;?", re.DOTALL
)
_CHILDREN = multiprocessing.get_context("fork")


def statements(text: str) -> list[str]:
    found = [match[0] for match in _STATEMENT.finditer(text)]
    return [one for one in found if re.sub(r"--[^\n]*", "", one).strip(" \n;")]


def test_statements_are_divided_where_postgres_divides_them() -> None:
    text = "a 'x;''y'; -- b;\n c $$ d; e $$ f;\n\n/* g; */ \";\" h;\n-- i\n"
    assert statements(text) == ["a 'x;''y';", " -- b;\n c $$ d; e $$ f;", '\n\n/* g; */ ";" h;']


def migrate_until(url: str, after: int, victim: str) -> None:
    """Migrate, statement by statement, until so many are done: then the process dies, or its session at the server."""
    execute, done = psycopg.Connection.execute, 0

    def execute_each(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal done
        parts = statements(query.decode()) if isinstance(query, bytes) else [query]
        for part in parts:
            result = execute(self, part, *args, **kwargs)
            done += 1
            if done == after:
                os.kill(os.getpid() if victim == "client" else self.info.backend_pid, signal.SIGKILL)
        return result

    psycopg.Connection.execute = execute_each  # type: ignore[method-assign]
    migrations.migrate(url)


def applied(url: str) -> int:
    with psycopg.connect(url) as connection:
        if connection.execute("select to_regclass('migrations') is null").fetchone() == (True,):
            return 0
        return len(connection.execute("select from migrations").fetchall())


def interrupt(url: str, after: int, victim: str, known: Catalog) -> Catalog | None:
    """What is in the database after the migration was interrupted: `known`, or more migrations; None: it was not."""
    number = applied(url)
    process = _CHILDREN.Process(target=migrate_until, args=[url, after, victim])
    process.start()
    process.join(60)
    if process.exitcode == 0:
        return None
    wait_for(lambda: _answers(url))
    found = catalog(url)
    if number == applied(url) > 0:
        assert found == known
    elif not applied(url):
        assert {name for name, *_ in found["tables"]} <= {"migrations"}
    return found


def _answers(url: str) -> bool:
    try:
        applied(url)
    except psycopg.OperationalError:
        return False
    return True


def test_a_migration_that_is_killed_after_any_statement_is_made_whole_by_the_next_start(
    tmp_path: Path, note: Note
) -> None:
    injected: Counter[str] = Counter()
    began = time.monotonic()
    server = embedded.start(tmp_path)
    try:
        number, after, known = 0, 1, catalog(server.url)
        while True:
            victim = "session" if after % 29 == 0 else "client"
            seen = interrupt(server.url, after, victim, known)
            if seen is None:
                break
            known = seen
            injected[f"kill -9: {victim} of a migration, after a statement"] += 1
            after += 1
            if applied(server.url) > number:
                number, after = applied(server.url), 1
        found = catalog(server.url)
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("create database whole")
        whole = server.url.replace("/tallycast?", "/whole?")
        with psycopg.connect(whole) as connection:
            connection.execute((SOURCE / "sql" / "schema.sql").read_bytes())
        expected = catalog(whole)
    finally:
        server.stop()
    assert {what: found[what] for what in CATALOGS} == {what: expected[what] for what in CATALOGS}
    assert injected.total() > sum(len(statements(text)) for _, _, text in migrations.available())
    note(Storm.of("migrations", injected, Verdict(), time.monotonic() - began))


@pytest.fixture
def place(tmp_path: Path, client: httpx.Client) -> Iterator[Place]:
    with make_place(tmp_path, client) as made:
        yield made


def record(app: App, size: int) -> tuple[str, str]:
    """A campaign of another system; its channel and id."""
    channel_id = app.add_channel()
    campaign_id = app.record(channel_id, [])
    lines = "".join(f'{{"recipient":"+852{60_000_000 + n}","messageID":"s{n}"}}\n' for n in range(size))
    made = app.result(
        "POST", f"/sent-campaigns/{campaign_id}/messages", content=lines, timeout=60,
        headers={"Content-Type": "application/x-ndjson"},
    )  # fmt: skip
    assert made["accepted"] == size
    return channel_id, campaign_id


def write_bodies(path: Path, size: int) -> None:
    receipts = [
        {"messageID": f"s{n}", "status": status, "timestamp": 1_700_000_000}
        for n in range(size)
        for status in ("delivered", *(["read"] if n % 2 else []))
    ]
    path.write_text("".join(f"{json.dumps({'receipts': [one]})}\n" for one in receipts))


def die_replaying(place: Place, command: list[str], batch: int) -> None:
    points.arm(place.armed, "replay between batches", batch)
    done = subprocess.run(
        [*TALLYCAST, *command], env=place.environ(), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_replay_that_is_killed_and_begun_again_counts_everything_once(
    place: Place, client: httpx.Client, note: Note
) -> None:
    app, size = place.new_app(client), 14_000
    channel_id, campaign_id = record(app, size)
    file = place.folder / "bodies.ndjson"
    write_bodies(file, size)
    storage = ["--data-dir", str(place.data_dir), "--database-url", place.database.url]
    command = ["replay", str(file), "--channel", channel_id, *storage]
    began = time.monotonic()
    batches = range(1, 5)
    for batch in batches:
        die_replaying(place, command, batch)
    place.run("replay", str(file), "--channel", channel_id)
    totals = app.totals(campaign_id)
    assert (totals["delivered"], totals["read"], totals["pending"]) == (size, size // 2, 0)
    assert json.loads(place.run("audit", "--json"))["drift"] == 0
    verdict = Verdict(acknowledged=size + size // 2)
    note(
        Storm.of(
            "replay",
            Counter({"kill -9: replay between batches": len(batches)}),
            verdict,
            time.monotonic() - began,
        )
    )


def retain(place: Place, app: App, mode: str, names: list[str], rounds: int) -> Counter[str]:
    """Set a rule, and kill the worker that follows it, at each point in turn; how often each."""
    rows_of(
        place,
        "update campaigns set created_at = now() - interval '100 days', sent_at = now() - interval '99 days' "
        "where app_id = %s returning 1",
        app.app_id,
    )
    rows_of(
        place,
        "update messages set accepted_at = now() - interval '99 days' where app_id = %s returning 1",
        app.app_id,
    )
    kills = [name for name in names for _ in range(rounds)]
    armed = points.arm(place.armed, kills[0], 1)
    app.result("PATCH", "/policy", json={"retention": {"days": 30, "mode": mode}})
    for name in kills[1:]:
        wait_for(lambda path=armed: not path.exists(), 60)  # type: ignore[misc] # bound now, used now
        armed = points.arm(place.armed, name, 1)
    wait_for(lambda: not armed.exists(), 60)
    query = "select 1 from retentions where app_id = %s and mode = %s and ended_at is not null"
    wait_for(lambda: rows_of(place, query, app.app_id, mode), 60)
    return Counter(f"kill -9: {name}" for name in kills)


def test_retention_that_is_killed_at_every_step_ends_and_changes_no_figure(
    place: Place, client: httpx.Client, note: Note
) -> None:
    app, size = place.new_app(client), 9_000
    channel_id, campaign_id = record(app, size)
    file = place.folder / "bodies.ndjson"
    write_bodies(file, size)
    place.run("replay", str(file), "--channel", channel_id)
    totals = app.totals(campaign_id)
    began = time.monotonic()
    names = ["retention freezing", "retention not committed", "retention between batches"]
    injected = retain(place, app, "anonymise", names, 2)
    assert app.totals(campaign_id) == totals
    numbers = "select count(*) from messages where app_id = %s and recipient like '+%%'"
    assert rows_of(place, numbers, app.app_id) == [(0,)]
    injected += retain(place, app, "delete", ["retention between batches"], 3)
    assert app.totals(campaign_id) == totals
    assert rows_of(place, "select count(*) from messages where app_id = %s", app.app_id) == [(0,)]
    assert json.loads(place.run("audit", "--json"))["drift"] == 0
    note(Storm.of("retention", injected, Verdict(acknowledged=size), time.monotonic() - began))
