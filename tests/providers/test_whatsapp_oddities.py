"""The WhatsApp Cloud payload when it is odd: no part is dropped, and none costs another one."""

import json
from pathlib import Path
from typing import Any

import pytest

from tallycast.events import ButtonClick, Event, Receipt, Status, TextReply, Unreadable
from tallycast.providers.whatsapp import parse

BODIES = Path(__file__).parent / "bodies"


def in_change(value: Any, field: str = "messages") -> bytes:
    return json.dumps({"entry": [{"id": "1", "changes": [{"value": value, "field": field}]}]}).encode()


@pytest.mark.parametrize(
    "name",
    [
        "status_batch",
        "status_failed",
        "button_click",
        "button_click_without_context",
        "reply_button",
        "list_choice",
        "text_from_username",
        "text_quoting",
        "image",
        "preference_stop",
        "template_update",
    ],
)
def test_an_odd_item_in_a_body_changes_none_of_its_other_events(name: str) -> None:
    notification = json.loads((BODIES / f"{name}.json").read_bytes())
    alone = parse(json.dumps(notification).encode())
    notification["entry"].append({"changes": [{"field": "messages", "value": {"statuses": [None]}}]})
    assert parse(json.dumps(notification).encode()) == [
        *alone,
        Unreadable("Expected `object`, got `null`", b"null"),
    ]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(
            {"type": "button", "button": {}}, "a click that names no button", id="click of no button"
        ),
        pytest.param(
            {"type": "button", "button": {"payload": "x" * 513}, "context": {"id": "wamid.A"}},
            "a button of 513 characters, at most 512 are expected",
            id="long button",
        ),
        pytest.param(
            {"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {}}},
            "interactive type 'nfm_reply' is kept, not counted",
            id="answered form",
        ),
        pytest.param({"type": "reaction"}, "message type 'reaction' is kept, not counted", id="reaction"),
        pytest.param(
            {"type": "unsupported", "errors": [{"code": 131051}]},
            "message type 'unsupported' is kept, not counted",
            id="unsupported",
        ),
        pytest.param({"type": "text"}, "message type 'text' is kept, not counted", id="text without text"),
        pytest.param(
            {"type": "text", "text": {"body": 7}},
            "Expected `str`, got `int` - at `$.text.body`",
            id="text of a number",
        ),
        pytest.param({}, "Object missing required field `type`", id="no type"),
        pytest.param(
            {"type": "a\0" * 60},
            "message type '" + "a\\x00" * 30 + "…' is kept, not counted",
            id="long type with NUL",
        ),
    ],
)
def test_a_message_that_is_not_counted_is_kept_with_its_own_json(
    message: dict[str, Any], reason: str
) -> None:
    body = in_change({"messages": [{"id": "wamid.IN", "from": "447700900123"} | message]})
    (event,) = parse(body)
    assert isinstance(event, Unreadable)
    assert event.reason == reason
    assert json.loads(event.raw) == json.loads(body)["entry"][0]["changes"][0]["value"]["messages"][0]


def test_a_click_of_an_unknown_message_is_kept_and_also_read_as_a_text_for_it_may_say_stop() -> None:
    message = {"id": "wamid.IN", "from": "447700900123", "type": "button"}
    message["button"] = {"payload": "opt-out", "text": "Stop"}  # type: ignore[assignment]
    kept, text = parse(in_change({"messages": [message]}))
    assert isinstance(kept, Unreadable)
    assert kept.reason == "a click without context and without reference: its message is not known"
    assert json.loads(kept.raw) == message
    assert text == TextReply("Stop", "wamid.IN", None, None, "447700900123")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param({}, "a change of preferences without any", id="none"),
        pytest.param(
            {"user_preferences": [{"wa_id": "1", "value": "maybe"}]},
            "preference 'maybe' is unknown",
            id="unknown word",
        ),
        pytest.param({"user_preferences": [{"value": "stop"}]}, "a preference of nobody", id="nobody's"),
        pytest.param(
            {"user_preferences": [{"wa_id": 7, "value": "stop"}]},
            "Expected `str | null`, got `int` - at `$.wa_id`",
            id="number that is one",
        ),
    ],
)
def test_a_preference_that_is_not_understood_is_kept(value: dict[str, Any], reason: str) -> None:
    (event,) = parse(in_change(value, "user_preferences"))
    assert isinstance(event, Unreadable)
    assert event.reason == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(in_change({}), "neither statuses nor messages", id="empty value"),
        pytest.param(in_change({"calls": []}), "neither statuses nor messages", id="unknown kind of item"),
        pytest.param(in_change({}, "history"), "field 'history' is unknown", id="unknown field"),
        pytest.param(
            in_change({"statuses": [{"id": "wamid.A", "status": "read"}]}, "history"),
            "field 'history' is unknown",
            id="unknown field with statuses",
        ),
        pytest.param(in_change([]), "Expected `object`, got `array`", id="value is a list"),
        pytest.param(in_change({}, field=None), "Expected `str`, got `null`", id="field is null"),  # type: ignore[arg-type]
    ],
)
def test_a_change_that_is_not_understood_is_kept_with_its_own_json(body: bytes, reason: str) -> None:
    (event,) = parse(body)
    assert isinstance(event, Unreadable)
    assert event.reason == reason
    assert json.loads(event.raw) == json.loads(body)["entry"][0]["changes"][0]


def test_an_error_that_belongs_to_no_status_is_kept() -> None:
    error = {"code": 131000, "title": "Something went wrong"}
    assert parse(in_change({"errors": [error]})) == [
        Unreadable("an error that belongs to no status is kept, not counted", json.dumps(error).encode())
    ]


def test_an_error_beside_a_message_is_kept_and_the_message_is_read() -> None:
    message = {"id": "wamid.IN", "type": "text", "text": {"body": "Hello"}}
    assert parse(in_change({"messages": [message], "errors": [7]})) == [
        Unreadable("an error that belongs to no status is kept, not counted", b"7"),
        TextReply("Hello", "wamid.IN"),
    ]


@pytest.mark.parametrize(
    ("messages", "kept"),
    [
        pytest.param([], [], id="alone"),
        pytest.param([7], [Unreadable("Expected `object`, got `int`", b"7")], id="beside an odd message"),
    ],
)
def test_errors_beside_statuses_are_the_statuses_own(messages: list[Any], kept: list[Event]) -> None:
    value = {
        "statuses": [{"id": "wamid.A", "status": "read"}],
        "errors": [{"code": 131000}],
        "messages": messages,
    }
    assert parse(in_change(value)) == [Receipt("wamid.A", Status.READ), *kept]


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        pytest.param(None, "Expected `object`, got `null`", id="null"),
        pytest.param("x", "Expected `object`, got `str`", id="a string"),
        pytest.param({"status": "read"}, "Object missing required field `id`", id="no id"),
        pytest.param(
            {"id": None, "status": "read"}, "Expected `str`, got `null` - at `$.id`", id="id is null"
        ),
        pytest.param(
            {"id": 7, "status": "read"}, "Expected `str`, got `int` - at `$.id`", id="id is a number"
        ),
        pytest.param({"id": "", "status": "read"}, "an empty id", id="id is empty"),
        pytest.param({"id": "\0", "status": "read"}, "an empty id", id="id is NUL"),
        pytest.param(
            {"id": "x" * 256, "status": "read"},
            "an id of 256 characters, at most 255 are expected",
            id="id is long",
        ),
        pytest.param(
            {"id": "x", "status": 3}, "Expected `str`, got `int` - at `$.status`", id="status is a number"
        ),
        pytest.param({"id": "x"}, "Object missing required field `status`", id="no status"),
    ],
)
def test_an_odd_status_is_kept_and_its_neighbours_count(item: Any, reason: str) -> None:
    value = {"statuses": [{"id": "wamid.A", "status": "sent"}, item, {"id": "wamid.B", "status": "read"}]}
    assert parse(in_change(value)) == [
        Receipt("wamid.A", Status.ACCEPTED),
        Unreadable(reason, json.dumps(item).encode()),
        Receipt("wamid.B", Status.READ),
    ]


def test_a_list_of_the_wrong_type_is_kept_and_the_other_list_counts() -> None:
    value = {"messages": 7, "statuses": [{"id": "wamid.A", "status": "read"}]}
    assert parse(in_change(value)) == [
        Receipt("wamid.A", Status.READ),
        Unreadable("Expected `array | null`, got `int`", b"7"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"object":"whatsapp_business_account","entry":[]}', id="no entries"),
        pytest.param(b'{"entry":[{"changes":[]}]}', id="no changes"),
        pytest.param(
            b'{"entry":[{"changes":[{"field":"messages","value":{"statuses":[]}}]}]}', id="no statuses"
        ),
        pytest.param(
            b'{"entry":[{"changes":[{"field":"messages","value":{"statuses":null,"messages":null}}]}]}',
            id="null for no items",
        ),
    ],
)
def test_an_empty_notification_says_nothing(body: bytes) -> None:
    assert parse(body) == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello", id="not JSON"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b'{"entry":[{"changes"', id="cut off"),
        pytest.param(b'{"entry\xff":[]}', id="not UTF-8"),
        pytest.param(b'{"entry":[],"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", id="nested deeply"),
        pytest.param(b"[" * 200_000, id="nested deeply and cut off"),
    ],
)
def test_a_body_that_cannot_be_read_is_kept_whole(body: bytes) -> None:
    (event,) = parse(body)
    assert isinstance(event, Unreadable)
    assert event.raw == body


def test_nul_is_taken_out_of_every_string() -> None:
    value = {
        "statuses": [{"id": "wamid.\0A", "status": "failed", "errors": [{"code": "1\0", "title": "A\0B"}]}],
        "messages": [
            {
                "id": "wamid.\0IN",
                "from": "447700900123\0",
                "type": "button",
                "button": {"payload": "tc:42.7:y\0es"},
                "context": {"id": "wamid.A\0"},
            },
            {"id": "wamid.IN", "type": "text", "text": {"body": "Hel\0lo"}},
        ],
    }
    assert parse(in_change(value)) == [
        Receipt("wamid.A", Status.FAILED, None, "1", "AB"),
        ButtonClick("yes", "wamid.A", "tc:42.7", None, "wamid.IN", "447700900123"),
        TextReply("Hello", "wamid.IN"),
    ]


def test_half_an_emoji_is_replaced_wherever_it_stands() -> None:
    value = {
        "contacts": [{"profile": {"name": "Ada \ud83d"}}],
        "statuses": [{"id": "wamid.A", "status": "read"}],
        "messages": [{"id": "wamid.IN", "type": "text", "text": {"body": "\ude00 Hello \U0001f600"}}],
    }
    assert parse(in_change(value)) == [
        Receipt("wamid.A", Status.READ),
        TextReply("\ufffd Hello \U0001f600", "wamid.IN"),
    ]


def test_bytes_that_are_not_utf8_cost_only_the_item_that_holds_them() -> None:
    read, text = (
        b'{"id":"wamid.A","status":"read"}',
        b'{"id":"wamid.IN","type":"text","text":{"body":"\xff"}}',
    )
    body = b'{"statuses":[' + read + b'],"messages":[' + text + b"]}"
    receipt, odd = parse(body)
    assert receipt == Receipt("wamid.A", Status.READ)
    assert isinstance(odd, Unreadable)
    assert odd.raw == text


def test_items_beside_the_entries_are_read_as_well() -> None:
    body = b'{"entry":[],"statuses":[{"id":"wamid.A","status":"read"}]}'
    assert parse(body) == [Receipt("wamid.A", Status.READ)]
