"""Where no worker runs, the API and the command line say so, and what to do."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import App, Server, start_server, wait_for
from tallycast import audience, db, embedded
from tallycast.keys import Cipher

FILE = b"Recipients Number,name\n+85291000000,Mei\n+85291000001,Ann\n"
NO_WORKER = (
    "No worker looks after it: start `tallycast worker`, or serve with --background-workers 1 or more. "
    "Where one runs, its log says what keeps it"
)


@pytest.fixture(scope="module")
def idle(data_dir: Path) -> Iterator[Server]:
    """A server without a worker, with a database of its own."""
    started = start_server(
        data_dir / "idle", "--background-workers", "0", "--public-url", "https://l.example.com"
    )
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def url(idle: Server) -> Iterator[str]:
    """That server's database."""
    database = embedded.start(idle.data_dir)
    yield database.url
    database.stop()


@pytest.fixture
def lonely(idle: Server, make_app: Callable[[Server], App]) -> App:
    return make_app(idle)


def make_draft(app: App) -> str:
    credentials = {"baseURL": "https://s.example.com", "apiKey": "k"}
    channel = app.add_channel(type="sms", provider="sandbox", phone="SHOP", credentials=credentials)
    body = {"campaignName": "Sale", "kind": "smsDynamic", "channelID": channel, "content": "Hi {{name}}"}
    made: str = app.result("POST", "/campaigns", json=body)["id"]
    return made


async def import_now(url: str, app_id: str, import_id: str) -> None:
    """As a worker does."""
    async with db.make_pool(url, 2) as pool:
        await audience.run_import(pool, Cipher(bytes(32)), app_id, import_id)


def test_an_import_and_a_campaign_that_nobody_takes_say_so(idle: Server, url: str, lonely: App) -> None:
    campaign = make_draft(lonely)
    path = f"/campaigns/{campaign}"
    headers = {"Content-Type": "text/csv"}
    waiting = lonely.result("POST", f"{path}/audience", content=FILE, headers=headers)
    assert (waiting["state"], "waitingFor" in waiting) == ("waiting", False)

    def view() -> dict[str, Any]:
        found: dict[str, Any] = lonely.result("GET", f"{path}/audience/{waiting['id']}")
        return found

    assert wait_for(lambda: view().get("waitingFor")) == {"reason": NO_WORKER}
    [listed] = lonely.result("GET", f"{path}/audience")
    assert listed["waitingFor"] == {"reason": NO_WORKER}
    again = lonely.request("POST", f"{path}/audience", content=FILE, headers=headers)
    assert again.status_code == 422, "the first one is not done"

    asyncio.run(import_now(url, lonely.app_id, waiting["id"]))
    assert (view()["state"], "waitingFor" in view()) == ("done", False)
    assert lonely.request("POST", f"{path}/start").is_success
    assert "waitingFor" not in lonely.result("GET", path)
    found = wait_for(lambda: lonely.result("GET", path).get("waitingFor"))
    assert found == {"reason": NO_WORKER}
    shown = idle.run("campaign", "show", "--app", lonely.app_id, campaign)
    assert f"waitingFor       {NO_WORKER}\n" in shown
    told = json.loads(idle.run("campaign", "show", "--json", "--app", lonely.app_id, campaign))
    assert told["waitingFor"] == {"reason": NO_WORKER}
