"""Signing in and out, the first run, links for a password, and one's own account."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import PASSWORD, Browser, House, Page, add_staff, make_house
from harness import Server, start_server, wait_for
from tallycast import sessions
from tallycast.apps import random_text
from tallycast.dashboard import account, guard

Make = Callable[..., str]


@pytest.fixture(scope="module")
def house(server: Server, database_url: str) -> House:
    return make_house(server.url, database_url)


@pytest.fixture
def email(database_url: str) -> str:
    """Somebody who has not tried to sign in yet."""
    address = f"{random_text(10)}@example.com".lower()
    add_staff(database_url, address)
    return address


@pytest.fixture
def browser(server: Server) -> Browser:
    return Browser(server.url)


def test_signing_in_begins_a_session_with_a_new_token_in_a_closed_cookie(
    browser: Browser, email: str
) -> None:
    browser.get("/sign-in")
    planted = browser.session
    assert planted is not None
    answer = browser.post("/sign-in", email=email.upper(), password=PASSWORD, next="/account")
    assert (answer.status_code, answer.headers["location"]) == (303, "/account")
    [cookie] = [one for one in answer.headers.get_list("set-cookie") if one.startswith("tallycast_session=")]
    assert re.fullmatch(
        r"tallycast_session=[\w-]{43}; HttpOnly; Max-Age=604800; Path=/; SameSite=lax", cookie
    )
    assert browser.session != planted
    assert browser.follow().status_code == 200
    assert email in browser.page.text
    stranger = Browser(browser.url)
    stranger.client.cookies.set("tallycast_session", planted)
    assert stranger.get("/account").status_code == 303, "the token from before opens nothing"


def test_signing_in_again_ends_the_session_that_was(browser: Browser, email: str) -> None:
    browser.sign_in(email)
    first = browser.session
    assert first is not None
    browser.get("/account")
    browser.post("/sign-in", email=email, password=PASSWORD)
    assert browser.session != first
    stranger = Browser(browser.url)
    stranger.client.cookies.set("tallycast_session", first)
    assert stranger.get("/account").status_code == 303


def test_the_cookie_is_for_https_and_this_host_alone_where_the_public_url_is_https(
    database_url: str, tmp_path: Path, email: str
) -> None:
    own = start_server(tmp_path, "--database-url", database_url, "--public-url", "https://pages.example.com")
    try:
        seen = httpx.get(own.url + "/sign-in")
        [cookie] = seen.headers.get_list("set-cookie")
        token = cookie.partition(";")[0].partition("=")[2]
        csrf = Page(seen.text).find("input", name="csrf").attributes["value"]
        typed = {"csrf": csrf, "email": email, "password": PASSWORD}
        planted = httpx.post(
            own.url + "/sign-in", data=typed, headers={"Cookie": f"tallycast_session={token}"}
        )
        headers = {"Cookie": f"__Host-tallycast_session={token}"}
        taken = httpx.post(own.url + "/sign-in", data=typed, headers=headers)
        headers = {"Cookie": taken.headers.get_list("set-cookie")[0].partition(";")[0]}
        left = httpx.post(
            own.url + "/sign-out",
            data={"csrf": guard.make_csrf(headers["Cookie"].partition("=")[2])},
            headers=headers,
        )
    finally:
        assert own.stop() == 0
    closed = r"__Host-tallycast_session=[\w-]{43}; HttpOnly; Max-Age=604800; Path=/; SameSite=lax; Secure"
    assert re.fullmatch(closed, cookie)
    assert (planted.status_code, taken.status_code, left.status_code) == (403, 303, 303)
    given = taken.headers.get_list("set-cookie")
    assert re.fullmatch(closed, given[0])
    assert all("Secure" in one for one in given)
    assert left.headers["set-cookie"].startswith('__Host-tallycast_session=""; HttpOnly; Max-Age=0; Path=/')


@pytest.mark.parametrize("who", ["wrong password", "unknown", "disabled", "without a password", "empty"])
def test_whatever_is_wrong_the_answer_is_the_same(
    browser: Browser, email: str, database_url: str, who: str
) -> None:
    typed = {"email": email, "password": PASSWORD}
    if who == "wrong password":
        typed["password"] += "x"
    elif who == "unknown":
        typed["email"] = f"no-{email}"
    elif who == "empty":
        typed = {"email": "", "password": ""}
    else:
        change = {"disabled": "disabled_at = now()", "without a password": "password_hash = null"}[who]
        with psycopg.connect(database_url) as connection:
            connection.execute(f"update staff set {change} where email = %s".encode(), [email])
    browser.get("/sign-in")
    answer = browser.post("/sign-in", **typed)
    assert answer.status_code == 422
    assert "This email and password do not belong together." in browser.page.text
    assert "tallycast_session" not in answer.headers.get("set-cookie", "")
    assert PASSWORD not in answer.text


def test_an_unknown_account_takes_as_long_as_a_known_one(browser: Browser, email: str) -> None:
    browser.get("/sign-in")

    def try_it(account: str) -> float:
        answer = browser.post("/sign-in", email=account, password="wrong password")
        assert answer.status_code == 422
        return answer.elapsed.total_seconds()

    known = sorted(try_it(email) for _ in range(9))
    unknown = sorted(try_it(f"{n}-{email}") for n in range(9))
    assert known[4] / 3 < unknown[4] < known[4] * 3, "medians; hashing is nearly all of it"
    assert unknown[0] > 0.02, "it was hashed"


def test_guessing_is_slowed_and_does_not_lock_out_a_browser_that_is_known(
    browser: Browser, email: str
) -> None:
    browser.sign_in(email)
    browser.get("/account")
    browser.post("/sign-out")
    guesser = Browser(browser.url)
    guesser.get("/sign-in")
    proxied = {"X-Forwarded-For": "203.0.113.7"}  # the proxy on this machine says so
    statuses = [
        guesser.post("/sign-in", proxied, email=email, password=f"guess {n}").status_code for n in range(10)
    ]
    assert statuses == [422] * 9 + [429], "the owner's own attempt counts too"
    assert int(guesser.answer.headers["retry-after"]) in range(1, 61)
    assert "Too many attempts. Try again in" in guesser.page.text
    assert guesser.post("/sign-in", proxied, email=email, password=PASSWORD).status_code == 429, (
        "also the right one"
    )
    assert browser.sign_in(email).status_code == 303, "the owner's browser is not held up"


@pytest.mark.parametrize(
    "next_",
    ["https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "javascript:alert(1)",
     "evil.example", "", "/a\r\nSet-Cookie: a=b", "http:/evil.example", " /account", "/\u00e9"],
)  # fmt: skip
def test_signing_in_leads_to_no_other_host(browser: Browser, email: str, next_: str) -> None:
    assert browser.sign_in(email, next_=next_).headers["location"] in {"/", "/account"}
    browser.get("/sign-in", params={"next": next_})
    assert browser.answer.headers["location"] in {"/", "/account"}


@given(st.text(alphabet="/\\.:a?#@%\t ", max_size=8))
def test_a_path_to_go_on_to_stays_on_this_host(text: str) -> None:
    found = guard.local_path(text)
    assert httpx.URL("https://here.example/sign-in").join(found).host == "here.example"
    assert found.startswith("/")
    assert "\\" not in found


def test_signing_out_ends_the_session_for_every_holder_of_its_token(browser: Browser, email: str) -> None:
    browser.sign_in(email)
    token = browser.session
    assert token is not None
    browser.get("/account")
    answer = browser.post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert browser.session is None
    holder = Browser(browser.url)
    holder.client.cookies.set("tallycast_session", token)
    assert holder.get("/account").status_code == 303


def test_a_session_that_is_ended_elsewhere_is_over_at_the_next_page(
    server: Server, browser: Browser, email: str
) -> None:
    browser.sign_in(email)
    assert browser.get("/account").status_code == 200
    assert server.run("staff", "revoke-sessions", email) == f"ended 1 sessions of {email}\n"
    assert browser.get("/account").headers["location"] == "/sign-in?next=/account"


def test_the_account_lists_browsers_and_signs_out_one_or_all_others(browser: Browser, email: str) -> None:
    others = [Browser(browser.url) for _ in range(3)]
    for number, other in enumerate(others):
        other.client.headers["User-Agent"] = f"Agent <b>{number}"
        other.sign_in(email)
    browser.sign_in(email)
    browser.get("/account")
    assert all(f"Agent <b>{number}" in browser.page.text for number in range(3))
    assert browser.page.text.count("This browser") == 1
    named = [tag.attributes["value"] for tag in browser.page.find_all("input", name="session")]
    assert len(named) == 3
    browser.post("/account/sessions/end", session=named[0])
    browser.follow()
    assert "Signed out." in browser.page.find("div", id="messages").text
    assert [other.get("/account").status_code for other in others].count(303) == 1
    browser.get("/account")
    assert browser.page.find("div", id="messages").text == "", "a message is said once"
    browser.post("/account/sessions/end")
    assert [other.get("/account").status_code for other in others] == [303] * 3
    assert browser.get("/account").status_code == 200


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
            "Edge 142, Windows",
        ),
        (
            "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
            "Chrome 142, Android",
        ),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0", "Firefox 145, Linux"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.1 Mobile/15E148 Safari/604.1",
            "Safari 19, iPhone",
        ),
        ("curl/8.5", "curl/8.5"),
        ("", ""),
    ],
)
def test_a_browser_is_called_as_people_call_it(agent: str, name: str) -> None:
    assert account.name_browser(agent) == name


def test_nobody_ends_a_session_of_somebody_else(house: House, browser: Browser, email: str) -> None:
    other = house.enter("editor")
    other.get("/account")
    hash_ = sessions.hash_token(other.session or "").hex()
    browser.sign_in(email)
    browser.get("/account")
    assert browser.post("/account/sessions/end", session=hash_).status_code == 303
    assert other.get("/account").status_code == 200
    assert browser.post("/account/sessions/end", session="zz").status_code == 400


def test_what_a_page_says_once_is_said_to_nobody_else(house: House) -> None:
    one, other = house.enter("editor"), house.enter("viewer")
    one.get("/account")
    one.post("/account/name", name="Edi")
    flash = one.client.cookies["tallycast_flash"]
    for said in (flash, flash[:-4] + "AAAA", "junk", "é".encode().hex()):
        other.client.cookies.set("tallycast_flash", said, domain="127.0.0.1")
        other.get("/account")
        assert (other.answer.status_code, other.page.find("div", id="messages").text) == (200, "")
    one.follow()
    assert "Saved." in one.page.find("div", id="messages").text


def test_a_new_password_needs_the_old_one_and_signs_out_every_other_browser(
    browser: Browser, email: str
) -> None:
    other = Browser(browser.url)
    other.sign_in(email)
    browser.sign_in(email)
    before = browser.session
    browser.get("/account")
    assert (
        browser.post("/account/password", current="wrong", password="a new long password").status_code == 422
    )
    assert "This is not your current password." in browser.page.text
    assert browser.post("/account/password", current=PASSWORD, password="short").status_code == 422
    assert "Enter at least 12 characters." in browser.page.text
    assert (
        browser.post("/account/password", current=PASSWORD, password="a new long password").status_code == 303
    )
    browser.follow()
    assert "Your password is changed" in browser.page.find("div", id="messages").text
    assert browser.session != before
    assert other.get("/account").status_code == 303
    assert Browser(browser.url).sign_in(email).status_code == 422
    assert Browser(browser.url).sign_in(email, "a new long password").status_code == 303


def test_language_and_theme_are_kept_with_the_account_and_with_the_browser(
    browser: Browser, email: str
) -> None:
    browser.sign_in(email)
    browser.get("/account")
    assert browser.page.find("html").attributes == {"lang": "en", "data-theme": "auto"}
    assert browser.post("/preferences", language="zh-Hant", next="/account").headers["location"] == "/account"
    browser.follow()
    browser.post("/preferences", theme="dark", next="//evil")
    assert browser.answer.headers["location"] == "/"
    browser.get("/account")
    assert browser.page.find("html").attributes == {"lang": "zh-Hant", "data-theme": "dark"}
    assert browser.page.find("h1").text == "你的帳戶"
    elsewhere = Browser(browser.url)
    elsewhere.sign_in(email)
    elsewhere.get("/account")
    assert elsewhere.page.find("html").attributes == {"lang": "zh-Hant", "data-theme": "dark"}
    browser.post("/sign-out")
    browser.get("/sign-in")
    assert browser.page.find("html").attributes == {"lang": "zh-Hant", "data-theme": "dark"}
    browser.post("/preferences", language="xx", theme="<b>")
    browser.get("/sign-in")
    assert browser.page.find("html").attributes == {"lang": "zh-Hant", "data-theme": "dark"}


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Server]:
    """A server on a database of its own, where nobody is yet."""
    own = start_server(tmp_path)
    yield own
    assert own.stop() == 0


def find_link(server: Server) -> str:
    """The one-time link that the server printed last, below its line that it is ready."""

    def links() -> list[str]:
        return re.findall(
            r"ready: \S+\nnobody can sign in yet.*\n  http://\S+?(/welcome/[\w-]{43})\n",
            server.log.read_text(),
        )

    return wait_for(links)[-1]


def test_the_first_person_becomes_owner_with_the_printed_link_once(fresh: Server) -> None:
    browser, late = Browser(fresh.url), Browser(fresh.url)
    browser.get("/")
    browser.follow()
    assert "tallycast staff create --owner" in browser.page.text
    link = find_link(fresh)
    assert late.get(link).status_code == 200
    browser.get(link)
    about = {"email": "Ada@example.com", "name": "Ada Wong", "eid": "E1"}
    assert browser.post(link, **about, password="short").status_code == 422
    assert browser.page.find("input", name="email").attributes["value"] == "Ada@example.com"
    assert browser.post(link, **{**about, "email": "nope"}, password=PASSWORD).status_code == 422
    assert browser.post(link, **about, password=PASSWORD).headers["location"] == "/"
    browser.follow()
    assert (browser.answer.status_code, browser.page.find("h1").text) == (200, "Apps")
    assert (
        late.post(link, email="eve@example.com", name="Eve", eid="E2", password=PASSWORD).status_code == 404
    )
    assert late.get(link).status_code == 404
    assert "This link is not valid" in late.page.text
    late.get("/sign-in")
    assert "tallycast staff create" not in late.page.text
    staff = fresh.run("staff", "list", "--json")
    assert (staff.count('"email"'), '"owner"' in staff, "ada@example.com" in staff) == (1, True, True)
    assert link.rpartition("/")[2] not in "".join(
        re.findall(r"^.*cid=.*$", fresh.log.read_text(), re.MULTILINE)
    )
    assert "GET /welcome/... 200" in fresh.log.read_text()


def test_no_link_is_printed_where_there_is_staff(server: Server, house: House) -> None:
    del house
    own = start_server(server.data_dir)
    try:
        text = own.log.read_text()
    finally:
        assert own.stop() == 0
    assert "/welcome/" not in text


def test_a_link_of_the_command_line_lets_somebody_choose_a_password(server: Server, email: str) -> None:
    said = server.run("staff", "set-password", email, "--link", "--port", str(server.port))
    link = said.split()[-1].removeprefix(server.url)
    browser = Browser(server.url)
    browser.get(link)
    assert email in browser.page.text
    assert browser.page.find_all("input", name="eid") == []
    browser.post(link, password="a new long password", email="eve@example.com", eid="E9")
    assert browser.follow().status_code == 200
    browser.get("/account")
    assert email in browser.page.text
    assert Browser(server.url).get(link).status_code == 404
    assert Browser(server.url).sign_in(email, "a new long password").status_code == 303


def test_a_form_outlives_the_session_that_it_was_made_in(
    browser: Browser, email: str, database_url: str
) -> None:
    """Signing in again brings one back; nothing is done without."""
    browser.sign_in(email)
    browser.get("/account")
    with psycopg.connect(database_url) as connection:
        query = b"update staff_sessions set last_seen_at = now() - %s where staff_id = (select staff_id from staff where email = %s)"
        connection.execute(query, [timedelta(hours=13), email])
    answer = browser.post("/account/name", name="Somebody")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=/")
