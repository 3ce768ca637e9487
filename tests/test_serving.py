"""`tallycast serve` as an operator meets it: how it starts, listens, logs, survives and stops."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import httpx
import psycopg
import pytest

from harness import TALLYCAST, App, Server, start_server, wait_for
from stage import family, signal_all
from tallycast import embedded
from test_storm import is_postgres, lives

MakeApp = Callable[[Server], App]
DELIVERED = {"messageID": "m0", "status": "delivered", "timestamp": 1_700_000_000}
PERSON = {"User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"}


def postmaster(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().split("\n")[0])


def processes(server: Server) -> list[int]:
    """Of `serve`, parent first, without its PostgreSQL."""
    return [pid for pid in family(server.process.pid) if not is_postgres(pid)]


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    """A server of this file, with two processes, JSON log lines and an embedded PostgreSQL."""
    with tempfile.TemporaryDirectory(prefix="tallycast-test-", ignore_cleanup_errors=True) as name:
        server = start_server(Path(name), "--workers", "2", "--log-format", "json")
        yield server
        if server.process.poll() is None:
            assert server.stop() == 0


def test_requests_in_flight_at_the_signal_to_stop_are_answered_and_counted(
    tmp_path: Path, database_url: str, make_app: MakeApp
) -> None:
    server = start_server(tmp_path, "--database-url", database_url)
    app = make_app(server)
    channel_id = app.add_channel()
    campaign_id = app.record(channel_id, [f"m{n}" for n in range(12)])
    with psycopg.connect(database_url) as holder, ThreadPoolExecutor(12) as pool:
        holder.execute("select from messages where app_id = %s for update", [app.app_id])
        posts = [
            pool.submit(app.post_receipts, channel_id, {**DELIVERED, "messageID": f"m{n}"}) for n in range(12)
        ]

        def is_waiting() -> bool:
            with psycopg.connect(database_url, autocommit=True) as watcher:
                found = watcher.execute(
                    "select 1 from pg_stat_activity where application_name = 'tallycast' and wait_event_type = 'Lock'"
                )
                return found.fetchone() is not None

        wait_for(is_waiting)
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not is_listening(server.port), 2)
        holder.rollback()
        assert [post.result().status_code for post in posts] == [200] * 12
    assert server.process.wait(30) == 0
    with psycopg.connect(database_url) as connection:
        query = "select delivered from counts where app_id = %s and campaign_id = %s"
        spooled = list((tmp_path / "spool").iterdir()) if (tmp_path / "spool").exists() else []
        assert spooled == []
        assert connection.execute(query, [app.app_id, int(campaign_id)]).fetchone() == (12,)


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def test_clicks_that_were_redirected_before_the_signal_to_stop_are_stored(
    tmp_path: Path, database_url: str, make_app: MakeApp, client: httpx.Client
) -> None:
    server = start_server(tmp_path, "--database-url", database_url)
    app = make_app(server)
    campaign_id = app.record(app.add_channel(), ["m0"])
    made = app.result(
        "POST", f"/sent-campaigns/{campaign_id}/links", json={"url": "https://shop.example.com/"}
    )
    url = made["links"][0]["url"]
    for _ in range(50):
        assert client.get(url, headers=PERSON).status_code == 302
    assert server.stop() == 0
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select clicks from counts where app_id = %s", [app.app_id]).fetchone() == (
            50,
        )


def test_the_embedded_database_stops_with_its_last_user(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    pid = postmaster(tmp_path)
    user = embedded.start(tmp_path)
    assert user.pid == pid
    assert server.stop() == 0
    assert lives(pid)
    user.stop()
    assert not lives(pid)
    server = start_server(tmp_path)
    pid = postmaster(tmp_path)
    assert server.stop() == 0
    assert not lives(pid)


def test_it_listens_on_this_machine_only_and_says_once_that_it_is_ready(
    own: Server, client: httpx.Client
) -> None:
    for _ in range(5):
        assert client.get(f"{own.url}/health/ready").json() == {"status": "ready"}
    assert not is_listening(own.port, "127.0.0.2")
    lines = own.log.read_text().splitlines()
    assert [line for line in lines if "tallycast is ready" in line] == [
        f"tallycast is ready: http://127.0.0.1:{own.port}"
    ]


def test_a_port_that_is_taken_is_told_in_one_line_before_a_database_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*TALLYCAST, "serve", "--port", str(port), "--data-dir", str(tmp_path / "new")],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"tallycast: cannot listen on 127.0.0.1 port {port}: Address already in use\n"
    assert not (tmp_path / "new" / "postgres").exists()


def test_two_servers_on_one_port_are_told_apart(own: Server, tmp_path: Path) -> None:
    done = subprocess.run(
        [*TALLYCAST, "serve", "--port", str(own.port), "--data-dir", str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"port {own.port}" in done.stderr


def test_every_log_line_of_a_request_carries_the_cid_that_was_answered(
    own: Server, client: httpx.Client
) -> None:
    answer = client.get(f"{own.url}/v1/api/apps/nobody/data/sent-campaigns-summary")
    cid = answer.headers["X-Correlation-ID"]
    assert answer.json()["cid"] == cid

    (line,) = wait_for(lambda: [text for text in own.log.read_text().splitlines() if cid in text])
    said = json.loads(line)
    assert said["cid"] == cid
    assert said["level"] == "info"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", said["at"])
    assert "GET /v1/api/apps/nobody/data/sent-campaigns-summary 401" in said["event"]


def test_a_killed_server_process_is_replaced_and_the_server_keeps_answering(own: Server) -> None:
    _, *before = processes(own)
    os.kill(before[0], signal.SIGKILL)
    wait_for(lambda: len({pid for pid in processes(own)[1:] if lives(pid)} - set(before)) == 1)
    for _ in range(20):
        with httpx.Client() as fresh:
            assert wait_for(lambda: fresh.get(f"{own.url}/health/live")).status_code == 200
    assert own.process.poll() is None


def test_an_idle_server_needs_little_memory(tmp_path: Path, database_url: str, client: httpx.Client) -> None:
    server = start_server(tmp_path, "--database-url", database_url)
    assert client.get(f"{server.url}/health/ready").status_code == 200
    pages = 0
    for pid in processes(server):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        assert match
        pages += int(match[1])
    assert server.stop() == 0
    assert pages < 150 * 1024


def test_the_first_host_of_a_database_url_that_can_be_written_is_used(
    tmp_path: Path, data_dir: Path, database_url: str, make_app: MakeApp
) -> None:
    assert database_url
    nowhere, folder = quote(str(tmp_path), safe=""), quote(str(data_dir / "postgres"), safe="")
    options = "port=5432,5432&target_session_attrs=read-write"
    server = start_server(
        tmp_path, "--database-url", f"postgresql://tallycast@/tallycast?host={nowhere},{folder}&{options}"
    )
    app = make_app(server)
    channel_id = app.add_channel()
    campaign_id = app.record(channel_id, ["m0"])
    assert app.post_receipts(channel_id, DELIVERED).status_code == 200
    assert app.totals(campaign_id)["delivered"] == 1
    assert server.stop() == 0


def test_while_the_database_hangs_webhooks_are_answered_in_time_and_links_redirect(
    tmp_path: Path, make_app: MakeApp, client: httpx.Client
) -> None:
    server = start_server(tmp_path)
    app = make_app(server)
    channel_id = app.add_channel()
    campaign_id = app.record(channel_id, [f"m{n}" for n in range(20)])
    link = app.result(
        "POST", f"/sent-campaigns/{campaign_id}/links", json={"url": "https://shop.example.com/"}
    )
    url = link["links"][0]["url"]
    assert app.post_receipts(channel_id, DELIVERED).status_code == 200
    assert client.get(url, headers=PERSON).status_code == 302
    database = family(postmaster(tmp_path))
    signal_all(database, signal.SIGSTOP)
    try:
        for n in range(1, 20):
            began = time.monotonic()
            assert app.post_receipts(channel_id, {**DELIVERED, "messageID": f"m{n}"}).status_code == 200
            assert time.monotonic() - began < 5
            began = time.monotonic()
            assert client.get(url, headers=PERSON).status_code == 302
            assert time.monotonic() - began < 1
        assert client.get(f"{server.url}/health/ready").status_code == 503
        assert app.request("GET", "/data/sent-campaigns-summary").status_code == 503
    finally:
        signal_all(database, signal.SIGCONT)
    wait_for(lambda: client.get(f"{server.url}/health/ready").status_code == 200)
    wait_for(lambda: list((tmp_path / "spool").iterdir()) == [])
    assert app.totals(campaign_id) == app.totals(campaign_id) | {"delivered": 20, "replied": 20}
    assert server.audit()["drift"] == 0
    assert server.stop() == 0


def test_with_neither_database_nor_spool_a_webhook_is_answered_503_and_nothing_is_lost_silently(
    tmp_path: Path, make_app: MakeApp, client: httpx.Client
) -> None:
    server = start_server(tmp_path)
    app = make_app(server)
    channel_id = app.add_channel()
    campaign_id = app.record(channel_id, ["m0"])
    assert app.post_receipts(channel_id).status_code == 200
    (tmp_path / "spool").write_text("a file is in the way")
    pid = postmaster(tmp_path)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not lives(pid))
    answer = app.post_receipts(channel_id, DELIVERED)
    assert (answer.status_code, answer.json()["code"]) == (503, 6451001)
    (tmp_path / "spool").unlink()
    assert app.post_receipts(channel_id, DELIVERED).status_code == 200
    server.run("app", "list")  # starts the database again
    wait_for(lambda: client.get(f"{server.url}/health/ready").status_code == 200)
    wait_for(lambda: list((tmp_path / "spool").iterdir()) == [])
    assert app.totals(campaign_id)["delivered"] == 1
    assert server.stop() == 0
