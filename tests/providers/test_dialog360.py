"""360dialog: any one valid proof of origin is enough, and no proof is not."""

import base64
from pathlib import Path

import pytest

from tallycast.events import Receipt, Status
from tallycast.providers import dialog360
from tallycast.providers.contract import Signed

BODIES = Path(__file__).parent / "bodies"
BODY = b'{"object":"whatsapp_business_account","entry":[]}'
SECRET = "hook-secret"
# HMAC-SHA256 of BODY under "hook-secret" and under "signing-secret"
BY_SECRET = "2b3661fe8458baa89501b67a8ab9512fac7fa91415d27cf4ec5b92601ed23a5e"
BY_SIGNING_SECRET = "ff067c34071614aeef6056f95acca52f8c46af45760d6324959e7066f380eb9d"


def basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def verify(headers: dict[str, str], secret: str = SECRET, **credentials: str) -> bool:
    return dialog360.verify(secret, credentials, Signed(headers, (), BODY))


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"authorization": "Bearer hook-secret"}, id="bearer"),
        pytest.param({"authorization": "bearer hook-secret"}, id="bearer in lower case"),
        pytest.param({"authorization": basic("anything:hook-secret")}, id="basic"),
        pytest.param({"authorization": basic(":hook-secret")}, id="basic without a name"),
        pytest.param({"x-360dialog-signature": BY_SECRET}, id="signature"),
        pytest.param({"x-360dialog-signature": "sha256=" + BY_SECRET}, id="signature with prefix"),
        pytest.param({"x-360dialog-signature": BY_SECRET.upper()}, id="signature in upper case"),
        pytest.param(
            {"authorization": "Bearer other", "x-360dialog-signature": BY_SECRET},
            id="signature beside a wrong bearer",
        ),
    ],
)
def test_any_one_valid_proof_is_accepted(headers: dict[str, str]) -> None:
    assert verify(headers)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"authorization": ""}, id="empty"),
        pytest.param({"authorization": "hook-secret"}, id="no scheme"),
        pytest.param({"authorization": "Bearer"}, id="no secret"),
        pytest.param({"authorization": "Bearer hook-secre"}, id="part of the secret"),
        pytest.param({"authorization": "Bearer hook-secret2"}, id="more than the secret"),
        pytest.param({"authorization": "Bearer höök-☃"}, id="not ASCII"),
        pytest.param({"authorization": "Bearer \ud800"}, id="half a character"),
        pytest.param({"authorization": "Digest hook-secret"}, id="another scheme"),
        pytest.param({"authorization": basic("hook-secret")}, id="basic without a colon"),
        pytest.param({"authorization": basic("hook-secret:other")}, id="the secret as name"),
        pytest.param({"authorization": "Basic a"}, id="not base64"),
        pytest.param({"authorization": "Basic ü☃"}, id="basic, not ASCII"),
        pytest.param({"x-360dialog-signature": BY_SIGNING_SECRET}, id="signature under another key"),
        pytest.param({"x-360dialog-signature": "sha256="}, id="empty signature"),
        pytest.param({"x-360dialog-signature": "ü☃"}, id="signature, not ASCII"),
    ],
)
def test_anything_else_is_refused(headers: dict[str, str]) -> None:
    assert not verify(headers)


def test_a_signature_secret_of_its_own_replaces_the_secret_for_signatures() -> None:
    assert verify({"x-360dialog-signature": BY_SIGNING_SECRET}, signatureSecret="signing-secret")
    assert not verify({"x-360dialog-signature": BY_SECRET}, signatureSecret="signing-secret")
    assert verify({"authorization": "Bearer hook-secret"}, signatureSecret="signing-secret")


@pytest.mark.parametrize("authorization", ["Bearer ", "Bearer", basic("anything:"), ""])
def test_a_channel_with_a_signature_secret_only_lets_no_empty_secret_in(authorization: str) -> None:
    headers = {"authorization": authorization}
    assert not verify(headers, secret="", signatureSecret="signing-secret")


def test_a_secret_that_is_not_ascii_is_accepted_as_it_is_on_the_wire() -> None:
    as_decoded_by_the_server = "schlüssel".encode().decode("latin-1")
    assert verify({"authorization": "Bearer " + as_decoded_by_the_server}, secret="schlüssel")
    assert verify({"authorization": basic("x:schlüssel")}, secret="schlüssel")


def test_its_notifications_are_whatsapp_notifications() -> None:
    body = (BODIES / "on_premise.json").read_bytes()
    assert dialog360.parse(body, "application/json") == [
        Receipt("wamid.TEST0000000000000000000000000001", Status.DELIVERED, 1795430461000)
    ]
