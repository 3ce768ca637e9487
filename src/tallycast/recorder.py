"""The recorder of one channel: writes down what became of claims, whatever has come while it wrote before.

Only this process knows these answers, so what the database does not take now is tried again until it does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from tallycast import channels, db, handovers, optouts, stages, trials
from tallycast.channels import Channel
from tallycast.errors import Problem
from tallycast.handovers import Desk, Results
from tallycast.trials import Trial

log = logging.getLogger("tallycast.recorder")
Item = TypeVar("Item")
ACTOR = "tallycast"
_AWAY_SECONDS = 0.5
# A worker that is asked to stop is killed before that; its claims turn unknown then.
_SETTLE_SECONDS = 600.0
_STUCK_SECONDS = 5.0


class Pause(NamedTuple):
    """A campaign, or with None all that go over the channel, and what a person is told."""

    campaign_id: int | None
    reason: str


class Verdict(NamedTuple):
    """What became of a test message: `accepted`, `refused` or `unknown`; an accepted SMS has one id per part."""

    trial: Trial
    outcome: str
    message_ids: Sequence[str]
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
        self.held = 0  # claims whose outcome is not durable yet
        self._stuck: list[Results] = []
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
            await self._wait_for_news()
            while not self.answered.is_empty():
                answered, self.answered = self.answered, Answered()
                while not await self._record(answered):
                    await self._wait_for_database()

    async def _wait_for_news(self) -> None:
        """Also wakes up for what could not be recorded before, to try it again."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), _STUCK_SECONDS if self._stuck else None)
        self._news.clear()
        stuck, self._stuck = self._stuck, []
        for results in stuck:
            self.answered.results.add(results)

    async def _wait_for_database(self) -> None:
        await asyncio.sleep(_AWAY_SECONDS)

    async def _record(self, answered: Answered) -> bool:
        """Whether nothing of it is left to do; what is durable is taken out of `answered`."""
        try:
            async with self._pool.connection() as connection:
                results, answered.results = answered.results, Results()
                try:
                    await self._record_results(connection, results)
                except BaseException:
                    answered.results = results
                    raise
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
        except Exception:
            if results.count_claims() == 1:
                log.exception("an answer cannot be recorded yet: %s", results, extra=self._extra)
                self._stuck.append(results)
                return
            for single in results.singles():
                await self._record_results(connection, single)
        else:
            self.held -= results.count_claims()

    async def _record_rest(self, connection: db.Connection, answered: Answered) -> None:
        await self._write_each(connection, answered.refusals, self._learn_refusal)
        await self._write_each(connection, answered.verdicts, self._answer_trial)
        await self._write_each(connection, answered.pauses, self._record_pause)

    async def _write_each(
        self,
        connection: db.Connection,
        rows: list[Item],
        write: Callable[[db.Connection, Item], Awaitable[None]],
    ) -> None:
        while rows:
            try:
                await write(connection, rows[0])
            except db.AWAY:
                raise
            except Exception:  # it must not keep what comes after it
                log.exception("cannot be recorded: %s", rows[0], extra=self._extra)
            rows.pop(0)

    async def _learn_refusal(self, connection: db.Connection, refusal: tuple[str, str]) -> None:
        recipient, code = refusal
        how = "refused when it was sent"
        await optouts.learn_refusal(connection, self._desk.app_id, self._channel.type, recipient, code, how)

    async def _answer_trial(self, connection: db.Connection, verdict: Verdict) -> None:
        await trials.answer(connection, self._desk, *verdict)

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
