"""PostgreSQL fails over to its streaming standby in the middle of a storm, with a campaign on its way."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from fleet import Postgres, a_postgres, a_standby, either
from harness import App, Server, run, start_server, wait_for
from test_storm import Storm

pytestmark = pytest.mark.machines
MESSAGES = 40_000
RECIPIENTS = 1500
LATER = 1_700_000_000


@dataclass
class Pair:
    """A server before two databases: the one that writes, and its standby."""

    first: Postgres
    second: Postgres
    server: Server
    app: App

    def fail_over(self) -> None:
        self.first.kill()
        self.second.promote()

    def delivered(self) -> set[str]:
        """The messages of the storm that have the storm's receipt."""
        query = "select message_id from messages where app_id = %s and delivered_at = to_timestamp(%s)"
        with psycopg.connect(self.second.url) as connection:
            return {name for (name,) in connection.execute(query, [self.app.app_id, LATER])}

    def settle(self) -> None:
        """Until the spool is applied, and every connection of the pools leads to the new database."""
        spool = self.server.data_dir / "spool"
        wait_for(lambda: not spool.exists() or not list(spool.iterdir()), 60)
        wait_for(lambda: all(self.app.request("GET", "/receipts/parked").is_success for _ in range(20)))


@pytest.fixture
def pair(tmp_path: Path, client: httpx.Client) -> Iterator[Pair]:
    tmp_path.chmod(0o755)
    with a_postgres(tmp_path / "first") as first, a_standby(first, tmp_path / "second") as second:
        storage = ("--database-url", either(first, second))
        run("migrate", *storage)
        server = start_server(tmp_path / "node", "--private-hosts", "127.0.0.1", *storage)
        made = json.loads(server.run("app", "create", "--name", "Test", "--json"))
        yield Pair(first, second, server, App(server.url, made["appID"], made["token"], client))
        assert server.stop() == 0


def begin_campaign(app: App, simulator: str) -> str:
    """A campaign through the simulator that takes a quarter of a minute; its id."""
    credentials = {"baseURL": simulator, "apiKey": app.app_id}
    channel_id = app.add_channel(
        type="sms", provider="sandbox", credentials=credentials, webhookSecret="w", ratePerSecond=100
    )
    url = f"{app.server_url}/webhooks/sandbox/{channel_id}"
    hook = {"url": url, "headers": {"Authorization": "Bearer w"}}
    key = {"D360-API-KEY": app.app_id}
    app.client.post(f"{simulator}/v1/configs/webhook", json=hook, headers=key).raise_for_status()
    body = {"campaignName": "Pair", "channelID": channel_id, "kind": "smsDynamic", "content": "Hi {{name}}"}
    campaign_id: str = app.result("POST", "/campaigns", json=body)["id"]
    rows = "".join(f"+852{60_000_000 + n},Person {n}\n" for n in range(RECIPIENTS))
    done = app.result(
        "POST", f"/campaigns/{campaign_id}/audience", params={"wait": 30},
        content="Recipients Number,name\n" + rows, headers={"Content-Type": "text/csv"}, timeout=60,
    )  # fmt: skip
    assert done["state"] == "done"
    app.result("POST", f"/campaigns/{campaign_id}/start")
    return campaign_id


def reached(simulator: str, client: httpx.Client) -> Counter[str]:
    """How often each handset was reached, by the simulator's ledger."""
    lines = map(json.loads, client.get(f"{simulator}/simulator/ledger").text.splitlines())
    return Counter(line["recipient"] for line in lines if line["kind"] == "message")


def storm(pair: Pair) -> tuple[Storm, list[threading.Thread]]:
    """Receipts for recorded messages, one each, from four posters that never stop."""
    app = pair.app
    channel_id = app.add_channel()
    campaign_id = app.record(channel_id, [])
    lines = "".join(f'{{"recipient":"+852{50_000_000 + n}","messageID":"s{n}"}}\n' for n in range(MESSAGES))
    headers = {"Content-Type": "application/x-ndjson"}
    app.result("POST", f"/sent-campaigns/{campaign_id}/messages", content=lines, headers=headers, timeout=120)
    raging = Storm(pair.server.data_dir, pair.server, app, channel_id, MESSAGES)
    posters = [threading.Thread(target=raging.post) for _ in range(4)]
    for poster in posters:
        poster.start()
    return raging, posters


def rage(pair: Pair, raging: Storm, posters: list[threading.Thread]) -> None:
    """Fail over in the middle, and let the storm end some time after it."""
    try:
        raging.until_acknowledged(1000)
        pair.fail_over()
        raging.until_acknowledged(1000)
    finally:
        raging.over.set()
        for poster in posters:
            poster.join()
    pair.settle()
    assert raging.odd == []


def campaign_of(pair: Pair, campaign_id: str) -> Any:
    return pair.app.result("GET", f"/campaigns/{campaign_id}")


def test_a_synchronous_failover_loses_no_receipt_and_reaches_nobody_twice(
    pair: Pair, simulator: str, client: httpx.Client
) -> None:
    pair.first.change(synchronous_standby_names="second")
    raging, posters = storm(pair)
    campaign_id = begin_campaign(pair.app, simulator)
    rage(pair, raging, posters)
    assert pair.delivered() == set(raging.acknowledged)
    paused = wait_for(lambda: (now := campaign_of(pair, campaign_id))["stage"] == "paused" and now)
    assert paused["pausedReason"].startswith("The database was restored from a backup")
    assert 0 < sum(reached(simulator, client).values()) < RECIPIENTS
    pair.app.result("POST", f"/campaigns/{campaign_id}/resume", json={"acceptRisk": True})
    wait_for(lambda: campaign_of(pair, campaign_id)["stage"] == "sent", 90)
    times = reached(simulator, client)
    unknown = pair.app.result("GET", f"/campaigns/{campaign_id}/unknown", params={"limit": 200})
    assert max(times.values()) == 1
    assert RECIPIENTS - len(unknown) <= len(times) <= RECIPIENTS
    assert pair.server.audit()["drift"] == 0


def test_an_asynchronous_failover_loses_at_most_what_had_not_streamed_and_counts_none_twice(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it costs is printed: the figure of docs/operations.md is from here."""
    raging, posters = storm(pair)
    rage(pair, raging, posters)
    acknowledged, delivered = set(raging.acknowledged), pair.delivered()
    lost = acknowledged - delivered
    with capsys.disabled():
        print(f"\nasynchronous: {len(acknowledged)} receipts acknowledged, {len(lost)} lost")  # noqa: T201 - a figure for people
    assert delivered <= acknowledged
    assert len(lost) < 1000
    assert pair.server.audit()["drift"] == 0


def test_what_streams_late_is_lost_by_an_asynchronous_failover(pair: Pair) -> None:
    """Receipts that were answered while the standby heard nothing, and no others."""
    channel_id = pair.app.add_channel()
    campaign_id = pair.app.record(channel_id, ["early", "late"])
    early, late = ({"messageID": name, "status": "delivered"} for name in ("early", "late"))
    assert pair.app.post_receipts(channel_id, early).status_code == 200
    end = pair.first.ask("select pg_current_wal_flush_lsn()::text")
    wait_for(lambda: pair.second.ask("select pg_last_wal_replay_lsn() >= %s::pg_lsn", end))
    pair.second.change(primary_conninfo="host=/nowhere")
    wait_for(lambda: not pair.first.ask("select count(*) from pg_stat_replication"))
    assert pair.app.post_receipts(channel_id, late).status_code == 200
    pair.fail_over()
    wait_for(lambda: pair.app.request("GET", "/receipts/parked").is_success)
    pair.settle()
    assert pair.app.totals(campaign_id)["delivered"] == 1
