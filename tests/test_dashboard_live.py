"""A campaign's page while it moves: one look a second for everybody, and few queries before the first paint."""

import asyncio
import threading
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from litestar import Litestar, Router
from litestar.datastructures import State

from dashboard import Browser, House, Page, make_house
from harness import App, Server, start_server, wait_for
from stage import make_stage, says, until
from tallycast import apps, db, sessions, staff, watches
from tallycast.config import Settings
from tallycast.dashboard import campaign as campaign_page
from tallycast.dashboard.faults import answer_fault
from tallycast.dashboard.guard import check_viewer
from tallycast.summaries import Campaign
from tallycast.watches import LOOK_SECONDS, Watches
from tallycast.web.edge import Edge
from tallycast.web.services import make_services


@pytest.fixture
def house(server: Server, database_url: str) -> House:
    return make_house(server.url, database_url)


@pytest.fixture
def shop(house: House, client: httpx.Client) -> App:
    async def make() -> str:
        async with db.connect(house.database_url) as connection:
            return (await apps.create_token(connection, house.app_id)).plain

    return App(house.server_url, house.app_id, asyncio.run(make()), client)


class Stream:
    """A browser's stream of events, read in a thread: (event, data) in order."""

    def __init__(self, browser: Browser, path: str) -> None:
        self.events: list[tuple[str, str]] = []
        self.is_over = False
        self._thread = threading.Thread(target=self._read, args=[browser, path], daemon=True)
        self._thread.start()

    def _read(self, browser: Browser, path: str) -> None:
        try:
            with browser.client.stream("GET", path, timeout=60) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                event, data = "", list[str]()
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name == "event":
                        event = value
                    elif name == "data":
                        data.append(value)
                    elif not line and event:
                        self.events.append((event, "\n".join(data)))
                        event, data = "", []
        finally:
            self.is_over = True

    def figures(self) -> list[dict[str, str]]:
        """The figures of each `figures` event."""
        return [
            {tag.attributes["id"].removeprefix("figure-"): tag.text for tag in Page(data).find_all("a")}
            for event, data in self.events
            if event == "figures"
        ]


def rest(house: House, campaign: str) -> None:
    """Let it be long ago that something of the campaign changed."""
    with psycopg.connect(house.database_url) as connection:
        connection.execute(
            "update counts set changed_at = now() - interval '1 hour' where app_id = %s and campaign_id = %s",
            [house.app_id, int(campaign)],
        )


def test_figures_move_after_a_receipt_and_the_stream_ends_when_nothing_moves(house: House, shop: App) -> None:
    channel = shop.add_channel()
    campaign = shop.record(channel, ["live-1", "live-2"])
    browser = house.enter("viewer")
    path = f"/apps/{house.app_id}/campaigns/{campaign}"
    browser.get(path)
    assert browser.page.find("div", **{"hx-ext": "sse"}).attributes["sse-connect"] == f"{path}/live"
    stream = Stream(browser, f"{path}/live")
    wait_for(stream.figures)
    assert stream.figures()[-1]["delivered"] == "0"
    shop.post_receipts(channel, {"messageID": "live-1", "status": "delivered"})
    wait_for(lambda: stream.figures()[-1]["delivered"] == "1")
    assert stream.figures()[-1]["pending"] == "1"
    rest(house, campaign)
    wait_for(lambda: stream.is_over)
    assert [event for event, _ in stream.events][-2:] == ["sides", "end"]
    browser.get(path)
    assert browser.page.find_all("div", **{"hx-ext": "sse"}) == []


def test_events_speak_the_viewers_language_and_its_names_do_nothing(house: House, shop: App) -> None:
    campaign = shop.record(shop.add_channel(), ["lang-1"])
    browser = house.enter("viewer")
    browser.client.cookies.set("tallycast_language", "zh-Hant", domain="127.0.0.1")
    stream = Stream(browser, f"/apps/{house.app_id}/campaigns/{campaign}/live")
    wait_for(stream.figures)
    assert "已送達" in stream.events[0][1]
    rest(house, campaign)
    wait_for(lambda: stream.is_over)


def test_a_server_that_stops_lets_its_viewers_go_at_once(
    data_dir: Path, database_url: str, client: httpx.Client
) -> None:
    server = start_server(data_dir)
    house = make_house(server.url, database_url)

    async def make() -> str:
        async with db.connect(database_url) as connection:
            return (await apps.create_token(connection, house.app_id)).plain

    shop = App(server.url, house.app_id, asyncio.run(make()), client)
    campaign = shop.record(shop.add_channel(), ["stop-1"])
    stream = Stream(house.enter("viewer"), f"/apps/{house.app_id}/campaigns/{campaign}/live")
    wait_for(stream.figures)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 15
    wait_for(lambda: stream.is_over)
    # No `end`: a browser comes again, and finds another process or the next server.
    assert [event for event, _ in stream.events] == ["figures"]


class Looks:
    """The way to the database, and how often it was taken."""

    def __init__(self, pool: db.Pool) -> None:
        self.count = 0
        self._pool = pool

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[db.Connection]:
        self.count += 1
        async with self._pool.connection() as connection:
            yield connection


@pytest.mark.anyio
async def test_two_hundred_viewers_cost_one_look_a_second_and_all_see_each_change(
    connection: db.Connection, database_url: str
) -> None:
    stage = await make_stage(connection)
    channel = await stage.add_channel()
    campaign_id = await stage.sent(channel, "m-0", "m-1")
    pool = db.make_pool(database_url, 2)
    await pool.open(wait=True)
    looks = Looks(pool)
    hub = Watches(looks.connect)
    seen: list[list[Campaign]] = [[] for _ in range(200)]

    async def follow(n: int) -> None:
        async for found in hub.follow(stage.app_id, campaign_id):
            if found is not None:
                seen[n].append(found)

    began = time.monotonic()
    viewers = [asyncio.create_task(follow(n)) for n in range(200)]

    async def all_see(delivered: int) -> None:
        async def do() -> bool:
            return all(one and one[-1].delivered == delivered for one in seen)

        await until(do)

    await all_see(0)
    await stage.apply(channel, says("m-0", "delivered"))
    await all_see(1)
    await stage.apply(channel, says("m-1", "delivered"))
    await all_see(2)
    assert looks.count <= (time.monotonic() - began) / LOOK_SECONDS + 1
    assert all([found.delivered for found in one] == [0, 1, 2] for one in seen)
    await connection.execute(
        b"update counts set changed_at = now() - interval '1 hour' where campaign_id = %s and app_id = %s",
        [campaign_id, stage.app_id],
    )
    await asyncio.gather(*viewers)
    assert hub._watches == {}  # noqa: SLF001 - nobody looks, so nothing is asked
    await pool.close()


@pytest.mark.anyio
async def test_whoever_leaves_early_takes_the_watch_with_them(
    connection: db.Connection, database_url: str
) -> None:
    stage = await make_stage(connection)
    campaign_id = await stage.sent(await stage.add_channel(), "m-0")
    pool = db.make_pool(database_url, 2)
    await pool.open(wait=True)
    hub = Watches(pool.connection)
    one, other = (hub.follow(stage.app_id, campaign_id) for _ in range(2))
    assert (await anext(one), await anext(other)) == (await anext(hub.follow(stage.app_id, campaign_id)),) * 2
    await one.aclose()
    hub.close()
    assert [found async for found in other] == []
    assert [found async for found in hub.follow(stage.app_id, campaign_id)] == []
    await pool.close()


@pytest.mark.parametrize(
    ("stage", "age", "due", "moves"),
    [
        ("sending", 86_400, None, True), ("sent", 60, None, True), ("sent", 300, None, False), (None, 60, None, True),
        (None, 300, None, False), ("scheduled", 86_400, 300, True), ("scheduled", 0, 86_400, False),
        ("scheduled", 86_400, -60, True), ("paused", 60, None, True), ("cancelled", 300, None, False),
    ],
)  # fmt: skip
def test_a_campaign_moves_while_it_is_sent_or_soon_will_be_or_has_just_changed(
    stage: str | None, age: int, due: int | None, moves: bool
) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    found = Campaign(
        total=2, delivered=0, read=0, replied=0, pending=1, failed=0, queued=1, campaign_id=1, sent_at=now, name="",
        type="sms", created_by="", phone="", channel_name="", source_name="", sender_eid="", subject="", stage=stage,
        content="", changed_at=now - timedelta(seconds=age), channel_id="", kind=None,
        scheduled_at=None if due is None else now + timedelta(seconds=due), paused_reason=None,
    )  # fmt: skip
    assert watches.is_moving(found, now) is moves


@pytest.mark.anyio
async def test_the_first_paint_takes_the_same_few_queries_however_many_recipients_there_are(
    connection: db.Connection, database_url: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = await make_stage(connection)
    channel = await stage.add_channel()
    queries: list[bytes] = []
    execute = psycopg.AsyncCursor.execute

    async def note(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        queries.append(query)
        return await execute(self, query, *args, **options)

    made = await staff.create(
        connection, f"{stage.app_id}@x.example".lower(), "Mei", stage.app_id, is_owner=True
    )
    token = await sessions.start(connection, made.staff_id, "")
    services = make_services(Settings(data_dir=server.data_dir), database_url)
    await services.pool.open(wait=True)
    router = Router(
        "/",
        guards=[check_viewer],
        exception_handlers={Exception: answer_fault},
        route_handlers=[campaign_page.show_campaign],
    )
    with warnings.catch_warnings(category=DeprecationWarning, action="ignore"):
        application = Litestar([router], state=State({"services": services}), openapi_config=None)
    edge = Edge(application, ())

    async def ask(scope: Any, receive: Any, send: Any) -> None:
        await edge({**scope, "state": {}}, receive, send)

    counts = []
    cookies, transport = {"tallycast_session": token}, httpx.ASGITransport(ask)
    async with httpx.AsyncClient(transport=transport, base_url="http://here", cookies=cookies) as browser:
        for size in (3, 300):
            campaign_id = await stage.sent(channel, *(f"{size}-{n}" for n in range(size)))
            await stage.apply(channel, says(f"{size}-0", "failed", code="1"), says(f"{size}-1", "read"))
            with monkeypatch.context() as patch:
                patch.setattr(psycopg.AsyncCursor, "execute", note)
                queries.clear()
                answer = await browser.get(f"/apps/{stage.app_id}/campaigns/{campaign_id}")
                assert answer.status_code == 200
                counts.append(len(queries))
    await services.pool.close()
    assert counts == [2, 2]  # who looks, and the campaign with its counts
    assert not any(b"from messages" in query for query in queries)
