"""The command line's `people`: what is known about one person, and forgetting it."""

import sys

import click

from tallycast import administrations, db, digests
from tallycast.administrations import By
from tallycast.api import below
from tallycast.commands import COUNT, name_operator, print_rows, stored, with_app, write_json
from tallycast.config import Settings
from tallycast.keys import load_cipher
from tallycast.ways import Way, asks

_number = click.argument("number")


@click.group("people")
def people() -> None:
    """One person: everything that is known under a number, and its erasure.

    \b
      tallycast people show --app APP +85298765432 > person.json
      tallycast people erase --app APP +85298765432 --yes
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


@people.command("show")
@_number
@asks
def show_person(way: Way, number: str) -> None:
    """Print everything that is known about a number, as JSON."""
    click.echo(write_json(way.run(lambda api: api.request("GET", below("people", number)))))


@people.command("erase")
@_number
@click.option(
    "--opt-out/--no-opt-out", default=True, show_default=True, help="leave the number out of later audiences"
)
@click.option("--yes", is_flag=True, help="do not ask whether you are sure, as a terminal is asked")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@asks
def erase_person(way: Way, number: str, opt_out: bool, yes: bool, as_json: bool) -> None:
    """Make a person anonymous in all campaigns, for ever. Figures stay as they are."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"{number} is made anonymous everywhere, for ever. Are you sure?", abort=True, err=True)
    path = below("people", number, "erase")
    erased = way.run(lambda api: api.request("POST", path, json={"optOut": opt_out}))
    touched = ", ".join(f"{name} {n}" for name, n in erased["touched"].items()) or "nothing was known"
    click.echo(write_json(erased) if as_json else f"erased, now {erased['digest']}: {touched}")


@people.command("erasures")
@click.option("--limit", type=COUNT, default=100, show_default=True, help="how many at most")
@click.option("--offset", type=COUNT, default=0, help="how many to skip")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@asks
def list_erasures(way: Way, limit: int, offset: int, as_json: bool) -> None:
    """List who was erased, as digests, the latest first."""
    rows = way.run(lambda api: api.list("/erasures", None, limit, offset))
    shown = rows if as_json else [row | {"touched": sum(row["touched"].values())} for row in rows]
    print_rows(shown, as_json, "nobody was erased")


@people.command("renew-key")
@click.option("--app", "app_id", required=True, help="the app's id")
@stored
def renew_key(settings: Settings, app_id: str) -> None:
    """Take a new key for digests from now on; old ones are kept, to know their digests again."""

    async def work(connection: db.Connection) -> int:
        cipher = load_cipher(settings.encryption_key, settings.data_dir)
        async with connection.transaction():
            version = (await digests.renew_key(connection, cipher, app_id)).version
            by = By(name_operator())
            await administrations.note(connection, app_id, by, "digestKey.renewed", f"anon{version}")
            return version

    click.echo(f"digests begin with anon{with_app(settings, app_id, work)}- from now on")
