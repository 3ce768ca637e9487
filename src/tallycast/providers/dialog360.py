"""360dialog: takes messages for Meta and passes its notifications on; has errors of its own beside Meta's.

It proves itself by a header which we asked it to send.
"""

import re
from collections.abc import Mapping

from tallycast.events import Event
from tallycast.providers import cloud, whatsapp
from tallycast.providers.cloud_errors import ERRORS as META_ERRORS
from tallycast.providers.contract import Action, Call, Outcome, Outgoing, Rule, Signed
from tallycast.providers.needs import base_url, credential
from tallycast.providers.proofs import carries_secret, is_hmac_sha256
from tallycast.providers.refusals import BUSY

BASE_URL = "https://waba-v2.360dialog.io"
# "WhatsApp for Business API not available": 360dialog documents that it could not pass the message on.
ERRORS: dict[str, Rule] = {**META_ERRORS, "502": BUSY}
# What 360dialog answers with HTTP 400 and a text ("Error Code Reference", Messaging Errors).
_PHRASES: cloud.Phrases = (
    (
        re.compile(r"rate.?limit|too many requests", re.IGNORECASE),
        Rule(Action.SLOW_DOWN, "360dialog wants fewer messages a second. They go out slower by themselves."),
    ),
    (
        re.compile(r"lack of payment|unpaid|invoice", re.IGNORECASE),
        Rule(Action.PAUSE_CHANNEL, "360dialog waits for a payment. Settle its invoices, then resume."),
    ),
    (
        re.compile(r"(API|number|account).{0,20}\bdisabled", re.IGNORECASE),
        Rule(Action.PAUSE_CHANNEL, "360dialog has disabled the number. Contact its support, then resume."),
    ),
    (
        re.compile(r"invalid.{0,5}api.?key", re.IGNORECASE),
        Rule(
            Action.PAUSE_CHANNEL,
            "360dialog does not accept the channel's key. Put a valid one into its credentials, then resume.",
        ),
    ),
)


def compose(credentials: Mapping[str, str], message: Outgoing) -> Call:
    """The key alone says which number sends."""
    headers = {"D360-API-KEY": credential(credentials, "apiKey"), "Content-Type": "application/json"}
    return Call("POST", f"{base_url(credentials, BASE_URL)}/messages", headers, cloud.write_body(message))


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    return cloud.read_answer(status, headers, body, ERRORS, _PHRASES)


def verify(secret: str, credentials: Mapping[str, str], request: Signed) -> bool:
    """Any one valid proof is enough: sources disagree on whether 360dialog signs, so both ways work."""
    if carries_secret(request.headers.get("authorization", ""), secret):
        return True
    signature = request.headers.get("x-360dialog-signature", "").removeprefix("sha256=")
    return is_hmac_sha256(signature, credentials.get("signatureSecret") or secret, request.body)


def parse(body: bytes, content_type: str) -> list[Event]:  # noqa: ARG001 - every provider is called alike
    return whatsapp.parse(body)
