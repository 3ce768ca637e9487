"""One-time links: with one, somebody chooses a password, and the first person becomes the owner."""

from datetime import timedelta

import msgspec

from tallycast import administrations, db, passwords, staff
from tallycast.administrations import HOUSE, By
from tallycast.errors import NotFound
from tallycast.sessions import hash_token, make_token
from tallycast.sql import load

_SQL = load("invitations")
LIFETIME = timedelta(hours=24)


class Invitation(msgspec.Struct, frozen=True):
    """Whom a link is for; nobody: for whoever becomes the first owner."""

    staff_id: str | None
    email: str | None
    name: str | None


def write_url(base_url: str, token: str) -> str:
    return f"{base_url}/welcome/{token}"


async def invite(connection: db.Connection, staff_id: str) -> str:
    """The token of a link with which somebody chooses a password; their earlier links end."""
    async with connection.transaction():
        await db.execute(connection, _SQL["drop_links"], {"staff_id": staff_id})
        return await _add(connection, staff_id)


async def invite_first_owner(connection: db.Connection) -> str | None:
    """The token of a link that makes the first owner; None when there is staff."""
    await forget_old(connection)
    return None if await staff.has_any(connection) else await _add(connection, None)


async def _add(connection: db.Connection, staff_id: str | None) -> str:
    token = make_token()
    params = {"hash": hash_token(token), "staff_id": staff_id, "lifetime": LIFETIME}
    await db.execute(connection, _SQL["add_link"], params)
    return token


async def find(connection: db.Connection, token: str) -> Invitation:
    """NotFound for a link that was used, has expired or never was."""
    found = await db.fetch_one(connection, Invitation, _SQL["find_link"], {"hash": hash_token(token)})
    if found is None:
        raise NotFound("no such link")
    return found


async def accept(connection: db.Connection, token: str, password: str, address: str = "") -> str:
    """Choose the password of the person whom the link is for; their id."""
    hashed = await passwords.hash_password(password)
    async with connection.transaction():
        invitation = await _spend(connection, token)
        if invitation.staff_id is None:
            raise NotFound("no such link")
        await staff.set_password(connection, invitation.staff_id, hashed)
        by, email = By("holder of a one-time link", address), invitation.email or ""
        await administrations.note(connection, HOUSE, by, "staff.passwordChanged", email)
    return invitation.staff_id


async def found_house(
    connection: db.Connection, token: str, email: str, name: str, eid: str, password: str, address: str = ""
) -> str:
    """Make the first owner with a link of the first run; their id."""
    hashed = await passwords.hash_password(password)
    async with connection.transaction():
        await staff.lock(connection)
        if (await _spend(connection, token)).staff_id is not None:
            raise NotFound("no such link")
        made = await staff.create(connection, email, name, eid, is_owner=True)
        await staff.set_password(connection, made.staff_id, hashed)
        by = By("holder of the first link", address)
        await administrations.note(connection, HOUSE, by, "staff.created", made.email, isOwner=True)
    return made.staff_id


async def _spend(connection: db.Connection, token: str) -> Invitation:
    """The link, which nobody can use any more if the transaction commits."""
    invitation = await find(connection, token)
    if not await db.execute(connection, _SQL["spend_link"], {"hash": hash_token(token)}):
        raise NotFound("no such link")
    return invitation


async def forget_old(connection: db.Connection) -> None:
    await db.execute(connection, _SQL["forget_links"], {})
