"""Pages: templates rendered for who looks, what a page says once, and going on to another page."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Response
from litestar.datastructures import Cookie

import tallycast
from tallycast.dashboard import assets, catalogue, formats, guard
from tallycast.dashboard.guard import Viewer, make_csrf, viewer_of
from tallycast.dashboard.navigation import entries
from tallycast.keys import BadKey
from tallycast.sessions import LIFETIME, hash_token
from tallycast.web import services
from tallycast.web.answers import Asked, path_of

FLASH = "tallycast_flash"
Mood = Literal["good", "bad"]
_HTML = "text/html"
_YEAR = 365 * 86_400
_MAX_VALUE = 200
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
    cache_size=-1,
)
_ENVIRONMENT.filters.update(formats.FILTERS)
_ENVIRONMENT.globals.update(
    asset=assets.url_of,
    languages=catalogue.LANGUAGES,
    themes=guard.THEMES,
    version=tallycast.__version__,
)


def render(
    request: Asked,
    template: str,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    cookies: Sequence[Cookie] = (),
    **values: Any,
) -> Response[bytes]:
    """A page, or a part of one. Besides `values` templates have what `context` gives."""
    viewer = viewer_of(request)
    text = _ENVIRONMENT.get_template(template).render(**context(request, viewer), **values)
    given = [*cookies, *_session_cookies(request, viewer), *_spent_flash(request)]
    return _answer(text.encode(), status, headers or {}, given, _HTML)


def write_part(template: str, language: str, time_zone: str, **values: Any) -> str:
    """A part of a page that is the same for everybody who reads this language in this time zone."""
    said = {
        "t": partial(catalogue.translate, language),
        "language": language,
        "zone": ZoneInfo(time_zone),
    }
    return _ENVIRONMENT.get_template(template).render(**said, **values)


def context(request: Asked, viewer: Viewer) -> dict[str, Any]:
    """What every template has.

    `viewer`, `person`, `app`; `t(key, n=…)`; `language`, `theme`, `zone`; `csrf`; `path`; `here(name=value)`: this page
    with other parameters, None drops one; `again`: where this page can be asked for again; `navigation`; `flash`.
    """
    is_form = request.scope["state"]["method"] not in guard.SAFE
    return {
        "viewer": viewer,
        "person": viewer.person,
        "app": viewer.app,
        "t": partial(catalogue.translate, viewer.language),
        "language": viewer.language,
        "theme": viewer.theme,
        "zone": ZoneInfo(viewer.app.time_zone if viewer.app else "UTC"),
        "csrf": make_csrf(viewer.token),
        "path": path_of(request),
        "here": partial(_write_here, request),
        "again": "/" if is_form else _write_here(request),
        "navigation": entries(viewer.app, path_of(request)),
        "flash": _read_flash(request, viewer),
    }


def redirect(
    request: Asked, path: str, *, cookies: Sequence[Cookie] = (), flash: Cookie | None = None
) -> Response[bytes]:
    """Go on to a page of this server; after a form always, so that reloading does not send it again."""
    given = [*cookies, *([flash] if flash else [])]
    if is_partial(request):
        return _answer(b"", 204, {"HX-Redirect": path}, given, _HTML)
    return _answer(b"", 303, {"Location": path}, given, _HTML)


def is_partial(request: Asked) -> bool:
    """Whether a page of ours asks for a part of itself."""
    return "hx-request" in request.headers and "hx-boosted" not in request.headers


def make_flash(
    request: Asked, key: str, mood: Mood = "good", token: str | None = None, **values: object
) -> Cookie:
    """What the next page says, once: a text of the catalogue. Sealed for the session, so that nobody else can say it.

    `token`: of the session, where this answer begins a new one.
    """
    clipped = {name: str(value)[:_MAX_VALUE] for name, value in values.items()}
    plain = json.dumps([mood, key, clipped]).encode()
    sealed = services.of(request).cipher.seal(plain, _flash_place(token or viewer_of(request).token))
    return make_cookie(request, FLASH, urlsafe_b64encode(sealed).decode(), 300)


def make_cookie(request: Asked, name: str, value: str, seconds: int) -> Cookie:
    """A cookie that scripts cannot read and other sites' requests do not bring; 0 seconds take it away."""
    is_secure = guard.is_secure(request)
    return Cookie(
        name, path="/", value=value, max_age=seconds, secure=is_secure, httponly=True, samesite="lax"
    )


def make_session_cookie(request: Asked, token: str) -> Cookie:
    return make_cookie(request, guard.name_session(request), token, int(LIFETIME.total_seconds()))


def make_preference(request: Asked, name: str, value: str) -> Cookie:
    return make_cookie(request, name, value, _YEAR)


def _answer(
    body: bytes, status: int, headers: dict[str, str], cookies: Sequence[Cookie], media_type: str
) -> Response[bytes]:
    return Response(
        body,
        status_code=status,
        media_type=media_type,
        headers={"Cache-Control": "no-store", **headers},
        cookies=list(cookies),
    )


def _session_cookies(request: Asked, viewer: Viewer) -> list[Cookie]:
    """A browser without a session gets a token too: it proves that a form came from a page of ours."""
    return [make_session_cookie(request, viewer.token)] if viewer.is_new else []


def _spent_flash(request: Asked) -> list[Cookie]:
    said = FLASH in request.cookies and not is_partial(request)
    return [make_cookie(request, FLASH, "", 0)] if said else []


def _read_flash(request: Asked, viewer: Viewer) -> tuple[Mood, str] | None:
    """(mood, text) to be shown."""
    sealed = request.cookies.get(FLASH)
    if not sealed or is_partial(request):
        return None
    try:
        plain = services.of(request).cipher.open(urlsafe_b64decode(sealed), _flash_place(viewer.token))
    except (BadKey, ValueError):
        return None
    mood, key, values = json.loads(plain)
    return mood, catalogue.translate(viewer.language, key, **values)


def _flash_place(token: str) -> str:
    return f"flash {hash_token(token).hex()}"


def _write_here(request: Asked, **changes: object) -> str:
    given = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=False)
    kept = [(name, value) for name, value in given if name not in changes]
    changed = [(name, str(value)) for name, value in changes.items() if value is not None]
    query = urlencode([*kept, *changed])
    return path_of(request) + (f"?{query}" if query else "")
