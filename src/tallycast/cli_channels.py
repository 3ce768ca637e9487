"""The command line's `channel`: the numbers and sender ids of an app, what opens them, and their pace."""

import json
import sys
from typing import Any

import click
import msgspec

from tallycast import channels, db
from tallycast.channels import Channel
from tallycast.commands import outward, print_rows, stored, with_app, write_json, write_optional
from tallycast.config import Settings
from tallycast.errors import BadQuery
from tallycast.keys import BadKey, Cipher, load_cipher

_app = click.option("--app", "app_id", required=True, help="the app's id")
_json = click.option("--json", "as_json", is_flag=True, help="print JSON")
_credential = click.option(
    "--credential", "credentials", multiple=True, metavar="NAME=VALUE", help="may be repeated; NAME=- asks for the value, or reads a line of stdin"
)  # fmt: skip
_secret = click.option("--webhook-secret", help="proves who posts receipts; - as for --credential")
_rate = click.option("--rate", type=float, help="messages (SMS: parts) a second; the provider's usual one when left out")  # fmt: skip


@click.group()
def channel() -> None:
    """Channels: the numbers and sender ids of an app.

    Keys and passwords need not stand in the shell's history: with `--credential apiKey=-` the value is asked for.
    They are kept encrypted and never shown.
    """


def _show(settings: Settings, cipher: Cipher, found: Channel) -> dict[str, Any]:
    """A channel by the API's names, without its secrets."""
    try:
        secrets = found.open_secrets(cipher)
    except BadKey:  # sealed with a key that is gone
        secrets = channels.Secrets("?")
    since = write_optional(found.paused_at)
    return {
        "id": found.channel_id,
        "type": found.type,
        "provider": found.provider,
        "phone": found.phone,
        "channelName": found.channel_name,
        "sourceName": found.source_name,
        "webhookURL": f"{settings.base_url}/webhooks/{found.provider}/{found.channel_id}",
        "hasWebhookSecret": bool(secrets.webhook_secret),
        "credentials": sorted(secrets.credentials),
        "ratePerSecond": found.rate_per_second,
        "paused": None if since is None else {"since": since, "reason": found.paused_reason or ""},
        "createdAt": write_optional(found.created_at),
    }


def _print(shown: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for name, value in shown.items():
        click.echo(f"{name:17}{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


def _cipher(settings: Settings) -> Cipher:
    return load_cipher(settings.encryption_key, settings.data_dir)


@channel.command("list")
@_app
@_json
@outward
def list_channels(settings: Settings, app_id: str, as_json: bool) -> None:
    """List the channels of an app."""
    cipher = _cipher(settings)
    found = with_app(settings, app_id, lambda connection: channels.list_all(connection, app_id))
    shown = [_show(settings, cipher, one) for one in found]
    if not as_json:
        names = ("id", "type", "provider", "phone", "channelName", "ratePerSecond")
        shown = [
            {name: one[name] for name in names} | {"paused": one["paused"] and one["paused"]["reason"]}
            for one in shown
        ]
    print_rows(shown, as_json, f"no channels: tallycast channel create --app {app_id} --help")


@channel.command("show")
@_app
@click.argument("channel_id", metavar="CHANNEL")
@_json
@outward
def show_channel(settings: Settings, app_id: str, channel_id: str, as_json: bool) -> None:
    """Show a channel, its webhook URL, and why it is paused. Of its secrets only the names."""
    cipher = _cipher(settings)
    found = with_app(settings, app_id, lambda connection: channels.find(connection, app_id, channel_id))
    _print(_show(settings, cipher, found), as_json)


@channel.command("create")
@_app
@click.option("--type", "channel_type", type=click.Choice(["sms", "whatsApp"]), required=True, help="what it sends")  # fmt: skip
@click.option(
    "--provider", type=click.Choice(["360dialog", "meta", "twilio", "smpp", "generic", "sandbox"]), required=True, help="who carries it; generic only takes receipts"
)  # fmt: skip
@click.option("--phone", required=True, help="the number, or the sender id")
@click.option("--name", default="", help="what people call it")
@click.option("--source-name", default="", help="the name of its source in reports")
@_credential
@_secret
@_rate
@_json
@outward
def create_channel(
    settings: Settings,
    app_id: str,
    channel_type: str,
    credentials: tuple[str, ...],
    webhook_secret: str | None,
    rate: float | None,
    as_json: bool,
    **given: str,
) -> None:
    """Add a channel; its webhook URL, which is made from --public-url, is to be set at the provider.

    \b
    What each provider needs for sending:
      360dialog  apiKey
      meta       accessToken, phoneNumberID (and wabaID for templates)
      twilio     accountSID, authToken
      smpp       host, port, systemID, password
      sandbox    baseURL, apiKey
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines
    fields = {
        "type": channel_type,
        "provider": given["provider"],
        "phone": given["phone"],
        "channelName": given["name"],
        "sourceName": given["source_name"],
        "credentials": _read_credentials(credentials) or None,
        "webhookSecret": _read_secret("webhook secret", webhook_secret),
        "ratePerSecond": rate,
    }
    new, cipher = _convert(fields, channels.NewChannel), _cipher(settings)

    async def work(connection: db.Connection) -> Channel:
        return await channels.create(connection, cipher, app_id, new, settings.private_hosts)

    _print(_show(settings, cipher, with_app(settings, app_id, work)), as_json)


@channel.command("change")
@_app
@click.argument("channel_id", metavar="CHANNEL")
@click.option("--phone", help="the number, or the sender id")
@click.option("--name", help="what people call it")
@click.option("--source-name", help="the name of its source in reports")
@_credential
@_secret
@click.option("--rate", help="messages (SMS: parts) a second; usual = the provider's usual one")
@_json
@outward
def change_channel(
    settings: Settings,
    app_id: str,
    channel_id: str,
    credentials: tuple[str, ...],
    webhook_secret: str | None,
    rate: str | None,
    as_json: bool,
    **given: str | None,
) -> None:
    """Change a channel's names, secrets or rate. What is left out stays, also each other credential; NAME= removes one."""
    names = {"phone": "phone", "name": "channelName", "source_name": "sourceName"}
    fields: dict[str, Any] = {names[name]: text for name, text in given.items() if text is not None}
    if rate is not None:
        fields["ratePerSecond"] = None if rate == "usual" else _read_rate(rate)
    if credentials:
        fields["credentials"] = _read_credentials(credentials)
    if webhook_secret is not None:
        fields["webhookSecret"] = _read_secret("webhook secret", webhook_secret)
    wanted, cipher = _convert(fields, channels.ChannelChange), _cipher(settings)

    async def work(connection: db.Connection) -> Channel:
        async with connection.transaction():
            hosts = settings.private_hosts
            return await channels.change(connection, cipher, app_id, channel_id, wanted, hosts)

    _print(_show(settings, cipher, with_app(settings, app_id, work)), as_json)


def _convert(fields: dict[str, Any], kind: Any) -> Any:
    """The fields as the API would read them, with its limits."""
    try:
        return msgspec.convert(fields, type=kind)
    except msgspec.ValidationError as error:
        raise BadQuery.of(str(error)) from None


def _read_rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadQuery.of(f"--rate must be a number, or usual, not {text[:40]!r}") from None


def _read_credentials(given: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if not all(
        name and equals for name, equals, _ in pairs
    ):  # what was given may be a secret: it is not repeated
        raise BadQuery.of("--credential must be NAME=VALUE")
    return {name: _read_secret(name, value) or "" for name, _, value in pairs}


def _read_secret(name: str, text: str | None) -> str | None:
    """The text; for `-` what is typed unseen, or the next line of standard input."""
    if text != "-":
        return text
    if sys.stdin.isatty():
        typed: str = click.prompt(name, hide_input=True, err=True)
        return typed
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise BadQuery.of(f"{name} must be a line of standard input")
    return line


@channel.command("resume")
@_app
@click.argument("channel_id", metavar="CHANNEL")
@stored
def resume_channel(settings: Settings, app_id: str, channel_id: str) -> None:
    """Let a paused channel send again: mend what paused it first, then resume its campaigns too."""

    async def work(connection: db.Connection) -> Channel:
        async with connection.transaction():
            return await channels.resume(connection, app_id, channel_id)

    with_app(settings, app_id, work)
    click.echo(f"channel {channel_id} sends again")


@channel.command("templates")
@_app
@click.argument("channel_id", metavar="CHANNEL")
@click.option("--refresh", is_flag=True, help="ask the provider now, also when its list is known")
@_json
@outward
def list_templates(settings: Settings, app_id: str, channel_id: str, refresh: bool, as_json: bool) -> None:
    """List the WhatsApp templates of a channel; the provider is asked where its list is not known yet."""
    from tallycast import templates  # noqa: PLC0415 - other commands need not load it

    cipher = _cipher(settings)

    async def work(connection: db.Connection) -> list[templates.Listed]:
        found = await channels.find(connection, app_id, channel_id)
        known = await templates.list_cached(connection, app_id, found.channel_number)
        if known and not refresh:
            return known
        return await templates.refresh(db.always(connection), cipher, settings.private_hosts, found)

    listed = with_app(settings, app_id, work)
    if as_json:
        click.echo(write_json(listed))
        return
    names = ("name", "language", "status", "category")
    rows = [{name: getattr(one, name) for name in names} for one in listed]
    print_rows(rows, False, "the channel has no templates")
