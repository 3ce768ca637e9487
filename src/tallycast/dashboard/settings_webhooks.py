"""Settings of an app: the addresses of other systems that are told what happens, and what they were told."""

import json
from collections.abc import Mapping
from typing import get_args

from litestar import Response, get, post

from tallycast import administrations, db, endpoints, notices
from tallycast.dashboard import mistakes, once
from tallycast.dashboard.forms import Form, form_of
from tallycast.dashboard.guard import by_of
from tallycast.dashboard.pages import make_flash, redirect, render
from tallycast.endpoints import EndpointChange, NewEndpoint
from tallycast.errors import BadQuery, Unprocessable
from tallycast.notices import STATES, Event
from tallycast.web.answers import Asked, read_choice, read_int, read_query
from tallycast.web.services import of

EVENTS: tuple[Event, ...] = get_args(Event)
_PAGE = 50
_MAX_URL = 2000
_MAX_DESCRIPTION = 200
_FIELDS = {"url": "url", "description": "description"}


@get("/apps/{appID:str}/settings/webhooks", role="admin")
async def list_endpoints(request: Asked, appID: str) -> Response[bytes]:
    return await _show(request, appID, {})


async def _show(
    request: Asked, app_id: str, typed: Mapping[str, object], errors: Mapping[str, str] | None = None
) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        found = await endpoints.list_all(connection, app_id)
    return render(
        request,
        "webhooks.html",
        status=422 if errors else 200,
        endpoints=found,
        events=EVENTS,
        typed=typed,
        errors=mistakes.tell(request, errors or {}),
        once=once.make_mark(),
    )


@post("/apps/{appID:str}/settings/webhooks", role="admin", status_code=303)
async def create(request: Asked, appID: str) -> Response[bytes]:
    form, services = form_of(request), of(request)

    async def work(connection: db.Connection) -> str:
        url, description = _read_texts(form)
        new = NewEndpoint(url, _read_events(form), description)
        hosts = services.settings.private_hosts
        made = await endpoints.create(connection, services.cipher, appID, new, hosts)
        by, said = by_of(request), administrations.describe(new)
        await administrations.note(connection, appID, by, "endpoint.created", made.endpoint_id, **said)
        return made.endpoint_id

    try:
        endpoint_id = await once.run_once(request, appID, work)
    except (BadQuery, Unprocessable) as problem:
        return await _show(request, appID, _read_typed(form), mistakes.place(problem, _FIELDS))
    return await _show_endpoint(request, appID, endpoint_id, shows_secret=True)


def _read_typed(form: Form) -> dict[str, object]:
    return {**{name: form.text(name) for name in _FIELDS}, "events": form.texts("events")}


def _read_texts(form: Form) -> tuple[str, str]:
    url, description = form.text("url"), form.text("description")
    if len(url) > _MAX_URL:
        raise BadQuery.of(f"url must be at most {_MAX_URL} characters")
    if len(description) > _MAX_DESCRIPTION:
        raise BadQuery.of(f"description must be at most {_MAX_DESCRIPTION} characters")
    return url, description


def _read_events(form: Form) -> list[Event]:
    """None ticked is all of them, as in the API."""
    return [one for one in EVENTS if one in form.texts("events")]


@get("/apps/{appID:str}/settings/webhooks/{endpointID:str}", role="admin")
async def show_endpoint(request: Asked, appID: str, endpointID: str) -> Response[bytes]:
    return await _show_endpoint(request, appID, endpointID)


async def _show_endpoint(
    request: Asked,
    app_id: str,
    endpoint_id: str,
    typed: Mapping[str, object] | None = None,
    errors: Mapping[str, str] | None = None,
    *,
    shows_secret: bool = False,
) -> Response[bytes]:
    query = read_query(request)
    state, offset = read_choice(query, "state", STATES), max(0, read_int(query, "offset", 0))
    async with of(request).pool.connection() as connection:
        endpoint = await endpoints.find(connection, app_id, endpoint_id)
        rows = await notices.list_page(connection, app_id, endpoint_id, state, _PAGE + 1, offset)
    given = {"url": endpoint.url, "description": endpoint.description, "events": list(endpoint.events)}
    secret = endpoints.show_secret(endpoint.open_secret(of(request).cipher)) if shows_secret else ""
    return render(
        request,
        "webhook.html",
        status=422 if errors else 200,
        endpoint=endpoint,
        rows=rows[:_PAGE],
        state=state,
        states=STATES,
        events=EVENTS,
        secret=secret,
        typed=typed or given,
        errors=mistakes.tell(request, errors or {}),
        previous={"offset": max(0, offset - _PAGE) or None} if offset else None,
        next={"offset": offset + _PAGE} if len(rows) > _PAGE else None,
    )


@post("/apps/{appID:str}/settings/webhooks/{endpointID:str}", role="admin", status_code=303)
async def change(request: Asked, appID: str, endpointID: str) -> Response[bytes]:
    form, hosts = form_of(request), of(request).settings.private_hosts
    try:
        async with of(request).pool.connection() as connection, connection.transaction():
            await endpoints.find(connection, appID, endpointID)
            url, description = _read_texts(form)
            wanted = EndpointChange(url, _read_events(form), description, not form.text("enabled"))
            await endpoints.change(connection, appID, endpointID, wanted, hosts)
            by, said = by_of(request), administrations.describe(wanted)
            await administrations.note(connection, appID, by, "endpoint.changed", endpointID, **said)
    except BadQuery as problem:
        errors = mistakes.place(problem, _FIELDS)
        return await _show_endpoint(request, appID, endpointID, _read_typed(form), errors)
    return _go_back(request, appID, endpointID, "form.saved")


def _go_back(request: Asked, app_id: str, endpoint_id: str, key: str) -> Response[bytes]:
    path = f"/apps/{app_id}/settings/webhooks/{endpoint_id}"
    return redirect(request, path, flash=make_flash(request, key))


@post("/apps/{appID:str}/settings/webhooks/{endpointID:str}/delete", role="admin", status_code=303)
async def delete(request: Asked, appID: str, endpointID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection, connection.transaction():
        await endpoints.delete(connection, appID, endpointID)
        await administrations.note(connection, appID, by_of(request), "endpoint.deleted", endpointID)
    flash = make_flash(request, "webhooks.deleted")
    return redirect(request, f"/apps/{appID}/settings/webhooks", flash=flash)


@post("/apps/{appID:str}/settings/webhooks/{endpointID:str}/rotate", role="admin", status_code=200)
async def rotate_secret(request: Asked, appID: str, endpointID: str) -> Response[bytes]:
    """The new secret is in this answer and nowhere else."""
    async with of(request).pool.connection() as connection, connection.transaction():
        await endpoints.rotate_secret(connection, of(request).cipher, appID, endpointID)
        await administrations.note(connection, appID, by_of(request), "endpoint.secretRotated", endpointID)
    return await _show_endpoint(request, appID, endpointID, shows_secret=True)


@post("/apps/{appID:str}/settings/webhooks/{endpointID:str}/test", role="admin", status_code=303)
async def send_test(request: Asked, appID: str, endpointID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection, connection.transaction():
        await endpoints.require_enabled(connection, appID, endpointID)
        await notices.add_test(connection, appID, endpointID)
    return _go_back(request, appID, endpointID, "webhooks.tested")


@get("/apps/{appID:str}/settings/webhooks/{endpointID:str}/deliveries/{deliveryID:str}", role="admin")
async def show_delivery(request: Asked, appID: str, endpointID: str, deliveryID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        endpoint = await endpoints.find(connection, appID, endpointID)
        notice = await notices.find(connection, appID, endpointID, deliveryID)
    body = json.dumps(json.loads(notice.body), indent=2, ensure_ascii=False)
    return render(request, "delivery.html", endpoint=endpoint, notice=notice, body=body)


@post(
    "/apps/{appID:str}/settings/webhooks/{endpointID:str}/deliveries/{deliveryID:str}/retry",
    role="admin",
    status_code=303,
)
async def retry_delivery(request: Asked, appID: str, endpointID: str, deliveryID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection, connection.transaction():
        await endpoints.require_enabled(connection, appID, endpointID)
        await notices.send_again(connection, appID, endpointID, deliveryID)
    return _go_back(request, appID, endpointID, "webhooks.sent_again")
