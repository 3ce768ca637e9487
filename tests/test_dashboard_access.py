"""Who may see which page: every page of the route table with nobody, strangers, each role, and forged requests."""

import re
from typing import Any

import httpx
import pytest

from contents import rows_of
from dashboard import Browser, House, Page, Route, find_pages, make_house
from harness import Server
from tallycast.roles import ROLES

TABLE = sorted(find_pages(), key=str)
UNSAFE = [route for route in TABLE if route.method not in {"GET", "HEAD"}]
EVERYBODY = ("anyone", "person", "owner", *ROLES)
every_page = pytest.mark.parametrize("route", TABLE, ids=str)
every_unsafe_page = pytest.mark.parametrize("route", UNSAFE, ids=str)
# What stands for a path parameter; what is not here, or not there, gives pages that say so.
VALUES = {"token": "A" * 43, "campaignID": "1", "channelID": "x", "seq": "0"}


@pytest.fixture(scope="module")
def house(server: Server, database_url: str) -> House:
    return make_house(server.url, database_url)


def path_of(route: Route, app_id: str) -> str:
    return re.sub(r"{(\w+)}", lambda match: {"appID": app_id, **VALUES}.get(match[1], "x"), route.path)


def send(browser: Browser, route: Route, path: str, **options: Any) -> httpx.Response:
    """The request as a page of ours would send it, unless told otherwise."""
    options.setdefault("headers", {"X-CSRF-Token": browser.csrf})
    return browser.client.request(route.method, path, **options)


def test_every_page_names_who_may_see_it_and_pages_of_apps_name_a_role_in_them() -> None:
    assert {str(route) for route in TABLE} >= {
        "GET /",
        "GET /sign-in",
        "POST /sign-in",
        "POST /sign-out",
        "GET /account",
    }
    for route in TABLE:
        assert route.role in EVERYBODY, route
        assert (route.role in ROLES) == ("{appID}" in route.path), route


@every_page
def test_without_a_session_every_page_leads_to_sign_in_and_nothing_changes(
    house: House, route: Route
) -> None:
    if route.role == "anyone":
        return
    before, browser = rows_of(house.database_url, house.app_id), Browser(house.server_url)
    browser.get("/sign-in")
    for session in (None, "A" * 43, "x", browser.session):
        cookies = {} if session is None else {"tallycast_session": session}
        path = path_of(route, house.app_id)
        answer = httpx.request(route.method, house.server_url + path, cookies=cookies)
        assert (answer.status_code, answer.content) == (303, b"")
        wanted = path if route.method == "GET" else "/"
        assert answer.headers["location"] == f"/sign-in?next={wanted}"
    assert rows_of(house.database_url, house.app_id) == before


@every_page
def test_people_of_another_app_are_told_that_there_is_no_such_page(house: House, route: Route) -> None:
    if route.role not in ROLES:
        return
    before, browser = rows_of(house.database_url, house.app_id), house.enter("stranger")
    browser.get("/account")
    ours = send(browser, route, path_of(route, house.app_id))
    assert ours.status_code == 404
    nobodys = send(browser, route, path_of(route, "no-such-app"))
    assert Page(ours.text).text.rpartition(" ")[0] == Page(nobodys.text).text.rpartition(" ")[0], (
        "but for the number"
    )
    assert house.app_id not in ours.text.replace(path_of(route, house.app_id), "")
    assert rows_of(house.database_url, house.app_id) == before


@every_page
def test_a_page_opens_to_its_role_and_to_no_lesser_one(house: House, route: Route) -> None:
    if route.role in {"anyone", "person"}:
        return
    ladder = [*ROLES, "owner"]
    least = ladder.index(route.role or "")
    for who in ladder[:least]:
        before, browser = rows_of(house.database_url, house.app_id), house.enter(who)
        browser.get("/account")
        answer = send(browser, route, path_of(route, house.app_id))
        assert (who, answer.status_code) == (who, 403)
        assert Page(answer.text).find("h1").text == "You may not do this"
        assert {**rows_of(house.database_url, house.app_id), "staff_sessions": []} == {
            **before,
            "staff_sessions": [],
        }
    if route.method == "GET":
        browser = house.enter(ladder[least])
        assert send(browser, route, path_of(route, house.app_id)).status_code in {200, 204, 303, 400, 404}


@every_page
def test_a_name_with_a_control_character_is_no_page(house: House, route: Route) -> None:
    browser = house.enter("owner")
    browser.get("/account")
    for name in re.findall(r"{(\w+)}", route.path):
        path = path_of(
            Route(route.method, route.path.replace(f"{{{name}}}", "a%00b"), route.role), house.app_id
        )
        assert (name, send(browser, route, path).status_code) == (name, 404)


@every_unsafe_page
def test_no_page_takes_a_request_that_was_not_sent_from_a_page_of_ours(house: House, route: Route) -> None:
    browser, other = house.enter("owner"), house.enter("admin")
    browser.get("/account")
    other.get("/account")
    before, path, genuine = (
        rows_of(house.database_url, house.app_id),
        path_of(route, house.app_id),
        browser.csrf,
    )
    forged: dict[str, dict[str, Any]] = {
        "no token": {"headers": {}},
        "an empty one": {"headers": {"X-CSRF-Token": ""}},
        "not one": {"headers": {"X-CSRF-Token": "x" * 88}},
        "not base64": {"headers": {"X-CSRF-Token": "\u00e9".encode()}},
        "of another session": {"headers": {"X-CSRF-Token": other.csrf}},
        "the session itself": {"headers": {"X-CSRF-Token": browser.session}},
        "in the wrong field": {"headers": {}, "data": {"token": genuine}},
        "in JSON": {"headers": {}, "json": {"csrf": genuine}},
        "of another origin": {"headers": {"X-CSRF-Token": genuine, "Origin": "https://evil.example"}},
        "of no origin": {"headers": {"X-CSRF-Token": genuine, "Origin": "null"}},
        "from another site": {"headers": {"X-CSRF-Token": genuine, "Sec-Fetch-Site": "cross-site"}},
        "from a sibling": {"headers": {"X-CSRF-Token": genuine, "Sec-Fetch-Site": "same-site"}},
    }
    for name, options in forged.items():
        answer = send(browser, route, path, **options)
        assert (name, answer.status_code) == (name, 403)
        assert Page(answer.text).find("h1").text == "Please try again"
        assert "set-cookie" not in answer.headers
    assert rows_of(house.database_url, house.app_id) == before


def test_a_genuine_request_may_say_where_it_is_from(house: House) -> None:
    browser = house.enter("viewer")
    browser.get("/account")
    for headers in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Origin": house.server_url}):
        assert browser.post("/account/name", headers, name="Vera").status_code == 303
        browser.get("/account")
    assert browser.page.find("input", name="name").attributes["value"] == "Vera"


def test_the_token_of_a_form_is_another_each_time_and_all_of_them_hold(house: House) -> None:
    browser = house.enter("viewer")
    tokens = []
    for _ in range(3):
        browser.get("/account")
        tokens.append(browser.csrf)
    assert len(set(tokens)) == 3
    for token in tokens:
        assert browser.client.post("/account/name", data={"csrf": token, "name": "Vera"}).status_code == 303
