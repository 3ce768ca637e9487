"""Settings of an app: its channels, what they need, and whether their providers are heard."""

from collections.abc import Mapping

import msgspec
from litestar import Response, get, post

from tallycast import administrations, channels, db
from tallycast.apps import random_text
from tallycast.channels import Channel, ChannelChange, ChannelType, NewChannel, Provider
from tallycast.dashboard import mistakes, once
from tallycast.dashboard.forms import Form, form_of
from tallycast.dashboard.guard import by_of, person_of
from tallycast.dashboard.pages import is_partial, make_flash, redirect, render
from tallycast.errors import BadQuery
from tallycast.keys import BadKey
from tallycast.web.answers import Asked, read_choice, read_query
from tallycast.web.services import of

TYPES: tuple[ChannelType, ...] = ("whatsApp", "sms")
# What is typed without being read by others: of the rest it does no harm.
SECRETS = frozenset(
    {"apiKey", "accessToken", "authToken", "password", "appSecret", "verifyToken", "signatureSecret"}
)
_FIELDS = {
    "phone": "phone",
    "channelName": "channel_name",
    "sourceName": "source_name",
    "ratePerSecond": "rate",
    "provider": "provider",
    "credentials.baseURL": "secret.baseURL",
    "credentials.host": "secret.host",
    "credentials.port": "secret.port",
}
_MAX_RATE = 10_000


@get("/apps/{appID:str}/settings", role="admin")
async def show_settings(request: Asked, appID: str) -> Response[bytes]:
    return redirect(request, f"/apps/{appID}/settings/channels")


@get("/apps/{appID:str}/settings/channels", role="admin")
async def list_channels(request: Asked, appID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        found = await channels.list_all(connection, appID)
    rows = [(one, _find_missing(request, one)) for one in found]
    return render(request, "channels.html", rows=rows)


def _open(request: Asked, channel: Channel) -> channels.Secrets | None:
    """None for one that was sealed with a key that is gone."""
    try:
        return channel.open_secrets(of(request).cipher)
    except BadKey:
        return None


def _find_missing(request: Asked, channel: Channel) -> list[str]:
    secrets = _open(request, channel)
    return channels.missing_credentials(
        channel.type, channel.provider, secrets.credentials if secrets else {}
    )


@get("/apps/{appID:str}/settings/channels/new", role="admin")
async def show_new(request: Asked, appID: str) -> Response[bytes]:  # noqa: ARG001 - the guard reads appID
    """First type and provider, then what the provider needs."""
    query = read_query(request)
    kind = read_choice(query, "type", TYPES)
    provider = None if kind is None else read_choice(query, "provider", tuple(channels.providers_of(kind)))
    if kind is None or provider is None:
        known = [(one, channels.providers_of(one)) for one in TYPES]
        return render(request, "channel_kinds.html", known=known)
    return _show_form(request, kind, provider, {"webhook_secret": random_text(32), "once": once.make_mark()})


def _show_form(
    request: Asked,
    kind: ChannelType,
    provider: Provider,
    typed: Mapping[str, str],
    errors: Mapping[str, str] | None = None,
) -> Response[bytes]:
    needs, options = channels.credentials_of(provider)
    return render(
        request,
        "channel_new.html",
        status=422 if errors else 200,
        kind=kind,
        provider=provider,
        needs=needs,
        options=options,
        secrets=SECRETS,
        usual_rate=channels.DEFAULT_RATES.get(provider),
        typed=typed,
        errors=mistakes.tell(request, errors or {}),
    )


@post("/apps/{appID:str}/settings/channels/new", role="admin", status_code=303)
async def create(request: Asked, appID: str) -> Response[bytes]:
    form, services = form_of(request), of(request)
    kind = next((one for one in TYPES if one == form.text("type")), None)
    known = channels.providers_of(kind) if kind else []
    provider = next((one for one in known if one == form.text("provider")), None)
    if kind is None or provider is None:
        raise BadQuery.of("type and provider must be ones that go together")

    async def work(connection: db.Connection) -> str:
        new = NewChannel(
            kind,
            provider,
            form.text("phone"),
            form.text("channel_name"),
            form.text("source_name"),
            form.text("webhook_secret") or None,
            {name: value for name, value in _read_secrets(form, provider).items() if value},
            _read_rate(form),
        )
        hosts = services.settings.private_hosts
        made = await channels.create(connection, services.cipher, appID, new, hosts)
        by, said = by_of(request), administrations.describe(new)
        await administrations.note(connection, appID, by, "channel.created", made.channel_id, **said)
        return made.channel_id

    try:
        channel_id = await once.run_once(request, appID, work)
    except BadQuery as problem:
        typed = {name: values[0] for name, values in form.items()}
        return _show_form(request, kind, provider, typed, mistakes.place(problem, _FIELDS))
    flash = make_flash(request, "channels.made")
    return redirect(request, f"/apps/{appID}/settings/channels/{channel_id}", flash=flash)


def _read_secrets(form: Form, provider: str) -> dict[str, str]:
    needs, options = channels.credentials_of(provider)
    return {name: form.text(f"secret.{name}") for name in (*needs, *options)}


def _read_rate(form: Form) -> float | None:
    """None for the usual one."""
    text = form.text("rate").replace(",", ".")
    try:
        rate = float(text) if text else None
    except ValueError:
        rate = -1.0
    if rate is not None and not 0 < rate <= _MAX_RATE:
        raise BadQuery.of(f"ratePerSecond must be a number above 0, at most {_MAX_RATE}")
    return rate


@get("/apps/{appID:str}/settings/channels/{channelID:str}", role="admin")
async def show_channel(request: Asked, appID: str, channelID: str) -> Response[bytes]:
    return await _show(request, appID, channelID)


async def _show(
    request: Asked,
    app_id: str,
    channel_id: str,
    typed: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        channel = await channels.find(connection, app_id, channel_id)
    secrets = _open(request, channel)
    needs, options = channels.credentials_of(channel.provider)
    return render(
        request,
        "_heard.html" if is_partial(request) else "channel.html",
        status=422 if errors else 200,
        channel=channel,
        url=channels.webhook_url(of(request).settings.base_url, channel),
        is_locked=secrets is None,
        has_webhook_secret=bool(secrets and secrets.webhook_secret),
        given=sorted(secrets.credentials) if secrets else [],
        missing=_find_missing(request, channel),
        needs=needs,
        options=options,
        secrets=SECRETS,
        usual_rate=channels.DEFAULT_RATES.get(channel.provider),
        typed=typed or _describe(channel),
        errors=mistakes.tell(request, errors or {}),
    )


def _describe(channel: Channel) -> dict[str, str]:
    return {
        "phone": channel.phone,
        "channel_name": channel.channel_name,
        "source_name": channel.source_name,
        "rate": f"{channel.rate:g}" if channel.rate else "",
    }


@post("/apps/{appID:str}/settings/channels/{channelID:str}", role="admin", status_code=303)
async def change(request: Asked, appID: str, channelID: str) -> Response[bytes]:
    """A secret that is left empty stays; one that is ticked is removed."""
    form, services = form_of(request), of(request)
    try:
        async with services.pool.connection() as connection, connection.transaction():
            channel = await channels.find(connection, appID, channelID)
            wanted = _read_change(form, channel)
            hosts = services.settings.private_hosts
            await channels.change(connection, services.cipher, appID, channelID, wanted, hosts)
            by, said = by_of(request), administrations.describe(wanted)
            await administrations.note(connection, appID, by, "channel.changed", channelID, **said)
    except BadQuery as problem:
        typed = {name: values[0] for name, values in form.items()}
        return await _show(request, appID, channelID, typed, mistakes.place(problem, _FIELDS))
    return _go_back(request, channel, "form.saved")


def _read_change(form: Form, channel: Channel) -> ChannelChange:
    gone = frozenset(form.texts("remove"))
    given = {name: value for name, value in _read_secrets(form, channel.provider).items() if value}
    is_kept = "webhookSecret" not in gone and not form.text("webhook_secret")
    return ChannelChange(
        phone=form.text("phone"),
        channel_name=form.text("channel_name"),
        source_name=form.text("source_name"),
        webhook_secret=msgspec.UNSET if is_kept else form.text("webhook_secret") or None,
        credentials={**dict.fromkeys(gone - {"webhookSecret"}), **given},
        rate_per_second=_read_rate(form),
    )


def _go_back(request: Asked, channel: Channel, key: str) -> Response[bytes]:
    path = f"/apps/{channel.app_id}/settings/channels/{channel.channel_id}"
    return redirect(request, path, flash=make_flash(request, key))


@post("/apps/{appID:str}/settings/channels/{channelID:str}/pause", role="admin", status_code=303)
async def pause(request: Asked, appID: str, channelID: str) -> Response[bytes]:
    """Nothing goes out over it until somebody resumes it."""
    reason = form_of(request).text("note") or f"paused by {person_of(request).actor}"
    async with of(request).pool.connection() as connection, connection.transaction():
        channel = await channels.find(connection, appID, channelID)
        await channels.pause(connection, appID, channel.channel_number, reason)
        await administrations.note(
            connection, appID, by_of(request), "channel.paused", channelID, reason=reason
        )
    return _go_back(request, channel, "channels.paused")


@post("/apps/{appID:str}/settings/channels/{channelID:str}/resume", role="admin", status_code=303)
async def resume(request: Asked, appID: str, channelID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection, connection.transaction():
        channel = await channels.resume(connection, appID, channelID)
        await administrations.note(connection, appID, by_of(request), "channel.resumed", channelID)
    return _go_back(request, channel, "channels.resumed")


@post("/apps/{appID:str}/settings/channels/{channelID:str}/delete", role="admin", status_code=303)
async def delete(request: Asked, appID: str, channelID: str) -> Response[bytes]:
    """Its campaigns and their figures stay."""
    async with of(request).pool.connection() as connection, connection.transaction():
        await channels.delete(connection, appID, channelID)
        await administrations.note(connection, appID, by_of(request), "channel.deleted", channelID)
    flash = make_flash(request, "channels.deleted")
    return redirect(request, f"/apps/{appID}/settings/channels", flash=flash)
