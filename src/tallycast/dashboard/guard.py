"""Who may see which page: the guard of every page, from the session cookie, and against forged requests.

A page names the least role that opens it: `role="anyone"`, "person" (whoever is signed in), "owner", or a role in the
app of the URL ("viewer", "editor", "approver", "admin"). A page that names none is open to nobody.
"""

import hmac
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from tallycast import sessions
from tallycast.administrations import By
from tallycast.dashboard import catalogue
from tallycast.dashboard.forms import read_form
from tallycast.errors import Forbidden, NotFound
from tallycast.roles import OpenApp
from tallycast.sessions import Person
from tallycast.web.auth import address_of
from tallycast.web.services import Services

_SESSION = "tallycast_session"
LANGUAGE = "tallycast_language"
THEME = "tallycast_theme"
THEMES = ("auto", "light", "dark")
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
# A path of this server: a second slash, or a backslash that browsers take for one, would name another host.
_LOCAL = re.compile(r"/(?!/)[!-\[\]-~]{0,2000}")
Connection = ASGIConnection[Any, Any, Any, Any]


class SignInNeeded(Exception):
    """Nobody is signed in; `next`: where they wanted to go."""

    def __init__(self, next_: str) -> None:
        super().__init__(next_)
        self.next = next_


class Forged(Forbidden):
    """the request did not come from a page of this server, or the page is too old"""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, and how. `token`: of the session cookie; `is_new`: the browser has none yet, the answer brings it."""

    person: Person | None
    app: OpenApp | None
    token: str
    is_new: bool
    language: str
    theme: str


def viewer_of(connection: Connection) -> Viewer:
    """The viewer whom the guard found; on an error page that it has not seen, nobody."""
    viewer: Viewer | None = connection.state.get("viewer")
    return viewer or _view(connection, None)


def person_of(connection: Connection) -> Person:
    """Who is signed in, on a page that needs somebody."""
    person = viewer_of(connection).person
    assert person is not None
    return person


def by_of(connection: Connection) -> By:
    """Who is signed in, for the log of administrations."""
    return By(person_of(connection).actor, address_of(connection))


def app_of(connection: Connection) -> OpenApp:
    """The app of the URL, and the person's role in it."""
    app = viewer_of(connection).app
    assert app is not None
    return app


async def check_viewer(connection: Connection, handler: BaseRouteHandler) -> None:
    """SignInNeeded, Forbidden, or NotFound for an app in which one has no role: it must not be told from none."""
    if connection.scope["method"] == "OPTIONS":  # type: ignore[typeddict-item]
        return
    role = handler.opt.get("role")
    if role is None:
        raise Forbidden("this page is open to nobody")
    if "\0" in connection.scope["path"]:  # no name has it, and PostgreSQL cannot look for it
        raise NotFound
    viewer = connection.state["viewer"] = await _find_viewer(connection)
    if viewer.person is None and role != "anyone":
        if connection.headers.get("sec-fetch-site") == "same-origin":
            connection.state["form"] = await read_form(connection)  # what was typed is not lost
        raise SignInNeeded(_wanted(connection))
    if connection.scope["method"] not in SAFE:  # type: ignore[typeddict-item]
        await _check_genuine(connection, viewer.token)
    if viewer.person is not None:
        _check_role(viewer.person, viewer.app, role)


def _check_role(person: Person, app: OpenApp | None, role: str) -> None:
    if role in {"anyone", "person"} or (role == "owner" and person.is_owner):
        return
    if role == "owner":
        raise Forbidden("this is for owners")
    if app is None:
        raise NotFound
    if not app.allows(role):  # type: ignore[arg-type] # a test holds every page to the known roles
        raise Forbidden(f"this needs the role {role}")


async def _find_viewer(connection: Connection) -> Viewer:
    token = _token_of(connection)
    if not token:
        return _view(connection, None)
    services: Services = connection.app.state["services"]
    async with services.pool.connection() as database:
        found = await sessions.find(database, token, connection.path_params.get("appID", ""))
    return _view(connection, found)


def _view(connection: Connection, found: sessions.Found | None) -> Viewer:
    person, token = found.person if found else None, _token_of(connection)
    said = connection.cookies.get(LANGUAGE, "")
    language = (person and person.language) or said
    if language not in catalogue.LANGUAGES:
        language = catalogue.choose(connection.headers.get("accept-language", ""))
    theme = (person and person.theme) or connection.cookies.get(THEME, "")
    return Viewer(
        person=person,
        app=found.app if found else None,
        token=token or sessions.make_token(),
        is_new=not token,
        language=language,
        theme=theme if theme in THEMES else "auto",
    )


def is_secure(connection: Connection) -> bool:
    """Whether browsers come by https."""
    services: Services = connection.app.state["services"]
    return services.settings.base_url.startswith("https://")


def name_session(connection: Connection) -> str:
    """The cookie's name. With https it has the prefix by which browsers take it from this host alone (RFC 6265bis)."""
    return f"__Host-{_SESSION}" if is_secure(connection) else _SESSION


def _token_of(connection: Connection) -> str:
    token = connection.cookies.get(name_session(connection), "")
    return token if _TOKEN.fullmatch(token) else ""


def _wanted(connection: Connection) -> str:
    """Where to go on after signing in: the page itself; for a request from a page, that page."""
    if connection.scope["method"] not in SAFE:  # type: ignore[typeddict-item]
        return "/"
    if "hx-request" in connection.headers:
        parts = urlsplit(connection.headers.get("hx-current-url", "/"))
    else:
        parts = urlsplit(str(connection.url))
    path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._")
    return local_path(f"{path}?{parts.query}" if parts.query else path)


def local_path(text: str) -> str:
    """The text where it is a path of this server, to which one may be sent; else `/`."""
    return text if _LOCAL.fullmatch(text) else "/"


async def _check_genuine(connection: Connection, token: str) -> None:
    """Forged unless a page of ours sent it: as the browser says, and by the token that is bound to the session."""
    if not _is_same_origin(connection):
        raise Forged
    form = connection.state["form"] = await read_form(connection)
    given = connection.headers.get("x-csrf-token") or form.text("csrf")
    if not is_csrf(token, given or str(connection.query_params.get("csrf", ""))):
        raise Forged


def _is_same_origin(connection: Connection) -> bool:
    """Sec-Fetch-Site, else Origin; browsers of this decade send one of them with every such request."""
    site = connection.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = connection.headers.get("origin")
    services: Services = connection.app.state["services"]
    hosts = {connection.headers.get("host", ""), urlsplit(services.settings.base_url).netloc}
    return origin is None or urlsplit(origin).netloc in hosts


def make_csrf(token: str) -> str:
    """The session's proof, under a mask of its own each time: what is compressed with it tells nothing (BREACH)."""
    mask = os.urandom(32)
    return urlsafe_b64encode(mask + _mix(mask, _proof(token))).decode()


def is_csrf(token: str, given: str) -> bool:
    try:
        raw = urlsafe_b64decode(given.encode())
    except ValueError:
        return False
    return len(raw) == 64 and hmac.compare_digest(_mix(raw[:32], raw[32:]), _proof(token))  # noqa: PLR2004 - two halves


def _proof(token: str) -> bytes:
    return hmac.digest(token.encode(), b"csrf", "sha256")


def _mix(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
