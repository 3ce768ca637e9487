"""Insights over HTTP: the answer, the recipients behind it page by page, stories, and what waits for a person."""

from typing import Any

import psycopg
import pytest

from harness import App, wait_for

DATE = "2026-11-20T03:00:00.000Z"
PERSON = {"User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X)"}
URL = "https://shop.example.com/sale"


@pytest.fixture
def channel(app: App) -> str:
    return app.add_channel()


@pytest.fixture
def campaign(app: App, channel: str) -> str:
    """Four recipients: one has read, one failed, one waits, one is queued; the first two have followed a link."""
    made = app.record(channel, ["m-0", "m-1", "m-2", None], date=DATE)
    app.post_receipts(
        channel,
        {"messageID": "m-0", "status": "read", "timestamp": "2026-11-20T03:00:07Z"},
        {"messageID": "m-1", "status": "failed", "timestamp": "2026-11-20T03:00:02Z", "errorCode": "34", "errorTitle": "Absent"},
    )  # fmt: skip
    found = app.result("POST", f"/sent-campaigns/{made}/links", json={"url": URL})["links"]
    for link in (found[0], found[0], found[1]):
        app.client.get(link["url"], headers=PERSON)
    app.client.get(found[2]["url"], headers={"User-Agent": "WhatsApp/2"})
    return made


def path(campaign: str, rest: str) -> str:
    return f"/data/campaigns/{campaign}/{rest}"


def hits(app: App, campaign: str) -> int:
    """How many hits of the campaign's link are kept; the redirect does not wait for that."""
    return sum(one["hits"] for one in app.result("GET", path(campaign, "insights"))["links"])


def test_the_insights_of_a_recorded_campaign_are_in_one_answer(app: App, campaign: str) -> None:
    wait_for(lambda: hits(app, campaign) == 4)

    def is_up_to_date() -> bool:
        """On a busy machine computing takes a while, and then its result is shown for a while."""
        shown = app.result("GET", path(campaign, "insights"))
        clicks = sum(one["clicks"] for one in shown["timeline"]["points"])
        return (clicks, shown["funnel"]["clickedPeople"]) == (3, 2)

    wait_for(is_up_to_date)
    found = app.result("GET", path(campaign, "insights"))
    points = found["timeline"].pop("points")
    sums = {name: sum(one[name] for one in points) for name in points[0] if name != "at"}
    assert sums == {"accepted": 3, "delivered": 1, "read": 1, "failed": 1, "clicks": 3}
    assert 1 <= len(points) <= 150
    width = found["timeline"].pop("bucketSeconds")
    assert width >= 1
    computed_at = found.pop("computedAt")
    assert computed_at.endswith("Z")
    assert found == {
        "funnel": {
            "total": 4, "queued": 1, "pending": 1, "sent": 3, "delivered": 1, "read": 1, "failed": 1, "unknown": 0,
            "replied": 3, "repliedPeople": 2, "clickedPeople": 2, "deliveredRate": 0.3333, "failedRate": 0.3333,
            "readRate": 1.0, "repliedRate": 2.0, "clickedRate": 2.0,
        },
        "timeline": {},
        "countries": [{"country": "HK", "total": 4, "delivered": 1, "read": 1, "failed": 1}],
        "links": [
            {"url": URL, "hits": 4, "clicks": 3, "people": 2, "setAside": {"preview or crawler: whatsapp": 1}}
        ],
        "buttons": [],
        "failures": [
            {
                "code": "34", "title": "Absent", "count": 1, "words": "", "retryable": False, "provider": "generic",
                "whatToDo": "The title has the provider's own words; its documentation or its support knows more.",
            }
        ],
    }  # fmt: skip
    totals = app.totals(campaign)
    assert [totals[name] for name in ("delivered", "read", "replied", "pending", "failed")] == [1, 1, 3, 1, 1]


def test_a_draft_that_is_to_be_sent_from_here_has_insights_too(app: App) -> None:
    secrets = {"baseURL": "https://sandbox.invalid", "apiKey": "s3cret"}
    channel = app.add_channel(type="sms", provider="sandbox", phone="SHOP", credentials=secrets)
    body = {"campaignName": "Sale", "kind": "smsDynamic", "channelID": channel, "content": "Hi"}
    draft = app.result("POST", "/campaigns", json=body)["id"]
    found = app.result("GET", path(draft, "insights"))
    assert set(found["funnel"].values()) == {0, None}
    assert found["timeline"] == {"bucketSeconds": 1, "points": []}
    assert app.result("GET", path(draft, "recipients")) == []


def test_recipients_are_listed_page_by_page_with_what_became_of_them(
    app: App, campaign: str, channel: str
) -> None:
    answer = app.request("GET", path(campaign, "recipients"), params={"limit": 1, "state": "sent"})
    assert answer.json()["result"] == [
        {
            "seq": 0,
            "recipient": "+85291000000",
            "country": "HK",
            "channelID": channel,
            "referenceID": f"tc:{campaign}.0",
            "state": "read",
            "parts": 1,
            "messageID": "m-0",
            "acceptedAt": DATE,
            "readAt": "2026-11-20T03:00:07.000Z",
        }
    ]
    seqs = [0]
    while "next" in answer.links:
        link = answer.links["next"]["url"]
        answer = app.request("GET", link.removeprefix(f"/v1/api/apps/{app.app_id}"))
        seqs += [one["seq"] for one in answer.json()["result"]]
    assert seqs == [0, 1, 2]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [0, 1, 2, 3]), ({"state": "read"}, [0]), ({"state": "queued"}, [3]), ({"errorCode": "34"}, [1]),
        ({"errorCode": "34", "errorTitle": "Absent", "provider": "generic"}, [1]), ({"provider": "meta"}, []),
        ({"errorCode": "-"}, []), ({"country": "hk", "state": "delivered"}, [0]), ({"country": "-"}, []),
        ({"link": URL}, [0, 1]), ({"state": "clicked", "number": "+852 9100 0001"}, [1]), ({"button": "Yes"}, []),
        ({"number": "85291000003"}, [3]), ({"state": "", "number": ""}, [0, 1, 2, 3]), ({"limit": 0}, []),
        ({"cursor": 2}, [2, 3]), ({"unheard": "of"}, [0, 1, 2, 3]),
    ],
)  # fmt: skip
def test_each_parameter_chooses_recipients(
    app: App, campaign: str, params: dict[str, Any], expected: list[int]
) -> None:
    wait_for(lambda: hits(app, campaign) == 4)
    found = app.result("GET", path(campaign, "recipients"), params=params)
    assert [one["seq"] for one in found] == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("state=open", "Bad query: state must be queued or pending or sent or delivered or read or failed or unknown or replied or clicked, not 'open'"),
        ("number=abc", "Bad query: number must be a phone number or its first digits, with its country code, not 'abc'"),
        ("number=%2B", "Bad query: number must be a phone number or its first digits, with its country code, not '+'"),
        ("cursor=-1", "Bad query: cursor must be one that a Link header gave"), ("cursor=x", "Bad query: cursor must be a number, not 'x'"),
        ("limit=201", "exceed maximum limit 200"), ("limit=-1", "negative limit"),
        *((f"{name}=%00", f"Bad query: {name} must be a text without NUL")
          for name in ("errorCode", "errorTitle", "provider", "country", "button", "link", "number")),
        ("country=HK&country=DE", "Bad query: country is given 2 times"),
    ],
)  # fmt: skip
def test_a_parameter_that_cannot_be_read_is_named(app: App, campaign: str, query: str, message: str) -> None:
    answer = app.request("GET", path(campaign, f"recipients?{query}"))
    assert (answer.status_code, answer.json()["code"], answer.json()["message"]) == (400, 6451000, message)


def test_a_recipients_story_is_told(app: App, campaign: str, channel: str) -> None:
    wait_for(lambda: hits(app, campaign) == 4)
    found = app.result("GET", path(campaign, "recipients/1"))
    assert found["recipient"]["failureReason"] == "Absent"
    assert [one["kind"] for one in found["events"]] == ["accepted", "failed", "click"]
    assert found["events"][0] == {
        "kind": "accepted",
        "at": DATE,
        "words": "Handed over as a WhatsApp message.",
        "about": "message",
        "channelID": channel,
        "messageID": "m-1",
    }


@pytest.mark.parametrize(
    "rest",
    ["recipients/4", "recipients/-1", "recipients/x", "recipients/2147483648", "recipients/%00", "recipients/" + "9" * 40],
)  # fmt: skip
def test_a_recipient_that_is_not_there_is_404(app: App, campaign: str, rest: str) -> None:
    answer = app.request("GET", path(campaign, rest))
    assert (answer.status_code, answer.json()["code"]) == (404, 404)


@pytest.mark.parametrize("campaign", ["1", "abc", "%00", "9" * 40, "9223372036854775808"])
@pytest.mark.parametrize("rest", ["insights", "recipients", "recipients/0"])
def test_a_campaign_that_is_not_there_is_404(app: App, campaign: str, rest: str) -> None:
    answer = app.request("GET", path(campaign, rest))
    assert (answer.status_code, answer.json()["code"]) == (404, 404)


def test_what_waits_for_a_person_is_told_and_nothing_else(
    app: App, campaign: str, channel: str, database_url: str
) -> None:
    empty = {
        "parked": {"count": 0, "oldestAt": None, "ageSeconds": None},
        "unknown": {"count": 0, "oldestAt": None, "ageSeconds": None},
        "unknownByCampaign": [],
        "unreadable": {"count": 0, "latestAt": None},
        "pausedChannels": [],
        "pausedCampaigns": [],
    }
    assert app.result("GET", "/data/attention") == empty
    app.post_receipts(channel, *({"messageID": f"other-{n}", "status": "read"} for n in range(3)))
    app.client.post(f"{app.server_url}/webhooks/generic/{channel}", content=b"no JSON")
    secrets = {"baseURL": "https://sandbox.invalid", "apiKey": "s3cret"}
    sandbox = app.add_channel(type="sms", provider="sandbox", phone="SHOP", credentials=secrets)
    body = {
        "campaignName": "Sale",
        "kind": "smsDynamic",
        "channelID": sandbox,
        "content": "Hi",
        "scheduledAt": "2099-12-01T00:00:00Z",
    }
    draft = app.result("POST", "/campaigns", json=body)["id"]
    file = {"content": b"recipient\n+85261234567\n", "headers": {"Content-Type": "text/csv"}}
    app.result("POST", f"/campaigns/{draft}/audience", params={"wait": 30}, **file)
    app.result("POST", f"/campaigns/{draft}/submit")
    paused = app.result("POST", f"/campaigns/{draft}/pause")
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "update channels set paused_at = '2026-11-20T03:00:00Z', paused_reason = 'no money' where app_id = %s "
            "and channel_id = %s",
            [app.app_id, sandbox],
        )
        connection.execute(
            "insert into handovers (app_id, campaign_id, seq, channel_number, status) "
            "select app_id, campaign_id, seq, 1, 'unknown' from messages where app_id = %s and campaign_id = %s",
            [app.app_id, campaign],
        )
        connection.execute(
            "update messages set message_id = null where app_id = %s and campaign_id = %s",
            [app.app_id, campaign],
        )
    found = app.result("GET", "/data/attention")
    assert found["parked"]["count"] == 3
    assert 0 <= found["parked"]["ageSeconds"] < 60
    assert found["unknown"] == {"count": 2, "oldestAt": DATE, "ageSeconds": found["unknown"]["ageSeconds"]}
    assert found["unknownByCampaign"] == [{"campaignID": campaign, "count": 2, "oldestAt": DATE}]
    assert found["unreadable"]["count"] == 1
    assert found["pausedChannels"] == [
        {"channelID": sandbox, "phone": "SHOP", "channelName": "Shop", "pausedAt": DATE, "reason": "no money"}
    ]
    [one] = found["pausedCampaigns"]
    assert one == {
        "campaignID": draft,
        "campaignName": "Sale",
        "pausedAt": one["pausedAt"],
        "reason": paused["pausedReason"],
    }
    assert app.result("GET", path(campaign, "insights"))["funnel"]["unknown"] == 2
    listed = app.result("GET", path(campaign, "recipients"), params={"state": "unknown"})
    assert [one["seq"] for one in listed] == [2, 3]
