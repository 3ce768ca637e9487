"""Sending through any provider: Twilio's forms and answers, Retry-After, and what holds whatever is answered."""

import base64
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallycast.providers import CARRIERS, PROVIDERS, find_rule, smpp, twilio
from tallycast.providers.contract import Accepted, Action, Outgoing, Refused, TemplateMessage, Unknown
from tallycast.providers.refusals import read_retry_after

ACCOUNT = {"accountSID": "AC0001", "authToken": "t0ken"}
CALLBACK = "https://hooks.example.com/webhooks/twilio/app-1-x?reference=tc%3A42.7"
thoroughly = settings(max_examples=300, deadline=None)
every_carrier = pytest.mark.parametrize("provider", sorted(CARRIERS))


def outgoing(sender: str = "SHOP", **fields: Any) -> Outgoing:
    return Outgoing("+85298765432", sender, "tc:42.7", **fields)


def error(code: int | None, message: str | None = "Said so", status: int = 400) -> bytes:
    more = "https://www.twilio.com/docs/errors"
    return json.dumps({"code": code, "message": message, "more_info": more, "status": status}).encode()


def test_twilio_gets_a_form_with_the_account_as_user() -> None:
    call = twilio.compose(ACCOUNT, outgoing(text="Sale: 20% & more 雨", callback_url=CALLBACK))
    assert (call.method, call.url) == (
        "POST",
        "https://api.twilio.com/2010-04-01/Accounts/AC0001/Messages.json",
    )
    assert dict(call.headers) == {
        "Authorization": "Basic " + base64.b64encode(b"AC0001:t0ken").decode(),
        "Content-Type": "application/x-www-form-urlencoded",
    }
    assert call.body == (
        b"To=%2B85298765432&Body=Sale%3A+20%25+%26+more+%E9%9B%A8&From=SHOP&StatusCallback=https%3A%2F%2F"
        b"hooks.example.com%2Fwebhooks%2Ftwilio%2Fapp-1-x%3Freference%3Dtc%253A42.7"
    )


@pytest.mark.parametrize(
    ("credentials", "sender", "form"),
    [
        pytest.param({}, "+85230001234", {"From": "+85230001234"}, id="a number"),
        pytest.param({"messagingServiceSID": "MG1"}, "SHOP", {"MessagingServiceSid": "MG1"}, id="a service"),
        pytest.param(
            {}, "whatsapp:+85230001234", {"To": "whatsapp:+85298765432", "From": "whatsapp:+85230001234"}, id="WhatsApp",
        ),
        pytest.param(
            {"messagingServiceSID": "MG1"}, "whatsapp:+85230001234",
            {"To": "whatsapp:+85298765432", "MessagingServiceSid": "MG1"}, id="WhatsApp through a service",
        ),
    ],
)  # fmt: skip
def test_twilios_sender_is_a_number_or_a_service(
    credentials: dict[str, str], sender: str, form: dict[str, str]
) -> None:
    call = twilio.compose(
        ACCOUNT | credentials | {"baseURL": "https://t.example.com/"}, outgoing(sender, text="Hi")
    )
    assert call.url == "https://t.example.com/2010-04-01/Accounts/AC0001/Messages.json"
    assert dict(parse_qsl(call.body.decode())) == {"To": "+85298765432", "Body": "Hi"} | form


@pytest.mark.parametrize(
    ("credentials", "fields", "reason"),
    [
        ({"authToken": "t"}, {"text": "Hi"}, "the channel's credentials lack accountSID"),
        ({"accountSID": "AC1"}, {"text": "Hi"}, "the channel's credentials lack authToken"),
        (ACCOUNT, {}, "the message has neither a text nor a template"),
        (
            ACCOUNT,
            {"template": TemplateMessage("hello", "en", [])},
            "templates cannot be sent through Twilio: use a channel of 360dialog or Meta",
        ),
    ],
)
def test_what_twilio_cannot_send_is_refused_before_it_is_sent(
    credentials: dict[str, str], fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match="^" + reason + "$"):
        twilio.compose(credentials, outgoing(**fields))


def test_twilios_answer_with_a_sid_is_an_acceptance_and_one_without_is_unknown() -> None:
    taken = (
        b'{"sid":"SM00000000000000000000000000000001","status":"queued","num_segments":"2","error_code":null}'
    )
    assert twilio.read_answer(201, {}, taken) == Accepted(["SM00000000000000000000000000000001"])
    for body in (b"", taken[:-9], b"[]", b'{"status":"queued"}', b'{"sid":7}'):
        assert twilio.read_answer(201, {}, body) == Unknown("an answer without a sid")
    assert twilio.read_answer(201, {}, b'{"sid":""}') == Unknown("an empty id")


RETRY, SLOW, FAIL, CHANNEL = Action.RETRY, Action.SLOW_DOWN, Action.FAIL, Action.PAUSE_CHANNEL
ROWS = [
    (20003, 401, CHANNEL), (20005, 403, CHANNEL), (20404, 404, CHANNEL), (20429, 429, SLOW), (20503, 503, RETRY),
    (21211, 400, FAIL), (21408, 400, FAIL), (21606, 400, FAIL), (21608, 400, FAIL), (21610, 400, Action.OPT_OUT),
    (21612, 400, FAIL), (21614, 400, FAIL), (21617, 400, FAIL), (21659, 400, CHANNEL), (21703, 400, CHANNEL),
    (21705, 400, CHANNEL), (30001, 400, RETRY), (30002, 400, CHANNEL), (30003, 400, RETRY), (30004, 400, FAIL),
    (30005, 400, FAIL), (30006, 400, FAIL), (30007, 400, FAIL), (30008, 400, FAIL), (30022, 400, SLOW),
    (30034, 400, CHANNEL), (63001, 400, CHANNEL), (63003, 400, FAIL), (63007, 400, CHANNEL), (63016, 400, FAIL),
    (63018, 400, SLOW), (63024, 400, FAIL), (63032, 400, FAIL),
    (401, 401, CHANNEL), (402, 402, CHANNEL), (403, 403, CHANNEL), (404, 404, CHANNEL), (405, 405, CHANNEL),
    (429, 429, SLOW),
]  # fmt: skip


@pytest.mark.parametrize(("code", "status", "action"), ROWS)
def test_every_row_of_twilios_error_table_decides(code: int, status: int, action: Action) -> None:
    outcome = twilio.read_answer(status, {}, error(code, status=status))
    assert isinstance(outcome, Refused)
    assert (outcome.error.code, outcome.error.title, outcome.error.rule.action) == (
        str(code),
        "Said so",
        action,
    )
    assert find_rule("twilio", str(code)) == outcome.error.rule


def test_twilios_error_table_has_no_row_that_is_not_tried_and_every_row_speaks_to_a_person() -> None:
    assert set(twilio.ERRORS) == {str(code) for code, _, _ in ROWS}
    for code, rule in twilio.ERRORS.items():
        first, _, second = rule.words.partition(". ")
        assert min(len(first), len(second)) > 8, code
        assert rule.words.endswith("."), code


@pytest.mark.parametrize(
    ("status", "body", "code", "title", "action"),
    [
        (400, error(29999), "29999", "Said so", FAIL),
        (400, error(21211, None), "21211", "Not a valid recipient number", FAIL),
        (400, b"<html>", "400", "The provider refused the message", FAIL),
        (401, b"", "401", "The provider does not accept the channel's key", CHANNEL),
        (429, b"", "429", "The provider wants fewer messages a second", SLOW),
        (503, b"<html>", "503", "The provider was not available", RETRY),
        (301, b"", "301", "The provider's address leads elsewhere", CHANNEL),
    ],
)
def test_another_refusal_of_twilio_is_judged_by_its_status(
    status: int, body: bytes, code: str, title: str, action: Action
) -> None:
    outcome = twilio.read_answer(status, {}, body)
    assert isinstance(outcome, Refused)
    assert (outcome.error.code, outcome.error.title, outcome.error.rule.action) == (code, title, action)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, error(20500, "Internal server error"), "HTTP 500: Internal server error"),
        (502, b"", "HTTP 502"),
        (504, b"<html>", "HTTP 504"),
    ],
)
def test_an_answer_of_twilio_that_may_follow_an_acceptance_is_unknown(
    status: int, body: bytes, reason: str
) -> None:
    assert twilio.read_answer(status, {}, body) == Unknown(reason)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("17", 17.0), (" 0 ", 0.0), ("999999999", 86_400.0), ("", None), ("soon", None), ("-5", None), ("1.5", None), ("٣", None)],
)  # fmt: skip
def test_retry_after_in_seconds_is_understood(header: str, seconds: float | None) -> None:
    assert read_retry_after({"retry-after": header}) == seconds
    assert read_retry_after({"Retry-After": header}) == seconds


def test_retry_after_as_a_date_is_understood() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < (read_retry_after({"retry-after": later}) or 0) <= 90
    assert read_retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert read_retry_after({"retry-after": "Wed, 21 Oct 9015 07:28:00 GMT"}) == 86_400.0
    assert read_retry_after({}) is None


def test_who_sends_also_receives_and_an_unknown_code_has_no_rule() -> None:
    assert sorted(CARRIERS) == ["360dialog", "meta", "sandbox", "twilio"]
    assert CARRIERS.keys() <= PROVIDERS.keys()
    assert [find_rule(name, "no such code") for name in [*CARRIERS, "smpp", "generic", "nobody"]] == [
        None
    ] * 7
    assert find_rule("smpp", "0x58") == smpp.ERRORS["0x58"]


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=()), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
codes = st.sampled_from([0, 1, 4, 33, 100, 131000, 131056, 20003, 21610, "190", 10**40]) | junk
errors = junk | st.fixed_dictionaries(
    {},
    optional={
        "code": codes, "message": junk, "error_subcode": codes, "is_transient": junk, "error_data": junk, "details": junk,
        "http_code": codes, "developer_message": junk,
    },
)  # fmt: skip
answers = junk | st.fixed_dictionaries(
    {},
    optional={
        "error": errors, "errors": st.lists(errors, max_size=2), "meta": errors, "message": junk, "code": codes, "sid": junk,
        "messages": junk | st.lists(junk | st.fixed_dictionaries({"id": junk}), max_size=2),
    },
)  # fmt: skip
statuses = st.integers(0, 999) | st.sampled_from([200, 201, 400, 401, 429, 500, 502, 503])
headers = st.dictionaries(st.sampled_from(["retry-after", "Retry-After", "x"]), st.text())


def assert_sound(outcome: object) -> None:
    """An outcome whose texts PostgreSQL can keep."""
    assert isinstance(outcome, Accepted | Refused | Unknown)
    texts = outcome.message_ids if isinstance(outcome, Accepted) else []
    texts += [outcome.error.code, outcome.error.title] if isinstance(outcome, Refused) else []
    texts += [outcome.reason] if isinstance(outcome, Unknown) else []
    assert texts
    for text in texts:
        assert text
        assert b"\0" not in text.encode()
        assert len(text) <= 500


@every_carrier
@thoroughly
@given(status=statuses, headers=headers, body=st.binary())
def test_no_bytes_make_reading_an_answer_fail(
    provider: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    assert_sound(CARRIERS[provider].read_answer(status, headers, body))


@every_carrier
@thoroughly
@given(status=statuses, body=answers)
def test_no_json_makes_reading_an_answer_fail(provider: str, status: int, body: Any) -> None:
    assert_sound(CARRIERS[provider].read_answer(status, {}, json.dumps(body).encode()))


@every_carrier
@thoroughly
@given(status=st.integers(500, 599), body=st.binary() | answers.map(lambda body: json.dumps(body).encode()))
def test_a_message_that_may_have_been_taken_is_never_tried_again_by_itself(
    provider: str, status: int, body: bytes
) -> None:
    """Without a code of the table, and unless the provider calls it temporary, only 503 and 360dialog's 502 repeat."""
    is_said = any(word in body for word in (b"code", b"is_transient"))
    outcome = CARRIERS[provider].read_answer(status, {}, body)
    if isinstance(outcome, Refused) and not is_said:
        assert status in {502, 503}
