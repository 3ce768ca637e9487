"""Lists of any length on standard output, as they come: a table, JSON or CSV."""

import csv
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import click

from tallycast.commands import print_rows
from tallycast.mending import defuse

Row = dict[str, Any]
Form = Literal["table", "json", "csv"]
_PAGE = 200
form = click.option(
    "--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True, help="how it is printed"
)  # fmt: skip


async def print_all(rows: AsyncIterator[Row], form: Form, narrow: Callable[[Row], Row], empty: str) -> None:
    """Print a list; a table has only what `narrow` leaves of each row, CSV and JSON have all of it."""
    if form == "json":
        await _print_json(rows)
    elif form == "csv":
        await _print_csv(rows)
    else:
        await _print_tables(rows, narrow, empty)


async def _print_json(rows: AsyncIterator[Row]) -> None:
    start = "[\n"
    async for row in rows:
        click.echo(f"{start}  {json.dumps(row, ensure_ascii=False)}", nl=False)
        start = ",\n"
    click.echo("[]" if start == "[\n" else "\n]")


async def _print_csv(rows: AsyncIterator[Row]) -> None:
    """As spreadsheets read it: formulas are defused; the first row has every column."""
    writer = csv.writer(sys.stdout)
    names: list[str] = []
    async for row in rows:
        if not names:
            names = list(row)
            writer.writerow(names)
        writer.writerow([defuse(_write_cell(row.get(name))) for name in names])


def _write_cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


async def _print_tables(rows: AsyncIterator[Row], narrow: Callable[[Row], Row], empty: str) -> None:
    """A table for each page: a long list is not gathered first."""
    page: list[Row] = []
    is_empty = True
    async for row in rows:
        page.append(narrow(row))
        if len(page) == _PAGE:
            print_rows(page, False, "")
            is_empty, page = False, []
    if page or is_empty:
        print_rows(page, False, empty)
