"""One's own account: name, language, theme, password, and where one is signed in."""

import re
from typing import Any

from litestar import Response, get, post

from tallycast import administrations, passwords, sessions, signins, staff
from tallycast.dashboard.catalogue import LANGUAGES
from tallycast.dashboard.forms import form_of
from tallycast.dashboard.guard import LANGUAGE, THEME, THEMES, by_of, local_path, person_of, viewer_of
from tallycast.dashboard.pages import make_flash, make_preference, make_session_cookie, redirect, render
from tallycast.errors import BadQuery
from tallycast.web.answers import Asked
from tallycast.web.services import of

_PATH = "/account"
_BROWSERS = re.compile(r"(Edg|OPR|SamsungBrowser|Firefox|FxiOS|CriOS|Chrome|Version)[A-Za-z]*/(\d+)")
# Each also says what it descends from, so the first of these counts; Safari says just its version.
_NAMES = {
    "Edg": "Edge",
    "OPR": "Opera",
    "SamsungBrowser": "Samsung Internet",
    "FxiOS": "Firefox",
    "CriOS": "Chrome",
    "Firefox": "Firefox",
    "Chrome": "Chrome",
    "Version": "Safari",
}
_MAX_AGENT = 60
_SYSTEMS = ("iPhone", "iPad", "Android", "Windows", "Mac OS", "CrOS", "Linux")


@get("/account", role="person")
async def show_account(request: Asked) -> Response[bytes]:
    return await _show(request)


async def _show(request: Asked, status: int = 200, **errors: Any) -> Response[bytes]:
    person, viewer = person_of(request), viewer_of(request)
    async with of(request).pool.connection() as connection:
        found = await sessions.list_all(connection, person.staff_id)
    return render(
        request,
        "account.html",
        status=status,
        sessions=found,
        browser_of=name_browser,
        own=sessions.hash_token(viewer.token),
        errors=errors,
        min_length=passwords.MIN_LENGTH,
    )


def name_browser(user_agent: str) -> str:
    """Chrome 142, Windows; what does not look like a browser, as it says."""
    found = {match[1]: match[2] for match in _BROWSERS.finditer(user_agent)}
    kind = next((one for one in _NAMES if one in found), None)
    if kind is None:
        return user_agent[:_MAX_AGENT]
    system = next((one for one in _SYSTEMS if one in user_agent), "")
    return f"{_NAMES[kind]} {found[kind]}" + (f", {system}" if system else "")


@post("/account/name", role="person", status_code=303)
async def change_name(request: Asked) -> Response[bytes]:
    person, name = person_of(request), form_of(request).text("name")
    async with of(request).pool.connection() as connection:
        try:
            await staff.change(connection, person.staff_id, name=name)
        except BadQuery:
            return await _show(request, 422, name="account.bad_name")
    return redirect(request, _PATH, flash=make_flash(request, "account.saved"))


@post("/account/password", role="person", status_code=303)
async def change_password(request: Asked) -> Response[bytes]:
    """Everybody else who is signed in to the account is signed out, and this session gets another token."""
    person, form = person_of(request), form_of(request)
    if of(request).sign_ins.wait(person.email, "", viewer_of(request).token):
        return await _show(request, 429, current="account.too_often")
    if await signins.check(of(request).pool, person.email, form.raw("current")) != person.staff_id:
        return await _show(request, 422, current="account.wrong_password")
    if not passwords.MIN_LENGTH <= len(form.raw("password")) <= passwords.MAX_LENGTH:
        return await _show(request, 422, password="account.short_password")  # noqa: S106 - a text's key
    hashed = await passwords.hash_password(form.raw("password"))
    async with of(request).pool.connection() as connection, connection.transaction():
        await staff.set_password(connection, person.staff_id, hashed)
        by, house = by_of(request), administrations.HOUSE
        await administrations.note(connection, house, by, "staff.passwordChanged", person.email)
        token = await sessions.start(connection, person.staff_id, request.headers.get("user-agent", ""))
    flash = make_flash(request, "account.password_changed", token=token)
    return redirect(request, _PATH, cookies=[make_session_cookie(request, token)], flash=flash)


@post("/account/sessions/end", role="person", status_code=303)
async def end_sessions(request: Asked) -> Response[bytes]:
    """End the session that the form names, or with none named all but this one."""
    person, named = person_of(request), form_of(request).text("session")
    async with of(request).pool.connection() as connection:
        if named:
            await sessions.end(connection, person.staff_id, _read_hash(named))
        else:
            await sessions.end_all(connection, person.staff_id, but=viewer_of(request).token)
    return redirect(request, _PATH, flash=make_flash(request, "account.signed_out"))


def _read_hash(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise BadQuery.of("session must be hexadecimal digits") from None


@post("/preferences", role="anyone", status_code=303)
async def change_preferences(request: Asked) -> Response[bytes]:
    """Language and theme, of the account and of this browser. What is not given stays."""
    form, person = form_of(request), viewer_of(request).person
    language, theme = _choice(form.text("language"), LANGUAGES), _choice(form.text("theme"), THEMES)
    if person is not None:
        async with of(request).pool.connection() as connection:
            await staff.change(connection, person.staff_id, language=language, theme=theme)
    given = {LANGUAGE: language, THEME: theme}
    cookies = [make_preference(request, name, value) for name, value in given.items() if value is not None]
    return redirect(request, local_path(form.text("next") or "/"), cookies=cookies)


def _choice(text: str, known: dict[str, str] | tuple[str, ...]) -> str | None:
    return text if text in known else None
