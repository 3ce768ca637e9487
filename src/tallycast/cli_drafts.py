"""The command line's `campaign`, first half: drafts, what they say, and files to fill in for their audience."""

from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from tallycast.api import Api, below
from tallycast.commands import COUNT, explaining, write_json
from tallycast.errors import BadQuery
from tallycast.ways import Way, asks, of_campaign

_FALLBACK_SECONDS = 3600
_KINDS = ("smsStandard", "smsDynamic", "whatsApp")
# A draft's fields by the names of the options that change them.
_NAMES = {
    "name": "campaignName",
    "content": "content",
    "template": "template",
    "track_links": "trackLinks",
    "moment": "scheduledAt",
    "created_by": "createdBy",
}
_SAMPLES = ("sms-standard", "sms-dynamic", "whatsapp")


@click.command("create")
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
@asks
def create_campaign(way: Way, fallback_channel: str | None, as_json: bool, **given: Any) -> None:
    """Make a draft; its id is printed.

    \b
    smsStandard  an own text per recipient, from the file's column Content
    smsDynamic   one text, --content, with the recipient's values
    whatsApp     an approved template, --template FILE:
                 {"name": "sale", "language": "en", "body": ["{{name}}"],
                  "buttons": [{"index": 0, "payload": "yes"}]}
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines
    new = {
        "campaignName": given["name"],
        "kind": given["kind"],
        "channelID": given["channel_id"],
        "createdBy": given["created_by"],
        "content": given["content"],
        "template": _read_template(given["template"]),
        "trackLinks": given["track_links"],
        "scheduledAt": given["moment"],
    }
    if fallback_channel is not None:
        text, seconds = given["fallback_text"], given["fallback_after"]
        new["fallback"] = {"channelID": fallback_channel, "text": text, "afterSeconds": seconds}
    made = way.run(lambda api: api.request("POST", "/campaigns", json=new))
    click.echo(write_json(made) if as_json else made["id"])


def _read_template(file: Any) -> Any:
    from tallycast.templates import TemplateUse  # noqa: PLC0415 - other commands need not load it

    if file is None:
        return None
    try:
        return msgspec.to_builtins(msgspec.json.decode(file.read(), type=TemplateUse))
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
@asks
def change_campaign(
    way: Way,
    campaign_id: str,
    fallback_channel: str | None,
    fallback_text: str | None,
    fallback_after: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Change a draft. What is left out stays; kind and channel cannot change."""
    wanted = {_NAMES[name]: value for name, value in given.items() if value is not None}
    if "template" in wanted:
        wanted["template"] = _read_template(wanted["template"])
    if given["moment"] == "none":
        wanted["scheduledAt"] = None
    path = below("campaigns", campaign_id)

    async def work(api: Api) -> Any:
        if fallback_channel == "none":
            wanted["fallback"] = None
        elif (fallback_channel, fallback_text, fallback_after) != (None, None, None):
            known = await api.request("GET", path)
            was = known.get("fallback", {"text": "", "afterSeconds": _FALLBACK_SECONDS})
            wanted["fallback"] = _change_fallback(was, fallback_channel, fallback_text, fallback_after)
        return await api.request("PATCH", path, json=wanted)

    changed = way.run(work)
    click.echo(write_json(changed) if as_json else f"campaign {campaign_id} is changed")


def _change_fallback(
    was: dict[str, Any], channel_id: str | None, text: str | None, after: int | None
) -> dict[str, Any]:
    """The fallback with what is given; a new one has the same default as `create`."""
    given = {"channelID": channel_id, "text": text, "afterSeconds": after}
    changed = was | {name: value for name, value in given.items() if value is not None}
    if "channelID" not in changed:
        raise BadQuery.of("--fallback-channel must be given: the campaign has no fallback yet")
    return changed


@click.command("delete")
@of_campaign
@asks
def delete_campaign(way: Way, campaign_id: str) -> None:
    """Delete a draft with its audience. What was submitted is cancelled instead."""
    way.run(lambda api: api.request("DELETE", below("campaigns", campaign_id)))
    click.echo(f"campaign {campaign_id} is deleted")


@click.command("clear-audience")
@of_campaign
@asks
def clear_audience(way: Way, campaign_id: str) -> None:
    """Remove all recipients of a draft."""
    done = way.run(lambda api: api.request("DELETE", below("campaigns", campaign_id, "audience")))
    click.echo(f"{done['removed']} recipients are removed")


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
