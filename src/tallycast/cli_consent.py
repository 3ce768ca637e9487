"""The command line's `opt-outs`: who does not want messages any more."""

import sys
from collections.abc import AsyncIterator
from typing import IO, Any

import click

from tallycast.api import Api, below, read_chunks
from tallycast.commands import COUNT, print_rows
from tallycast.ways import Way, asks

_KINDS = ("sms", "whatsApp")
_START = 65_536
_kind = click.option(
    "--kind", type=click.Choice(["sms", "whatsApp", "all"]), required=True, help="out of what"
)


@click.group("opt-outs")
def opt_outs() -> None:
    """Opt-outs: who does not want messages any more.

    \b
      tallycast opt-outs add --app APP --kind all +85298765432 --source 'a letter of 3 May'
      tallycast opt-outs import --app APP --kind sms numbers.csv
      tallycast opt-outs list --app APP --recipient +85298765432
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


@opt_outs.command("list")
@click.option("--kind", type=click.Choice(_KINDS), help="only of this kind")
@click.option("--recipient", help="only this number")
@click.option("--limit", type=COUNT, default=100, show_default=True, help="how many at most")
@click.option("--offset", type=COUNT, default=0, help="how many to skip")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@asks
def list_opt_outs(
    way: Way, kind: str | None, recipient: str | None, limit: int, offset: int, as_json: bool
) -> None:
    """List who is opted out, by kind and number, and how that is known."""
    query = {"kind": kind, "recipient": recipient}
    rows = way.run(lambda api: api.list("/opt-outs", query, limit, offset))
    print_rows(rows, as_json, "nobody is opted out")


@opt_outs.command("add")
@_kind
@click.option("--source", default="command line", show_default=True, help="what is kept as the reason")
@click.argument("recipients", nargs=-1, required=True)
@asks
def add_opt_outs(way: Way, kind: str, source: str, recipients: tuple[str, ...]) -> None:
    """Opt numbers out."""
    said = {"kind": kind, "recipients": recipients, "source": source}
    _report(way.run(lambda api: api.request("POST", "/opt-outs", json=said)))


@opt_outs.command("import")
@_kind
@click.argument("file", type=click.File("rb"))
@asks
def import_opt_outs(way: Way, kind: str, file: IO[bytes]) -> None:
    """Opt out a list of numbers: CSV with a column `recipient`, or NDJSON. `-` reads stdin."""
    start = file.read(_START)
    is_json = start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    content_type = "application/x-ndjson" if is_json else "text/csv"

    async def chunks() -> AsyncIterator[bytes]:
        yield start
        async for chunk in read_chunks(file):
            yield chunk

    async def work(api: Api) -> Any:
        query = {"kind": kind}
        return await api.request(
            "POST", "/opt-outs/import", query, stream=chunks(), content_type=content_type
        )

    _report(way.run(work))


def _report(done: dict[str, Any]) -> None:
    """Exit status 2 if any line was not taken."""
    for row in done["rejected"]:
        where = f"line {row['line']}: " if "line" in row else ""
        click.echo(f"{where}{row['recipient']}: {row['error']}", err=True)
    click.echo(f"{done['accepted']} opted out, {len(done['rejected'])} not taken")
    sys.exit(2 if done["rejected"] else 0)


@opt_outs.command("remove")
@_kind
@click.argument("recipients", nargs=-1, required=True)
@asks
def remove_opt_outs(way: Way, kind: str, recipients: tuple[str, ...]) -> None:
    """Take opt-outs back, of recipients who asked for it."""

    async def work(api: Api) -> int:
        removed = 0
        for one in recipients:
            known = await api.list("/opt-outs", {"recipient": one, "kind": None if kind == "all" else kind})
            if known:  # the API does not know an opt-out that is not there
                removed += (await api.request("DELETE", below("opt-outs", kind, one)))["removed"]
        return removed

    click.echo(f"{way.run(work)} opt-outs removed")
