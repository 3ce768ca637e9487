"""The pages that read: figures as the summary has them, filters, and behind each figure exactly its people."""

import asyncio
import html
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import psycopg
import pytest

from dashboard import Browser, House, Page, make_house
from harness import App, Server
from tallycast import apps, db

PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"
NASTY = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;{{ t }}"


@pytest.fixture
def house(server: Server, database_url: str) -> House:
    return make_house(server.url, database_url)


@pytest.fixture
def shop(house: House, client: httpx.Client) -> App:
    """The house's app, as another system that tells it of campaigns."""

    async def make() -> str:
        async with db.connect(house.database_url) as connection:
            await connection.execute(
                b"update apps set time_zone = 'Asia/Hong_Kong' where app_id = %s", [house.app_id]
            )
            return (await apps.create_token(connection, house.app_id)).plain

    return App(house.server_url, house.app_id, asyncio.run(make()), client)


def tell(shop: App, channel: str, names: list[str], **fields: Any) -> str:
    """A campaign to eight: two have read, one has it, two failed, two wait (one chose a button), one is queued."""
    ids = [*(f"{uuid.uuid4()}" for _ in range(7)), None]
    campaign = shop.record(channel, ids, **fields)
    a, b, c, d, e, *_ = ids
    shop.post_receipts(
        channel,
        {"messageID": a, "status": "read"},
        {"messageID": b, "status": "read"},
        {"messageID": c, "status": "delivered"},
        {"messageID": d, "status": "failed", "errorCode": "131026", "errorTitle": names[0]},
        {"messageID": e, "status": "failed", "errorCode": "131026", "errorTitle": names[1]},
    )
    links = shop.result(
        "POST", f"/sent-campaigns/{campaign}/links", json={"url": "https://shop.example.com/a?b=<i>"}
    )
    for n in (0, 0, 1):
        path = urlsplit(links["links"][n]["url"]).path
        assert shop.client.get(f"{shop.server_url}{path}", headers={"User-Agent": PHONE}).status_code == 302
    return campaign


def rows_of(browser: Browser) -> list[str]:
    """The first cell of each row of the page's table."""
    return [tag.text for tag in browser.page.find_all("th", scope="row")]


def names_of(browser: Browser) -> list[str]:
    return [
        tag.text
        for tag in browser.page.find_all("a")
        if re.search(r"/campaigns/\d+$", tag.attributes["href"])
    ]


def add_campaigns(house: House, amount: int) -> None:
    """Campaigns with totals and no recipients, five minutes apart, some at the same moment."""
    with psycopg.connect(house.database_url) as connection:
        connection.execute(
            "insert into campaigns (app_id, campaign_id, channel_number, type, name, phone, sent_at) "
            "select %s, n, 1, case when n %% 4 = 0 then 'sms' else 'whatsApp' end, 'No ' || n, '+85230001234', "
            "timestamptz '2026-10-01T00:00:00Z' + (n / 3) * interval '5 minutes' from generate_series(1, %s) n",
            [house.app_id, amount],
        )
        connection.execute(
            "insert into counts (app_id, campaign_id, total, delivered, pending, failed, read) "
            "select app_id, campaign_id, 1000, campaign_id, 999 - campaign_id, 1, campaign_id / 2 from campaigns "
            "where app_id = %s and phone = '+85230001234'",
            [house.app_id],
        )


def test_the_list_has_the_figures_of_the_summary_with_rates_and_what_waits_beside_them(
    house: House, shop: App
) -> None:
    tell(shop, shop.add_channel(), ["x", "y"], campaignName="Spring sale", date="2026-11-20T16:30:00Z")
    browser = house.enter("viewer")
    browser.get(f"/apps/{house.app_id}/campaigns")
    [summary] = shop.summary()
    assert (summary["totalRecipients"], summary["delivered"], summary["read"], summary["failed"]) == (
        8,
        3,
        2,
        2,
    )
    cells = [tag.text for tag in browser.page.find_all("td")]
    # sent, sender, recipients, delivered, read, replied, awaiting receipt, failed, queued
    assert cells[0] == "2026-11-21 00:30"
    assert cells[2:] == ["8", "3 42.9%", "2 66.7%", "3", "2", "2 28.6%", "1"]
    assert "Spring sale" in rows_of(browser)[0]
    assert browser.page.find("button", **{"data-copy": summary["id"]}).text == "Copy"


def test_totals_are_the_sum_of_the_list_and_read_rates_leave_sms_out(house: House, shop: App) -> None:
    tell(shop, shop.add_channel(), ["x", "y"])
    sms, arrived = shop.add_channel(type="sms", phone="SHOP"), f"{uuid.uuid4()}"
    shop.record(sms, [arrived])
    shop.post_receipts(sms, {"messageID": arrived, "status": "delivered"})
    browser = house.enter("viewer")
    browser.get(f"/apps/{house.app_id}/campaigns/totals")
    assert [" ".join(tag.text.split()) for tag in browser.page.find_all("dd")] == [
        "2", "9", "4 50.0%", "2 66.7%", "3", "2", "2 25.0%", "1",
    ]  # fmt: skip
    part = browser.client.get(f"/apps/{house.app_id}/campaigns/totals", headers={"HX-Request": "true"})
    assert "<main" not in part.text
    browser.get(f"/apps/{house.app_id}/campaigns/totals", params={"channel": "sms"})
    assert [tag.text for tag in browser.page.find_all("dd")][:2] == ["1", "1"]


def test_campaigns_are_found_by_name_id_channel_and_period_of_the_apps_own_clock(
    house: House, shop: App
) -> None:
    whatsapp, sms = shop.add_channel(), shop.add_channel(type="sms", phone="SHOP")
    # 21 November in Hong Kong begins at 16:00Z of the 20th.
    shop.record(whatsapp, ["w-1"], campaignName="Spring SALE", date="2026-11-20T15:59:00Z")
    late = shop.record(sms, ["s-1"], campaignName="Reminder", date="2026-11-20T16:00:00Z")
    today = shop.record(whatsapp, ["w-2"], campaignName="Today 100%_")
    browser, base = house.enter("viewer"), f"/apps/{house.app_id}/campaigns"

    def found(**params: str) -> list[str]:
        assert browser.get(base, params=params).status_code == 200
        return names_of(browser)

    assert found() == ["Today 100%_", "Reminder", "Spring SALE"]
    assert found(q="sale") == ["Spring SALE"]
    assert found(q="0%_") == ["Today 100%_"]
    assert found(q=late) == ["Reminder"]
    assert found(q="e", channel="whatsApp") == ["Spring SALE"]
    assert found(channel="sms") == ["Reminder"]
    assert found(period="today") == ["Today 100%_"]
    assert found(period="yesterday") == []
    assert found(period="custom", **{"from": "2026-11-21T00:00", "until": "2026-11-21T00:01"}) == ["Reminder"]
    assert found(period="custom", until="2026-11-21T00:00") == ["Spring SALE"]
    assert found(sort="name") == ["Reminder", "Spring SALE", "Today 100%_"]
    assert found(sort="date") == ["Spring SALE", "Reminder", "Today 100%_"]
    assert today in browser.page.markup
    answer = browser.get(base, params={"period": "custom", "from": "soon"})
    assert answer.status_code == 422
    assert "from must be a date like 2026-11-23" in browser.page.text
    for wrong in ("sort=wrong", "channel=fax", "cursor=1", "before=x.y", "stage=gone", "offset=x"):
        assert browser.get(f"{base}?{wrong}").status_code == 400


@pytest.mark.parametrize("sort", ["-date", "date", "name", "-delivered", "read", "-queued"])
def test_pages_give_each_campaign_once_in_order_forth_and_back(house: House, sort: str) -> None:
    add_campaigns(house, 130)
    browser, seen = house.enter("viewer"), list[list[str]]()
    browser.get(f"/apps/{house.app_id}/campaigns", params={"sort": sort})
    while True:
        seen.append(names_of(browser))
        following = browser.page.find_all("a", rel="next")
        if not following:
            break
        browser.get(following[0].attributes["href"])
    assert [len(page) for page in seen] == [50, 50, 30]
    numbers = [int(name.removeprefix("No ")) for page in seen for name in page]
    assert sorted(numbers) == list(range(1, 131))
    expected: dict[str, list[int]] = {
        "-date": sorted(numbers, key=lambda n: (n // 3, n), reverse=True),
        "date": sorted(numbers, key=lambda n: (n // 3, n)),
        "name": sorted(numbers, key=lambda n: f"no {n}"),
        "-delivered": sorted(numbers, reverse=True),
    }
    if sort in expected:
        assert numbers == expected[sort]
    for page in seen[-2::-1]:
        browser.get(browser.page.find("a", rel="prev").attributes["href"])
        assert names_of(browser) == page
    assert browser.page.find_all("a", rel="prev") == []


def test_figures_of_a_campaign_lead_to_exactly_the_people_behind_them(house: House, shop: App) -> None:
    campaign = tell(shop, shop.add_channel(), ["Undeliverable", "Not on WhatsApp"])
    browser, base = house.enter("viewer"), f"/apps/{house.app_id}/campaigns/"
    base += campaign
    browser.get(base)
    figures = {
        tag.attributes["id"].removeprefix("figure-"): tag.text
        for tag in browser.page.find_all("a")
        if tag.attributes.get("id", "").startswith("figure-")
    }
    assert figures == {
        "total": "8", "queued": "1", "sent": "7", "pending": "2", "delivered": "3", "read": "2", "replied": "3",
        "failed": "2",
    }  # fmt: skip
    sides = [
        tag.attributes["href"] for tag in browser.page.find_all("a") if "/insights/" in tag.attributes["href"]
    ]
    assert len(sides) == 6
    links = people_links(browser.page)
    for side in sides:
        browser.get(side)
        links |= people_links(browser.page)
    # Clicks count each time, and people once: three answers are two people.
    links[f"{base}/recipients?state=replied"] = {"2"}
    assert len(links) == 16
    for link, texts in links.items():
        assert browser.get(link).status_code == 200
        assert texts == {str(len(rows_of(browser)))}, link
    browser.get(f"{base}/recipients", params={"state": "failed"})
    assert "2 recipients" in browser.page.text
    browser.get(f"{base}/recipients", params={"state": "failed", "country": "HK"})
    assert " recipients" not in browser.page.text


def people_links(page: Page) -> dict[str, set[str]]:
    """Each link to recipients that has a figure, and which."""
    found: dict[str, set[str]] = {}
    for tag in page.find_all("a"):
        if "/recipients" in tag.attributes["href"] and tag.text.isdecimal():
            found.setdefault(tag.attributes["href"], set()).add(tag.text)
    return found


def test_sides_tell_reasons_countries_links_and_moments_without_scripts(house: House, shop: App) -> None:
    campaign = tell(shop, shop.add_channel(), ["Undeliverable", "Undeliverable"])
    browser, base = house.enter("viewer"), f"/apps/{house.app_id}/campaigns/{campaign}/insights"
    browser.get(f"{base}/failures")
    assert [tag.text for tag in browser.page.find_all("td")] == [
        "The title has the provider's own words; its documentation or its support knows more.", "generic 131026", "2",
    ]  # fmt: skip
    browser.get(f"{base}/countries")
    assert rows_of(browser) == ["Hong Kong (HK)"]
    assert [tag.text for tag in browser.page.find_all("td")] == ["8", "3 37.5%", "2", "2"]
    browser.get(f"{base}/links")
    assert rows_of(browser) == ["https://shop.example.com/a?b=<i>"]
    assert [tag.text for tag in browser.page.find_all("td")] == ["2", "3", "0", "3"]
    browser.get(f"{base}/timeline")
    columns = [
        sum(int(tag.attributes["data-value"]) for tag in browser.page.find_all("td")[n::6])
        for n in range(1, 6)
    ]
    assert columns == [7, 3, 2, 2, 3]
    part = browser.client.get(f"{base}/people", headers={"HX-Request": "true"})
    assert "<main" not in part.text
    assert "66.7%" in part.text
    assert browser.get(f"{base}/secrets").status_code == 404


def test_recipients_are_found_by_state_reason_and_number_in_any_spelling(house: House, shop: App) -> None:
    campaign = tell(shop, shop.add_channel(), ["One", "Two"])
    browser, base = house.enter("viewer"), f"/apps/{house.app_id}/campaigns/{campaign}/recipients"

    def found(**params: str) -> list[str]:
        assert browser.get(base, params=params).status_code == 200
        return rows_of(browser)

    assert found(number="852 9100 0003") == ["+85291000003"]
    assert len(found(number="8529100")) == 8
    assert found(state="failed", reason='["generic","131026","Two"]') == ["+85291000004"]
    assert len(found(country="HK")) == 8
    assert found(country="none") == []
    browser.get(base, params={"more": "1", "state": "failed"})
    options = {tag.attributes["value"] for tag in browser.page.find_all("option")}
    assert {"HK", '["generic","131026","One"]', "https://shop.example.com/a?b=<i>"} <= options
    assert browser.get(base, params={"number": "abc"}).status_code == 422
    assert "number must be a phone number" in browser.page.text
    assert browser.get(base, params={"reason": "[1]"}).status_code == 400


def test_a_long_list_of_recipients_goes_on_where_it_ended(house: House, shop: App) -> None:
    campaign = shop.record(shop.add_channel(), [f"{uuid.uuid4()}" for _ in range(120)])
    browser, seen = house.enter("viewer"), list[str]()
    browser.get(f"/apps/{house.app_id}/campaigns/{campaign}/recipients", params={"state": "pending"})
    while True:
        seen += rows_of(browser)
        following = browser.page.find_all("a", rel="next")
        if not following:
            break
        browser.get(following[0].attributes["href"])
    assert seen == [f"+852{91000000 + n}" for n in range(120)]


def test_a_recipients_story_is_told_in_order(house: House, shop: App) -> None:
    campaign = tell(shop, shop.add_channel(), ["x", "y"])
    browser, base = house.enter("viewer"), f"/apps/{house.app_id}/campaigns/{campaign}/recipients"
    browser.get(f"{base}/0")
    [story, *_] = browser.page.find_all("ol", **{"class": "story"})
    words = [tag.text for tag in browser.page.find_all("strong")]
    assert words == ["Handed over", "Read", "Followed a link", "Followed a link"]
    assert "https://shop.example.com/a?b=<i>" in story.text
    assert browser.page.find("h1").text == "+85291000000"
    browser.get(f"{base}/3")
    assert "131026" in browser.page.text
    for gone in ("99", "x", "9999999999999"):
        assert browser.get(f"{base}/{gone}").status_code == 404


def test_what_others_wrote_is_shown_as_it_is_and_does_nothing(house: House, shop: App) -> None:
    channel = shop.add_channel(channelName=NASTY)
    campaign = tell(
        shop, channel, [NASTY, "y"], campaignName=NASTY, createdBy=NASTY, subject=NASTY, content=NASTY
    )
    shop.post_receipts(channel, {"messageID": NASTY, "status": "failed", "errorTitle": NASTY})
    browser, base = house.enter("admin"), f"/apps/{house.app_id}"
    page = f"{base}/campaigns/{campaign}"
    for path in (
        f"{base}/campaigns?q={'<script>'}&period=custom&from=<script>", f"{base}/campaigns", page,
        f"{page}/insights/failures", f"{page}/insights/links", f"{page}/recipients",
        f"{page}/recipients?state=failed&more=1", f"{page}/recipients/3", f"{base}/attention",
        f"{page}/recipients?button=<script>&link=<script>&country=<script>&number=<script>",
    ):  # fmt: skip
        answer = browser.get(path)
        assert answer.status_code in {200, 422}, path
        assert re.search(r"<script(?! src=\"/static/)|<img src=x", answer.text) is None, path
        assert browser.page.unclosed == [], path
    browser.get(page)
    assert browser.page.find("h1").text == NASTY


def test_campaigns_of_another_app_are_not_there_in_this_one(house: House, shop: App) -> None:
    campaign = tell(shop, shop.add_channel(), ["x", "y"])
    stranger = house.enter("stranger")
    below = ("", "/insights/people", "/notice", "/live", "/recipients", "/recipients/0", "/unknown")
    for path in below:
        for app_id in (house.app_id, house.other_app):
            assert stranger.get(f"/apps/{app_id}/campaigns/{campaign}{path}").status_code == 404, path
    stranger.get(f"/apps/{house.other_app}/campaigns", params={"q": campaign})
    assert names_of(stranger) == []
    answer = stranger.get(f"/apps/{house.other_app}/exports/recipients", params={"campaign": campaign})
    assert answer.status_code == 404


def test_no_cache_keeps_a_download(house: House, shop: App) -> None:
    campaign = tell(shop, shop.add_channel(), ["x", "y"])
    browser = house.enter("viewer")
    for path in ("campaigns", f"recipients?campaign={campaign}"):
        answer = browser.get(f"/apps/{house.app_id}/exports/{path}")
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


def test_the_download_of_a_list_has_the_campaigns_of_the_list(house: House, shop: App) -> None:
    channel = shop.add_channel()
    shop.record(channel, ["d-1"], campaignName="Spring sale", date="2026-11-20T03:00:00Z")
    shop.record(channel, ["d-2"], campaignName="Spring, again", date="2026-11-22T03:00:00Z")
    shop.record(channel, ["d-3"], campaignName="Reminder", date="2026-11-20T03:00:00Z")
    browser = house.enter("viewer")
    browser.get(
        f"/apps/{house.app_id}/campaigns",
        params={"q": "spring", "period": "custom", "until": "2026-11-21T00:00"},
    )
    assert names_of(browser) == ["Spring sale"]
    [link] = [
        tag.attributes["href"]
        for tag in browser.page.find_all("a")
        if "exports/campaigns" in tag.attributes["href"] and tag.text == "CSV"
    ]
    answer = browser.client.get(link)
    assert answer.headers["content-type"].startswith("text/csv")
    assert [line.split(",")[2] for line in answer.text.splitlines()[1:]] == ['"Spring sale"']
    assert parse_qs(urlsplit(link).query)["search"] == ["spring"]


def test_receipts_without_a_message_are_shown_with_their_age(house: House, shop: App) -> None:
    channel = shop.add_channel()
    shop.post_receipts(channel, {"messageID": "nobody-knows", "status": "delivered"})
    browser = house.enter("viewer")
    part = browser.client.get(f"/apps/{house.app_id}/attention", headers={"HX-Request": "true"})
    assert "1 receipt without a known message." in html.unescape(part.text)
    browser.get(f"/apps/{house.app_id}/attention")
    assert rows_of(browser) == ["nobody-knows"]
    with psycopg.connect(house.database_url) as connection:
        connection.execute(
            "update parked set parked_at = %s where app_id = %s",
            [datetime.now(UTC) - timedelta(hours=3, minutes=5), house.app_id],
        )
    browser.get(f"/apps/{house.app_id}/attention")
    assert [tag.text for tag in browser.page.find_all("td")][-1] == "3 h 5 min"
    quiet = house.enter("stranger")
    quiet.get(f"/apps/{house.other_app}/attention")
    assert "Nothing waits for you" in quiet.page.text


def make_unknown(house: House, shop: App) -> str:
    """A paused campaign of two recipients of whom nobody knows whether they have it."""
    channel = shop.add_channel(
        type="sms", provider="sandbox", phone="SHOP", credentials={"baseURL": "https://sandbox.example.com"}
    )
    body = {
        "campaignName": "Lost",
        "kind": "smsDynamic",
        "channelID": channel,
        "content": "Hi",
        "createdBy": "Mei",
    }
    campaign: str = shop.result("POST", "/campaigns", json=body)["id"]
    file = {"content": b"recipient\n+85261234567\n+85261234568\n", "headers": {"Content-Type": "text/csv"}}
    shop.result("POST", f"/campaigns/{campaign}/audience", params={"wait": 30}, **file)
    key = [house.app_id, int(campaign)]
    with psycopg.connect(house.database_url) as connection:
        connection.execute(
            "update sendings set stage = 'paused', next_seq = 2 where app_id = %s and campaign_id = %s", key
        )
        connection.execute(
            "update messages set accepted_at = now() - interval '2 hours' where app_id = %s and campaign_id = %s",
            key,
        )
        connection.execute(
            "update counts set queued = 0, pending = 2 where app_id = %s and campaign_id = %s", key
        )
        connection.execute(
            "insert into handovers (app_id, campaign_id, seq, channel_number, status, reason, attempts) "
            "select app_id, campaign_id, seq, channel_number, 'unknown', 'no answer within 30 s', 1 from messages "
            "where app_id = %s and campaign_id = %s",
            key,
        )
    return campaign


def test_an_editor_settles_unknown_outcomes_and_a_viewer_only_sees_them(house: House, shop: App) -> None:
    campaign = make_unknown(house, shop)
    viewer, editor = house.enter("viewer"), house.enter("editor")
    path = f"/apps/{house.app_id}/campaigns/{campaign}"
    viewer.get(path)
    assert "2 messages of unknown outcome." in viewer.page.text
    viewer.get(f"{path}/unknown")
    assert rows_of(viewer) == ["+85261234567", "+85261234568"]
    assert "2 h" in viewer.page.text
    assert viewer.page.find_all("input", type="checkbox") == []
    assert viewer.post(f"{path}/unknown", verdict="sent", whom="all").status_code == 403
    editor.get(f"{path}/unknown")
    assert editor.post(f"{path}/unknown", verdict="notSent", whom="chosen").status_code == 422
    assert "tick at least one recipient" in editor.page.text
    assert editor.post(f"{path}/unknown", whom="all").status_code == 422
    settled = editor.post(f"{path}/unknown", verdict="notSent", whom="chosen", recipient="+85261234568")
    assert settled.status_code == 303
    editor.follow()
    assert rows_of(editor) == ["+85261234567"]
    assert "Settled: 1" in editor.page.markup
    editor.get(f"{path}/recipients/1")
    assert f"Not sent, says staff {house.emails['editor']} (Editor)" in editor.page.text
    assert shop.result("GET", f"/campaigns/{campaign}")["totals"] == {
        "totalRecipients": 2, "queued": 0, "pending": 1, "delivered": 0, "read": 0, "failed": 1, "replied": 0,
    }  # fmt: skip


def test_drafts_and_paused_campaigns_stand_beside_the_list_of_those_that_were_sent(
    house: House, shop: App
) -> None:
    campaign = make_unknown(house, shop)
    browser, base = house.enter("viewer"), f"/apps/{house.app_id}/campaigns"
    browser.get(f"{base}?stage=paused")
    assert names_of(browser) == ["Lost"]
    browser.get(f"{base}?stage=draft")
    assert names_of(browser) == []
    browser.get(f"{base}/{campaign}")
    actor = shop.result("GET", f"/campaigns/{campaign}")["createdAs"]
    assert "Hi" in browser.page.find("p", **{"class": "said"}).text
    assert browser.page.find("ol", **{"class": "story"}).text.endswith(f"Created · {actor}")
