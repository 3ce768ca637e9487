"""The dashboard as a browser sees it, without one: cookies, forms, and pages taken apart."""

import asyncio
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from ipaddress import ip_address
from itertools import count
from typing import Any

import httpx
from litestar import Litestar
from litestar.routes import HTTPRoute

from tallycast import apps, db, passwords, sessions, staff
from tallycast.roles import ROLES, Role
from tallycast.web.server import ROUTES

PASSWORD = "correct horse battery"
_ADDRESSES = count()
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr", "rect"}


@dataclass
class Tag:
    name: str
    attributes: dict[str, str]
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts).split())


class Page(HTMLParser):
    """A page taken apart: all its tags in order, each with the text in it; `unclosed`: what was not nested well."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.markup = markup
        self.tags: list[Tag] = []
        self.unclosed: list[str] = []
        self._open: list[Tag] = []
        self.feed(markup)
        self.close()
        self.unclosed += [tag.name for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = Tag(tag, {name: value or "" for name, value in attrs})
        self.tags.append(found)
        if tag not in _VOID:
            self._open.append(found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(Tag(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop().name != tag:
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        for tag in self._open:
            tag.parts.append(data)

    def find_all(self, name: str, /, **attributes: str) -> list[Tag]:
        return [
            tag for tag in self.tags
            if tag.name == name and all(tag.attributes.get(key) == value for key, value in attributes.items())
        ]  # fmt: skip

    def find(self, name: str, /, **attributes: str) -> Tag:
        found = self.find_all(name, **attributes)
        assert found, f"no <{name}> with {attributes} in {self.text[:500]}"
        return found[0]

    @property
    def text(self) -> str:
        return self.find_all("main")[0].text if self.find_all("main") else self.markup

    @property
    def title(self) -> str:
        return self.find("title").text


class Browser:
    """Keeps cookies, and takes the token of a form from the page that it saw last."""

    def __init__(self, url: str) -> None:
        self.url = url
        # As if from an address of its own through this machine's proxy: one address may try so often only.
        address = str(ip_address("198.18.0.0") + next(_ADDRESSES))
        self.client = httpx.Client(base_url=url, timeout=30, headers={"X-Forwarded-For": address})
        weakref.finalize(self, self.client.close)
        self.page = Page("")
        self.answer = httpx.Response(200)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.see(self.client.get(path, **options))

    def post(self, path: str, headers: dict[str, str] | None = None, /, **fields: str) -> httpx.Response:
        """Send a form with the token of the last page; the answer, which is not followed."""
        return self.see(self.client.post(path, data={"csrf": self.csrf, **fields}, headers=headers))

    def follow(self) -> httpx.Response:
        return self.get(self.answer.headers["location"])

    def see(self, answer: httpx.Response) -> httpx.Response:
        self.answer = answer
        if answer.headers.get("content-type", "").startswith("text/html") and answer.text:
            self.page = Page(answer.text)
        return answer

    @property
    def csrf(self) -> str:
        found = self.page.find_all("input", name="csrf")
        return found[0].attributes["value"] if found else ""

    def sign_in(self, email: str, password: str = PASSWORD, next_: str = "/") -> httpx.Response:
        self.get("/sign-in", params={"next": next_})
        return self.post("/sign-in", email=email, password=password, next=next_)

    @property
    def session(self) -> str | None:
        return self.client.cookies.get("tallycast_session")


@cache
def hashed() -> str:
    """Hashing takes a while; everybody in these tests has one password."""
    return asyncio.run(passwords.hash_password(PASSWORD))


@dataclass(frozen=True)
class House:
    """A server with an app, and its people: the email of one with each role, an owner, and a stranger of another app."""

    server_url: str
    database_url: str
    app_id: str
    other_app: str
    emails: dict[str, str]

    def enter(self, who: str) -> Browser:
        """A browser in which that person is signed in."""

        async def start() -> str:
            async with db.connect(self.database_url) as connection:
                known = await staff.find(connection, self.emails[who])
                return await sessions.start(connection, known.staff_id, "")

        browser = Browser(self.server_url)
        browser.client.cookies.set("tallycast_session", asyncio.run(start()), domain="127.0.0.1")
        return browser


def add_staff(
    database_url: str,
    email: str,
    app_id: str | None = None,
    role: Role | None = None,
    name: str = "Mei Chan",
    eid: str = "",
    is_owner: bool = False,
) -> staff.Staff:
    """`eid`: the email where none is given; no two people have one."""

    async def work() -> staff.Staff:
        async with db.connect(database_url) as connection:
            made = await staff.create(connection, email, name, eid or email[:64], is_owner=is_owner)
            await staff.set_password(connection, made.staff_id, known)
            if app_id is not None:
                await staff.set_role(connection, app_id, made.staff_id, role)
            return made

    known = hashed()
    return asyncio.run(work())


def make_house(server_url: str, database_url: str) -> House:
    async def make_apps() -> tuple[str, str]:
        async with db.connect(database_url) as connection:
            made = [await apps.create_app(connection, name) for name in ("Shop", "Other")]
            return made[0].app_id, made[1].app_id

    app_id, other = asyncio.run(make_apps())
    emails = {role: f"{role}@{app_id}.example".lower() for role in (*ROLES, "owner", "stranger")}
    for role in ROLES:
        add_staff(database_url, emails[role], app_id, role, name=role.title())
    add_staff(database_url, emails["stranger"], other, "admin", name="Stranger")
    add_staff(database_url, emails["owner"], is_owner=True, name="Owner")
    return House(server_url, database_url, app_id, other, emails)


@dataclass(frozen=True)
class Route:
    """A page of the route table; `role`: the least one that opens it."""

    method: str
    path: str
    role: str | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def find_pages() -> Iterator[Route]:
    """The pages, from the table that the server itself runs by."""
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
        routes = Litestar(ROUTES, openapi_config=None).routes
    for route in routes:
        if isinstance(route, HTTPRoute) and not route.path_format.startswith(("/v1/", "/static/")):
            for handler in route.route_handlers:
                for method in sorted({str(method) for method in handler.http_methods} - {"OPTIONS"}):
                    if "doc" not in handler.opt and route.path_format not in {"/docs", "/openapi.json"}:
                        yield Route(method, route.path_format, handler.opt.get("role"))
