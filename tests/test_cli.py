"""The command line: it works beside a running server or alone, and says in one line what a person can mend."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import psycopg
import pytest
from click.testing import CliRunner

import tallycast
from harness import TALLYCAST, App, Server, run
from tallycast.cli import main
from tallycast.commands import print_rows

SUMMARY = "/data/sent-campaigns-summary"


def children(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield name, command


def commands(
    group: click.Command = main, words: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, group
    if isinstance(group, click.Group):
        for name, command in children(group):
            yield from commands(command, (*words, name))


EVERY = list(commands())


@pytest.fixture
def storage(database_url: str, tmp_path: Path) -> list[str]:
    """A database of somebody else's server, and an empty data directory."""
    return ["--database-url", database_url, "--data-dir", str(tmp_path)]


def call(server: Server, *arguments: str, status: int = 0) -> str:
    """Run a command on a server's database, in this process, which takes a tenth of the time; its standard output."""
    done = CliRunner().invoke(main, [*arguments, *server.storage])
    assert done.exit_code == status, done.output
    return done.stdout


def refuse(*arguments: str, environ: dict[str, str] | None = None) -> str:
    """Run a command that must fail; its one line on standard error."""
    done = CliRunner(env=environ).invoke(main, arguments)
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("tallycast: ")
    return done.stderr.removeprefix("tallycast: ").strip()


@pytest.mark.parametrize(
    ("words", "command"), EVERY, ids=[" ".join(words) or "tallycast" for words, _ in EVERY]
)
def test_every_command_explains_itself_and_each_of_its_options(
    words: tuple[str, ...], command: click.Command
) -> None:
    context = click.Context(command, info_name=" ".join(("tallycast", *words)))
    text = command.get_help(context)
    assert text.startswith(f"Usage: {' '.join(('tallycast', *words))}")
    assert command.help
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or parameter.help, parameter.name
    if isinstance(command, click.Group):
        assert all(child.get_short_help_str() for _, child in children(command))


def test_help_and_version_are_one_call_away() -> None:
    assert run("--help") == run("-h")
    assert run("--help").startswith("Usage: ")
    assert run("token", "create", "-h").count("--scope") == 1
    assert run("--version") == f"tallycast, version {tallycast.__version__}\n"


def test_the_commands_of_the_contract_are_there() -> None:
    known = {" ".join(words) for words, _ in EVERY}
    assert known >= {
        "serve", "demo", "audit", "replay", "app create", "app list", "token create", "token list", "token revoke",
        "receipts parked", "receipts unreadable", "clicks reclassify",
    }  # fmt: skip


def test_a_new_app_comes_with_a_token_that_opens_it(server: Server) -> None:
    made = json.loads(server.run("app", "create", "--name", 'Café "Ost" 🎉', "--json"))
    assert list(made) == ["appID", "token"]
    assert made["token"].startswith(f"tct_{made['appID']}_")
    url = f"{server.url}/v1/api/apps/{made['appID']}{SUMMARY}"
    assert httpx.get(url, headers={"Authorization": f"Bearer {made['token']}"}).json()["result"] == []
    listed = json.loads(server.run("app", "list", "--json"))
    [found] = [one for one in listed if one["appID"] == made["appID"]]
    assert (list(found), found["name"]) == (["appID", "name", "createdAt"], 'Café "Ost" 🎉')
    assert made["appID"] in server.run("app", "list")


def test_an_app_may_keep_the_id_that_it_had_elsewhere(storage: list[str], tmp_path: Path) -> None:
    app_id = f"old-{tmp_path.name[-8:].replace('_', 'x')}"
    assert (
        json.loads(run("app", "create", "--name", "A", "--id", app_id, "--json", *storage))["appID"] == app_id
    )
    assert refuse("app", "create", "--name", "A", "--id", app_id, *storage) == f"app {app_id} exists already"
    assert "up to 40 letters, digits and single hyphens" in refuse(
        "app", "create", "--name", "A", "--id", "a/b", *storage
    )


def test_an_app_is_also_told_in_words(storage: list[str]) -> None:
    lines = run("app", "create", "--name", "Shop", *storage).split("\n")
    assert [line.split()[0] for line in lines[:2]] == ["appID", "token"]
    assert "The token is not shown again: keep it now." in lines


def test_the_life_of_a_token(server: Server, app: App) -> None:
    options = ["--app", app.app_id]
    text = call(
        server,
        "token",
        "create",
        *options,
        "--scope",
        "reports:read",
        "--name",
        "BI",
        "--expires",
        "2099-01-01T00:00:00Z",
        "--json",
    )
    made = json.loads(text)
    assert {name: made[name] for name in ("appID", "name", "scopes", "expiresAt", "lastUsedAt", "revokedAt")} == {
        "appID": app.app_id, "name": "BI", "scopes": "reports:read", "expiresAt": "2099-01-01T00:00:00.000Z",
        "lastUsedAt": None, "revokedAt": None,
    }  # fmt: skip
    app.token = made["token"]
    assert (app.request("GET", SUMMARY).status_code, app.request("GET", "/channels").status_code) == (
        200,
        403,
    )
    listed = call(server, "token", "list", *options, "--json")
    assert made["token"].rpartition("_")[2] not in listed
    [found] = [one for one in json.loads(listed) if one["tokenID"] == made["tokenID"]]
    assert (found["scopes"], found["revokedAt"]) == ("reports:read", None)
    assert call(server, "token", "revoke", made["tokenID"], *options) == f"revoked {made['tokenID']}\n"
    [found] = [
        one
        for one in json.loads(call(server, "token", "list", *options, "--json"))
        if one["tokenID"] == made["tokenID"]
    ]
    assert found["revokedAt"] is not None
    assert made["tokenID"] in call(server, "token", "list", *options)


def test_audit_counts_campaigns_and_messages_and_finds_no_drift(server: Server, app: App) -> None:
    channel = app.add_channel()
    app.record(channel, ["m-0", "m-1", None])
    app.record(channel, ["m-2"])
    app.post_receipts(
        channel, {"messageID": "m-0", "status": "read"}, {"messageID": "m-1", "status": "failed"}
    )
    assert json.loads(call(server, "audit", "--app", app.app_id, "--json")) == {
        "campaigns": 2,
        "messages": 4,
        "drift": 0,
    }
    assert server.run("audit", "--app", app.app_id) == "2 campaigns, 4 messages, drift 0\n"


@pytest.mark.parametrize(
    ("change", "drift", "fields"),
    [
        pytest.param("delivered = delivered + 2, pending = pending - 2", 4, {"delivered": [3, 1], "pending": [0, 2]}, id="states"),
        pytest.param("read = 0", 1, {"read": [0, 1]}, id="read"),
        pytest.param("clicks = clicks + 7", 7, {"clicks": [7, 0]}, id="clicks"),
        pytest.param("button_replies = 3", 3, {"buttonReplies": [3, 0]}, id="buttons"),
        pytest.param("total = total + 1, queued = queued + 1", 2, {"totalRecipients": [4, 3], "queued": [1, 0]}, id="total"),
    ],
)  # fmt: skip
def test_audit_exits_1_and_names_the_campaign_whose_counts_drift(
    server: Server, app: App, database_url: str, change: str, drift: int, fields: dict[str, list[int]]
) -> None:
    channel = app.add_channel()
    campaign = app.record(channel, ["m-0", "m-1", "m-2"])
    app.post_receipts(channel, {"messageID": "m-0", "status": "read"})
    with psycopg.connect(database_url) as connection:
        before = connection.execute("select c::text from counts c where app_id = %s", [app.app_id]).fetchall()
        connection.execute(f"update counts set {change} where app_id = %s", [app.app_id])
    found = json.loads(call(server, "audit", "--app", app.app_id, "--json", status=1))
    assert found == {
        "campaigns": 1, "messages": 3, "drift": drift,
        "drifting": [{"appID": app.app_id, "id": campaign, "fields": fields}],
    }  # fmt: skip
    if "read" in fields:
        assert f"campaign {campaign} of {app.app_id}: [counted, recounted]" in call(
            server, "audit", "--app", app.app_id, status=1
        )
    with psycopg.connect(database_url) as connection:  # other tests audit this database, too
        connection.execute("delete from counts where app_id = %s", [app.app_id])
        connection.execute("insert into counts select (%s::counts).*", [before[0][0]])
    assert json.loads(call(server, "audit", "--app", app.app_id, "--json"))["drift"] == 0


def test_what_waits_and_what_was_not_understood_is_listed(server: Server, app: App) -> None:
    channel = app.add_channel()
    options = ["--app", app.app_id]
    assert call(server, "receipts", "parked", *options) == "nothing is parked\n"
    assert call(server, "receipts", "unreadable", *options) == "everything was understood\n"
    app.post_receipts(
        channel, {"messageID": "later", "status": "read"}, {"messageID": "later", "status": "delivered"}
    )
    for _ in range(2):
        httpx.post(f"{server.url}/webhooks/generic/{channel}", content=b"no JSON")
    [parked] = json.loads(call(server, "receipts", "parked", *options, "--json"))
    assert (parked["channelID"], parked["messageID"], parked["kinds"]) == (channel, "later", "delivered,read")
    [kept] = json.loads(call(server, "receipts", "unreadable", *options, "--json"))
    assert (kept["channelID"], kept["raw"], kept["times"]) == (channel, "no JSON", 2)
    assert "later" in call(server, "receipts", "parked", *options)
    assert "no JSON" in call(server, "receipts", "unreadable", *options)
    assert json.loads(call(server, "receipts", "parked", *options, "--offset", "1", "--json")) == []


def test_replay_feeds_a_file_once_and_again_changes_nothing(server: Server, app: App, tmp_path: Path) -> None:
    channel = app.add_channel()
    campaign = app.record(channel, [f"m-{n}" for n in range(50)])
    bodies = [
        {"receipts": [{"messageID": f"m-{n}", "status": "read", "timestamp": 1795402800 + n}]}
        for n in range(40)
    ]
    bodies.append({"receipts": [{"messageID": "unknown", "status": "read"}]})
    lines: list[Any] = [json.dumps(body) for body in bodies]
    file = tmp_path / "bodies.ndjson"
    file.write_text("\n".join([*lines, "", "not JSON"]) + "\n")
    done = server.run("replay", str(file), "--channel", channel)
    assert done.startswith("42 bodies, 42 events: 40 matched, 1 parked, 1 not understood, in ")
    first = app.totals(campaign)
    assert (first["delivered"], first["read"], first["pending"]) == (40, 40, 10)
    detail = app.result("GET", "/data/sent-campaigns-detail", params={"historyID": campaign, "limit": 200})
    call(server, "replay", str(file), "--channel", channel)
    assert app.totals(campaign) == first
    assert (
        app.result("GET", "/data/sent-campaigns-detail", params={"historyID": campaign, "limit": 200})
        == detail
    )
    assert len(app.result("GET", "/receipts/parked")) == 1
    assert json.loads(call(server, "audit", "--app", app.app_id, "--json"))["drift"] == 0


def test_replay_reads_standard_input(app: App, storage: list[str]) -> None:
    channel = app.add_channel()
    campaign = app.record(channel, ["m-0"])
    body = b'{"receipts":[{"messageID":"m-0","status":"delivered"}]}'
    done = subprocess.run(
        [*TALLYCAST, "replay", "-", "--channel", channel, *storage],
        input=body,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith(b"1 bodies, 1 events: 1 matched, 0 parked, 0 not understood")
    assert app.totals(campaign)["delivered"] == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        pytest.param(["token", "create", "--app", "nobody"], "no app nobody", id="token create"),
        pytest.param(["token", "list", "--app", "nobody"], "no app nobody", id="token list"),
        pytest.param(["token", "revoke", "--app", "nobody", "x"], "no token x in app nobody", id="token revoke"),
        pytest.param(["audit", "--app", "nobody"], "no app nobody", id="audit"),
        pytest.param(["receipts", "parked", "--app", "nobody"], "no app nobody", id="parked"),
        pytest.param(["receipts", "unreadable", "--app", "nobody"], "no app nobody", id="unreadable"),
        pytest.param(["clicks", "reclassify", "--app", "nobody"], "no app nobody", id="reclassify"),
        pytest.param(["replay", "/dev/null", "--channel", "nobody-x"], "no channel nobody-x", id="replay"),
        pytest.param(["app", "create", "--name", " "], "an app needs a name", id="no name"),
        pytest.param(["token", "create", "--app", "x", "--expires", "soon"], "--expires must be a date and time like 2022-11-07T00:00:00.000Z (RFC 3339), not 'soon'", id="expiry"),
    ],
)  # fmt: skip
def test_what_does_not_exist_ends_with_2_and_one_line(
    storage: list[str], arguments: list[str], line: str
) -> None:
    assert refuse(*arguments, *storage) == line


@pytest.mark.parametrize(
    ("arguments", "environ", "line"),
    [
        pytest.param(["audit", "--database-url", "no url:pass@"], {}, "database-url must be like postgresql://user@host:5432/name", id="no URL"),
        pytest.param(["audit", "--database-url", "postgresql://127.0.0.1:1/x"], {}, 'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused', id="nobody there"),
        pytest.param(["audit"], {"TALLYCAST_DATABASE_URL": "://"}, "database-url must be like", id="no URL in the environment"),
        pytest.param(["serve", "--port", "70000"], {}, "port must be a port from 1 to 65535, not 70000", id="port"),
        pytest.param(["serve"], {"TALLYCAST_PORT": "http"}, "TALLYCAST_PORT must be a number, not 'http'", id="port in the environment"),
        pytest.param(["serve", "--workers", "0"], {}, "workers must be a number from 1 to 256, not 0", id="workers"),
        pytest.param(["serve", "--rate-limit", "-1"], {}, "rate-limit must be a number from 0, not -1", id="rate limit"),
        pytest.param(["audit"], {"TALLYCAST_LOG_FORMAT": "xml"}, "log-format must be console or json, not 'xml'", id="log format"),
        pytest.param(["serve", "--public-url", "shop.example.com"], {}, "public-url must be a URL that starts with https://", id="public URL"),
        pytest.param(["serve", "--encryption-key", "short"], {}, "TALLYCAST_ENCRYPTION_KEY must be 32 random bytes in base64", id="key"),
        pytest.param(["audit", "--data-dir", "/dev/null/x"], {}, "The embedded PostgreSQL: ", id="data directory"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_ends_with_2_and_one_line_that_names_it(
    database_url: str, tmp_path: Path, arguments: list[str], environ: dict[str, str], line: str
) -> None:
    if arguments[0] == "serve":
        arguments = [*arguments, "--database-url", database_url]
    if "--data-dir" not in arguments:
        arguments = [*arguments, "--data-dir", str(tmp_path)]
    assert refuse(*arguments, environ=environ).startswith(line)


def test_a_worker_must_be_told_the_address_of_links_unless_serve_started_it(storage: list[str]) -> None:
    assert refuse("worker", *storage).startswith("public-url must be given, the same as to serve")


def test_a_worker_without_a_database_to_share_is_refused_and_makes_none(tmp_path: Path) -> None:
    folder = tmp_path / "typo"
    said = refuse("worker", "--data-dir", str(folder), "--public-url", "https://l.example.com")
    assert said == (
        f"data-dir {folder} has no database, and a worker shares one that exists: "
        "give the --data-dir of `tallycast serve`, or its --database-url"
    )
    assert not folder.exists()


def test_a_worker_lists_only_the_options_that_matter_to_it() -> None:
    options = {name for one in main.commands["worker"].params for name in one.opts}
    assert options == {
        "--data-dir", "--database-url", "--database-connections", "--encryption-key", "--public-url",
        "--private-hosts", "--log-format", "--log-level",
    }  # fmt: skip


def test_ids_and_times_are_never_cut_also_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "id": "i" * 63,
        "recipient": "[/red]",
        "at": "2026-11-23T03:05:00.000Z",
        "reason": "a b " * 40,
        "x": None,
    }
    print_rows([row], False, "")
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == list(row)
    assert [row["id"], row["recipient"], row["at"], *("a", "b") * 40] == line.split()


def test_in_a_terminal_sentences_are_folded_and_ids_are_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    row = {"id": "i" * 63, "at": "2026-11-23T03:05:00.000Z", "reason": "a b " * 40}
    print_rows([row], False, "")
    lines = capsys.readouterr().out.splitlines()
    assert row["id"] in lines[1]
    assert row["at"] in lines[1]
    assert len(lines) > 3
    assert "…" not in "".join(lines)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["add", "+85291000000", "12"], "", id="add"),
        pytest.param(["import", "-"], "recipient\n+85291000000\n12\n", id="import"),
    ],
)
def test_opt_outs_that_are_not_all_taken_end_with_2(
    server: Server, app: App, arguments: list[str], text: str
) -> None:
    command = [
        "opt-outs",
        arguments[0],
        "--app",
        app.app_id,
        "--kind",
        "sms",
        *arguments[1:],
        *server.storage,
    ]
    done = CliRunner().invoke(main, command, input=text)
    assert (done.exit_code, done.stdout) == (2, "1 opted out, 1 not taken\n")
    assert "12: " in done.stderr


@pytest.mark.parametrize("option", ["--port", "--smpp-port"])
def test_a_port_that_is_taken_is_told_by_the_simulator(server: Server, option: str) -> None:
    free = {"--port": "0", "--smpp-port": "0"}
    options = [text for pair in {**free, option: str(server.port)}.items() for text in pair]
    assert "address already in use" in refuse("simulate", *options).lower()


def test_a_profile_that_is_not_there_is_told_by_the_simulator() -> None:
    assert refuse("simulate", "--profile", "gentle").startswith("profile must be one of calm, normal, worst")


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["app"], ["app", "create"], ["token", "create", "--app", "x", "--scope", "all"], ["receipts", "parked", "--app", "x", "--limit", "-1"],
     ["serve", "--port", "http"], ["replay", "/no/such/file", "--channel", "x"]],
)  # fmt: skip
def test_wrong_usage_ends_with_2_and_says_how_it_is_used(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("Usage: ")


def test_a_port_that_is_taken_is_told_at_once(server: Server, storage: list[str]) -> None:
    assert "Address already in use" in refuse("serve", "--port", str(server.port), *storage)
