"""Every page that can be opened, from the route table: accessible, narrow, quiet, and deaf to what people write."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser.conftest import Enter, Shop, Window
from dashboard import find_pages
from harness import start_server, wait_for

AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SIDES = ("people", "timeline", "failures", "countries", "links", "buttons")
# Not pages: a stream, and files.
FILES = ("/live", "/exports/", "/audience-samples/", "/errors", "/person")
# Pages of these words are of a campaign that is not sent yet.
OF_DRAFTS = ("/edit", "/audience", "/review", "/size", "/start", "/actions", "/columns")
# A file that waits until somebody has said what its columns are.
COLUMNS = "/apps/{appID}/campaigns/{draftID}/audience/{heldID}"
MORE = (
    "/apps/{appID}/campaigns?period=custom",
    "/apps/{appID}/campaigns?period=7d&q=nothing+like+it",
    "/apps/{appID}/campaigns?stage=draft",
    "/apps/{appID}/campaigns?stage=paused",
    "/apps/{appID}/campaigns/{campaignID}/recipients?more=1&state=failed",
    "/apps/{appID}/campaigns/{campaignID}/recipients?number=abc",
    *(f"/apps/{{appID}}/campaigns/{{campaignID}}/insights/{side}" for side in SIDES),
    COLUMNS,
)
PATHS = sorted(
    {
        route.path for route in find_pages()
        if route.method == "GET" and not any(word in route.path for word in FILES)
        and not route.path.endswith("/insights/{side}")
    } | set(MORE)
)  # fmt: skip


def fill(shop: Shop, path: str) -> str:
    campaign = "draft" if any(word in path for word in OF_DRAFTS) else "recorded"
    values = {
        "appID": shop.house.app_id, "campaignID": shop.campaigns[campaign], "seq": "0",
        "channelID": shop.channels["whatsApp"], **shop.ids,
    }  # fmt: skip
    missing = set(re.findall(r"{(\w+)}", path)) - set(values)
    if missing:
        pytest.skip(f"nothing here has {missing}")
    return re.sub(r"{(\w+)}", lambda match: values[match[1]], path)


def look(enter: Enter, shop: Shop, path: str, **options: Any) -> Window:
    is_open = path == "/sign-in" or path.startswith("/welcome/")
    window: Window = enter("" if is_open else "owner", **options)
    window.open(fill(shop, path), 422 if path.endswith("=abc") else 200)
    return window


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_the_browser_has_nothing_to_complain_about(
    enter: Enter, shop: Shop, path: str, scheme: str
) -> None:
    check(look(enter, shop, path, color_scheme=scheme), scheme)


@pytest.fixture(scope="module")
def first_link() -> Iterator[str]:
    """The link that the first start of a server prints."""
    with tempfile.TemporaryDirectory(prefix="tallycast-test-") as folder:
        server = start_server(Path(folder))
        [url] = wait_for(lambda: re.findall(r"http://\S+/welcome/\S+", server.log.read_text()))
        yield url
        assert server.stop() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_first_run(enter: Enter, first_link: str, scheme: str) -> None:
    window: Window = enter("", color_scheme=scheme)
    page = window.open(first_link)
    assert page.get_by_label("Staff ID (EID)").count() == 1
    check(window, scheme)


def check(window: Window, scheme: str) -> None:
    page = window.page
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(246, 247, 248)", "dark": "rgb(20, 24, 27)"}[scheme]
    page.evaluate(AXE.read_text())
    found = page.evaluate("rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", RULES)[
        "violations"
    ]
    said = [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary']}"
        for one in found
        for node in one["nodes"]
    ]
    assert said == []
    assert page.locator("img[src=x], [onerror], main script").count() == 0
    assert window.troubles == []


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_wider_than_a_small_phone(enter: Enter, shop: Shop, path: str) -> None:
    window = look(enter, shop, path, viewport={"width": 360, "height": 740})
    window.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    widest = """() => [...document.querySelectorAll("body *")]
        .filter(one => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll, .u-legend, .hidden"))
        .map(one => one.outerHTML.slice(0, 120)).slice(0, 3)"""
    assert (window.page.evaluate("document.documentElement.scrollWidth"), window.page.evaluate(widest)) == (
        360,
        [],
    )
