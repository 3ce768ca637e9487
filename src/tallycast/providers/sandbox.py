"""The simulator: takes messages as 360dialog does, SMS too, at an address of its own."""

from collections.abc import Mapping

from tallycast.providers import dialog360, twilio
from tallycast.providers.contract import Call, Outgoing
from tallycast.providers.dialog360 import read_answer
from tallycast.providers.needs import credential

__all__ = ["ERRORS", "compose", "read_answer"]

# What carriers say of an SMS has Twilio's codes there.
ERRORS = twilio.ERRORS | dialog360.ERRORS


def compose(credentials: Mapping[str, str], message: Outgoing) -> Call:
    credential(credentials, "baseURL")  # without it the rehearsal would go to the real 360dialog
    return dialog360.compose(credentials, message)
