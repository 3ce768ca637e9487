"""Where the storm happens: a database, a simulator of providers, and `serve` with its workers, proxies between all."""

import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
from psycopg.conninfo import conninfo_to_dict

from faults import points
from faults.proxy import Mode, Proxy, to_port, to_socket
from harness import TALLYCAST, App, run, wait_for
from stage import family, signal_all
from tallycast import embedded, migrations
from test_sending_storm import Simulator
from test_storm import age, is_worker, lives

_LAUNCH = Path(__file__).parent / "launch"
# Few connections, so that they can be used up; little WAL, so that it goes on a small disk.
POSTGRES = {
    "max_connections": "80",
    "shared_buffers": "64MB",
    "max_wal_size": "96MB",
    "min_wal_size": "32MB",
    "log_min_messages": "panic",
}
# As bad as providers get, but soon over.
PROFILE = {
    "base": "worst",
    "hungSeconds": 3,
    "webhookAttempts": 1000,
    "webhookBackoffSeconds": [0.2, 1.0],
    "deliveredSeconds": [0, 1],
    "readSeconds": [0, 1],
    "repeatedSeconds": [0, 1],
    "replySeconds": [0, 1],
}


def quiet_port() -> int:
    """A free port below those that the system gives out by itself: nobody takes it while its server is down."""
    while True:
        port = random.randrange(12_000, 30_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Place:
    """`serve` is started again whenever it ends, as a service manager does."""

    folder: Path
    database: embedded.Server
    simulator: Simulator
    proxies: dict[str, Proxy]
    port: int = field(default_factory=quiet_port)
    process: "subprocess.Popen[bytes] | None" = None
    claims: list[embedded.Server] = field(default_factory=list)
    starts: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _keeper: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.armed.mkdir(exist_ok=True)
        self.claims.append(self.database)
        self._keeper = threading.Thread(target=self._keep)

    @property
    def armed(self) -> Path:
        return self.folder / "armed"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.proxies['front'].port}"

    @property
    def log(self) -> str:
        return (self.folder / "serve.log").read_text(errors="replace")

    def environ(self) -> dict[str, str]:
        """What puts the points of death and the clock into a process of tallycast."""
        path = os.pathsep.join([str(_LAUNCH), *filter(None, [os.environ.get("PYTHONPATH")])])
        return {**os.environ, "PYTHONPATH": path, points.FOLDER: str(self.armed)}

    def _keep(self) -> None:
        while not self._over.wait(0.1):
            if self.process is None or self.process.poll() is not None:
                self._start()

    def _start(self) -> None:
        def through(name: str) -> str:
            port = self.proxies[name].port
            return f"postgresql://tallycast@127.0.0.1:{port}/tallycast?sslmode=disable&gssencmode=disable"

        options = [
            "--port", str(self.port), "--data-dir", str(self.data_dir), "--database-url", through("server database"),
            "--workers", "2", "--background-workers", "2", "--private-hosts", "127.0.0.1",
            "--public-url", self.url, "--log-level", "warning",
        ]  # fmt: skip
        environ = {**self.environ(), points.WORKER_URL: through("worker database")}
        with (self.folder / "serve.log").open("ab") as log:
            command = [*TALLYCAST, "serve", *options]
            self.process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        self.starts += 1

    def start(self) -> None:
        self._keeper.start()
        self.until_ready()

    def until_ready(self) -> None:
        wait_for(self._is_ready, 60)

    def _is_ready(self) -> bool:
        with suppress(httpx.HTTPError):
            return self.simulator.client.get(f"{self.url}/health/ready", timeout=3).is_success
        return False

    def new_app(self, client: httpx.Client) -> App:
        made = json.loads(self.run("app", "create", "--name", "Storm", "--json"))
        return App(self.url, made["appID"], made["token"], client)

    def run(self, *arguments: str, status: int = 0) -> str:
        """A command, straight to the database."""
        storage = ("--data-dir", str(self.data_dir), "--database-url", self.database.url)
        return run(*arguments, *storage, status=status)

    # Processes.

    def processes(self) -> list[int]:
        """Of `serve`, parent first."""
        return family(self.process.pid) if self.process is not None else []

    def servers(self) -> list[int]:
        """Those that answer requests, and have for a while: one that dies twice in 5.5 seconds ends `serve`."""
        return [pid for pid in self.processes()[1:] if not is_worker(pid) and lives(pid) and age(pid) > 6]

    def workers(self) -> list[int]:
        return [pid for pid in self.processes()[1:] if is_worker(pid) and lives(pid)]

    def postgres(self) -> list[int]:
        """The postmaster first; nothing while there is none."""
        with suppress(OSError, IndexError, ValueError):
            home = Path(self.postgres_home)
            return family(int((home / "postmaster.pid").read_text().splitlines()[0]))
        return []

    @property
    def postgres_home(self) -> Path:
        return self.folder / "database" / "postgres"

    def revive_postgres(self) -> None:
        """Start the database where it has ended; PostgreSQL may still be recovering from the last fault."""
        self.claims.append(embedded.start(self.folder / "database", POSTGRES))

    def step_clock(self, seconds: int) -> None:
        draft = self.armed / "clock.new"
        draft.write_text(str(seconds))
        draft.rename(self.armed / "clock")

    def calm(self) -> None:
        """Take all faults away."""
        for proxy in self.proxies.values():
            if proxy.mode is not Mode.PASS:
                proxy.set(Mode.PASS)
        for name in points.POINTS:
            (self.armed / name).unlink(missing_ok=True)
        self.step_clock(0)

    def stop(self) -> int:
        """Ask `serve` to stop; its status."""
        self._over.set()
        self._keeper.join()
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(90)

    def clear_up(self) -> None:
        """Leave no process behind, also when a test failed."""
        self._over.set()
        if self._keeper.is_alive():
            self._keeper.join()
        signal_all(self.processes(), 9)
        if self.process is not None:
            self.process.wait(30)
        signal_all(self.postgres(), 18)
        for claim in self.claims:
            claim.stop()


@contextmanager
def start_simulator(folder: Path, client: httpx.Client) -> Iterator[Simulator]:
    """The providers, which outlive everything: their ledger says who got what."""
    port, smpp_port = quiet_port(), quiet_port()
    profile, log = folder / "profile.json", folder / "simulator.log"
    profile.write_text(json.dumps(PROFILE))
    options = ["--port", str(port), "--smpp-port", str(smpp_port), "--profile", str(profile), "--seed", "7"]
    with log.open("wb") as output:
        process = subprocess.Popen([*TALLYCAST, "simulate", *options], stdout=output, stderr=output)
    try:
        wait_for(lambda: b"is ready" in log.read_bytes())
        yield Simulator(f"http://127.0.0.1:{port}", smpp_port, client)
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def make_place(folder: Path, client: httpx.Client) -> Iterator[Place]:
    database = embedded.start(folder / "database", POSTGRES)
    migrations.migrate(database.url)
    host = str(conninfo_to_dict(database.url)["host"])
    with start_simulator(folder, client) as simulator:
        ways = {name: to_socket(f"{host}/.s.PGSQL.5432") for name in ("server database", "worker database")}
        ways |= {
            "provider": to_port(int(simulator.url.rpartition(":")[2])),
            "smsc": to_port(simulator.smpp_port),
        }
        place = Place(
            folder, database, simulator, {name: Proxy(connect).start() for name, connect in ways.items()}
        )
        place.proxies["front"] = Proxy(to_port(place.port)).start()
        try:
            place.start()
            yield place
        except BaseException:
            sys.stderr.write(f"{place.log[-1500:]}\n")
            raise
        finally:
            place.clear_up()
            for proxy in place.proxies.values():
                proxy.stop()


def hold_for(seconds: float) -> None:
    """A fault lasts; there is no condition to wait for."""
    time.sleep(seconds)


def rows_of(place: Place, query: str, *params: Any) -> list[tuple[Any, ...]]:
    """Straight from the database."""
    with psycopg.connect(place.database.url) as connection:
        return connection.execute(query.encode(), params).fetchall()
