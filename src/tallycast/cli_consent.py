"""The command line's `opt-outs`: who does not want messages any more."""

import sys
from collections.abc import AsyncIterator
from typing import IO

import click
import msgspec

from tallycast import db, messages, optouts, recordings
from tallycast.commands import COUNT, print_rows, stored, with_app, write_optional
from tallycast.config import Settings
from tallycast.messages import Entry, Rejected
from tallycast.optouts import AnyKind, Kind

_CHUNK = 65_536
_kind = click.option(
    "--kind", type=click.Choice(["sms", "whatsApp", "all"]), required=True, help="out of what"
)
_app = click.option("--app", "app_id", required=True, help="the app's id")


@click.group("opt-outs")
def opt_outs() -> None:
    """Opt-outs: who does not want messages any more."""


@opt_outs.command("list")
@_app
@click.option("--kind", type=click.Choice(optouts.KINDS), help="only of this kind")
@click.option("--recipient", help="only this number")
@click.option("--limit", type=COUNT, default=100, show_default=True, help="how many at most")
@click.option("--offset", type=COUNT, default=0, help="how many to skip")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def list_opt_outs(
    settings: Settings,
    app_id: str,
    kind: Kind | None,
    recipient: str | None,
    limit: int,
    offset: int,
    as_json: bool,
) -> None:
    """List who is opted out, by kind and number, and how that is known."""

    async def work(connection: db.Connection) -> list[optouts.OptOut]:
        if recipient is None:
            return await optouts.list_all(connection, app_id, kind, limit, offset)
        address = optouts.address_of(recipient)
        return await optouts.find(connection, app_id, kind, address, limit, offset)

    rows = [
        {
            "kind": one.kind,
            "recipient": one.recipient,
            "source": one.source,
            "evidence": one.evidence,
            "optedOutAt": write_optional(one.opted_out_at),
        }
        for one in with_app(settings, app_id, work)
    ]
    print_rows(rows, as_json, "nobody is opted out")


@opt_outs.command("add")
@_app
@_kind
@click.option("--source", default="command line", show_default=True, help="what is kept as the reason")
@click.argument("recipients", nargs=-1, required=True)
@stored
def add_opt_outs(
    settings: Settings, app_id: str, kind: AnyKind, source: str, recipients: tuple[str, ...]
) -> None:
    """Opt numbers out."""
    lines = [messages.check_entry(n, msgspec.UNSET, Entry(one)) for n, one in enumerate(recipients)]

    async def work(connection: db.Connection) -> tuple[int, list[Rejected]]:
        async with connection.transaction():
            return await optouts.add_lines(connection, app_id, kind, lines, source)

    _report(*with_app(settings, app_id, work))


@opt_outs.command("import")
@_app
@_kind
@click.argument("file", type=click.File("rb"))
@stored
def import_opt_outs(settings: Settings, app_id: str, kind: AnyKind, file: IO[bytes]) -> None:
    """Opt out a list of numbers: CSV with a column `recipient`, or NDJSON. `-` reads stdin."""

    async def work(connection: db.Connection) -> tuple[int, list[Rejected]]:
        chunks, read = await _sniff(file)
        accepted, rejected = 0, list[Rejected]()
        async for lines in recordings.batches(read(chunks)):
            async with connection.transaction():
                taken, refused = await optouts.add_lines(connection, app_id, kind, lines, "import")
            accepted, rejected = accepted + taken, rejected + refused
        return accepted, rejected

    _report(*with_app(settings, app_id, work))


async def _sniff(file: IO[bytes]) -> tuple[AsyncIterator[bytes], recordings.Reader]:
    """The file's chunks and how to read them: NDJSON begins with a brace."""
    first = file.read(_CHUNK)

    async def chunks() -> AsyncIterator[bytes]:
        chunk = first
        while chunk:
            yield chunk
            chunk = file.read(_CHUNK)

    is_json = first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    return chunks(), recordings.read_ndjson if is_json else recordings.read_csv


def _report(accepted: int, rejected: list[Rejected]) -> None:
    """Exit status 2 if any line was not taken."""
    for row in rejected:
        where = f"line {row.line}: " if row.line is not msgspec.UNSET else ""
        click.echo(f"{where}{row.recipient}: {row.error}", err=True)
    click.echo(f"{accepted} opted out, {len(rejected)} not taken")
    sys.exit(2 if rejected else 0)


@opt_outs.command("remove")
@_app
@_kind
@click.argument("recipients", nargs=-1, required=True)
@stored
def remove_opt_outs(settings: Settings, app_id: str, kind: AnyKind, recipients: tuple[str, ...]) -> None:
    """Take opt-outs back, of recipients who asked for it."""
    addresses = [optouts.address_of(recipient) for recipient in recipients]
    removed = with_app(settings, app_id, lambda c: optouts.remove(c, app_id, kind, addresses))
    click.echo(f"{removed} opt-outs removed")
