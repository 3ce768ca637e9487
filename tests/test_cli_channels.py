"""`tallycast channel`: channels and their secrets from the command line, on the database directly."""

import asyncio
import json
from typing import Any

import pytest
from click.testing import CliRunner

from harness import App, Server
from tallycast import channels, db
from tallycast.cli import main
from tallycast.keys import load_cipher
from tallycast.templates import Listed, keep

PUBLIC = "https://shop.example.com"


class Desk:
    """The command line before an app's channels."""

    def __init__(self, server: Server, app: App, url: str) -> None:
        self.server, self.app, self.url = server, app, url

    def run(self, *arguments: str, text: str = "", status: int = 0) -> str:
        command, *rest = arguments
        public = [] if command == "resume" else ["--public-url", PUBLIC]
        words = ["channel", command, "--app", self.app.app_id, *self.server.storage, *public, *rest]
        done = CliRunner().invoke(main, words, input=text, catch_exceptions=False)
        assert done.exit_code == status, done.output
        return done.output

    def create(self, *options: str, text: str = "") -> dict[str, Any]:
        basics = ("--type", "sms", "--provider", "twilio", "--phone", "+85230001234", "--json")
        made: dict[str, Any] = json.loads(self.run("create", *basics, *options, text=text))
        return made

    def secrets(self, channel_id: str) -> channels.Secrets:
        async def read() -> channels.Secrets:
            async with db.connect(self.url) as connection:
                found = await channels.find(connection, self.app.app_id, channel_id)
            return found.open_secrets(load_cipher(None, self.server.data_dir))

        return asyncio.run(read())


@pytest.fixture
def desk(server: Server, app: App, database_url: str) -> Desk:
    return Desk(server, app, database_url)


def test_a_channel_is_made_and_shown_with_its_webhook_url_and_never_its_secrets(desk: Desk) -> None:
    made = desk.create(
        "--name", "Shop", "--credential", "accountSID=AC1", "--credential", "authToken=-", "--webhook-secret", "-", "--rate", "5", text="t0ken\ns3cret\n"
    )  # fmt: skip
    assert made["webhookURL"] == f"{PUBLIC}/webhooks/twilio/{made['id']}"
    assert (made["credentials"], made["ratePerSecond"]) == (["accountSID", "authToken"], 5.0)
    assert (made["hasWebhookSecret"], made["paused"]) == (True, None)
    over_http = desk.app.result("GET", f"/channels/{made['id']}")
    assert made | {"webhookURL": over_http["webhookURL"]} == over_http
    assert desk.secrets(made["id"]) == channels.Secrets("s3cret", {"accountSID": "AC1", "authToken": "t0ken"})
    shown = desk.run("show", made["id"])
    assert "t0ken" not in shown
    assert "s3cret" not in shown
    assert f"webhookURL       {made['webhookURL']}\n" in shown
    assert made["id"] in desk.run("list")
    assert [one["id"] for one in json.loads(desk.run("list", "--json"))] == [made["id"]]


def test_what_is_left_out_of_a_change_stays_also_the_other_credentials(desk: Desk) -> None:
    made = desk.create(
        "--credential",
        "accountSID=AC1",
        "--credential",
        "authToken=old",
        "--credential",
        "messagingServiceSID=MG1",
    )
    options = (
        "--credential",
        "authToken=-",
        "--credential",
        "messagingServiceSID=",
        "--name",
        "Shop",
        "--rate",
        "3",
    )
    changed = json.loads(desk.run("change", made["id"], *options, "--json", text="new\n"))
    assert changed == made | {
        "channelName": "Shop",
        "ratePerSecond": 3.0,
        "credentials": ["accountSID", "authToken"],
    }
    assert desk.secrets(made["id"]).credentials == {"accountSID": "AC1", "authToken": "new"}
    desk.run("change", made["id"], "--rate", "usual", "--webhook-secret", "w")
    assert json.loads(desk.run("show", made["id"], "--json"))["ratePerSecond"] == 10.0
    assert desk.secrets(made["id"]) == channels.Secrets("w", {"accountSID": "AC1", "authToken": "new"})


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--credential", "t0ken"), "--credential must be NAME=VALUE"),
        (("--credential", "authToken=-"), "authToken must be a line of standard input"),
        (("--rate", "0"), "ratePerSecond"),
        (("--rate", "much"), "--rate must be a number, or usual"),
        (("--credential", "baseURL=http://127.0.0.1:9"), "credentials.baseURL"),
        (
            ("--credential", "token=t0ken"),
            "twilio has no 'token'; it has accountSID, authToken, messagingServiceSID",
        ),
    ],
)
def test_what_cannot_be_changed_is_named_and_secrets_are_not(
    desk: Desk, options: tuple[str, ...], line: str
) -> None:
    made = desk.create()
    said = desk.run("change", made["id"], *options, status=2)
    assert said.startswith("tallycast: ")
    assert "Bad query" not in said
    assert line in said
    assert "t0ken" not in said


def test_a_paused_channel_is_resumed(desk: Desk) -> None:
    made = desk.create()

    async def pause() -> None:
        async with db.connect(desk.url) as connection:
            found = await channels.find(connection, desk.app.app_id, made["id"])
            await channels.pause(connection, desk.app.app_id, found.channel_number, "the key is refused")

    asyncio.run(pause())
    assert "the key is refused" in desk.run("list")
    assert json.loads(desk.run("show", made["id"], "--json"))["paused"]["reason"] == "the key is refused"
    assert desk.run("resume", made["id"]) == f"channel {made['id']} sends again\n"
    assert json.loads(desk.run("show", made["id"], "--json"))["paused"] is None
    assert "no channel x-y" in desk.run("resume", "x-y", status=2)


def test_templates_are_listed_as_they_are_known_and_asked_for_on_demand(desk: Desk) -> None:
    basics = ("--type", "whatsApp", "--provider", "360dialog", "--phone", "+85230001234", "--json")
    target = (
        "--credential",
        "apiKey=k",
        "--credential",
        "baseURL=http://127.0.0.1:9",
        "--private-hosts",
        "127.0.0.1",
    )
    made = json.loads(desk.run("create", *basics, *target))

    async def remember() -> None:
        async with db.connect(desk.url) as connection:
            found = await channels.find(connection, desk.app.app_id, made["id"])
            await keep(connection, found, [Listed("sale", "en", "APPROVED", "MARKETING", [{"type": "BODY"}])])

    asyncio.run(remember())
    assert "sale  en        APPROVED  MARKETING" in desk.run("templates", made["id"])
    [listed] = json.loads(desk.run("templates", made["id"], "--json"))
    assert listed["components"] == [{"type": "BODY"}]
    asked = desk.run("templates", made["id"], "--refresh", "--private-hosts", "127.0.0.1", status=2)
    assert asked.startswith("tallycast: ")
