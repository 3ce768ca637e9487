"""360dialog: passes Meta's notifications on; proves itself by a header which we asked it to send."""

from collections.abc import Mapping

from tallycast.events import Event
from tallycast.providers import whatsapp
from tallycast.providers.contract import Signed
from tallycast.providers.proofs import carries_secret, is_hmac_sha256


def verify(secret: str, credentials: Mapping[str, str], request: Signed) -> bool:
    """Any one valid proof is enough: sources disagree on whether 360dialog signs, so both ways work."""
    if carries_secret(request.headers.get("authorization", ""), secret):
        return True
    signature = request.headers.get("x-360dialog-signature", "").removeprefix("sha256=")
    return is_hmac_sha256(signature, credentials.get("signatureSecret") or secret, request.body)


def parse(body: bytes, content_type: str) -> list[Event]:  # noqa: ARG001 - every provider is called alike
    return whatsapp.parse(body)
