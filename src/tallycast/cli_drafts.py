"""The command line's `campaign`, first half: drafts, what they say, and files to fill in for their audience."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec
from msgspec import UNSET

from tallycast import campaigns, db
from tallycast.cli_stages import actor, of_campaign
from tallycast.commands import COUNT, explaining, stored, with_app, write_json
from tallycast.config import Settings
from tallycast.errors import BadQuery

if TYPE_CHECKING:
    from tallycast.sendings import Sending
    from tallycast.standings import Standing

_FALLBACK_SECONDS = 3600
_KINDS = ("smsStandard", "smsDynamic", "whatsApp")
_SAMPLES = ("sms-standard", "sms-dynamic", "whatsapp")


@click.command("create")
@click.option("--app", "app_id", required=True, help="the app's id")
@click.option("--channel", "channel_id", required=True, help="the channel to send over")
@click.option("--kind", type=click.Choice(_KINDS), required=True, help="what is sent, see below")
@click.option("--name", required=True, help="what people call it")
@click.option("--content", default="", help="smsDynamic: the text, with {{column}} for what differs")
@click.option(
    "--template", type=click.File("rb"), help="whatsApp: a JSON file with the template and its parameters"
)
@click.option("--track-links", is_flag=True, help="each URL in an SMS becomes a short link per recipient")
@click.option("--fallback-channel", help="whatsApp: SMS channel for those who are not reached")
@click.option("--fallback-text", default="", help="that SMS, with {{column}} for what differs")
@click.option(
    "--fallback-after",
    type=COUNT,
    default=_FALLBACK_SECONDS,
    show_default=True,
    help="seconds until it is sent",
)
@click.option("--at", "moment", help="when it shall start, e.g. 2027-12-01T09:00:00+08:00")
@click.option("--created-by", default="", help="a person's name, for reports")
@click.option("--json", "as_json", is_flag=True, help="print all that the campaign is")
@stored
def create_campaign(
    settings: Settings, app_id: str, fallback_channel: str | None, as_json: bool, **given: Any
) -> None:
    """Make a draft; its id is printed.

    \b
    smsStandard  an own text per recipient, from the file's column Content
    smsDynamic   one text, --content, with the recipient's values
    whatsApp     an approved template, --template FILE:
                 {"name": "sale", "language": "en", "body": ["{{name}}"],
                  "buttons": [{"index": 0, "payload": "yes"}]}
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines
    from tallycast import drafts, standings  # noqa: PLC0415 - other commands need not load it

    fallback = None
    if fallback_channel is not None:
        fallback = drafts.Fallback(fallback_channel, given["fallback_text"], given["fallback_after"])
    new = drafts.NewSending(
        campaign_name=given["name"],
        kind=given["kind"],
        channel_id=given["channel_id"],
        created_by=given["created_by"],
        content=given["content"],
        template=_read_template(given["template"]),
        track_links=given["track_links"],
        fallback=fallback,
        scheduled_at=given["moment"],
    )

    async def work(connection: db.Connection) -> "Standing":
        async with connection.transaction():
            return standings.describe(await drafts.create(connection, app_id, new, actor()), 0)

    made = with_app(settings, app_id, work)
    click.echo(write_json(made) if as_json else made.id)


def _read_template(file: Any) -> Any:
    from tallycast.templates import TemplateUse  # noqa: PLC0415 - other commands need not load it

    if file is None:
        return None
    try:
        return msgspec.json.decode(file.read(), type=TemplateUse)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadQuery.of(f"--template is not a template: {error}") from None


@click.command("change")
@of_campaign
@click.option("--name", help="what people call it")
@click.option("--content", help="smsDynamic: the text, with {{column}} for what differs")
@click.option("--template", type=click.File("rb"), help="whatsApp: a JSON file, as for `create`")
@click.option(
    "--track-links/--no-track-links",
    default=None,
    help="each URL in an SMS becomes a short link per recipient",
)
@click.option(
    "--fallback-channel", help="whatsApp: SMS channel for those who are not reached; none = no fallback"
)
@click.option("--fallback-text", help="that SMS, with {{column}} for what differs")
@click.option("--fallback-after", type=COUNT, help="seconds until it is sent")
@click.option(
    "--at", "moment", help="when it shall start, e.g. 2027-12-01T09:00:00+08:00; none = not by itself"
)
@click.option("--created-by", help="a person's name, for reports")
@click.option("--json", "as_json", is_flag=True, help="print all that the campaign is")
@stored
def change_campaign(
    settings: Settings,
    app_id: str,
    campaign_id: str,
    fallback_channel: str | None,
    fallback_text: str | None,
    fallback_after: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Change a draft. What is left out stays; kind and channel cannot change."""
    from tallycast import drafts, sendings, standings  # noqa: PLC0415 - other commands need not load it

    number = campaigns.parse_id(campaign_id)
    moment = None if given["moment"] == "none" else given["moment"]
    template = _read_template(given["template"])

    async def work(connection: db.Connection) -> "Standing":
        async with connection.transaction():
            was = await sendings.hold(connection, app_id, number)
            wanted = drafts.SendingChange(
                campaign_name=_given(given["name"]),
                created_by=_given(given["created_by"]),
                content=_given(given["content"]),
                template=_given(template),
                track_links=_given(given["track_links"]),
                fallback=_change_fallback(was, fallback_channel, fallback_text, fallback_after),
                scheduled_at=UNSET if given["moment"] is None else moment,
            )
            return standings.describe(await drafts.change(connection, app_id, number, wanted), 0)

    changed = with_app(settings, app_id, work)
    click.echo(write_json(changed) if as_json else f"campaign {campaign_id} is changed")


def _given(value: Any) -> Any:
    return UNSET if value is None else value


def _change_fallback(was: "Sending", channel_id: str | None, text: str | None, after: int | None) -> Any:
    """The fallback with what is given; a new one has the same default as `create`."""
    from tallycast.drafts import Fallback  # noqa: PLC0415 - other commands need not load it

    if channel_id == "none":
        return None
    if channel_id is None and text is None and after is None:
        return UNSET
    channel_id = channel_id or was.fallback_channel_id
    if channel_id is None:
        raise BadQuery.of("--fallback-channel must be given: the campaign has no fallback yet")
    seconds = after if after is not None else was.fallback_seconds or _FALLBACK_SECONDS
    return Fallback(channel_id, was.fallback_text or "" if text is None else text, seconds)


@click.command("delete")
@of_campaign
@stored
def delete_campaign(settings: Settings, app_id: str, campaign_id: str) -> None:
    """Delete a draft with its audience. What was submitted is cancelled instead."""
    from tallycast import drafts  # noqa: PLC0415 - other commands need not load it

    number = campaigns.parse_id(campaign_id)

    async def work(connection: db.Connection) -> None:
        async with connection.transaction():
            await drafts.delete(connection, app_id, number)

    with_app(settings, app_id, work)
    click.echo(f"campaign {campaign_id} is deleted")


@click.command("clear-audience")
@of_campaign
@stored
def clear_audience(settings: Settings, app_id: str, campaign_id: str) -> None:
    """Remove all recipients of a draft."""
    from tallycast import audience  # noqa: PLC0415 - other commands need not load it

    number = campaigns.parse_id(campaign_id)

    async def work(connection: db.Connection) -> int:
        async with connection.transaction():
            return await audience.clear(connection, app_id, number)

    click.echo(f"{with_app(settings, app_id, work)} recipients are removed")


@click.command("sample")
@click.argument("kind", type=click.Choice(_SAMPLES))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="write to this .csv or .xlsx file, not to the terminal",
)
def write_sample(kind: Literal["sms-standard", "sms-dynamic", "whatsapp"], out: Path | None) -> None:
    """Write an audience file to fill in: CSV, or XLSX with --out FILE.xlsx."""
    from tallycast import samples  # noqa: PLC0415 - other commands need not load it

    if out is None:
        click.echo(samples.write_csv(kind).decode("utf-8-sig"), nl=False)
        return
    write = {".csv": samples.write_csv, ".xlsx": samples.write_xlsx}.get(out.suffix.lower())
    with explaining():
        if write is None:
            raise BadQuery.of(f"--out must end in .csv or .xlsx, not {out.name}")
        out.write_bytes(write(kind))


COMMANDS = [create_campaign, change_campaign, delete_campaign, clear_audience, write_sample]
