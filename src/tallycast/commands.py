"""What all commands share: settings as options, a connection to the migrated database, and tables."""

import asyncio
import getpass
import importlib
import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
import psycopg

from tallycast import apps, databases, db, migrations
from tallycast.config import BadSetting, Settings, load, read_list, setting_type
from tallycast.embedded import EmbeddedPostgresError
from tallycast.errors import BadQuery, Problem
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
# What only commands that ask the API have.
_REMOTE = ("--url", "--token", "--profile")
_INTERRUPTED = 130
# Where a terminal is too narrow for a table, sentences are folded, down to this width; ids and times never are.
_FOLDED_WIDTH = 30
_LONGEST_WORD = 100


class Commands(click.Group):
    """The program: it says which commands cannot ask another server, and ends quietly at Ctrl-C.

    `elsewhere`: commands of other modules, as `module:name`, loaded when they are asked for: a server or a worker that
    runs for months need not hold them all.
    """

    def __init__(self, *args: Any, elsewhere: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._elsewhere = elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._elsewhere])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._elsewhere:
            module, _, name = self._elsewhere[cmd_name].partition(":")
            command: click.Command = getattr(importlib.import_module(f"tallycast.{module}"), name)
            return command
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            if error.option_name not in _REMOTE or error.ctx is None:
                raise
            raise click.UsageError(
                f"`{error.ctx.command_path}` works on the server's own machine only, with --data-dir or --database-url.",
                error.ctx,
            ) from None
        except KeyboardInterrupt:
            click.echo(err=True)
            sys.exit(_INTERRUPTED)


@contextmanager
def explaining() -> Iterator[None]:
    """What a person can mend ends the command with status 2 and one line on standard error."""
    try:
        yield
    except BrokenPipeError:  # whoever read the output has seen enough: click ends quietly
        raise
    except _PERSONS_ERRORS as error:
        # What the contract calls a bad query is here an option or a file.
        message = error.message.removeprefix("Bad query: ") if isinstance(error, Problem) else str(error)
        click.echo(f"tallycast: {printable(' '.join(message.split()))}", err=True)
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
            wrapped = option(setting.name)(wrapped)
        return wrapped

    return decorate


def option(name: str) -> Callable[[Command], Command]:
    """The option of one setting."""
    setting = next(field for field in fields(Settings) if field.name == name)
    kind, default, help_text = setting_type(name), setting.default, setting.metadata["help"]
    shown = "" if default in (None, ()) else f" [default: {default}]"
    return click.option(
        f"--{name.replace('_', '-')}",
        type=click.Path(path_type=Path) if kind is Path else (str if kind is tuple else kind),
        callback=(lambda _context, _option, value: value and read_list(value)) if kind is tuple else None,
        help=f"{help_text}{shown} (TALLYCAST_{name.upper()})",
    )


stored = _options("data_dir", "database_url", "encryption_key")
# For commands that print a link to this server's pages.
linking = _options("data_dir", "database_url", "encryption_key", "public_url", "host", "port")
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

    with databases.reach(settings) as url:
        migrations.migrate(url)
        return asyncio.run(run(url))


def with_app(settings: Settings, app_id: str, work: Callable[[db.Connection], Awaitable[Result]]) -> Result:
    """The same for work on one app, which must be known: a misspelt id must not look like an empty app."""

    async def checked(connection: db.Connection) -> Result:
        if await apps.find_app(connection, app_id) is None:
            raise Problem(f"no app {app_id}")
        return await work(connection)

    return with_database(settings, checked)


def name_operator() -> str:
    """How what a command does on this machine is recorded."""
    return f"cli {getpass.getuser()}"


def read_secret(name: str, text: str | None) -> str | None:
    """The text; for `-` what is typed unseen, or the next line of standard input."""
    if text != "-":
        return text
    if sys.stdin.isatty():
        typed: str = click.prompt(name, hide_input=True, err=True)
        return typed
    line = sys.stdin.readline().rstrip("\r\n")
    if not line:
        raise BadQuery.of(f"{name} must be a line of standard input")
    return line


def print_rows(rows: list[dict[str, Any]], as_json: bool, empty: str) -> None:
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo(empty)
        return
    texts = [["" if value is None else printable(str(value)) for value in row.values()] for row in rows]
    from rich.cells import cell_len  # noqa: PLC0415 - a server need not load it
    from rich.console import Console  # noqa: PLC0415 - the same
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

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


def printable(text: str) -> str:
    """A text without what would move the terminal: names and messages are other people's."""
    return "".join(one if one.isprintable() or one == "\n" else "?" for one in text)


def write_json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def write_optional(moment: datetime | None) -> str | None:
    return None if moment is None else write_moment(moment)
