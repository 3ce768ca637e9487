"""Plain JSON receipts: the documented shape, and what becomes of everything else."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tallycast.events import Receipt, Status, Unreadable
from tallycast.providers import generic
from tallycast.providers.contract import Signed

BODIES = Path(__file__).parent / "bodies"


def parse(body: bytes) -> list[Any]:
    return list(generic.parse(body, "application/json"))


def with_receipt(**members: Any) -> bytes:
    return json.dumps({"receipts": [{"messageID": "gw-1", "status": "delivered"} | members]}).encode()


def test_a_recorded_body_is_read_as_these_receipts() -> None:
    assert parse((BODIES / "generic_receipts.json").read_bytes()) == [
        Receipt("gw-0001", Status.ACCEPTED, 1795402800000),
        Receipt("gw-0001", Status.DELIVERED, 1795402804250),
        Receipt("gw-0002", Status.FAILED, 1795402805000, "0B", "Invalid destination"),
        Receipt("gw-0003", Status.READ, 1795402805125, reference="tc:42.9"),
        Receipt("gw-0004", Status.DELIVERED),
    ]


@pytest.mark.parametrize(
    ("timestamp", "at_ms"),
    [
        pytest.param("2026-11-23T03:00:00Z", 1795402800000, id="UTC"),
        pytest.param("2026-11-23t03:00:00z", 1795402800000, id="lower case"),
        pytest.param("2026-11-23T11:00:00.1259+08:00", 1795402800125, id="offset and fraction"),
        pytest.param(1795402800, 1795402800000, id="seconds"),
        pytest.param(1795402800.125, 1795402800125, id="seconds with a fraction"),
        pytest.param(1795402800125, 1795402800125, id="milliseconds"),
        pytest.param(1795402800125.0, 1795402800125, id="milliseconds as a float"),
        pytest.param("2026-11-23T03:00:00", None, id="no offset"),
        pytest.param("2026-11-23", None, id="a date"),
        pytest.param("0001-01-01T00:00:00+14:00", None, id="long ago"),
        pytest.param("soon", None, id="a word"),
        pytest.param(-1, None, id="negative"),
        pytest.param(-1e308, None, id="very negative"),
        pytest.param(1e308, None, id="very large"),
        pytest.param(True, None, id="true"),
        pytest.param(None, None, id="null"),
        pytest.param([1795402800], None, id="a list"),
    ],
)
def test_a_timestamp_is_rfc3339_or_unix_seconds_or_milliseconds_or_nothing(
    timestamp: Any, at_ms: int | None
) -> None:
    assert parse(with_receipt(timestamp=timestamp)) == [Receipt("gw-1", Status.DELIVERED, at_ms)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        pytest.param("0B", "0B", id="text"),
        pytest.param(11, "11", id="number"),
        pytest.param("", None, id="empty"),
        pytest.param("9" * 100, "9" * 64, id="long"),
        pytest.param(10**30, None, id="huge number"),
        pytest.param({}, None, id="object"),
    ],
)
def test_an_error_code_is_text(code: Any, expected: str | None) -> None:
    body = with_receipt(status="failed", errorCode=code)
    assert parse(body) == [Receipt("gw-1", Status.FAILED, None, expected)]


def test_an_error_code_of_a_message_that_has_not_failed_is_left_out() -> None:
    assert parse(with_receipt(errorCode="000", errorTitle="no error")) == [Receipt("gw-1", Status.DELIVERED)]


def test_a_reference_that_is_not_ours_is_left_out() -> None:
    assert parse(with_receipt(reference="order-7")) == [Receipt("gw-1", Status.DELIVERED)]


def test_a_nul_at_the_end_of_an_id_is_taken_off() -> None:
    assert parse(with_receipt(messageID="00000001\0")) == [Receipt("00000001", Status.DELIVERED)]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        pytest.param(
            {"messageID": "b", "status": "lost"},
            "Invalid enum value 'lost' - at `$.status`",
            id="unknown status",
        ),
        pytest.param(
            {"messageID": "b", "status": "\0"},
            r"Invalid enum value '\x00' - at `$.status`",
            id="status is NUL",
        ),
        pytest.param({"messageID": "b"}, "Object missing required field `status`", id="no status"),
        pytest.param({"status": "read"}, "Object missing required field `messageID`", id="no id"),
        pytest.param(
            {"messageID": 7, "status": "read"},
            "Expected `str`, got `int` - at `$.messageID`",
            id="id is a number",
        ),
        pytest.param({"messageID": "", "status": "read"}, "an empty id", id="id is empty"),
        pytest.param(
            {"messageID": "x" * 256, "status": "read"},
            "an id of 256 characters, at most 255 are expected",
            id="id is long",
        ),
        pytest.param(None, "Expected `object`, got `null`", id="null"),
    ],
)
def test_an_odd_receipt_is_kept_and_its_neighbours_count(item: Any, reason: str) -> None:
    body = {
        "receipts": [{"messageID": "a", "status": "accepted"}, item, {"messageID": "c", "status": "read"}]
    }
    assert parse(json.dumps(body).encode()) == [
        Receipt("a", Status.ACCEPTED),
        Unreadable(reason, json.dumps(item).encode()),
        Receipt("c", Status.READ),
    ]


def test_a_reason_is_short_however_long_the_odd_word_is() -> None:
    (event,) = parse(with_receipt(status="x" * 10_000))
    assert isinstance(event, Unreadable)
    assert len(event.reason) == 500


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="no receipts"),
        pytest.param(b'{"receipts":{}}', id="receipts is an object"),
        pytest.param(b'[{"messageID":"a","status":"read"}]', id="a list"),
        pytest.param(b'{"receipts":[' + b"[" * 200_000, id="nested deeply"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
    ],
)
def test_a_body_that_cannot_be_read_is_kept_whole(body: bytes) -> None:
    (event,) = parse(body)
    assert isinstance(event, Unreadable)
    assert event.raw == body


def test_an_empty_list_says_nothing() -> None:
    assert parse(b'{"receipts":[]}') == []


@pytest.mark.parametrize(
    ("authorization", "accepted"),
    [
        pytest.param("Bearer hook-secret", True, id="bearer"),
        pytest.param("Basic " + base64.b64encode(b"gateway:hook-secret").decode(), True, id="basic"),
        pytest.param("Bearer another", False, id="wrong bearer"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_the_secret_is_asked_for(authorization: str, accepted: bool) -> None:
    request = Signed({"authorization": authorization}, (), b"")
    assert generic.verify("hook-secret", {}, request) is accepted
