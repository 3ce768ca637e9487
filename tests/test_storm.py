"""A storm of receipts over HTTP, and `kill -9` in the middle of it: what was answered 200 is counted, and once."""

import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest

from harness import App, Server, run, start_server, wait_for
from stage import family, signal_all
from tallycast import embedded

MESSAGES = 100_000
POSTERS = 4


def is_postgres(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.startswith("postgres")
    except OSError:
        return False


def is_worker(pid: int) -> bool:
    """Whether a process is one that sends campaigns."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"\0worker\0")
    except OSError:
        return False


def lives(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def age(pid: int) -> float:
    """Seconds since a process was started."""
    try:
        started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


@contextmanager
def joined(data_dir: Path) -> Iterator[str]:
    """The URL of the PostgreSQL that `serve` runs."""
    server = embedded.find(data_dir)
    assert server is not None
    try:
        yield server.url
    finally:
        server.stop()


@dataclass
class Storm:
    """Posters that never stop, and a server that is killed meanwhile.

    Each receipt is for a message of its own; a storm that outlasts the messages goes on with duplicates.
    """

    data_dir: Path
    server: Server
    app: App
    channel_id: str
    messages: int
    acknowledged: list[str] = field(default_factory=list)
    ids: "itertools.count[int]" = field(default_factory=itertools.count)
    over: threading.Event = field(default_factory=threading.Event)
    odd: list[str] = field(default_factory=list)

    def post(self) -> None:
        url = f"{self.server.url}/webhooks/generic/{self.channel_id}"
        with httpx.Client(timeout=20) as client:
            while not self.over.is_set():
                name = f"s{next(self.ids) % self.messages}"
                body = {"receipts": [{"messageID": name, "status": "delivered", "timestamp": 1_700_000_000}]}
                try:
                    answer = client.post(url, json=body)
                except httpx.HTTPError:
                    self.over.wait(0.02)  # nobody listens: not a busy loop
                    continue
                if answer.status_code == 200:
                    self.acknowledged.append(name)
                elif answer.status_code != 503:
                    self.odd.append(f"{answer.status_code} {answer.text}")

    def processes(self) -> list[int]:
        """Of `serve`, parent first, without its PostgreSQL."""
        parent, *others = family(self.server.process.pid)
        return [parent, *(pid for pid in others if not is_postgres(pid))]

    def servers(self) -> list[int]:
        """Of these, the ones that answer requests."""
        return [pid for pid in self.processes()[1:] if not is_worker(pid)]

    def postgres(self) -> list[int]:
        """Of PostgreSQL, the postmaster first."""
        lines = (self.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()
        return family(int(lines[0]))

    def restart(self) -> None:
        began = time.monotonic()
        self.server = start_server(self.data_dir, "--workers", "2", port=self.server.port)
        assert time.monotonic() - began < 30

    def until_acknowledged(self, more: int) -> None:
        wanted = len(self.acknowledged) + more
        wait_for(lambda: len(self.acknowledged) >= wanted, 60)

    # What a round may do.

    def kill_serve(self) -> None:
        """All processes of `serve`; the left-over PostgreSQL is taken over."""
        postmaster = self.postgres()[0]
        signal_all(self.processes(), signal.SIGKILL)
        self.server.process.wait(30)
        self.restart()
        assert self.postgres()[0] == postmaster

    def kill_parent(self) -> None:
        """Its parent alone: the server processes must not stay and keep the port."""
        _, *others = self.processes()
        assert len(others) >= 2
        self.server.kill()
        wait_for(lambda: not any(lives(pid) for pid in others), 15)
        self.restart()

    def kill_worker(self) -> None:
        """One server process: another takes its place. (One that dies twice in 5.5 seconds ends the server.)"""
        old = wait_for(lambda: [pid for pid in self.servers() if age(pid) > 6])
        os.kill(old[0], signal.SIGKILL)
        wait_for(lambda: not lives(old[0]) and len([pid for pid in self.servers() if lives(pid)]) == 2)

    def kill_postmaster(self) -> None:
        """PostgreSQL as a whole; while it is away receipts go into the spool, and any command starts it again."""
        before = self.postgres()
        os.kill(before[0], signal.SIGKILL)
        self.until_acknowledged(20)
        run("app", "list", *self.server.storage)
        assert self.postgres()[0] != before[0]

    def kill_backend(self) -> None:
        """One session of PostgreSQL, which makes it end all others and recover by itself."""
        with joined(self.data_dir) as url, psycopg.connect(url) as connection:
            connection.autocommit = True
            query = (
                "select pid from pg_stat_activity where application_name = 'tallycast' and state is not null"
            )
            pids = wait_for(lambda: connection.execute(query).fetchall())
        signal_all([random.choice(pids)[0]], signal.SIGKILL)


ROUNDS: dict[str, Callable[[Storm], None]] = {
    "serve": Storm.kill_serve,
    "parent": Storm.kill_parent,
    "worker": Storm.kill_worker,
    "postmaster": Storm.kill_postmaster,
    "backend": Storm.kill_backend,
}


def weather(data_dir: Path, client: httpx.Client, rounds: list[str], messages: int) -> None:
    server = start_server(data_dir, "--workers", "2")
    app = new_app(server, client)
    channel_id = app.add_channel()
    campaign_id = app.record(channel_id, [])
    lines = "".join(f'{{"recipient":"+852{60_000_000 + n}","messageID":"s{n}"}}\n' for n in range(messages))
    made = app.result(
        "POST", f"/sent-campaigns/{campaign_id}/messages", content=lines, timeout=120,
        headers={"Content-Type": "application/x-ndjson"},
    )  # fmt: skip
    assert (made["accepted"], made["rejected"]) == (messages, [])
    storm = Storm(data_dir, server, app, channel_id, messages)
    posters = [threading.Thread(target=storm.post) for _ in range(POSTERS)]
    for poster in posters:
        poster.start()
    try:
        for name in rounds:
            storm.until_acknowledged(40)
            ROUNDS[name](storm)
        storm.until_acknowledged(40)
    except BaseException:
        clear_up(storm)
        raise
    finally:
        storm.over.set()
        for poster in posters:
            poster.join()
    try:
        check(storm, campaign_id, messages)
    finally:
        clear_up(storm)


def clear_up(storm: Storm) -> None:
    """Leave no process behind, also when the test failed."""
    if storm.server.process.poll() is None:
        signal_all(storm.processes(), signal.SIGKILL)
        storm.server.process.wait(30)
        with joined(storm.data_dir):
            pass  # the last user stops the database


def new_app(server: Server, client: httpx.Client) -> App:
    made = json.loads(server.run("app", "create", "--name", "Storm", "--json"))
    return App(server.url, made["appID"], made["token"], client)


def check(storm: Storm, campaign_id: str, messages: int) -> None:
    assert storm.odd == []
    spool = storm.data_dir / "spool"
    wait_for(lambda: not spool.exists() or not list(spool.iterdir()), 60)
    with joined(storm.data_dir) as url, psycopg.connect(url) as connection:
        query = "select message_id, delivered_at, delivered_at = to_timestamp(1700000000) from messages where app_id = %s"
        rows = connection.execute(query, [storm.app.app_id]).fetchall()
    delivered = {name for name, at, is_right in rows if at is not None}
    assert set(storm.acknowledged) - delivered == set()
    assert all(is_right for _, at, is_right in rows if at is not None)
    assert len(delivered) <= next(storm.ids)
    # A pool may still have connections of before: a read that gets one is answered 503.
    wait_for(lambda: all(storm.app.request("GET", "/receipts/parked").is_success for _ in range(20)))
    counted = storm.app.totals(campaign_id)
    assert (counted["totalRecipients"], counted["delivered"]) == (messages, len(delivered))
    assert storm.server.audit()["drift"] == 0
    assert storm.app.result("GET", "/receipts/parked") == []
    family_before_stop = storm.processes() + storm.postgres()
    assert storm.server.stop() == 0
    assert [pid for pid in family_before_stop if lives(pid)] == []


@pytest.mark.storm
@pytest.mark.parametrize("kind", sorted(ROUNDS))
def test_twenty_kills_in_a_storm_of_receipts_lose_and_double_none(
    kind: str, tmp_path: Path, client: httpx.Client
) -> None:
    weather(tmp_path, client, [kind] * 20, MESSAGES)


def test_two_kills_in_a_storm_of_receipts_lose_and_double_none(tmp_path: Path, client: httpx.Client) -> None:
    weather(tmp_path, client, ["serve", "postmaster"], 12_000)
