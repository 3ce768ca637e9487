"""Staff: the people who sign in, and what each may do in which app."""

import re
from collections.abc import Mapping
from datetime import datetime

import msgspec

from tallycast import apps, db, sessions
from tallycast.errors import BadQuery, NotFound, Unprocessable
from tallycast.roles import OpenApp, Role
from tallycast.sql import load

_SQL = load("staff")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_MAX_EMAIL = 254
_MAX_NAME = 100
_MAX_EID = 64


class Staff(msgspec.Struct, frozen=True):
    """`roles`: role by app id. `language`, `theme`: '' = as the browser says."""

    staff_id: str
    email: str
    name: str
    eid: str
    is_owner: bool
    language: str
    theme: str
    created_at: datetime
    disabled_at: datetime | None
    has_password: bool
    roles: Mapping[str, Role]


def read_email(text: str) -> str:
    """An address as it is kept: in lower case."""
    email = text.strip().lower()
    if len(email) > _MAX_EMAIL or not email.isprintable() or not _EMAIL.fullmatch(email):
        raise BadQuery.of(f"email must be an address like mei@example.com, not {text[:60]!r}")
    return email


def read_line(text: str, field: str, longest: int) -> str:
    line = " ".join(text.split())
    if not 0 < len(line) <= longest or not line.isprintable():
        raise BadQuery.of(f"{field} must be 1 to {longest} printable characters")
    return line


async def create(
    connection: db.Connection, email: str, name: str, eid: str, *, is_owner: bool = False
) -> Staff:
    """Add a person, who has no password yet. BadQuery when the email or the EID is taken.

    An EID is one person's alone, in any case of its letters: approvals tell people apart by it.
    """
    staff_id = apps.random_text(12)
    params = {
        "staff_id": staff_id,
        "email": read_email(email),
        "name": read_line(name, "name", _MAX_NAME),
        "eid": read_line(eid, "eid", _MAX_EID),
        "is_owner": is_owner,
    }
    async with connection.transaction():
        await lock(connection)
        if await db.fetch_rows(connection, _SQL["find_eid"], params):
            raise BadQuery.of(f"eid {params['eid']} belongs to somebody already")
        if not await db.execute(connection, _SQL["add_staff"], params):
            raise BadQuery.of(f"email {params['email']} belongs to somebody already")
    return await find(connection, staff_id)


async def has_any(connection: db.Connection) -> bool:
    found: bool = (await db.fetch_rows(connection, _SQL["has_staff"], {}))[0][0]
    return found


async def lock(connection: db.Connection) -> None:
    """Until the transaction ends, nobody else is added."""
    await db.execute(connection, _SQL["lock_staff"], {})


async def list_all(connection: db.Connection) -> list[Staff]:
    return await db.fetch_all(connection, Staff, _SQL["list_staff"], {})


async def list_of_app(connection: db.Connection, app_id: str) -> list[Staff]:
    """Who may open an app, the owners too. `roles` has this app's alone, and nothing for owners."""
    return await db.fetch_all(connection, Staff, _SQL["list_staff_of_app"], {"app_id": app_id})


async def find(connection: db.Connection, key: str) -> Staff:
    """By id or by email; else NotFound."""
    params = {"key": key.strip().lower() if "@" in key else key}
    found = await db.fetch_one(connection, Staff, _SQL["find_staff"], params)
    if found is None:
        raise NotFound(f"no staff member {key}")
    return found


async def list_open_apps(
    connection: db.Connection, staff_id: str, is_owner: bool, limit: int, search: str = ""
) -> list[OpenApp]:
    """The apps that a person may open, by name; `search`: part of the name, or the app id."""
    params = {"staff_id": staff_id, "is_owner": is_owner, "limit": limit, "search": search}
    return await db.fetch_all(connection, OpenApp, _SQL["list_open_apps"], params)


async def change(
    connection: db.Connection,
    staff_id: str,
    name: str | None = None,
    language: str | None = None,
    theme: str | None = None,
) -> None:
    """What is None stays."""
    checked = None if name is None else read_line(name, "name", _MAX_NAME)
    params = {"staff_id": staff_id, "name": checked, "language": language, "theme": theme}
    await db.execute(connection, _SQL["change_staff"], params)


async def set_role(connection: db.Connection, app_id: str, staff_id: str, role: Role | None) -> None:
    """Give a role in an app in place of the one there was; None takes it away."""
    if await apps.find_app(connection, app_id) is None:
        raise NotFound(f"no app {app_id}")
    params = {"app_id": app_id, "staff_id": staff_id, "role": role}
    await db.execute(connection, _SQL["drop_role" if role is None else "set_role"], params)


async def set_owner(connection: db.Connection, staff_id: str, is_owner: bool) -> None:
    """Make somebody an owner, or no longer. Unprocessable for the last one."""
    async with connection.transaction():
        if not is_owner:
            await _keep_an_owner(connection, staff_id)
        await db.execute(connection, _SQL["set_owner"], {"staff_id": staff_id, "is_owner": is_owner})


async def disable(connection: db.Connection, staff_id: str) -> None:
    """Sign somebody out everywhere, for good. Unprocessable for the last owner."""
    async with connection.transaction():
        await _keep_an_owner(connection, staff_id)
        await db.execute(connection, _SQL["disable_staff"], {"staff_id": staff_id})
        await db.execute(connection, _SQL["end_links"], {"staff_id": staff_id})
        await sessions.end_all(connection, staff_id)


async def enable(connection: db.Connection, staff_id: str) -> None:
    await db.execute(connection, _SQL["enable_staff"], {"staff_id": staff_id})


async def _keep_an_owner(connection: db.Connection, staff_id: str) -> None:
    owners = [row[0] for row in await db.fetch_rows(connection, _SQL["lock_owners"], {})]
    if owners == [staff_id]:
        raise Unprocessable("this is the last owner: make somebody else an owner first")


async def set_password(connection: db.Connection, staff_id: str, password_hash: str, but: str = "") -> None:
    """Change a password and end all sessions, but for that of the token `but`, and links to choose another."""
    async with connection.transaction():
        params = {"staff_id": staff_id, "password_hash": password_hash}
        await db.execute(connection, _SQL["set_password"], params)
        await db.execute(connection, _SQL["end_links"], params)
        await sessions.end_all(connection, staff_id, but)


async def find_password(connection: db.Connection, email: str) -> tuple[str, str | None] | None:
    """The id and the password's hash of whoever has this email and may sign in."""
    rows = await db.fetch_rows(connection, _SQL["find_password"], {"email": email})
    return None if not rows else (rows[0][0], rows[0][1])
