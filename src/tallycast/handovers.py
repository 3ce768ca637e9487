"""Handovers: messages on their way to a provider. Claim and commit, call, record and commit.

A message is claimed once: by moving its campaign's `next_seq` past it, or by taking its row that was put off. What a
worker had claimed when it ended is `unknown`: it counts as pending, is never sent by itself, and is settled by a
receipt or by a person.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from tallycast import attempts, db, receipts
from tallycast.attempts import Part
from tallycast.receipts import Facts, Failure, MessageKey
from tallycast.references import Address
from tallycast.sql import load

CANCELLED = "The campaign was cancelled before this message was sent"
ERASED = "The recipient was erased before this message was sent"
ENDED = "the worker ended before it had the provider's answer"
_SQL = load("handovers")
_PORTION = 2000


class Claim(NamedTuple):
    """A message that this worker has claimed; `attempts` is how often it was tried before.

    `claimed_at` tells this claim from a later one of the same message; None stands for any.
    """

    campaign_id: int
    seq: int
    attempts: int = 0
    claimed_at: datetime | None = None


class Row(NamedTuple):
    """What a message's sending needs. `is_queued`: nobody has handed it over yet, as far as facts tell."""

    seq: int
    recipient: str
    country: str | None
    content: str | None
    variables: list[str] | None
    is_queued: bool


class Sending(NamedTuple):
    """A campaign that goes over a channel: by itself, or as its fallback."""

    campaign_id: int
    is_own: bool
    has_due: bool


class UnknownMessage(msgspec.Struct, frozen=True):
    """A message of which nobody knows whether it was sent: since when, after how many tries, and why."""

    seq: int
    recipient: str
    since: datetime | None
    attempts: int
    reason: str


class Sent(NamedTuple):
    claim: Claim
    message_ids: Sequence[str]
    content: str | None
    parts: int


class Failed(NamedTuple):
    claim: Claim
    code: str
    title: str


class PutOff(NamedTuple):
    claim: Claim
    seconds: float
    attempts: int
    reason: str


class Lost(NamedTuple):
    claim: Claim
    content: str | None
    parts: int
    reason: str


@dataclass(slots=True)
class Results:
    """What became of claims: recorded in one commit. `skipped` were not handed over; `settled` had facts already."""

    sent: list[Sent] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    skipped: list[Failed] = field(default_factory=list)
    put_off: list[PutOff] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    settled: list[Claim] = field(default_factory=list)

    def add(self, more: "Results") -> None:
        self.sent += more.sent
        self.failed += more.failed
        self.skipped += more.skipped
        self.put_off += more.put_off
        self.lost += more.lost
        self.settled += more.settled

    def singles(self) -> "Iterator[Results]":
        """Each claim's result by itself."""
        yield from (Results(sent=[one]) for one in self.sent)
        yield from (Results(failed=[one]) for one in self.failed)
        yield from (Results(skipped=[one]) for one in self.skipped)
        yield from (Results(put_off=[one]) for one in self.put_off)
        yield from (Results(lost=[one]) for one in self.lost)
        yield from (Results(settled=[one]) for one in self.settled)

    def count_claims(self) -> int:
        lists = (self.sent, self.failed, self.skipped, self.put_off, self.lost, self.settled)
        return sum(len(one) for one in lists)


class Desk(NamedTuple):
    """Where a worker claims and records: an app's channel."""

    app_id: str
    channel_number: int
    worker: str


async def list_sending(connection: db.Connection, desk: Desk) -> list[Sending]:
    rows = await db.fetch_rows(connection, _SQL["list_sending"], desk._asdict())
    return [Sending(*row) for row in rows]


async def claim_next(connection: db.Connection, desk: Desk, limit: int) -> list[Claim]:
    """Claim up to `limit` messages of one campaign in their order; its turn comes again after all others'."""
    rows = await db.fetch_rows(connection, _SQL["claim_next"], {**desk._asdict(), "limit": limit})
    return [Claim(*row) for row in rows]


async def claim_due(connection: db.Connection, desk: Desk, campaign_id: int, limit: int) -> list[Claim]:
    params = {**desk._asdict(), "campaign_id": campaign_id, "limit": limit}
    return [Claim(*row) for row in await db.fetch_rows(connection, _SQL["claim_due"], params)]


async def read(connection: db.Connection, app_id: str, campaign_id: int, seqs: list[int]) -> list[Row]:
    params = {"app_id": app_id, "campaign_id": campaign_id, "seq": seqs}
    return [Row(*row) for row in await db.fetch_rows(connection, _SQL["read_claimed"], params)]


async def record(connection: db.Connection, desk: Desk, results: Results) -> None:
    """Commit what became of claims: facts, counts, texts as sent, and what is tried again or unknown."""
    now_ms = receipts.now_ms()
    by_id = {
        _key(desk, one.claim, one.message_ids[0] if len(one.message_ids) == 1 else None): Facts(now_ms)
        for one in results.sent
    }
    facts = by_id | {_key(desk, one.claim): Facts(now_ms) for one in results.lost}
    facts |= {_key(desk, one.claim): _failure(one, now_ms) for one in results.failed}
    given_up = {_key(desk, one.claim): _failure(one, now_ms) for one in results.skipped}
    async with connection.transaction():
        if facts:
            matched, *_ = await receipts.apply_facts(connection, desk.app_id, facts)
            if matched < len(facts):  # an id that another message has: then without it
                plain = {key._replace(message_id=None): fact for key, fact in facts.items()}
                await receipts.apply_facts(connection, desk.app_id, plain)
        if given_up:
            await receipts.apply_facts(connection, desk.app_id, given_up, opens=False)
        await _keep_texts(connection, desk, [*results.sent, *results.lost])
        await _settle_rows(connection, desk, results)
    await _match_early(connection, desk, results.sent)


def _failure(one: Failed, at_ms: int) -> Facts:
    return Facts(failure=Failure(at_ms, one.code, one.title))


def _key(desk: Desk, claim: Claim, message_id: str | None = None) -> MessageKey:
    return MessageKey(desk.channel_number, message_id, Address(claim.campaign_id, claim.seq))


async def _keep_texts(connection: db.Connection, desk: Desk, done: list[Sent | Lost]) -> None:
    texts = [one for one in done if one.content is not None]
    if texts:
        params = {
            **_columns(desk, [one.claim for one in texts]),
            "content": [one.content for one in texts],
            "parts": [one.parts for one in texts],
        }
        await db.execute(connection, _SQL["keep_sent_texts"], params)


def _columns(desk: Desk, claims: Sequence[Claim]) -> dict[str, Any]:
    return {
        "app_id": desk.app_id,
        "worker": desk.worker,
        "campaign_id": [claim.campaign_id for claim in claims],
        "seq": [claim.seq for claim in claims],
        "claimed_at": [claim.claimed_at for claim in claims],
    }


async def _settle_rows(connection: db.Connection, desk: Desk, results: Results) -> None:
    settled = [one.claim for one in results.sent] + results.settled
    settled += [one.claim for one in (*results.failed, *results.skipped)]
    if settled:
        await db.execute(connection, _SQL["forget_handovers"], _columns(desk, settled))
    if results.put_off:
        params = {
            **_columns(desk, [one.claim for one in results.put_off]),
            "seconds": [float(one.seconds) for one in results.put_off],
            "attempts": [one.attempts for one in results.put_off],
            "reason": [one.reason for one in results.put_off],
        }
        await db.execute(connection, _SQL["put_off"], params)
    if results.lost:
        params = {
            **_columns(desk, [one.claim for one in results.lost]),
            "reason": [one.reason for one in results.lost],
        }
        await db.execute(connection, _SQL["mark_unknown"], params)
    parts = [
        Part(message_id, one.claim.campaign_id, one.claim.seq, n)
        for one in results.sent
        if len(one.message_ids) > 1
        for n, message_id in enumerate(one.message_ids, 1)
    ]
    if parts:
        await attempts.add(connection, desk.app_id, desk.channel_number, parts)


async def _match_early(connection: db.Connection, desk: Desk, sent: Iterable[Sent]) -> None:
    """Receipts may have overtaken the answer to their own message."""
    ids = [message_id for one in sent for message_id in one.message_ids]
    await receipts.match_recorded(connection, desk.app_id, desk.channel_number, ids)


async def take_over(connection: db.Connection, desk: Desk) -> int:
    """What other workers had claimed over this channel is unknown now. How many messages."""
    params = {**desk._asdict(), "reason": ENDED}
    async with connection.transaction():
        rows = await db.fetch_rows(connection, _SQL["take_over"], params)
        await _count_as_pending(connection, desk.app_id, [(*row, desk.channel_number) for row in rows])
    return len(rows)


async def take_over_deleted(connection: db.Connection, app_id: str, campaign_id: int) -> int:
    """The same for a campaign's claims over channels that were deleted."""
    params = {"app_id": app_id, "campaign_id": campaign_id, "reason": ENDED}
    async with connection.transaction():
        rows = await db.fetch_rows(connection, _SQL["take_over_deleted"], params)
        await _count_as_pending(connection, app_id, rows)
    return len(rows)


async def _count_as_pending(connection: db.Connection, app_id: str, rows: Sequence[Sequence[Any]]) -> None:
    facts = {
        MessageKey(number, None, Address(campaign_id, seq)): Facts(receipts.now_ms())
        for campaign_id, seq, number in rows
    }
    if facts:
        await receipts.apply_facts(connection, app_id, facts)


async def release(connection: db.Connection, desk: Desk) -> None:
    """What this worker has claimed and does not know of was not sent."""
    await db.execute(connection, _SQL["release_own"], desk._asdict())


async def touch(connection: db.Connection, desk: Desk) -> None:
    await db.execute(connection, _SQL["touch_sendings"], desk._asdict())


async def list_finished(connection: db.Connection, desk: Desk) -> list[int]:
    rows = await db.fetch_rows(connection, _SQL["list_finished"], desk._asdict())
    return [campaign_id for (campaign_id,) in rows]


async def close_cancelled(connection: db.Connection, app_id: str, campaign_id: int) -> int:
    """Give up the next portion of what a cancelled campaign has not handed over. How many; 0 at the end, -1 while
    some are on their way: they may yet come back.
    """
    key = {"app_id": app_id, "campaign_id": campaign_id}
    rows = await db.fetch_rows(connection, _SQL["list_rest"], {**key, "limit": _PORTION})
    for channel_number in {number for _, number in rows}:
        seqs = sorted(seq for seq, number in rows if number == channel_number)
        given_up = [Failed(Claim(campaign_id, seq), "cancelled", CANCELLED) for seq in seqs]
        await record(connection, Desk(app_id, channel_number, ""), Results(skipped=given_up))
    if rows:
        await db.execute(connection, _SQL["pass_over"], {**key, "next_seq": max(seq for seq, _ in rows) + 1})
    if not rows and (await db.fetch_rows(connection, _SQL["has_claimed"], key))[0][0]:
        return -1
    return len(rows)


async def count_unknown(connection: db.Connection, app_id: str, campaign_id: int) -> int:
    params = {"app_id": app_id, "campaign_id": campaign_id}
    found: int = (await db.fetch_rows(connection, _SQL["count_unknown"], params))[0][0]
    return found


async def list_unknown(
    connection: db.Connection, app_id: str, campaign_id: int, limit: int, offset: int
) -> list[UnknownMessage]:
    params = {"app_id": app_id, "campaign_id": campaign_id, "limit": limit, "offset": offset}
    return await db.fetch_all(connection, UnknownMessage, _SQL["list_unknown"], params)
