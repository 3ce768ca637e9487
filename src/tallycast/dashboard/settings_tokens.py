"""Settings of an app: the tokens with which other systems use its API."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from litestar import Response, get, post

from tallycast import administrations, apps, db, staff
from tallycast.dashboard import mistakes, once
from tallycast.dashboard.forms import Form, form_of
from tallycast.dashboard.guard import by_of
from tallycast.dashboard.pages import make_flash, redirect, render
from tallycast.errors import BadQuery, Problem
from tallycast.web.answers import Asked
from tallycast.web.services import of

_MAX_NAME = 100
_MAX_DAYS = 3650
_FIELDS = {"name": "name", "scopes": "scopes", "days": "days"}


@get("/apps/{appID:str}/settings/tokens", role="admin")
async def list_tokens(request: Asked, appID: str) -> Response[bytes]:
    return await _show(request, appID, {"scopes": ["reports:read"]})


async def _show(
    request: Asked,
    app_id: str,
    typed: Mapping[str, object],
    errors: Mapping[str, str] | None = None,
    plain: str = "",
) -> Response[bytes]:
    """`plain`: a token that was made just now, and is shown here alone."""
    async with of(request).pool.connection() as connection:
        found = await apps.list_tokens(connection, app_id)
    return render(
        request,
        "tokens.html",
        status=422 if errors else 200,
        tokens=found[::-1],
        now=datetime.now(UTC),
        scopes=apps.SCOPES,
        typed=typed,
        errors=mistakes.tell(request, errors or {}),
        plain=plain,
        once=once.make_mark(),
    )


@post("/apps/{appID:str}/settings/tokens", role="admin", status_code=200)
async def create(request: Asked, appID: str) -> Response[bytes]:
    """The token is in this answer and nowhere else; the same form sent twice makes one, and shows it once."""
    form = form_of(request)
    made: list[str] = []

    async def work(connection: db.Connection) -> str:
        name, expires_at = staff.read_line(form.text("name"), "name", _MAX_NAME), _read_end(form)
        new = await apps.create_token(connection, appID, form.texts("scopes"), name, expires_at)
        said = {"name": name, "scopes": new.token.scopes, "expiresAt": expires_at}
        await administrations.note(
            connection, appID, by_of(request), "token.created", new.token.token_id, **said
        )
        made[:] = [new.plain]
        return new.token.token_id

    try:
        await once.run_once(request, appID, work)
    except BadQuery as problem:
        typed = {"name": form.text("name"), "scopes": form.texts("scopes"), "days": form.text("days")}
        return await _show(request, appID, typed, _place(problem))
    if not made:
        flash = make_flash(request, "tokens.made_before", "bad")
        return redirect(request, f"/apps/{appID}/settings/tokens", flash=flash)
    return await _show(request, appID, {"scopes": ["reports:read"]}, plain=made[0])


def _place(problem: Problem) -> dict[str, str]:
    return mistakes.place(problem, _FIELDS)


def _read_end(form: Form) -> datetime | None:
    """When the token ends: in so many days, or never."""
    text = form.text("days")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_DAYS))):
        raise BadQuery.of(f"days must be a number from 1 to {_MAX_DAYS}")
    if not 1 <= int(text) <= _MAX_DAYS:
        raise BadQuery.of(f"days must be a number from 1 to {_MAX_DAYS}")
    return datetime.now(UTC) + timedelta(days=int(text))


@post("/apps/{appID:str}/settings/tokens/{tokenID:str}/revoke", role="admin", status_code=303)
async def revoke(request: Asked, appID: str, tokenID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection, connection.transaction():
        revoked = await apps.revoke_token(connection, appID, tokenID)
        await administrations.note(connection, appID, by_of(request), "token.revoked", tokenID)
    flash = make_flash(request, "tokens.revoked", name=revoked.name or revoked.token_id)
    return redirect(request, f"/apps/{appID}/settings/tokens", flash=flash)
