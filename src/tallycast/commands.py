"""What all commands share: settings as options, a connection to the migrated database, and tables."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import psycopg
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tallycast import apps, db, migrations, serving
from tallycast.config import BadSetting, Settings, load, read_list, setting_type
from tallycast.embedded import EmbeddedPostgresError
from tallycast.errors import Problem
from tallycast.keys import BadKey
from tallycast.moments import write_moment

Result = TypeVar("Result")
Command = Callable[..., Any]
COUNT = click.IntRange(0, 2**31 - 1)
# What a person can mend: the message says what, a trace would not help.
_PERSONS_ERRORS = (
    Problem,
    BadSetting,
    BadKey,
    EmbeddedPostgresError,
    migrations.UnfitDatabase,
    psycopg.OperationalError,
    OSError,
)
# Where a terminal is too narrow for a table, sentences are folded, down to this width; ids and times never are.
_FOLDED_WIDTH = 30
_LONGEST_WORD = 100


@contextmanager
def explaining() -> Iterator[None]:
    """What a person can mend ends the command with status 2 and one line on standard error."""
    try:
        yield
    except _PERSONS_ERRORS as error:
        message = error.message if isinstance(error, Problem) else str(error)
        click.echo(f"tallycast: {' '.join(message.split())}", err=True)
        sys.exit(2)


def _options(*names: str) -> Callable[[Command], Command]:
    """Options for settings, with their help and defaults; the command gets one `settings`."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def run(**arguments: Any) -> Any:
            given = {name: arguments.pop(name) for name in names}
            with explaining():
                return command(settings=load(given), **arguments)

        wrapped: Command = run
        for setting in reversed([field for field in fields(Settings) if field.name in names]):
            wrapped = _option(setting.name, setting.default, setting.metadata["help"])(wrapped)
        return wrapped

    return decorate


def _option(name: str, default: Any, help_text: str) -> Callable[[Command], Command]:
    kind = setting_type(name)
    shown = "" if default in (None, ()) else f" [default: {default}]"
    return click.option(
        f"--{name.replace('_', '-')}",
        type=click.Path(path_type=Path) if kind is Path else (str if kind is tuple else kind),
        callback=(lambda _context, _option, value: value and read_list(value)) if kind is tuple else None,
        help=f"{help_text}{shown} (TALLYCAST_{name.upper()})",
    )


stored = _options("data_dir", "database_url", "encryption_key")
# For commands that ask a provider, or show what will be sent.
outward = _options("data_dir", "database_url", "encryption_key", "public_url", "private_hosts")
# For `worker`, which listens nowhere.
working = _options(
    "data_dir",
    "database_url",
    "database_connections",
    "encryption_key",
    "public_url",
    "private_hosts",
    "log_format",
    "log_level",
)
all_settings = _options(*(setting.name for setting in fields(Settings)))


def with_database(settings: Settings, work: Callable[[db.Connection], Awaitable[Result]]) -> Result:
    """Run `work` on a connection to the migrated database."""

    async def run(url: str) -> Result:
        async with db.connect(url) as connection:
            return await work(connection)

    with serving.database(settings) as url:
        migrations.migrate(url)
        return asyncio.run(run(url))


def with_app(settings: Settings, app_id: str, work: Callable[[db.Connection], Awaitable[Result]]) -> Result:
    """The same for work on one app, which must be known: a misspelt id must not look like an empty app."""

    async def checked(connection: db.Connection) -> Result:
        if await apps.find_app(connection, app_id) is None:
            raise Problem(f"no app {app_id}")
        return await work(connection)

    return with_database(settings, checked)


def print_rows(rows: list[dict[str, Any]], as_json: bool, empty: str) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo(empty)
        return
    texts = [["" if value is None else str(value) for value in row.values()] for row in rows]
    console, width = Console(soft_wrap=True), 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in zip(rows[0], *texts, strict=True):
        longest = max(cell_len(line) for text in column for line in text.splitlines() or [""])
        is_prose = longest > _LONGEST_WORD or any(" " in text for text in column)
        table.add_column(column[0], no_wrap=not is_prose, overflow="fold")
        is_folded = is_prose and console.is_terminal
        width += 2 + (min(longest, _FOLDED_WIDTH) if is_folded else longest)
    for cells in texts:
        table.add_row(*map(Text, cells))
    console.width = max(console.width, width)
    console.print(table)


def write_json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def write_optional(moment: datetime | None) -> str | None:
    return None if moment is None else write_moment(moment)
