"""`tallycast campaign`: from the draft to the error log, on the database directly."""

import getpass
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from contents import in_database
from tallycast import apps, channels, db, policies, trials
from tallycast.channels import NewChannel
from tallycast.cli import main
from tallycast.keys import load_cipher
from tallycast.policies import PolicyChange
from tallycast.templates import Listed, keep

ME = f"cli {getpass.getuser()}"
CSV = "Recipients Number;name\n+85291000000;Mei\n12;Bad\n+85291000001;Ann\n+85291000000;Again\n"


@dataclass
class Desk:
    """An app of its own, and the command line before its database."""

    url: str
    data_dir: Path
    folder: Path
    app_id: str
    sms: str
    whatsapp: str

    def run(self, *arguments: str, status: int = 0) -> str:
        command, *rest = arguments
        options = ["--app", self.app_id, "--data-dir", str(self.data_dir), "--database-url", self.url]
        done = CliRunner().invoke(main, ["campaign", command, *options, *rest], catch_exceptions=False)
        assert done.exit_code == status, done.output
        return done.output

    def create(self, *options: str) -> str:
        basics = ("--channel", self.sms, "--kind", "smsDynamic", "--name", "Sale", "--content", "Hi {{name}}")
        return self.run("create", *basics, *options).strip()

    def load(self, campaign_id: str, text: str = CSV, *options: str, status: int = 0) -> str:
        file = self.folder / "customers.csv"
        file.write_text(text)
        return self.run("import", *options, campaign_id, str(file), status=status)

    def ready(self) -> str:
        made = self.create()
        self.load(made)
        return made

    def show(self, campaign_id: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("show", campaign_id, "--json"))
        return found

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), {"app_id": self.app_id})
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def desk(database_url: str, data_dir: Path, tmp_path: Path) -> Desk:
    """Its channels lead to where nobody listens: what is started here reaches no one."""
    cipher = load_cipher(None, data_dir)
    credentials = {"baseURL": "http://127.0.0.1:9", "apiKey": "k"}

    async def make(connection: db.Connection) -> tuple[str, str, str]:
        app = await apps.create_app(connection, "Test")
        made = [
            await channels.create(
                connection, cipher, app.app_id, NewChannel(kind, "sandbox", "+85230001234", credentials=credentials), ("127.0.0.1",)
            )
            for kind in ("sms", "whatsApp")
        ]  # fmt: skip
        components = [{"type": "BODY", "text": "Hi {{1}}"}]
        await keep(connection, made[1], [Listed("sale", "en", "APPROVED", "MARKETING", components)])
        return app.app_id, made[0].channel_id, made[1].channel_id

    return Desk(database_url, data_dir, tmp_path, *in_database(database_url, make))


def test_a_draft_is_made_listed_and_shown(desk: Desk) -> None:
    made = desk.create("--track-links", "--at", "2099-12-01T09:00:00+08:00", "--created-by", "Mei")
    assert made.isdecimal()
    shown = desk.show(made)
    assert {name: shown[name] for name in ("id", "campaignName", "kind", "stage", "channelID", "content", "scheduledAt", "createdAs")} == {
        "id": made, "campaignName": "Sale", "kind": "smsDynamic", "stage": "draft", "channelID": desk.sms,
        "content": "Hi {{name}}", "scheduledAt": "2099-12-01T01:00:00.000Z", "createdAs": ME,
    }  # fmt: skip
    assert (shown["trackLinks"], shown["createdBy"], shown["transitions"]) == (True, "Mei", [])
    text = desk.run("show", made)
    assert "stage            draft" in text
    assert "no history yet: it is a draft" in text
    [row] = json.loads(desk.run("list", "--json"))
    kept = {name: value for name, value in shown.items() if name not in {"transitions", "unknown"}}
    assert {name: row[name] for name in kept} == kept
    assert "no campaigns" in desk.run("list", "--stage", "sent")


def test_a_whatsapp_draft_takes_its_template_from_a_file(desk: Desk) -> None:
    file = desk.folder / "template.json"
    use = {"name": "sale", "language": "en", "body": ["{{name}}"]}
    file.write_text(json.dumps(use))
    basics = (
        "create",
        "--channel",
        desk.whatsapp,
        "--kind",
        "whatsApp",
        "--name",
        "Sale",
        "--template",
        str(file),
    )
    fallback = ("--fallback-channel", desk.sms, "--fallback-text", "Hi {{name}}", "--fallback-after", "60")
    made = json.loads(desk.run(*basics, *fallback, "--json"))
    assert made["template"] == use
    assert made["fallback"] == {"channelID": desk.sms, "text": "Hi {{name}}", "afterSeconds": 60}
    desk.load(made["id"])
    assert f"campaign {made['id']} is scheduled\n" == desk.run("submit", made["id"])
    file.write_text('{"name": "sale", "langauge": "en"}')
    assert "--template is not a template" in desk.run(*basics, status=2)


def test_a_draft_is_changed_and_what_is_left_out_stays(desk: Desk) -> None:
    made = desk.create("--created-by", "Mei", "--at", "2099-12-01T00:00:00Z")
    said = desk.run("change", made, "--name", "Winter", "--content", "Dear {{name}}", "--track-links")
    assert said == f"campaign {made} is changed\n"
    shown = desk.show(made)
    names = ("campaignName", "content", "trackLinks", "createdBy", "scheduledAt")
    assert [shown[name] for name in names] == [
        "Winter",
        "Dear {{name}}",
        True,
        "Mei",
        "2099-12-01T00:00:00.000Z",
    ]
    changed = json.loads(desk.run("change", made, "--at", "none", "--no-track-links", "--json"))
    assert (changed["trackLinks"], "scheduledAt" in changed) == (False, False)
    assert "--fallback-channel must be given" in desk.run("change", made, "--fallback-text", "Hi", status=2)
    desk.load(made)
    desk.run("start", made)
    assert "only a draft can be changed" in desk.run("change", made, "--name", "Spring", status=2)


def test_a_template_and_a_fallback_are_changed_piece_by_piece_and_removed(desk: Desk) -> None:
    file = desk.folder / "template.json"
    file.write_text('{"name": "sale", "language": "en", "body": ["{{name}}"]}')
    basics = ("--channel", desk.whatsapp, "--kind", "whatsApp", "--name", "Sale", "--template", str(file))
    made = desk.run("create", *basics).strip()
    file.write_text('{"name": "sale", "language": "en", "body": ["{{code}}"]}')
    fallback = ("--fallback-channel", desk.sms, "--fallback-text", "Hi {{code}}")
    desk.run("change", made, "--template", str(file), *fallback)
    desk.run("change", made, "--fallback-after", "60")
    shown = desk.show(made)
    assert shown["template"]["body"] == ["{{code}}"]
    assert shown["fallback"] == {"channelID": desk.sms, "text": "Hi {{code}}", "afterSeconds": 60}
    desk.run("change", made, "--fallback-channel", "none")
    assert "fallback" not in desk.show(made)


def test_an_audience_is_cleared_and_a_draft_deleted(desk: Desk) -> None:
    made = desk.ready()
    assert desk.run("clear-audience", made) == "2 recipients are removed\n"
    assert desk.show(made)["totals"]["totalRecipients"] == 0
    assert desk.run("delete", made) == f"campaign {made} is deleted\n"
    assert "no campaigns" in desk.run("list")
    started = desk.ready()
    desk.run("start", started)
    assert "only a draft can be deleted" in desk.run("delete", started, status=2)


def test_a_sample_file_can_be_imported_as_it_is(desk: Desk) -> None:
    made = desk.create()
    for name in ("sample.csv", "sample.xlsx"):
        file = desk.folder / name
        assert (
            CliRunner().invoke(main, ["campaign", "sample", "sms-dynamic", "--out", str(file)]).exit_code == 0
        )
        assert "3 accepted" in desk.run("import", made, str(file))
        desk.run("clear-audience", made)
    shown = CliRunner().invoke(main, ["campaign", "sample", "whatsapp"]).output
    assert shown.startswith("Recipients Number,name,order")
    done = CliRunner().invoke(main, ["campaign", "sample", "whatsapp", "--out", "sample.pdf"])
    assert (done.exit_code, done.stderr) == (
        2,
        "tallycast: --out must end in .csv or .xlsx, not sample.pdf\n",
    )


def test_an_import_tells_its_figures_and_where_the_error_log_is(desk: Desk) -> None:
    made = desk.create()
    said = desk.load(made)
    assert "done: 4 rows, 2 accepted, 1 duplicate, 0 opted out, 1 invalid, 0 landline\n" in said
    assert f"why: tallycast campaign errors --app {desk.app_id} {made} --out error-log.csv\n" in said
    out = desk.folder / "error-log.csv"
    desk.run("errors", made, "--out", str(out))
    lines = out.read_text("utf-8-sig").splitlines()
    assert lines[0] == "Recipients Number,name,Error"
    assert [line.split(",")[:2] for line in lines[1:]] == [["12", "Bad"], ["+85291000000", "Again"]]
    assert desk.run("errors", made).splitlines() == lines
    assert desk.show(made)["totals"]["totalRecipients"] == 2
    assert desk.ask("select * from leases where app_id = %(app_id)s") == []
    assert desk.ask("select distinct asked_as from imports where app_id = %(app_id)s") == [(ME,)]


def test_a_refused_import_takes_nothing_and_says_why(desk: Desk) -> None:
    made = desk.create()
    said = desk.load(made, CSV, "--refuse", status=2)
    assert "refused: 4 rows" in said
    assert "2 of 4 rows cannot be taken, so none was" in said
    assert desk.show(made)["totals"]["totalRecipients"] == 0
    assert "the campaign uses {{name}} and the file has no column 'name'" in desk.load(
        made, "Recipients Number\n+85291000000\n", status=2
    )
    other = desk.folder / "customers.pdf"
    other.write_text("x")
    assert "FILE must end in .csv" in desk.run("import", made, str(other), status=2)
    assert "has no import yet" in desk.run("errors", desk.create(), status=2)


def test_columns_can_be_mapped(desk: Desk) -> None:
    made = desk.create()
    mapping = json.dumps({"recipient": "Tel", "variables": {"name": "First name"}})
    desk.load(made, "Tel,First name\n+85291000000,Mei\n", "--mapping", mapping)
    assert "+85291000000  Hi Mei" in desk.run("preview", made)
    assert "--mapping is not what is expected" in desk.load(made, CSV, "--mapping", "[]", status=2)


def test_a_preview_shows_messages_parts_and_cost(desk: Desk) -> None:
    made = desk.ready()
    assert desk.run("preview", made, "--limit", "1") == (
        "+85291000000  Hi Mei\n\ntotalRecipients 2, failing 0, parts 2\n"
    )
    found = json.loads(desk.run("preview", made, "--cost-per-part", "0.045", "--json"))
    assert found == {
        "messages": [
            {"recipient": "+85291000000", "text": "Hi Mei", "parts": 1},
            {"recipient": "+85291000001", "text": "Hi Ann", "parts": 1},
        ],
        "totalRecipients": 2, "failing": 0, "parts": 2, "cost": 0.09,
    }  # fmt: skip


def test_a_campaign_is_scheduled_paused_resumed_and_cancelled(desk: Desk) -> None:
    made = desk.ready()
    assert "scheduledAt is missing" in desk.run("schedule", made, status=2)
    assert desk.run("schedule", made, "--at", "2099-12-01T00:00:00Z") == (
        f"campaign {made} is scheduled, due at 2099-12-01T00:00:00.000Z\n"
    )
    assert desk.run("pause", made, "--note", "lunch") == f"campaign {made} is paused\n"
    assert desk.show(made)["pausedReason"] == "lunch"
    assert "is scheduled" in desk.run("resume", made)
    assert desk.run("cancel", made) == f"campaign {made} is cancelled\n"
    assert "possible: nothing, it has ended" in desk.run("start", made, status=2)
    steps = [(one["action"], one["actor"], one["note"]) for one in desk.show(made)["transitions"]]
    assert steps == [("schedule", ME, ""), ("pause", ME, "lunch"), ("resume", ME, ""), ("cancel", ME, "")]


def test_a_start_starts_once_and_wakes_a_worker(desk: Desk) -> None:
    made = desk.ready()
    for _ in range(2):
        assert desk.run("start", made) == f"campaign {made} is sending\n"
    assert [one["action"] for one in desk.show(made)["transitions"]][:1] == ["start"]
    assert [one["action"] for one in desk.show(made)["transitions"]].count("start") == 1
    assert desk.ask("select woken_at is not null from apps where app_id = %(app_id)s") == [(True,)]


def test_who_created_a_campaign_cannot_approve_it(desk: Desk) -> None:
    change = PolicyChange(requires_approval=True)
    in_database(desk.url, lambda connection: policies.change_policy(connection, desk.app_id, change))
    made = desk.ready()
    assert desk.run("submit", made) == f"campaign {made} is pendingApproval\n"
    assert "another person than who created" in desk.run("approve", made, status=2)
    assert "Missing option '--note'" in desk.run("reject", made, status=2)
    desk.run("reject", made, "--note", "last year's text")
    desk.ask("update sendings set created_as = 'Ann', submitted_as = 'Ann' where app_id = %(app_id)s")
    desk.run("submit", made)
    desk.ask("update sendings set submitted_as = 'Ann' where app_id = %(app_id)s")
    assert desk.run("approve", made) == f"campaign {made} is scheduled\n"


def test_a_test_message_waits_for_a_worker(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_WAIT_SECONDS", 0.0)
    made = desk.ready()
    held = "insert into leases values (%(app_id)s, 'channel:1', 'nobody', now() + interval '1 hour')"
    desk.ask(held)
    said = desk.run("test", made, "+85291000077", "--var", "name=Lee", status=2)
    assert said.startswith(
        "no worker has taken it yet: is `tallycast serve` or `tallycast worker` running? After ten"
    )
    assert desk.ask(
        "select recipient, variables, asked_as, outcome from trials where app_id = %(app_id)s"
    ) == [("+85291000077", ["Lee"], ME, None)]
    found = json.loads(desk.run("test", made, "+85291000077", "--json", status=2))
    assert (found["outcome"], found["messageID"]) == ("waiting", None)
    assert "must be COLUMN=VALUE" in desk.run("test", made, "+85291000077", "--var", "name", status=2)


def test_unknown_outcomes_are_listed_and_settled(desk: Desk) -> None:
    made = desk.ready()
    assert "every message's outcome is known" in desk.run("unknown", made)
    desk.ask(
        "update sendings set stage = 'paused', started_at = now(), next_seq = 2 where app_id = %(app_id)s"
    )
    desk.ask(
        "insert into handovers (app_id, campaign_id, seq, channel_number, status, attempts, reason) "
        f"values (%(app_id)s, {made}, 1, 1, 'unknown', 1, 'no answer')"
    )
    [row] = json.loads(desk.run("unknown", made, "--json"))
    assert (row["recipient"], row["reason"], row["attempts"]) == ("+85291000001", "no answer", 1)
    assert desk.run("unknown", made, "--verdict", "notSent", "--recipient", "+85291000000") == (
        "0 messages are settled as notSent\n"
    )
    assert desk.run("unknown", made, "--verdict", "notSent") == "1 messages are settled as notSent\n"
    assert desk.show(made)["unknown"] == 0
    assert desk.show(made)["totals"]["failed"] == 1
    assert desk.run("retry-failed", made) == "0 messages are sent again\n"


@pytest.mark.parametrize(
    "command", ["show", "submit", "start", "preview", "unknown", "retry-failed", "errors"]
)
def test_a_campaign_that_is_not_there_is_named(desk: Desk, command: str) -> None:
    assert "tallycast: no campaign 7 that is sent from here" in desk.run(command, "7", status=2)


def test_an_app_that_is_not_there_is_named(desk: Desk) -> None:
    desk.app_id = "app-nobody"
    assert "tallycast: no app app-nobody" in desk.run("list", status=2)
    assert "tallycast: no app app-nobody" in desk.load("7", status=2)
