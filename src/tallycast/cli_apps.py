"""The command line's `app`: tenants, and what holds for all their campaigns."""

import json
from typing import Any

import click
import msgspec
from msgspec import UNSET

from tallycast import apps, db, policies
from tallycast.commands import print_rows, stored, with_app, with_database, write_optional
from tallycast.config import Settings
from tallycast.errors import BadQuery
from tallycast.policies import Policy, PolicyChange, QuietHours


@click.group()
def app() -> None:
    """Apps: the tenants, each with its own campaigns, channels and tokens."""


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
            return made.app_id, (await apps.create_token(connection, made.app_id, name="first")).plain

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


def _print_policy(policy: Policy, as_json: bool) -> None:
    shown = msgspec.to_builtins(policies.view(policy))
    if as_json:
        click.echo(json.dumps(shown))
        return
    hours = shown["quietHours"]
    shown["quietHours"] = f"{hours['from']}-{hours['until']}" if hours else "none"
    for name, value in shown.items():
        text = ", ".join(value) or "the usual ones" if isinstance(value, list) else str(value)
        click.echo(f"{name:<18}{text}")


@app.command("show")
@click.argument("app_id")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def show_app(settings: Settings, app_id: str, as_json: bool) -> None:
    """Show what holds for all campaigns of an app."""
    found = with_app(settings, app_id, lambda connection: policies.find_policy(connection, app_id))
    _print_policy(found, as_json)


def _read_hours(text: str) -> QuietHours | None:
    if text == "none":
        return None
    first, separator, last = text.partition("-")
    if not separator:
        raise BadQuery.of(f"--quiet-hours must be like 21:00-08:00, or none, not {text[:40]!r}")
    return QuietHours(first.strip(), last.strip())


def _words(given: tuple[str, ...]) -> Any:
    return UNSET if not given else [word for word in given if word]


@app.command("set")
@click.argument("app_id")
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
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def set_app(
    settings: Settings,
    app_id: str,
    approval: bool | None,
    time_zone: str | None,
    quiet_hours: str | None,
    stop_words: tuple[str, ...],
    start_words: tuple[str, ...],
    stale_minutes: int | None,
    as_json: bool,
) -> None:
    """Change what holds for all campaigns of an app. What is left out stays; words replace those from before."""
    change = PolicyChange(
        UNSET if approval is None else approval,
        UNSET if time_zone is None else time_zone,
        UNSET if quiet_hours is None else _read_hours(quiet_hours),
        _words(stop_words),
        _words(start_words),
        UNSET if stale_minutes is None else stale_minutes,
    )

    async def work(connection: db.Connection) -> Policy:
        async with connection.transaction():
            return await policies.change_policy(connection, app_id, change)

    _print_policy(with_app(settings, app_id, work), as_json)
