"""The guard before a page for each role, and what becomes of a page's failure."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar import Litestar, Response, Router, get, post
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler

from dashboard import Page, add_staff
from harness import Server
from tallycast import apps, db, sessions
from tallycast.config import Settings
from tallycast.dashboard.faults import answer_error, answer_fault
from tallycast.dashboard.guard import app_of, check_viewer, make_csrf, person_of
from tallycast.errors import BadQuery, TooManyRequests, Unprocessable
from tallycast.roles import ROLES, Role
from tallycast.web.answers import Asked
from tallycast.web.edge import Edge
from tallycast.web.services import Services, make_services

pytestmark = pytest.mark.anyio
FAULTS = {
    "bad": BadQuery.of("<b> is odd"),
    "unfit": Unprocessable("not <b> now"),
    "often": TooManyRequests(headers={"Retry-After": "7"}),
}


async def tell(request: Asked) -> Response[bytes]:
    app = request.path_params.get("appID") and app_of(request).role
    return Response(f"{person_of(request).actor} {app}".encode(), media_type="text/plain")


@get("/open", role="anyone")
async def open_page() -> str:
    return "seen"


@get("/unsaid")
async def unsaid() -> str:
    return "seen"


@get("/fails/{how:str}", role="anyone")
async def fail(request: Asked) -> str:
    raise FAULTS.get(request.path_params["how"]) or RuntimeError("a secret of ours")


@post("/sent", role="anyone")
async def take() -> str:
    return "taken"


def make_page(path: str, role: str) -> HTTPRouteHandler:
    async def page(request: Asked) -> Response[bytes]:
        return await tell(request)

    return get(path, role=role)(page)


PAGES: list[HTTPRouteHandler] = [
    open_page, unsaid, fail, take, make_page("/people", "person"), make_page("/owners", "owner"),
    *(make_page(f"/apps/{{appID:str}}/{role}", role) for role in ROLES),
]  # fmt: skip


@pytest.fixture
async def services(database_url: str, server: Server) -> AsyncIterator[Services]:
    made = make_services(Settings(data_dir=server.data_dir), database_url)
    await made.pool.open(wait=True)
    yield made
    await made.pool.close()


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    router = Router(
        "/", guards=[check_viewer], exception_handlers={Exception: answer_fault}, route_handlers=PAGES
    )
    application = Litestar(
        [router], state=State({"services": services}), exception_handlers={Exception: answer_error},
        openapi_config=None, logging_config=None,
    )  # fmt: skip
    edge = Edge(application, ())

    async def ask(scope: Any, receive: Any, send: Any) -> None:  # as the server calls it
        await edge({**scope, "state": {}}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(ask), base_url="http://here") as found:
        yield found


async def enter(database_url: str, app_id: str | None = None, role: Role | None = None, eid: str = "") -> str:
    """The token of a session of somebody with that role, or of an owner."""
    address = f"{apps.random_text(10)}@x".lower()
    made = await asyncio.to_thread(
        add_staff, database_url, address, app_id, role, eid=eid, is_owner=app_id is None
    )
    async with db.connect(database_url) as connection:
        return await sessions.start(connection, made.staff_id, "")


async def test_each_role_opens_its_own_pages_and_those_of_lesser_ones(
    client: httpx.AsyncClient, database_url: str
) -> None:
    async with db.connect(database_url) as connection:
        app_id = (await apps.create_app(connection, "Shop")).app_id
    for rank, role in enumerate(ROLES):
        eid = f"{app_id}-{role}"
        client.cookies.set("tallycast_session", await enter(database_url, app_id, role, eid))
        for place, needed in enumerate(ROLES):
            answer = await client.get(f"/apps/{app_id}/{needed}")
            expected = (200, f"staff {eid} (Mei Chan) {role}") if place <= rank else (403, None)
            assert (answer.status_code, answer.text if answer.is_success else None) == expected
            assert (await client.get(f"/apps/another/{needed}")).status_code == 404
        assert (await client.get("/people")).text == f"staff {eid} (Mei Chan) None"
        assert (await client.get("/owners")).status_code == 403
    client.cookies.set("tallycast_session", await enter(database_url, eid=app_id))
    for needed in ROLES:
        assert (await client.get(f"/apps/{app_id}/{needed}")).text == f"staff {app_id} (Mei Chan) admin"
        assert (await client.get(f"/apps/another/{needed}")).status_code == 404
    assert (await client.get("/owners")).status_code == 200


async def test_a_page_that_names_no_role_is_open_to_nobody(
    client: httpx.AsyncClient, database_url: str
) -> None:
    assert (await client.get("/unsaid")).status_code == 403
    client.cookies.set("tallycast_session", await enter(database_url))
    assert (await client.get("/unsaid")).status_code == 403


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [("/fails/bad", 400, "<b> is odd"), ("/fails/unfit", 422, "not <b> now"), ("/fails/often", 429, "Wait a little"),
     ("/fails/x", 500, "The mistake is ours"), ("/apps/nope", 404, "There is no such page"), ("/sent", 405, "cannot be asked")],
)  # fmt: skip
async def test_a_failure_is_a_page_with_its_cid_and_without_a_trace(
    client: httpx.AsyncClient, path: str, status: int, says: str
) -> None:
    answer = await client.get(path, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    page = Page(answer.text)
    assert says in page.text
    assert answer.headers["x-correlation-id"] in page.text
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get("retry-after") == ("7" if status == 429 else None)


async def test_a_failure_of_a_part_of_a_page_is_a_message_in_it(client: httpx.AsyncClient) -> None:
    answer = await client.get("/fails/unfit", headers={"HX-Request": "true"})
    assert answer.status_code == 422
    assert "<html" not in answer.text
    assert (
        Page(answer.text)
        .find("div", **{"class": "message bad"})
        .text.startswith("That is not possible now: not <b> now")
    )


async def test_somebody_who_is_signed_out_meanwhile_is_led_to_sign_in_and_back(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/people?q=a%20b&next=//evil", headers={"Accept": "text/html"})
    assert answer.headers["location"] == "/sign-in?next=/people%3Fq%3Da%2520b%26next%3D//evil"
    headers = {"HX-Request": "true", "HX-Current-URL": "http://here/people?page=2"}
    answer = await client.get("/owners", headers=headers)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (204, "/sign-in?next=/people%3Fpage%3D2")


async def test_a_page_says_so_when_the_database_is_away(
    client: httpx.AsyncClient, services: Services
) -> None:
    await services.pool.close()
    client.cookies.set("tallycast_session", "A" * 43)
    answer = await client.get("/people")
    assert answer.status_code == 503
    assert "The database cannot be reached" in Page(answer.text).text


async def test_the_guard_leaves_files_unread_and_takes_the_token_from_their_address(
    client: httpx.AsyncClient,
) -> None:
    client.cookies.set("tallycast_session", "B" * 43)
    file = {"file": ("a.csv", b"recipient\n")}
    assert (await client.post("/sent", files=file)).status_code == 403
    csrf = make_csrf("B" * 43)
    assert (await client.post("/sent", params={"csrf": csrf}, files=file)).text == "taken"


async def test_a_form_is_neither_endless_nor_full_of_fields(client: httpx.AsyncClient) -> None:
    client.cookies.set("tallycast_session", "B" * 43)
    headers = {"X-CSRF-Token": make_csrf("B" * 43), "Content-Type": "application/x-www-form-urlencoded"}
    assert (await client.post("/sent", content=b"a=" + b"x" * 2_000_001, headers=headers)).status_code == 413
    assert (await client.post("/sent", content=b"a=1&" * 6000, headers=headers)).status_code == 400
    assert (await client.post("/sent", content=b"a=\xff", headers=headers)).status_code == 400
