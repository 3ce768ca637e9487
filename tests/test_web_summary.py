"""Sent-campaigns-summary: every parameter at its edges, the fields of the page, order and paging."""

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import brotli
import httpx
import psycopg
import pytest
import zstandard

from harness import App
from tallycast import apps, db

SUMMARY = "/data/sent-campaigns-summary"
PLUS = "%2B"
OK, BAD = 200, 400


def record_at(app: App, channel: str, *dates: str) -> list[str]:
    """Campaigns that were sent at these moments; their ids."""
    return [app.record(channel, [f"m-{date}-{n}"], date=date) for n, date in enumerate(dates)]


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json()["result"]]


@pytest.fixture(scope="module")
def dated(server: Any, database_url: str, client: httpx.Client) -> tuple[App, list[str]]:
    """An app with five campaigns, the newest first: four WhatsApp ones and an SMS one between."""

    async def make() -> tuple[str, str]:
        async with db.connect(database_url) as connection:
            made = await apps.create_app(connection, "Dated")
            return made.app_id, (await apps.create_token(connection, made.app_id)).plain

    app = App(server.url, *asyncio.run(make()), client)
    whatsapp, sms = app.add_channel(), app.add_channel(type="sms", phone="SHOP")
    found = record_at(app, whatsapp, "2022-11-07T00:00:00.000Z", "2022-11-07T00:00:00.001Z")
    found += record_at(app, sms, "2022-11-07T12:00:00Z")
    found += record_at(app, whatsapp, "2022-11-08T00:00:00Z", "2023-01-01T00:00:00Z")
    return app, found[::-1]


@pytest.mark.parametrize(
    ("query", "status", "expected"),
    [
        pytest.param("", OK, 5, id="none"),
        pytest.param("limit=2&offset=1", OK, 2, id="both"),
        pytest.param("limit=0", OK, 0, id="limit 0"),
        pytest.param("limit=200", OK, 5, id="limit 200"),
        pytest.param("limit=201", BAD, "exceed maximum limit 200", id="limit 201"),
        pytest.param("limit=-1", BAD, "negative limit", id="limit -1"),
        pytest.param("limit=-2147483648", BAD, "negative limit", id="limit least int32"),
        pytest.param("limit=2147483647", BAD, "exceed maximum limit 200", id="limit greatest int32"),
        pytest.param("limit=2147483648", BAD, "Bad query: limit ", id="limit over int32"),
        pytest.param("limit=" + "9" * 400, BAD, "Bad query: limit ", id="limit of 400 digits"),
        pytest.param("limit=", OK, 5, id="limit empty"),
        pytest.param("limit", OK, 5, id="limit without ="),
        pytest.param("limit=ten", BAD, "Bad query: limit ", id="limit text"),
        pytest.param("limit=1e3", BAD, "Bad query: limit ", id="limit exponent"),
        pytest.param("limit=0x10", BAD, "Bad query: limit ", id="limit hex"),
        pytest.param("limit=1.0", BAD, "Bad query: limit ", id="limit decimal"),
        pytest.param("limit=1_0", BAD, "Bad query: limit ", id="limit underscore"),
        pytest.param("limit=%D9%A3", BAD, "Bad query: limit ", id="limit Arabic digit"),
        pytest.param("limit=%EF%BC%93", BAD, "Bad query: limit ", id="limit full-width digit"),
        pytest.param("limit=%FF", BAD, "Bad query: limit ", id="limit no UTF-8"),
        pytest.param("limit=3%00", BAD, "Bad query: limit ", id="limit NUL"),
        pytest.param("limit=3%0A", BAD, "Bad query: limit ", id="limit line end"),
        pytest.param("limit=1&limit=1", BAD, "Bad query: limit is given 2 times", id="limit repeated"),
        pytest.param("limit=003", OK, 3, id="limit leading zeros"),
        pytest.param("limit=%2B3", OK, 3, id="limit with plus"),
        pytest.param("limit=+3", OK, 3, id="limit with plus decoded as space"),
        pytest.param("offset=-1", BAD, "negative offset", id="offset -1"),
        pytest.param("offset=0", OK, 5, id="offset 0"),
        pytest.param("offset=5", OK, 0, id="offset at the end"),
        pytest.param("offset=2147483647", OK, 0, id="offset greatest int32"),
        pytest.param("offset=2147483648", BAD, "Bad query: offset ", id="offset over int32"),
        pytest.param("offset=", OK, 5, id="offset empty"),
        pytest.param("offset=x", BAD, "Bad query: offset ", id="offset text"),
        pytest.param("offset=1&offset=2", BAD, "Bad query: offset is given 2 times", id="offset repeated"),
        pytest.param("limit=-1&offset=-1", BAD, "negative offset", id="both negative"),
        pytest.param("channel=sms", OK, 1, id="channel sms"),
        pytest.param("channel=whatsApp", OK, 4, id="channel whatsApp"),
        pytest.param("channel=", OK, 5, id="channel empty"),
        pytest.param("channel=SMS", BAD, "Bad query: channel ", id="channel SMS"),
        pytest.param("channel=whatsapp", BAD, "Bad query: channel ", id="channel whatsapp"),
        pytest.param("channel=email", BAD, "Bad query: channel ", id="channel unknown"),
        pytest.param(
            "channel=sms&channel=sms", BAD, "Bad query: channel is given 2 times", id="channel repeated"
        ),
        pytest.param("channel=sms&channel=", OK, 1, id="channel repeated empty"),
        pytest.param("foo=1&limit=2&%FF=%00&=x&&", OK, 2, id="unknown parameters"),
        pytest.param("Limit=1", OK, 5, id="names are case-sensitive"),
    ],
)
def test_limit_offset_and_channel_are_read_strictly_and_what_is_unknown_is_ignored(
    dated: tuple[App, list[str]], query: str, status: int, expected: int | str
) -> None:
    answer = dated[0].request("GET", f"{SUMMARY}?{query}")
    assert answer.status_code == status, answer.text
    if isinstance(expected, int):
        assert len(answer.json()["result"]) == expected
    else:
        assert answer.json()["message"].startswith(expected)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param("2022-11-07T00:00:00.000Z", "2022-11-08T00:00:00.000Z", [2, 3, 4], id="a day, the end not included"),
        pytest.param("2022-11-07T00:00:00.001Z", "2022-11-08T00:00:00.001Z", [1, 2, 3], id="exact milliseconds"),
        pytest.param("2022-11-07T00:00:00Z", "2022-11-07T00:00:00Z", [], id="equal"),
        pytest.param("2022-11-07T00:00:00.0005Z", "2022-11-08T00:00:00Z", [2, 3], id="between two milliseconds"),
        pytest.param("2022-11-07T08:00:00+08:00", "2022-11-08T08:00:00.001+08:00", [1, 2, 3, 4], id="+ decoded as space"),
        pytest.param(f"2022-11-07T08:00:00{PLUS}08:00", f"2022-11-08T08:00:00{PLUS}08:00", [2, 3, 4], id="+08:00"),
        pytest.param("2022-11-06T18:30:00-05:30", "2022-11-07T18:30:00-05:30", [2, 3, 4], id="-05:30"),
        pytest.param("2022-11-07t00:00:00z", "2022-11-08t00:00:00z", [2, 3, 4], id="lower case"),
        pytest.param("2022-12-31T23:59:60Z", "2023-01-01T00:00:01Z", [0], id="leap second"),
        pytest.param("2023-01-01T07:59:60+08:00", "2023-01-01T08:00:01+08:00", [0], id="leap second with an offset"),
        pytest.param("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999999Z", [0, 1, 2, 3, 4], id="years 1 to 9999"),
        pytest.param("", "", [0, 1, 2, 3, 4], id="both empty"),
    ],
)  # fmt: skip
def test_the_period_is_half_open_and_read_as_rfc_3339(
    dated: tuple[App, list[str]], start: str, end: str, expected: list[int]
) -> None:
    app, known = dated
    for extra in ("", "&channel=whatsApp"):
        found = ids(app.request("GET", f"{SUMMARY}?startAt={start}&endAt={end}{extra}"))
        assert found == [known[n] for n in expected if not (extra and n == 2)]


@pytest.mark.parametrize("digits", range(1, 13))
def test_a_fraction_of_any_length_is_read(dated: tuple[App, list[str]], digits: int) -> None:
    zeros = "0" * digits
    query = f"startAt=2022-11-07T00:00:00.{zeros}Z&endAt=2022-11-08T00:00:00.{zeros}Z"
    assert ids(dated[0].request("GET", f"{SUMMARY}?{query}")) == dated[1][2:]


@pytest.mark.parametrize(
    "moment",
    [
        "2022-13-01T00:00:00Z", "2022-00-01T00:00:00Z", "2022-02-30T00:00:00Z", "2023-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z", "0001-01-01T00:00:00%2B08:00", "9999-12-31T23:59:60Z",
        "9999-12-31T23:59:59-00:01", "10000-01-01T00:00:00Z", "2022-11-07", "2022-11-07T00:00:00",
        "2022-11-07T00:00Z", "2022-11-07T24:00:00Z", "2022-11-07T23:60:00Z", "2022-11-07T00:00:61Z",
        "2022-11-07T00:00:00.Z", "2022-11-07T00:00:00,5Z", "2022-11-07T00:00:00%2B0800",
        "2022-11-07T00:00:00%2B24:00", "2022-11-07T00:00:00%2B08:60", "2022-11-07T00:00:00%2B08",
        "2022-11-07%2000:00:00Z", "20221107T000000Z", "1667779200", "now", "%D9%A2022-11-07T00:00:00Z",
        "2022-11-07T00:00:00Z%00", "2022-11-07T00:00:00Z%0A", "%FF",
    ],
)  # fmt: skip
def test_what_is_no_moment_is_a_bad_query_that_names_the_parameter(app: App, moment: str) -> None:
    good = "2022-11-07T00:00:00Z"
    for query, name in (
        (f"startAt={moment}&endAt={good}", "startAt"),
        (f"startAt={good}&endAt={moment}", "endAt"),
    ):
        answer = app.request("GET", f"{SUMMARY}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, 6451000)
        assert answer.json()["message"].startswith(
            f"Bad query: {name} must be a date and time like 2022-11-07"
        )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        pytest.param("startAt=2022-11-07T00:00:00Z", "missing one of startAt, endAt", id="no endAt"),
        pytest.param("startAt=&endAt=2022-11-07T00:00:00Z", "missing one of startAt, endAt", id="empty startAt"),
        pytest.param("startAt=2022-11-07T00:00:00.001Z&endAt=2022-11-07T00:00:00Z", "endAt is prior to startAt", id="by a millisecond"),
        pytest.param("startAt=2022-11-07T00:00:00Z&endAt=2022-11-07T00:00:00%2B00:01", "endAt is prior to startAt", id="by the offset"),
        pytest.param("startAt=x&startAt=y&endAt=z", "Bad query: startAt is given 2 times", id="repeated"),
    ],
)  # fmt: skip
def test_a_period_needs_both_ends_in_order(app: App, query: str, message: str) -> None:
    assert app.request("GET", f"{SUMMARY}?{query}").json()["message"] == message


def test_whatsapp_and_sms_have_the_fields_of_the_page_in_its_order_and_types(app: App) -> None:
    whatsapp = app.add_channel(sourceName="Marketing")
    sms = app.add_channel(type="sms", phone="SHOP", channelName="not shown", sourceName="not shown")
    first = app.record(
        whatsapp, ["w-1", "w-2", None], date="2026-11-20T03:00:00.123456Z", subject="spring_v3"
    )
    second = app.record(
        sms, ["s-1"], date="2026-11-19T03:00:00+08:00", senderEID="eid-42", subject="not shown"
    )
    app.post_receipts(whatsapp, {"messageID": "w-1", "status": "read"})
    app.post_receipts(sms, {"messageID": "s-1", "status": "read"})
    answer = app.request("GET", SUMMARY)
    assert list(answer.json()) == ["code", "result", "cid"]
    rows = json.dumps(answer.json()["result"], separators=(",", ":"))
    assert rows == (
        f'[{{"id":"{first}","date":"2026-11-20T03:00:00.123Z","campaignName":"Spring sale","channel":"WhatsApp",'
        '"createdBy":"Mei","sender":{"phone":"+85230001234","channelName":"Shop","sourceName":"Marketing"},'
        '"subject":"spring_v3","totalRecipients":3,"delivered":1,"read":1,"replied":0,"pending":1,"failed":0},'
        f'{{"id":"{second}","date":"2026-11-18T19:00:00.000Z","campaignName":"Spring sale","channel":"SMS",'
        '"createdBy":"Mei","sender":{"phone":"SHOP","senderEID":"eid-42"},"totalRecipients":1,"delivered":1}]'
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('She said "yes" \\ and\nleft\ttown', id="quotes and controls"),
        pytest.param("Sale 🎉👩‍👩‍👧‍👦 50 %", id="emoji"),
        pytest.param("تخفيضات الربيع \u200f\u202e", id="right to left"),
        pytest.param("</script><script>alert(1)</script>", id="script"),
        pytest.param("春節大特賣\u2028\u2029", id="line separators"),
        pytest.param("a" * 500, id="as long as it may be"),
    ],
)
def test_names_come_back_as_they_were_given(app: App, text: str) -> None:
    app.record(
        app.add_channel(channelName=text[:200]), ["m"], campaignName=text, createdBy=text, subject=text
    )
    [row] = app.summary()
    assert (row["campaignName"], row["createdBy"], row["subject"]) == (text, text, text)
    assert row["sender"]["channelName"] == text[:200]


def test_the_newest_come_first_and_of_the_same_moment_the_highest_id(app: App) -> None:
    channel = app.add_channel()
    late, *same, early = record_at(
        app, channel, "2026-03-01T00:00:00Z", *["2026-02-01T00:00:00Z"] * 3, "2026-01-01T00:00:00Z"
    )
    expected = [late, *sorted(same, key=int, reverse=True), early]
    assert [row["id"] for row in app.summary()] == expected
    paged = [row["id"] for offset in range(5) for row in app.summary(limit=1, offset=offset)]
    assert paged == expected


def test_the_link_to_the_next_page_leads_through_all_campaigns_once(app: App) -> None:
    channel = app.add_channel()
    known = record_at(app, channel, *["2026-02-01T00:00:00Z"] * 7)
    path: str | None = (
        f"{SUMMARY}?limit=3&channel=whatsApp&startAt=2026-01-01T08:00:00%2B08:00&endAt=2027-01-01T00:00:00Z&x=%26"
    )
    pages = []
    while path is not None:
        answer = app.request("GET", path)
        pages.append(ids(answer))
        link = answer.links.get("next")
        path = link["url"].removeprefix(f"/v1/api/apps/{app.app_id}") if link else None
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [one for page in pages for one in page] == sorted(known, key=int, reverse=True)
    assert "link" not in app.request("GET", f"{SUMMARY}?limit=7").headers
    assert "link" not in app.request("GET", f"{SUMMARY}?limit=0").headers


def test_a_campaign_is_listed_from_the_moment_its_first_message_is_handed_over(
    app: App, database_url: str
) -> None:
    channel = app.add_channel()
    campaign = app.record(channel, [None, None])
    assert app.summary() == []
    with psycopg.connect(database_url) as connection:
        [before] = connection.execute("select date_trunc('milliseconds', now())").fetchall()[0]
    lines = b'{"recipient":"+85291000000","messageID":"first"}'
    app.result(
        "POST",
        f"/sent-campaigns/{campaign}/messages",
        content=lines,
        headers={"Content-Type": "application/x-ndjson"},
    )
    [row] = app.summary()
    moment = before.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert row["date"] >= moment
    assert {name: row[name] for name in ("totalRecipients", "delivered", "pending", "failed")} == {
        "totalRecipients": 2, "delivered": 0, "pending": 1, "failed": 0
    }  # fmt: skip
    app.post_receipts(
        channel, {"messageID": "first", "status": "failed", "timestamp": "2020-01-01T00:00:00Z"}
    )
    assert app.summary()[0]["date"] == row["date"], "the date stays"


def test_head_has_the_headers_of_get_and_no_body(dated: tuple[App, list[str]]) -> None:
    got, head = (dated[0].request(method, f"{SUMMARY}?limit=1") for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    own = {"x-correlation-id", "date"}
    assert {k: v for k, v in head.headers.items() if k not in own} == {
        k: v for k, v in got.headers.items() if k not in own
    }
    assert head.headers["link"].endswith('?limit=1&offset=1>; rel="next"')
    assert dated[0].request("HEAD", f"{SUMMARY}?limit=x").status_code == 400


@pytest.mark.parametrize(
    "kind", ["application/json", "application/octet-stream", "text/xml", "nonsense", ";", "a/b; c=\xff"]
)
def test_the_content_type_of_a_get_is_ignored(dated: tuple[App, list[str]], kind: str) -> None:
    answer = dated[0].request("GET", SUMMARY, headers={"Content-Type": kind.encode("latin-1")})
    assert len(answer.json()["result"]) == 5


def test_a_get_with_a_body_is_answered_too(dated: tuple[App, list[str]]) -> None:
    for _ in range(2):
        assert len(dated[0].request("GET", SUMMARY, content=b"{}").json()["result"]) == 5


UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": zstandard.decompress,
    "": bytes,
}


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        pytest.param("gzip", "gzip", id="gzip"),
        pytest.param("br", "br", id="br"),
        pytest.param("zstd", "zstd", id="zstd"),
        pytest.param("gzip, deflate, br, zstd", "zstd", id="a browser's"),
        pytest.param("gzip;q=0.5, br;q=0.9, zstd;q=0", "br", id="weights"),
        pytest.param("GZIP ; Q=1", "gzip", id="upper case"),
        pytest.param("*", "zstd", id="any"),
        pytest.param("*;q=0.5, zstd;q=0, br;q=0", "gzip", id="any but"),
        pytest.param("deflate, compress", "", id="none that we have"),
        pytest.param("identity", "", id="identity"),
        pytest.param("identity;q=0", "", id="only identity refused, and no other named"),
        pytest.param("identity;q=0.9, gzip;q=0.2", "", id="identity liked better"),
        pytest.param("gzip;q=0", "", id="gzip refused"),
        pytest.param("gzip;q=1.2.3", "", id="nonsense weight"),
        pytest.param("", "", id="empty"),
        pytest.param(None, "", id="none"),
    ],
)
def test_an_answer_is_compressed_as_the_client_likes_and_says_the_same(
    dated: tuple[App, list[str]], accepted: str | None, encoding: str
) -> None:
    app = dated[0]
    headers = {"Authorization": f"Bearer {app.token}"} | (
        {} if accepted is None else {"Accept-Encoding": accepted}
    )
    with httpx.Client() as client:
        del client.headers["Accept-Encoding"]
        url = f"{app.server_url}/v1/api/apps/{app.app_id}{SUMMARY}"
        with client.stream("GET", url, headers=headers) as answer:
            raw = b"".join(answer.iter_raw())
    assert answer.headers.get("content-encoding", "") == encoding
    assert int(answer.headers["content-length"]) == len(raw)
    assert "Accept-Encoding" in ", ".join(answer.headers.get_list("vary"))
    assert json.loads(UNPACK[encoding](raw))["result"] == app.summary()
    assert (len(raw) < 800) == bool(encoding)


def test_an_app_id_that_needs_escaping_is_no_app(app: App) -> None:
    url = f"{app.server_url}/v1/api/apps/{quote('ö/../x', safe='')}{SUMMARY}"
    assert app.client.get(url, headers={"Authorization": f"Bearer {app.token}"}).status_code in {403, 404}
