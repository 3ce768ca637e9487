"""Reports from a streaming replica: never less than what was acknowledged, and the primary's where it is not level."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet import Postgres, a_postgres, a_standby
from harness import App, Server, run, start_server, wait_for
from stage import family, signal_all

pytestmark = pytest.mark.machines
LAGS = "the replica lags, or is none any more"


@dataclass
class Fleet:
    primary: Postgres
    replica: Postgres
    server: Server
    app: App

    def reads(self) -> int:
        """How many of the replica's index entries our reports have read."""
        return int(
            self.replica.ask("select sum(idx_tup_read) from pg_stat_all_indexes where relname = 'counts'")
        )

    def log(self) -> str:
        return self.server.log.read_text()


@pytest.fixture
def fleet(tmp_path: Path, client: httpx.Client) -> Iterator[Fleet]:
    tmp_path.chmod(0o755)
    with a_postgres(tmp_path / "first") as primary, a_standby(primary, tmp_path / "second") as replica:
        storage = ("--database-url", primary.url)
        run("migrate", *storage)
        server = start_server(tmp_path / "node", "--replica-url", replica.url, *storage)
        made = json.loads(server.run("app", "create", "--name", "Test", "--json"))
        yield Fleet(primary, replica, server, App(server.url, made["appID"], made["token"], client))
        assert server.stop() == 0


def recorded(app: App, size: int = 30) -> tuple[str, str]:
    """A channel and a campaign with m0, m1 …"""
    channel_id = app.add_channel()
    return channel_id, app.record(channel_id, [f"m{n}" for n in range(size)])


def deliver(app: App, channel_id: str, name: str) -> None:
    assert app.post_receipts(channel_id, {"messageID": name, "status": "delivered"}).status_code == 200


def read_all(app: App, campaign_id: str) -> list[Any]:
    """What each report says of how many were delivered."""
    detail = app.result("GET", "/data/sent-campaigns-detail", params={"historyID": campaign_id, "limit": 200})
    listed = app.result("GET", f"/data/campaigns/{campaign_id}/recipients", params={"limit": 200})
    exported = app.request("GET", "/exports/recipients", params={"campaign": campaign_id}).text
    period = app.request("GET", "/exports/campaigns", params={"format": "ndjson"}).json()
    return [
        app.totals(campaign_id)["delivered"],
        sum(one["status"] == "Delivered" for one in detail),
        sum(one["state"] == "delivered" for one in listed),
        exported.lower().count(",delivered,"),
        period["delivered"],
    ]


def test_every_report_of_the_replica_has_what_was_answered_just_before(fleet: Fleet) -> None:
    channel_id, campaign_id = recorded(fleet.app)
    before = fleet.reads()
    for n in range(30):
        deliver(fleet.app, channel_id, f"m{n}")
        assert fleet.app.totals(campaign_id)["delivered"] == n + 1
    assert read_all(fleet.app, campaign_id) == [30] * 5
    wait_for(lambda: fleet.reads() > before)
    assert LAGS not in fleet.log()


def test_while_the_replica_lags_reports_are_the_primarys_and_right(fleet: Fleet) -> None:
    channel_id, campaign_id = recorded(fleet.app)
    fleet.replica.ask("select pg_wal_replay_pause()")
    wait_for(lambda: fleet.replica.ask("select pg_get_wal_replay_pause_state()") == "paused")
    deliver(fleet.app, channel_id, "m0")
    assert read_all(fleet.app, campaign_id) == [1] * 5
    assert LAGS in fleet.log()
    fleet.replica.ask("select pg_wal_replay_resume()")
    before = fleet.reads()
    wait_for(lambda: fleet.app.totals(campaign_id)["delivered"] == 1 and fleet.reads() > before)


def test_without_the_replica_reports_are_the_primarys_and_it_is_found_again(fleet: Fleet) -> None:
    channel_id, campaign_id = recorded(fleet.app)
    assert read_all(fleet.app, campaign_id) == [0] * 5
    fleet.replica.kill()
    deliver(fleet.app, channel_id, "m0")
    assert read_all(fleet.app, campaign_id) == [1] * 5
    with a_postgres(fleet.replica.data_dir) as again:
        fleet.replica = again
        before = fleet.reads()
        wait_for(lambda: fleet.app.totals(campaign_id)["delivered"] == 1 and fleet.reads() > before, 60)


def test_a_replica_that_hangs_delays_a_report_and_fails_none(fleet: Fleet) -> None:
    channel_id, campaign_id = recorded(fleet.app)
    assert read_all(fleet.app, campaign_id) == [0] * 5
    pids = family(fleet.replica.server.pid)
    signal_all(pids, signal.SIGSTOP)
    try:
        deliver(fleet.app, channel_id, "m0")
        began = time.monotonic()
        assert fleet.app.totals(campaign_id)["delivered"] == 1
        assert time.monotonic() - began < 8
    finally:
        signal_all(pids, signal.SIGCONT)


def test_a_replica_that_was_promoted_is_none_any_more(fleet: Fleet) -> None:
    channel_id, campaign_id = recorded(fleet.app)
    assert read_all(fleet.app, campaign_id) == [0] * 5
    fleet.replica.promote()
    deliver(fleet.app, channel_id, "m0")
    assert read_all(fleet.app, campaign_id) == [1] * 5
    assert LAGS in fleet.log()


def test_a_server_starts_without_its_replica(fleet: Fleet, tmp_path: Path) -> None:
    fleet.replica.kill()
    server = start_server(
        tmp_path / "late", "--replica-url", fleet.replica.url, "--database-url", fleet.primary.url
    )
    assert fleet.app.client.get(f"{server.url}/health/ready").status_code == 200
    assert server.stop() == 0


def test_with_the_primary_away_reports_are_503_as_ever(fleet: Fleet) -> None:
    _, campaign_id = recorded(fleet.app)
    assert read_all(fleet.app, campaign_id) == [0] * 5
    os.kill(fleet.primary.server.pid, signal.SIGKILL)
    wait_for(lambda: fleet.app.request("GET", "/data/sent-campaigns-summary").status_code == 503)
