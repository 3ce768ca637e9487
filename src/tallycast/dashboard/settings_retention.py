"""Settings of an app: for how long recipients are known, and what is known of one person, to be given out or erased."""

from collections.abc import Mapping
from typing import get_args

import msgspec
from litestar import Response, get, post

from tallycast import administrations, people, policies
from tallycast.dashboard import mistakes
from tallycast.dashboard.forms import Form, form_of
from tallycast.dashboard.guard import by_of
from tallycast.dashboard.pages import make_flash, redirect, render
from tallycast.dashboard.places import moment_of
from tallycast.errors import BadQuery, Unprocessable
from tallycast.policies import Mode, PolicyChange, Retention
from tallycast.web.answers import Asked
from tallycast.web.services import of

MODES: tuple[Mode, ...] = get_args(Mode)
_SHOWN = 50
_MAX_DIGITS = 6
_FIELDS = {"retention.days": "days", "recipient": "number", "number": "number"}


@get("/apps/{appID:str}/settings/retention", role="admin")
async def show_retention(request: Asked, appID: str) -> Response[bytes]:
    return await _show(request, appID)


async def _show(
    request: Asked,
    app_id: str,
    typed: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        retention = policies.view(await policies.find_policy(connection, app_id)).retention
        erasures = await people.list_erasures(connection, app_id, _SHOWN, 0)
    known = {"mode": retention.mode, "days": str(retention.days)} if retention else {}
    return render(
        request,
        "retention.html",
        status=422 if errors else 200,
        typed={**known, **(typed or {})},
        errors=mistakes.tell(request, errors or {}),
        erasures=erasures,
        moment_of=moment_of,
    )


@post("/apps/{appID:str}/settings/retention", role="admin", status_code=303)
async def change(request: Asked, appID: str) -> Response[bytes]:
    form = form_of(request)
    try:
        async with of(request).pool.connection() as connection, connection.transaction():
            wanted = PolicyChange(retention=_read(form))
            await policies.change_policy(connection, appID, wanted)
            by, said = by_of(request), administrations.describe(wanted)
            await administrations.note(connection, appID, by, "policy.changed", **said)
    except BadQuery as problem:
        typed = {name: form.text(name) for name in ("mode", "days")}
        return await _show(request, appID, typed, mistakes.place(problem, _FIELDS))
    return _go_back(request, appID, "form.saved")


def _read(form: Form) -> Retention | None:
    days = form.text("days")
    mode = next((one for one in MODES if one == form.text("mode")), None)
    is_number = days.isascii() and days.isdecimal() and len(days) <= _MAX_DIGITS
    return None if mode is None else Retention(int(days) if is_number else 0, mode)


def _go_back(request: Asked, app_id: str, key: str) -> Response[bytes]:
    return redirect(request, f"/apps/{app_id}/settings/retention", flash=make_flash(request, key))


@post("/apps/{appID:str}/settings/retention/person", role="admin", status_code=200)
async def download_person(request: Asked, appID: str) -> Response[bytes]:
    """Everything that is known about a number, as a file to be handed out. No URL has the number, so no log keeps it."""
    text = form_of(request).text("number")
    try:
        number = people.read_number(text)
    except BadQuery as problem:
        return await _show(request, appID, {"number": text[:60]}, mistakes.place(problem, _FIELDS))
    async with of(request).pool.connection() as connection:
        found = await people.show(connection, of(request).cipher, appID, number)
        await people.note_showing(connection, of(request).cipher, appID, number, by_of(request))
    headers = {
        "Content-Disposition": f'attachment; filename="person-{number.lstrip("+")}.json"',
        "Cache-Control": "no-store",
    }
    body = msgspec.json.format(msgspec.json.encode(found), indent=2)
    return Response(body, media_type="application/json", headers=headers)


@post("/apps/{appID:str}/settings/retention/erase", role="admin", status_code=303)
async def erase(request: Asked, appID: str) -> Response[bytes]:
    """Make a person anonymous everywhere. It is written down, without the number."""
    form, services = form_of(request), of(request)
    try:
        if not form.text("sure"):
            raise BadQuery.of("number is erased only when you have ticked that you are sure")
        number = people.read_number(form.text("number"))
        async with services.pool.connection() as connection:
            opt_out, by = bool(form.text("opt_out")), by_of(request)
            await people.erase(connection, services.cipher, appID, number, by, opt_out=opt_out)
    except (BadQuery, Unprocessable) as problem:
        said = problem.message.removeprefix("Bad query: ")
        return await _show(request, appID, {"erased": form.text("number")}, {"erased": said})
    return _go_back(request, appID, "retention.erased")
