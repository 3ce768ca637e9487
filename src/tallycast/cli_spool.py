"""`tallycast spool`: what was acknowledged while the database was away, and whose machine does not come back."""

import asyncio
import sys

import click

from tallycast import databases, db, migrations
from tallycast.commands import stored
from tallycast.config import Settings
from tallycast.spool import Spool


@click.group("spool")
def spool() -> None:
    """Receipts and clicks that were taken while the database was away, in the folder spool of the data directory."""


@spool.command("drain")
@stored
def drain(settings: Settings) -> None:
    """Apply the spool of --data-dir to the database. A server or worker that runs there does so by itself.

    For a machine that does not come back: give its disk, or a copy of its folder, and the --database-url. What was applied
    before changes nothing. Exit status 1: something is left, as a server writes it or as it is not understood.
    """
    with databases.reach(settings) as url:
        migrations.migrate(url)
        items = asyncio.run(_drain(settings, url))
    left = len(list((settings.data_dir / "spool").glob("*")))
    click.echo(f"{items} receipts and clicks applied, {left} files left")
    sys.exit(1 if left else 0)


async def _drain(settings: Settings, url: str) -> int:
    from tallycast.intake import Intake  # noqa: PLC0415 - other commands need not load it

    async with db.make_pool(url, 1) as pool:
        return await Intake(pool, Spool(settings.data_dir)).drain()
