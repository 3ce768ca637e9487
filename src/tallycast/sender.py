"""The sender of one channel: claims, sends at the channel's pace and records, while its worker holds the channel.

Three parts run side by side: one claims and prepares the next portion while the last one goes out, one sends, one
records whatever has been answered while it recorded before. No transaction is open during a call.
"""

import asyncio
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import aiohttp

from tallycast import channels, db, handovers, lines, stages, trials
from tallycast.channels import DEFAULT_RATES, Channel
from tallycast.config import Settings
from tallycast.errors import NotFound, Problem
from tallycast.events import Event
from tallycast.handovers import Claim, Desk, Failed, Lost, PutOff, Results, Sent
from tallycast.intake import Intake
from tallycast.keys import Cipher
from tallycast.lines import Line
from tallycast.pace import Pace
from tallycast.portions import Item, Preparer
from tallycast.providers.contract import Accepted, Action, Outcome, SendError, Unknown
from tallycast.receipts import Arrival, now_ms
from tallycast.recorder import ACTOR, Pause, Recorder, Verdict
from tallycast.suspicion import Suspicion, Tried
from tallycast.telemetry import SENDS
from tallycast.trials import Trial

log = logging.getLogger("tallycast.sender")
# A portion is what goes out in so many seconds: that much, twice, is unknown when the process is killed.
_PORTION_SECONDS = 0.1
_PORTIONS = 2  # one goes out while the next one is prepared
_MAX_PORTION = 200
_IDLE_SECONDS = 0.25
_WATCH_SECONDS = 0.5
_LOOK_SECONDS = 2.0
_TOUCH_SECONDS = 20.0
_AWAY_SECONDS = 0.5
# A claim is used at once or not at all: somebody else may take it for unknown when the lease ends.
_CLAIM_SECONDS = 5.0
_MAX_TRIES = 5


@dataclass(frozen=True, slots=True)
class Means:
    """What all senders of a worker share."""

    settings: Settings
    worker: str
    pool: db.Pool
    cipher: Cipher
    client: aiohttp.ClientSession
    intake: Intake


class Sender:
    def __init__(self, means: Means, channel: Channel) -> None:
        self._means = means
        self._channel = channel
        # A name of its own: what an earlier sender of this process left behind is as open as any other's.
        name = f"{means.worker}#{secrets.token_hex(3)}"
        self._desk = Desk(channel.app_id, channel.channel_number, name)
        self._preparer = Preparer(means.settings.base_url, means.cipher, self._desk)
        self._pace = Pace(channel.rate or DEFAULT_RATES[channel.provider])
        self._room = asyncio.Event()
        self._portions: asyncio.Queue[list[Item] | None] = asyncio.Queue()
        self._ahead = asyncio.Semaphore(_PORTIONS)
        self._calls: set[asyncio.Task[None]] = set()
        self._stopped_at: dict[int | None, float] = {}
        self._suspicions: dict[int, Suspicion] = defaultdict(Suspicion)
        self._live: frozenset[int] = frozenset()
        self._live_at = self._looked_at = self._touched_at = 0.0
        self._is_deleted = self._is_halted = False
        self._line: Line
        self._recorder: Recorder

    async def run(self, is_held: Callable[[], bool]) -> None:
        """Send until nothing is left or the channel is another worker's. All answers are recorded when it returns."""
        async with self._means.pool.connection() as connection:
            await self._take_over(connection)
            await trials.give_up(connection, self._desk)
        self._recorder = Recorder(self._means.pool, self._desk, self._channel)
        self._line = self._open_line()
        feeder = asyncio.create_task(self._feed(is_held))
        watcher = asyncio.create_task(self._watch())
        try:
            await self._send_portions()
            await feeder
        finally:
            feeder.cancel()
            while self._calls:
                await asyncio.wait(self._calls)
            await self._recorder.close()
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            await self._line.close()

    def _open_line(self) -> Line:
        """The way to the provider; BadKey where this worker cannot read the channel's credentials."""
        credentials = self._channel.open_secrets(self._means.cipher).credentials
        if self._channel.provider == "smpp":
            return lines.SmppLine(credentials, self._means.settings.private_hosts, self._take_events)
        return lines.HttpLine(self._means.client, self._channel.provider, credentials)

    async def _take_events(self, events: list[Event]) -> None:
        """What an SMSC delivers is durable before this returns."""
        arrival = Arrival(self._desk.app_id, self._desk.channel_number, now_ms(), events)
        self._means.intake.hearings.note(arrival.app_id, arrival.channel_number, arrival.events)
        await self._means.intake.receive(arrival)

    def _extra(self) -> dict[str, object]:
        return {"app": self._desk.app_id, "channel": self._channel.channel_id}

    # Claiming.

    async def _feed(self, is_held: Callable[[], bool]) -> None:
        try:
            while is_held() and not self._is_deleted:
                await self._ahead.acquire()
                try:
                    async with self._means.pool.connection() as connection:
                        items, goes_on = await self._next_portion(connection)
                except db.AWAY as error:
                    log.warning("the database is away, sending waits: %s", error, extra=self._extra())
                    self._ahead.release()
                    await asyncio.sleep(_AWAY_SECONDS)
                    continue
                if items:
                    self._portions.put_nowait(items)
                    continue
                self._ahead.release()
                if not goes_on:
                    return
                await asyncio.sleep(_IDLE_SECONDS)
        finally:
            self._portions.put_nowait(None)

    async def _next_portion(self, connection: db.Connection) -> tuple[list[Item], bool]:
        """What goes out next, and whether there may be more later."""
        trial_items = await self._preparer.prepare_trials(connection, self._channel)
        for trial, reason in self._preparer.refused_trials():
            self._recorder.answered.verdicts.append(Verdict(trial, "refused", (), reason))
            self._recorder.notify()
        if trial_items:
            return trial_items, True
        is_waiting = (
            self._pace.delay() > _IDLE_SECONDS or self._recorder.held > self._pace.rate * _CLAIM_SECONDS + 50
        )
        if is_waiting or self._is_halted:  # what is claimed now would only wait
            return [], True
        sendings = await self._list_live(connection)
        claims = await self._claim(connection, sendings)
        if claims:
            return await self._prepare(connection, claims), True
        if not self._recorder.held:
            # A claim whose answer was lost with its connection: nobody else will take it.
            await handovers.release(connection, self._desk)
        await self._finish_campaigns(connection)
        return [], bool(sendings) or self._channel.provider == "smpp"

    async def _claim(self, connection: db.Connection, sendings: list[handovers.Sending]) -> list[Claim]:
        """A portion, at most half of it what was put off: that must not keep what has not begun waiting."""
        limit = max(1, min(_MAX_PORTION, int(self._pace.rate * _PORTION_SECONDS)))
        due = max(1, limit // 2)
        claims: list[Claim] = []
        for one in sendings:
            if one.has_due and len(claims) < due:
                left = due - len(claims)
                claims += await handovers.claim_due(connection, self._desk, one.campaign_id, left)
        if len(claims) < limit and sendings:
            claims += await handovers.claim_next(connection, self._desk, limit - len(claims))
        return claims

    async def _list_live(self, connection: db.Connection) -> list[handovers.Sending]:
        at = time.monotonic()
        sendings = [] if self._channel.paused_at else await handovers.list_sending(connection, self._desk)
        self._live, self._live_at = frozenset(one.campaign_id for one in sendings), at
        return sendings

    async def _prepare(self, connection: db.Connection, claims: list[Claim]) -> list[Item]:
        self._recorder.held += len(claims)
        try:
            items, results = await self._preparer.prepare(connection, self._channel, claims)
        except BaseException:
            back = [PutOff(claim, 0, claim.attempts, "not prepared") for claim in claims]
            self._recorder.add(Results(put_off=back))
            raise
        self._recorder.add(results)
        return items

    # Watching.

    async def _watch(self) -> None:
        """Beside all that, twice a second: whatever waits for a provider must not keep a pause from taking effect."""
        while True:
            try:
                async with self._means.pool.connection() as connection:
                    await self._list_live(connection)
                    if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
                        self._looked_at = time.monotonic()
                        await self._look(connection)
            except db.AWAY as error:
                log.debug("the database is away: %s", error)
            except Exception:
                log.exception("a channel cannot be looked after", extra=self._extra())
            await asyncio.sleep(_WATCH_SECONDS)

    async def _look(self, connection: db.Connection) -> None:
        """Has the channel been changed, is a campaign over, and do others see that somebody looks after them?"""
        await self._take_over(connection)
        await self._finish_campaigns(connection)
        if time.monotonic() - self._touched_at >= _TOUCH_SECONDS:
            self._touched_at = time.monotonic()
            await handovers.touch(connection, self._desk)
        try:
            channel = await channels.find(connection, self._desk.app_id, self._channel.channel_id)
        except NotFound:
            self._is_deleted = True
            self._stopped_at[None] = time.monotonic()
            return
        old, self._channel = self._channel, channel
        self._is_halted = channel.paused_at is not None
        if channel.secrets != old.secrets:
            self._change_line()
        self._pace.change(channel.rate or DEFAULT_RATES[channel.provider])

    def _change_line(self) -> None:
        closing = asyncio.create_task(self._line.close())
        self._calls.add(closing)
        closing.add_done_callback(self._calls.discard)
        self._line = self._open_line()

    async def _take_over(self, connection: db.Connection) -> None:
        lost = await handovers.take_over(connection, self._desk)
        if lost:
            log.warning("%d messages are of unknown outcome: their worker ended", lost, extra=self._extra())

    async def _finish_campaigns(self, connection: db.Connection) -> None:
        for campaign_id in await handovers.list_finished(connection, self._desk):
            with suppress(Problem):  # it was paused or cancelled at this moment
                async with connection.transaction():
                    await stages.move(connection, self._desk.app_id, campaign_id, "finish", ACTOR)

    # Sending.

    async def _send_portions(self) -> None:
        while (portion := await self._portions.get()) is not None:
            for item in portion:
                await self._send_in_turn(item)
            self._ahead.release()

    async def _send_in_turn(self, item: Item) -> None:
        await self._wait_for_room()
        if self._is_stopped(item):
            self._put_off(item, 0, "paused")
            return
        delay = self._pace.delay()
        age = time.monotonic() - item.claimed_at
        if delay + age > max(_CLAIM_SECONDS, 2 * item.parts / self._pace.rate):
            self._put_off(item, delay, "the channel was slowed down")
            return
        self._pace.take(item.parts)
        if delay > 0.001:  # noqa: PLR2004 - shorter waits are made up for by the next one
            await asyncio.sleep(delay)
        call = asyncio.create_task(self._call(item))
        self._calls.add(call)
        call.add_done_callback(self._end_call)

    async def _wait_for_room(self) -> None:
        """Calls in flight are bounded by what a provider that takes two seconds for an answer needs; SMPP by its window."""
        while len(self._calls) >= min(self._line.window, max(8, self._pace.rate * 2)):
            self._room.clear()
            await self._room.wait()

    def _end_call(self, call: "asyncio.Task[None]") -> None:
        self._calls.discard(call)
        self._room.set()

    def _is_stopped(self, item: Item) -> bool:
        """Whether its campaign, or the channel, was stopped after it was claimed, here or by somebody else."""
        if item.trial is not None:
            return self._is_deleted
        stopped_at = max(self._stopped_at.get(item.claim.campaign_id, 0), self._stopped_at.get(None, 0))
        is_paused = self._live_at > item.claimed_at and item.claim.campaign_id not in self._live
        return is_paused or item.claimed_at < stopped_at

    async def _call(self, item: Item) -> None:
        try:
            outcome = await self._line.send(item.outgoing)
        except Exception:  # a mistake of ours: whether it was sent is as open as ever
            log.exception("sending failed", extra=self._extra())
            outcome = Unknown("an internal error; the log has it")
        SENDS.labels(self._channel.provider, type(outcome).__name__.lower()).inc()
        if item.trial is None:
            self._note(item, outcome)
        else:
            self._note_trial(item.trial, outcome)
        self._recorder.notify()

    def _note_trial(self, trial: Trial, outcome: Outcome) -> None:
        match outcome:
            case Accepted(message_ids):
                verdict = Verdict(trial, "accepted", message_ids, "")
            case Unknown(reason):
                verdict = Verdict(trial, "unknown", (), reason)
            case refused:
                verdict = Verdict(trial, "refused", (), _explain(refused.error))
        self._recorder.answered.verdicts.append(verdict)

    def _note(self, item: Item, outcome: Outcome) -> None:
        results, reason, tried = self._recorder.answered.results, "", Tried.REFUSED
        match outcome:
            case Accepted(message_ids):
                tried = Tried.ACCEPTED
                results.sent.append(Sent(item.claim, message_ids, item.kept_text, item.parts))
            case Unknown(reason):
                tried = Tried.UNKNOWN
                results.lost.append(Lost(item.claim, item.kept_text, item.parts, reason))
            case refused:
                reason = _explain(refused.error)
                self._refuse(item, refused.error, reason)
                if refused.error.rule.action is Action.SLOW_DOWN:
                    return
        campaign_id = item.claim.campaign_id
        doubt = self._suspicions[campaign_id].note(tried, reason)
        if doubt:
            del self._suspicions[campaign_id]  # once it is told, a resumed campaign begins anew
        if doubt and not self._is_stopped(item):
            self._stop(Pause(campaign_id, doubt))

    def _refuse(self, item: Item, error: SendError, reason: str) -> None:
        rule = error.rule
        wait = error.retry_after if error.retry_after is not None else rule.wait_seconds
        if rule.action is Action.SLOW_DOWN:
            self._pace.note_too_fast()
            self._pace.wait(error.retry_after or 0)
            self._put_off(item, wait, reason)
        elif rule.action is Action.RETRY and item.claim.attempts + 1 < _MAX_TRIES:
            wait = max(wait, rule.wait_seconds * rule.growth**item.claim.attempts)
            self._put_off(item, wait, reason, item.claim.attempts + 1)
        elif rule.action in {Action.PAUSE_CAMPAIGN, Action.PAUSE_CHANNEL}:
            self._put_off(item, 0, reason)
            campaign_id = item.claim.campaign_id if rule.action is Action.PAUSE_CAMPAIGN else None
            if not self._is_stopped(item):
                self._stop(Pause(campaign_id, reason))
        else:
            self._recorder.answered.results.failed.append(
                Failed(item.claim, error.code, error.title or rule.words)
            )
            if rule.action is Action.OPT_OUT:
                self._recorder.answered.refusals.append((item.outgoing.recipient, error.code))

    def _put_off(self, item: Item, seconds: float, reason: str, attempts: int | None = None) -> None:
        if item.trial is not None:
            self._recorder.answered.verdicts.append(Verdict(item.trial, "refused", (), reason))
        else:
            tries = item.claim.attempts if attempts is None else attempts
            self._recorder.answered.results.put_off.append(PutOff(item.claim, seconds, tries, reason))
        self._recorder.notify()

    def _stop(self, pause: Pause) -> None:
        """Nothing of what is claimed goes out any more; the record of the pause follows at once."""
        self._stopped_at[pause.campaign_id] = time.monotonic()
        self._is_halted = self._is_halted or pause.campaign_id is None
        self._recorder.answered.pauses.append(pause)
        self._recorder.notify()


def _explain(error: SendError) -> str:
    """For people: what to do, and the provider's own words where they say more."""
    said = "" if error.title in error.rule.words else f" {error.title}"
    return f"{error.rule.words} ({error.code}{said})"
