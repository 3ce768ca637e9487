"""One report, every rendering: a period's figures are the same wherever somebody looks."""

import asyncio
import csv
import io
import json
import re
import sys
from collections.abc import Callable
from datetime import datetime
from itertools import zip_longest
from typing import Any

import httpx
import openpyxl
import pytest
from mcp import Client as Assistant
from mcp import StdioServerParameters
from pyarrow import parquet

from dashboard import House, make_house
from harness import App, Server, wait_for
from tallycast import apps, db
from tallycast_client import Client
from terminal import PLACES, Place, Terminal

FIGURES = ("totalRecipients", "delivered", "read", "replied", "pending", "failed")
PERIOD = {"startAt": "2026-11-01T00:00:00Z", "endAt": "2026-12-01T00:00:00Z"}
Figures = dict[str, tuple[Any, ...]]
# By name. The contract leaves out most figures of an SMS campaign; the page and its files have all that are known.
BY_CONTRACT: Figures = {"November sale": (5, 3, 2, 1, 1, 1), "Reminder": (3, 2, None, None, None, None)}
IN_FULL: Figures = {"November sale": (5, 3, 2, 1, 1, 1), "Reminder": (3, 2, None, 0, 1, 0)}
Look = Callable[["Desk"], Figures]


class Desk:
    def __init__(self, server: Server, database_url: str, client: httpx.Client) -> None:
        self.server = server
        self.house: House = make_house(server.url, database_url)
        self.app = App(server.url, self.house.app_id, asyncio.run(_make_token(self.house)), client)


async def _make_token(house: House) -> str:
    async with db.connect(house.database_url) as connection:
        return (await apps.create_token(connection, house.app_id)).plain


@pytest.fixture(scope="module")
def desk(server: Server, database_url: str, client: httpx.Client) -> Desk:
    desk = Desk(server, database_url, client)
    app, whatsapp = desk.app, desk.app.add_channel()
    sms = app.add_channel(type="sms", phone="SHOP")
    app.record(
        whatsapp, ["w0", "w1", "w2", "w3", "w4"], campaignName="November sale", date="2026-11-20T08:00:00Z"
    )
    app.record(sms, ["s0", "s1", "s2"], campaignName="Reminder", date="2026-11-10T08:00:00Z")
    app.record(whatsapp, ["o0"], campaignName="October", date="2026-10-31T23:59:59.999Z")
    app.post_receipts(
        whatsapp,
        {"messageID": "w0", "status": "read"},
        {"messageID": "w1", "status": "read"},
        {"messageID": "w2", "status": "delivered"},
        {"messageID": "w3", "status": "failed", "errorCode": "131026", "errorTitle": "Undeliverable"},
    )
    app.post_receipts(
        sms, {"messageID": "s0", "status": "delivered"}, {"messageID": "s1", "status": "delivered"}
    )
    campaign = app.summary()[0]["id"]
    link = app.result("POST", f"/sent-campaigns/{campaign}/links", json={"url": "https://shop.example.com/"})[
        "links"
    ][0]["url"]
    phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"
    path = httpx.URL(link).path
    assert client.get(f"{server.url}{path}", headers={"User-Agent": phone}).status_code == 302
    wait_for(lambda: app.summary()[0]["replied"] == 1)
    return desk


def of_rows(rows: list[dict[str, Any]]) -> Figures:
    return {row["campaignName"]: tuple(row.get(name) for name in FIGURES) for row in rows}


def of_text(rows: list[dict[str, str]]) -> Figures:
    """The same from cells."""
    return of_rows(
        [{name: int(text) if name in FIGURES else text for name, text in row.items() if text} for row in rows]
    )


def ask_api(desk: Desk) -> Figures:
    return of_rows(desk.app.summary(**PERIOD))


def ask_changes(desk: Desk) -> Figures:
    found = desk.app.result("GET", "/data/campaign-changes")["campaigns"]
    return of_rows([row for row in found if row["date"] >= PERIOD["startAt"]])


def look_at_page(desk: Desk) -> Figures:
    browser = desk.house.enter("viewer")
    browser.get(
        f"/apps/{desk.app.app_id}/campaigns?period=custom&from=2026-11-01T00:00&until=2026-12-01T00:00"
    )
    names = [
        tag.text
        for tag in browser.page.find_all("a")
        if re.search(r"/campaigns/\d+$", tag.attributes["href"])
    ]
    cells = [tag.text.split()[0] if tag.text else "" for tag in browser.page.find_all("td")]
    width = len(cells) // len(names)
    found: Figures = {}
    for n, name in enumerate(names):
        # sent, sender, recipients, delivered, read, replied, awaiting receipt, failed, queued
        shown = cells[n * width + 2 : n * width + 8]
        found[name] = tuple(int(text) if text.isdecimal() else None for text in shown)
    return found


def run_report(place: Place) -> Look:
    def look(desk: Desk) -> Figures:
        terminal = Terminal(desk.server, desk.app, place)
        period = ("--from", PERIOD["startAt"], "--to", PERIOD["endAt"])
        found = of_rows(json.loads(terminal.run("report", "summary", *period, "--format", "json")))
        assert (
            of_text(
                list(
                    csv.DictReader(io.StringIO(terminal.run("report", "summary", *period, "--format", "csv")))
                )
            )
            == found
        )
        return found

    return look


def export(desk: Desk, format_: str) -> bytes:
    answer = desk.app.request("GET", "/exports/campaigns", params={**PERIOD, "format": format_})
    assert answer.status_code == 200
    return answer.content


def read_csv(desk: Desk) -> Figures:
    return of_text(list(csv.DictReader(io.StringIO(export(desk, "csv").decode()))))


def read_ndjson(desk: Desk) -> Figures:
    return of_rows([json.loads(line) for line in export(desk, "ndjson").splitlines()])


def read_xlsx(desk: Desk) -> Figures:
    sheet = openpyxl.load_workbook(io.BytesIO(export(desk, "xlsx")), read_only=True).worksheets[0]
    header, *rows = sheet.iter_rows(values_only=True)
    return of_rows([dict(zip_longest(map(str, header), row)) for row in rows])


def read_parquet(desk: Desk) -> Figures:
    return of_rows(parquet.read_table(io.BytesIO(export(desk, "parquet"))).to_pylist())


def use_client(desk: Desk) -> Figures:
    with Client(desk.server.url, desk.app.app_id, desk.app.token) as client:
        start, end = (datetime.fromisoformat(PERIOD[name]) for name in ("startAt", "endAt"))
        return {
            one.campaign_name: (
                one.total_recipients,
                one.delivered,
                one.read,
                one.replied,
                one.pending,
                one.failed,
            )
            for one in client.sent_campaigns(start=start, end=end)
        }


def ask_assistant(desk: Desk) -> Figures:
    environ = {"TALLYCAST_URL": desk.server.url, "TALLYCAST_TOKEN": desk.app.token}
    parameters = StdioServerParameters(command=sys.executable, args=["-m", "tallycast", "mcp"], env=environ)

    async def ask() -> Any:
        async with Assistant(parameters, read_timeout_seconds=60) as assistant:
            query = {"start_at": PERIOD["startAt"], "end_at": PERIOD["endAt"]}
            answer = await assistant.call_tool("sent_campaigns_summary", query)
            return answer.structured_content

    return of_rows(asyncio.run(ask())["campaigns"])


@pytest.mark.parametrize(
    "look",
    [ask_api, ask_changes, *map(run_report, PLACES), use_client, ask_assistant],
    ids=["API", "change feed", *(f"command line, {place}" for place in PLACES), "client", "MCP"],
)
def test_a_periods_figures_are_the_same_wherever_the_contract_is_answered(desk: Desk, look: Look) -> None:
    assert look(desk) == BY_CONTRACT


@pytest.mark.parametrize(
    "look",
    [look_at_page, read_csv, read_ndjson, read_xlsx, read_parquet],
    ids=["dashboard", "CSV", "NDJSON", "XLSX", "Parquet"],
)
def test_a_periods_figures_are_the_same_on_the_page_and_in_its_files(desk: Desk, look: Look) -> None:
    assert look(desk) == IN_FULL
