"""Facts: folding what providers say into messages and counts, parking what is not known yet.

Merging keeps the earliest time of each kind, so repeated, late and reordered receipts, and whole batches that are
applied twice, all end in the same state. That is why a batch may be tried again, or spooled, whenever in doubt.
"""

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import msgspec

from tallycast import attempts, consent, db
from tallycast.consent import Place, Signals
from tallycast.events import ButtonClick, Event, Identity, Preference, Receipt, Status, TextReply, Unreadable
from tallycast.optouts import REFUSALS
from tallycast.references import Address, read_reference
from tallycast.sql import load

_SQL = load("receipts")
_UNKNOWN_BUTTON = "a button click for a message that does not exist"


class Arrival(msgspec.Struct, frozen=True, tag=True):
    """What one request of a provider said: the unit that is acknowledged, and the line of the spool."""

    app_id: str
    channel_number: int
    arrived_ms: int
    events: list[Event]


class MessageKey(NamedTuple):
    """How an event names its message: by the provider's id, or by tallycast's own address where it was echoed."""

    channel_number: int
    message_id: str | None
    address: Address | None


class Failure(NamedTuple):
    """The earliest failure wins; code and title settle a tie, so that the order of arrival does not."""

    at_ms: int
    code: str
    title: str


@dataclass(slots=True)
class Facts:
    accepted_ms: int | None = None
    delivered_ms: int | None = None
    read_ms: int | None = None
    failure: Failure | None = None


@dataclass(slots=True)
class Fold:
    """A batch, folded: one row per message, per (message, button) and per raw body; and what it says about consent."""

    facts: dict[MessageKey, Facts] = field(default_factory=dict)
    clicks: dict[tuple[MessageKey, str], int] = field(default_factory=dict)
    signals: Signals = field(default_factory=Signals)
    unreadable: dict[tuple[int, bytes], Unreadable] = field(default_factory=dict)


class Applied(NamedTuple):
    matched: int
    parked: int


class Parked(msgspec.Struct, rename="camel"):
    """A receipt, or a button click, that waits for its message; `age_seconds` counts from its arrival."""

    channel_id: str = msgspec.field(name="channelID")
    message_id: str = msgspec.field(name="messageID")
    button: str
    accepted_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None
    failed_at: datetime | None
    error_code: str | None
    error_title: str | None
    replied_at: datetime | None
    parked_at: datetime
    age_seconds: float

    def kinds(self) -> list[str]:
        facts = {
            "accepted": self.accepted_at,
            "delivered": self.delivered_at,
            "read": self.read_at,
            "failed": self.failed_at,
            f"button {self.button}": self.replied_at,
        }
        return [kind for kind, at in facts.items() if at is not None]


class UnreadableBody(msgspec.Struct, rename="camel"):
    channel_id: str = msgspec.field(name="channelID")
    reason: str
    raw: bytes
    times: int
    first_at: datetime
    last_at: datetime


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def fold(arrivals: Iterable[Arrival]) -> Fold:
    folded = Fold()
    for arrival in arrivals:
        for event in arrival.events:
            _FOLDERS[type(event)](folded, arrival, event)
    return folded


def _fold_receipt(folded: Fold, arrival: Arrival, receipt: Receipt) -> None:
    at_ms = arrival.arrived_ms if receipt.at_ms is None else receipt.at_ms
    address = read_reference(receipt.reference) if receipt.reference else None
    key = MessageKey(arrival.channel_number, receipt.message_id, address)
    facts = folded.facts.get(key)
    if facts is None:
        facts = folded.facts[key] = Facts()
    if receipt.status is Status.DELIVERED:
        if facts.delivered_ms is None or at_ms < facts.delivered_ms:
            facts.delivered_ms = at_ms
    elif receipt.status is Status.READ:
        if facts.read_ms is None or at_ms < facts.read_ms:
            facts.read_ms = at_ms
    elif receipt.status is Status.ACCEPTED:
        if facts.accepted_ms is None or at_ms < facts.accepted_ms:
            facts.accepted_ms = at_ms
    else:
        failure = Failure(at_ms, receipt.error_code or "", receipt.error_title or "")
        if facts.failure is None or failure < facts.failure:
            facts.failure = failure
        if failure.code in REFUSALS:
            folded.signals.add_refusal(Place(*key), failure.code, receipt.at_ms, arrival.arrived_ms)


def _fold_click(folded: Fold, arrival: Arrival, click: ButtonClick) -> None:
    at_ms = arrival.arrived_ms if click.at_ms is None else click.at_ms
    message = MessageKey(arrival.channel_number, click.message_id, read_reference(click.reference))
    folded.signals.add_click(Place(*message), click, at_ms)
    if message.message_id is None and message.address is None:
        _fold_unreadable(folded, arrival, Unreadable(_UNKNOWN_BUTTON, msgspec.json.encode(click)))
        return
    key = (message, click.button)
    folded.clicks[key] = min(folded.clicks.get(key, at_ms), at_ms)


def _fold_text(folded: Fold, arrival: Arrival, text: TextReply) -> None:
    folded.signals.add_text(arrival.channel_number, text, arrival.arrived_ms)


def _fold_preference(folded: Fold, arrival: Arrival, one: Preference) -> None:
    folded.signals.add_preference(arrival.channel_number, one, arrival.arrived_ms)


def _fold_identity(folded: Fold, arrival: Arrival, identity: Identity) -> None:
    folded.signals.add_identity(arrival.app_id, identity)


def _fold_unreadable(folded: Fold, arrival: Arrival, body: Unreadable) -> None:
    digest = hashlib.sha256(body.raw).digest()
    folded.unreadable[arrival.channel_number, digest] = body


_FOLDERS: dict[type[Event], Callable[[Fold, Arrival, Any], None]] = {
    Receipt: _fold_receipt,
    ButtonClick: _fold_click,
    TextReply: _fold_text,
    Preference: _fold_preference,
    Identity: _fold_identity,
    Unreadable: _fold_unreadable,
}


async def apply(connection: db.Connection, app_id: str, arrivals: Iterable[Arrival]) -> Applied:
    """Commit one batch of one app: facts, counts, clicks, texts, opt-outs and raw bodies.

    When it returns, all is durable and in the next summary. Losers of a race with another writer try again.
    """
    folded = fold(arrivals)
    return await db.retry_conflicts(lambda: _apply_fold(connection, app_id, folded))


async def _apply_fold(connection: db.Connection, app_id: str, folded: Fold) -> Applied:
    by_id = {key: facts for key, facts in folded.facts.items() if key.address is None}
    if len(by_id) == len(folded.facts) and not (folded.clicks or folded.signals or folded.unreadable):
        matched, parked, learned = await apply_facts(connection, app_id, by_id)
    else:
        async with connection.transaction():
            matched, parked, learned = await _apply_all(connection, app_id, folded, by_id)
        consent.remember(app_id, folded.signals.identities)
    if parked or learned:
        # A message may have been recorded while this batch parked its receipts; that writer looks for parked
        # receipts after its commit, as this one does, so whoever commits last finds the other's.
        await match(connection, app_id, _named_ids(folded))
    return Applied(matched, parked)


async def _apply_all(
    connection: db.Connection, app_id: str, folded: Fold, by_id: dict[MessageKey, Facts]
) -> tuple[int, int, int]:
    batches = [by_id] if by_id else []
    by_address = {key: facts for key, facts in folded.facts.items() if key.address is not None}
    # Two rows of one statement must not name the same message: each address goes with one id at a time, and each id
    # with one address.
    while by_address:
        addresses = {key.address: key for key in reversed(by_address)}
        keys = {(key.channel_number, key.message_id): key for key in addresses.values()}.values()
        batches.append({key: by_address.pop(key) for key in keys})
    done = [await apply_facts(connection, app_id, batch) for batch in batches]
    matched, parked, learned = (sum(column) for column in zip(*done, strict=True)) if done else (0, 0, 0)
    if folded.clicks:
        clicks_matched, clicks_parked = await _apply_clicks(connection, app_id, folded.clicks)
        matched, parked = matched + clicks_matched, parked + clicks_parked
    await _keep_unreadable(connection, app_id, folded.unreadable)
    await consent.learn(connection, app_id, folded.signals)  # it may wake the app, which comes last
    return matched, parked, learned


async def apply_facts(
    connection: db.Connection, app_id: str, facts: dict[MessageKey, Facts], *, opens: bool = True
) -> tuple[int, int, int]:
    """Merge facts into messages, each named once; (matched, parked, learned). `opens`: they were handed over, so
    that their campaigns are sent now.
    """
    keys, values = list(facts), list(facts.values())
    rows = await db.fetch_rows(
        connection,
        _SQL["fold_receipts"],
        {
            "app_id": app_id,
            "channel_number": [key.channel_number for key in keys],
            "message_id": [key.message_id for key in keys],
            "campaign_id": [key.address and key.address.campaign_id for key in keys],
            "seq": [key.address and key.address.seq for key in keys],
            "accepted_ms": [fact.accepted_ms for fact in values],
            "delivered_ms": [fact.delivered_ms for fact in values],
            "read_ms": [fact.read_ms for fact in values],
            "failed_ms": [fact.failure and fact.failure.at_ms for fact in values],
            "error_code": [fact.failure and (fact.failure.code or None) for fact in values],
            "error_title": [fact.failure and (fact.failure.title or None) for fact in values],
            "opens": opens,
        },
    )
    matched, parked, learned = rows[0]
    return matched, parked, learned


async def _apply_clicks(
    connection: db.Connection, app_id: str, clicks: dict[tuple[MessageKey, str], int]
) -> tuple[int, int]:
    keys = list(clicks)
    rows = await db.fetch_rows(
        connection,
        _SQL["fold_replies"],
        {
            "app_id": app_id,
            "channel_number": [message.channel_number for message, _ in keys],
            "message_id": [message.message_id for message, _ in keys],
            "campaign_id": [message.address and message.address.campaign_id for message, _ in keys],
            "seq": [message.address and message.address.seq for message, _ in keys],
            "button": [button for _, button in keys],
            "replied_ms": list(clicks.values()),
        },
    )
    matched, parked, lost = rows[0]
    unknown = {}
    for n in lost:
        message, button = keys[n - 1]
        raw = msgspec.json.encode({"address": message.address, "button": button})
        unknown[message.channel_number, hashlib.sha256(raw).digest()] = Unreadable(_UNKNOWN_BUTTON, raw)
    await _keep_unreadable(connection, app_id, unknown)
    return matched, parked


async def _keep_unreadable(
    connection: db.Connection, app_id: str, bodies: dict[tuple[int, bytes], Unreadable]
) -> None:
    if not bodies:
        return
    await db.execute(
        connection,
        _SQL["keep_unreadable"],
        {
            "app_id": app_id,
            "channel_number": [channel_number for channel_number, _ in bodies],
            "digest": [digest for _, digest in bodies],
            "reason": [body.reason for body in bodies.values()],
            "raw": [body.raw for body in bodies.values()],
        },
    )


def _named_ids(folded: Fold) -> dict[int, list[str]]:
    named: dict[int, list[str]] = {}
    for message in (*folded.facts, *(key for key, _ in folded.clicks)):
        if message.message_id is not None:
            named.setdefault(message.channel_number, []).append(message.message_id)
    return named


async def match(connection: db.Connection, app_id: str, named: dict[int, list[str]]) -> int:
    """Apply what is parked for these message ids, by channel, if their message exists now. How many were taken."""
    work = partial(_match_channels, connection, app_id, named)
    return await db.retry_conflicts(work)


async def match_recorded(
    connection: db.Connection, app_id: str, channel_number: int, message_ids: list[str]
) -> None:
    """After messages were recorded: give them what is parked for them."""
    params = {"app_id": app_id, "channel_number": channel_number}
    if message_ids and (await db.fetch_rows(connection, _SQL["has_parked"], params))[0][0]:
        await match(connection, app_id, {channel_number: message_ids})


async def match_leftovers(connection: db.Connection, app_id: str) -> int:
    """Match what a process left behind that died between parking and looking again. How many were taken."""
    rows = await db.fetch_rows(connection, _SQL["find_matchable"], {"app_id": app_id})
    named: dict[int, list[str]] = {}
    for channel_number, message_id in rows:
        named.setdefault(channel_number, []).append(message_id)
    return await match(connection, app_id, named)


async def _match_channels(connection: db.Connection, app_id: str, named: dict[int, list[str]]) -> int:
    taken = 0
    for channel_number, message_ids in named.items():
        async with connection.transaction():
            taken += await _match_channel(connection, app_id, channel_number, message_ids)
    return taken


async def _match_channel(
    connection: db.Connection, app_id: str, channel_number: int, message_ids: list[str]
) -> int:
    params = {"app_id": app_id, "channel_number": channel_number, "message_ids": message_ids}
    rows = await db.fetch_rows(connection, _SQL["take_parked"], params)
    facts: dict[MessageKey, Facts] = {}
    clicks: dict[tuple[MessageKey, str], int] = {}
    signals = Signals()
    for number, message_id, button, accepted, delivered, read, failed, code, title, replied in rows:
        key = MessageKey(number, message_id, None)
        if replied is not None:
            clicks[key, button] = replied
        else:
            failure = None if failed is None else Failure(failed, code or "", title or "")
            facts[key] = Facts(accepted, delivered, read, failure)
        if code in REFUSALS:
            signals.add_refusal(Place(*key), code, failed, failed)
    if facts:
        await apply_facts(connection, app_id, facts)
    taken = await attempts.take(connection, app_id, channel_number, message_ids)
    concluded = {_key(one): _facts(one) for one in taken.concluded}
    if concluded:
        await apply_facts(connection, app_id, concluded)
    clicks |= {(_key(one), one.button): one.replied_ms for one in taken.chosen}
    if clicks:
        await _apply_clicks(connection, app_id, clicks)
    await consent.learn(connection, app_id, signals)
    return len(rows) + taken.rows


def _key(one: attempts.Concluded | attempts.Chosen) -> MessageKey:
    return MessageKey(one.channel_number, None, Address(one.campaign_id, one.seq))


def _facts(one: attempts.Concluded) -> Facts:
    failure = (
        None if one.failed_ms is None else Failure(one.failed_ms, one.error_code or "", one.error_title or "")
    )
    return Facts(None, one.delivered_ms, one.read_ms, failure)


async def list_parked(connection: db.Connection, app_id: str, limit: int, offset: int) -> list[Parked]:
    params = {"app_id": app_id, "limit": limit, "offset": offset}
    return await db.fetch_all(connection, Parked, _SQL["list_parked"], params)


async def list_unreadable(
    connection: db.Connection, app_id: str, limit: int, offset: int
) -> list[UnreadableBody]:
    params = {"app_id": app_id, "limit": limit, "offset": offset}
    return await db.fetch_all(connection, UnreadableBody, _SQL["list_unreadable"], params)


async def count_parked(connection: db.Connection, app_id: str) -> tuple[int, datetime | None]:
    parked, oldest_at = (await db.fetch_rows(connection, _SQL["count_parked"], {"app_id": app_id}))[0]
    return parked, oldest_at
