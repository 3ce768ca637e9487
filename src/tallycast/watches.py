"""Watches: a campaign's figures as they move, for whoever looks. One look a second, however many look from a process."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta

from tallycast import db, reports
from tallycast.errors import NotFound
from tallycast.summaries import Campaign

log = logging.getLogger("tallycast.watches")
LOOK_SECONDS = 1.0
# A viewer hears something at least so often: a connection that nobody holds any more is found out by it.
BEAT_SECONDS = 15.0
# Reads and clicks come for days; who looks at a page that does not move for so long can ask for it again.
_REST = timedelta(minutes=2)
_SOON = timedelta(minutes=10)


def is_moving(campaign: Campaign, now: datetime | None = None) -> bool:
    """Whether its figures may change while somebody looks: it is being sent, or soon will be, or has just changed."""
    now = now or datetime.now(UTC)
    if campaign.stage == "scheduled" and campaign.scheduled_at is not None:
        return campaign.scheduled_at - now < _SOON
    return campaign.stage == "sending" or (campaign.sent > 0 and now - campaign.changed_at < _REST)


class _Watch:
    """What the viewers of one campaign share. `latest` is None until the first look."""

    def __init__(self, connect: db.Connect, app_id: str, campaign_id: int) -> None:
        self.latest: Campaign | None = None
        self.is_over = False
        self.viewers = 0
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._look_on(connect, app_id, campaign_id))

    async def _look_on(self, connect: db.Connect, app_id: str, campaign_id: int) -> None:
        while not self.is_over:
            try:
                async with connect() as connection:
                    found = await reports.find_sent(connection, app_id, campaign_id)
                if found != self.latest:
                    self.latest = found
                    self._tell()
            except NotFound:
                self.end()
            except db.AWAY as error:
                log.debug("the database is away: %s", error)
            except Exception:
                log.exception("a campaign cannot be looked at, it is tried again", extra={"app": app_id})
            await asyncio.sleep(LOOK_SECONDS)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def wait(self) -> None:
        """For the next change; no longer than a viewer may wait."""
        news = self._news
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BEAT_SECONDS):
                await news.wait()

    def end(self) -> None:
        self.is_over = True
        self._tell()

    def stop(self) -> None:
        self._task.cancel()


class Watches:
    """The campaigns that somebody looks at, in this process."""

    def __init__(self, connect: db.Connect) -> None:
        self._connect = connect
        self._watches: dict[tuple[str, int], _Watch] = {}
        self._is_closed = False

    async def follow(self, app_id: str, campaign_id: int) -> AsyncGenerator[Campaign | None, None]:
        """The campaign as it is, and again whenever it has changed; None now and then while it has not.

        It ends when nothing moves any more, or the server does.
        """
        if self._is_closed:
            return
        key = (app_id, campaign_id)
        watch = self._watches.get(key) or self._watches.setdefault(key, _Watch(self._connect, *key))
        watch.viewers += 1
        seen: Campaign | None = None
        try:
            while not watch.is_over:
                if watch.latest == seen:
                    await watch.wait()
                if watch.latest is not None and watch.latest != seen:
                    seen = watch.latest
                    yield seen
                elif not watch.is_over:
                    yield None
                if seen is not None and not is_moving(seen):
                    return
        finally:
            watch.viewers -= 1
            if not watch.viewers:
                self._watches.pop(key, None)
                watch.stop()

    def close(self) -> None:
        """Let everybody go."""
        self._is_closed = True
        for watch in self._watches.values():
            watch.end()
