"""The command line's `report`: the same figures as in the API and the dashboard, as tables, JSON or CSV."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from tallycast import periods
from tallycast.api import Api, below
from tallycast.commands import COUNT, print_rows
from tallycast.errors import BadQuery, NotFound
from tallycast.moments import write_moment
from tallycast.tables import Form, Row, form, print_all
from tallycast.ways import Way, asks, of_campaign

_SENDER = ("phone", "channelName", "sourceName", "senderEID")
_TOTALS = ("totalRecipients", "delivered", "read", "replied", "pending", "failed")
_STANDINGS = ("queued", "pending", "sent", "delivered", "read", "failed", "unknown", "replied", "clicked")
_limit = click.option("--limit", type=COUNT, help="how many at most; all when left out")


@click.group()
def report() -> None:
    """Reports: what became of the sent campaigns.

    \b
      tallycast report summary --app APP --last 7d
      tallycast report summary --app APP --from 2026-11-01 --to 2026-11-30 --format csv > november.csv
      tallycast report campaign --app APP CAMPAIGN          funnel, failures and what to do, countries, links
      tallycast report recipients --app APP CAMPAIGN --state failed --country HK
      tallycast report story --app APP CAMPAIGN +85298765432

    All of it works on a remote server too: --url or --profile, and --app may be left out.
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


@report.command("summary")
@click.option("--from", "first", metavar="DATE", help="a date in the app's time zone, or a moment like 2026-11-23T09:00:00+08:00")  # fmt: skip
@click.option("--to", "last", metavar="DATE", help="the same; a date is the period's last day, a moment is its end")  # fmt: skip
@click.option("--last", "name", type=click.Choice(periods.NAMES), help="a period that ends today, by the app's clock")  # fmt: skip
@click.option("--channel", type=click.Choice(["sms", "whatsApp"]), help="only campaigns of this kind")
@_limit
@form
@asks
def summarize(
    way: Way,
    first: str | None,
    last: str | None,
    name: periods.Name | None,
    channel: str | None,
    limit: int | None,
    form: Form,
) -> None:
    """List sent campaigns with their totals, the newest first; of all times when no period is given."""
    if name and (first or last):
        raise BadQuery.of("--last is a period of its own: leave out --from and --to")

    async def work(api: Api) -> None:
        query = {"channel": channel, **await find_period(api, first, last, name)}
        rows = (_flatten(row) async for row in api.each("/data/sent-campaigns-summary", query, limit))
        await print_all(rows, form, _narrow_summary, "no campaign was sent in this time")

    way.run(work)


async def find_period(
    api: Api, first: str | None, last: str | None, name: periods.Name | None
) -> dict[str, str]:
    """The period as the API reads it, by the app's time zone; empty for all times."""
    if not (first or last or name):
        return {}
    zone = ZoneInfo((await api.request("GET", "/policy"))["timeZone"])
    now = datetime.now(UTC)
    if name:
        start, end = periods.find_period(name, zone, now)
    else:
        start = periods.read_start(first, "--from", zone) if first else datetime(1970, 1, 1, tzinfo=UTC)
        end = periods.read_end(last, "--to", zone) if last else now
    return {"startAt": write_moment(start), "endAt": write_moment(end)}


def _flatten(row: Row) -> Row:
    """A campaign with the same columns whatever its channel."""
    names = ("id", "date", "campaignName", "channel", "createdBy")
    sender = {name: row["sender"].get(name) for name in _SENDER}
    return {name: row[name] for name in names} | sender | {n: row.get(n) for n in ("subject", *_TOTALS)}


def _narrow_summary(row: Row) -> Row:
    names = ("id", "date", "campaignName", "channel", "createdBy")
    return {name: row[name] for name in names} | {
        name.removesuffix("Recipients"): row[name] for name in _TOTALS
    }


@report.command("detail")
@of_campaign
@click.option("--status", help="only recipients with this status, e.g. Delivered")
@_limit
@form
@asks
def detail(way: Way, campaign_id: str, status: str | None, limit: int | None, form: Form) -> None:
    """List the recipients of a campaign as `sent-campaigns-detail` has them."""
    query = {"historyID": campaign_id, "status": status}

    async def work(api: Api) -> None:
        rows = (_flatten_detail(row) async for row in api.each("/data/sent-campaigns-detail", query, limit))
        await print_all(rows, form, _narrow_detail, "no recipients")

    way.run(work)


_DETAIL = (
    "recipient", "recipientCountry", "subject", "content", "numSMS", "status", "carrierNetworkStatus", "failedReason",
    "LastUpdatedDateTime",
)  # fmt: skip


def _flatten_detail(row: Row) -> Row:
    return {"id": row["id"], "date": row["date"]} | {name: row.get(name) for name in _DETAIL}


def _narrow_detail(row: Row) -> Row:
    names = ("recipient", "recipientCountry", "status", "failedReason", "LastUpdatedDateTime")
    return {name: row[name] for name in names}


@report.command("campaign")
@of_campaign
@click.option("--json", "as_json", is_flag=True, help="print JSON, with the timeline")
@asks
def show_insights(way: Way, campaign_id: str, as_json: bool) -> None:
    """Show what became of a campaign: funnel, failures with what to do, countries, links and buttons."""
    found = way.run(lambda api: api.request("GET", below("data", "campaigns", campaign_id, "insights")))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    funnel = found["funnel"]
    for name, count in funnel.items():
        if not name.endswith("Rate"):
            rate = funnel.get(f"{name.removesuffix('People')}Rate") if name != "replied" else None
            click.echo(f"{name:<14}{count:>12,}{'' if rate is None else f'  {rate:7.2%}'}")
    for title in ("failures", "countries", "links", "buttons"):
        if found[title]:
            click.echo(f"\n{title}")
            print_rows([_narrow_insight(row) for row in found[title]], False, "")


def _narrow_insight(row: Row) -> Row:
    """Numbers first, words last; what is set aside by reason on one line."""
    aside = row.get("setAside")
    if aside is not None:
        row = row | {"setAside": ", ".join(f"{reason} {n}" for reason, n in aside.items())}
    words = {name: row[name] for name in ("title", "words") if name in row}
    return {name: value for name, value in row.items() if name not in words} | words


@report.command("recipients")
@of_campaign
@click.option("--state", type=click.Choice(_STANDINGS), help="those whom this figure counts")
@click.option("--error-code", help="who failed with this code")
@click.option("--country", help="an ISO 3166 code, e.g. HK")
@click.option("--button", help="who chose this button")
@click.option("--link", help="who followed this link")
@click.option("--number", help="a number, or how it begins, in any spelling")
@_limit
@form
@asks
def list_recipients(
    way: Way, campaign_id: str, error_code: str | None, limit: int | None, form: Form, **given: str | None
) -> None:
    """List the recipients behind a figure, with what became of each message."""
    query = {**given, "errorCode": error_code}

    async def work(api: Api) -> None:
        path = below("data", "campaigns", campaign_id, "recipients")
        rows = (_flatten_recipient(row) async for row in api.each(path, query, limit))
        await print_all(rows, form, _narrow_recipient, "nobody")

    way.run(work)


_RECIPIENT = (
    "seq", "recipient", "country", "channelID", "referenceID", "messageID", "state", "parts", "acceptedAt",
    "deliveredAt", "readAt", "failedAt",
)  # fmt: skip


def _flatten_recipient(row: Row) -> Row:
    failure = row.get("failure", {})
    cause = {"errorCode": failure.get("code"), "failure": failure.get("title"), "words": failure.get("words")}
    return {name: row.get(name) for name in _RECIPIENT} | cause | {"content": row.get("content")}


def _narrow_recipient(row: Row) -> Row:
    moments = (row[name] for name in ("readAt", "deliveredAt", "failedAt", "acceptedAt"))
    names = ("seq", "recipient", "country", "state")
    reason = row["words"] or row["failure"] or row["errorCode"]
    return {name: row[name] for name in names} | {
        "lastAt": next(filter(None, moments), None),
        "reason": reason,
    }


@report.command("story")
@of_campaign
@click.argument("recipient")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@asks
def tell_story(way: Way, campaign_id: str, recipient: str, as_json: bool) -> None:
    """Tell what happened to one recipient: accepted, delivered, read, clicked what, when, and why it failed."""
    path = below("data", "campaigns", campaign_id, "recipients")

    async def work(api: Api) -> list[Any]:
        found = [row async for row in _find(api, path, recipient)]
        return [await api.request("GET", path + below(row["seq"])) for row in found]

    stories = way.run(work)
    if not stories:
        raise NotFound(f"nobody in campaign {campaign_id} has the number {recipient}")
    if as_json:
        click.echo(json.dumps(stories, indent=2, ensure_ascii=False))
        return
    for story in stories:
        _print_story(story)


async def _find(api: Api, path: str, recipient: str) -> AsyncIterator[Row]:
    """Who has exactly this number: a number may have been addressed more than once."""
    digits = "".join(filter(str.isdecimal, recipient))
    async for row in api.each(path, {"number": recipient}):
        if row["recipient"].lstrip("+") == digits:
            yield row


def _print_story(story: dict[str, Any]) -> None:
    person = story["recipient"]
    click.echo(f"{person['recipient']}  {person['country']}  {person['state']}  {person['referenceID']}")
    rows = [
        {"at": event.get("at", ""), "what": event["kind"], "words": event["words"]}
        for event in story["events"]
    ]
    print_rows(rows, False, "nothing has happened yet")
