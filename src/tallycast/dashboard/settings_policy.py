"""Settings of an app: what holds for all its campaigns."""

from collections.abc import Mapping

from litestar import Response, get, post

from tallycast import administrations, policies
from tallycast.dashboard import mistakes, whens
from tallycast.dashboard.forms import Form, form_of
from tallycast.dashboard.guard import app_of, by_of
from tallycast.dashboard.pages import make_flash, redirect, render
from tallycast.errors import BadQuery
from tallycast.policies import PolicyChange, PolicyView, QuietHours
from tallycast.web.answers import Asked
from tallycast.web.services import of

_FIELDS = {
    "timeZone": "time_zone",
    "quietHours.from": "quiet_from",
    "quietHours.until": "quiet_until",
    "stopWords": "stop_words",
    "startWords": "start_words",
    "staleMinutes": "stale_minutes",
}
_MAX_DIGITS = 6


@get("/apps/{appID:str}/settings/policy", role="admin")
async def show_policy(request: Asked, appID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        view = policies.view(await policies.find_policy(connection, appID))
    return _show(request, _describe(view))


def _show(
    request: Asked, typed: Mapping[str, str], errors: Mapping[str, str] | None = None
) -> Response[bytes]:
    return render(
        request,
        "policy.html",
        status=422 if errors else 200,
        typed=typed,
        errors=mistakes.tell(request, errors or {}),
        zones=whens.list_zones(app_of(request).time_zone),
    )


def _describe(view: PolicyView) -> dict[str, str]:
    hours = view.quiet_hours
    return {
        "requires_approval": "1" if view.requires_approval else "",
        "time_zone": view.time_zone,
        "quiet_from": hours.from_ if hours else "",
        "quiet_until": hours.until if hours else "",
        "stop_words": "\n".join(view.stop_words),
        "start_words": "\n".join(view.start_words),
        "stale_minutes": str(view.stale_minutes),
    }


@post("/apps/{appID:str}/settings/policy", role="admin", status_code=303)
async def change_policy(request: Asked, appID: str) -> Response[bytes]:
    form = form_of(request)
    try:
        async with of(request).pool.connection() as connection, connection.transaction():
            wanted = _read(form)
            await policies.change_policy(connection, appID, wanted)
            by, said = by_of(request), administrations.describe(wanted)
            await administrations.note(connection, appID, by, "policy.changed", **said)
    except BadQuery as problem:
        typed = {name: values[0] for name, values in form.items()}
        return _show(request, typed, mistakes.place(problem, _FIELDS))
    path = f"/apps/{appID}/settings/policy"
    return redirect(request, path, flash=make_flash(request, "form.saved"))


def _read(form: Form) -> PolicyChange:
    quiet_from, quiet_until, stale = (
        form.text(name) for name in ("quiet_from", "quiet_until", "stale_minutes")
    )
    is_number = stale.isascii() and stale.isdecimal() and len(stale) <= _MAX_DIGITS
    return PolicyChange(
        requires_approval=bool(form.text("requires_approval")),
        time_zone=form.text("time_zone"),
        quiet_hours=QuietHours(quiet_from, quiet_until) if quiet_from or quiet_until else None,
        stop_words=_read_words(form, "stop_words"),
        start_words=_read_words(form, "start_words"),
        stale_minutes=int(stale) if is_number else 0,
    )


def _read_words(form: Form, name: str) -> list[str]:
    """One word or phrase a line."""
    return [line.strip() for line in form.raw(name).splitlines() if line.strip()]
