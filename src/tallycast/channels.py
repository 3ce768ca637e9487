"""Channels: the numbers and sender ids of an app, their provider and secrets, and their pace."""

import logging
import re
import time
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Literal, get_args

import msgspec

from tallycast import apps, db, hosts, notices
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
# Messages (SMS: parts) a second, unless the channel has a rate of its own. Who is not here only receives.
DEFAULT_RATES: dict[str, float] = {
    "360dialog": 80.0,  # Meta's limit of a number that it has not raised
    "meta": 80.0,
    "twilio": 10.0,
    "smpp": 50.0,
    "sandbox": 1000.0,
}
# What sending needs; a channel that only receives may lack all of it.
_NEEDS: dict[str, tuple[str, ...]] = {
    "360dialog": ("apiKey",),
    "meta": ("accessToken", "phoneNumberID"),
    "twilio": ("accountSID", "authToken"),
    "smpp": ("host", "systemID", "password"),
    "sandbox": ("baseURL", "apiKey"),
}
# What else is read from a channel's credentials.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "360dialog": ("baseURL", "signatureSecret"),
    "meta": ("wabaID", "appSecret", "verifyToken", "baseURL", "version"),
    "twilio": ("messagingServiceSID", "baseURL"),
    "smpp": (
        "port", "systemType", "tls", "sourceTON", "sourceNPI", "destinationTON", "destinationNPI", "defaultAlphabet",
        "concatenation", "messageIDs", "receiptTimeZone", "acceptedIsFinal", "window", "registeredDelivery",
    ),
    "sandbox": ("signatureSecret",),
}  # fmt: skip
_MAX_RATE = 10_000.0
_MAX_REASON = 500
Rate = Annotated[float, msgspec.Meta(gt=0, le=_MAX_RATE)]
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
    rate_per_second: Rate | None = None


class ChannelChange(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a PATCH may change; what is absent stays, a null or empty secret is removed, a null rate is the usual one.

    `credentials` are changed one by one, as the other secrets are; null removes all of them.
    """

    phone: str | msgspec.UnsetType = msgspec.UNSET
    channel_name: str | msgspec.UnsetType = msgspec.UNSET
    source_name: str | msgspec.UnsetType = msgspec.UNSET
    webhook_secret: str | msgspec.UnsetType | None = msgspec.UNSET
    credentials: Mapping[str, str | None] | msgspec.UnsetType | None = msgspec.UNSET
    rate_per_second: Rate | msgspec.UnsetType | None = msgspec.UNSET


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
    rate: float | None = None
    paused_at: datetime | None = None
    paused_reason: str | None = None
    heard_at: datetime | None = None
    heard: str = ""
    refused_at: datetime | None = None

    @property
    def rate_per_second(self) -> float | None:
        """Messages (SMS: parts) a second; None for a channel that only receives."""
        return self.rate or DEFAULT_RATES.get(self.provider)

    def open_secrets(self, cipher: Cipher) -> Secrets:
        if self.secrets is None:
            return Secrets()
        return msgspec.json.decode(
            cipher.open(self.secrets, place_of(self.app_id, self.channel_id)), type=Secrets
        )


def place_of(app_id: str, channel_id: str) -> str:
    """Where a channel's secrets are sealed for."""
    return f"channel {app_id} {channel_id}"


def webhook_url(base_url: str, channel: Channel) -> str:
    """Where the provider posts what it has to say."""
    return f"{base_url}/webhooks/{channel.provider}/{channel.channel_id}"


def credentials_of(provider: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of what a provider needs for sending, and of what else can be given."""
    return _NEEDS.get(provider, ()), _OPTIONS.get(provider, ())


def providers_of(channel_type: ChannelType) -> list[Provider]:
    """Who can send or receive messages of a type."""
    return [one for one in get_args(Provider) if one in _PROVIDERS[channel_type]]


def _require_id(channel_id: str) -> None:
    """NotFound where the text cannot be a channel's id: it comes from URLs, and may hold what no database takes."""
    if not (channel_id.isascii() and channel_id.isprintable()):
        raise NotFound("no such channel")


def app_of(channel_id: str) -> str:
    """A channel's id opens with its app's: a webhook finds its tenant without asking all of them."""
    return channel_id.rpartition("-")[0]


def _check_credentials(
    provider: str, names: Iterable[str], credentials: Mapping[str, str], private_hosts: Collection[str]
) -> None:
    """`names` are given now. Nobody would read one that is misspelled; if it is a proof's, the door would stay open."""
    known = (*_NEEDS.get(provider, ()), *_OPTIONS.get(provider, ()))
    for name in names:
        if name not in known:
            raise BadQuery.of(
                f"credentials: {provider} has no {name[:80]!r}; it has {', '.join(known) or 'none'}"
            )
    try:
        check_target(provider, credentials, private_hosts)
    except hosts.BadTarget as error:
        raise BadQuery.of(f"credentials.{error}") from None


def check_target(provider: str, credentials: Mapping[str, str], private_hosts: Collection[str]) -> None:
    """hosts.BadTarget where the credentials lead to an address that must not be called; its text opens with the name.

    The setting may have changed since the channel was made, so whoever is about to send asks again.
    """
    name = "host" if provider == "smpp" else "baseURL"
    target = credentials.get(name, "").strip()
    if not target:
        return
    if provider == "smpp":
        if "://" in target:
            raise hosts.BadTarget("host must be the name or address of a host, not a URL")
        target = f"{f'[{target}]' if ':' in target else target}:{_read_port(credentials)}"
    elif "://" not in target:
        raise hosts.BadTarget("baseURL must start with https://")
    try:
        hosts.check_target(target, private_hosts)
    except hosts.BadTarget as error:
        raise hosts.BadTarget(f"{name} {error}") from None


def _read_port(credentials: Mapping[str, str]) -> int:
    text = credentials.get("port", "").strip() or "2775"  # SMPP's own port
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:  # noqa: PLR2004 - TCP's ports
        raise hosts.BadTarget("port must be a number from 1 to 65535")
    return int(text)


def missing_credentials(
    channel_type: ChannelType, provider: str, credentials: Mapping[str, str]
) -> list[str]:
    """What a channel lacks for sending: names of credentials, or a provider that sends what it is for."""
    if provider not in DEFAULT_RATES:
        return [f"a provider that sends ({provider} only receives)"]
    if channel_type == "whatsApp" and provider == "twilio":
        return ["a provider that sends templates (twilio does not here)"]
    return [name for name in _NEEDS[provider] if not credentials.get(name, "").strip()]


def _check_texts(texts: dict[str, str | None]) -> None:
    for name, text in texts.items():
        if text is not None and (len(text) > _MAX_TEXT or "\0" in text):
            raise BadQuery.of(f"{name} must be at most {_MAX_TEXT} characters, without NUL")


def _seal(cipher: Cipher, app_id: str, channel_id: str, secrets: Secrets) -> bytes | None:
    if secrets == Secrets():
        return None
    return cipher.seal(msgspec.json.encode(secrets), place_of(app_id, channel_id))


async def create(
    connection: db.Connection,
    cipher: Cipher,
    app_id: str,
    new: NewChannel,
    private_hosts: Collection[str] = (),
) -> Channel:
    """`private_hosts` are those that the credentials may lead to, see `hosts.check_target`."""
    if new.provider not in _PROVIDERS[new.type]:
        raise BadQuery.of(f"provider {new.provider} does not send {new.type}")
    if not new.phone.strip():
        raise BadQuery.of("phone must be a number or a sender id")
    _check_texts({"phone": new.phone, "channelName": new.channel_name, "sourceName": new.source_name})
    credentials = new.credentials or {}
    _check_credentials(new.provider, credentials, credentials, private_hosts)
    channel_id = f"{app_id}-{random_text(22)}"
    secrets = Secrets(new.webhook_secret or "", credentials)
    params = {
        "app_id": app_id,
        "channel_id": channel_id,
        "type": new.type,
        "provider": new.provider,
        "phone": new.phone,
        "channel_name": new.channel_name,
        "source_name": new.source_name,
        "secrets": _seal(cipher, app_id, channel_id, secrets),
        "rate": new.rate_per_second,
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
    connection: db.Connection,
    cipher: Cipher,
    app_id: str,
    channel_id: str,
    wanted: ChannelChange,
    private_hosts: Collection[str] = (),
) -> Channel:
    await db.fetch_rows(connection, _SQL["hold_channel"], {"app_id": app_id, "channel_id": channel_id})
    channel = await find(connection, app_id, channel_id)
    secrets = channel.open_secrets(cipher)
    if wanted.webhook_secret is not msgspec.UNSET:
        secrets = msgspec.structs.replace(secrets, webhook_secret=wanted.webhook_secret or "")
    if wanted.credentials is not msgspec.UNSET:
        credentials = _merge(secrets.credentials, wanted.credentials)
        # One that is there already, under a name from before, may stay or be removed.
        fresh = [name for name, value in (wanted.credentials or {}).items() if value]
        _check_credentials(channel.provider, fresh, credentials, private_hosts)
        secrets = msgspec.structs.replace(secrets, credentials=credentials)
    names = ("phone", "channel_name", "source_name")
    given = {name: getattr(wanted, name) for name in names if getattr(wanted, name) is not msgspec.UNSET}
    if not given.get("phone", channel.phone).strip():
        raise BadQuery.of("phone must be a number or a sender id")
    _check_texts(given)
    params = {
        "app_id": app_id,
        "channel_id": channel_id,
        "secrets": _seal(cipher, app_id, channel_id, secrets),
        "rate": channel.rate if wanted.rate_per_second is msgspec.UNSET else wanted.rate_per_second,
        **{name: given.get(name, getattr(channel, name)) for name in names},
    }
    await db.execute(connection, _SQL["change_channel"], params)
    return await find(connection, app_id, channel_id)


def _merge(known: Mapping[str, str], wanted: Mapping[str, str | None] | None) -> dict[str, str]:
    if wanted is None:
        return {}
    return {name: value for name, value in {**known, **wanted}.items() if value}


async def delete(connection: db.Connection, app_id: str, channel_id: str) -> None:
    _require_id(channel_id)
    params = {"app_id": app_id, "channel_id": channel_id}
    if not await db.execute(connection, _SQL["delete_channel"], params):
        raise NotFound(f"no channel {channel_id}")


async def pause(connection: db.Connection, app_id: str, channel_number: int, reason: str) -> None:
    """Nothing is sent over the channel until somebody resumes it. The first reason stays: others follow from it."""
    params = {"app_id": app_id, "channel_number": channel_number, "reason": reason[:_MAX_REASON]}
    async with connection.transaction():
        for channel_id, phone in await db.fetch_rows(connection, _SQL["pause_channel"], params):
            data = {"channelID": channel_id, "phone": phone, "reason": params["reason"]}
            await notices.add(connection, app_id, "channel.paused", [(None, data)])


async def resume(connection: db.Connection, app_id: str, channel_id: str) -> Channel:
    """Let the channel send again; one that is not paused stays as it is. Part of the caller's transaction."""
    _require_id(channel_id)
    params = {"app_id": app_id, "channel_id": channel_id}
    await db.execute(connection, _SQL["resume_channel"], params)
    channel = await find(connection, app_id, channel_id)
    await apps.wake(connection, app_id)
    return channel


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
