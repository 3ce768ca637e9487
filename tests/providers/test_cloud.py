"""The Cloud API's sends: the bodies of 360dialog, Meta and the sandbox, their answers, and every row of the error table."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tallycast.providers import CARRIERS, dialog360, find_rule, meta, sandbox
from tallycast.providers.cloud_errors import ERRORS
from tallycast.providers.contract import (
    Accepted,
    Action,
    Outgoing,
    Refused,
    SendError,
    TemplateMessage,
    Unknown,
)

PARAMETERS: list[dict[str, Any]] = [
    {
        "type": "header",
        "parameters": [{"type": "image", "image": {"link": "https://cdn.example.com/sale.jpg"}}],
    },
    {"type": "body", "parameters": [{"type": "text", "text": "Mei"}, {"type": "text", "text": "20%"}]},
    {
        "type": "button",
        "sub_type": "quick_reply",
        "index": "0",
        "parameters": [{"type": "payload", "payload": "tc:42.7:yes"}],
    },
    {
        "type": "button",
        "sub_type": "url",
        "index": "2",
        "parameters": [{"type": "text", "text": "Zk3vQ9pLw2"}],
    },
]
SALE = TemplateMessage("spring_sale_v3", "en_US", PARAMETERS)
# The very text, so that a change of what goes over the wire shows here.
SALE_BODY = (
    '{"messaging_product":"whatsapp","recipient_type":"individual","to":"85298765432","type":"template",'
    '"template":{"name":"spring_sale_v3","language":{"code":"en_US"},"components":['
    '{"type":"header","parameters":[{"type":"image","image":{"link":"https://cdn.example.com/sale.jpg"}}]},'
    '{"type":"body","parameters":[{"type":"text","text":"Mei"},{"type":"text","text":"20%"}]},'
    '{"type":"button","sub_type":"quick_reply","index":"0","parameters":[{"type":"payload","payload":"tc:42.7:yes"}]},'
    '{"type":"button","sub_type":"url","index":"2","parameters":[{"type":"text","text":"Zk3vQ9pLw2"}]}]},'
    '"biz_opaque_callback_data":"tc:42.7"}'
)
TAKEN = (
    b'{"messaging_product":"whatsapp","contacts":[{"input":"85298765432","wa_id":"85298765432"}],'
    b'"messages":[{"id":"wamid.HBgLODUyOTg3NjU0MzI","message_status":"accepted"}]}'
)
cloud_carriers = pytest.mark.parametrize("provider", ["360dialog", "meta", "sandbox"])


def outgoing(**fields: Any) -> Outgoing:
    return Outgoing("+85298765432", "+85230001234", "tc:42.7", **fields)


def error(code: Any, message: str = "(#1) Said so", **members: Any) -> bytes:
    return json.dumps(
        {"error": {"message": message, "type": "OAuthException", "code": code, **members}}
    ).encode()


@pytest.mark.parametrize(
    ("provider", "credentials", "url", "headers"),
    [
        pytest.param(
            "360dialog",
            {"apiKey": "k-1"},
            "https://waba-v2.360dialog.io/messages",
            {"D360-API-KEY": "k-1", "Content-Type": "application/json"},
            id="360dialog",
        ),
        pytest.param(
            "360dialog",
            {"apiKey": " k-1\n", "baseURL": "https://gateway.example.com/waba/"},
            "https://gateway.example.com/waba/messages",
            {"D360-API-KEY": "k-1", "Content-Type": "application/json"},
            id="360dialog elsewhere",
        ),
        pytest.param(
            "meta",
            {"accessToken": "EAAB", "phoneNumberID": "106540352242922"},
            "https://graph.facebook.com/v24.0/106540352242922/messages",
            {"Authorization": "Bearer EAAB", "Content-Type": "application/json"},
            id="Meta",
        ),
        pytest.param(
            "meta",
            {"accessToken": "EAAB", "phoneNumberID": "1/../2", "version": "v25.0", "baseURL": "http://127.0.0.1:9"},
            "http://127.0.0.1:9/v25.0/1%2F..%2F2/messages",
            {"Authorization": "Bearer EAAB", "Content-Type": "application/json"},
            id="Meta elsewhere, in a version, and an id that is no path",
        ),
        pytest.param(
            "sandbox",
            {"apiKey": "s-1", "baseURL": "http://127.0.0.1:9000"},
            "http://127.0.0.1:9000/messages",
            {"D360-API-KEY": "s-1", "Content-Type": "application/json"},
            id="sandbox",
        ),
    ],
)  # fmt: skip
def test_a_template_goes_out_as_this_request(
    provider: str, credentials: Mapping[str, str], url: str, headers: Mapping[str, str]
) -> None:
    call = CARRIERS[provider].compose(credentials, outgoing(template=SALE))
    assert (call.method, call.url, dict(call.headers)) == ("POST", url, headers)
    assert call.body.decode() == SALE_BODY


def test_a_text_and_a_template_without_parameters_go_out_like_this() -> None:
    credentials = {"apiKey": "k", "baseURL": "https://sandbox.example.com"}
    text = sandbox.compose(credentials, outgoing(text="雨 & sun"))
    assert text.body.decode() == (
        '{"messaging_product":"whatsapp","recipient_type":"individual","to":"85298765432","type":"text",'
        '"text":{"body":"雨 & sun"},"biz_opaque_callback_data":"tc:42.7"}'
    )
    plain = dialog360.compose(credentials, outgoing(template=TemplateMessage("hello", "en_US", [])))
    assert json.loads(plain.body)["template"] == {"name": "hello", "language": {"code": "en_US"}}


@pytest.mark.parametrize(
    ("provider", "credentials", "fields", "reason"),
    [
        ("360dialog", {}, {"text": "Hi"}, "the channel's credentials lack apiKey"),
        ("360dialog", {"apiKey": " "}, {"text": "Hi"}, "the channel's credentials lack apiKey"),
        ("360dialog", {"apiKey": "a\r\nX: b"}, {"text": "Hi"}, "the channel's credential apiKey must be plain ASCII text"),
        ("360dialog", {"apiKey": "k"}, {}, "the message has neither a text nor a template"),
        ("meta", {"phoneNumberID": "1"}, {"text": "Hi"}, "the channel's credentials lack accessToken"),
        ("meta", {"accessToken": "t"}, {"text": "Hi"}, "the channel's credentials lack phoneNumberID"),
        ("sandbox", {"apiKey": "k"}, {"text": "Hi"}, "the channel's credentials lack baseURL"),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_made_says_what_is_missing(
    provider: str, credentials: dict[str, str], fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match="^" + reason + "$"):
        CARRIERS[provider].compose(credentials, outgoing(**fields))


@cloud_carriers
def test_an_answer_with_an_id_is_an_acceptance(provider: str) -> None:
    read = CARRIERS[provider].read_answer
    assert read(200, {}, TAKEN) == Accepted(["wamid.HBgLODUyOTg3NjU0MzI"])
    held = TAKEN.replace(b"accepted", b"held_for_quality_assessment")
    assert read(200, {}, held) == Accepted(["wamid.HBgLODUyOTg3NjU0MzI"])
    assert read(201, {}, b'{"messages":[{"id":"a"},{"id":"b"}]}') == Accepted(["a"])


@cloud_carriers
@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        pytest.param(200, b"", "an answer without a message id", id="empty"),
        pytest.param(200, TAKEN[:-30], "an answer without a message id", id="cut off"),
        pytest.param(200, b'{"messages":[]}', "an answer without a message id", id="no message"),
        pytest.param(200, b'{"messages":[{"id":""}]}', "an empty id", id="an empty id"),
        pytest.param(200, error(131026), "an answer without a message id", id="an error in a success"),
        pytest.param(500, b"<html>Internal</html>", "HTTP 500", id="500, a page"),
        pytest.param(500, b'{"error":"Internal server error"}', "HTTP 500: Internal server error", id="500"),
        pytest.param(502, b"<html>Bad Gateway</html>", "HTTP 502", id="a proxy whose provider broke off"),
        pytest.param(504, b'{"message":"Timed out"}', "HTTP 504: Timed out", id="504"),
        pytest.param(408, b"", "HTTP 408", id="408"),
        pytest.param(500, error(1), "HTTP 500: (#1) Said so", id="unknown error with 500"),
        pytest.param(500, error(131000), "HTTP 500: (#1) Said so", id="something went wrong with 500"),
        pytest.param(500, error(999_999), "HTTP 500: (#1) Said so", id="a code that no table has, with 500"),
    ],
)
def test_an_answer_that_may_follow_an_acceptance_is_unknown(
    provider: str, status: int, body: bytes, reason: str
) -> None:
    """A second attempt after one of these could reach a person twice."""
    assert CARRIERS[provider].read_answer(status, {}, body) == Unknown(reason)


RETRY, SLOW, FAIL = Action.RETRY, Action.SLOW_DOWN, Action.FAIL
CAMPAIGN, CHANNEL = Action.PAUSE_CAMPAIGN, Action.PAUSE_CHANNEL
# (codes, HTTP status, action): Meta's table, row by row.
ROWS = [
    ("0", 401, CHANNEL), ("1", 400, RETRY), ("2", 503, RETRY), ("3", 500, CHANNEL), ("10", 403, CHANNEL),
    ("200", 403, CHANNEL), ("294", 403, CHANNEL), ("299", 403, CHANNEL),
    ("4", 400, SLOW), ("33", 400, CHANNEL), ("100", 400, FAIL), ("190", 401, CHANNEL), ("368", 403, CHANNEL),
    ("80007", 400, SLOW), ("130429", 400, SLOW), ("130429", 429, SLOW), ("130472", 400, FAIL), ("130497", 403, FAIL),
    ("131000", 400, RETRY), ("131005", 403, CHANNEL), ("131008", 400, FAIL), ("131009", 400, FAIL),
    ("131016", 500, RETRY), ("131021", 400, FAIL), ("131026", 400, FAIL), ("131030", 400, FAIL),
    ("131031", 403, CHANNEL), ("131037", 400, CHANNEL), ("131042", 400, CHANNEL), ("131045", 500, CHANNEL),
    ("131047", 400, FAIL), ("131048", 400, CHANNEL), ("131049", 400, FAIL), ("131050", 400, Action.OPT_OUT),
    ("131051", 400, FAIL), ("131052", 400, RETRY), ("131053", 400, RETRY), ("131056", 400, RETRY),
    ("131057", 500, RETRY), ("131062", 400, FAIL), ("131063", 400, CAMPAIGN), ("131064", 400, CHANNEL),
    ("132000", 400, FAIL), ("132001", 404, CAMPAIGN), ("132005", 400, FAIL), ("132007", 400, CAMPAIGN),
    ("132008", 400, FAIL), ("132012", 400, FAIL), ("132015", 400, CAMPAIGN), ("132016", 400, CAMPAIGN),
    ("132018", 400, FAIL), ("132068", 400, FAIL), ("132069", 400, RETRY), ("133004", 503, RETRY),
    ("133010", 400, CHANNEL), ("133016", 400, CHANNEL), ("135000", 400, FAIL), ("137000", 400, FAIL),
    ("401", 401, CHANNEL), ("402", 402, CHANNEL), ("403", 403, CHANNEL), ("404", 404, CHANNEL), ("405", 405, CHANNEL),
    ("429", 429, SLOW),
]  # fmt: skip


@cloud_carriers
@pytest.mark.parametrize(("code", "status", "action"), ROWS)
def test_every_row_of_the_error_table_decides(provider: str, code: str, status: int, action: Action) -> None:
    outcome = CARRIERS[provider].read_answer(status, {}, error(int(code), "(#0) Words"))
    assert isinstance(outcome, Refused)
    assert (outcome.error.code, outcome.error.rule.action) == (code, action)
    assert find_rule(provider, code) == outcome.error.rule


def test_the_error_table_has_no_row_that_is_not_tried_and_every_row_speaks_to_a_person() -> None:
    permissions = {str(code) for code in range(200, 300)}
    assert set(ERRORS) == {code for code, _, _ in ROWS} | permissions
    assert len({ERRORS[code] for code in permissions}) == 1
    for code, rule in ERRORS.items():
        first, _, second = rule.words.partition(". ")
        assert min(len(first), len(second)) > 8, f"{code} says what happened, and what to do"
        assert rule.words.endswith("."), code


def test_the_waits_are_metas() -> None:
    pair, upgrade = ERRORS["131056"], ERRORS["131057"]
    assert [pair.wait_seconds * pair.growth**n for n in range(4)] == [1, 4, 16, 64]
    assert upgrade.wait_seconds == 60


@pytest.mark.parametrize(
    ("provider", "status", "body", "code", "title", "action"),
    [
        pytest.param(
            "meta", 400, error(131008, "(#131008) Missing", error_data={"details": "Parameter 1 of body"}),
            "131008", "(#131008) Missing: Parameter 1 of body", FAIL, id="Meta's shape, with details",
        ),
        pytest.param(
            "360dialog", 401, b'{"meta":{"success":false,"http_code":401,"developer_message":"Invalid api_key"}}',
            "401", "The provider does not accept the channel's key", CHANNEL, id="the legacy shape",
        ),
        pytest.param(
            "360dialog", 400, b'{"error":"You have exceeded the endpoint rate limit."}',
            "400", "You have exceeded the endpoint rate limit.", SLOW, id="360dialog's rate limit is a 400",
        ),
        pytest.param(
            "360dialog", 400, b'{"error":{"message":"Endpoint rate limit exceeded","code":400}}',
            "400", "Endpoint rate limit exceeded", SLOW, id="the same in Meta's shape",
        ),
        pytest.param(
            "sandbox", 400, b'{"message":"Too many requests"}', "400", "Too many requests", SLOW, id="the same of the sandbox",
        ),
        pytest.param(
            "360dialog", 400, b'{"message":"Your WhatsApp for Business API has been disabled"}',
            "400", "Your WhatsApp for Business API has been disabled", CHANNEL, id="disabled",
        ),
        pytest.param(
            "360dialog", 400, b'{"error":"Could not send message due to lack of payment."}',
            "400", "Could not send message due to lack of payment.", CHANNEL, id="unpaid",
        ),
        pytest.param(
            "360dialog", 403, b'{"error":"The endpoint is blocked"}',
            "403", "The endpoint is blocked", CHANNEL, id="blocked",
        ),
        pytest.param(
            "360dialog", 502, b'{"error":"WhatsApp for Business API not available"}',
            "502", "WhatsApp for Business API not available", RETRY, id="360dialog could not pass it on",
        ),
        pytest.param(
            "360dialog", 400, b'{"errors":[{"code":1008,"title":"Missing","details":"name"}]}',
            "1008", "Missing: name", FAIL, id="the on-premise shape",
        ),
        pytest.param(
            "meta", 400, error(100, "Unsupported post request", error_subcode=33),
            "33", "Unsupported post request", CHANNEL, id="a deleted number is a subcode",
        ),
        pytest.param("meta", 400, error(999_999), "999999", "(#1) Said so", FAIL, id="an unknown code"),
        pytest.param("meta", 400, error(999_999, is_transient=True), "999999", "(#1) Said so", RETRY, id="it calls itself temporary"),
        pytest.param("meta", 500, error(999_999, is_transient=True), "999999", "(#1) Said so", RETRY, id="the same with 500"),
        pytest.param("meta", 503, error(999_999), "999999", "(#1) Said so", RETRY, id="an unknown code with 503"),
        pytest.param("meta", 503, b"<html>", "503", "The provider was not available", RETRY, id="503, a page"),
        pytest.param("meta", 429, b"<html>", "429", "The provider wants fewer messages a second", SLOW, id="429, a page"),
        pytest.param("meta", 404, b"<html>", "404", "The provider knows nothing at this address", CHANNEL, id="404, a page"),
        pytest.param("meta", 302, b"", "302", "The provider's address leads elsewhere", CHANNEL, id="a redirect"),
        pytest.param("meta", 400, b"<html>", "400", "The provider refused the message", FAIL, id="400, a page"),
        pytest.param("meta", 409, b'{"message":"no"}', "409", "no", FAIL, id="409"),
        pytest.param(
            "meta", 401, error(190, "Malformed access token EAAB-secret"),
            "190", "The access token has expired or was revoked", CHANNEL, id="a message that repeats the token is not kept",
        ),
    ],
)  # fmt: skip
def test_a_refusal_is_read_in_any_shape(
    provider: str, status: int, body: bytes, code: str, title: str, action: Action
) -> None:
    outcome = CARRIERS[provider].read_answer(status, {}, body)
    assert isinstance(outcome, Refused)
    assert (outcome.error.code, outcome.error.title, outcome.error.rule.action) == (code, title, action)


def test_meta_has_no_phrases_of_360dialog() -> None:
    outcome = meta.read_answer(400, {}, b'{"error":"account disabled"}')
    assert isinstance(outcome, Refused)
    assert outcome.error.rule.action is FAIL


def test_a_refusal_carries_how_long_the_provider_asks_to_wait() -> None:
    outcome = meta.read_answer(400, {"retry-after": "17"}, error(4, "(#4) Calm down"))
    assert outcome == Refused(SendError("4", "(#4) Calm down", ERRORS["4"], 17.0))
