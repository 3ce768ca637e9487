"""Writes docs/cli.md, docs/settings.md and docs/permissions.md from the program itself; with --check only says whether they are current."""

import sys
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
from litestar import Litestar
from litestar.routes import HTTPRoute

from tallycast.apps import SCOPES
from tallycast.cli import main as tallycast
from tallycast.config import ENV_PREFIX, Settings, setting_type
from tallycast.roles import ROLES
from tallycast.web.server import ROUTES

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


def write_permissions() -> str:
    """The routes of the API by scope, and the pages by the least role that opens them, from the server's own table."""
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
        routes = Litestar(ROUTES, openapi_config=None).routes
    found: dict[str, list[str]] = {}
    for route in routes:
        for handler in route.route_handlers if isinstance(route, HTTPRoute) else ():
            who = handler.opt.get("scope") or handler.opt.get("role")
            for method in sorted({str(method) for method in handler.http_methods} - {"OPTIONS", "HEAD"}):
                path = route.path_format.removeprefix("/v1/api/apps/{appID}")
                if who:
                    found.setdefault(who, []).append(f"`{method} {path}`")
    head = (
        "# Who may do what\n\nMade from the program by `make docs`. [What each right is for](security.md).\n\n"
        "## Scopes of tokens\n\nBelow `/v1/api/apps/{appID}`; a token is of one app.\n\n"
    )
    scopes = [f"**{one}**: {', '.join(sorted(found[one]))}\n" for one in SCOPES]
    least = ["anyone", "person", *ROLES]
    pages = [f"**{one}**: {', '.join(sorted(found[one]))}\n" for one in least]
    middle = (
        "\n## Roles of people\n\nThe least role that opens a page. *anyone* is who is not signed in, *person* whoever is. A "
        "role opens what\nthose before it open; owners are admins everywhere.\n\n"
    )
    return head + "\n".join(scopes) + middle + "\n".join(pages)


PAGES = {"cli.md": write_cli, "settings.md": write_settings, "permissions.md": write_permissions}


def stale() -> list[str]:
    return [name for name, write in PAGES.items() if (HERE / name).read_text() != write()]


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(f"not current, run make docs: {', '.join(stale())}" if stale() else 0)
    for page, write in PAGES.items():
        (HERE / page).write_text(write())
