"""Telling tallycast about campaigns that another system sent: JSON, NDJSON and CSV, and repeating it."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from harness import App, Server

NDJSON, CSV = "application/x-ndjson", "text/csv"
UTF8_BOM = b"\xef\xbb\xbf"


def send_lines(
    app: App, campaign: str, body: bytes | Iterator[bytes], kind: str = NDJSON, **headers: str
) -> Any:
    answer = app.request(
        "POST",
        f"/sent-campaigns/{campaign}/messages",
        content=body,
        headers={"Content-Type": kind, **headers},
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["result"]


def recipients(app: App, campaign: str) -> list[tuple[str, str | None]]:
    """(recipient, messageID) of each message."""
    listed = app.result("GET", f"/sent-campaigns/{campaign}/messages")["messages"]
    return [(one["recipient"], one["messageID"]) for one in listed]


def test_recording_keeps_the_good_messages_and_answers_the_bad_ones_with_their_index(app: App) -> None:
    body = {
        "campaignName": "Spring sale",
        "channelID": app.add_channel(),
        "createdBy": "Mei",
        "messages": [
            {"recipient": "+85291000000", "messageID": "m-0"},
            {"recipient": "12"},
            {"recipient": "+85291000002"},
            {"messageID": "m-3"},
            "not an object",
            {"recipient": 85291000005},
            {"recipient": "+85291000006", "messageID": "m-0"},
            {"recipient": "+85291000000", "messageID": "m-7"},
            {"recipient": "+85291000008", "messageID": "x" * 256},
            {"recipient": "+85291000000", "messageID": "m-0"},
        ],
    }
    answer = app.request("POST", "/sent-campaigns", json=body)
    assert answer.status_code == 201
    result = answer.json()["result"]
    assert list(result) == ["id", "accepted", "rejected"]
    assert (result["id"].isdecimal(), result["accepted"]) == (True, 3)
    assert result["rejected"] == [
        {"index": 1, "recipient": "12", "error": "too short for a number of country code +1; is the country code missing?"},
        {"index": 3, "recipient": "", "error": "not a message: Object missing required field `recipient`"},
        {"index": 4, "recipient": "", "error": "not a message: Expected `object`, got `str`"},
        {"index": 5, "recipient": "85291000005", "error": "not a message: Expected `str`, got `int` - at `$.recipient`"},
        {"index": 6, "recipient": "+85291000006", "error": "messageID belongs to another message"},
        {"index": 7, "recipient": "+85291000000", "error": "recipient has another messageID"},
        {"index": 8, "recipient": "+85291000008", "error": "messageID must be at most 255 characters, without NUL"},
    ]  # fmt: skip
    assert app.totals(result["id"]) == {
        "totalRecipients": 2, "delivered": 0, "read": 0, "replied": 0, "pending": 1, "failed": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"campaignName": " "}, "campaignName must not be empty", id="blank name"),
        pytest.param({"campaignName": "x" * 501}, "campaignName must be at most 500", id="long name"),
        pytest.param({"campaignName": None}, "campaignName", id="no text"),
        pytest.param({"createdBy": "a\0b"}, "createdBy must be", id="NUL"),
        pytest.param({"content": "x" * 100_001}, "content must be at most 100000", id="long content"),
        pytest.param({"channelID": "app-x"}, "channelID must be a channel of this app", id="unknown channel"),
        pytest.param({"channelID": "\0"}, "channelID must be a channel of this app", id="NUL for a channel"),
        pytest.param({"date": "2026-11-20"}, "date must be a date and time", id="date without time"),
        pytest.param({"messages": {}}, "messages", id="messages no list"),
    ],
)
def test_a_campaign_that_cannot_be_recorded_is_a_bad_query(
    app: App, fields: dict[str, Any], words: str
) -> None:
    body = {"campaignName": "Sale", "channelID": app.add_channel(), "createdBy": "Mei", **fields}
    answer = app.request("POST", "/sent-campaigns", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, 6451000)
    assert answer.json()["message"].startswith("Bad query: ")
    assert words in answer.json()["message"]


@pytest.fixture
def campaign(app: App) -> str:
    return app.record(app.add_channel(), [])


def test_ndjson_is_kept_line_by_line_and_bad_lines_are_answered_with_their_number(
    app: App, campaign: str
) -> None:
    body = UTF8_BOM + b"\n".join([
        b'{"recipient":"+85291000000","messageID":"m-0"}\r',
        b"",
        b"   ",
        b"{not json}",
        b'{"recipient":"\xff"}',
        b'["+85291000001"]',
        b'{"recipient":"+85291000002","content":"hi","unknown":1}',
        b"[" * 5000,
        b'{"recipient":"+85291000003","messageID":null}',
    ])  # fmt: skip
    result = send_lines(app, campaign, body)
    assert (result["id"], result["accepted"]) == (campaign, 3)
    assert [(one["index"], one["line"]) for one in result["rejected"]] == [(1, 4), (2, 5), (3, 6), (5, 8)]
    assert all(one["error"].startswith("not a message: ") for one in result["rejected"])
    assert recipients(app, campaign) == [
        ("+85291000000", "m-0"),
        ("+85291000002", None),
        ("+85291000003", None),
    ]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        pytest.param(b"recipient,messageID\n+85291000000,m-0\n", [("+85291000000", "m-0")], id="plain"),
        pytest.param(b"recipient,messageID\r\n+85291000000,m-0\r\n\r\n", [("+85291000000", "m-0")], id="CRLF"),
        pytest.param(b"recipient,messageID\n+85291000000,m-0", [("+85291000000", "m-0")], id="no last line end"),
        pytest.param(UTF8_BOM + b"recipient;messageID\r\n+85291000000;m-0\r\n", [("+85291000000", "m-0")], id="Excel: BOM, semicolon, CRLF"),
        pytest.param(b"recipient\tmessageID\n+85291000000\tm-0\n", [("+85291000000", "m-0")], id="tabs"),
        pytest.param(b'"Recipient","Message ID","content"\n"+85291000000","m-0","Hi, ""Mei""\r\nbye\n"\n+85291000001,m-1,\n', [("+85291000000", "m-0"), ("+85291000001", "m-1")], id="quoted line ends"),
        pytest.param("messageID,note,recipient\nm-0,晚安,+852 9100 0000\n".encode(), [("+85291000000", "m-0")], id="another order, another column"),
        pytest.param(b"recipient\n+85291000000\n", [("+85291000000", None)], id="recipients only"),
        pytest.param(b"recipient,messageID\n+85291000000\n", [("+85291000000", None)], id="a cell less"),
        pytest.param(b"recipient,messageID\n", [], id="no records"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [10_000, 1], ids=["at once", "byte by byte"])
def test_csv_is_read_as_spreadsheets_write_it(
    app: App, campaign: str, text: bytes, known: list[tuple[str, str | None]], size: int
) -> None:
    parts = (text[start : start + size] for start in range(0, len(text), size))
    result = send_lines(app, campaign, parts, "Text/CSV; charset=utf-8")
    assert result == {"id": campaign, "accepted": len(known), "rejected": []}
    assert recipients(app, campaign) == known


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(b"", "the CSV is empty", id="empty"),
        pytest.param(b"+85291000000,m-0\n", "must have a column recipient", id="no header"),
        pytest.param(b"messageID\nm-0\n", "must have a column recipient", id="no recipient column"),
        pytest.param(b"\xff\xfer\x00e\x00c\x00", "must have a column recipient", id="UTF-16"),
        pytest.param(b"recipient,messageID\r+85291000000,m-0\r", "header cannot be read", id="only CR"),
        pytest.param(b"recipient\n" + b"9" * 1_100_000, "line 2 is longer than 1000000 bytes", id="huge line"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_such_csv_is_a_bad_query(app: App, campaign: str, text: bytes, error: str) -> None:
    answer = app.request(
        "POST", f"/sent-campaigns/{campaign}/messages", content=text, headers={"Content-Type": CSV}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, 6451000)
    assert error in answer.json()["message"]
    assert app.summary() == [], "and the connection still works"


def test_quotes_that_never_close_cost_only_their_own_line(app: App, campaign: str) -> None:
    text = b'recipient,messageID\n+85291000000,"m-0\n+85291000001,m-1\n+85291000002,"m-2"\n'
    result = send_lines(app, campaign, iter([text]), CSV)
    assert [(row["line"], row["error"]) for row in result["rejected"]] == [
        (2, "not a CSV record: unexpected end of data")
    ]
    assert recipients(app, campaign) == [("+85291000001", "m-1"), ("+85291000002", "m-2")]


def test_a_quote_inside_a_field_without_quotes_is_part_of_its_text(app: App, campaign: str) -> None:
    text = b'recipient,messageID,content\n+85291000000,m-0,a 5" pipe\n+85291000001,m-1,"two\nlines"\n+85291000002,m-2,x\n'
    assert send_lines(app, campaign, iter([text]), CSV) == {"id": campaign, "accepted": 3, "rejected": []}


@pytest.mark.parametrize(
    ("record", "error"),
    [
        pytest.param(b"+85291000000,m,too,many", "4 cells under 2 columns", id="a cell more"),
        pytest.param(b'+85291000000,"m"x', "not a CSV record: ", id="after a quote"),
        pytest.param(b"+85291000000,\xff", "not a message: the line is not UTF-8", id="not UTF-8"),
        pytest.param(b"+85291000000,m\r+85291000009,n", "not a CSV record: ", id="CR inside"),
        pytest.param(b"8.5291E+10,m", "Excel has cut the number's digits", id="Excel's exponent"),
        pytest.param(b",m", "no phone number: empty", id="no number"),
        pytest.param(b"91000008,m", "too short for a number of country code +91; is the country code missing?", id="national form"),
        pytest.param(b"+85291000000," + b"x" * 256, "messageID must be at most 255 characters", id="long id"),
    ],
)  # fmt: skip
def test_a_bad_csv_record_is_answered_with_its_line_and_the_next_are_kept(
    app: App, campaign: str, record: bytes, error: str
) -> None:
    text = b'recipient,messageID\n\n+85291000001,"a\nb"\n' + record + b"\n+85291000002,c\n"
    result = send_lines(app, campaign, text, CSV)
    assert result["accepted"] == 2
    [rejected] = result["rejected"]
    assert (list(rejected), rejected["index"], rejected["line"]) == (
        ["index", "recipient", "error", "line"],
        1,
        5,
    )
    assert rejected["error"].startswith(error)


@pytest.mark.parametrize(
    "written",
    ["+85291000000", "85291000000", "+852 9100 0000", "(+852) 9100-0000", "0085291000000", "'+85291000000",
     "85291000000.0", "+852\uff191000000", "\xa085291000000\u200b"],
)  # fmt: skip
def test_a_number_is_the_same_however_it_is_written(app: App, campaign: str, written: str) -> None:
    lines = "".join(
        json.dumps({"recipient": one, "messageID": "m-0"}) + "\n" for one in ("+85291000000", written)
    )
    assert send_lines(app, campaign, lines.encode()) == {"id": campaign, "accepted": 2, "rejected": []}
    assert recipients(app, campaign) == [("+85291000000", "m-0")]


def test_a_text_keeps_its_line_separators_and_quoted_line_ends(app: App) -> None:
    campaign = app.record(app.add_channel(type="sms", phone="SHOP"), [])
    text = 'recipient,messageID,content\n+85291000000,m-0,a\u2028b\x0bc\n+85291000001,m-1,"a\nb ""c"""\n'
    assert send_lines(app, campaign, text.encode(), CSV)["accepted"] == 2
    rows = app.result("GET", "/data/sent-campaigns-detail", params={"historyID": campaign})
    assert [row["content"] for row in rows] == ["a\u2028b\x0bc", 'a\nb "c"']


def test_an_empty_stream_records_nothing(app: App, campaign: str) -> None:
    for body in (b"", b"\n\n"):
        assert send_lines(app, campaign, body) == {"id": campaign, "accepted": 0, "rejected": []}


def test_repeating_a_stream_changes_nothing(app: App, campaign: str) -> None:
    body = b"".join(b'{"recipient":"+852%d","messageID":"m-%d"}\n' % (91000000 + n, n) for n in range(5000))
    first, again = send_lines(app, campaign, body), send_lines(app, campaign, body)
    assert first == again == {"id": campaign, "accepted": 5000, "rejected": []}
    assert app.totals(campaign)["totalRecipients"] == app.totals(campaign)["pending"] == 5000


def test_a_queued_message_is_completed_by_its_id_and_then_keeps_it(app: App) -> None:
    campaign = app.record(app.add_channel(), [None, None])
    assert app.summary() == []
    assert send_lines(app, campaign, b'{"recipient":"85291000001","messageID":"m-1"}')["accepted"] == 1
    assert app.totals(campaign) | {"totalRecipients": 2, "pending": 1} == app.totals(campaign)
    result = send_lines(
        app, campaign, b'{"recipient":"+85291000001","messageID":"m-2"}\n{"recipient":"+85291000001"}'
    )
    assert (result["accepted"], [one["error"] for one in result["rejected"]]) == (
        1,
        ["recipient has another messageID"],
    )
    assert recipients(app, campaign) == [("+85291000000", None), ("+85291000001", "m-1")]


def test_a_refused_message_id_takes_only_its_own_lines_with_it(app: App) -> None:
    channel = app.add_channel()
    app.record(channel, ["taken"])
    campaign = app.record(channel, [])
    lines = b'{"recipient":"+85291000005"}\n{"recipient":"+85291000005","messageID":"taken"}\n{"recipient":"+85291000006"}'
    result = send_lines(app, campaign, lines)
    assert result["accepted"] == 2
    assert [(one["index"], one["error"]) for one in result["rejected"]] == [
        (1, "messageID belongs to another message")
    ]
    assert recipients(app, campaign) == [("+85291000006", None), ("+85291000005", None)]


def test_a_message_id_names_one_message_of_its_channel(app: App) -> None:
    channel, other_channel = app.add_channel(), app.add_channel()
    app.record(channel, ["m-0"])
    second, third = app.record(channel, []), app.record(other_channel, [])
    lines = b'{"recipient":"+85291000005","messageID":"m-0"}\n{"recipient":"+85291000006","messageID":"m-1"}\n{"recipient":"+85291000007","messageID":"m-1"}'
    result = send_lines(app, second, lines)
    assert result["accepted"] == 1
    assert [(one["index"], one["error"]) for one in result["rejected"]] == [
        (0, "messageID belongs to another message"), (2, "messageID belongs to another message")
    ]  # fmt: skip
    assert send_lines(app, third, lines[:48])["accepted"] == 1, "another channel's ids are its own"


def test_receipts_that_came_before_their_message_count_as_soon_as_it_is_recorded(app: App) -> None:
    channel = app.add_channel()
    app.post_receipts(
        channel, {"messageID": "m-0", "status": "read"}, {"messageID": "m-1", "status": "failed"}
    )
    parked = app.result("GET", "/receipts/parked")
    assert [(one["messageID"], len(one["parkedAt"]), one["parkedAt"][-1]) for one in parked] == [
        ("m-0", 24, "Z"),
        ("m-1", 24, "Z"),
    ]
    campaign = app.record(channel, ["m-0"])
    send_lines(app, campaign, b"recipient,messageID\n+85291000001,m-1\n", CSV)
    assert app.totals(campaign) | {"delivered": 1, "read": 1, "failed": 1, "pending": 0} == app.totals(
        campaign
    )
    assert app.result("GET", "/receipts/parked") == []


@pytest.mark.parametrize("what", ["channels", "sent-campaigns", "links", "messages"])
def test_a_post_that_creates_is_done_once_per_idempotency_key(app: App, what: str) -> None:
    channel = app.add_channel()
    campaign = app.record(channel, ["m-0"])
    requests: dict[str, tuple[str, dict[str, Any]]] = {
        "channels": ("/channels", {"json": {"type": "sms", "provider": "generic", "phone": "SHOP"}}),
        "sent-campaigns": ("/sent-campaigns", {"json": {"campaignName": "A", "channelID": channel, "messages": [{"recipient": "1"}]}}),
        "links": (f"/sent-campaigns/{campaign}/links", {"json": {"url": "https://shop.example.com/"}}),
        "messages": (f"/sent-campaigns/{campaign}/messages", {"content": b'{"recipient":"1"}'}),
    }  # fmt: skip
    path, body = requests[what]
    headers = {
        "Idempotency-Key": "the key",
        "Content-Type": NDJSON if what == "messages" else "application/json",
    }
    first, again = (app.request("POST", path, headers=headers, **body) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["result"] == first.json()["result"]
    assert ("idempotency-replayed" in first.headers, again.headers["idempotency-replayed"]) == (False, "true")
    other = app.request(
        "POST",
        "/channels",
        headers=headers | {"Content-Type": "application/json"},
        json={"type": "sms", "provider": "generic", "phone": "B"},
    )
    assert other.status_code == 422


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb"])
def test_an_odd_idempotency_key_is_a_bad_query(app: App, key: str) -> None:
    answer = app.request(
        "POST",
        "/channels",
        json={"type": "sms", "provider": "generic", "phone": "B"},
        headers={"Idempotency-Key": key},
    )
    assert answer.status_code == 400
    assert answer.json()["message"] == "Bad query: Idempotency-Key must be 1 to 255 printable characters"


def test_requests_at_once_with_one_key_record_one_campaign(app: App, database_url: str) -> None:
    body = {
        "campaignName": "A",
        "channelID": app.add_channel(),
        "messages": [{"recipient": "+85291000000", "messageID": "m-0"}],
    }

    def post(_: int) -> httpx.Response:
        return app.request("POST", "/sent-campaigns", json=body, headers={"Idempotency-Key": "once"})

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(post, range(12)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["result"]["id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" not in answer.headers for answer in answers) == 1
    with psycopg.connect(database_url) as connection:
        query = "select count(*) from campaigns where app_id = %s"
        assert connection.execute(query, [app.app_id]).fetchall() == [(1,)]


def test_a_key_whose_request_failed_may_be_used_again(app: App) -> None:
    headers = {"Idempotency-Key": "k"}
    assert (
        app.request(
            "POST", "/sent-campaigns", json={"campaignName": "A", "channelID": "x"}, headers=headers
        ).status_code
        == 400
    )
    app.result(
        "POST", "/channels", json={"type": "sms", "provider": "generic", "phone": "B"}, headers=headers
    )


def _memory_kib(server: Server) -> int:
    """The resident memory of the server's processes (proc_pid_status(5))."""
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    status = [Path(f"/proc/{child}/status").read_text() for child in children]
    return sum(int(text.split("VmRSS:")[1].split()[0]) for text in status if "VmRSS:" in text)


def test_a_stream_of_any_length_is_recorded_in_flat_memory(server: Server, app: App) -> None:
    campaign = app.record(app.add_channel(), [])
    send_lines(app, campaign, b'{"recipient":"1"}\n' * 5000)
    lines = [
        b'{"recipient":"+852%d","messageID":"a message id of usual length %d"}\n' % (91000000 + n, n)
        for n in range(200_000)
    ]
    before = _memory_kib(server)
    result = send_lines(app, campaign, (b"".join(lines[n : n + 1000]) for n in range(0, len(lines), 1000)))
    assert (result["accepted"], result["rejected"]) == (200_000, [])
    assert _memory_kib(server) - before < 60_000
    assert app.totals(campaign)["pending"] == 200_000
