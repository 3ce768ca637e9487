"""Twilio: its signature, its status callbacks and its inbound messages."""

import json
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tallycast.events import ButtonClick, Event, Receipt, Status, TextReply, Unreadable
from tallycast.providers import twilio
from tallycast.providers.contract import Signed

BODIES = Path(__file__).parent / "bodies"
FORM = "application/x-www-form-urlencoded"
STATUS = b"MessageSid=SM1&MessageStatus=sent"
CALLBACK_URL = "https://hooks.example.com/twilio/status"


def callback(**changes: str) -> bytes:
    fields = {
        "AccountSid": "AC00000000000000000000000000000001",
        "ApiVersion": "2010-04-01",
        "From": "ACME",
        "MessageSid": "SM00000000000000000000000000000001",
        "MessageStatus": "delivered",
        "SmsSid": "SM00000000000000000000000000000001",
        "SmsStatus": "delivered",
        "To": "+85298765432",
    }
    return urlencode(fields | changes).encode()


def call(caller: str) -> bytes:
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": caller,
        "Digits": "1234",
        "From": caller,
        "To": "+18005551212",
    }
    return urlencode(fields).encode()


def verify(
    token: str, url: str, body: bytes, signature: str, content_type: str = FORM, **credentials: str
) -> bool:
    headers = {"x-twilio-signature": signature, "content-type": content_type}
    return twilio.verify(token, credentials, Signed(headers, (url,), body))


@pytest.mark.parametrize(
    ("token", "url", "body", "signature"),
    [
        pytest.param(
            "12345",
            "https://mycompany.com/myapp.php?foo=1&bar=2",
            call("+12349013030"),
            "0/KCTR6DLpKmkAf8muzZqo1nDgQ=",
            id="the known vector",
        ),
        pytest.param(
            "12345",
            "https://mycompany.com/myapp.php?foo=1&bar=2",
            call("+14158675309"),
            "RSOYDt4T1cUTdK1PDd93/VVr8B8=",
            id="the other known vector",
        ),
        pytest.param(
            "test-auth-token", CALLBACK_URL, callback(), "K9Eq3uVQaIR+/9/MJQkbf9Hy/vg=", id="status callback"
        ),
        pytest.param(
            "token-9",
            "https://sms.example.com:9443/hook",
            STATUS,
            "VZS66uDJjEF2PrAcXp6QhLwulNI=",
            id="signed with the port",
        ),
        pytest.param(
            "token-9",
            "https://sms.example.com:9443/hook",
            STATUS,
            "d4d5YxY/0RaNgLyFuPwM1MEK73E=",
            id="signed without the port",
        ),
        pytest.param(
            "token-9",
            "https://sms.example.com/hook",
            STATUS,
            "hEBzClLmzWfaAxW60l2nFUKCihs=",
            id="signed with the default port",
        ),
        pytest.param(
            "token-9",
            "http://sms.example.com/hook",
            STATUS,
            "WRfKBqewcU4v1bcGDcKb6J+giCk=",
            id="signed with the default port of http",
        ),
        pytest.param(
            "token-9",
            "https://sms.example.com/hook",
            b"MediaUrl=b&MediaUrl=a&MediaUrl=b&Empty=",
            "qSIt7t2rH/6CJGlSpf2z+YgQhCc=",
            id="repeated and empty fields",
        ),
        pytest.param(
            "token-9",
            "https://sms.example.com/hook",
            b"MessageSid=SM1&Body=Gr%C3%BC%C3%9Fe",
            "iHSBsWkk3Ze0X2Qt3wtH+bd7/bw=",
            id="letters that are not ASCII",
        ),
    ],
)
def test_a_signature_of_the_url_and_the_form_is_accepted(
    token: str, url: str, body: bytes, signature: str
) -> None:
    assert verify(token, url, body, signature)


BODY_HASH = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
HASHED_URL = f"https://sms.example.com/hook?bodySHA256={BODY_HASH}"
SIGNED_HASH = "rB1d9a59E/aSoN1VsjTu7/NsDzE="


def test_json_is_accepted_when_the_signed_url_carries_its_hash() -> None:
    assert verify("token-9", HASHED_URL, b'{"a":1}', SIGNED_HASH, "application/json")


@pytest.mark.parametrize(
    ("url", "body", "signature", "content_type"),
    [
        pytest.param(HASHED_URL, b'{"a":2}', SIGNED_HASH, "application/json", id="JSON of another hash"),
        pytest.param(
            "https://sms.example.com/hook",
            b'{"a":1}',
            "KpjK763fbyKUemjaqT93qq3n6vY=",
            "application/json",
            id="JSON without a hash, under the signature of the URL",
        ),
        pytest.param(
            "https://sms.example.com/hook",
            STATUS,
            "KpjK763fbyKUemjaqT93qq3n6vY=",
            FORM,
            id="form beside the signature of the URL",
        ),
        pytest.param(CALLBACK_URL + "?", STATUS, "d4d5YxY/0RaNgLyFuPwM1MEK73E=", FORM, id="another URL"),
        pytest.param(
            "https://sms.example.com/hook",
            b"MessageSid=SM1&MessageStatus=read",
            "d4d5YxY/0RaNgLyFuPwM1MEK73E=",
            FORM,
            id="another field",
        ),
        pytest.param("https://sms.example.com/hook", STATUS, "", FORM, id="empty signature"),
        pytest.param("https://sms.example.com/hook", STATUS, "é☃", FORM, id="signature that is not ASCII"),
        pytest.param("https://[oops/hook", STATUS, "x", FORM, id="a URL that is none"),
        pytest.param("https://sms.example.com/\ud800", STATUS, "x", FORM, id="a URL with half a character"),
        pytest.param(
            "https://[oops/hook", b"{}", "x", "application/json", id="a URL that is none, with JSON"
        ),
        pytest.param(
            "https://sms.example.com:port/hook", b"\xff=\xff&%ff", "x", FORM, id="a port that is none"
        ),
    ],
)
def test_anything_else_is_refused(url: str, body: bytes, signature: str, content_type: str) -> None:
    assert not verify("token-9", url, body, signature, content_type)


def test_any_of_the_urls_under_which_twilio_may_know_us_is_enough() -> None:
    headers = {"x-twilio-signature": "d4d5YxY/0RaNgLyFuPwM1MEK73E="}
    urls = ("http://10.0.0.5:8080/hook", "https://sms.example.com/hook")
    assert twilio.verify("token-9", {}, Signed(headers, urls, STATUS))
    assert not twilio.verify("token-9", {}, Signed(headers, urls[:1], STATUS))
    assert not twilio.verify("token-9", {}, Signed(headers, (), STATUS))


def test_the_auth_token_is_the_key_where_there_is_one() -> None:
    url, signature = "https://sms.example.com/hook", "d4d5YxY/0RaNgLyFuPwM1MEK73E="
    assert verify("hook-secret", url, STATUS, signature, authToken="token-9")
    assert not verify("token-9", url, STATUS, signature, authToken="another")


def test_an_empty_key_signs_nothing() -> None:
    by_empty_key = "s595F2NOfSMh7dX0s/Ig63IJdGE="
    assert not verify("", "https://sms.example.com/hook", STATUS, by_empty_key)


def test_a_recorded_callback_is_read_as_a_receipt() -> None:
    fields = json.loads((BODIES / "twilio_delivered.json").read_bytes())
    assert twilio.parse(urlencode(fields).encode(), FORM) == [
        Receipt("SM00000000000000000000000000000009", Status.DELIVERED, 1795402860000)
    ]


@pytest.mark.parametrize(
    ("word", "status", "title"),
    [
        pytest.param("queued", Status.ACCEPTED, None, id="queued"),
        pytest.param("accepted", Status.ACCEPTED, None, id="accepted"),
        pytest.param("scheduled", Status.ACCEPTED, None, id="scheduled"),
        pytest.param("sending", Status.ACCEPTED, None, id="sending"),
        pytest.param("sent", Status.ACCEPTED, None, id="sent"),
        pytest.param("delivered", Status.DELIVERED, None, id="delivered"),
        pytest.param("read", Status.READ, None, id="read"),
        pytest.param("undelivered", Status.FAILED, "undelivered", id="undelivered"),
        pytest.param("failed", Status.FAILED, "failed", id="failed"),
        pytest.param("canceled", Status.FAILED, "canceled", id="canceled"),
    ],
)
def test_a_status_word_means_this_status(word: str, status: Status, title: str | None) -> None:
    body = urlencode({"MessageSid": "SM1", "MessageStatus": word}).encode()
    assert twilio.parse(body, FORM) == [Receipt("SM1", status, error_title=title)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {"MessageStatus": "failed", "ErrorCode": "21610", "ErrorMessage": "?"},
            Receipt("SM1", Status.FAILED, None, "21610", "Recipient opted out"),
            id="a code that we know",
        ),
        pytest.param(
            {"MessageStatus": "failed", "ErrorCode": "63899", "ErrorMessage": "Outside the window"},
            Receipt("SM1", Status.FAILED, None, "63899", "Outside the window"),
            id="a code that Twilio explains",
        ),
        pytest.param(
            {"MessageStatus": "undelivered", "ErrorCode": "63899"},
            Receipt("SM1", Status.FAILED, None, "63899", "undelivered"),
            id="a code that nobody explains",
        ),
        pytest.param(
            {"MessageStatus": "delivered", "ErrorCode": "30008"},
            Receipt("SM1", Status.DELIVERED),
            id="a code of a message that has not failed",
        ),
        pytest.param(
            {"SmsStatus": "delivered"}, Receipt("SM1", Status.DELIVERED), id="the legacy name of the status"
        ),
        pytest.param(
            {"MessageStatus": "delivered", "RawDlrDoneDate": "2613990000"},
            Receipt("SM1", Status.DELIVERED),
            id="a date that is none",
        ),
        pytest.param(
            {"MessageStatus": "delivered", "RawDlrDoneDate": "tomorrow"},
            Receipt("SM1", Status.DELIVERED),
            id="a date of letters",
        ),
    ],
)
def test_a_status_callback_is_read_as_this_receipt(fields: dict[str, str], expected: Receipt) -> None:
    assert twilio.parse(urlencode({"SmsSid": "SM1"} | fields).encode(), FORM) == [expected]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {"From": "+447700900123", "Body": "Stop"},
            TextReply("Stop", "SM1", None, None, "+447700900123"),
            id="SMS",
        ),
        pytest.param(
            {"From": "whatsapp:+447700900123", "Body": "Grüße", "OriginalRepliedMessageSid": "SM0"},
            TextReply("Grüße", "SM1", "SM0", None, "+447700900123"),
            id="WhatsApp text that quotes our message",
        ),
        pytest.param(
            {
                "From": "whatsapp:+447700900123",
                "Body": "Yes please",
                "ButtonPayload": "tc:42.7:yes",
                "ButtonText": "Yes please",
                "OriginalRepliedMessageSid": "SM0",
            },
            ButtonClick("yes", "SM0", "tc:42.7", None, "SM1", "+447700900123", "Yes please"),
            id="WhatsApp button",
        ),
        pytest.param(
            {"Body": "Yes please", "ButtonText": "Yes please", "OriginalRepliedMessageSid": "SM0"},
            ButtonClick("Yes please", "SM0", None, None, "SM1", None),
            id="WhatsApp button without a payload",
        ),
        pytest.param(
            {"Body": "Yes please", "ButtonPayload": "tc:42.7:yes"},
            ButtonClick("yes", None, "tc:42.7", None, "SM1", None),
            id="WhatsApp button known by its payload alone",
        ),
    ],
)
def test_an_inbound_message_is_read_as_this_reply(fields: dict[str, str], expected: Event) -> None:
    body = urlencode({"MessageSid": "SM1", "SmsStatus": "received"} | fields).encode()
    assert twilio.parse(body, FORM) == [expected]


def test_a_click_of_an_unknown_message_is_kept_and_also_read_as_a_text_for_it_may_say_stop() -> None:
    body = b"MessageSid=SM1&SmsStatus=received&From=whatsapp:%2B447700900123&Body=Stop&ButtonText=Stop&ButtonPayload=out"
    reason = "a click without original message and without reference: its message is not known"
    assert twilio.parse(body, FORM) == [
        Unreadable(reason, body),
        TextReply("Stop", "SM1", None, None, "+447700900123"),
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "no MessageSid", id="empty"),
        pytest.param(b"MessageStatus=sent", "no MessageSid", id="no sid"),
        pytest.param(b'{"MessageSid":"SM1"}', "no MessageSid", id="JSON"),
        pytest.param(b"\xff\x00%ff%00", "no MessageSid", id="bytes"),
        pytest.param(b"MessageSid=SM1", "status '' is unknown", id="no status"),
        pytest.param(b"MessageSid=SM1&MessageStatus=lost", "status 'lost' is unknown", id="unknown status"),
        pytest.param(
            b"MessageSid=SM1&SmsStatus=received", "status 'received' is unknown", id="received nothing"
        ),
        pytest.param(
            b"MessageSid=SM1&SmsStatus=received&Body=&NumMedia=1",
            "a message without text is kept, not counted",
            id="a picture",
        ),
        pytest.param(
            b"MessageSid=" + b"x" * 256 + b"&MessageStatus=sent",
            "an id of 256 characters, at most 255 are expected",
            id="long sid",
        ),
    ],
)
def test_what_is_not_understood_is_kept_whole(body: bytes, reason: str) -> None:
    assert twilio.parse(body, FORM) == [Unreadable(reason, body)]


def test_nul_is_taken_out_of_every_field() -> None:
    body = b"MessageSid=SM%001&SmsStatus=received&Body=Hel%00lo&From=%2B44%007700900123"
    assert twilio.parse(body, FORM) == [TextReply("Hello", "SM1", None, None, "+447700900123")]
