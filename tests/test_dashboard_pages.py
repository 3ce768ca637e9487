"""Pages: well formed, told in both languages, safe whatever people are called, and loaded from this server alone."""

import ast
import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import nodes

import tallycast.dashboard
from dashboard import Browser, House, Page, Route, add_staff, find_pages, make_house
from harness import Server
from tallycast import apps
from tallycast.dashboard import catalogue, formats, pages

SOURCE = Path(tallycast.dashboard.__file__).parent
TEMPLATES = sorted(SOURCE.glob("templates/*.html"))
OPEN = [route for route in find_pages() if route.method == "GET"]
NASTY = [
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "{0.__class__}",
    "&lt;b&gt;",
]


@pytest.fixture(scope="module")
def house(server: Server, database_url: str) -> House:
    return make_house(server.url, database_url)


def fill(route: Route, app_id: str) -> str:
    return re.sub(r"{(\w+)}", lambda match: {"appID": app_id}.get(match[1], "1"), route.path)


@pytest.mark.parametrize("language", catalogue.LANGUAGES)
@pytest.mark.parametrize("route", OPEN, ids=str)
def test_every_page_is_well_formed_and_says_its_title_and_language(
    house: House, route: Route, language: str
) -> None:
    for browser in (house.enter("owner"), Browser(house.server_url)):
        browser.client.cookies.set("tallycast_language", language)
        answer = browser.get(fill(route, house.app_id))
        if not answer.headers["content-type"].startswith("text/html") or answer.status_code in {204, 303}:
            continue
        page = browser.page
        assert page.unclosed == []
        assert page.find("html").attributes["lang"] == language
        assert len(page.title.removesuffix("tallycast")) > 3
        assert [len(page.find_all(name)) for name in ("title", "main", "h1")] == [1, 1, 1]
        ids = [tag.attributes["id"] for tag in page.tags if "id" in tag.attributes]
        assert len(ids) == len(set(ids))
        assert page.find("a", **{"class": "skip"}).attributes["href"] == "#main"
        check_forms(page)
        check_nothing_inline(page)


def check_forms(page: Page) -> None:
    """Every field has a label, and every form that changes something the token."""
    labelled = {tag.attributes.get("for") for tag in page.find_all("label")}
    for tag in page.tags:
        is_field = tag.name in {"input", "select", "textarea"} and tag.attributes.get("type") not in {
            "hidden",
            "radio",
        }
        if is_field and "hidden" not in tag.attributes:
            assert tag.attributes.get("id") in labelled or "aria-label" in tag.attributes, tag
    forms = [tag for tag in page.find_all("form") if tag.attributes.get("method") == "post"]
    assert len(forms) == len(page.find_all("input", name="csrf"))


def check_nothing_inline(page: Page) -> None:
    """Nothing that the Content-Security-Policy would stop, and nothing of another host."""
    for tag in page.tags:
        assert not {name for name in tag.attributes if name.startswith(("on", "hx-on")) or name == "style"}, (
            tag
        )
        assert tag.name != "style"
        for name in ("src", "href", "action"):
            assert re.match(r"/(?!/)|#|$", tag.attributes.get(name, "")), tag
    for script in page.find_all("script"):
        assert script.attributes["src"].startswith("/static/")
        assert script.text == ""


def test_pages_forbid_whatever_is_not_theirs_and_are_not_kept(server: Server) -> None:
    answer = httpx.get(f"{server.url}/sign-in")
    assert answer.headers["content-security-policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


def test_assets_are_kept_for_good_under_the_hash_of_what_is_in_them(server: Server) -> None:
    page = Page(httpx.get(f"{server.url}/sign-in").text)
    urls = [
        tag.attributes.get("src") or tag.attributes["href"]
        for tag in page.tags
        if tag.name in {"script", "link"}
    ]
    assert len(urls) >= 4
    for url in urls:
        assert re.fullmatch(r"/static/[\w/.-]+\?v=[0-9a-f]{16}", url)
        answer = httpx.get(server.url + url)
        assert (answer.status_code, answer.headers["cache-control"]) == (
            200,
            "public, max-age=31536000, immutable",
        )
        again = httpx.get(server.url + url, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        other = httpx.get(server.url + re.sub(r"=.*", "=" + "0" * 16, url))
        assert (other.status_code, other.headers["cache-control"]) == (200, "no-cache"), (
            "not what was asked for"
        )


def test_vendored_files_have_their_licences_and_versions() -> None:
    vendor = SOURCE / "static/vendor"
    said = (vendor / "VERSIONS").read_text()
    for path in vendor.iterdir():
        if path.suffix in {".js", ".css"}:
            assert path.name in said
            assert (vendor / f"{path.name.split('.')[0]}.LICENSE").exists()


@pytest.mark.parametrize("nasty", NASTY)
def test_names_are_shown_as_they_are_and_do_nothing(server: Server, database_url: str, nasty: str) -> None:
    made = add_staff(
        database_url, f"{apps.random_text(9)}<b>&\"'@x".lower(), name=nasty, eid=nasty[:64], is_owner=True
    )
    browser = Browser(server.url)
    browser.sign_in(made.email)
    server.run("app", "create", "--name", f"Shop {nasty}", "--json")
    for path in (
        "/account",
        "/",
        f"/?q={nasty}",
        f"/sign-in?next={nasty}",
        f"/welcome/{nasty[:10]}",
        f"/nope/{nasty}",
    ):
        answer = browser.get(path, headers={"Accept": "text/html"})
        if answer.status_code == 303:
            continue
        assert browser.page.unclosed == []
        check_nothing_inline(browser.page)
        assert nasty not in answer.text.replace("{{", "{ {") or "<" not in nasty
    browser.get("/account")
    assert browser.page.find("input", name="name").attributes["value"] == " ".join(nasty.split())
    assert made.email in browser.page.text
    browser.get("/")
    assert f"Shop {nasty}" in browser.page.text
    assert "49" not in browser.page.find("header").text


def test_somebody_sees_their_own_apps_alone(house: House) -> None:
    for who, sees in (("viewer", True), ("stranger", False), ("owner", True)):
        browser = house.enter(who)
        browser.get("/", params={"q": house.app_id})
        assert (
            house.app_id in [tag.text.split()[-1] for tag in browser.page.find_all("a") if tag.text]
        ) == sees
        if not sees:
            assert "No app of this name" in browser.page.text


def test_who_may_open_one_app_alone_is_taken_to_it_and_switches_among_several(house: House) -> None:
    viewer, owner = house.enter("viewer"), house.enter("owner")
    assert viewer.get("/").headers["location"] == f"/apps/{house.app_id}/campaigns"
    assert owner.get("/").status_code == 200
    part = owner.get("/", params={"q": house.other_app}, headers={"HX-Request": "true"})
    assert [tag.attributes["href"] for tag in Page(part.text).find_all("a")] == [
        f"/apps/{house.other_app}/campaigns"
    ]


TEXTS = {language: catalogue.load(language) for language in catalogue.LANGUAGES}


def names_in(text: str | dict[str, str]) -> set[str]:
    whole = text if isinstance(text, str) else "".join(text.values())
    return {name for _, name, _, _ in string.Formatter().parse(whole) if name}


def test_every_text_is_there_in_each_language_with_the_same_placeholders() -> None:
    english, *others = TEXTS.values()
    for other in others:
        assert set(other) == set(english)
        assert {key: names_in(text) for key, text in other.items()} == {
            key: names_in(text) for key, text in english.items()
        }


def test_no_text_has_markup_or_is_empty_and_numbers_have_both_their_forms() -> None:
    for texts in TEXTS.values():
        for key, text in texts.items():
            forms = [text] if isinstance(text, str) else list(text.values())
            assert all(form.strip() == form != "" for form in forms), key
            assert not any(re.search(r"[<>&]", form) for form in forms), key
            assert isinstance(text, str) or set(text) == {"one", "other"}, key


def parse(path: Path) -> nodes.Template:
    return pages._ENVIRONMENT.parse(path.read_text())  # noqa: SLF001 - as the server parses them


def texts_of(node: nodes.Node) -> Iterator[re.Pattern[str]]:
    """The keys that an expression may come to: constants, and what begins and ends with constants."""
    match node:
        case nodes.Const(value=str(value)):
            yield re.compile(re.escape(value))
        case nodes.CondExpr():
            yield from texts_of(node.expr1)
            if node.expr2 is not None:
                yield from texts_of(node.expr2)
        case nodes.Concat():
            parts = [
                re.escape(str(one.value)) if isinstance(one, nodes.Const) else r"[\w-]+" for one in node.nodes
            ]
            if any(isinstance(one, nodes.Const) for one in node.nodes):
                yield re.compile("".join(parts))


def used_patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    for path in TEMPLATES:
        for call in parse(path).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "t":
                yield from ((path.name, pattern) for pattern in texts_of(call.args[0]))


def constants() -> Iterator[str]:
    for path in SOURCE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_text_is_used_and_every_used_text_is_there() -> None:
    known, said = set(TEXTS["en"]), set(constants())
    unused = set(known)
    for name, pattern in used_patterns():
        found = {key for key in known if pattern.fullmatch(key)}
        assert found or pattern.pattern.startswith("["), f"{name}: {pattern.pattern}"
        unused -= found
    unused -= {
        key
        for key in unused
        if key in said or re.fullmatch(r"fault\.\w+\.(title|text)|unit\.\w+|countries\.[A-Z]{2}", key)
    }
    assert unused == set()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_have_no_words_of_their_own(path: Path) -> None:
    """Every word comes from the catalogue, but for the product's name and commands to type."""
    markup = re.sub(r"(?s){#.*?#}|{%.*?%}|{{.*?}}|<code>.*?</code>|<!doctype html>", "", path.read_text())
    assert set(re.findall(r"[^\W\d_]{2,}", re.sub(r'(?s)<[^<>]*>|[\w-]+="[^"]*"|required', " ", markup))) <= {
        "tallycast"
    }
    assert re.findall(r'(?:aria-label|alt|title|placeholder)="([^"]+)"', markup) == []


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("", "en"), ("zh-TW,zh;q=0.9,en;q=0.8", "zh-Hant"), ("zh-HK", "zh-Hant"), ("en-GB,zh;q=0.9", "en"), ("de,fr;q=0.9", "en"),
     ("de,zh-Hant;q=0.5,en;q=0.4", "zh-Hant"), ("zh;q=0,en;q=0.1", "en"), ("*", "en"), ("en;q=x,zh;q=0.1", "zh-Hant"), ("\u00e9,,;;q", "en")],
)  # fmt: skip
def test_the_language_is_the_one_that_the_browser_likes_best_of_ours(accepted: str, language: str) -> None:
    assert catalogue.choose(accepted) == language


def test_a_text_is_filled_in_safely_and_by_number() -> None:
    assert catalogue.translate("en", "unit.day", n=1) == "1 day"
    assert catalogue.translate("en", "unit.day", n=1200) == "1,200 days"
    assert catalogue.translate("zh-Hant", "unit.day", n=1) == "1 天"
    assert catalogue.translate("en", "copy.label", value="<b>\"'{0}") == "Copy &lt;b&gt;&#34;&#39;{0}"


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (None, "\u2013"),
        (0, "0%"),
        (1, "100%"),
        (0.5, "50.0%"),
        (0.9731, "97.3%"),
        (0.9999, "99.9%"),
        (0.0004, "<0.1%"),
        (0.001, "0.1%"),
    ],
)
def test_a_rate_is_never_rounded_to_all_or_nothing(fraction: float | None, text: str) -> None:
    assert formats.percent(fraction) == text


@given(st.floats(0, 1))
def test_a_rate_is_right_to_a_tenth_of_a_percent(fraction: float) -> None:
    text = formats.percent(fraction)
    assert text == "<0.1%" or abs(float(text.rstrip("%")) - fraction * 100) <= 0.1
    assert (text == "100%") == (fraction == 1)


def show(template: str, **values: Any) -> str:
    def t(key: str, **numbers: object) -> str:
        return catalogue.translate("en", key, **numbers)

    made = pages._ENVIRONMENT.from_string(template)  # noqa: SLF001 - with the filters of pages
    return made.render(zone=ZoneInfo("Asia/Hong_Kong"), t=t, **values)


def test_moments_are_in_the_apps_time_zone_and_alike_in_every_language() -> None:
    at = datetime(2026, 11, 23, 18, 5, 9, tzinfo=UTC)
    assert (
        show("{{ at|moment }}", at=at) == '<time datetime="2026-11-23T18:05:09.000Z">2026-11-24 02:05</time>'
    )
    assert show("{{ at|moment(with_seconds=true) }}", at=at).endswith(">2026-11-24 02:05:09</time>")
    assert show("{{ at|day }}", at=at) == "2026-11-24"
    assert (
        show("{{ none|moment }}{{ none|day }}{{ none|age }}{{ none|duration }}{{ none|number }}")
        == "\u2013" * 5
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (86_400, "1 day"),
        (180_000, "2 days 2 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert show("{{ seconds|duration }}", seconds=seconds) == text


def test_an_age_is_counted_from_now() -> None:
    assert (
        show("{{ at|age }}", at=datetime.now(UTC) - timedelta(hours=2, minutes=5, seconds=1)) == "2 h 5 min"
    )


def test_an_unknown_url_is_a_page_for_browsers_and_the_envelope_for_programs(server: Server) -> None:
    for path in ("/nope", "/apps/x", "/account/nope"):
        answer = httpx.get(server.url + path, headers={"Accept": "text/html,*/*"})
        assert (answer.status_code, Page(answer.text).find("h1").text) == (404, "Not found")
    for path in ("/v1/nope", "/webhooks/x/y", "/r/nope"):
        answer = httpx.get(server.url + path, headers={"Accept": "text/html,*/*"})
        assert answer.json()["code"] in {404, 6450001}
    assert httpx.get(server.url + "/nope").json()["code"] == 6450001
    assert httpx.delete(server.url + "/account").headers["content-type"].startswith("text/html")
