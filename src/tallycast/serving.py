"""Serving: the migrations, the server processes and workers, and how they stop."""

import asyncio
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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from granian.constants import Interfaces, Loops
from granian.log import LogLevels
from granian.server.mp import MPServer

from tallycast import databases, db, limiter, migrations
from tallycast.background import Background
from tallycast.config import BadSetting, Settings
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
    with databases.reach(settings) as url:
        load_cipher(settings.encryption_key, settings.data_dir)  # a bad key is told here, not by each process
        migrations.migrate(url)
        if prepare is not None:
            prepare(url)
        limiter.clear(settings.data_dir)
        welcome = asyncio.run(_invite(settings, url))
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
        background = Background(settings, url, settings.background_count)
        announcer = threading.Thread(target=_announce, args=[settings, welcome, when_ready], daemon=True)
        server.threads = [announcer, background.thread]
        try:
            server.serve(target_loader=partial(_load, settings, url), wrap_loader=False)
        finally:
            background.stop()


async def _invite(settings: Settings, url: str) -> str | None:
    """The one-time link that makes the first owner, while there is no staff."""
    from tallycast import invitations  # noqa: PLC0415 - commands need not load it

    async with db.connect(url) as connection:
        token = await invitations.invite_first_owner(connection)
    return None if token is None else invitations.write_url(settings.base_url, token)


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


def _announce(settings: Settings, welcome: str | None, when_ready: Callable[[str], None] | None) -> None:
    """Print one line when the server answers, and below it how the first person signs in."""
    url = settings.local_url
    for _ in range(6000):
        with contextlib.suppress(OSError, urllib.error.URLError):
            urllib.request.urlopen(f"{url}/health/ready", timeout=2)  # noqa: S310 - our own URL  # nosec B310 - our own URL
            print(f"tallycast is ready: {url}", flush=True)  # noqa: T201 - the line that scripts wait for
            if welcome is not None:
                text = f"nobody can sign in yet; within 24 hours the first owner can, once:\n  {welcome}"
                print(text, flush=True)  # noqa: T201 - for whoever started it, not for the log
            break
        time.sleep(0.01)
    else:
        log.error("the server does not answer at %s", url)
        return
    if when_ready is not None:
        when_ready(url)
