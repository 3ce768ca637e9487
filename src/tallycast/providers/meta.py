"""Meta's Cloud API: signs every body with the app's secret, and asks once whether the URL is ours."""

from collections.abc import Mapping

from tallycast.events import Event
from tallycast.providers import whatsapp
from tallycast.providers.contract import Signed
from tallycast.providers.proofs import equal, is_hmac_sha256


def verify(secret: str, credentials: Mapping[str, str], request: Signed) -> bool:
    scheme, _, signature = request.headers.get("x-hub-signature-256", "").partition("=")
    return scheme == "sha256" and is_hmac_sha256(
        signature, credentials.get("appSecret") or secret, request.body
    )


def answer_handshake(secret: str, credentials: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """The challenge to send back, if the question knows the token that was agreed on."""
    token = (credentials.get("verifyToken") or secret).encode()
    given = query.get("hub.verify_token", "").encode("utf-8", "surrogatepass")
    if query.get("hub.mode") != "subscribe" or not equal(given, token):
        return None
    return query.get("hub.challenge")


def parse(body: bytes, content_type: str) -> list[Event]:  # noqa: ARG001 - every provider is called alike
    return whatsapp.parse(body)
