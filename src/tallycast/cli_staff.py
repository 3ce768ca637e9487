"""The command line's `staff`: the people who sign in to the dashboard."""

import json
import sys

import click

from tallycast import administrations, db, invitations, passwords, sessions
from tallycast import staff as people
from tallycast.administrations import HOUSE, Action, By
from tallycast.commands import (
    linking,
    name_operator,
    print_rows,
    stored,
    with_app,
    with_database,
    write_optional,
)
from tallycast.config import Settings
from tallycast.errors import BadQuery
from tallycast.roles import ROLES, Role

_who = click.argument("who", metavar="EMAIL")
_link = click.option(
    "--link", "by_link", is_flag=True, help="print a one-time link, with which they choose it"
)


@click.group()
def staff() -> None:
    """Staff: the people who sign in to the dashboard, and what each may do in which app."""


@staff.command("create")
@click.option("--email", required=True, help="what they sign in with")
@click.option("--name", required=True, help="as campaigns show it: createdBy")
@click.option("--eid", required=True, help="their number or short name in the company: senderEID")
@click.option("--app", "app_id", help="the app that they may open")
@click.option("--role", type=click.Choice(ROLES), help="what they may do in it; viewer when left out")
@click.option("--owner", "is_owner", is_flag=True, help="may do everything in every app")
@_link
@linking
def create(
    settings: Settings,
    email: str,
    name: str,
    eid: str,
    app_id: str | None,
    role: Role | None,
    is_owner: bool,
    by_link: bool,
) -> None:
    """Add somebody. Asks for their password, or with --link prints a link with which they choose it.

    The password is read from the terminal, else it is the first line of standard input.
    """
    if role is not None and app_id is None:
        raise BadQuery.of("--role needs --app: a role is one in an app")
    password = None if by_link else _read_password()

    async def work(connection: db.Connection) -> str:
        hashed = None if password is None else await passwords.hash_password(password)
        async with connection.transaction():
            made = await people.create(connection, email, name, eid, is_owner=is_owner)
            await _note(connection, "staff.created", made.email, isOwner=is_owner)
            if app_id is not None:
                await _set_role(connection, app_id, made, role or "viewer")
            if hashed is not None:
                await people.set_password(connection, made.staff_id, hashed)
                return f"created {made.email}"
            return _tell_link(settings, await invitations.invite(connection, made.staff_id))

    click.echo(with_database(settings, work))


async def _note(connection: db.Connection, action: Action, email: str, /, **details: object) -> None:
    await administrations.note(connection, HOUSE, By(name_operator()), action, email, **details)


async def _set_role(connection: db.Connection, app_id: str, known: people.Staff, role: Role | None) -> None:
    await people.set_role(connection, app_id, known.staff_id, role)
    by = By(name_operator())
    await administrations.note(connection, app_id, by, "staff.roleChanged", known.email, role=role)


def _read_password() -> str:
    if sys.stdin.isatty():
        typed: str = click.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        typed = sys.stdin.readline().rstrip("\r\n")
    passwords.check_length(typed)
    return typed


def _tell_link(settings: Settings, token: str) -> str:
    return f"valid once, for 24 hours:\n  {invitations.write_url(settings.base_url, token)}"


@staff.command("list")
@click.option("--app", "app_id", help="only who may open this app")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@stored
def list_staff(settings: Settings, app_id: str | None, as_json: bool) -> None:
    """List people with their roles, whether they have chosen a password, and who is disabled."""
    if app_id is None:
        found = with_database(settings, people.list_all)
    else:
        found = with_app(settings, app_id, lambda connection: people.list_of_app(connection, app_id))
    rows = [
        {
            "email": one.email,
            "name": one.name,
            "eid": one.eid,
            "roles": "owner"
            if one.is_owner
            else " ".join(f"{app}={role}" for app, role in one.roles.items()),
            "hasPassword": one.has_password,
            "createdAt": write_optional(one.created_at),
            "disabledAt": write_optional(one.disabled_at),
        }
        for one in found
    ]
    empty = "no staff: tallycast staff create --owner --email EMAIL --name NAME --eid EID"
    print_rows(rows, as_json, empty)


@staff.command("disable")
@_who
@stored
def disable(settings: Settings, who: str) -> None:
    """Let somebody sign in no more, and sign them out everywhere at once."""

    async def work(connection: db.Connection) -> None:
        async with connection.transaction():
            known = await people.find(connection, who)
            await people.disable(connection, known.staff_id)
            await _note(connection, "staff.disabled", known.email)

    with_database(settings, work)
    click.echo(f"disabled {who}")


@staff.command("enable")
@_who
@stored
def enable(settings: Settings, who: str) -> None:
    """Let somebody sign in again."""

    async def work(connection: db.Connection) -> None:
        async with connection.transaction():
            known = await people.find(connection, who)
            await people.enable(connection, known.staff_id)
            await _note(connection, "staff.enabled", known.email)

    with_database(settings, work)
    click.echo(f"enabled {who}")


@staff.command("set-role")
@_who
@click.option("--app", "app_id", help="the app's id")
@click.option("--role", type=click.Choice([*ROLES, "none"]), help="in the app; none takes it away")
@click.option(
    "--owner/--no-owner", "is_owner", default=None, help="may do everything in every app, or no more"
)
@stored
def set_role(
    settings: Settings, who: str, app_id: str | None, role: str | None, is_owner: bool | None
) -> None:
    """Change what somebody may do: a role in one app, or owner of all. It holds from their next page on."""
    if (app_id is None) != (role is None) or (app_id is None and is_owner is None):
        raise BadQuery.of("give --app with --role, or --owner, or --no-owner")

    async def work(connection: db.Connection) -> None:
        known = await people.find(connection, who)
        wanted = next((one for one in ROLES if one == role), None)
        async with connection.transaction():
            if is_owner is not None:
                await people.set_owner(connection, known.staff_id, is_owner)
                await _note(connection, "staff.ownerChanged", known.email, isOwner=is_owner)
            if app_id is not None:
                await _set_role(connection, app_id, known, wanted)

    with_database(settings, work)
    click.echo(f"changed {who}")


@staff.command("set-password")
@_who
@_link
@linking
def set_password(settings: Settings, who: str, by_link: bool) -> None:
    """Give somebody a new password and sign them out everywhere, or with --link let them choose it."""
    password = None if by_link else _read_password()

    async def work(connection: db.Connection) -> str:
        known = await people.find(connection, who)
        hashed = None if password is None else await passwords.hash_password(password)
        async with connection.transaction():
            if hashed is None:
                await _note(connection, "staff.invited", known.email)
                return _tell_link(settings, await invitations.invite(connection, known.staff_id))
            await people.set_password(connection, known.staff_id, hashed)
            await _note(connection, "staff.passwordChanged", known.email)
        return f"changed {known.email}"

    click.echo(with_database(settings, work))


@staff.command("revoke-sessions")
@_who
@click.option("--json", "as_json", is_flag=True, help='print {"ended"}')
@stored
def revoke_sessions(settings: Settings, who: str, as_json: bool) -> None:
    """Sign somebody out everywhere at once."""

    async def work(connection: db.Connection) -> int:
        async with connection.transaction():
            known = await people.find(connection, who)
            await _note(connection, "staff.signedOut", known.email)
            return await sessions.end_all(connection, known.staff_id)

    ended = with_database(settings, work)
    click.echo(json.dumps({"ended": ended}) if as_json else f"ended {ended} sessions of {who}")
