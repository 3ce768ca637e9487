"""Channels: the numbers and sender ids of an app, their provider and secrets."""

import logging
import re
import time
from datetime import datetime
from typing import Literal

import msgspec

from tallycast import db
from tallycast.apps import random_text
from tallycast.errors import BadQuery, NotFound
from tallycast.keys import BadKey, Cipher
from tallycast.sql import load

ChannelType = Literal["sms", "whatsApp"]
Provider = Literal["360dialog", "meta", "twilio", "smpp", "generic", "sandbox"]
# Who can send what; the rest is a mistake that would only show when receipts do not come.
_PROVIDERS: dict[str, frozenset[str]] = {
    "whatsApp": frozenset({"360dialog", "meta", "twilio", "generic", "sandbox"}),
    "sms": frozenset({"twilio", "smpp", "generic", "sandbox"}),
}
log = logging.getLogger("tallycast.channels")
_SQL = load("channels")
_TRUST_SECONDS = 3.0
_PATIENCE_SECONDS = 1.0
_CACHE_SIZE = 20_000
_MAX_TEXT = 200
# Credentials that prove a webhook's origin; the others are for sending.
PROOF_KEYS = frozenset({"appSecret", "authToken", "signatureSecret", "verifyToken"})


class Secrets(msgspec.Struct, frozen=True, omit_defaults=True):
    webhook_secret: str = ""
    credentials: dict[str, str] = {}

    def __repr__(self) -> str:
        return "Secrets(…)"


class NewChannel(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    type: ChannelType
    provider: Provider
    phone: str
    channel_name: str = ""
    source_name: str = ""
    webhook_secret: str | None = None
    credentials: dict[str, str] | None = None


class ChannelChange(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a PATCH may change; what is absent stays, a null or empty secret is removed."""

    phone: str | msgspec.UnsetType = msgspec.UNSET
    channel_name: str | msgspec.UnsetType = msgspec.UNSET
    source_name: str | msgspec.UnsetType = msgspec.UNSET
    webhook_secret: str | msgspec.UnsetType | None = msgspec.UNSET
    credentials: dict[str, str] | msgspec.UnsetType | None = msgspec.UNSET


class Channel(msgspec.Struct, frozen=True):
    app_id: str
    channel_number: int
    channel_id: str
    type: ChannelType
    provider: Provider
    phone: str
    channel_name: str
    source_name: str
    secrets: bytes | None
    created_at: datetime

    def open_secrets(self, cipher: Cipher) -> Secrets:
        if self.secrets is None:
            return Secrets()
        return msgspec.json.decode(
            cipher.open(self.secrets, _context(self.app_id, self.channel_id)), type=Secrets
        )


def _context(app_id: str, channel_id: str) -> str:
    return f"channel {app_id} {channel_id}"


def _require_id(channel_id: str) -> None:
    """NotFound where the text cannot be a channel's id: it comes from URLs, and may hold what no database takes."""
    if not (channel_id.isascii() and channel_id.isprintable()):
        raise NotFound("no such channel")


def app_of(channel_id: str) -> str:
    """A channel's id opens with its app's: a webhook finds its tenant without asking all of them."""
    return channel_id.rpartition("-")[0]


def _check_credentials(credentials: dict[str, str] | None) -> None:
    """Other names are the sender's business; a proof's name that is spelled otherwise would leave the door open."""
    known = {name.lower(): name for name in PROOF_KEYS}
    for name in credentials or {}:
        meant = known.get(re.sub(r"[^a-z]", "", name.lower()))
        if meant not in {None, name}:
            raise BadQuery.of(f"credentials: {name} must be written {meant}")


def _check_texts(texts: dict[str, str | None]) -> None:
    for name, text in texts.items():
        if text is not None and (len(text) > _MAX_TEXT or "\0" in text):
            raise BadQuery.of(f"{name} must be at most {_MAX_TEXT} characters, without NUL")


def _seal(cipher: Cipher, app_id: str, channel_id: str, secrets: Secrets) -> bytes | None:
    if secrets == Secrets():
        return None
    return cipher.seal(msgspec.json.encode(secrets), _context(app_id, channel_id))


async def create(connection: db.Connection, cipher: Cipher, app_id: str, new: NewChannel) -> Channel:
    if new.provider not in _PROVIDERS[new.type]:
        raise BadQuery.of(f"provider {new.provider} does not send {new.type}")
    if not new.phone.strip():
        raise BadQuery.of("phone must be a number or a sender id")
    _check_texts({"phone": new.phone, "channelName": new.channel_name, "sourceName": new.source_name})
    _check_credentials(new.credentials)
    channel_id = f"{app_id}-{random_text(22)}"
    secrets = Secrets(new.webhook_secret or "", new.credentials or {})
    params = {
        "app_id": app_id,
        "channel_id": channel_id,
        "type": new.type,
        "provider": new.provider,
        "phone": new.phone,
        "channel_name": new.channel_name,
        "source_name": new.source_name,
        "secrets": _seal(cipher, app_id, channel_id, secrets),
    }
    await db.execute(connection, _SQL["add_channel"], params)
    return await find(connection, app_id, channel_id)


async def list_all(connection: db.Connection, app_id: str) -> list[Channel]:
    return await db.fetch_all(connection, Channel, _SQL["list_channels"], {"app_id": app_id})


async def find(connection: db.Connection, app_id: str, channel_id: str) -> Channel:
    _require_id(channel_id)
    params = {"app_id": app_id, "channel_id": channel_id}
    channel = await db.fetch_one(connection, Channel, _SQL["find_channel"], params)
    if channel is None:
        raise NotFound(f"no channel {channel_id}")
    return channel


async def change(
    connection: db.Connection, cipher: Cipher, app_id: str, channel_id: str, wanted: ChannelChange
) -> Channel:
    await db.fetch_rows(connection, _SQL["hold_channel"], {"app_id": app_id, "channel_id": channel_id})
    channel = await find(connection, app_id, channel_id)
    secrets = channel.open_secrets(cipher)
    if wanted.webhook_secret is not msgspec.UNSET:
        secrets = msgspec.structs.replace(secrets, webhook_secret=wanted.webhook_secret or "")
    if wanted.credentials is not msgspec.UNSET:
        _check_credentials(wanted.credentials)
        secrets = msgspec.structs.replace(secrets, credentials=wanted.credentials or {})
    names = ("phone", "channel_name", "source_name")
    given = {name: getattr(wanted, name) for name in names if getattr(wanted, name) is not msgspec.UNSET}
    if not given.get("phone", channel.phone).strip():
        raise BadQuery.of("phone must be a number or a sender id")
    _check_texts(given)
    params = {
        "app_id": app_id,
        "channel_id": channel_id,
        "secrets": _seal(cipher, app_id, channel_id, secrets),
        **{name: given.get(name, getattr(channel, name)) for name in names},
    }
    await db.execute(connection, _SQL["change_channel"], params)
    return await find(connection, app_id, channel_id)


async def delete(connection: db.Connection, app_id: str, channel_id: str) -> None:
    _require_id(channel_id)
    params = {"app_id": app_id, "channel_id": channel_id}
    if not await db.execute(connection, _SQL["delete_channel"], params):
        raise NotFound(f"no channel {channel_id}")


class OpenChannel(msgspec.Struct, frozen=True):
    """A channel with its secrets opened, as the database had it at `checked_at` (monotonic seconds)."""

    channel: Channel
    secrets: Secrets
    checked_at: float


class Channels:
    """One process's memory of channels: webhooks are authenticated from it, also while the database is away."""

    def __init__(self, pool: db.Pool, cipher: Cipher) -> None:
        self._pool = pool
        self._cipher = cipher
        self._open: dict[str, OpenChannel] = {}

    async def find(self, channel_id: str) -> OpenChannel:
        """The channel; NotFound. While the database is away what is remembered stands, else `db.AWAY` is raised."""
        known = self._open.get(channel_id)
        if known is not None and time.monotonic() - known.checked_at <= _TRUST_SECONDS:
            return known
        try:
            channel = await db.within(_PATIENCE_SECONDS, self._look_up(channel_id))
        except NotFound:
            self._open.pop(channel_id, None)
            raise
        except db.AWAY:
            if known is None:
                raise
            # Not every request shall wait for a database that is away.
            return self._remember(channel_id, known.channel, known.secrets)
        return self._remember(channel_id, channel, channel.open_secrets(self._cipher))

    async def _look_up(self, channel_id: str) -> Channel:
        async with self._pool.connection() as connection:
            return await find(connection, app_of(channel_id), channel_id)

    def _remember(self, channel_id: str, channel: Channel, secrets: Secrets) -> OpenChannel:
        if len(self._open) >= _CACHE_SIZE:
            self._open.pop(next(iter(self._open)))
        known = self._open[channel_id] = OpenChannel(channel, secrets, time.monotonic())
        return known

    async def preload(self, app_ids: list[str]) -> None:
        """Learn all channels at start, so that none is unknown when the database goes away."""
        async with self._pool.connection() as connection:
            for app_id in app_ids:
                for channel in await list_all(connection, app_id):
                    try:
                        self._remember(channel.channel_id, channel, channel.open_secrets(self._cipher))
                    except BadKey as error:
                        log.error("channel %s cannot be used: %s", channel.channel_id, error)  # noqa: TRY400 - a trace helps nobody
