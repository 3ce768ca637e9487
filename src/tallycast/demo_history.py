"""The demo's campaigns of the last 90 days, folded in with the functions that webhooks use.

Telephone numbers are of the ranges that are reserved for fiction.
"""

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from tallycast import campaigns, db, links, messages, receipts
from tallycast.campaigns import SentCampaign
from tallycast.channels import Channel
from tallycast.events import ButtonClick, Event, Receipt, Status
from tallycast.moments import write_moment
from tallycast.receipts import Arrival
from tallycast.simulator.numbers import make_numbers

_PEOPLE = (("Demo staff", "demo-1"), ("Demo editor", "demo-2"), ("Demo approver", "demo-3"))
_PHONE = "Mozilla/5.0 (Linux; Android 15) Chrome/142.0 Mobile"
_APPLE = "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) Mobile Safari"
_AGENTS = (_PHONE, _PHONE, _APPLE, "WhatsApp/2.25.30.74 A", "facebookexternalhit/1.1")
_FAILURES = {
    "whatsApp": (
        ("131026", "Message undeliverable"),
        ("131026", "Message undeliverable"),
        ("131049", "This message was not delivered to maintain healthy ecosystem engagement"),
        ("130472", "User's number is part of an experiment"),
    ),
    "sms": (
        ("30003", "Unreachable destination handset"),
        ("30005", "Unknown destination handset"),
        ("30006", "Landline or unreachable carrier"),
    ),
}


class Past(NamedTuple):
    """Of the recipients: the shares that got it, read it, failed, and chose one of the `buttons`."""

    name: str
    type: str
    template: str
    text: str
    size: int
    days_ago: int
    delivered: float
    read: float
    failed: float
    chosen: float = 0.0
    buttons: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


_HISTORY = (
    Past("Summer opening hours", "sms", "", "In August we are open from 8 am to 10 pm.", 480, 88, 0.97, 0, 0.03),
    Past(
        "Loyalty points reminder", "whatsApp", "points_reminder_v2", "Your points end with this month. Use them now.",
        900, 81, 0.95, 0.78, 0.03, 0.12, ("Show my points", "Not now"), ("https://example.com/points",),
    ),
    Past(
        "Delivery slot survey", "whatsApp", "delivery_survey", "When do you like your parcels to arrive?",
        350, 74, 0.92, 0.70, 0.06, 0.31, ("Morning", "Afternoon", "Evening"),
    ),
    Past("Back to school", "sms", "", "Back to school: 20% off all bags this week.", 1200, 66, 0.96, 0, 0.04),
    Past(
        "Back to school, second wave", "whatsApp", "school_offer_v1", "The last days for 20% off bags and pens.",
        1500, 61, 0.94, 0.66, 0.04, 0.09, ("Yes, please", "Maybe later"),
        ("https://example.com/school", "https://example.com/bags"),
    ),
    Past("Store moved", "sms", "", "We have moved: 12 Harbour Road, second floor.", 260, 49, 0.98, 0, 0.02),
    Past(
        "Autumn preview", "whatsApp", "autumn_preview", "The autumn collection is here. Have a look before the others.",
        1100, 40, 0.93, 0.71, 0.05, 0.14, ("Show me", "Maybe later"), ("https://example.com/autumn",),
    ),
    Past("Appointment reminders", "sms", "", "We expect you tomorrow. To change it, call us.", 640, 31, 0.97, 0, 0.03),
    Past(
        "Members' evening", "whatsApp", "members_evening", "An evening for members, with music. Do you come?",
        420, 22, 0.96, 0.83, 0.02, 0.42, ("I come", "I come with a guest", "Not this time"),
        ("https://example.com/evening",),
    ),
    Past("Winter tyres", "sms", "", "Time for winter tyres. Book your slot by phone.", 800, 14, 0.95, 0, 0.05),
    Past(
        "Early access", "whatsApp", "early_access_v3", "Early access to our winter sale, for you alone until Friday.",
        1300, 6, 0.91, 0.62, 0.06, 0.11, ("Yes, please", "Maybe later"),
        ("https://example.com/sale", "https://example.com/sale/shoes", "https://example.com/terms"),
    ),
    Past("Weekend hours", "sms", "", "This weekend we close at 6 pm.", 540, 1, 0.90, 0, 0.03),
)  # fmt: skip


async def fill(connection: db.Connection, app_id: str, by_type: Mapping[str, Channel]) -> None:
    """Record all of them; the same for everybody, but for the dates."""
    dice = random.Random(20)  # noqa: S311 - no secret
    for number, past in enumerate(_HISTORY):
        await _record(connection, app_id, by_type[past.type], dice, number, past)


async def _record(
    connection: db.Connection, app_id: str, channel: Channel, dice: random.Random, number: int, past: Past
) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    sent_at = hour - timedelta(days=past.days_ago, hours=number % 5)
    created_by, eid = _PEOPLE[number % len(_PEOPLE)]
    sent = SentCampaign(
        past.name, channel.channel_id, created_by, sender_eid=eid if past.type == "sms" else "",
        subject=past.template, content=past.text, date=write_moment(sent_at),
    )  # fmt: skip
    campaign_id = await campaigns.record(connection, app_id, channel, sent)
    ids = [f"demo-{number}-{n}" for n in range(past.size)]
    recipients = zip(make_numbers(past.size, dice), ids, strict=True)
    lines = [messages.check_entry(n, n, messages.Entry(*pair)) for n, pair in enumerate(recipients)]
    await messages.record(connection, app_id, campaign_id, messages.parse_rows(lines)[0])
    sent_ms = int(sent_at.timestamp() * 1000)
    arrival = Arrival(
        app_id, channel.channel_number, receipts.now_ms(), list(_tell(past, ids, sent_ms, dice))
    )
    await receipts.apply(connection, app_id, [arrival])
    for url in past.links:
        await _click(connection, app_id, campaign_id, url, past.size, sent_ms, dice)


def _tell(past: Past, ids: list[str], sent_ms: int, dice: random.Random) -> Iterator[Event]:
    for message_id in ids:
        fate, at_ms = dice.random(), sent_ms + dice.randrange(2_000, 900_000)
        if fate < past.failed:
            yield Receipt(message_id, Status.FAILED, at_ms, *dice.choice(_FAILURES[past.type]))
        elif fate < past.failed + past.delivered:
            yield Receipt(message_id, Status.DELIVERED, at_ms)
            if dice.random() < past.read / past.delivered:
                yield Receipt(message_id, Status.READ, at_ms + int(dice.expovariate(1 / 2_400_000)))
            if dice.random() < past.chosen:
                yield ButtonClick(dice.choice(past.buttons), message_id, None, at_ms + 60_000)


async def _click(
    connection: db.Connection,
    app_id: str,
    campaign_id: int,
    url: str,
    size: int,
    sent_ms: int,
    dice: random.Random,
) -> None:
    """Some of the recipients, each once or more, people and previews of their messengers."""
    link = await links.create(connection, app_id, campaign_id, url)
    hits = [
        links.Click(
            app_id, f"{dice.getrandbits(128):032x}", link.link_key, campaign_id, dice.randrange(size),
            sent_ms + dice.randrange(960_000, 9_000_000), "GET", dice.choice(_AGENTS), "",
        )
        for _ in range(size // dice.randrange(6, 20))
    ]  # fmt: skip
    await links.count(connection, app_id, hits)
