"""`tallycast export`: the same file as the API's, whole or not at all."""

import os
import re
import signal
import subprocess
from pathlib import Path

import psycopg
import pytest

from harness import TALLYCAST, App, Server, run, wait_for


def make_campaign(app: App) -> str:
    return app.record(app.add_channel(), ["m-1", "m-2"])


def test_the_file_is_that_of_the_api_here_and_from_afar(server: Server, app: App, tmp_path: Path) -> None:
    campaign = make_campaign(app)
    remote = ["--url", server.url, "--token", app.token]
    for suffix in ("csv", "ndjson", "xlsx", "parquet"):
        here, afar = tmp_path / f"here.{suffix}", tmp_path / f"afar.{suffix}"
        said = server.run("export", "recipients", campaign, "--app", app.app_id, "-o", str(here))
        assert said == f"2 rows, {here.stat().st_size:,} bytes in {here}\n"
        run("export", "recipients", campaign, *remote, "-o", str(afar))
        path = f"/exports/recipients?campaign={campaign}&format={suffix}"
        assert here.read_bytes() == afar.read_bytes() == app.request("GET", path).content
        assert here.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_summaries_of_a_period_go_to_standard_output(server: Server, app: App) -> None:
    channel = app.add_channel()
    campaigns = [app.record(channel, [f"m-{day}"], date=f"2026-11-0{day}T03:00:00Z") for day in (1, 2, 3)]
    period = ["--from", "2026-11-02", "--to", "2026-11-02"]
    said = server.run("export", "campaigns", "--app", app.app_id, *period, "--format", "ndjson", "-o", "-")
    assert re.findall(r'"campaignID":"(\d+)"', said) == [campaigns[1]]
    said = server.run("export", "campaigns", "--app", app.app_id, "--channel", "sms", "-o", "-")
    assert said.count("\n") == 1


def test_options_and_the_state_reach_the_file(server: Server, app: App, tmp_path: Path) -> None:
    campaign = make_campaign(app)
    file = tmp_path / "failed.csv"
    ask = ["export", "recipients", campaign, "--app", app.app_id, "--excel"]
    server.run(*ask, "-o", str(file))
    assert b',"=""+85291000000""",' in file.read_bytes()
    server.run(*ask, "--state", "failed", "--force", "-o", str(file))
    assert file.read_bytes().count(b"\r\n") == 1


def test_a_file_that_exists_is_kept_unless_it_is_said_and_an_ending_must_be_known(
    server: Server, app: App, tmp_path: Path
) -> None:
    campaign = make_campaign(app)
    file = tmp_path / "a.csv"
    file.write_text("mine")
    ask = ["export", "recipients", campaign, "--app", app.app_id, "-o"]
    server.run(*ask, str(file), status=2)
    assert file.read_text() == "mine"
    server.run(*ask, str(tmp_path / "a.xls"), status=2)
    server.run(*ask, str(file), "--force")
    assert file.read_text().startswith("campaignID,")
    server.run("export", "recipients", "7", "--app", app.app_id, "-o", str(tmp_path / "none.csv"), status=2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("how", ["here", "afar"])
def test_an_export_that_breaks_off_leaves_no_file(
    server: Server, app: App, database_url: str, tmp_path: Path, how: str
) -> None:
    campaign = app.record(app.add_channel(), [])
    rows = 60_000
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "insert into messages (app_id, campaign_id, seq, channel_number, recipient, content) "
            "select %s, %s, n, 1, '+852' || 60000000 + n, repeat(md5(n::text), 100) from generate_series(0, %s) n",
            [app.app_id, campaign, rows - 1],
        )
        counts = "update counts set total = %s, queued = %s where app_id = %s and campaign_id = %s"
        connection.execute(counts, [rows, rows, app.app_id, campaign])
    way = (
        ["--app", app.app_id, *server.storage]
        if how == "here"
        else ["--url", server.url, "--token", app.token]
    )
    command = [*TALLYCAST, "export", "recipients", campaign, *way, "-o", str(tmp_path / "a.csv")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: any(path.stat().st_size for path in tmp_path.iterdir()))
        os.kill(process.pid, signal.SIGSTOP)
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tallycast export'"
            )
        os.kill(process.pid, signal.SIGCONT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2, said
    assert said.splitlines()[-1].startswith("tallycast: ")
    assert list(tmp_path.iterdir()) == []
