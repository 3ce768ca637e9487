"""The providers, one file each: its proof of origin and its format, no database and no HTTP answers."""

import re
from collections.abc import Mapping

from tallycast.providers import dialog360, generic, meta, sandbox, smpp, twilio
from tallycast.providers.contract import Carrier, Provider, Rule, Signed
from tallycast.providers.refusals import BUSY

__all__ = ["CARRIERS", "PROVIDERS", "Provider", "Signed", "find_rule"]

PROVIDERS: dict[str, Provider] = {
    "360dialog": dialog360,
    "meta": meta,
    "twilio": twilio,
    "generic": generic,
    "smpp": generic,  # the gateway that holds the SMPP bind posts its receipts as plain JSON
    "sandbox": dialog360,  # the simulator speaks 360dialog's format
}

# Whom messages are sent through by HTTP. SMPP has sessions instead, and "generic" only receives.
CARRIERS: dict[str, Carrier] = {
    "360dialog": dialog360,
    "meta": meta,
    "twilio": twilio,
    "sandbox": sandbox,
}

_ERRORS: dict[str, Mapping[str, Rule]] = {
    "360dialog": dialog360.ERRORS,
    "meta": meta.ERRORS,
    "twilio": twilio.ERRORS,
    "smpp": smpp.ERRORS,
    "sandbox": sandbox.ERRORS,
}


def find_rule(provider: str, code: str) -> Rule | None:
    """What a failed message's error code means at its provider; None for a code that no table has."""
    rule = _ERRORS.get(provider, {}).get(code)
    if rule is None and provider in CARRIERS and code == "503":
        return BUSY
    if rule is None and provider == "smpp" and re.fullmatch("0x[0-9A-F]{2,8}", code):
        return smpp.refusal(int(code, 16)).rule
    return rule
