"""The command line's `log`: who changed what."""

from datetime import datetime

import click
import msgspec

from tallycast import administrations, db
from tallycast.administrations import ACTIONS, HOUSE, Action, Entry
from tallycast.commands import COUNT, print_rows, stored, with_app, with_database, write_optional
from tallycast.config import Settings
from tallycast.moments import parse_moment


@click.command()
@click.option(
    "--app", "app_id", help="of this app; without it what concerns no single app: staff, keys, sign-ins"
)
@click.option("--action", type=click.Choice(ACTIONS), metavar="ACTION", help="only these, e.g. token.created")
@click.option("--from", "start", help="from this moment, e.g. 2026-11-01T00:00:00Z")
@click.option("--to", "end", help="until this moment")
@click.option("--limit", type=COUNT, default=100, show_default=True, help="how many at most")
@click.option("--offset", type=COUNT, default=0, help="how many to skip")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def log(
    settings: Settings,
    app_id: str | None,
    action: Action | None,
    start: str | None,
    end: str | None,
    limit: int,
    offset: int,
    as_json: bool,
) -> None:
    """List who changed tokens, channels, staff, rules and keys, and who took people's data out; the latest first."""

    async def work(connection: db.Connection) -> list[Entry]:
        period = _read(start, "--from"), _read(end, "--to")
        return await administrations.list_page(connection, app_id or HOUSE, limit, offset, action, *period)

    found = with_app(settings, app_id, work) if app_id else with_database(settings, work)
    rows = [
        {
            "at": write_optional(one.at),
            "actor": one.actor,
            "action": one.action,
            "subject": one.subject,
            "details": one.details if as_json else msgspec.json.encode(one.details).decode(),
            "address": one.address,
        }
        for one in found
    ]
    print_rows(rows, as_json, "nothing was changed yet")


def _read(text: str | None, name: str) -> datetime | None:
    return parse_moment(text, name) if text else None
