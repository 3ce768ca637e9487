"""The command line's `channel`: the numbers and sender ids of an app, what opens them, and their pace."""

import json
from typing import Any

import click

from tallycast.api import Api, below
from tallycast.commands import print_rows, read_secret, write_json
from tallycast.errors import BadQuery, Problem
from tallycast.ways import Way, asks

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

    \b
      tallycast channel create --app APP --type whatsApp --provider 360dialog --phone +85230001234 \\
        --credential apiKey=- --webhook-secret -
      tallycast channel list --app APP
      tallycast channel templates --app APP CHANNEL --refresh
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


def _print(shown: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for name, value in shown.items():
        click.echo(f"{name:17}{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")


@channel.command("list")
@_json
@asks
def list_channels(way: Way, as_json: bool) -> None:
    """List the channels of an app."""
    shown = way.run(lambda api: api.request("GET", "/channels"))
    if not as_json:
        names = ("id", "type", "provider", "phone", "channelName", "ratePerSecond")
        shown = [
            {name: one[name] for name in names} | {"paused": one["paused"] and one["paused"]["reason"]}
            for one in shown
        ]
    print_rows(shown, as_json, f"no channels: tallycast channel create --app {way.app_id} --help")


@channel.command("show")
@click.argument("channel_id", metavar="CHANNEL")
@_json
@asks
def show_channel(way: Way, channel_id: str, as_json: bool) -> None:
    """Show a channel, its webhook URL, and why it is paused. Of its secrets only the names."""
    _print(way.run(lambda api: api.request("GET", below("channels", channel_id))), as_json)


@channel.command("create")
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
@asks
def create_channel(
    way: Way,
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
        "webhookSecret": read_secret("webhook secret", webhook_secret),
        "ratePerSecond": rate,
    }

    async def work(api: Api) -> dict[str, Any]:
        made = await api.request("POST", "/channels", json=fields)
        shown: dict[str, Any] = await api.request("GET", below("channels", made["id"]))
        return shown

    _print(way.run(work), as_json)


@channel.command("change")
@click.argument("channel_id", metavar="CHANNEL")
@click.option("--phone", help="the number, or the sender id")
@click.option("--name", help="what people call it")
@click.option("--source-name", help="the name of its source in reports")
@_credential
@_secret
@click.option("--rate", help="messages (SMS: parts) a second; usual = the provider's usual one")
@_json
@asks
def change_channel(
    way: Way,
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
        fields["webhookSecret"] = read_secret("webhook secret", webhook_secret)
    _print(way.run(lambda api: api.request("PATCH", below("channels", channel_id), json=fields)), as_json)


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
    return {name: read_secret(name, value) or "" for name, _, value in pairs}


@channel.command("resume")
@click.argument("channel_id", metavar="CHANNEL")
@asks
def resume_channel(way: Way, channel_id: str) -> None:
    """Let a paused channel send again: mend what paused it first, then resume its campaigns too."""
    way.run(lambda api: api.request("POST", below("channels", channel_id, "resume")))
    click.echo(f"channel {channel_id} sends again")


@channel.command("templates")
@click.argument("channel_id", metavar="CHANNEL")
@click.option("--refresh", is_flag=True, help="ask the provider now, also when its list is known")
@_json
@asks
def list_templates(way: Way, channel_id: str, refresh: bool, as_json: bool) -> None:
    """List the WhatsApp templates of a channel; the provider is asked where its list is old, or not known yet."""
    path, query = below("channels", channel_id, "templates"), {"refresh": refresh}
    found = way.run(lambda api: api.request("GET", path, query))
    if refresh and found["problem"]:
        raise Problem(found["problem"])
    if as_json:
        click.echo(write_json(found["templates"]))
        return
    names = ("name", "language", "status", "category")
    rows = [{name: one[name] for name in names} for one in found["templates"]]
    print_rows(rows, False, "the channel has no templates")
    if found["problem"]:
        click.echo(f"as of {found['listedAt']}: {found['problem']}", err=True)
