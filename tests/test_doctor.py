"""`tallycast doctor` with each trouble made real: it is found, and it says what to do."""

import base64
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from harness import App, Server, free_port
from tallycast import embedded, migrations, standstills
from tallycast.cli import main

Findings = list[dict[str, Any]]


@dataclass
class Patient:
    """A database of its own, without any server or worker, with one app."""

    url: str
    data_dir: Path
    app_id: str = ""

    def run(self, *arguments: str, status: int = 0) -> str:
        options = ["--database-url", self.url, "--data-dir", str(self.data_dir)]
        done = CliRunner().invoke(main, [*arguments, *options], catch_exceptions=False)
        assert done.exit_code == status, done.output
        return done.stdout

    def look(self, *options: str, status: int) -> Findings:
        """What the doctor has found, but for the address, which nobody has set."""
        found = json.loads(self.run("doctor", "--app", self.app_id, "--json", *options, status=status))
        kept: Findings = found["findings"]
        return kept

    def ask(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), params)
            return cursor.fetchall() if cursor.description else []

    def add_channel(self, *options: str) -> str:
        basics = ("--type", "sms", "--provider", "sandbox", "--phone", "+85230001234", "--json")
        keys = (
            "--credential",
            "baseURL=http://127.0.0.1:9",
            "--credential",
            "apiKey=k",
            "--private-hosts",
            "127.0.0.1",
        )
        made: str = json.loads(self.run("channel", "create", "--app", self.app_id, *basics, *keys, *options))[
            "id"
        ]
        return made

    def start_campaign(self) -> str:
        run, which = self.run, ("--app", self.app_id)
        words = ("--kind", "smsDynamic", "--name", "Sale", "--content", "Hi {{name}}")
        made = run("campaign", "create", *which, "--channel", self.add_channel(), *words).strip()
        file = self.data_dir / "customers.csv"
        file.write_text("Recipients Number,name\n+85291000000,Mei\n+85291000001,Ann\n")
        run("campaign", "import", *which, made, str(file))
        run("campaign", "start", *which, made)
        return made


@pytest.fixture(scope="module")
def own_url(data_dir: Path) -> Iterator[str]:
    server = embedded.start(data_dir)
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("create database doctor")
    url = server.url.replace("/tallycast?", "/doctor?")
    migrations.migrate(url)
    yield url
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("drop database doctor with (force)")
    server.stop()


@pytest.fixture
def patient(own_url: str, tmp_path: Path) -> Patient:
    made = Patient(own_url, tmp_path)
    made.app_id = json.loads(made.run("app", "create", "--name", "Test", "--json"))["appID"]
    return made


def about(found: Findings, what: str) -> tuple[str, str, str]:
    """The first finding about something: state, what was found and the advice."""
    one = next(one for one in found if one["about"] == what)
    return one["state"], one["found"], one.get("advice", "")


def test_a_server_that_is_well_has_nothing_to_mend(server: Server, app: App) -> None:
    app.add_channel(webhookSecret="s3cret")
    words = ["doctor", "--app", app.app_id, *server.storage, "--public-url", server.url]
    done = CliRunner().invoke(main, [*words, "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert (done.exit_code, found["state"]) == (0, "well"), done.output
    assert {one["about"] for one in found["findings"]} == {
        "data folder", "spool", "public address", "embedded server", "database", "schema", "clock", "encryption key",
        "workers", "counts", "parked receipts", "unknown outcomes", "unreadable bodies", "channel",
    }  # fmt: skip
    assert about(found["findings"], "public address")[1] == f"{server.url} leads to tallycast"
    text = CliRunner().invoke(main, words).stdout
    assert "well    schema            up to date" in text
    assert "mend" not in text


def test_a_remote_server_is_looked_at_through_its_api(server: Server, app: App) -> None:
    app.add_channel(webhookSecret="s3cret")
    words = ["doctor", "--url", server.url, "--token", app.token, "--json"]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    found = json.loads(done.stdout)["findings"]
    assert done.exit_code == 0, done.output
    assert about(found, "server") == ("well", f"it answers for {app.app_id}", "")
    assert about(found, "clock") == ("well", "as the server's", "")
    assert about(found, "public address")[0] == "well"
    app.post_receipts(app.add_channel(), {"messageID": "m", "status": "read"})
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 1
    [state] = [
        one["state"] for one in json.loads(done.stdout)["findings"] if "no webhook secret" in one["found"]
    ]
    assert state == "mend"


def test_what_a_token_may_not_ask_is_unknown(server: Server, app: App) -> None:
    words = ["token", "create", "--app", app.app_id, "--scope", "reports:read", "--json", *server.storage]
    token = json.loads(CliRunner().invoke(main, words).stdout)["token"]
    done = CliRunner().invoke(main, ["doctor", "--url", server.url, "--token", token, "--json"])
    assert done.exit_code == 2
    state, found, _ = about(json.loads(done.stdout)["findings"], "channels")
    assert (state, "does not have the scope channels:write" in found) == ("unknown", True)


def test_parked_receipts_are_told_when_they_are_old(patient: Patient) -> None:
    patient.add_channel()
    insert = "insert into parked (app_id, channel_number, message_id, button, read_at, parked_at) values (%s, 1, 'm', '', now(), now() - %s::interval)"
    patient.ask(insert, patient.app_id, "5 minutes")
    assert about(patient.look(status=1), "parked receipts")[0] == "well"
    patient.ask("update parked set parked_at = now() - interval '3 hours' where app_id = %s", patient.app_id)
    state, found, advice = about(patient.look(status=1), "parked receipts")
    assert (state, found[:50]) == ("mend", "1 wait for their message, the oldest for 3:00:00")
    assert advice.endswith(f"tallycast receipts parked --app {patient.app_id}")


def test_a_wrong_key_is_told_and_none_is_made(patient: Patient, tmp_path: Path) -> None:
    channel = patient.add_channel()
    other = base64.b64encode(b"x" * 32).decode()
    assert about(patient.look("--encryption-key", other, status=1), "encryption key") == (
        "mend",
        f"it does not open channel {channel}",
        "give the TALLYCAST_ENCRYPTION_KEY, or the data folder's secret.key, with which they were made",
    )
    assert (
        "must be 32 random bytes"
        in about(patient.look("--encryption-key", "short", status=1), "encryption key")[1]
    )
    key = tmp_path / "secret.key"
    key.chmod(0o644)
    assert about(patient.look(status=1), "data folder")[2] == f"chmod 600 {key}"
    key.unlink()
    state, found, _ = about(patient.look(status=1), "encryption key")
    assert (state, found) == ("mend", f"there is none, and one is needed for channel {channel}")
    assert not key.exists()


def test_a_campaign_that_no_worker_looks_after_is_told(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standstills, "_PATIENCE_SECONDS", 0.0)
    made = patient.start_campaign()
    state, found, advice = about(patient.look(status=1), "movement")
    assert (state, found) == ("mend", f"campaign {made} does not move")
    assert advice.startswith("No worker looks after it: start `tallycast worker`")
    patient.ask(
        "insert into leases values (%s, 'channel:1', 'a@host 1 2 3', now() + interval '1 minute')",
        patient.app_id,
    )
    assert about(patient.look(status=1), "workers")[1] == "1 at work, on host"
    assert about(patient.look(status=1), "movement")[0] == "well"


def test_a_drift_is_told_with_its_campaign(patient: Patient) -> None:
    made = patient.start_campaign()
    patient.ask("update counts set button_replies = 3 where app_id = %s", patient.app_id)
    state, found, _ = about(patient.look(status=1), "counts")
    assert (state, found) == (
        "mend",
        f"campaign {made} of {patient.app_id}: [counted, recounted] {{'buttonReplies': (3, 0)}}",
    )
    patient.ask("update counts set button_replies = 0 where app_id = %s", patient.app_id)
    assert about(patient.look("--full", status=1), "counts") == (
        "well",
        "1 campaigns and 2 messages were recounted",
        "",
    )


def test_unknown_outcomes_paused_channels_and_unreadable_bodies_are_told(patient: Patient) -> None:
    made = patient.start_campaign()
    app_id = patient.app_id
    patient.ask("update sendings set next_seq = 2 where app_id = %s", app_id)
    patient.ask(
        "insert into handovers (app_id, campaign_id, seq, channel_number, status, attempts, reason) "
        "values (%s, %s, 1, 1, 'unknown', 1, 'no answer')",
        app_id,
        int(made),
    )
    patient.ask(
        "update channels set paused_at = now(), paused_reason = 'the key is refused' where app_id = %s",
        app_id,
    )
    patient.ask(
        "insert into unreadable (app_id, channel_number, digest, reason, raw) values (%s, 1, 'd', 'r', 'x')",
        app_id,
    )
    found = patient.look(status=1)
    state, said, advice = about(found, "unknown outcomes")
    assert (state, said.startswith("1 messages may have gone out or not")) == ("mend", True)
    assert advice.endswith(f"--verdict sent|notSent|resend, for {made}")
    state, said, advice = about(found, "channel")
    assert (state, "is paused: the key is refused" in said) == ("mend", True)
    assert f"tallycast channel resume --app {app_id} " in advice
    assert about(found, "unreadable bodies")[0] == "mend"


def test_a_channel_that_cannot_send_is_told(patient: Patient) -> None:
    basics = (
        "--type",
        "sms",
        "--provider",
        "twilio",
        "--phone",
        "+85230001234",
        "--credential",
        "accountSID=AC1",
    )
    patient.run("channel", "create", "--app", patient.app_id, *basics)
    state, found, advice = about(patient.look(status=1), "channel")
    assert (state, found.endswith("cannot send: it lacks authToken")) == ("mend", True)
    assert advice.endswith("--credential authToken=-")


def test_a_campaign_without_any_receipt_is_told(patient: Patient) -> None:
    made = patient.start_campaign()
    patient.ask("update campaigns set sent_at = now() - interval '1 hour' where app_id = %s", patient.app_id)
    state, found, advice = about(patient.look(status=1), "receipts")
    assert state == "mend"
    assert found.startswith(f"SMS +85230001234: nothing has come since campaign {made} of ")
    assert found.endswith("; the last word: none")
    assert "is the webhook URL set at the provider?" in advice

    def hear(ago: str) -> tuple[str, str, str]:
        patient.ask(
            "update channels set heard_at = now() - %s::interval where app_id = %s", ago, patient.app_id
        )
        return about(patient.look(status=1), "receipts")

    state, found, _ = hear("2 hours")
    assert (state, "the last word: 20" in found) == ("mend", True)
    state, found, advice = hear("10 minutes")
    assert (state, advice) == ("well", "")
    assert found.startswith("SMS +85230001234: the last word came at 20")
    patient.add_channel()  # of the same sender, and never heard
    assert about(patient.look(status=1), "receipts")[0] == "well"


def test_receipts_that_wait_on_disk_are_told(patient: Patient) -> None:
    folder = patient.data_dir / "spool"
    folder.mkdir()
    file = folder / "1-x.ndjson"
    file.write_text("{}\n")
    assert about(patient.look(status=1), "spool")[0] == "well"
    os.utime(file, (time.time() - 600, time.time() - 600))
    state, found, _ = about(patient.look(status=1), "spool")
    assert (state, found) == ("mend", "3 bytes of receipts wait in 1 files, the oldest for 0:10:00")


def test_a_schema_that_is_not_up_to_date_is_told_and_not_touched(patient: Patient) -> None:
    name = migrations.available()[-1][1]
    patient.ask("update migrations set name = 'x' where name = %s", name)
    try:
        found = patient.look(status=1)
    finally:
        patient.ask("update migrations set name = %s where name = 'x'", name)
    assert about(found, "schema") == (
        "mend",
        f"not up to date: {name}",
        "start the new `tallycast serve`, or: tallycast migrate",
    )
    assert found[-1]["about"] == "clock"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--database-url", "postgresql://127.0.0.1:1/x"), "Connection refused"),
        (("--data-dir", "/nowhere"), "there is none in /nowhere: give the --data-dir of `serve`"),
    ],
)
def test_a_database_that_is_not_there_ends_with_2(
    tmp_path: Path, options: tuple[str, ...], line: str
) -> None:
    words = [
        "doctor",
        "--json",
        *options,
        *(["--data-dir", str(tmp_path)] if "--data-dir" not in options else []),
    ]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    found = json.loads(done.stdout)
    assert (done.exit_code, found["state"]) == (2, "away")
    assert line in about(found["findings"], "database")[1]
    assert not Path("/nowhere").exists()


def test_an_address_that_leads_elsewhere_is_told(patient: Patient) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    state, found, _ = about(patient.look("--public-url", nowhere, status=1), "public address")
    assert (state, found.startswith(f"{nowhere} cannot be reached from here: ")) == ("mend", True)
    assert about(patient.look(status=1), "public address")[1] == "it is not set"
