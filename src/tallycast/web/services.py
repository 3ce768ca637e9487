"""What a server process holds while it runs, and the work that it does beside requests."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from litestar import Litestar, Request
from psycopg.errors import QueryCanceled

from tallycast import apps, db, held, idempotency, invitations, notices, receipts, sessions
from tallycast.apps import Tokens
from tallycast.channels import Channels
from tallycast.config import URGENT_CONNECTIONS, Settings
from tallycast.hearings import WRITE_SECONDS
from tallycast.intake import Intake
from tallycast.keyholders import LOOK_SECONDS, Keyholder
from tallycast.keys import Cipher, load_cipher
from tallycast.limiter import Limiter
from tallycast.links import PRELOADED_LINKS, Targets
from tallycast.replicas import Readers
from tallycast.signins import SignIns
from tallycast.spool import Spool
from tallycast.telemetry import ACCESS_LOG, forget_dead_processes
from tallycast.watches import Watches
from tallycast.web.downloads import Slots

log = logging.getLogger("tallycast.services")
_RECOVER_SECONDS = 0.5
_LAST_USE_SECONDS = 10.0
_TIDY_SECONDS = 60.0
# More than an app makes between two times.
_NEW_LINKS = 200


@dataclass(slots=True)
class Services:
    """`operator`: the user of a command who has the application in a process of their own; nobody else can ask it, and
    no token is asked for. None in a server.
    """

    settings: Settings
    url: str
    pool: db.Pool
    urgent: db.Pool
    readers: Readers
    cipher: Cipher
    tokens: Tokens
    channels: Channels
    targets: Targets
    intake: Intake
    limiter: Limiter | None
    sign_ins: SignIns
    watches: Watches
    is_ready: bool = False
    exports: Slots = field(default_factory=Slots)
    operator: str | None = None


def of(request: Request[Any, Any, Any]) -> Services:
    services: Services = request.app.state["services"]
    return services


def make_services(settings: Settings, url: str, operator: str | None = None) -> Services:
    pool = db.make_pool(url, settings.database_connections)
    # Receipts and what authenticates them do not queue behind reports.
    urgent = db.make_pool(url, URGENT_CONNECTIONS)
    cipher = load_cipher(settings.encryption_key, settings.data_dir)
    return Services(
        settings=settings,
        url=url,
        pool=pool,
        urgent=urgent,
        readers=Readers(pool, url, settings.replica_url, settings.database_connections),
        cipher=cipher,
        tokens=Tokens(urgent),
        channels=Channels(urgent, cipher),
        targets=Targets(urgent),
        intake=Intake(urgent, Spool(settings.data_dir)),
        limiter=Limiter(settings.data_dir, settings.rate_limit) if settings.rate_limit else None,
        sign_ins=SignIns(settings.data_dir),
        watches=Watches(pool.connection),
        operator=operator,
    )


@contextlib.asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Open before the first request; at the end finish what has arrived, then close."""
    services: Services = app.state["services"]
    forget_dead_processes()
    await services.pool.open(wait=True, timeout=30)
    await services.urgent.open(wait=True, timeout=30)
    await services.readers.open()
    await learn(services, PRELOADED_LINKS)
    keyholder = Keyholder(services.pool.connection, services.cipher)
    jobs = [
        asyncio.create_task(db.repeat(services.intake.recover, _RECOVER_SECONDS)),
        asyncio.create_task(db.repeat(services.tokens.write_last_uses, _LAST_USE_SECONDS)),
        asyncio.create_task(db.repeat(services.intake.hearings.write, WRITE_SECONDS)),
        asyncio.create_task(db.repeat(lambda: _tidy(services), _TIDY_SECONDS)),
        asyncio.create_task(db.repeat(lambda: learn(services, _NEW_LINKS), _TIDY_SECONDS)),
        asyncio.create_task(db.repeat(keyholder.tell, LOOK_SECONDS)),
    ]
    services.is_ready = True
    try:
        yield
    finally:
        services.is_ready = False
        services.watches.close()
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await services.intake.close()
        with contextlib.suppress(*db.AWAY):
            await services.tokens.write_last_uses()
            await keyholder.leave()
        await services.readers.close()
        await services.urgent.close()
        await services.pool.close()
        ACCESS_LOG.flush()


async def learn(services: Services, links: int) -> None:
    """Learn all channels and so many of each app's latest links, also those that were made at other servers: webhooks
    and redirects go on when the database goes away.
    """
    async with services.pool.connection() as connection:
        known = await apps.list_apps(connection)
    await services.channels.preload([app.app_id for app in known])
    await services.targets.preload(known, links)


async def _tidy(services: Services) -> None:
    """Match what a dead process left parked, and forget old idempotency keys, app by app; and who was signed in."""
    async with services.pool.connection() as connection:
        await sessions.forget_old(connection)
        await invitations.forget_old(connection)
        for app in await apps.list_apps(connection):
            try:
                while await receipts.match_leftovers(connection, app.app_id):
                    pass
                await idempotency.forget_old(connection, app.app_id)
                await held.forget_old(connection, app.app_id)
                await notices.forget_old(connection, app.app_id)
            except QueryCanceled as error:  # one app's time-out is not the others'
                log.warning("tidying took too long: %s", error, extra={"app": app.app_id})
