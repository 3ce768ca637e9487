"""The command line's `app`: tenants, and what holds for all their campaigns."""

import json
from typing import Any

import click

from tallycast import administrations, apps, db
from tallycast.administrations import By
from tallycast.commands import name_operator, print_rows, stored, with_database, write_optional
from tallycast.config import Settings
from tallycast.errors import BadQuery
from tallycast.ways import Way, asks


@click.group()
def app() -> None:
    """Apps: the tenants, each with its own campaigns, channels and tokens.

    \b
      tallycast app create --name Shop                prints the appID and a first token
      tallycast app set APP --approval --time-zone Asia/Hong_Kong --quiet-hours 21:00-08:00
      tallycast app show APP
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


@app.command("create")
@click.option("--name", required=True, help="what people call it")
@click.option("--id", "app_id", help="the appID for URLs; made up when left out")
@click.option("--json", "as_json", is_flag=True, help='print {"appID", "token"}')
@stored
def create_app(settings: Settings, name: str, app_id: str | None, as_json: bool) -> None:
    """Create an app with a first token that may do everything. The token is shown once."""

    async def work(connection: db.Connection) -> tuple[str, str]:
        async with connection.transaction():
            made = await apps.create_app(connection, name, app_id)
            first = await apps.create_token(connection, made.app_id, name="first")
            by = By(name_operator())
            await administrations.note(
                connection,
                made.app_id,
                by,
                "app.created",
                made.app_id,
                name=name,
                tokenID=first.token.token_id,
            )
            return made.app_id, first.plain

    made_id, token = with_database(settings, work)
    if as_json:
        click.echo(json.dumps({"appID": made_id, "token": token}))
    else:
        click.echo(f"appID  {made_id}\ntoken  {token}\n\nThe token is not shown again: keep it now.")


@app.command("list")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def list_apps(settings: Settings, as_json: bool) -> None:
    """List the apps."""
    found = with_database(settings, apps.list_apps)
    rows = [{"appID": a.app_id, "name": a.name, "createdAt": write_optional(a.created_at)} for a in found]
    print_rows(rows, as_json, "no apps yet: tallycast app create --name NAME")


def _print_policy(shown: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(shown))
        return
    hours = shown["quietHours"]
    kept = shown["retention"]
    shown["retention"] = f"{kept['mode']} after {kept['days']} days" if kept else "none"
    shown["quietHours"] = f"{hours['from']}-{hours['until']}" if hours else "none"
    for name, value in shown.items():
        text = ", ".join(value) or "the usual ones" if isinstance(value, list) else str(value)
        click.echo(f"{name:<18}{text}")


_which = click.argument("which", metavar="[APP_ID]", required=False)


@app.command("show")
@_which
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@asks
def show_app(way: Way, which: str | None, as_json: bool) -> None:
    """Show what holds for all campaigns of an app; a remote one is known by its token."""
    _print_policy(way.of(which).run(lambda api: api.request("GET", "/policy")), as_json)


def _read_hours(text: str) -> dict[str, str] | None:
    if text == "none":
        return None
    first, separator, last = text.partition("-")
    if not separator:
        raise BadQuery.of(f"--quiet-hours must be like 21:00-08:00, or none, not {text[:40]!r}")
    return {"from": first.strip(), "until": last.strip()}


def _read_retention(text: str) -> dict[str, Any] | None:
    if text == "none":
        return None
    mode, _, days = text.partition(":")
    if mode not in {"anonymise", "delete"} or not (days.isascii() and days.isdecimal() and len(days) < 10):  # noqa: PLR2004 - no int32 is longer
        raise BadQuery.of(f"--retention must be like anonymise:400 or delete:90, or none, not {text[:40]!r}")
    return {"days": int(days), "mode": mode}


def _words(given: tuple[str, ...]) -> list[str] | None:
    return [word for word in given if word] if given else None


@app.command("set")
@_which
@click.option(
    "--approval/--no-approval", default=None, help="another person than the creator approves campaigns"
)
@click.option("--time-zone", help="of recipients whose own is not known, e.g. Asia/Hong_Kong")
@click.option("--quiet-hours", help="e.g. 21:00-08:00, in the recipient's local time; or none")
@click.option(
    "--stop-word", "stop_words", multiple=True, help="beside the usual ones; may be repeated; '' = none"
)
@click.option("--start-word", "start_words", multiple=True, help="the same for words that opt in again")
@click.option("--stale-minutes", type=int, help="how late a scheduled campaign may start")
@click.option(
    "--retention", help="what becomes of recipients, e.g. anonymise:400 or delete:90 (days); or none"
)
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@asks
def set_app(
    way: Way,
    which: str | None,
    approval: bool | None,
    time_zone: str | None,
    quiet_hours: str | None,
    stop_words: tuple[str, ...],
    start_words: tuple[str, ...],
    stale_minutes: int | None,
    retention: str | None,
    as_json: bool,
) -> None:
    """Change what holds for all campaigns of an app. What is left out stays; words replace those from before."""
    given = {
        "requiresApproval": approval,
        "timeZone": time_zone,
        "stopWords": _words(stop_words),
        "startWords": _words(start_words),
        "staleMinutes": stale_minutes,
    }
    change: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if quiet_hours is not None:
        change["quietHours"] = _read_hours(quiet_hours)
    if retention is not None:
        change["retention"] = _read_retention(retention)
    _print_policy(way.of(which).run(lambda api: api.request("PATCH", "/policy", json=change)), as_json)
