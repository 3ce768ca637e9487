"""PgBouncer in transaction mode: everything works through it, and its end costs nothing that was acknowledged."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from fleet import Bouncer, a_bouncer, a_postgres
from harness import App, Server, run, start_server, wait_for
from tallycast import db, migrations
from test_storm import Storm

pytestmark = [pytest.mark.machines, pytest.mark.anyio]
# What works on the database without HTTP; the files of rules alone need none.
DATA_LAYER = (
    "test_receipts", "test_stages", "test_attempts", "test_audience", "test_audit", "test_changes", "test_exports",
    "test_intake", "test_leases", "test_optouts", "test_people", "test_recipients", "test_retention", "test_staff",
    "test_failures", "test_segments",
)  # fmt: skip


# One prepares a statement to look at its plan, one gives the command the folder of an embedded server.
UNFIT = "not batch_of_two_thousand and not the_command_exits_with_1"


@pytest.fixture(scope="module")
def bouncer() -> Iterator[Bouncer]:
    """Before a new server, with fewer sessions than one pool has clients."""
    with tempfile.TemporaryDirectory(prefix="tallycast-test-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        with a_postgres(folder / "a") as postgres, a_bouncer(postgres, folder / "bouncer") as bouncer:
            yield bouncer


def test_servers_that_start_at_once_through_it_apply_each_migration_once(bouncer: Bouncer) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        applied = pool.map(migrations.migrate, [bouncer.url] * 3)
    assert sorted(name for names in applied for name in names) == [
        name for _, name, _ in migrations.available()
    ]


def test_every_session_behind_it_has_our_settings_from_its_beginning(bouncer: Bouncer) -> None:
    migrations.migrate(bouncer.url)
    clients = [
        psycopg.connect(bouncer.url) for _ in range(5)
    ]  # each holds a session, as its transaction is open
    try:
        found = [
            tuple(
                client.execute(f"select pg_backend_pid(), current_setting('{name}')").fetchall()[0]
                for name in ("plan_cache_mode", "enable_seqscan", "statement_timeout")
            )
            for client in clients
        ]
    finally:
        for client in clients:
            client.close()
    assert len({pid for ((pid, _), *_) in found}) == 5
    assert {tuple(value for _, value in one) for one in found} == {("force_generic_plan", "off", "1min")}


async def test_statements_are_not_prepared_through_it_and_are_without_it(bouncer: Bouncer) -> None:
    async def is_prepared(url: str) -> bool:
        async with db.connect(url) as connection:
            for _ in range(10):
                await db.fetch_rows(connection, b"select %(n)s::int", {"n": 1})
            return bool(await db.fetch_rows(connection, b"select 1 from pg_prepared_statements", {}))

    assert not await is_prepared(bouncer.url)
    assert await is_prepared(bouncer.postgres.url)


def test_a_command_leaves_no_session_without_its_time_out(bouncer: Bouncer) -> None:
    run("app", "create", "--name", "Pool", "--database-url", bouncer.url, "--data-dir", str(bouncer.folder))
    for _ in range(10):
        with psycopg.connect(bouncer.url) as client:
            assert client.execute("show statement_timeout").fetchall() == [("1min",)]


@pytest.fixture
def served(bouncer: Bouncer, tmp_path: Path, client: httpx.Client) -> Iterator[tuple[Server, App]]:
    options = ("--workers", "2", "--database-url", bouncer.url, "--private-hosts", "127.0.0.1")
    server = start_server(tmp_path, *options)
    made = json.loads(server.run("app", "create", "--name", "Test", "--json"))
    yield server, App(server.url, made["appID"], made["token"], client)
    assert server.stop() == 0


def test_a_campaign_is_imported_sent_counted_and_exported_through_it(
    served: tuple[Server, App], simulator: str
) -> None:
    server, app = served
    credentials = {"baseURL": simulator, "apiKey": "pooled"}
    channel_id = app.add_channel(type="sms", provider="sandbox", credentials=credentials, webhookSecret="w")
    hook = {"url": f"{server.url}/webhooks/sandbox/{channel_id}", "headers": {"Authorization": "Bearer w"}}
    app.client.post(
        f"{simulator}/v1/configs/webhook", json=hook, headers={"D360-API-KEY": "pooled"}
    ).raise_for_status()
    body = {"campaignName": "Pool", "channelID": channel_id, "kind": "smsDynamic", "content": "Hi {{name}}"}
    campaign_id = app.result("POST", "/campaigns", json=body)["id"]
    rows = "".join(f"+852{60_000_000 + n},Person {n}\n" for n in range(500))
    done = app.result(
        "POST", f"/campaigns/{campaign_id}/audience", params={"wait": 30},
        content="Recipients Number,name\n" + rows, headers={"Content-Type": "text/csv"}, timeout=60,
    )  # fmt: skip
    assert done["state"] == "done"
    app.result("POST", f"/campaigns/{campaign_id}/start")
    wait_for(lambda: app.result("GET", f"/campaigns/{campaign_id}")["stage"] == "sent", 60)
    wait_for(lambda: app.totals(campaign_id).get("delivered", 0) > 400, 60)
    exported = app.request("GET", "/exports/recipients", params={"campaign": campaign_id}).text
    assert exported.count("+852600") == 500
    assert server.audit()["drift"] == 0


def test_killing_it_in_a_storm_of_receipts_loses_and_doubles_none(
    served: tuple[Server, App], bouncer: Bouncer, tmp_path: Path
) -> None:
    server, app = served
    channel_id = app.add_channel()
    campaign_id = app.record(channel_id, [])
    lines = "".join(f'{{"recipient":"+852{60_000_000 + n}","messageID":"s{n}"}}\n' for n in range(12_000))
    headers = {"Content-Type": "application/x-ndjson"}
    app.result("POST", f"/sent-campaigns/{campaign_id}/messages", content=lines, headers=headers)
    storm = Storm(tmp_path, server, app, channel_id, 12_000)
    posters = [threading.Thread(target=storm.post) for _ in range(4)]
    for poster in posters:
        poster.start()
    try:
        for _ in range(3):
            storm.until_acknowledged(200)
            bouncer.kill()
            storm.until_acknowledged(50)
            bouncer.restart()
        storm.until_acknowledged(500)
    finally:
        storm.over.set()
        for poster in posters:
            poster.join()
    spool = tmp_path / "spool"
    wait_for(lambda: not spool.exists() or not list(spool.iterdir()), 60)
    wait_for(lambda: all(app.request("GET", "/receipts/parked").is_success for _ in range(20)))
    assert storm.odd == []
    assert app.totals(campaign_id)["delivered"] == len(set(storm.acknowledged))
    assert server.audit()["drift"] == 0


def test_the_data_layers_tests_pass_through_it(bouncer: Bouncer) -> None:
    tests = Path(__file__).parent.parent
    wanted = [str(tests / f"{name}.py") for name in DATA_LAYER]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not storm", "-k", UNFIT, *wanted],
        env={**os.environ, "TALLYCAST_TEST_DATABASE_URL": bouncer.url}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
