"""tallycast's own id of a message, as it travels through other systems: `tc:<campaign>.<position>`.

It fits `biz_opaque_callback_data` (512 bytes) and a quick-reply payload (128 characters), where the button's own
payload follows it after a colon: `tc:<campaign>.<position>:<button>`.
"""

import re
from typing import NamedTuple

_REFERENCE = re.compile(r"tc:([1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,9})(?::(.*))?", re.DOTALL)
_MAX_CAMPAIGN = 2**63 - 1
_MAX_SEQ = 2**31 - 1
# The position that the links and references of test messages carry: no campaign has as many messages.
TRIAL_SEQ = _MAX_SEQ


class Address(NamedTuple):
    campaign_id: int
    seq: int


def write_reference(campaign_id: int, seq: int) -> str:
    return f"tc:{campaign_id}.{seq}"


def split_payload(payload: str) -> tuple[str | None, str]:
    """(reference, button) of a button's payload; (None, payload) where the payload carries no reference."""
    match = _REFERENCE.fullmatch(payload)
    if match is None or match[3] is None:
        return None, payload
    return f"tc:{match[1]}.{match[2]}", match[3]


def read_reference(reference: str | None) -> Address | None:
    match = _REFERENCE.fullmatch(reference or "")
    if match is None:
        return None
    address = Address(int(match[1]), int(match[2]))
    return address if address.campaign_id <= _MAX_CAMPAIGN and address.seq <= _MAX_SEQ else None
