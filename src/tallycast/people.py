"""One person: all that is known under a phone number, and its erasure.

Erased is made anonymous: facts and figures stay, and nothing that says whose they are. That somebody wants no messages
survives as a digest, so that the next audience with the number leaves him out. Messages that are not out yet are not
sent any more; one that is on its way at that moment keeps the erasure waiting.
"""

import base64
import re
import uuid
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec

from tallycast import administrations, db, digests, handovers, optouts, recipients, retention
from tallycast.administrations import By
from tallycast.digests import Key
from tallycast.errors import BadQuery, Unprocessable
from tallycast.handovers import ERASED, Claim, Desk, Failed, Results
from tallycast.keys import Cipher
from tallycast.moments import write_moment
from tallycast.numbers import InvalidNumber, parse_number
from tallycast.recipients import Recipient
from tallycast.sql import load
from tallycast.stories import Event

Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
_SQL = load("people")
_ON_ITS_WAY = "a message to this number is on its way at this moment: erase it again in a minute"
_IMPORTING = "an import of an audience is not done yet, and may hold this number: erase it again after it"
# Where else the number may stand: it is taken out of texts, and rows that are about nobody else go. Each is counted.
_ELSEWHERE = {
    "texts": _SQL["erase_texts"],
    "trials": _SQL["erase_trials"],
    "importErrors": _SQL["erase_import_errors"],
    "imports": _SQL["mask_imports"],
    "unreadable": _SQL["erase_unreadable"],
    "parked": _SQL["erase_parked"],
    "identities": _SQL["erase_identities"],
    "deliveries": _SQL["mask_notices"],
    "transitions": _SQL["mask_transitions"],
    "administrations": _SQL["mask_administrations"],
    "sendings": _SQL["mask_sendings"],
    "channels": _SQL["mask_channels"],
    "answers": _SQL["mask_answers"],
    "insights": _SQL["mask_insights"],
}


class Message(msgspec.Struct, frozen=True, rename="camel"):
    """A message to the person, with all that happened to it. `variables`: what it is filled with."""

    campaign_id: str = msgspec.field(name="campaignID")
    campaign_name: str
    variables: list[str]
    recipient: Recipient
    events: list[Event]


class Text(msgspec.Struct, frozen=True, rename="camel"):
    """What the person wrote; `messageID` is the message that it quotes."""

    channel_id: str = msgspec.field(name="channelID")
    text: str
    message_id: str | None = msgspec.field(name="messageID")
    received_at: Moment


class Choice(msgspec.Struct, frozen=True, rename="camel"):
    """Whether the person wants messages of a kind: when the last word of each sense was said, and how it is known."""

    kind: str
    recipient: str
    source: str
    evidence: str
    opted_out_at: Moment | None
    opted_in_at: Moment | None


class Trial(msgspec.Struct, frozen=True, rename="camel"):
    campaign_id: str = msgspec.field(name="campaignID")
    content: str | None
    variables: list[str]
    asked_as: str
    asked_at: Moment
    outcome: str | None


class SetAside(msgspec.Struct, frozen=True, rename="camel"):
    """A row of a file that was not taken."""

    campaign_id: str = msgspec.field(name="campaignID")
    line: int
    cells: list[str]
    error: str


class Erasure(msgspec.Struct, frozen=True, rename="camel"):
    """Who was erased, as a digest, by whom and when; `touched` counts rows by what they are."""

    erasure_id: str = msgspec.field(name="erasureID")
    digest: str
    asked_as: str
    erased_at: Moment
    touched: dict[str, int]


class Person(msgspec.Struct, frozen=True, rename="camel"):
    """All that is known under a number. `digests`: what stands for it where it was made anonymous."""

    recipient: str
    digests: list[str]
    user_ids: list[str] = msgspec.field(name="userIDs")
    messages: list[Message]
    texts: list[Text]
    opt_outs: list[Choice]
    trials: list[Trial]
    import_errors: list[SetAside]
    unreadable: list[str]
    erasures: list[Erasure]


class _Place(NamedTuple):
    """A message of the person. `waits`: it is not handed over, and would be sent from here."""

    campaign_id: int
    seq: int
    channel_number: int
    recipient: str
    campaign_name: str
    variables: list[str] | None
    waits: bool


def read_number(text: str) -> str:
    """E.164; BadQuery. A `+` that was not escaped in a URL has come as a space."""
    try:
        return parse_number(f"+{text[1:]}" if text.startswith(" ") else text).e164
    except InvalidNumber as error:
        raise BadQuery.of(f"number must be a phone number with its country code: {error}") from None


async def show(connection: db.Connection, cipher: Cipher, app_id: str, number: str) -> Person:
    """Everything about a number (E.164); empty lists where nothing is known."""
    params = await _find_params(connection, cipher, app_id, number)
    rows = {name: await db.fetch_rows(connection, query, params) for name, query in _SHOWN.items()}
    return Person(
        number,
        params["digests"],
        params["user_ids"],
        [await _tell(connection, app_id, place) for place in await _find_places(connection, params)],
        [Text(channel, body, quoted, write_moment(at)) for channel, body, quoted, at in rows["texts"]],
        [
            Choice(*said, *map(_moment, moments))
            for *said, first, last in rows["words"]
            for moments in [(first, last)]
        ],
        [
            Trial(str(campaign), content, variables, asked_as, write_moment(at), outcome)
            for campaign, content, variables, asked_as, at, outcome in rows["trials"]
        ],
        [SetAside(str(campaign), *rest) for campaign, *rest in rows["import_errors"]],
        [raw.decode(errors="replace") for (raw,) in rows["unreadable"]],
        [_erasure(*row) for row in rows["erasures"]],
    )


async def note_showing(connection: db.Connection, cipher: Cipher, app_id: str, number: str, by: By) -> None:
    """Write down that somebody has read all about a person, who stands there as a digest."""
    whom = (await digests.take_key(connection, cipher, app_id)).digest(number)
    await administrations.note(connection, app_id, by, "person.shown", whom)


_SHOWN = {
    "texts": _SQL["list_texts"],
    "words": _SQL["list_words"],
    "trials": _SQL["list_trials"],
    "import_errors": _SQL["list_import_errors"],
    "unreadable": _SQL["list_unreadable"],
    "erasures": _SQL["list_erasures_of"],
}


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else write_moment(moment)


async def _find_params(connection: db.Connection, cipher: Cipher, app_id: str, number: str) -> dict[str, Any]:
    """What the person is known under, for the queries. `pattern` finds the digits in any usual spelling."""
    places = await digests.find_addresses(connection, cipher, app_id, [number])
    digits = number.removeprefix("+")
    ids = await db.fetch_rows(connection, _SQL["list_user_ids"], {"app_id": app_id, "recipient": number})
    user_ids = [user_id for (user_id,) in ids]
    return {
        "app_id": app_id,
        "recipient": number,
        "digests": [address for _, address in places if address != number],
        "user_ids": user_ids,
        "addresses": [*(address for _, address in places), *user_ids],
        "senders": [number, digits, *user_ids],
        "kinds": list(optouts.KINDS),
        "digits": digits,
        "encodings": [f"%{one}%" for one in _list_encodings(digits)],
        "pattern": r"\+?(?<![0-9])" + r"[^0-9A-Za-z]{0,3}".join(digits) + r"(?![0-9])",
    }


def _list_encodings(digits: str) -> set[str]:
    """How a number stands in a message id of WhatsApp: in base64, after how many digits it has, wherever it begins.

    Its last character has some bits of the byte that follows, so each of these is there. What the first one has of the
    byte before is cut off.
    """
    text = bytes([len(digits)]) + digits.encode()
    return {
        base64.b64encode(bytes(skipped) + text + bytes([after])).decode()[
            _count_characters(skipped) : _count_characters(skipped + len(text))
        ]
        for skipped in range(3)
        for after in range(256)
    }


def _count_characters(size: int) -> int:
    """How many characters of base64 begin within so many bytes."""
    return -(-size * 4 // 3)


async def _find_places(connection: db.Connection, params: Mapping[str, Any]) -> list[_Place]:
    return [_Place(*row) for row in await db.fetch_rows(connection, _SQL["find_places"], params)]


async def _tell(connection: db.Connection, app_id: str, place: _Place) -> Message:
    story = await recipients.tell_story(connection, app_id, place.campaign_id, place.seq)
    variables = place.variables or []
    return Message(str(place.campaign_id), place.campaign_name, variables, story.recipient, story.events)


async def erase(
    connection: db.Connection, cipher: Cipher, app_id: str, number: str, by: By, *, opt_out: bool = True
) -> Erasure:
    """Make a person anonymous everywhere, and write that down. Repeating it erases what has come since.

    `opt_out`: he is opted out of everything; without it only what he has said himself survives. Unprocessable while
    a message to him is on its way, or an audience is being imported. Campaign by campaign is one commit, so that
    receipts flow meanwhile; what is refused, or cut off, is finished by asking again.
    """
    key = await digests.take_key(connection, cipher, app_id)
    params = await _find_params(connection, cipher, app_id, number)
    params["digest"] = key.digest(number)
    async with connection.transaction():
        renamed = await optouts.rename(
            connection, app_id, params["addresses"], params["digest"], stops=opt_out
        )
    # An import that begins from here on sees the opt-out.
    if await db.fetch_rows(connection, _SQL["is_importing"], params):
        raise Unprocessable(_IMPORTING)
    erased = [
        await db.retry_conflicts(partial(_erase_message, connection, app_id, place, key))
        for place in await _find_places(connection, params)
        if place.recipient == number
    ]

    async def finish() -> Erasure:
        async with connection.transaction():
            await db.take_time(connection)
            touched = {"messages": len(erased), "setAside": sum(erased), "optOuts": renamed}
            for name, query in _ELSEWHERE.items():
                touched[name] = await db.execute(connection, query, params)
            said = By(re.sub(params["pattern"], params["digest"], by.actor), by.address)
            await administrations.note(connection, app_id, said, "person.erased", params["digest"])
            return await _record(connection, params, said.actor, touched)

    return await db.retry_conflicts(finish)


async def _erase_message(connection: db.Connection, app_id: str, place: _Place, key: Key) -> bool:
    """Whether the message was waiting, and is set aside now. What is locked here, no worker claims."""
    params = {"app_id": app_id, **place._asdict()}
    async with connection.transaction():
        await db.fetch_rows(connection, _SQL["hold_sending"], params)
        held = await db.fetch_rows(connection, _SQL["hold_handover"], params)
        if held and held[0][0] == "claimed":
            raise Unprocessable(_ON_ITS_WAY)
        [(waits,)] = await db.fetch_rows(connection, _SQL["hold_message"], params)
        if place.waits and waits:
            claim = Claim(place.campaign_id, place.seq)
            desk = Desk(app_id, place.channel_number, "")
            await handovers.record(connection, desk, Results(skipped=[Failed(claim, "erased", ERASED)]))
        await retention.anonymise(connection, app_id, place.campaign_id, [(place.seq, place.recipient)], key)
        return place.waits and waits


async def _record(
    connection: db.Connection, params: Mapping[str, Any], actor: str, touched: Mapping[str, int]
) -> Erasure:
    row = {
        "app_id": params["app_id"],
        "erasure_id": str(uuid.uuid4()),
        "digest": params["digest"],
        "asked_as": actor,
        "touched": msgspec.json.encode({name: n for name, n in touched.items() if n}).decode(),
    }
    [found] = await db.fetch_rows(connection, _SQL["add_erasure"], row)
    return _erasure(*found)


async def list_erasures(connection: db.Connection, app_id: str, limit: int, offset: int) -> list[Erasure]:
    """The latest first."""
    params = {"app_id": app_id, "limit": limit, "offset": offset}
    return [_erasure(*row) for row in await db.fetch_rows(connection, _SQL["list_erasures"], params)]


def _erasure(erasure_id: str, digest: str, asked_as: str, erased_at: datetime, touched: str) -> Erasure:
    return Erasure(erasure_id, digest, asked_as, write_moment(erased_at), msgspec.json.decode(touched))
