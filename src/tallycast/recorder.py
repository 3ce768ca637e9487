"""The recorder of one channel: writes down what became of claims, whatever has come while it wrote before.

Only this process knows these answers, so what the database does not take now is tried again until it does.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg

from tallycast import channels, db, handovers, optouts, stages, trials
from tallycast.channels import Channel
from tallycast.errors import Problem
from tallycast.handovers import Desk, Results
from tallycast.trials import Trial

log = logging.getLogger("tallycast.recorder")
ACTOR = "tallycast"
_AWAY_SECONDS = 0.5
_SETTLE_SECONDS = 60.0


class Pause(NamedTuple):
    """A campaign, or with None all that go over the channel, and what a person is told."""

    campaign_id: int | None
    reason: str


class Verdict(NamedTuple):
    """What became of a test message: `accepted`, `refused` or `unknown`."""

    trial: Trial
    outcome: str
    message_id: str | None
    reason: str


@dataclass(slots=True)
class Answered:
    """What has been answered and is not recorded yet. `refusals`: (recipient, code) of who wants no messages."""

    results: Results = field(default_factory=Results)
    refusals: list[tuple[str, str]] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def is_empty(self) -> bool:
        return not (self.results.count_claims() or self.refusals or self.pauses or self.verdicts)


class Recorder:
    def __init__(self, pool: db.Pool, desk: Desk, channel: Channel) -> None:
        self.answered = Answered()
        self.held = 0  # claims that are not recorded yet
        self._pool = pool
        self._desk = desk
        self._channel = channel
        self._news = asyncio.Event()
        self._is_closing = False
        self._extra = {"app": desk.app_id, "channel": channel.channel_id}
        self._task = asyncio.create_task(self._record_all())

    def notify(self) -> None:
        """Something was added to `answered`."""
        self._news.set()

    def add(self, results: Results) -> None:
        self.answered.results.add(results)
        self._news.set()

    async def close(self) -> None:
        """Wait for the last record: what is not recorded is unknown for ever."""
        self._is_closing = True
        self._news.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._task, _SETTLE_SECONDS)

    async def _record_all(self) -> None:
        while not (self._is_closing and self.answered.is_empty()):
            await self._news.wait()
            self._news.clear()
            while not self.answered.is_empty():
                answered, self.answered = self.answered, Answered()
                while not await self._record(answered):
                    await self._wait_for_database()

    async def _wait_for_database(self) -> None:
        await asyncio.sleep(_AWAY_SECONDS)

    async def _record(self, answered: Answered) -> bool:
        """Whether all is durable; what is, is taken out of `answered`."""
        try:
            async with self._pool.connection() as connection:
                await self._record_results(connection, answered.results)
                self.held -= answered.results.count_claims()
                answered.results = Results()
                await self._record_rest(connection, answered)
        except db.AWAY as error:
            log.warning("answers wait for the database: %s", error, extra=self._extra)
            return False
        return True

    async def _record_results(self, connection: db.Connection, results: Results) -> None:
        """All in one commit; where the database refuses that, one by one: one odd answer costs no other one."""
        try:
            await db.retry_conflicts(lambda: handovers.record(connection, self._desk, results))
        except db.AWAY:
            raise
        except psycopg.Error:
            if results.count_claims() == 1:  # its claim stays, and turns unknown
                log.exception("an answer cannot be recorded: %s", results, extra=self._extra)
                return
            for single in results.singles():
                await self._record_results(connection, single)

    async def _record_rest(self, connection: db.Connection, answered: Answered) -> None:
        for recipient, code in answered.refusals:
            await optouts.learn_refusal(
                connection, self._desk.app_id, self._channel.type, recipient, code, "refused when it was sent"
            )
        for verdict in answered.verdicts:
            await trials.answer(connection, self._desk, *verdict)
        for pause in answered.pauses:
            await self._record_pause(connection, pause)

    async def _record_pause(self, connection: db.Connection, pause: Pause) -> None:
        log.warning("paused: %s", pause.reason, extra=self._extra)
        campaign_ids = [pause.campaign_id] if pause.campaign_id is not None else []
        if pause.campaign_id is None:
            await channels.pause(connection, self._desk.app_id, self._desk.channel_number, pause.reason)
            sendings = await handovers.list_sending(connection, self._desk)
            campaign_ids = [one.campaign_id for one in sendings if one.is_own]
        for campaign_id in campaign_ids:
            with suppress(Problem):  # a person was quicker
                async with connection.transaction():
                    await stages.move(
                        connection, self._desk.app_id, campaign_id, "pause", ACTOR, pause.reason
                    )
