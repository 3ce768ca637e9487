"""Signing in and out, and choosing a password with a one-time link."""

import logging
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

from litestar import Response, get, post
from litestar.datastructures import Cookie

from tallycast import administrations, db, invitations, passwords, sessions, signins, staff
from tallycast.administrations import By
from tallycast.dashboard.forms import form_of
from tallycast.dashboard.guard import local_path, name_session, viewer_of
from tallycast.dashboard.pages import make_cookie, make_preference, make_session_cookie, redirect, render
from tallycast.errors import BadQuery, NotFound
from tallycast.keys import BadKey
from tallycast.web.answers import Asked, cid_of
from tallycast.web.auth import address_of
from tallycast.web.services import of

log = logging.getLogger("tallycast.dashboard")
DEVICE = "tallycast_device"
_MAX_FIELD = 300


@get("/sign-in", role="anyone")
async def show_sign_in(request: Asked) -> Response[bytes]:
    next_ = local_path(request.query_params.get("next", "/"))
    if viewer_of(request).person is not None:
        return redirect(request, next_)
    async with of(request).pool.connection() as connection:
        has_staff = await staff.has_any(connection)
    return _show(request, next_, has_staff=has_staff)


def _show(request: Asked, next_: str, status: int = 200, **values: Any) -> Response[bytes]:
    shown = {"email": "", "error": "", "wait": 0, "has_staff": True, **values}
    headers = {"Retry-After": str(shown["wait"])} if shown["wait"] else None
    return render(request, "sign_in.html", status=status, headers=headers, next=next_, **shown)


@post("/sign-in", role="anyone", status_code=303)
async def sign_in(request: Asked) -> Response[bytes]:
    form = form_of(request)
    next_, account = local_path(form.text("next")), form.text("email").lower()[:_MAX_FIELD]
    address = address_of(request)
    wait = of(request).sign_ins.wait(account, address, _device_of(request, account))
    if wait:
        await _note_refusal(request, address)
        return _show(request, next_, 429, email=account, wait=wait)
    staff_id = await signins.check(of(request).pool, account, form.raw("password"))
    if staff_id is None:
        log.warning("a sign-in was refused", extra={"cid": cid_of(request), "address": address})
        return _show(request, next_, 422, email=account, error="sign_in.wrong")
    return await _let_in(request, staff_id, account, next_)


async def _note_refusal(request: Asked, address: str) -> None:
    """Once for each address and span of time: whoever guesses must not fill the log. What was typed is not kept."""
    by, seconds = By("nobody", address), signins.SECONDS
    async with of(request).pool.connection() as connection:
        await administrations.note_once(
            connection, administrations.HOUSE, by, "signIn.refused", address, seconds
        )


async def _let_in(request: Asked, staff_id: str, account: str, path: str) -> Response[bytes]:
    """A new session in place of the one that the browser had, and a mark that this browser knows the account."""
    agent, viewer = request.headers.get("user-agent", ""), viewer_of(request)
    async with of(request).pool.connection() as connection:
        if viewer.person is not None:
            await sessions.end(connection, viewer.person.staff_id, sessions.hash_token(viewer.token))
        token = await sessions.start(connection, staff_id, agent)
    return redirect(
        request, path, cookies=[make_session_cookie(request, token), _make_device(request, account)]
    )


@post("/sign-out", role="anyone", status_code=303)
async def sign_out(request: Asked) -> Response[bytes]:
    viewer = viewer_of(request)
    if viewer.person is not None:
        async with of(request).pool.connection() as connection:
            await sessions.end(connection, viewer.person.staff_id, sessions.hash_token(viewer.token))
    return redirect(request, "/sign-in", cookies=[make_cookie(request, name_session(request), "", 0)])


@get("/welcome/{token:str}", role="anyone")
async def show_welcome(request: Asked, token: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        return await _show_welcome(request, connection, token)


async def _show_welcome(
    request: Asked, connection: db.Connection, token: str, status: int = 200, **values: Any
) -> Response[bytes]:
    try:
        invitation = await invitations.find(connection, token)
    except NotFound:
        return render(request, "welcome_over.html", status=404)
    shown = {"email": "", "name": "", "eid": "", "error": "", "is_short": False, **values}
    return render(request, "welcome.html", status=status, invitation=invitation, **shown)


@post("/welcome/{token:str}", role="anyone", status_code=303)
async def accept(request: Asked, token: str) -> Response[bytes]:
    """Choose a password; as the first one, also become the owner. Then one is signed in."""
    form = form_of(request)
    typed = {name: form.text(name) for name in ("email", "name", "eid")}
    async with of(request).pool.connection() as connection:
        if len(form.raw("password")) < passwords.MIN_LENGTH:
            return await _show_welcome(request, connection, token, 422, is_short=True, **typed)
        try:
            staff_id = await _accept(connection, token, form.raw("password"), typed, address_of(request))
        except NotFound:
            return render(request, "welcome_over.html", status=404)
        except BadQuery as refused:
            said = refused.message.removeprefix("Bad query: ")
            return await _show_welcome(request, connection, token, 422, error=said, **typed)
        account = (await staff.find(connection, staff_id)).email
    return await _let_in(request, staff_id, account, "/")


async def _accept(
    connection: db.Connection, token: str, password: str, typed: dict[str, str], address: str
) -> str:
    if (await invitations.find(connection, token)).staff_id is None:
        return await invitations.found_house(connection, token, password=password, address=address, **typed)
    return await invitations.accept(connection, token, password, address)


def _make_device(request: Asked, account: str) -> Cookie:
    plain = f"{secrets.token_hex(8)} {account}".encode()
    sealed = of(request).cipher.seal(plain, DEVICE)
    return make_preference(request, DEVICE, urlsafe_b64encode(sealed).decode())


def _device_of(request: Asked, account: str) -> str | None:
    """The browser's own id, where this account has signed in before."""
    try:
        sealed = urlsafe_b64decode(request.cookies.get(DEVICE, ""))
        device, _, known = of(request).cipher.open(sealed, DEVICE).decode().partition(" ")
    except (BadKey, ValueError):
        return None
    return device if known == account else None
