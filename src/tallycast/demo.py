"""The demo: an app with campaigns of the last 90 days, and two that are being sent while one looks.

The history is folded in with the functions that webhooks use. The live campaigns are made through the public API and
go out to a simulator beside the server: duplicates, disorder, failures, button and link clicks included. Telephone
numbers are of the ranges that are reserved for fiction.
"""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import click
import msgspec

from tallycast import apps, campaigns, channels, db, keys, links, messages, receipts, serving
from tallycast.campaigns import SentCampaign
from tallycast.channels import Channel, ChannelChange, NewChannel
from tallycast.config import Settings
from tallycast.events import ButtonClick, Event, Receipt, Status
from tallycast.live import Live, api_key, send_campaigns
from tallycast.moments import write_moment
from tallycast.receipts import Arrival
from tallycast.simulator.child import simulating
from tallycast.simulator.numbers import make_numbers
from tallycast.simulator.server import Plan

APP_ID = "demo"
_SECRET = "demo-webhook-secret"  # noqa: S105 - of channels that only the demo has
# The live campaigns' channels: slow enough to be watched.
_SENDING = (
    NewChannel(
        type="whatsApp", provider="sandbox", phone="+447700900000", channel_name="Demo WhatsApp (simulated)",
        source_name="Demo templates", webhook_secret=_SECRET, rate_per_second=5.0,
    ),
    NewChannel(type="sms", provider="sandbox", phone="+447700900001", webhook_secret=_SECRET, rate_per_second=2.0),
)  # fmt: skip
_AGENTS = ("Mozilla/5.0 (Linux; Android 15) Chrome/142.0 Mobile", "WhatsApp/2.25.30.74 A")
# name, channel type, template, recipients, days ago, and of them: delivered, read, failed, who chose a button
_HISTORY = (
    ("Summer opening hours", "sms", "", 480, 88, 0.97, 0.0, 0.03, 0.0),
    ("Loyalty points reminder", "whatsApp", "points_reminder_v2", 900, 81, 0.95, 0.78, 0.03, 0.12),
    ("Delivery slot survey", "whatsApp", "delivery_survey", 350, 74, 0.92, 0.70, 0.06, 0.31),
    ("Back to school", "sms", "", 1200, 66, 0.96, 0.0, 0.04, 0.0),
    ("Back to school, second wave", "whatsApp", "school_offer_v1", 1500, 61, 0.94, 0.66, 0.04, 0.09),
    ("Store moved", "sms", "", 260, 49, 0.98, 0.0, 0.02, 0.0),
    ("Autumn preview", "whatsApp", "autumn_preview", 1100, 40, 0.93, 0.71, 0.05, 0.14),
    ("Appointment reminders", "sms", "", 640, 31, 0.97, 0.0, 0.03, 0.0),
    ("Members' evening", "whatsApp", "members_evening", 420, 22, 0.96, 0.83, 0.02, 0.42),
    ("Winter tyres", "sms", "", 800, 14, 0.95, 0.0, 0.05, 0.0),
    ("Early access", "whatsApp", "early_access_v3", 1300, 6, 0.91, 0.62, 0.06, 0.11),
    ("Weekend hours", "sms", "", 540, 1, 0.90, 0.0, 0.03, 0.0),
)


def run(settings: Settings) -> None:
    plan = Plan(port=0, smpp_port=None, public_url=settings.base_url)
    with simulating(plan) as simulator_url:
        private_hosts = (*settings.private_hosts, urlsplit(simulator_url).netloc)
        _serve(replace(settings, private_hosts=private_hosts), simulator_url)


def _serve(settings: Settings, simulator_url: str) -> None:
    live: list[Live] = []

    def prepare(url: str) -> None:
        live.append(asyncio.run(_prepare(settings, url, simulator_url)))

    def when_ready(server_url: str) -> None:
        _explain(server_url, simulator_url, live[0])
        send_campaigns(server_url, simulator_url, live[0])

    serving.serve(settings, prepare=prepare, when_ready=when_ready)


def _explain(server_url: str, simulator_url: str, live: Live) -> None:
    click.echo(
        f"\nThe demo's campaigns, two of them on their way while you look:\n\n"
        f"  curl -H 'Authorization: Bearer {live.token}' \\\n"
        f"    '{server_url}/v1/api/apps/{APP_ID}/data/sent-campaigns-summary?limit=5'\n\n"
        f"What reached the handsets, as the simulated providers know it:\n\n"
        f"  curl {simulator_url}/simulator/ledger/summary\n\n"
        f"API documentation: {server_url}/docs\nStop with Ctrl-C; your next start goes on with the same data.\n"
    )


async def _prepare(settings: Settings, url: str, simulator_url: str) -> Live:
    """Fill an empty database, point the channels at the simulator, and make a token that replaces the last start's."""
    cipher = keys.load_cipher(settings.encryption_key, settings.data_dir)
    async with db.connect(url) as connection:
        if await apps.find_app(connection, APP_ID) is None:
            async with connection.transaction():
                await _fill(connection, cipher)
        for token in await apps.list_tokens(connection, APP_ID):
            if token.name == "demo" and token.revoked_at is None:
                await apps.revoke_token(connection, APP_ID, token.token_id)
        plain = (await apps.create_token(connection, APP_ID, name="demo")).plain
        async with connection.transaction():
            found = await _point_channels(connection, cipher, settings, simulator_url)
    return Live(APP_ID, plain, found, _SECRET)


async def _point_channels(
    connection: db.Connection, cipher: keys.Cipher, settings: Settings, simulator_url: str
) -> dict[str, str]:
    """The ids of the channels that send through the simulator, by type; the simulator is elsewhere at each start."""
    known: dict[str, str] = {
        channel.type: channel.channel_id
        for channel in await channels.list_all(connection, APP_ID)
        if channel.provider == "sandbox"
    }
    for new in _SENDING:
        target = {"baseURL": simulator_url, "apiKey": api_key(new.type)}
        if new.type in known:
            wanted = ChannelChange(credentials=target)
            await channels.change(connection, cipher, APP_ID, known[new.type], wanted, settings.private_hosts)
        else:
            added = msgspec.structs.replace(new, credentials=target)
            made = await channels.create(connection, cipher, APP_ID, added, settings.private_hosts)
            known[new.type] = made.channel_id
    return known


async def _fill(connection: db.Connection, cipher: keys.Cipher) -> None:
    click.echo("filling the demo with campaigns of the last 90 days ...", err=True)
    app = await apps.create_app(connection, "Demo", APP_ID)
    whatsapp = NewChannel(
        type="whatsApp", provider="360dialog", phone="+447700900000", channel_name="Demo WhatsApp",
        source_name="Demo templates", webhook_secret=_SECRET,
    )  # fmt: skip
    sms = NewChannel(type="sms", provider="generic", phone="DEMO", webhook_secret=_SECRET)
    by_type: dict[str, Channel] = {
        new.type: await channels.create(connection, cipher, APP_ID, new) for new in (whatsapp, sms)
    }
    dice = random.Random(20)  # noqa: S311 - the same demo for everybody
    for number, row in enumerate(_HISTORY):
        await _add_campaign(connection, app, by_type[row[1]], dice, number, row)


async def _add_campaign(
    connection: db.Connection,
    app: apps.App,
    channel: Channel,
    dice: random.Random,
    number: int,
    row: tuple[str, str, str, int, int, float, float, float, float],
) -> None:
    name, kind, template, size, days, delivered, read, failed, chosen = row
    sent_at = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(
        days=days, hours=number % 5
    )
    sent = SentCampaign(
        name, channel.channel_id, created_by="Demo staff", sender_eid="demo-1" if kind == "sms" else "",
        subject=template, content=f"{name}: see our site for details.", date=write_moment(sent_at),
    )  # fmt: skip
    campaign_id = await campaigns.record(connection, APP_ID, channel, sent)
    ids = [f"demo-{number}-{n}" for n in range(size)]
    recipients = zip(make_numbers(size, dice), ids, strict=True)
    lines = [messages.check_entry(n, n, messages.Entry(*pair)) for n, pair in enumerate(recipients)]
    await messages.record(connection, APP_ID, campaign_id, messages.parse_rows(lines)[0])
    events = list(_history(ids, int(sent_at.timestamp() * 1000), dice, delivered, read, failed, chosen))
    arrival = Arrival(APP_ID, channel.channel_number, receipts.now_ms(), events)
    await receipts.apply(connection, APP_ID, [arrival])
    if kind == "whatsApp":
        await _add_clicks(connection, app, campaign_id, size, sent_at, dice)


def _history(
    ids: list[str],
    sent_ms: int,
    dice: random.Random,
    delivered: float,
    read: float,
    failed: float,
    chosen: float,
) -> Iterator[Event]:
    for message_id in ids:
        fate, at_ms = dice.random(), sent_ms + dice.randrange(2_000, 90_000)
        if fate < failed:
            yield Receipt(message_id, Status.FAILED, at_ms, "131026", "Message undeliverable")
        elif fate < failed + delivered:
            yield Receipt(message_id, Status.DELIVERED, at_ms)
            if dice.random() < read / delivered:
                yield Receipt(message_id, Status.READ, at_ms + dice.randrange(5_000, 9_000_000))
            if dice.random() < chosen:
                yield ButtonClick(dice.choice(("yes", "later")), message_id, None, at_ms + 60_000)


async def _add_clicks(
    connection: db.Connection,
    app: apps.App,
    campaign_id: int,
    size: int,
    sent_at: datetime,
    dice: random.Random,
) -> None:
    link = await links.create(connection, app.app_id, campaign_id, "https://example.com/offer")
    sent_ms = int(sent_at.timestamp() * 1000)
    hits = [
        links.Click(
            APP_ID, f"{dice.getrandbits(128):032x}", link.link_key, campaign_id, dice.randrange(size),
            sent_ms + dice.randrange(60_000, 7_200_000), "GET", dice.choice(_AGENTS), "",
        )
        for _ in range(size // 8)
    ]  # fmt: skip
    await links.count(connection, APP_ID, hits)
