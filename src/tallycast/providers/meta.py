"""Meta's Cloud API: sends, signs every body with the app's secret, and asks once whether the URL is ours."""

from collections.abc import Mapping

from tallycast.events import Event
from tallycast.providers import cloud, whatsapp
from tallycast.providers.cloud_errors import ERRORS
from tallycast.providers.contract import Call, Outcome, Outgoing, Signed
from tallycast.providers.needs import base_url, credential, path_part
from tallycast.providers.proofs import equal, is_hmac_sha256

__all__ = ["ERRORS", "answer_handshake", "compose", "graph_url", "parse", "read_answer", "verify"]

_BASE_URL = "https://graph.facebook.com"
_VERSION = "v24.0"


def graph_url(credentials: Mapping[str, str]) -> str:
    """The Graph API in the version that the channel asks for."""
    version = path_part(credentials, "version") if credentials.get("version") else _VERSION
    return f"{base_url(credentials, _BASE_URL)}/{version}"


def compose(credentials: Mapping[str, str], message: Outgoing) -> Call:
    headers = {
        "Authorization": f"Bearer {credential(credentials, 'accessToken')}",
        "Content-Type": "application/json",
    }
    url = f"{graph_url(credentials)}/{path_part(credentials, 'phoneNumberID')}/messages"
    return Call("POST", url, headers, cloud.write_body(message))


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    return cloud.read_answer(status, headers, body)


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
