"""Members of an app: the people whom its admins let in.

An admin of one app has no power over people beyond it: a link with which somebody chooses a password is made only for
whoever has none yet, is no owner and has a role nowhere else. Owners may do more.
"""

from tallycast import db, invitations, staff
from tallycast.errors import Forbidden, NotFound, Unprocessable
from tallycast.roles import Role
from tallycast.sessions import Person
from tallycast.staff import Staff


async def let_in(
    connection: db.Connection, by: Person, app_id: str, email: str, name: str, eid: str, role: Role
) -> str | None:
    """Give somebody a role; who is not known yet is added. The token of their link, None for who needs none."""
    async with connection.transaction():
        known = await _find(connection, staff.read_email(email))
        if known is None:
            known = await staff.create(connection, email, name, eid)
        if known.disabled_at is not None or known.is_owner:
            raise Unprocessable(f"{known.email} is {'an owner already' if known.is_owner else 'disabled'}")
        await change_role(connection, by, app_id, known.staff_id, role)
        return await _link(connection, by, app_id, known) if not known.has_password else None


async def _find(connection: db.Connection, email: str) -> Staff | None:
    try:
        return await staff.find(connection, email)
    except NotFound:
        return None


async def change_role(
    connection: db.Connection, by: Person, app_id: str, staff_id: str, role: Role | None
) -> None:
    """Another role in the app, or none. One's own stays: nobody locks themselves out by mistake."""
    if staff_id == by.staff_id:
        raise Forbidden("nobody changes their own role")
    await staff.set_role(connection, app_id, staff_id, role)


async def find(connection: db.Connection, app_id: str, staff_id: str) -> Staff:
    """One of those who have a role in the app. NotFound for everybody else."""
    for one in await staff.list_of_app(connection, app_id):
        if one.staff_id == staff_id and not one.is_owner:
            return one
    raise NotFound("no such member")


async def invite_again(connection: db.Connection, by: Person, app_id: str, staff_id: str) -> str:
    """The token of a new link; earlier ones end. Of owners also for who has forgotten a password."""
    await find(connection, app_id, staff_id)
    known = await staff.find(connection, staff_id)
    token = await _link(connection, by, app_id, known)
    if token is None:
        raise Forbidden("an owner gives links to people who have a password, or a role in another app")
    return token


async def _link(connection: db.Connection, by: Person, app_id: str, known: Staff) -> str | None:
    is_only_here = not known.has_password and set(known.roles) <= {app_id}
    if not by.is_owner and not is_only_here:
        return None
    return await invitations.invite(connection, known.staff_id)
