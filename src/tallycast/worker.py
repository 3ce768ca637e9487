"""The worker: finds what is due in every app, and does it while it holds the lease for it.

Any number of workers, on any number of machines, share the work through PostgreSQL: each looks twice a second at the
apps that are woken, and takes what nobody else has a lease on. What a worker that ended has left is taken at once on the
same machine, and ten seconds later on another.
"""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg

from tallycast import (
    audience,
    channels,
    db,
    deliveries,
    fallback,
    handovers,
    leases,
    notices,
    policies,
    readiness,
    retention,
    sendings,
    stages,
    trials,
)
from tallycast.calls import make_client
from tallycast.channels import Channel
from tallycast.config import URGENT_CONNECTIONS, Settings
from tallycast.errors import NotFound, Problem, ServiceUnavailable, Unprocessable
from tallycast.hearings import WRITE_SECONDS
from tallycast.intake import Intake
from tallycast.keyholders import LOOK_SECONDS, Keyholder
from tallycast.keys import BadKey, load_cipher
from tallycast.recorder import ACTOR
from tallycast.sender import Means, Sender
from tallycast.spool import Spool
from tallycast.sql import load
from tallycast.telemetry import set_up_logging

log = logging.getLogger("tallycast.worker")
_SQL = load("worker")
_LOOK_SECONDS = 0.5
_RECOVER_SECONDS = 0.5
_CLOSING_SECONDS = 0.5
_MAX_JOBS = 200
# A job that failed is not tried again at once.
_REST_SECONDS = 5.0
RESTORED = (
    "The database was restored from a backup: whom the campaign reached after the backup is not known here. "
    "Find out who has it, then resume it with acceptRisk, or cancel it"
)
Job = Callable[[Callable[[], bool]], Coroutine[Any, Any, None]]


class Woken(NamedTuple):
    app_id: str
    woken_at: datetime


class AtWork(NamedTuple):
    campaign_id: int
    stage: str
    scheduled_at: datetime | None
    active_at: datetime | None
    home: str
    fallback_channel: int | None
    is_orphan: bool


class Worker:
    def __init__(self, means: Means) -> None:
        self._means = means
        self._jobs: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._held: set[tuple[str, str]] = set()
        self._is_stopping = False
        self._rests: dict[tuple[str, str], float] = {}
        self._home = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`; then finish what is on its way, and give the leases back."""
        keyholder = Keyholder(self._means.pool.connection, self._means.cipher)
        tasks = [
            asyncio.create_task(db.repeat(self._look, _LOOK_SECONDS)),
            asyncio.create_task(db.repeat(self._renew, leases.RENEW_SECONDS)),
            asyncio.create_task(db.repeat(self._means.intake.recover, _RECOVER_SECONDS)),
            asyncio.create_task(db.repeat(self._means.intake.hearings.write, WRITE_SECONDS)),
            asyncio.create_task(db.repeat(keyholder.tell, LOOK_SECONDS)),
        ]
        await stop.wait()
        self._is_stopping = True
        tasks[0].cancel()
        while self._jobs:
            await asyncio.wait(self._jobs.values())
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(*db.AWAY):
            await keyholder.leave()

    # Looking.

    async def _look(self) -> None:
        async with self._means.pool.connection() as connection:
            self._home = await db.identity(connection)
            rows = await db.fetch_rows(connection, _SQL["list_woken"], {})
        for app_id, woken_at in rows:
            async with self._means.pool.connection() as connection:
                try:
                    await self._look_at(connection, Woken(app_id, woken_at))
                except db.AWAY:
                    raise
                except Exception:  # one app's trouble is not the others'
                    log.exception("an app cannot be looked after", extra={"app": app_id})

    async def _look_at(self, connection: db.Connection, woken: Woken) -> None:
        """Start what is due in an app; let it sleep until the next schedule when there is nothing."""
        key = {"app_id": woken.app_id}
        campaigns = [AtWork(*row) for row in await db.fetch_rows(connection, _SQL["list_at_work"], key)]
        waiting = [await self._look_at_campaign(connection, woken.app_id, one) for one in campaigns]
        imports = await audience.list_waiting(connection, woken.app_id)
        for import_id in imports:
            await self._take(
                connection, woken.app_id, f"import:{import_id}", self._import_job(woken.app_id, import_id)
            )
        has_channels = await self._look_at_channels(connection, woken.app_id)
        waiting += await self._look_at_notices(connection, woken.app_id)
        waiting += await self._look_at_retention(connection, woken.app_id)
        if not (imports or has_channels or None in waiting):
            until = min((moment for moment in waiting if moment), default=None)
            params = {**key, "seen": woken.woken_at, "until": until}
            await db.execute(connection, _SQL["rest"], params)

    async def _look_at_notices(self, connection: db.Connection, app_id: str) -> list[datetime | None]:
        """Tell the app's endpoints what is due; when to look again, None for soon, nothing for never."""
        moment = await notices.find_next(connection, app_id)
        if moment is None or moment > datetime.now(UTC):
            return [] if moment is None else [moment]
        await self._take(connection, app_id, "notices", self._notices_job(app_id))
        return [None]

    async def _look_at_retention(self, connection: db.Connection, app_id: str) -> list[datetime | None]:
        """The same for what the app's retention asks for."""
        moment = await retention.find_next(connection, app_id)
        if moment is None or moment > datetime.now(UTC):
            return [] if moment is None else [moment]
        await self._take(connection, app_id, "retention", self._retention_job(app_id))
        return [None]

    async def _look_at_channels(self, connection: db.Connection, app_id: str) -> bool:
        """Take the channels that have something to do; whether there are any."""
        key = {"app_id": app_id}
        params = {**key, "trial_seconds": trials.SECONDS}
        busy = {one for (one,) in await db.fetch_rows(connection, _SQL["list_busy_channels"], params)}
        smpp = {one for (one,) in await db.fetch_rows(connection, _SQL["list_smpp_channels"], key)}
        found = False
        for channel_id in busy | smpp:
            with contextlib.suppress(NotFound):
                channel = await channels.find(connection, app_id, channel_id)
                if channel_id in busy or self._can_bind(channel):
                    found = True
                    name = f"channel:{channel.channel_number}"
                    await self._take(connection, app_id, name, self._sending_job(channel))
        return found

    def _can_bind(self, channel: Channel) -> bool:
        """A channel whose receipts come from a gateway has no address to bind to."""
        try:
            credentials = channel.open_secrets(self._means.cipher).credentials
        except BadKey:
            return False
        return not channels.missing_credentials(channel.type, channel.provider, credentials)

    async def _look_at_campaign(self, connection: db.Connection, app_id: str, one: AtWork) -> datetime | None:
        """Start, pause or close a campaign where it is time to; when to look again, None for soon."""
        now = datetime.now(UTC)
        if one.stage == "cancelled":
            await self._take(
                connection, app_id, f"close:{one.campaign_id}", self._closing_job(app_id, one.campaign_id)
            )
            return None
        if one.stage == "scheduled" and one.scheduled_at is not None and one.scheduled_at > now:
            return one.scheduled_at
        reason = await self._find_doubt(connection, app_id, one, now)
        if one.stage == "scheduled" and not reason:
            job = self._starting_job(app_id, one.campaign_id)
            await self._take(connection, app_id, f"start:{one.campaign_id}", job)
        if reason:
            with contextlib.suppress(Problem):  # somebody moved it on
                async with connection.transaction():
                    await stages.move(connection, app_id, one.campaign_id, "pause", ACTOR, reason)
        if one.stage == "sending" and one.fallback_channel is not None and not reason:
            job = self._fallback_job(app_id, one.campaign_id)
            await self._take(connection, app_id, f"fallback:{one.campaign_id}", job)
        return None

    async def _find_doubt(self, connection: db.Connection, app_id: str, one: AtWork, now: datetime) -> str:
        """Why a campaign must not go on by itself: it would be late, or somebody may have had it already."""
        if one.is_orphan:
            return "Its channel, or its fallback's, was deleted. Cancel it, and make the campaign again on another"
        if one.home and self._home and one.home != self._home:
            return RESTORED
        policy = await policies.find_policy(connection, app_id)
        since = one.scheduled_at if one.stage == "scheduled" else one.active_at
        if since is None or not policy.is_late(since, now):
            return ""
        if one.stage == "scheduled":
            return f"It was due at {since:%Y-%m-%d %H:%M} UTC and is not sent late. Schedule it anew, or cancel it"
        return f"Sending stood still since {since:%Y-%m-%d %H:%M} UTC. Resume it, or cancel it"

    # Leases.

    async def _take(self, connection: db.Connection, app_id: str, name: str, job: Job) -> None:
        key = (app_id, name)
        if key in self._jobs or self._is_stopping or len(self._jobs) >= _MAX_JOBS:
            return
        if time.monotonic() < self._rests.get(key, 0):
            return
        if await leases.take(connection, app_id, name, self._means.worker):
            self._held.add(key)
            self._jobs[key] = asyncio.create_task(self._run_job(key, job))

    async def _run_job(self, key: tuple[str, str], job: Job) -> None:
        try:
            await job(lambda: key in self._held and not self._is_stopping)
        except db.AWAY as error:
            log.warning("%s waits for the database: %s", key[1], error, extra={"app": key[0]})
        except Exception:
            log.exception("%s failed, it is tried again", key[1], extra={"app": key[0]})
            self._rests = {one: at for one, at in self._rests.items() if at > time.monotonic()}
            self._rests[key] = time.monotonic() + _REST_SECONDS
        finally:
            del self._jobs[key]
            self._held.discard(key)
            with contextlib.suppress(*db.AWAY, psycopg.Error):
                async with self._means.pool.connection() as connection:
                    await leases.give_back(connection, *key, self._means.worker)

    async def _renew(self) -> None:
        by_app: dict[str, list[str]] = {}
        for app_id, name in self._jobs:
            by_app.setdefault(app_id, []).append(name)
        for app_id, names in by_app.items():
            async with self._means.pool.connection() as connection:
                kept = await leases.renew(connection, app_id, names, self._means.worker)
            self._held -= {(app_id, name) for name in names if name not in kept}

    # Jobs.

    def _sending_job(self, channel: Channel) -> Job:
        async def job(is_held: Callable[[], bool]) -> None:
            await Sender(self._means, channel).run(is_held)

        return job

    def _starting_job(self, app_id: str, campaign_id: int) -> Job:
        async def job(_is_held: Callable[[], bool]) -> None:
            async with self._means.pool.connection() as connection:
                sending = await sendings.find(connection, app_id, campaign_id)
                if not sending.is_channel_deleted:  # BadKey: another worker may have the right key
                    channel = await channels.find(connection, app_id, sending.channel_id)
                    channel.open_secrets(self._means.cipher)
            reason = await self._try_start(app_id, campaign_id)
            if reason:
                async with self._means.pool.connection() as connection, connection.transaction():
                    await stages.move(connection, app_id, campaign_id, "pause", ACTOR, reason)

        return job

    async def _try_start(self, app_id: str, campaign_id: int) -> str:
        """Why a campaign whose moment has come cannot start; empty when it has started."""
        means = self._means
        # Where the provider lists no templates now, they are as it listed them last.
        with contextlib.suppress(ServiceUnavailable):
            hosts = means.settings.private_hosts
            try:
                await readiness.relist(means.pool.connection, means.cipher, hosts, app_id, campaign_id)
            except Unprocessable as problem:
                return f"It could not start: {problem.message}"
        try:
            async with means.pool.connection() as connection, connection.transaction():
                await stages.move(connection, app_id, campaign_id, "start", ACTOR, cipher=means.cipher)
        except Problem as problem:
            return f"It could not start: {problem.message}"
        return ""

    def _import_job(self, app_id: str, import_id: str) -> Job:
        async def job(_is_held: Callable[[], bool]) -> None:
            await audience.run_import(self._means.pool, self._means.cipher, app_id, import_id)

        return job

    def _closing_job(self, app_id: str, campaign_id: int) -> Job:
        async def job(is_held: Callable[[], bool]) -> None:
            key = {"app_id": app_id, "campaign_id": campaign_id}
            while is_held():
                async with self._means.pool.connection() as connection:
                    await handovers.take_over_deleted(connection, app_id, campaign_id)
                    left = await handovers.close_cancelled(connection, app_id, campaign_id)
                    if left == 0:
                        await db.execute(connection, _SQL["close_sending"], key)
                        return
                if left < 0:
                    await asyncio.sleep(_CLOSING_SECONDS)

        return job

    def _notices_job(self, app_id: str) -> Job:
        async def job(is_held: Callable[[], bool]) -> None:
            await deliveries.work(self._means, app_id, is_held)

        return job

    def _retention_job(self, app_id: str) -> Job:
        async def job(is_held: Callable[[], bool]) -> None:
            await retention.work(self._means.pool, self._means.cipher, app_id, is_held)

        return job

    def _fallback_job(self, app_id: str, campaign_id: int) -> Job:
        async def job(is_held: Callable[[], bool]) -> None:
            await fallback.watch(self._means.pool, app_id, campaign_id, is_held)

        return job


@contextlib.asynccontextmanager
async def make_means(settings: Settings, url: str) -> AsyncIterator[Means]:
    pool = db.make_pool(url, settings.database_connections)
    urgent = db.make_pool(url, URGENT_CONNECTIONS)
    cipher = load_cipher(settings.encryption_key, settings.data_dir)
    name = leases.name_process()
    await pool.open(wait=True, timeout=30)
    await urgent.open(wait=True, timeout=30)
    intake = Intake(urgent, Spool(settings.data_dir))
    try:
        async with make_client(settings.private_hosts) as client:
            yield Means(settings, name, pool, cipher, client, intake)
    finally:
        await intake.close()
        await urgent.close()
        await pool.close()


async def work(settings: Settings, url: str, when_ready: Callable[[], None]) -> None:
    """Work until SIGTERM or SIGINT, with the migrated database at `url`."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with make_means(settings, url) as means:
        when_ready()
        await Worker(means).run(stop)


def run(settings: Settings, url: str, when_ready: Callable[[], None]) -> None:
    import uvloop  # noqa: PLC0415 - other commands need not load it

    set_up_logging(settings.log_format, settings.log_level)
    uvloop.run(work(settings, url, when_ready))
