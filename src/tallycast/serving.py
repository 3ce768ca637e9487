"""Running: the database, the migrations, the server processes, and how they stop."""

import contextlib
import logging
import os
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from granian.constants import Interfaces, Loops
from granian.log import LogLevels
from granian.server.mp import MPServer
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from tallycast import embedded, limiter, migrations
from tallycast.background import Background
from tallycast.config import URGENT_CONNECTIONS, BadSetting, Settings
from tallycast.keys import load_cipher

log = logging.getLogger("tallycast.serving")
STOPS = (signal.SIGTERM, signal.SIGINT)
_STOP_SECONDS = 30
_BACKLOG = 4096


class _Server(MPServer):
    """Starts its threads after the server processes were forked: what a thread holds at a fork stays held in them."""

    threads: list[threading.Thread]

    def startup(self, spawn_target: Any, target_loader: Any) -> None:
        super().startup(spawn_target, target_loader)  # type: ignore[no-untyped-call]
        for thread in self.threads:
            thread.start()


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[str]:
    """The URL of the database: the given one, else of the embedded server, started or joined for the while."""
    if settings.database_url:
        try:
            conninfo_to_dict(settings.database_url)
        except ProgrammingError:  # its text may hold the URL's password
            raise BadSetting("database-url must be like postgresql://user@host:5432/name") from None
        yield settings.database_url
        return
    processes = settings.workers + _count_background(settings)
    connections = processes * (settings.database_connections + URGENT_CONNECTIONS) + 40
    server = embedded.start(settings.data_dir, {"max_connections": str(max(100, connections))})
    try:
        yield server.url
    finally:
        server.stop()


def serve(
    settings: Settings,
    prepare: Callable[[str], None] | None = None,
    when_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; what has arrived by then is finished.

    `prepare` gets the migrated database's URL before the server starts; `when_ready` gets the server's URL, in a
    thread that ends with the process.
    """
    _check_port(settings)
    with database(settings) as url:
        load_cipher(settings.encryption_key, settings.data_dir)  # a bad key is told here, not by each process
        migrations.migrate(url)
        if prepare is not None:
            prepare(url)
        limiter.clear(settings.data_dir)
        _prepare_metrics(settings.data_dir)
        server = _Server(
            "tallycast",
            address=settings.host,
            port=settings.port,
            interface=Interfaces.ASGI,
            workers=settings.workers,
            loop=Loops.uvloop,
            websockets=False,
            backlog=_BACKLOG,
            backpressure=_BACKLOG,
            respawn_failed_workers=True,
            respawn_interval=0.1,
            workers_kill_timeout=_STOP_SECONDS,
            log_level=LogLevels.warning,
        )
        background = Background(settings, url, _count_background(settings))
        announcer = threading.Thread(target=_announce, args=[settings, when_ready], daemon=True)
        server.threads = [announcer, background.thread]
        try:
            server.serve(target_loader=partial(_load, settings, url), wrap_loader=False)
        finally:
            background.stop()


def _count_background(settings: Settings) -> int:
    return settings.workers if settings.background_workers is None else settings.background_workers


def _prepare_metrics(data_dir: Path) -> None:
    """Give the metrics of all server processes one empty folder."""
    folder = data_dir / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def _load(settings: Settings, url: str) -> Any:
    """In the server process: the application, imported here so that the parent stays small."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # until it can hear them, or it would not stop
    from tallycast.web.server import make_app  # noqa: PLC0415

    return make_app(settings, url)


def _check_port(settings: Settings) -> None:
    """Say at once that the port is taken, before a database is started for nothing."""
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise BadSetting(
                f"cannot listen on {settings.host} port {settings.port}: {error.strerror}"
            ) from None


def _announce(settings: Settings, when_ready: Callable[[str], None] | None) -> None:
    """Print one line when the server answers."""
    url = settings.local_url
    for _ in range(6000):
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"{url}/health/ready", timeout=2)  # noqa: S310 - our own URL
            print(f"tallycast is ready: {url}", flush=True)  # noqa: T201 - the line that scripts wait for
            break
        time.sleep(0.01)
    else:
        log.error("the server does not answer at %s", url)
        return
    if when_ready is not None:
        when_ready(url)
