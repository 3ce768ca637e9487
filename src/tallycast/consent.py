"""Consent: learning from what arrives who wants messages and who does not, in the transaction of the facts.

Opt-outs come as STOP in a text or by a button, as a preference that WhatsApp reports, and as a refusal of a message.
A text, and a button that says such a word, is kept under the provider's id of it and counts the first time only: where
the provider tells no time, a late repetition would otherwise look like a new word.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tallycast import db, optouts, policies
from tallycast.events import ButtonClick, Identity, Preference, TextReply
from tallycast.optouts import Kind, Word
from tallycast.references import Address
from tallycast.sql import load
from tallycast.wishes import read_wish

_SQL = load("consent")
_MAX_KNOWN = 200_000
# Identities that this process has written, as hashes: of 64 bits, so that one is taken for another once in 10^14.
_written: dict[int, int] = {}


class Place(NamedTuple):
    """Where something was said: on which channel, and about which message, if that is known."""

    channel_number: int
    message_id: str | None = None
    address: Address | None = None


class Said(NamedTuple):
    """What a recipient wrote, or the payload and the text of the button that he chose."""

    texts: tuple[str, ...]
    sender: str | None
    place: Place
    at_ms: int
    source: Literal["reply", "button"]


class Wish(NamedTuple):
    """That somebody wants messages, or does not. `sender`: a number or a user id; None where the message tells it.
    `at_ms`: None where the provider gave no time: then since the message has failed, else since the arrival.
    """

    wants: bool
    sender: str | None
    place: Place
    at_ms: int | None
    arrived_ms: int
    source: str
    evidence: str


@dataclass(slots=True)
class Signals:
    """What a batch says about consent: texts and clicks by channel and inbound id, identities by user id."""

    said: dict[tuple[int, str], Said] = field(default_factory=dict)
    wishes: list[Wish] = field(default_factory=list)
    identities: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.said or self.wishes or self.identities)

    def add_text(self, channel_number: int, text: TextReply, arrived_ms: int) -> None:
        at_ms = arrived_ms if text.at_ms is None else text.at_ms
        said = Said((text.text,), text.sender, Place(channel_number, text.message_id), at_ms, "reply")
        self.said.setdefault((channel_number, text.inbound_id), said)

    def add_click(self, place: Place, click: ButtonClick, at_ms: int) -> None:
        if click.inbound_id is not None:
            texts = (click.button,) if click.label is None else (click.button, click.label)
            said = Said(texts, click.sender, place, at_ms, "button")
            self.said.setdefault((place.channel_number, click.inbound_id), said)

    def add_preference(self, channel_number: int, one: Preference, arrived_ms: int) -> None:
        place = Place(channel_number)
        wish = Wish(one.wants, one.sender, place, one.at_ms, arrived_ms, "preference", one.detail)
        self.wishes.append(wish)

    def add_identity(self, app_id: str, identity: Identity) -> None:
        if not _is_known(app_id, identity):
            self.identities[identity.user_id] = identity.number

    def add_refusal(self, place: Place, code: str, at_ms: int | None, arrived_ms: int) -> None:
        evidence = f"{code} {place.message_id or ''}".strip()
        self.wishes.append(Wish(False, None, place, at_ms, arrived_ms, "refusal", evidence))


def _is_known(app_id: str, identity: Identity) -> bool:
    """Whether this process has written an identity before: nearly all that come have been."""
    return _written.get(hash((app_id, identity.user_id))) == hash(identity.number)


def remember(app_id: str, identities: dict[str, str]) -> None:
    """Note identities that were written and committed."""
    if len(_written) >= _MAX_KNOWN:
        _written.clear()
    _written.update((hash((app_id, user_id)), hash(number)) for user_id, number in identities.items())


async def learn(connection: db.Connection, app_id: str, signals: Signals) -> None:
    """Keep texts, identities and opt-outs. In a transaction of the caller, after the facts."""
    numbers = {user_id: optouts.address_of(number) for user_id, number in signals.identities.items()}
    if numbers:
        await optouts.learn_identities(connection, app_id, numbers)
    wishes = [*signals.wishes, *await _read_said(connection, app_id, signals.said)]
    if wishes:
        await optouts.merge(connection, app_id, await _address(connection, app_id, wishes))


async def _read_said(connection: db.Connection, app_id: str, said: dict[tuple[int, str], Said]) -> list[Wish]:
    """The wishes in texts and clicks that were not known before."""
    if not said:
        return []
    policy = await policies.find_policy(connection, app_id)
    wants = {
        key: wish
        for key, one in said.items()
        if (wish := read_wish(one.texts, policy.stop_words, policy.start_words)) is not None
        # A button's "Yes" answers what the message asked: only words that people write themselves opt them in.
        and (one.source == "reply" or not wish)
    }
    kept = {key: one for key, one in said.items() if one.source == "reply" or key in wants}
    return [
        Wish(wants[key], one.sender, one.place, one.at_ms, one.at_ms, one.source, key[1])
        for key in await _keep_texts(connection, app_id, kept)
        if key in wants and (one := kept[key])
    ]


async def _keep_texts(
    connection: db.Connection, app_id: str, texts: dict[tuple[int, str], Said]
) -> list[tuple[int, str]]:
    if not texts:
        return []
    params = {
        "app_id": app_id,
        "channel_number": [channel_number for channel_number, _ in texts],
        "inbound_id": [inbound_id for _, inbound_id in texts],
        "sender": [one.sender for one in texts.values()],
        "message_id": [one.place.message_id for one in texts.values()],
        "body": [one.texts[-1] for one in texts.values()],
        "received_ms": [one.at_ms for one in texts.values()],
    }
    rows = await db.fetch_rows(connection, _SQL["keep_texts"], params)
    return [(channel_number, inbound_id) for channel_number, inbound_id in rows]


async def _address(connection: db.Connection, app_id: str, wishes: list[Wish]) -> list[Word]:
    """Whose wishes they are: the sender's, and the recipient's of the message that they are about."""
    kinds = await _find_kinds(connection, app_id, wishes)
    senders = {one.sender: optouts.address_of(one.sender) for one in wishes if one.sender is not None}
    nameless = [address for address in senders.values() if not optouts.is_number(address)]
    names = await optouts.name_identities(connection, app_id, nameless)
    words = []
    for n, recipient, failed_ms in await _find_recipients(connection, app_id, wishes):
        words.append(_word(wishes[n - 1], kinds, recipient, failed_ms))
    for one in wishes:
        if one.sender is not None:
            address = senders[one.sender]
            words.append(_word(one, kinds, names.get(address, address), None))
    return words


def _word(wish: Wish, kinds: dict[int, Kind], recipient: str, failed_ms: int | None) -> Word:
    at_ms = next(at for at in (wish.at_ms, failed_ms, wish.arrived_ms) if at is not None)
    kind = kinds[wish.place.channel_number]
    return Word(kind, recipient, wish.wants, at_ms, wish.source, wish.evidence)


async def _find_kinds(connection: db.Connection, app_id: str, wishes: Iterable[Wish]) -> dict[int, Kind]:
    numbers = sorted({wish.place.channel_number for wish in wishes})
    params = {"app_id": app_id, "channel_number": numbers}
    return dict(await db.fetch_rows(connection, _SQL["find_kinds"], params))


async def _find_recipients(
    connection: db.Connection, app_id: str, wishes: list[Wish]
) -> list[tuple[int, str, int | None]]:
    """(number of the wish from 1, the recipient of its message, since when that has failed)."""
    places = [wish.place for wish in wishes]
    if not any(place.message_id or place.address for place in places):
        return []
    params = {
        "app_id": app_id,
        "channel_number": [place.channel_number for place in places],
        "message_id": [place.message_id for place in places],
        "campaign_id": [place.address and place.address.campaign_id for place in places],
        "seq": [place.address and place.address.seq for place in places],
    }
    rows = await db.fetch_rows(connection, _SQL["find_recipients"], params)
    return [(n, recipient, failed_ms) for n, recipient, failed_ms in rows]
