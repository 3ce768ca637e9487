"""Meta: the app's signature over the raw body, and the handshake."""

from pathlib import Path

import pytest

from tallycast.events import ButtonClick, Identity
from tallycast.providers import meta
from tallycast.providers.contract import Signed

BODIES = Path(__file__).parent / "bodies"
BODY = b'{"object":"whatsapp_business_account","entry":[]}'
SECRET = "app-secret-for-tests"
SIGNATURE = "1ca363dab318df784e1963b29dca91e2098e6cf2fbf0d3c14e09580a90684a61"


def verify(signature: str, body: bytes = BODY, secret: str = SECRET, **credentials: str) -> bool:
    return meta.verify(secret, credentials, Signed({"x-hub-signature-256": signature}, (), body))


def test_the_signature_of_the_raw_body_is_accepted() -> None:
    assert verify("sha256=" + SIGNATURE)


def test_the_app_secret_is_the_key_where_there_is_one() -> None:
    assert verify("sha256=" + SIGNATURE, secret="hook-secret", appSecret=SECRET)
    assert not verify("sha256=" + SIGNATURE, secret=SECRET, appSecret="another")


@pytest.mark.parametrize(
    ("signature", "body"),
    [
        pytest.param("sha256=" + SIGNATURE, BODY + b" ", id="another body"),
        pytest.param("sha256=" + SIGNATURE[:-1] + "0", BODY, id="another signature"),
        pytest.param(SIGNATURE, BODY, id="no scheme"),
        pytest.param("sha1=" + SIGNATURE, BODY, id="another scheme"),
        pytest.param("sha256=", BODY, id="empty"),
        pytest.param("", BODY, id="nothing"),
        pytest.param("sha256=é☃", BODY, id="not ASCII"),
    ],
)
def test_any_other_signature_is_refused(signature: str, body: bytes) -> None:
    assert not verify(signature, body)


def test_a_request_without_the_header_is_refused() -> None:
    assert not meta.verify(SECRET, {}, Signed({}, (), BODY))


def test_an_empty_key_signs_nothing() -> None:
    by_empty_key = "704eb71c28bbe7c091ca5b8f9446c2bceec023435f33ff17e7fb9634d46333bc"
    assert not verify("sha256=" + by_empty_key, secret="")


QUESTION = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": "agreed"}


@pytest.mark.parametrize(
    ("secret", "credentials"),
    [
        pytest.param("agreed", {}, id="the channel's secret"),
        pytest.param("other", {"verifyToken": "agreed"}, id="a token of its own"),
    ],
)
def test_a_handshake_with_the_agreed_token_is_answered_with_its_challenge(
    secret: str, credentials: dict[str, str]
) -> None:
    assert meta.answer_handshake(secret, credentials, QUESTION) == "1158201444"


@pytest.mark.parametrize(
    ("secret", "change"),
    [
        pytest.param("agreed", {"hub.verify_token": "guessed"}, id="wrong token"),
        pytest.param("agreed", {"hub.verify_token": "\ud800é☃"}, id="token that is not ASCII"),
        pytest.param("agreed", {"hub.mode": "unsubscribe"}, id="another mode"),
        pytest.param("", {"hub.verify_token": ""}, id="a channel without a secret"),
    ],
)
def test_any_other_handshake_is_not_answered(secret: str, change: dict[str, str]) -> None:
    assert meta.answer_handshake(secret, {}, QUESTION | change) is None


@pytest.mark.parametrize("missing", ["hub.mode", "hub.challenge", "hub.verify_token"])
def test_a_handshake_that_lacks_a_part_is_not_answered(missing: str) -> None:
    question = {name: value for name, value in QUESTION.items() if name != missing}
    assert meta.answer_handshake("agreed", {}, question) is None


def test_its_notifications_are_whatsapp_notifications() -> None:
    body = (BODIES / "button_click.json").read_bytes()
    assert meta.parse(body, "application/json") == [
        ButtonClick(
            "yes",
            "wamid.TEST0000000000000000000000000001",
            "tc:42.7",
            1795430520000,
            "wamid.TESTINBOUND000000000000000000001",
            "447700900123",
            "Yes please",
        ),
        Identity("GB.90017200340056007800", "447700900123"),
    ]
