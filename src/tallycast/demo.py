"""The demo: an app with campaigns of the last 90 days, and two that are being sent while one looks.

The live campaigns are made through the public API and go out to a simulator beside the server: duplicates, disorder,
failures, button and link clicks included. Others stand still, so that each stage has one. And there is somebody who can
sign in to look at all of it.
"""

import asyncio
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import urlsplit

import click
import msgspec

from tallycast import apps, channels, db, demo_history, invitations, keys, serving, staff
from tallycast.channels import Channel, ChannelChange, NewChannel
from tallycast.config import Settings
from tallycast.demo_stages import arrange
from tallycast.errors import NotFound
from tallycast.live import Live, api_key, send_campaigns
from tallycast.roles import Role
from tallycast.simulator.child import simulating
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
# The app's people: email, name, EID and role. The first one gets the link.
_STAFF: tuple[tuple[str, str, str, Role], ...] = (
    ("demo@example.com", "Demo staff", "demo-1", "admin"),
    ("editor@example.com", "Demo editor", "demo-2", "editor"),
    ("approver@example.com", "Demo approver", "demo-3", "approver"),
)


def run(settings: Settings) -> None:
    plan = Plan(port=0, smpp_port=None, public_url=settings.base_url)
    with simulating(plan) as simulator_url:
        private_hosts = (*settings.private_hosts, urlsplit(simulator_url).netloc)
        # A line for each request would carry away what is printed for people.
        level = "warning" if settings.log_level == "info" else settings.log_level
        _serve(replace(settings, private_hosts=private_hosts, log_level=level), simulator_url)


class Ready(NamedTuple):
    """`invitation`: the token of the link that signs in; `is_new`: the app was made by this start."""

    live: Live
    invitation: str
    is_new: bool


def _serve(settings: Settings, simulator_url: str) -> None:
    prepared: list[Ready] = []

    def prepare(url: str) -> None:
        prepared.append(asyncio.run(_prepare(settings, url, simulator_url)))

    def when_ready(server_url: str) -> None:
        ready = prepared[0]
        _explain(server_url, simulator_url, ready)
        if ready.is_new:
            arrange(server_url, simulator_url, ready.live)
        send_campaigns(server_url, simulator_url, ready.live)

    serving.serve(settings, prepare=prepare, when_ready=when_ready)


def _explain(server_url: str, simulator_url: str, ready: Ready) -> None:
    click.echo(
        f"\nThe demo in your browser. Choose a password there; the link works once, the next start prints another:\n\n"
        f"  {invitations.write_url(server_url, ready.invitation)}\n\n"
        f"Its campaigns over the API, two of them on their way while you look:\n\n"
        f"  curl -H 'Authorization: Bearer {ready.live.token}' \\\n"
        f"    '{server_url}/v1/api/apps/{APP_ID}/data/sent-campaigns-summary?limit=5'\n\n"
        f"What reached the handsets, as the simulated providers know it:\n\n"
        f"  curl {simulator_url}/simulator/ledger/summary\n\n"
        f"API documentation: {server_url}/docs\nStop with Ctrl-C; your next start goes on with the same data.\n"
    )


async def _prepare(settings: Settings, url: str, simulator_url: str) -> Ready:
    """Fill an empty database, point the channels at the simulator, and make a token that replaces the last start's."""
    cipher = keys.load_cipher(settings.encryption_key, settings.data_dir)
    async with db.connect(url) as connection:
        is_new = await apps.find_app(connection, APP_ID) is None
        if is_new:
            async with connection.transaction():
                await _fill(connection, cipher)
        for token in await apps.list_tokens(connection, APP_ID):
            if token.name == "demo" and token.revoked_at is None:
                await apps.revoke_token(connection, APP_ID, token.token_id)
        plain = (await apps.create_token(connection, APP_ID, name="demo")).plain
        async with connection.transaction():
            found = await _point_channels(connection, cipher, settings, simulator_url)
            invitation = await _invite(connection)
    return Ready(Live(APP_ID, plain, found, _SECRET), invitation, is_new)


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
    await apps.create_app(connection, "Demo", APP_ID)
    whatsapp = NewChannel(
        type="whatsApp", provider="360dialog", phone="+447700900000", channel_name="Demo WhatsApp",
        source_name="Demo templates", webhook_secret=_SECRET,
    )  # fmt: skip
    sms = NewChannel(type="sms", provider="twilio", phone="DEMO", credentials={"authToken": _SECRET})
    by_type: dict[str, Channel] = {
        new.type: await channels.create(connection, cipher, APP_ID, new) for new in (whatsapp, sms)
    }
    await demo_history.fill(connection, APP_ID, by_type)


async def _invite(connection: db.Connection) -> str:
    """The token of a link with which one chooses the demo staff's password. They have a role in the demo's app alone."""
    for email, name, eid, role in _STAFF:
        try:
            known = await staff.find(connection, email)
        except NotFound:
            known = await staff.create(connection, email, name, eid)
            await staff.set_role(connection, APP_ID, known.staff_id, role)
    return await invitations.invite(connection, (await staff.find(connection, _STAFF[0][0])).staff_id)
