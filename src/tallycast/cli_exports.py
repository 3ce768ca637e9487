"""The command line's `export`: tables as files, streamed from this machine's database or a remote server."""

import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import IO, Any, NamedTuple

import click

from tallycast import periods
from tallycast.api import Answer, Api, Query
from tallycast.cli_reports import find_period
from tallycast.commands import Command
from tallycast.errors import BadQuery
from tallycast.progress import bar
from tallycast.ways import Way, asks, of_campaign

_FORMATS = ("csv", "xlsx", "parquet", "ndjson")
_STATES = ("queued", "pending", "delivered", "read", "failed")
_LINE_ENDS = {"csv": b"\r\n", "ndjson": b"\n"}
_STDOUT = Path("-")


class _Target(NamedTuple):
    """Where the export goes, and how."""

    file: Path
    force: bool
    format: str
    options: dict[str, bool]


@click.group()
def export() -> None:
    """Exports: recipients of a campaign and summaries of a period as CSV, XLSX, Parquet or NDJSON.

    \b
      tallycast export recipients --app APP CAMPAIGN -o sale.xlsx
      tallycast export recipients --app APP CAMPAIGN --state failed --excel -o failed.csv
      tallycast export campaigns --app APP --from 2026-11-01 --to 2026-11-30 -o november.parquet
      tallycast export recipients --app APP CAMPAIGN --format ndjson -o - | jq .recipient

    All of it works on a remote server too: --url or --profile, and --app may be left out.
    """  # noqa: D301 - \\b is click's own mark for a paragraph that keeps its lines


def _saves(command: Command) -> Command:
    """The options that say how the file is written; the command gets one `target`."""

    @wraps(command)
    def run(
        file: Path, force: bool, file_format: str | None, excel: bool, bom: bool, raw: bool, **given: Any
    ) -> Any:
        options = {name: True for name, is_on in (("excel", excel), ("bom", bom), ("raw", raw)) if is_on}
        return command(target=_Target(file, force, _choose(file, file_format), options), **given)

    wrapped: Command = run
    for add in reversed(_SAVING):
        wrapped = add(wrapped)
    return wrapped


_SAVING: tuple[Callable[[Command], Command], ...] = (
    click.option("-o", "--out", "file", required=True, type=click.Path(path_type=Path, dir_okay=False), help="the file to write; - is standard output"),
    click.option("--format", "file_format", type=click.Choice(_FORMATS), help="by the file's ending when left out"),
    click.option("--force", is_flag=True, help="overwrite the file where it exists"),
    click.option("--excel", is_flag=True, help="CSV for Excel: with a byte order mark, and numbers and ids as texts"),
    click.option("--bom", is_flag=True, help="CSV with a byte order mark"),
    click.option("--raw", is_flag=True, help="leave texts as they are, also where a spreadsheet runs them as formulas"),
)  # fmt: skip


def _choose(file: Path, file_format: str | None) -> str:
    found = file_format or ("csv" if file == _STDOUT else file.suffix.lower().removeprefix("."))
    if found not in _FORMATS:
        raise click.UsageError(
            f"-o must end in .{', .'.join(_FORMATS)}, or --format must say what it is to be"
        )
    return found


@export.command("recipients")
@of_campaign
@click.option("--state", type=click.Choice(_STATES), help="only recipients in this state")
@_saves
@asks
def export_recipients(way: Way, campaign_id: str, state: str | None, target: _Target) -> None:
    """Write the recipients of a campaign, with what became of each, to a file."""

    async def work(api: Api) -> None:
        await _save(api, "/exports/recipients", {"campaign": campaign_id, "state": state}, target)

    way.run(work)


@export.command("campaigns")
@click.option("--from", "first", metavar="DATE", help="a date in the app's time zone, or a moment like 2026-11-23T09:00:00+08:00")  # fmt: skip
@click.option("--to", "last", metavar="DATE", help="the same; a date is the period's last day, a moment is its end")  # fmt: skip
@click.option("--last", "name", type=click.Choice(periods.NAMES), help="a period that ends today, by the app's clock")  # fmt: skip
@click.option("--channel", type=click.Choice(["sms", "whatsApp"]), help="only campaigns of this kind")
@_saves
@asks
def export_campaigns(
    way: Way,
    first: str | None,
    last: str | None,
    name: periods.Name | None,
    channel: str | None,
    target: _Target,
) -> None:
    """Write the sent campaigns of a period, with their totals, to a file; of all times when none is given."""
    if name and (first or last):
        raise BadQuery.of("--last is a period of its own: leave out --from and --to")

    async def work(api: Api) -> None:
        query = {"channel": channel, **await find_period(api, first, last, name)}
        await _save(api, "/exports/campaigns", query, target)

    way.run(work)


async def _save(api: Api, path: str, query: Query, target: _Target) -> None:
    with _open(target) as file:
        asked = {**query, "format": target.format, **target.options}
        async with api.open("GET", path, asked) as answer:
            rows = int(answer.headers.get("x-total-rows", 0))
            async for chunk in _watch(answer, target.format, rows):
                file.write(chunk)
    if target.file != _STDOUT:
        click.echo(f"{rows:,} rows, {target.file.stat().st_size:,} bytes in {target.file}")


async def _watch(answer: Answer, file_format: str, rows: int) -> AsyncIterator[bytes]:
    """The chunks, while a bar shows the rows; in packed files they cannot be seen, so it shows the bytes."""
    line_end = _LINE_ENDS.get(file_format)
    with bar("exporting rows" if line_end else "exporting bytes", rows if line_end else 0) as advance:
        async for chunk in answer.body:
            yield chunk
            advance(chunk.count(line_end) if line_end else len(chunk))


@contextlib.contextmanager
def _open(target: _Target) -> Iterator[IO[bytes]]:
    """The file, under another name until it is whole: one that broke off must not look like one that did not."""
    if target.file == _STDOUT:
        if sys.stdout.isatty() and target.format not in _LINE_ENDS:
            raise click.UsageError(f"a terminal cannot show {target.format}: name a file, or pipe it")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if target.file.exists() and not target.force:
        raise BadQuery.of(f"{target.file} exists: --force overwrites it")
    with tempfile.NamedTemporaryFile(
        dir=target.file.parent, prefix=f".{target.file.name}.", delete=False
    ) as file:
        try:
            yield file
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            Path(file.name).replace(target.file)
        except BaseException:
            Path(file.name).unlink()
            raise


def _umask() -> int:
    """What the user takes away from new files; it can only be read by setting it."""
    found = os.umask(0o077)
    os.umask(found)
    return found
