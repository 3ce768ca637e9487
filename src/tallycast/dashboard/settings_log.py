"""Settings of an app: who changed what. Owners also see what concerns no single app."""

import msgspec
from litestar import Response, get

from tallycast import administrations
from tallycast.administrations import ACTIONS, HOUSE, Entry
from tallycast.dashboard.guard import person_of
from tallycast.dashboard.pages import render
from tallycast.errors import Forbidden
from tallycast.web.answers import Asked, read_choice, read_int, read_query
from tallycast.web.services import of

_PAGE = 50


def _write_details(entry: Entry) -> list[tuple[str, str]]:
    """Each as name and text: lists as words, what is nested as JSON."""
    return [(name, _write(value)) for name, value in entry.details.items()]


def _write(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


@get("/apps/{appID:str}/settings/log", role="admin")
async def show_log(request: Asked, appID: str) -> Response[bytes]:
    query = read_query(request)
    action, offset = read_choice(query, "action", ACTIONS), max(0, read_int(query, "offset", 0))
    is_house = read_choice(query, "of", ("house",)) is not None
    if is_house and not person_of(request).is_owner:
        raise Forbidden("this is for owners")
    async with of(request).pool.connection() as connection:
        place = HOUSE if is_house else appID
        rows = await administrations.list_page(connection, place, _PAGE + 1, offset, action)
    return render(
        request,
        "log.html",
        rows=rows[:_PAGE],
        action=action,
        actions=ACTIONS,
        is_house=is_house,
        details_of=_write_details,
        previous={"offset": max(0, offset - _PAGE) or None} if offset else None,
        next={"offset": offset + _PAGE} if len(rows) > _PAGE else None,
    )
