"""Writes docs/cli.md and docs/settings.md from the program itself; with --check only says whether they are current."""

import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click

from tallycast.cli import main as tallycast
from tallycast.config import ENV_PREFIX, Settings, setting_type

HERE = Path(__file__).parent


def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in sorted(command.list_commands(context)):
            child = command.get_command(context, name)
            assert child is not None
            yield from walk(child, (*path, name))


def write_cli() -> str:
    parts = [
        "# Command line\n",
        "Made from the program by `make docs`. [How commands find their server, and exit\n"
        "status](command-line.md).\n",
    ]
    for path, command in walk(tallycast, ("tallycast",)):
        context = click.Context(command, info_name=" ".join(path), max_content_width=100, terminal_width=100)
        title = " ".join(path)
        parts.append(f"## {title}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def write_settings() -> str:
    rows = [
        f"| `--{s.name.replace('_', '-')}` | `{ENV_PREFIX}{s.name.upper()}` | {_default(s.name, s.default)} "
        f"| {s.metadata['help']} |"
        for s in fields(Settings)
    ]
    head = (
        "# Settings\n\nMade from the program by `make docs`. An option wins over its variable, a variable over the\n"
        "default. Every command takes `--data-dir`, `--database-url` and `--encryption-key`.\n\n"
        "| option | variable | default | meaning |\n|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def _default(name: str, default: object) -> str:
    if default is None or default == ():
        return "none"
    return f"`{default}`" if setting_type(name) is not int else str(default)


PAGES = {"cli.md": write_cli, "settings.md": write_settings}


def stale() -> list[str]:
    return [name for name, write in PAGES.items() if (HERE / name).read_text() != write()]


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(f"not current, run make docs: {', '.join(stale())}" if stale() else 0)
    for page, write in PAGES.items():
        (HERE / page).write_text(write())
