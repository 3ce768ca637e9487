"""A server with a simulator beside it, an app with people and campaigns, and a browser that looks at it."""

import asyncio
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from dashboard import House, make_house
from filling import upload
from harness import App, Server, start_server
from tallycast import apps, channels, db, invitations, receipts, sessions, staff
from tallycast.events import ButtonClick
from tallycast.receipts import Arrival
from tallycast.simulator.child import simulating
from tallycast.simulator.profiles import Profile
from tallycast.simulator.server import Plan

CHROMIUM_OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"
# What must stay text wherever a person or a provider can put it.
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}"
SECRET = "s3cret"
FIRST = f"{uuid.uuid4()}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "browser: drives the dashboard in Chromium (make test-browser)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("browser")


@dataclass
class Shop:
    """The house's app: its API, its channels by type, its campaigns by what they are, and who is signed in as what."""

    house: House
    api: App
    channels: dict[str, str] = field(default_factory=dict)
    campaigns: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return f"/apps/{self.house.app_id}"

    def path_of(self, campaign: str) -> str:
        return f"{self.path}/campaigns/{self.campaigns[campaign]}"


@pytest.fixture(scope="session")
def simulator() -> Iterator[str]:
    """A provider whose messages all arrive and are all read, at once."""
    plan = Plan(port=0, smpp_port=None, profile=Profile(read=1.0))
    with simulating(plan) as url:
        yield url


@pytest.fixture(scope="session")
def server(data_dir: Path, database_url: str, simulator: str) -> Iterator[Server]:  # noqa: ARG001 - joins the running database
    started = start_server(data_dir, "--private-hosts", urlsplit(simulator).netloc)
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="session")
def shop(server: Server, database_url: str, client: httpx.Client, simulator: str) -> Shop:
    """Everything that wants an event loop is made here: Playwright takes it afterwards."""
    house = make_house(server.url, database_url)

    async def open_doors() -> tuple[str, dict[str, str], dict[str, str]]:
        async with db.connect(database_url) as connection:
            token = (await apps.create_token(connection, house.app_id, name=NASTY[:60])).plain
            people = {who: await staff.find(connection, email) for who, email in house.emails.items()}
            signed_in = {
                who: await sessions.start(connection, one.staff_id, "") for who, one in people.items()
            }
            invited = await staff.create(connection, f"new@{house.app_id}.example".lower(), NASTY[:60], "new")
            link = await invitations.invite(connection, invited.staff_id)
            return token, signed_in, {"token": link}

    token, tokens, ids = asyncio.run(open_doors())
    shop = Shop(house, App(server.url, house.app_id, token, client), tokens=tokens, ids=ids)
    _add_channels(shop, simulator)
    _record(shop)
    asyncio.run(_choose(shop, database_url))
    _make_drafts(shop)
    return shop


async def _choose(shop: Shop, database_url: str) -> None:
    """The first recipient chooses a button, of which generic receipts know nothing."""
    click = ButtonClick(NASTY, FIRST, None, receipts.now_ms())
    async with db.connect(database_url) as connection:
        channel = await channels.find(connection, shop.house.app_id, shop.channels["recorded"])
        arrival = Arrival(channel.app_id, channel.channel_number, receipts.now_ms(), [click])
        await receipts.apply(connection, channel.app_id, [arrival])


def _add_channels(shop: Shop, simulator: str) -> None:
    shop.channels["recorded"] = shop.api.add_channel(channelName=NASTY, sourceName=NASTY)
    for kind, name in (("whatsApp", "Shop"), ("sms", "")):
        key = f"{shop.house.app_id}-{kind}"
        shop.channels[kind] = shop.api.add_channel(
            type=kind, provider="sandbox", channelName=name, webhookSecret=SECRET, ratePerSecond=8,
            credentials={"baseURL": simulator, "apiKey": key},
        )  # fmt: skip
        hook = {
            "url": f"{shop.api.server_url}/webhooks/sandbox/{shop.channels[kind]}",
            "headers": {"Authorization": f"Bearer {SECRET}"},
        }
        headers = {"D360-API-KEY": key}
        assert shop.api.client.post(f"{simulator}/v1/configs/webhook", json=hook, headers=headers).is_success


def _record(shop: Shop) -> None:
    """A campaign to eight: two read it, one has it, two failed, one chose a button, one followed a link; an SMS to two."""
    channel, api = shop.channels["recorded"], shop.api
    ids = [FIRST, *(f"{uuid.uuid4()}" for _ in range(7))]
    made = api.record(channel, ids, campaignName=NASTY, createdBy=NASTY, subject=NASTY, content=NASTY)
    api.post_receipts(
        channel,
        {"messageID": ids[0], "status": "read"},
        {"messageID": ids[1], "status": "read"},
        {"messageID": ids[2], "status": "delivered"},
        {"messageID": ids[3], "status": "failed", "errorCode": "131026", "errorTitle": NASTY},
        {"messageID": ids[4], "status": "failed", "errorCode": "131049"},
        {"messageID": "nobody-knows-it", "status": "delivered"},
    )
    links = api.result(
        "POST", f"/sent-campaigns/{made}/links", json={"url": "https://shop.example.com/?q=<i>"}
    )
    for agent in (PHONE, "WhatsApp/2.25"):
        path = urlsplit(links["links"][0]["url"]).path
        api.client.get(f"{api.server_url}{path}", headers={"User-Agent": agent})
    shop.campaigns["recorded"] = made
    sms = api.add_channel(type="sms", phone="SHOP", channelName="")
    shop.campaigns["sms"] = api.record(
        sms, [f"{uuid.uuid4()}", f"{uuid.uuid4()}"], campaignName="Opening hours", senderEID="E7"
    )


def _make_drafts(shop: Shop) -> None:
    new = {"kind": "smsDynamic", "channelID": shop.channels["sms"], "senderEID": "E7", "createdBy": NASTY}
    new |= {"campaignName": f"Draft {NASTY}", "content": f"Hi {{{{name}}}} {NASTY[:40]}"}
    made = shop.api.result("POST", "/campaigns", json=new)["id"]
    shop.campaigns["draft"] = made
    audience = "Recipients Number,name\n+85291000001,<script>alert(3)</script>\n+85291000002,Mei\nnobody,x\n"
    imported = shop.api.result(
        "POST", f"/campaigns/{made}/audience?wait=30&fileName=people.csv", content=audience.encode(),
        headers={"Content-Type": "text/csv"},
    )  # fmt: skip
    shop.ids["importID"] = imported["id"]
    _hold_file(shop, audience)
    _add_endpoint(shop)


def _hold_file(shop: Shop, audience: str) -> None:
    """A second file, of which nobody has said yet what its columns are."""
    browser, page = shop.house.enter("owner"), f"{shop.path_of('draft')}/audience"
    browser.get(page)
    held = upload(browser, page, "more.csv", audience.encode())
    assert held.status_code == 303, held.text
    shop.ids |= {"draftID": shop.campaigns["draft"], "heldID": held.headers["location"].rpartition("/")[2]}


def _add_endpoint(shop: Shop) -> None:
    """An outgoing webhook, and a delivery of it."""
    endpoint = {"url": "https://example.com/hook", "events": ["campaign.sent"], "description": NASTY[:60]}
    made = shop.api.result("POST", "/webhook-endpoints", json=endpoint)["id"]
    shop.api.result("POST", f"/webhook-endpoints/{made}/test")
    delivery = shop.api.result("GET", f"/webhook-endpoints/{made}/deliveries")
    shop.ids |= {"endpointID": made, "deliveryID": delivery[0]["id"]}


@pytest.fixture(scope="session")
def chromium(shop: Shop) -> Iterator[Browser]:  # noqa: ARG001 - made before Playwright takes the event loop
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        assert path, "chromium is not installed"
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


class Window:
    """A page of a browser of its own. `troubles`: what the browser had to complain about, scripts that ran included."""

    def __init__(self, context: BrowserContext, page: Page, shop: Shop) -> None:
        self.context, self.page, self.shop = context, page, shop
        self.troubles: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.troubles.append(f"{page.url}: {error}"))
        page.on("dialog", self._refuse)

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"} and "status of 422" not in message.text:
            self.troubles.append(f"{self.page.url}: {message.text}")

    def _refuse(self, dialog: Any) -> None:
        self.troubles.append(f"{self.page.url}: a script said {dialog.message}")
        dialog.dismiss()

    def open(self, path: str, status: int = 200) -> Page:
        """Go to a page of the server, and wait until the parts that it loads are there."""
        url = path if path.startswith("http") else f"{self.shop.house.server_url}{path}"
        answer = self.page.goto(url)
        assert answer, path
        assert answer.status == status, f"{path}: {answer.status} {self.page.inner_text('main')}"
        self.settle()
        return self.page

    def settle(self) -> None:
        expect(self.page.locator(".htmx-request")).to_have_count(0)

    def text_of(self, selector: str = "main") -> str:
        return " ".join(self.page.inner_text(selector).split())


Enter = Callable[..., Any]


@pytest.fixture
def enter(chromium: Browser, shop: Shop) -> Iterator[Enter]:
    """Open a window in which somebody is signed in, or nobody ('')."""
    opened: list[Window] = []

    def open_window(who: str = "admin", **options: Any) -> Window:
        context = chromium.new_context(**{"locale": "en-GB", **options})
        context.set_default_timeout(15_000)
        if who:
            cookie = {"name": "tallycast_session", "value": shop.tokens[who], "url": shop.house.server_url}
            context.add_cookies([cookie])  # type: ignore[list-item] # a TypedDict of theirs
        window = Window(context, context.new_page(), shop)
        opened.append(window)
        return window

    yield open_window
    for window in opened:
        window.context.close()
