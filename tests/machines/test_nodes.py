"""Two servers on ports and data directories of their own, over one database: whichever is asked, the answer is right."""

import base64
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from dashboard import Browser, make_house
from fleet import Bouncer, a_bouncer, a_postgres
from harness import App, Server, run, start_server, wait_for
from stage import family
from tallycast.config import Settings
from tallycast.web.services import learn, make_services
from test_dashboard_live import Stream

pytestmark = pytest.mark.machines
PUBLIC = "http://campaigns.example.com"
KEY = base64.b64encode(bytes(32)).decode()
ENVIRON = {"TALLYCAST_ENCRYPTION_KEY": KEY}


@dataclass
class Nodes:
    """`one` and `other`: the same app, asked at the one server and at the other."""

    bouncer: Bouncer
    servers: tuple[Server, Server]
    one: App
    other: App


@pytest.fixture
def nodes(tmp_path: Path, client: httpx.Client) -> Iterator[Nodes]:
    """The way to the database is PgBouncer, which a test can cut; commands and pages know the database itself."""
    tmp_path.chmod(0o755)
    with a_postgres(tmp_path / "a") as postgres, a_bouncer(postgres, tmp_path / "bouncer") as bouncer:
        run("migrate", "--database-url", postgres.url)
        servers = start_node(tmp_path / "one", bouncer), start_node(tmp_path / "other", bouncer)
        made = json.loads(run("app", "create", "--name", "Test", "--json", "--database-url", postgres.url))
        one, other = (App(node.url, made["appID"], made["token"], client) for node in servers)
        yield Nodes(bouncer, servers, one, other)
        for node in servers:
            if node.process.poll() is None:
                assert node.stop() == 0


def start_node(data_dir: Path, bouncer: Bouncer) -> Server:
    options = (
        "--database-url", bouncer.url, "--public-url", PUBLIC, "--rate-limit", "600", "--private-hosts", "127.0.0.1",
    )  # fmt: skip
    return start_server(data_dir, *options, environ=ENVIRON)


def delivered(name: str) -> dict[str, str]:
    return {"messageID": name, "status": "delivered"}


def test_a_receipt_at_the_one_is_in_the_very_next_summary_of_the_other(nodes: Nodes) -> None:
    channel_id = nodes.one.add_channel()
    campaign_id = nodes.other.record(channel_id, [f"m{n}" for n in range(20)])
    for n in range(20):
        at, asked = (nodes.one, nodes.other) if n % 2 else (nodes.other, nodes.one)
        assert at.post_receipts(channel_id, delivered(f"m{n}")).status_code == 200
        assert asked.totals(campaign_id)["delivered"] == n + 1


def test_receipts_that_the_one_spools_are_applied_by_it_while_the_other_serves(nodes: Nodes) -> None:
    channel_id = nodes.one.add_channel()
    campaign_id = nodes.one.record(channel_id, ["m0", "m1"])
    assert [app.post_receipts(channel_id).status_code for app in (nodes.one, nodes.other)] == [200, 200]
    nodes.bouncer.kill()
    assert nodes.one.post_receipts(channel_id, delivered("m0")).status_code == 200
    assert nodes.other.post_receipts(channel_id, delivered("m1"), delivered("m0")).status_code == 200
    spools = [node.data_dir / "spool" for node in nodes.servers]
    assert all(list(spool.iterdir()) for spool in spools)
    nodes.bouncer.restart()
    wait_for(lambda: not any(list(spool.iterdir()) for spool in spools), 60)
    wait_for(lambda: nodes.other.request("GET", "/receipts/parked").is_success)
    assert nodes.other.totals(campaign_id)["delivered"] == 2


def test_the_spool_of_a_machine_that_does_not_come_back_is_drained_by_a_command(nodes: Nodes) -> None:
    channel_id = nodes.one.add_channel()
    campaign_id = nodes.one.record(channel_id, ["m0"])
    assert nodes.one.post_receipts(channel_id).status_code == 200
    nodes.bouncer.kill()
    assert nodes.one.post_receipts(channel_id, delivered("m0")).status_code == 200
    for pid in family(nodes.servers[0].process.pid):
        os.kill(pid, signal.SIGKILL)
    nodes.servers[0].process.wait(10)
    nodes.bouncer.restart()
    wait_for(lambda: nodes.other.request("GET", "/receipts/parked").is_success, 60)
    assert nodes.other.totals(campaign_id)["delivered"] == 0
    where = ("--data-dir", str(nodes.servers[0].data_dir), "--database-url", nodes.bouncer.postgres.url)
    assert run("spool", "drain", *where) == "1 receipts and clicks applied, 0 files left\n"
    assert run("spool", "drain", *where) == "0 receipts and clicks applied, 0 files left\n"
    assert nodes.other.totals(campaign_id)["delivered"] == 1


def test_a_link_that_is_made_at_the_one_redirects_at_the_other_at_once(nodes: Nodes) -> None:
    campaign_id = nodes.one.record(nodes.one.add_channel(), ["m0"])
    body = {"url": "https://shop.example.com/sale"}
    made = nodes.one.result("POST", f"/sent-campaigns/{campaign_id}/links", json=body)["links"]
    path = made[0]["url"].removeprefix(PUBLIC)
    answer = nodes.other.client.get(nodes.servers[1].url + path, headers={"User-Agent": "Mozilla/5.0"})
    assert (answer.status_code, answer.headers["location"]) == (302, "https://shop.example.com/sale")
    wait_for(lambda: nodes.one.totals(campaign_id)["replied"] == 1)


@pytest.mark.anyio
async def test_a_server_learns_the_channels_and_links_of_others_before_the_database_goes_away(
    nodes: Nodes, tmp_path: Path
) -> None:
    """What it does every minute, in this process."""
    services = make_services(Settings(data_dir=tmp_path, encryption_key=KEY), nodes.bouncer.postgres.url)
    async with services.pool, services.urgent:
        channel_id = nodes.one.add_channel(webhookSecret="w")
        campaign_id = nodes.one.record(channel_id, ["m0"])
        body = {"url": "https://shop.example.com/sale"}
        made = nodes.one.result("POST", f"/sent-campaigns/{campaign_id}/links", json=body)["links"]
        await learn(services, 200)
    code = made[0]["url"].removeprefix(f"{PUBLIC}/r/")
    assert (await services.channels.find(channel_id)).secrets.webhook_secret == "w"
    assert (await services.targets.resolve(code)).link.url == "https://shop.example.com/sale"


def test_a_key_that_was_used_at_the_one_does_nothing_again_at_the_other(nodes: Nodes) -> None:
    body = {"type": "sms", "provider": "generic", "phone": "+85230001234", "channelName": "Shop"}
    key = {"Idempotency-Key": "once"}
    made = [app.result("POST", "/channels", json=body, headers=key) for app in (nodes.one, nodes.other)]
    assert made[0] == made[1]
    assert len(nodes.other.result("GET", "/channels")) == 1


def test_who_signs_in_at_the_one_is_signed_in_at_the_other_and_out_at_both(nodes: Nodes) -> None:
    house = make_house(nodes.servers[0].url, nodes.bouncer.postgres.url)
    browser = Browser(nodes.servers[0].url)
    assert browser.sign_in(house.emails["admin"]).status_code == 303
    elsewhere = Browser(nodes.servers[1].url)
    elsewhere.client.cookies.set("tallycast_session", browser.session or "", domain="127.0.0.1")
    assert elsewhere.get(f"/apps/{house.app_id}/campaigns").status_code == 200
    assert elsewhere.post("/sign-out").status_code == 303
    assert browser.get(f"/apps/{house.app_id}/campaigns").status_code == 303


def test_who_looks_at_the_one_sees_figures_move_by_receipts_at_the_other(nodes: Nodes) -> None:
    house = make_house(nodes.servers[0].url, nodes.bouncer.postgres.url)
    token = json.loads(
        run("token", "create", "--app", house.app_id, "--json", "--database-url", nodes.bouncer.postgres.url)
    )["token"]
    shop = replace(nodes.other, app_id=house.app_id, token=token)
    channel_id = shop.add_channel()
    campaign_id = shop.record(channel_id, ["m0"])
    stream = Stream(house.enter("viewer"), f"/apps/{house.app_id}/campaigns/{campaign_id}/live")
    wait_for(stream.figures)
    shop.post_receipts(channel_id, delivered("m0"))
    wait_for(lambda: stream.figures()[-1]["delivered"] == "1", 5)


def test_a_token_that_is_revoked_at_the_one_is_refused_by_the_other_within_five_seconds(nodes: Nodes) -> None:
    where = ("--app", nodes.one.app_id, "--database-url", nodes.bouncer.postgres.url)
    made = json.loads(run("token", "create", "--json", *where))
    short = replace(nodes.other, token=made["token"])
    assert short.request("GET", "/channels").status_code == 200
    run("token", "revoke", made["tokenID"], *where)
    began = time.monotonic()
    wait_for(lambda: short.request("GET", "/channels").status_code == 401, 6)
    assert time.monotonic() - began < 5


def test_a_secret_that_is_changed_at_the_one_is_asked_for_by_the_other_within_five_seconds(
    nodes: Nodes,
) -> None:
    channel_id = nodes.one.add_channel(webhookSecret="old")
    assert nodes.other.post_receipts(channel_id, delivered("x"), secret="old").status_code == 200
    nodes.one.result("PATCH", f"/channels/{channel_id}", json={"webhookSecret": "new"})
    wait_for(lambda: nodes.other.post_receipts(channel_id, delivered("x"), secret="new").is_success, 6)
    assert nodes.other.post_receipts(channel_id, delivered("x"), secret="old").status_code == 401


def test_a_file_that_is_uploaded_at_the_one_is_imported_and_its_errors_are_shown_wherever(
    nodes: Nodes, simulator: str
) -> None:
    credentials = {"baseURL": simulator, "apiKey": "nodes"}
    channel_id = nodes.one.add_channel(type="sms", provider="sandbox", credentials=credentials)
    body = {"campaignName": "Nodes", "channelID": channel_id, "kind": "smsDynamic", "content": "Hi"}
    campaign_id = nodes.one.result("POST", "/campaigns", json=body)["id"]
    done = nodes.one.result(
        "POST", f"/campaigns/{campaign_id}/audience", params={"wait": 30},
        content="Recipients Number\n+85260000001\nnot a number\n", headers={"Content-Type": "text/csv"}, timeout=60,
    )  # fmt: skip
    path = f"/campaigns/{campaign_id}/audience/{done['id']}"
    assert nodes.other.result("GET", path) == nodes.one.result("GET", path) == done
    assert "not a number" in nodes.other.request("GET", f"{path}/errors").text


def test_each_machine_has_a_rate_limit_of_its_own_and_metrics_of_its_own(nodes: Nodes) -> None:
    statuses = [nodes.one.request("GET", "/channels").status_code for _ in range(620)]
    assert statuses.count(429) >= 1
    assert nodes.other.request("GET", "/channels").status_code == 200
    limited = [
        nodes.one.client.get(f"{node.url}/metrics").text.count('status="429"') for node in nodes.servers
    ]
    assert limited[0] > 0
    assert limited[1] == 0


def test_a_machine_that_joins_later_serves_what_the_others_made(nodes: Nodes, tmp_path: Path) -> None:
    channel_id = nodes.one.add_channel(webhookSecret="w")
    campaign_id = nodes.one.record(channel_id, ["m0"])
    third = start_node(tmp_path / "third", nodes.bouncer)
    late = replace(nodes.one, server_url=third.url)
    assert late.post_receipts(channel_id, delivered("m0"), secret="w").status_code == 200
    assert nodes.one.totals(campaign_id)["delivered"] == 1
    assert third.stop() == 0
