"""Commands are the same on the server's machine and anywhere else: one way to the API, by database or over HTTP."""

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from litestar.routes import HTTPRoute

from harness import App, Server
from tallycast.cli import main
from tallycast.web import local
from tallycast.web import server as web_server
from terminal import PLACES, Place, Terminal, plain

CSV = "Recipients Number;name\n+85291000000;Mei\n12;Bad\n+85291000001;Ann\n+85291000000;Again\n"


@pytest.fixture
def sent(app: App) -> str:
    """A campaign of another system: read, delivered, failed and pending."""
    channel = app.add_channel()
    made = app.record(channel, ["m-0", "m-1", "m-2", "m-3"])
    app.post_receipts(
        channel,
        {"messageID": "m-0", "status": "read", "timestamp": 1795402800},
        {"messageID": "m-1", "status": "delivered", "timestamp": 1795402801},
        {
            "messageID": "m-2",
            "status": "failed",
            "timestamp": 1795402802,
            "errorCode": "470",
            "errorTitle": "late",
        },
        {"messageID": "nobody", "status": "read", "timestamp": 1795402803},
    )
    app.client.post(f"{app.server_url}/webhooks/generic/{channel}", content=b"no JSON")
    return made


@pytest.fixture
def draft(app: App, server: Server, tmp_path: Path) -> str:
    """A draft with two recipients, and two rows that were set aside."""
    there = Terminal(server, app, "local")
    channel = json.loads(
        there.run(
            "channel", "create", "--type", "sms", "--provider", "twilio", "--phone", "+85230001234", "--json"
        )
    )["id"]
    made = there.run(
        "campaign",
        "create",
        "--channel",
        channel,
        "--kind",
        "smsDynamic",
        "--name",
        "Sale",
        "--content",
        "Hi {{name}}",
    ).strip()
    file = tmp_path / "customers.csv"
    file.write_text(CSV)
    there.run("campaign", "import", made, str(file))
    return made


READS = [
    ("campaign", "list"),
    ("campaign", "list", "--json", "--stage", "draft"),
    ("campaign", "show", "DRAFT"),
    ("campaign", "show", "DRAFT", "--json"),
    ("campaign", "preview", "DRAFT"),
    ("campaign", "preview", "DRAFT", "--json", "--cost-per-part", "0.05"),
    ("campaign", "errors", "DRAFT"),
    ("campaign", "unknown", "DRAFT"),
    ("channel", "list"),
    ("channel", "list", "--json"),
    ("opt-outs", "list"),
    ("app", "show"),
    ("app", "show", "--json"),
    ("receipts", "parked"),
    ("receipts", "parked", "--json"),
    ("receipts", "unreadable", "--json"),
    ("report", "summary"),
    ("report", "summary", "--last", "90d", "--format", "csv"),
    ("report", "summary", "--format", "json"),
    ("report", "detail", "SENT"),
    ("report", "detail", "SENT", "--format", "csv", "--status", "read"),
    ("report", "campaign", "SENT"),
    ("report", "campaign", "SENT", "--json"),
    ("report", "recipients", "SENT", "--state", "failed"),
    ("report", "recipients", "SENT", "--format", "json", "--number", "+85291000001"),
    ("report", "story", "SENT", "+85291000000"),
    ("report", "story", "SENT", "+85291000002", "--json"),
    ("webhooks", "list"),
]


@pytest.mark.parametrize("words", READS, ids=" ".join)
def test_what_is_asked_here_and_over_http_is_answered_alike(
    server: Server, app: App, sent: str, draft: str, words: tuple[str, ...]
) -> None:
    chosen = [{"SENT": sent, "DRAFT": draft}.get(word, word) for word in words]
    here, there = (Terminal(server, app, place).run(*chosen) for place in PLACES)
    assert plain(here) == plain(there)
    assert here.strip()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        pytest.param(("campaign", "show", "7"), "no campaign 7 that is sent from here", id="campaign"),
        pytest.param(("channel", "show", "x-y"), "no channel x-y", id="channel"),
        pytest.param(("report", "detail", "7"), "no campaign 7", id="detail"),
        pytest.param(("report", "campaign", "7"), "no campaign 7", id="insights"),
        pytest.param(("app", "set", "--time-zone", "Mars"), "timeZone must be an IANA time zone like Asia/Hong_Kong, not 'Mars'", id="policy"),
        pytest.param(("report", "summary", "--from", "soon"), "--from must be a date like 2026-11-23, or a moment like 2026-11-23T09:00:00+08:00, not 'soon'", id="period"),
        pytest.param(("report", "summary", "--last", "7d", "--to", "2026-11-23"), "--last is a period of its own: leave out --from and --to", id="two periods"),
        pytest.param(("webhooks", "add", "http://127.0.0.1/"), "url", id="endpoint"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", PLACES)
def test_what_is_refused_is_said_in_one_line_in_both_places(
    server: Server, app: App, place: Place, words: tuple[str, ...], line: str
) -> None:
    terminal = Terminal(server, app, place)
    assert terminal.run(*words, status=2) == ""
    assert terminal.stderr.startswith(f"tallycast: {line}")
    assert terminal.stderr.count("\n") == 1


@pytest.mark.parametrize("place", PLACES)
def test_a_campaign_goes_from_draft_to_cancelled_in_both_places(
    server: Server, app: App, tmp_path: Path, place: Place
) -> None:
    run = Terminal(server, app, place).run
    secret = ("--credential", "accountSID=AC1", "--credential", "authToken=-")
    basics = ("--type", "sms", "--provider", "twilio", "--phone", "+85230001234", *secret, "--json")
    made = json.loads(run("channel", "create", *basics, text="t0ken\n"))
    assert (made["credentials"], made["webhookURL"]) == (
        ["accountSID", "authToken"],
        f"{server.url}/webhooks/twilio/{made['id']}",
    )
    assert json.loads(run("channel", "change", made["id"], "--rate", "3", "--json"))["ratePerSecond"] == 3.0
    campaign = run(
        "campaign",
        "create",
        "--channel",
        made["id"],
        "--kind",
        "smsDynamic",
        "--name",
        "Sale",
        "--content",
        "Hi {{name}}",
    ).strip()
    file = tmp_path / "customers.csv"
    file.write_text(CSV)
    assert "done: 4 rows, 2 accepted, 1 duplicate, 0 opted out, 1 invalid, 0 landline\n" in run(
        "campaign", "import", campaign, str(file)
    )
    out = tmp_path / "errors.csv"
    assert run("campaign", "errors", campaign, "--out", str(out)) == ""
    assert [row[0] for row in csv.reader(io.StringIO(out.read_text("utf-8-sig")))] == [
        "Recipients Number",
        "12",
        "+85291000000",
    ]
    assert run("campaign", "change", campaign, "--name", "Winter") == f"campaign {campaign} is changed\n"
    moment = "2099-12-01T00:00:00Z"
    assert (
        run("campaign", "schedule", campaign, "--at", moment)
        == f"campaign {campaign} is scheduled, due at 2099-12-01T00:00:00.000Z\n"
    )
    assert run("campaign", "pause", campaign, "--note", "lunch") == f"campaign {campaign} is paused\n"
    assert run("campaign", "cancel", campaign) == f"campaign {campaign} is cancelled\n"
    shown = json.loads(run("campaign", "show", campaign, "--json"))
    actors = {one["actor"].split()[0] for one in shown["transitions"][:3]}
    assert (shown["campaignName"], actors) == ("Winter", {"cli" if place == "local" else "token"})
    assert (
        run("app", "set", "--quiet-hours", "21:00-08:00").splitlines()[2] == "quietHours        21:00-08:00"
    )
    assert run("opt-outs", "add", "--kind", "sms", "+85291000000") == "1 opted out, 0 not taken\n"
    assert (
        run("opt-outs", "import", "--kind", "whatsApp", "-", text="recipient\n+85291000001\n12\n", status=2)
        == "1 opted out, 1 not taken\n"
    )
    assert (
        run("opt-outs", "remove", "--kind", "all", "+85291000000", "+85291000009") == "1 opt-outs removed\n"
    )


@pytest.mark.parametrize("place", PLACES)
def test_a_long_list_comes_page_by_page_to_its_end(server: Server, app: App, place: Place) -> None:
    channel = app.add_channel()
    campaign = app.record(channel, [f"m-{n}" for n in range(450)])
    run = Terminal(server, app, place).run
    rows = list(csv.DictReader(io.StringIO(run("report", "detail", campaign, "--format", "csv"))))
    assert [row["recipient"] for row in rows] == [f"+852{91000000 + n}" for n in range(450)]
    assert len(json.loads(run("report", "detail", campaign, "--format", "json", "--limit", "201"))) == 201
    assert json.loads(run("report", "recipients", campaign, "--format", "json", "--state", "read")) == []
    assert len(json.loads(run("report", "recipients", campaign, "--format", "json"))) == 450
    app.client.post(
        f"{app.server_url}/webhooks/generic/{channel}",
        json={"receipts": [{"messageID": f"later-{n}", "status": "read"} for n in range(250)]},
    )
    parked = json.loads(run("receipts", "parked", "--limit", "1000", "--json"))
    assert len({one["messageID"] for one in parked}) == 250


@pytest.mark.parametrize("place", PLACES)
def test_formulas_are_defused_in_csv(server: Server, app: App, place: Place) -> None:
    app.record(app.add_channel(), ["m-0"], campaignName="=1+1")
    text = Terminal(server, app, place).run("report", "summary", "--format", "csv")
    [row] = csv.DictReader(io.StringIO(text))
    assert (row["campaignName"], row["phone"]) == ("'=1+1", "+85230001234")


def test_every_route_of_the_api_is_found_by_a_command_in_its_own_process() -> None:
    found = {
        (path, handler.fn)
        for part in local.MODULES
        for handler in local.find_handlers(part)
        for path in handler.paths
    }
    known = {
        (path.removeprefix("/v1/api/apps/{appID:str}"), handler.fn)
        for route in web_server.API.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        for path in handler.paths
        if handler.fn.__module__.startswith("tallycast.")
    }
    assert {(path, fn.__name__) for path, fn in found} == {(path, fn.__name__) for path, fn in known}


@pytest.mark.parametrize("command", ["audit", "serve", "migrate", "replay", "simulate", "token", "worker"])
def test_what_works_on_the_servers_machine_alone_says_so(command: str) -> None:
    words = [command, "list"] if command == "token" else [command]
    done = CliRunner().invoke(main, [*words, "--url", "https://campaigns.example.com"])
    assert done.exit_code == 2
    assert "works on the server's own machine only" in done.stderr
