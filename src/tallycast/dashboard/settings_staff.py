"""Settings of an app: who may open it, and what each may do."""

from collections.abc import Mapping

from litestar import Response, get, post

from tallycast import administrations, invitations, members, staff
from tallycast.dashboard import mistakes
from tallycast.dashboard.forms import Form, form_of
from tallycast.dashboard.guard import by_of, person_of
from tallycast.dashboard.pages import make_flash, redirect, render
from tallycast.errors import BadQuery, Unprocessable
from tallycast.roles import ROLES, Role
from tallycast.web.answers import Asked
from tallycast.web.services import of

_FIELDS = {"email": "email", "name": "name", "eid": "eid", "role": "role"}


@get("/apps/{appID:str}/settings/staff", role="admin")
async def list_staff(request: Asked, appID: str) -> Response[bytes]:
    return await _show(request, appID, {})


async def _show(
    request: Asked,
    app_id: str,
    typed: Mapping[str, str],
    errors: Mapping[str, str] | None = None,
    link: str = "",
) -> Response[bytes]:
    """`link`: one with which somebody chooses a password, shown here alone."""
    async with of(request).pool.connection() as connection:
        found = await staff.list_of_app(connection, app_id)
    return render(
        request,
        "staff.html",
        status=422 if errors else 200,
        members=found,
        roles=ROLES,
        typed=typed,
        errors=mistakes.tell(request, errors or {}),
        link=link,
        hours=int(invitations.LIFETIME.total_seconds() // 3600),
    )


@post("/apps/{appID:str}/settings/staff", role="admin", status_code=200)
async def let_in(request: Asked, appID: str) -> Response[bytes]:
    """Give somebody a role. Who has no password yet gets a one-time link, which is in this answer and nowhere else."""
    form = form_of(request)
    typed = {name: form.text(name) for name in _FIELDS}
    try:
        role = _read_role(form)
        async with of(request).pool.connection() as connection, connection.transaction():
            token = await members.let_in(
                connection, person_of(request), appID, typed["email"], typed["name"], typed["eid"], role
            )
            whom, by = staff.read_email(typed["email"]), by_of(request)
            await administrations.note(
                connection, appID, by, "staff.roleChanged", whom, role=role, isInvited=token is not None
            )
    except (BadQuery, Unprocessable) as problem:
        return await _show(request, appID, typed, mistakes.place(problem, _FIELDS))
    if token is None:
        return _go_back(request, appID, "staff.let_in")
    return await _show(request, appID, {}, link=invitations.write_url(of(request).settings.base_url, token))


def _read_role(form: Form) -> Role:
    role = next((one for one in ROLES if one == form.text("role")), None)
    if role is None:
        raise BadQuery.of(f"role must be one of {', '.join(ROLES)}")
    return role


def _go_back(request: Asked, app_id: str, key: str) -> Response[bytes]:
    return redirect(request, f"/apps/{app_id}/settings/staff", flash=make_flash(request, key))


@post("/apps/{appID:str}/settings/staff/{staffID:str}/role", role="admin", status_code=303)
async def change_role(request: Asked, appID: str, staffID: str) -> Response[bytes]:
    role = _read_role(form_of(request))
    await _change_role(request, appID, staffID, role)
    return _go_back(request, appID, "form.saved")


async def _change_role(request: Asked, app_id: str, staff_id: str, role: Role | None) -> None:
    async with of(request).pool.connection() as connection, connection.transaction():
        known = await members.find(connection, app_id, staff_id)
        await members.change_role(connection, person_of(request), app_id, staff_id, role)
        by = by_of(request)
        await administrations.note(connection, app_id, by, "staff.roleChanged", known.email, role=role)


@post("/apps/{appID:str}/settings/staff/{staffID:str}/remove", role="admin", status_code=303)
async def remove(request: Asked, appID: str, staffID: str) -> Response[bytes]:
    """They lose this app, not their account."""
    await _change_role(request, appID, staffID, None)
    return _go_back(request, appID, "staff.removed")


@post("/apps/{appID:str}/settings/staff/{staffID:str}/invite", role="admin", status_code=200)
async def invite_again(request: Asked, appID: str, staffID: str) -> Response[bytes]:
    """Another one-time link; earlier ones end."""
    async with of(request).pool.connection() as connection, connection.transaction():
        token = await members.invite_again(connection, person_of(request), appID, staffID)
        known = await members.find(connection, appID, staffID)
        await administrations.note(connection, appID, by_of(request), "staff.invited", known.email)
    return await _show(request, appID, {}, link=invitations.write_url(of(request).settings.base_url, token))
