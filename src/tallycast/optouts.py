"""Opt-outs: who does not want messages of a kind any more, how that is known, and since when.

Of each recipient two moments are kept, the latest "stop" and the latest "start"; the later one holds, and "stop" where
they are equal. Taking the latest is commutative, associative and idempotent, so words may come in any order and any
number of times: a late duplicate of a STOP does not undo a newer START. What a person orders through the API goes
before everything that is known at that moment.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from tallycast import db, digests, messages, notices
from tallycast.errors import BadQuery
from tallycast.keys import Cipher
from tallycast.messages import Line, Rejected
from tallycast.numbers import InvalidNumber, parse_number
from tallycast.sql import load

Kind = Literal["sms", "whatsApp"]
AnyKind = Kind | Literal["all"]
KINDS: tuple[Kind, ...] = ("sms", "whatsApp")
# What providers answer when the recipient has opted out there: Meta, and Twilio.
REFUSALS = frozenset({"131050", "21610"})
_SQL = load("optouts")
_MAX_SOURCE = 100
_TOLD_AT_ONCE = 500


class OptOut(msgspec.Struct, frozen=True):
    """`source`: reply, button, preference, refusal, import, or what the API was told. `evidence`: the provider's id of
    the inbound message, or its error code and the id of the message that was refused.
    """

    kind: Kind
    recipient: str
    source: str
    evidence: str
    opted_out_at: datetime


class TakenBack(msgspec.Struct, frozen=True):
    """An opt-out that does not hold any more because a person took it back: who, and why."""

    kind: Kind
    recipient: str
    taken_back: str
    opted_in_at: datetime


class Word(NamedTuple):
    """What was said about whether a recipient wants messages of a kind, and when (Unix milliseconds)."""

    kind: Kind
    recipient: str
    wants: bool
    at_ms: int
    source: str
    evidence: str


class _Merged(NamedTuple):
    """The words about one recipient: the latest "stop", and when the latest "start" was."""

    stop: tuple[int, str, str] | None
    start_ms: int | None


def kinds_of(kind: AnyKind) -> tuple[Kind, ...]:
    return KINDS if kind == "all" else (kind,)


def address_of(sender: str) -> str:
    """A number as E.164, however it is written; a provider's own user id as it is."""
    digits = sender.removeprefix("+")
    if not (digits.isascii() and digits.isdecimal()):
        return sender
    try:
        return parse_number(f"+{digits}").e164
    except InvalidNumber:
        return f"+{digits}"


def is_number(address: str) -> bool:
    return address.startswith("+")


async def blocked(
    connection: db.Connection, cipher: Cipher, app_id: str, kind: Kind, recipients: Sequence[str]
) -> set[str]:
    """Who of these (E.164) must not be sent messages of this kind: by the number, or by its digest. BadKey."""
    places = await digests.find_addresses(connection, cipher, app_id, recipients)
    return await _find_blocked(connection, app_id, kind, places)


async def _find_blocked(
    connection: db.Connection, app_id: str, kind: Kind, places: Sequence[tuple[str, str]]
) -> set[str]:
    params = {
        "app_id": app_id,
        "kind": kind,
        "recipients": [recipient for recipient, _ in places],
        "addresses": [address for _, address in places],
    }
    return {recipient for (recipient,) in await db.fetch_rows(connection, _SQL["find_blocked"], params)}


async def add(
    connection: db.Connection,
    app_id: str,
    kind: AnyKind,
    recipients: Sequence[str],
    source: str,
    evidence: str = "",
) -> None:
    """Opt recipients (E.164) out from now on; who is out already keeps his source and evidence."""
    if "\0" in source or not 1 <= len(source) <= _MAX_SOURCE:
        raise BadQuery.of(f"source must be 1 to {_MAX_SOURCE} characters")
    wanted = list(set(recipients))
    async with AsyncExitStack() as stack:  # told of when all is written: see apps.wake
        for one in kinds_of(kind):
            await stack.enter_async_context(_telling(connection, app_id, one, wanted))
            params = {
                "app_id": app_id,
                "kind": one,
                "recipients": wanted,
                "source": source,
                "evidence": evidence,
            }
            await db.execute(connection, _SQL["add"], params)


async def add_lines(
    connection: db.Connection,
    app_id: str,
    kind: AnyKind,
    lines: Sequence[Line],
    source: str,
    evidence: str = "",
) -> tuple[int, list[Rejected]]:
    """Opt out the numbers in lines of a list; how many were taken, and those that are no numbers."""
    rows, rejected = await asyncio.to_thread(messages.parse_rows, lines)
    await add(connection, app_id, kind, [row.e164 for row in rows], source, evidence)
    return len(rows), rejected


async def remove(
    connection: db.Connection,
    cipher: Cipher,
    app_id: str,
    kind: AnyKind,
    recipients: Sequence[str],
    why: str = "",
) -> int:
    """Take opt-outs back; a late duplicate of what led to them does not bring them again. How many there were.

    `why`: who does it, and the reason, for the record.
    """
    removed = 0
    places = await digests.find_addresses(connection, cipher, app_id, recipients)
    for one in kinds_of(kind):
        params = {
            "app_id": app_id,
            "kind": one,
            "recipients": [address for _, address in places],
            "taken_back": why,
        }
        removed += await db.execute(connection, _SQL["remove"], params)
    return removed


async def list_all(
    connection: db.Connection, app_id: str, kind: Kind | None, limit: int, offset: int
) -> list[OptOut]:
    params = {"app_id": app_id, **_range(kind), "limit": limit, "offset": offset}
    return await db.fetch_all(connection, OptOut, _SQL["list_opt_outs"], params)


async def find(
    connection: db.Connection,
    app_id: str,
    kind: Kind | None,
    addresses: Sequence[str],
    limit: int,
    offset: int,
) -> list[OptOut]:
    """The opt-outs of one recipient under all that is known of him: numbers, user ids, digests."""
    params = {
        "app_id": app_id,
        **_range(kind),
        "recipients": list(addresses),
        "limit": limit,
        "offset": offset,
    }
    return await db.fetch_all(connection, OptOut, _SQL["find_opt_outs"], params)


async def find_taken_back(
    connection: db.Connection, app_id: str, addresses: Sequence[str]
) -> list[TakenBack]:
    params = {"app_id": app_id, "kinds": list(KINDS), "recipients": list(addresses)}
    return await db.fetch_all(connection, TakenBack, _SQL["find_taken_back"], params)


async def rename(
    connection: db.Connection, app_id: str, addresses: Sequence[str], digest: str, *, stops: bool
) -> int:
    """Keep what one person has said under a digest instead, without evidence. How many rows; in a transaction.

    `stops`: who is not opted out is so now, for all kinds. No endpoint is told.
    """
    params = {"app_id": app_id, "kinds": list(KINDS), "addresses": list(addresses), "digest": digest}
    renamed = await db.execute(connection, _SQL["rename"], params)
    for kind in KINDS if stops else ():
        params = {"app_id": app_id, "kind": kind, "recipients": [digest], "source": "erasure", "evidence": ""}
        await db.execute(connection, _SQL["add"], params)
    return renamed


def _range(kind: Kind | None) -> dict[str, str]:
    return {"first_kind": kind or KINDS[0], "last_kind": kind or KINDS[-1]}


async def learn_refusal(
    connection: db.Connection,
    app_id: str,
    channel_type: Kind,
    recipient: str,
    code: str,
    evidence: str,
) -> None:
    """A provider refused a message because its recipient (E.164) has opted out there: so he has here, from now on."""
    now_ms = time.time_ns() // 1_000_000
    word = Word(channel_type, recipient, False, now_ms, "refusal", f"{code} {evidence}".strip())
    await merge(connection, app_id, [word])


async def merge(connection: db.Connection, app_id: str, words: Iterable[Word]) -> None:
    """Take in what was said, in whatever order and however often."""
    merged: dict[tuple[Kind, str], _Merged] = {}
    for word in words:
        key = (word.kind, word.recipient)
        merged[key] = _add_word(merged.get(key, _Merged(None, None)), word)
    await _write(connection, app_id, merged)


def _add_word(known: _Merged, word: Word) -> _Merged:
    if word.wants:
        return known._replace(start_ms=max(known.start_ms or word.at_ms, word.at_ms))
    stop = (word.at_ms, word.source, word.evidence)
    return known._replace(stop=max(known.stop or stop, stop))


async def _write(connection: db.Connection, app_id: str, merged: dict[tuple[Kind, str], _Merged]) -> None:
    if not merged:
        return
    stops = [one.stop or (None, "", "") for one in merged.values()]
    params = {
        "app_id": app_id,
        "kind": [kind for kind, _ in merged],
        "recipient": [recipient for _, recipient in merged],
        "source": [source for _, source, _ in stops],
        "evidence": [evidence for _, _, evidence in stops],
        "opted_out_ms": [at_ms for at_ms, _, _ in stops],
        "opted_in_ms": [one.start_ms for one in merged.values()],
    }
    async with AsyncExitStack() as stack:
        for kind in KINDS:
            recipients = [recipient for known, recipient in merged if known == kind]
            await stack.enter_async_context(_telling(connection, app_id, kind, recipients))
        await db.execute(connection, _SQL["merge_words"], params)


@asynccontextmanager
async def _telling(
    connection: db.Connection, app_id: str, kind: Kind, recipients: Sequence[str]
) -> AsyncIterator[None]:
    """Tell endpoints who of these is opted out afterwards and was not before."""
    if not recipients or not await notices.is_heard(connection, app_id, "opt_out.added"):
        yield
        return
    async with connection.transaction():
        places = [(one, one) for one in recipients]
        before = await _find_blocked(connection, app_id, kind, places)
        yield
        fresh = sorted(await _find_blocked(connection, app_id, kind, places) - before)
        portions = [fresh[first : first + _TOLD_AT_ONCE] for first in range(0, len(fresh), _TOLD_AT_ONCE)]
        data = [(None, {"kind": kind, "recipients": portion}) for portion in portions]
        await notices.add(connection, app_id, "opt_out.added", data)


async def learn_identities(connection: db.Connection, app_id: str, numbers: dict[str, str]) -> None:
    """Whose number a user id is (id -> E.164). What was said under an id before goes over to its number."""
    params = {"app_id": app_id, "user_id": list(numbers), "recipient": list(numbers.values())}
    fresh = dict(await db.fetch_rows(connection, _SQL["learn_identities"], params))
    if not fresh:
        return
    params = {"app_id": app_id, "kind": "whatsApp", "user_id": list(fresh)}
    words: list[Word] = []
    for user_id, source, evidence, out_ms, in_ms in await db.fetch_rows(
        connection, _SQL["take_nameless"], params
    ):
        if out_ms is not None:
            words.append(Word("whatsApp", fresh[user_id], False, out_ms, source, evidence))
        if in_ms is not None:
            words.append(Word("whatsApp", fresh[user_id], True, in_ms, source, evidence))
    await merge(connection, app_id, words)


async def name_identities(connection: db.Connection, app_id: str, user_ids: Sequence[str]) -> dict[str, str]:
    """Under what each user id's words are kept: its number, or the id itself until that is known."""
    if not user_ids:
        return {}
    params = {"app_id": app_id, "user_id": sorted(set(user_ids))}
    rows = await db.fetch_rows(connection, _SQL["name_identities"], params)
    return {user_id: recipient or user_id for user_id, recipient in rows}
