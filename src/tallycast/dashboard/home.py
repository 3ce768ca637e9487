"""The first page: the apps that one may open; who has one alone is taken to it."""

from litestar import Response, get

from tallycast import staff
from tallycast.dashboard.guard import person_of
from tallycast.dashboard.navigation import home_of
from tallycast.dashboard.pages import is_partial, redirect, render
from tallycast.web.answers import Asked
from tallycast.web.services import of

_MOST = 200
_MOST_IN_MENU = 12
_MAX_SEARCH = 100


@get("/", role="person")
async def list_apps(request: Asked) -> Response[bytes]:
    """As a part of a page: the menu of apps."""
    person, search = person_of(request), request.query_params.get("q", "").replace("\0", "")[:_MAX_SEARCH]
    most = _MOST_IN_MENU if is_partial(request) else _MOST
    async with of(request).pool.connection() as connection:
        found = await staff.list_open_apps(connection, person.staff_id, person.is_owner, most, search.strip())
    rows = [(app, home_of(app.app_id)) for app in found]
    if is_partial(request):
        return render(request, "_apps.html", rows=rows)
    if len(rows) == 1 and not search:
        return redirect(request, rows[0][1])
    return render(request, "home.html", rows=rows, search=search, is_cut=len(rows) == _MOST)
