"""Sent-campaigns-detail: what became of each recipient, field by field and page by page."""

import json
from typing import Any

import pytest

from harness import App

DETAIL = "/data/sent-campaigns-detail"
DATE = "2026-11-20T03:00:00.000Z"


def detail(app: App, campaign: str, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = app.result("GET", DETAIL, params={"historyID": campaign, **params})
    return found


def test_a_whatsapp_recipient_has_the_fields_of_the_page_in_its_order(app: App) -> None:
    channel = app.add_channel(sourceName="Marketing")
    campaign = app.record(
        channel, ["m-1", "m-2", "m-3", "m-4", None], date=DATE, subject="spring_v3", content="no"
    )
    app.post_receipts(
        channel,
        {"messageID": "m-2", "status": "delivered", "timestamp": "2026-11-20T03:00:02.345678Z"},
        {"messageID": "m-3", "status": "delivered", "timestamp": "2026-11-20T03:00:03Z"},
        {"messageID": "m-3", "status": "read", "timestamp": "2026-11-20T03:00:07Z"},
        {"messageID": "m-4", "status": "failed", "timestamp": "2026-11-20T03:00:04Z", "errorCode": 131026,
         "errorTitle": "Message undeliverable"},
    )  # fmt: skip
    answer = app.request("GET", DETAIL, params={"historyID": campaign})
    assert list(answer.json()) == ["code", "result", "cid"]
    head = f'{{"id":"{campaign}","date":"{DATE}","sender":{{"phone":"+85230001234","channelName":"Shop","sourceName":"Marketing"}}'
    assert json.dumps(answer.json()["result"], separators=(",", ":")) == (
        f'[{head},"recipient":"+85291000000","subject":"spring_v3","status":"Pending","LastUpdatedDateTime":"{DATE}"}},'
        f'{head},"recipient":"+85291000001","subject":"spring_v3","status":"Delivered","LastUpdatedDateTime":"2026-11-20T03:00:02.345Z"}},'
        f'{head},"recipient":"+85291000002","subject":"spring_v3","status":"Read","LastUpdatedDateTime":"2026-11-20T03:00:07.000Z"}},'
        f'{head},"recipient":"+85291000003","subject":"spring_v3","status":"Failed",'
        '"failedReason":"131026: Message undeliverable","LastUpdatedDateTime":"2026-11-20T03:00:04.000Z"},'
        f'{head},"recipient":"+85291000004","subject":"spring_v3","status":"Queued","LastUpdatedDateTime":"{DATE}"}}]'
    )


def test_an_sms_recipient_has_the_fields_of_the_page_in_its_order(app: App) -> None:
    channel = app.add_channel(type="sms", phone="SHOP")
    messages = [
        {"recipient": "+85291000000", "messageID": "s-0"},
        {"recipient": "+447911123456", "messageID": "s-1", "content": "x" * 161},
        {"recipient": "+85291000002", "messageID": "s-2", "content": "晚" * 71},
        {"recipient": "+85291000003"},
    ]
    campaign = app.record(channel, [], date=DATE, senderEID="eid-42", content="See you", messages=messages)
    app.post_receipts(
        channel,
        {"messageID": "s-1", "status": "delivered", "timestamp": "2026-11-20T03:00:02Z"},
        {"messageID": "s-2", "status": "failed", "timestamp": "2026-11-20T03:00:03Z", "errorCode": "30003"},
    )
    head = f'{{"id":"{campaign}","date":"{DATE}","sender":{{"phone":"SHOP","senderEID":"eid-42"}}'
    assert json.dumps(detail(app, campaign), separators=(",", ":"), ensure_ascii=False) == (
        f'[{head},"recipient":"+85291000000","recipientCountry":"HK","content":"See you","numSMS":1,'
        f'"status":"Submitted","carrierNetworkStatus":"Queued","LastUpdatedDateTime":"{DATE}"}},'
        f'{head},"recipient":"+447911123456","recipientCountry":"GG","content":"{"x" * 161}","numSMS":2,'
        '"status":"Delivered","carrierNetworkStatus":"Delivered","LastUpdatedDateTime":"2026-11-20T03:00:02.000Z"},'
        f'{head},"recipient":"+85291000002","recipientCountry":"HK","content":"{"晚" * 71}","numSMS":2,'
        '"status":"Undelivered","carrierNetworkStatus":"Undelivered","LastUpdatedDateTime":"2026-11-20T03:00:03.000Z"},'
        f'{head},"recipient":"+85291000003","recipientCountry":"HK","content":"See you","numSMS":1,'
        f'"status":"Pending","carrierNetworkStatus":"","LastUpdatedDateTime":"{DATE}"}}]'
    )


@pytest.fixture
def many(app: App) -> tuple[str, list[str]]:
    """A campaign of 25 recipients, of whom every third has the message read; and the recipients in order."""
    channel = app.add_channel()
    campaign = app.record(channel, [f"m-{n}" for n in range(25)])
    app.post_receipts(channel, *({"messageID": f"m-{n}", "status": "read"} for n in range(0, 25, 3)))
    return campaign, [f"+852{91000000 + n}" for n in range(25)]


def walk(app: App, path: str) -> list[list[str]]:
    """The recipients of each page, by the links to the next."""
    pages = []
    while path:
        answer = app.request("GET", path)
        pages.append([row["recipient"] for row in answer.json()["result"]])
        path = answer.links.get("next", {}).get("url", "").removeprefix(f"/v1/api/apps/{app.app_id}")
    return pages


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        pytest.param({}, range(10), id="ten by default"),
        pytest.param({"limit": 200}, range(25), id="all"),
        pytest.param({"limit": 0}, range(0), id="limit 0"),
        pytest.param({"limit": 4, "offset": 7}, range(7, 11), id="offset"),
        pytest.param({"limit": 4, "cursor": 7}, range(7, 11), id="cursor"),
        pytest.param({"limit": 4, "offset": 3, "cursor": 4}, range(7, 11), id="offset after a cursor"),
        pytest.param({"offset": 25}, range(0), id="offset at the end"),
        pytest.param({"offset": 2147483647, "cursor": 2147483647}, range(0), id="far beyond the end"),
        pytest.param({"status": "Read", "limit": 200}, range(0, 25, 3), id="read"),
        pytest.param(
            {"status": "read", "limit": 3, "offset": 2},
            range(6, 15, 3),
            id="read, in lower case, with offset",
        ),
        pytest.param(
            {"status": "Read", "cursor": 4, "limit": 2}, range(6, 12, 3), id="read from a cursor on"
        ),
        pytest.param({"status": "Failed"}, range(0), id="failed"),
        pytest.param({"status": "Undelivered"}, range(0), id="a status of the other channel"),
        pytest.param({"status": ""}, range(10), id="empty status"),
    ],
)
def test_pages_are_in_the_order_of_recording(
    app: App, many: tuple[str, list[str]], params: dict[str, Any], expected: range
) -> None:
    campaign, recipients = many
    assert [row["recipient"] for row in detail(app, campaign, **params)] == [recipients[n] for n in expected]


@pytest.mark.parametrize("limit", [1, 7, 25, 200])
@pytest.mark.parametrize("status", ["", "Read", "Pending"])
def test_the_link_with_its_cursor_walks_the_same_pages_as_offset(
    app: App, many: tuple[str, list[str]], limit: int, status: str
) -> None:
    campaign, _ = many
    by_link = walk(app, f"{DETAIL}?historyID={campaign}&limit={limit}&status={status}")
    by_offset: list[list[str]] = []
    while page := detail(app, campaign, limit=limit, offset=limit * len(by_offset), status=status):
        by_offset.append([row["recipient"] for row in page])
    assert by_link == by_offset
    assert sum(map(len, by_link)) == {"": 25, "Read": 9, "Pending": 16}[status]


def test_a_link_from_the_middle_goes_on_there(app: App, many: tuple[str, list[str]]) -> None:
    campaign, recipients = many
    pages = walk(app, f"{DETAIL}?historyID={campaign}&limit=10&offset=12")
    assert pages == [recipients[12:22], recipients[22:]]


def test_recipients_that_are_added_later_come_last_and_move_no_page(app: App) -> None:
    campaign = app.record(app.add_channel(), ["m-1", "m-2"])
    lines = b'{"recipient":"+85290000000","messageID":"m-3"}'
    app.result(
        "POST",
        f"/sent-campaigns/{campaign}/messages",
        content=lines,
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert [row["recipient"] for row in detail(app, campaign)] == [
        "+85291000000",
        "+85291000001",
        "+85290000000",
    ]


def test_a_campaign_that_was_not_handed_over_yet_has_no_date(app: App) -> None:
    campaign = app.record(app.add_channel(), [None])
    [row] = detail(app, campaign)
    assert (row["date"], row["status"], row["LastUpdatedDateTime"]) == ("", "Queued", "")


def test_a_later_failure_does_not_hide_a_delivery(app: App) -> None:
    channel = app.add_channel()
    campaign = app.record(channel, ["m-1"], date=DATE)
    app.post_receipts(
        channel, {"messageID": "m-1", "status": "delivered", "timestamp": "2026-11-20T03:00:01Z"}
    )
    app.post_receipts(channel, {"messageID": "m-1", "status": "failed", "timestamp": "2026-11-20T03:00:09Z"})
    [row] = detail(app, campaign)
    assert (row["status"], "failedReason" in row) == ("Delivered", False)
    assert row["LastUpdatedDateTime"] == "2026-11-20T03:00:09.000Z"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        pytest.param("limit=201", "exceed maximum limit 200", id="limit"),
        pytest.param("offset=-1", "negative offset", id="offset"),
        pytest.param("limit=-1", "negative limit", id="negative limit"),
        pytest.param("cursor=2147483648", "Bad query: cursor ", id="cursor over int32"),
        pytest.param("status=Lost", "Bad query: status ", id="status"),
        pytest.param("status=Read&status=Failed", "Bad query: status ", id="two statuses"),
        pytest.param("historyID=2", "Bad query: historyID is given 2 times", id="two campaigns"),
    ],
)
def test_the_limits_of_the_summary_hold_here_too(app: App, query: str, message: str) -> None:
    answer = app.request("GET", f"{DETAIL}?historyID=1&{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, 6451000)
    assert answer.json()["message"].startswith(message)


def test_no_history_id_is_400_and_an_unknown_one_is_404(app: App) -> None:
    for query in ("", "?historyID="):
        answer = app.request("GET", DETAIL + query)
        assert (answer.status_code, answer.json()["code"]) == (400, 6451000)
        assert answer.json()["message"].startswith("Bad query: historyID is required")
    answer = app.request("GET", DETAIL, params={"historyID": "1882651363373254867"})
    assert (answer.status_code, answer.json()["code"]) == (404, 404)
    assert answer.json()["message"] == "no campaign 1882651363373254867"


def test_the_campaign_of_another_app_is_404_as_if_it_did_not_exist(app: App, other_app: App) -> None:
    campaign = other_app.record(other_app.add_channel(), ["m-1"])
    assert len(detail(other_app, campaign)) == 1
    answer = app.request("GET", DETAIL, params={"historyID": campaign})
    assert (answer.status_code, answer.json()["message"]) == (404, f"no campaign {campaign}")


@pytest.fixture
def other_app(server: Any, make_app: Any) -> App:
    made: App = make_app(server)
    return made
