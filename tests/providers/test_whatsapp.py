"""The WhatsApp Cloud payload: what counts, and what is kept or ignored instead."""

import json
from pathlib import Path
from typing import Any

import pytest

from tallycast.events import (
    ButtonClick,
    Event,
    Identity,
    Preference,
    Receipt,
    Status,
    TextReply,
    Unreadable,
)
from tallycast.providers.whatsapp import parse

BODIES = Path(__file__).parent / "bodies"
FIRST = "wamid.TEST0000000000000000000000000001"
SECOND = "wamid.TEST0000000000000000000000000002"
INBOUND = "wamid.TESTINBOUND000000000000000000001"
ADA = "447700900123"
ADAS_ID = "GB.90017200340056007800"
WHO = Identity(ADAS_ID, ADA)


def in_change(value: Any, field: str = "messages") -> bytes:
    return json.dumps({"entry": [{"id": "1", "changes": [{"value": value, "field": field}]}]}).encode()


def with_status(**members: Any) -> bytes:
    return in_change({"statuses": [{"id": "wamid.A", "status": "delivered"} | members]})


def with_message(**members: Any) -> bytes:
    return in_change({"messages": [{"id": "wamid.IN", "from": "447700900123"} | members]})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(
            "status_batch",
            [
                Receipt(FIRST, Status.READ, 1795430465000, reference="tc:42.7"),
                WHO,
                Receipt(FIRST, Status.DELIVERED, 1795430461000, reference="tc:42.7"),
                Receipt(SECOND, Status.ACCEPTED, 1795430460000),
                WHO,
            ],
            id="two changes, three statuses, out of order",
        ),
        pytest.param(
            "status_failed",
            [
                Receipt(
                    SECOND,
                    Status.FAILED,
                    1795430459000,
                    "131050",
                    "User stopped marketing messages: The recipient does not want marketing from this business",
                )
            ],
            id="failed, without contacts",
        ),
        pytest.param("on_premise", [Receipt(FIRST, Status.DELIVERED, 1795430461000)], id="on-premise shape"),
        pytest.param(
            "button_click",
            [ButtonClick("yes", FIRST, "tc:42.7", 1795430520000, INBOUND, ADA, "Yes please"), WHO],
            id="quick reply with context and reference",
        ),
        pytest.param(
            "button_click_without_context",
            [ButtonClick("yes", None, "tc:42.7", 1795430520000, INBOUND, ADA, "Yes please"), WHO],
            id="quick reply known by its payload alone",
        ),
        pytest.param(
            "reply_button",
            [ButtonClick("later", FIRST, None, 1795430521000, INBOUND, ADA, "Ask me later"), WHO],
            id="interactive reply button",
        ),
        pytest.param(
            "list_choice",
            [ButtonClick("size-m", FIRST, None, 1795430522000, INBOUND, ADA, "Medium"), WHO],
            id="row of a list",
        ),
        pytest.param(
            "text_from_username",
            [TextReply("Stop", INBOUND, None, 1795430700000, ADAS_ID)],
            id="text of a recipient without a phone number",
        ),
        pytest.param(
            "text_quoting",
            [TextReply("Grüße \U0001f600", INBOUND, FIRST, 1795430701000, ADA), WHO],
            id="text that quotes our message",
        ),
        pytest.param(
            "preference_stop",
            [Preference(False, ADA, 1795430710000, "User requested to stop marketing messages"), WHO],
            id="a preference, with a timestamp that is a number",
        ),
        pytest.param("template_update", [], id="management field"),
    ],
)
def test_a_recorded_body_is_read_as_these_events(name: str, expected: list[Event]) -> None:
    assert parse((BODIES / f"{name}.json").read_bytes()) == expected


def test_what_is_not_counted_is_kept_with_its_reason() -> None:
    kept, who = parse((BODIES / "image.json").read_bytes())
    assert isinstance(kept, Unreadable)
    assert kept.reason == "message type 'image' is kept, not counted"
    assert who == WHO


@pytest.mark.parametrize(
    ("preference", "event"),
    [
        pytest.param({"wa_id": ADA, "value": "stop"}, Preference(False, ADA), id="stop"),
        pytest.param({"wa_id": ADA, "value": "resume"}, Preference(True, ADA), id="resume"),
        pytest.param({"wa_id": ADA, "value": "signup"}, Preference(True, ADA), id="signup"),
        pytest.param(
            {"user_id": ADAS_ID, "value": "stop"}, Preference(False, ADAS_ID), id="without a number"
        ),
        pytest.param(
            {"wa_id": ADA, "user_id": ADAS_ID, "value": "stop"}, Preference(False, ADA), id="number before id"
        ),
        pytest.param(
            {"wa_id": ADA, "value": "stop", "timestamp": "1795430710", "detail": 7},
            Preference(False, ADA, 1795430710000),
            id="digits, and an odd detail",
        ),
    ],
)
def test_a_preference_says_who_wants_messages_and_who_does_not(
    preference: dict[str, Any], event: Preference
) -> None:
    assert parse(in_change({"user_preferences": [preference]}, "user_preferences")) == [event]


@pytest.mark.parametrize(
    ("contacts", "identities"),
    [
        pytest.param([{"wa_id": ADA, "user_id": ADAS_ID}], [WHO], id="both"),
        pytest.param([{"wa_id": ADA}], [], id="no user id"),
        pytest.param([{"user_id": ADAS_ID}], [], id="no number"),
        pytest.param([{"wa_id": "ada", "user_id": ADAS_ID}], [], id="a number that is none"),
        pytest.param(
            [{"wa_id": 7, "user_id": ADAS_ID}, {"wa_id": ADA, "user_id": ADAS_ID}], [WHO], id="odd one"
        ),
        pytest.param([{"wa_id": ADA, "user_id": "x" * 256}], [], id="long user id"),
        pytest.param("?", [], id="not a list"),
        pytest.param(None, [], id="null"),
    ],
)
def test_a_contact_with_both_names_is_an_identity_and_an_odd_one_is_nothing(
    contacts: Any, identities: list[Event]
) -> None:
    value = {"contacts": contacts, "statuses": [{"id": "wamid.A", "status": "read"}]}
    assert parse(in_change(value)) == [Receipt("wamid.A", Status.READ), *identities]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        pytest.param("sent", Status.ACCEPTED, id="sent"),
        pytest.param("delivered", Status.DELIVERED, id="delivered"),
        pytest.param("read", Status.READ, id="read"),
        pytest.param("played", Status.READ, id="played"),
        pytest.param("failed", Status.FAILED, id="failed"),
    ],
)
def test_a_status_word_means_this_status(word: str, status: Status) -> None:
    assert parse(with_status(status=word)) == [Receipt("wamid.A", status)]


@pytest.mark.parametrize("word", ["deleted", "warning"])
def test_a_status_word_that_says_nothing_about_delivery_is_ignored(word: str) -> None:
    assert parse(with_status(status=word)) == []


def test_an_unknown_status_is_kept_with_its_own_json() -> None:
    body = b'{"entry":[{"changes":[{"field":"messages","value":{"statuses":[{"id":"a", "status":"teleported"}]}}]}]}'
    assert parse(body) == [Unreadable("status 'teleported' is unknown", b'{"id":"a", "status":"teleported"}')]


@pytest.mark.parametrize(
    ("timestamp", "at_ms"),
    [
        pytest.param("1795430465", 1795430465000, id="digits"),
        pytest.param(1795430465, 1795430465000, id="integer"),
        pytest.param("soon", None, id="a word"),
        pytest.param("", None, id="empty"),
        pytest.param("1_795_430_465", None, id="underscores"),
        pytest.param("١٧٩٥٤٣٠٤٦٥", None, id="digits that are not ASCII"),
        pytest.param(-1795430465, None, id="negative"),
        pytest.param(0, None, id="zero"),
        pytest.param("1795430465000", None, id="milliseconds"),
        pytest.param("9" * 5000, None, id="five thousand digits"),
        pytest.param(True, None, id="true"),
        pytest.param(1795430465.5, None, id="a fraction"),
        pytest.param(None, None, id="null"),
        pytest.param({"s": 1}, None, id="an object"),
    ],
)
def test_a_timestamp_is_unix_seconds_or_nothing(timestamp: Any, at_ms: int | None) -> None:
    assert parse(with_status(timestamp=timestamp)) == [Receipt("wamid.A", Status.DELIVERED, at_ms)]


@pytest.mark.parametrize(
    ("data", "reference"),
    [
        pytest.param("tc:42.7", "tc:42.7", id="ours"),
        pytest.param("tc:42.7:yes", "tc:42.7", id="ours with a button"),
        pytest.param("attempt-8812", None, id="another system's"),
        pytest.param("tc:0.7", None, id="no campaign has the number 0"),
        pytest.param("tc:9999999999999999999.7", None, id="greater than any campaign"),
        pytest.param(42, None, id="a number"),
        pytest.param(None, None, id="null"),
    ],
)
def test_callback_data_is_a_reference_only_if_it_is_ours(data: Any, reference: str | None) -> None:
    body = with_status(biz_opaque_callback_data=data)
    assert parse(body) == [Receipt("wamid.A", Status.DELIVERED, reference=reference)]


@pytest.mark.parametrize(
    ("errors", "code", "title"),
    [
        pytest.param([{"code": 131026, "title": "Undeliverable"}], "131026", "Undeliverable", id="title"),
        pytest.param(
            [{"code": "131026", "message": "Not sent"}],
            "131026",
            "Not sent",
            id="message for want of a title",
        ),
        pytest.param(
            [{"code": 1, "title": "A", "error_data": {"details": "B"}}], "1", "A: B", id="details appended"
        ),
        pytest.param(
            [{"code": 1, "title": "Not A b", "error_data": {"details": "a B"}}],
            "1",
            "Not A b",
            id="details that add nothing",
        ),
        pytest.param(
            [{"code": 1, "title": "A b", "error_data": {"details": "a B c"}}],
            "1",
            "a B c",
            id="details that begin with the title",
        ),
        pytest.param([{"code": 1, "error_data": {"details": "B"}}], "1", "B", id="details alone"),
        pytest.param([{"code": 1, "title": "A"}, {"code": 2, "title": "B"}], "1", "A", id="the first of two"),
        pytest.param([{"code": 1, "title": "x" * 600}], "1", "x" * 500, id="a long title"),
        pytest.param(
            [{"code": 1, "title": "x" * 400, "error_data": {"details": "y" * 400}}],
            "1",
            "x" * 400 + ": " + "y" * 98,
            id="long details",
        ),
        pytest.param([{"code": [], "title": 7, "error_data": "?"}], None, None, id="wrong types"),
        pytest.param(["?"], None, None, id="not an object"),
        pytest.param([], None, None, id="none"),
        pytest.param({"code": 1}, None, None, id="not a list"),
    ],
)
def test_a_failed_status_counts_however_odd_its_errors_are(
    errors: Any, code: str | None, title: str | None
) -> None:
    body = with_status(status="failed", errors=errors)
    assert parse(body) == [Receipt("wamid.A", Status.FAILED, None, code, title)]


def test_errors_of_a_status_that_has_not_failed_are_left_out() -> None:
    assert parse(with_status(errors=[{"code": 1, "title": "A"}])) == [Receipt("wamid.A", Status.DELIVERED)]


@pytest.mark.parametrize(
    ("payload", "text", "button", "reference"),
    [
        pytest.param("yes", "Yes please", "yes", None, id="payload before text"),
        pytest.param(None, "Yes please", "Yes please", None, id="text for want of a payload"),
        pytest.param("", "Yes please", "Yes please", None, id="empty payload"),
        pytest.param("tc:42.7:yes", "Yes please", "yes", "tc:42.7", id="our reference is taken off"),
        pytest.param("tc:42.7:", "Yes please", "Yes please", "tc:42.7", id="our reference and nothing else"),
        pytest.param("tc:42.7:a:b", "?", "a:b", "tc:42.7", id="a payload with colons"),
        pytest.param(
            "tc:9999999999999999999.7:yes", "?", "tc:9999999999999999999.7:yes", None, id="not ours"
        ),
    ],
)
def test_a_button_is_its_payload_else_its_text(
    payload: str | None, text: str, button: str, reference: str | None
) -> None:
    body = with_message(type="button", button={"payload": payload, "text": text}, context={"id": "wamid.A"})
    label = None if text == button else text
    assert parse(body) == [ButtonClick(button, "wamid.A", reference, None, "wamid.IN", ADA, label)]


@pytest.mark.parametrize(
    "field",
    [
        "account_review_update",
        "account_update",
        "business_capability_update",
        "flows",
        "message_template_quality_update",
        "message_template_status_update",
        "phone_number_name_update",
        "phone_number_quality_update",
        "security",
        "template_category_update",
    ],
)
def test_a_notice_about_the_account_is_ignored(field: str) -> None:
    assert parse(in_change({"event": "SOMETHING"}, field)) == []


def test_link_clicks_that_name_no_recipient_are_ignored() -> None:
    assert parse(in_change({"user_actions": [{"action_type": "marketing_messages_link_click"}]})) == []


def test_statuses_and_messages_of_one_change_are_both_read() -> None:
    value = {
        "statuses": [{"id": "wamid.A", "status": "read"}],
        "messages": [{"id": "wamid.IN", "type": "text", "text": {"body": "Hello"}}],
    }
    assert parse(in_change(value)) == [Receipt("wamid.A", Status.READ), TextReply("Hello", "wamid.IN")]
