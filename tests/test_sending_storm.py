"""Campaigns over four channels through the simulator at its worst, while workers and the database are killed.

The ledger knows what reached which handset: nobody got it twice, and every figure is the ledger's.
"""

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from harness import TALLYCAST, App, Server, free_port, run, start_server, wait_for
from stage import family
from test_storm import is_postgres, is_worker, joined, lives

RECIPIENTS = int(os.environ.get("TALLYCAST_STORM_RECIPIENTS", "2000"))
_KILL_SECONDS = 3.0
_TEMPLATE = {"name": "hello", "language": "en_US"}


@dataclass
class Simulator:
    url: str
    smpp_port: int
    client: httpx.Client

    def get(self, path: str) -> Any:
        return self.client.get(f"{self.url}/simulator/{path}").json()

    def post(self, path: str, body: dict[str, Any], **headers: str) -> None:
        answer = self.client.post(f"{self.url}{path}", json=body, headers=headers)
        assert answer.is_success, answer.text

    def messages(self) -> list[dict[str, Any]]:
        lines = self.client.get(f"{self.url}/simulator/ledger").text.splitlines()
        return [line for line in map(json.loads, lines) if line["kind"] == "message"]


@pytest.fixture
def simulator(tmp_path: Path, client: httpx.Client) -> Iterator[Simulator]:
    port, smpp_port = free_port(), free_port()
    log = tmp_path / "simulator.log"
    with log.open("wb") as output:
        arguments = ["--port", str(port), "--smpp-port", str(smpp_port), "--profile", "worst", "--seed", "7"]
        process = subprocess.Popen(
            [*TALLYCAST, "simulate", *arguments], stdout=output, stderr=subprocess.STDOUT
        )
    wait_for(lambda: b"is ready" in log.read_bytes())
    yield Simulator(f"http://127.0.0.1:{port}", smpp_port, client)
    process.terminate()
    assert process.wait(30) == 0


def add_channels(app: App, simulator: Simulator, url: str = "", smpp_port: int = 0) -> dict[str, str]:
    """One channel of each provider, with its receipts pointed here; their ids. `url`, `smpp_port`: the way there."""
    url, smpp_port = url or simulator.url, smpp_port or simulator.smpp_port
    credentials = {
        "360dialog": {"baseURL": url, "apiKey": "k360"},
        "meta": {"baseURL": url, "accessToken": "t", "phoneNumberID": "1001", "wabaID": "1",
                 "appSecret": "s", "verifyToken": "v"},
        "twilio": {"baseURL": url, "accountSID": "AC1", "authToken": "a"},
        "smpp": {"host": "127.0.0.1", "port": str(smpp_port), "systemID": "tc", "password": "pw",
                 "window": "50"},
    }  # fmt: skip
    ids = {}
    for number, (provider, secrets) in enumerate(credentials.items()):
        kind = "sms" if provider in {"twilio", "smpp"} else "whatsApp"
        fields = {"type": kind, "provider": provider, "phone": f"+8523000123{number}", "ratePerSecond": 300}
        ids[provider] = app.add_channel(**fields, credentials=secrets, webhookSecret="w")
    hook = f"{app.server_url}/webhooks"
    simulator.post(
        "/v1/configs/webhook",
        {"url": f"{hook}/360dialog/{ids['360dialog']}", "headers": {"Authorization": "Bearer w"}},
        **{"D360-API-KEY": "k360"},
    )
    simulator.post(
        "/simulator/meta/1001",
        {"webhookURL": f"{hook}/meta/{ids['meta']}", "appSecret": "s", "verifyToken": "v"},
    )
    simulator.post("/simulator/twilio/AC1", {"authToken": "a"})
    return ids


def add_campaign(app: App, channel_id: str, provider: str, first: int, size: int) -> str:
    """A campaign with an audience, started; its id."""
    body: dict[str, Any] = {"campaignName": provider, "channelID": channel_id, "createdBy": "Mei"}
    if provider in {"twilio", "smpp"}:
        body |= {
            "kind": "smsDynamic",
            "content": "Hi {{name}}, see https://shop.example.com/sale",
            "trackLinks": True,
        }
    else:
        body |= {"kind": "whatsApp", "template": _TEMPLATE}
    campaign_id: str = app.result("POST", "/campaigns", json=body)["id"]
    rows = "".join(f"+852{60_000_000 + first + n},Person {n}\n" for n in range(size))
    done = app.result(
        "POST", f"/campaigns/{campaign_id}/audience", params={"wait": 30},
        content="Recipients Number,name\n" + rows, headers={"Content-Type": "text/csv"}, timeout=60,
    )  # fmt: skip
    wait_for(
        lambda: app.result("GET", f"/campaigns/{campaign_id}/audience/{done['id']}")["state"] == "done",
        120,
    )
    app.result("POST", f"/campaigns/{campaign_id}/start")
    return campaign_id


def workers(server: Server) -> list[int]:
    """The background processes of `serve`."""
    return [pid for pid in family(server.process.pid) if is_worker(pid) and lives(pid)]


def has_ended(app: App, campaign_ids: list[str]) -> bool:
    """Whether all are sent; one that was paused, as so much went wrong, is resumed as a person would."""
    try:
        stages = {one: app.result("GET", f"/campaigns/{one}")["stage"] for one in campaign_ids}
        for one, stage in stages.items():
            if stage == "paused":
                app.result("POST", f"/campaigns/{one}/resume")
    except AssertionError:  # 503 while the database is away
        return False
    return set(stages.values()) == {"sent"}


def rage(server: Server, app: App, campaign_ids: list[str]) -> tuple[int, int]:
    """Kill a worker every few seconds, and PostgreSQL twice, until all is sent. How many of each."""
    dice = random.Random(7)
    began, kills, restarts = time.monotonic(), 0, 0
    while not has_ended(app, campaign_ids):
        assert time.monotonic() - began < 60 + RECIPIENTS / 20
        time.sleep(dice.uniform(0.5, 1.5) * _KILL_SECONDS)
        alive = workers(server)
        if restarts < 2 and kills >= 2 * (restarts + 1):
            postmaster = (server.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0]
            os.kill(int(postmaster), signal.SIGKILL if restarts else signal.SIGQUIT)
            wait_for(lambda: not is_postgres(int(postmaster)) or not lives(int(postmaster)))  # noqa: B023
            run("app", "list", *server.storage)
            restarts += 1
        elif alive:
            os.kill(dice.choice(alive), signal.SIGKILL)
            kills += 1
    return kills, restarts


def rows_of(server: Server, app: App) -> dict[tuple[str, str], str]:
    """(campaign, recipient) -> state, for all messages of the app."""
    query = (
        "select campaign_id::text, recipient, message_state(accepted_at, delivered_at, read_at, failed_at) "
        "from messages where app_id = %s"
    )
    with joined(server.data_dir) as url, psycopg.connect(url) as connection:
        rows = connection.execute(query, [app.app_id]).fetchall()
    return {(campaign, recipient): state for campaign, recipient, state in rows}


def unknown(app: App, campaign_id: str) -> list[tuple[str, str]]:
    """Whose outcome nobody knows."""
    found, rows = [], app.result("GET", f"/campaigns/{campaign_id}/unknown", params={"limit": 200})
    while rows:
        found += [(campaign_id, row["recipient"]) for row in rows]
        page = {"limit": 200, "offset": len(found)}
        rows = app.result("GET", f"/campaigns/{campaign_id}/unknown", params=page)
    return found


def owner(message: dict[str, Any], campaign_ids: dict[str, str]) -> tuple[str, str]:
    """Which campaign's recipient a handset's message was for."""
    return campaign_ids[message["provider"]], f"+{message['recipient'].lstrip('+')}"


@pytest.mark.storm
def test_a_storm_of_campaigns_reaches_nobody_twice_and_its_figures_are_the_ledgers(
    tmp_path: Path, simulator: Simulator, client: httpx.Client
) -> None:
    options = ("--background-workers", "2", "--private-hosts", "127.0.0.1", "--log-level", "warning")
    server = start_server(tmp_path / "data", *options)
    made = json.loads(server.run("app", "create", "--name", "Storm", "--json"))
    app = App(server.url, made["appID"], made["token"], client)
    ids = add_channels(app, simulator)
    size = RECIPIENTS // len(ids)
    campaign_ids = {
        provider: add_campaign(app, channel_id, provider, n * size, size)
        for n, (provider, channel_id) in enumerate(ids.items())
    }
    kills, restarts = rage(server, app, list(campaign_ids.values()))
    assert kills >= 4
    assert restarts == 2
    wait_for(lambda: simulator.get("pending")["pending"] == 0, 300)
    spool = tmp_path / "data" / "spool"
    wait_for(lambda: not spool.exists() or not list(spool.iterdir()), 60)
    messages = simulator.messages()
    taken = Counter(owner(message, campaign_ids) for message in messages)
    assert [who for who, times in taken.items() if times > 1] == []
    states = rows_of(server, app)
    assert len(states) == size * len(ids)
    told = {owner(message, campaign_ids): set(message["told"]) for message in messages}
    # SMPP's receipts name nothing but the SMSC's own id, which a message of unknown outcome never learnt.
    for who in unknown(app, campaign_ids["smpp"]):
        told.pop(who, None)
    wrong = {who: (state, told.get(who)) for who, state in states.items() if not fits(state, told.get(who))}
    assert wrong == {}
    for campaign_id in campaign_ids.values():
        found = Counter(state for (campaign, _), state in states.items() if campaign == campaign_id)
        totals = app.result("GET", f"/campaigns/{campaign_id}")["totals"]
        assert totals["queued"] == 0
        assert totals["delivered"] == found["delivered"] + found["read"]
        assert (totals["pending"], totals["failed"]) == (found["pending"], found["failed"])
    assert server.audit()["drift"] == 0
    assert server.stop() == 0


def fits(state: str, told: set[str] | None) -> bool:
    """Whether a state is what the provider told; nothing was told of a message that never came, or was lost."""
    if told is None or not told - {"sent"}:
        return state in {"pending", "failed"}
    if "read" in told:
        return state == "read"
    return state == ("delivered" if "delivered" in told else "failed")
