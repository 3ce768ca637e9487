"""Profiles: how often the simulated providers, networks and people do what, and after how long."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from tallycast.config import BadSetting

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Range = tuple[Seconds, Seconds]
Count = Annotated[int, msgspec.Meta(ge=0)]
ReceiptForm = Literal["both", "text", "tlvs"]


class Profile(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Shares are of 1, ranges are in seconds. The order is that of a message's life.

    A request is refused as `throttled` (HTTP 429 with Retry-After, SMPP's RTHROTTLED), `limited` (HTTP 400 with a
    rate limit in its body, RMSGQFUL), `broken` (5xx, RSYSERR) or `pair_limited` (131056); or it is taken and left
    without an answer: `cut` closes the connection at once, `hung` after `hung_seconds`. None of the refused was sent.
    """

    answer_seconds: Range = (0.0, 0.0)
    throttled: Share = 0.0
    retry_after_seconds: Count = 1
    limited: Share = 0.0
    broken: Share = 0.0
    pair_limited: Share = 0.0
    cut: Share = 0.0
    hung: Share = 0.0
    hung_seconds: Seconds = 60.0
    ceiling: Count = 0  # messages that a channel may send in any second; 0 = no limit
    pair_seconds: Seconds = 0.0  # between two messages of one channel to one recipient; 0 = no limit
    invalid_keys: tuple[str, ...] = ()
    expires_after: Count = 0  # messages of a channel after which its key is refused; 0 = never

    early: Share = 0.0  # receipts that come before the answer to the request
    delivered_seconds: Range = (0.0, 0.2)
    failed: Share = 0.0
    failures: tuple[int, ...] = (131026, 131049)  # drawn from, all alike
    sms_failures: tuple[int, ...] = (30003, 30005, 30006)
    opted_out: Share = 0.0  # who turns out to have stopped marketing messages: 131050, 21610
    lost: Share = 0.0  # messages that arrive, and no receipt ever tells
    read: Share = 0.0
    read_seconds: Range = (0.0, 0.5)  # after the delivery
    overtaking: Share = 0.0  # of the read: the news comes before that of the delivery
    repeated: Share = 0.0  # of all that is posted
    repeated_seconds: Range = (0.0, 1.0)
    receipt_forms: tuple[ReceiptForm, ...] = ("both",)  # of SMPP receipts

    buttons: Share = 0.0
    contextless: Share = 0.0  # of the button clicks: without the id of the message
    clicks: Share = 0.0
    previews: Share = 0.0
    stop_texts: Share = 0.0
    stop_preferences: Share = 0.0
    nameless: Share = 0.0  # of WhatsApp's texts: from a user name, without a number
    reply_seconds: Range = (0.0, 1.0)  # after the delivery

    webhook_attempts: Annotated[int, msgspec.Meta(ge=1)] = 15
    webhook_backoff_seconds: Range = (0.5, 30.0)  # the first, doubled up to the last


PROFILES = {
    "calm": Profile(read=0.5, buttons=0.1, clicks=0.1),
    "normal": Profile(
        answer_seconds=(0.02, 0.12), throttled=0.001, broken=0.001, delivered_seconds=(0.5, 8.0), failed=0.04,
        opted_out=0.005, lost=0.01, read=0.65, read_seconds=(1.0, 45.0), overtaking=0.02, repeated=0.05,
        repeated_seconds=(0.5, 20.0), buttons=0.1, contextless=0.05, clicks=0.12, previews=0.1, stop_texts=0.003,
        stop_preferences=0.002, nameless=0.05, reply_seconds=(2.0, 60.0), hung_seconds=30.0,
    ),
    "worst": Profile(
        answer_seconds=(0.0, 0.1), throttled=0.02, limited=0.02, broken=0.02, pair_limited=0.005, cut=0.003,
        hung=0.002, hung_seconds=30.0, ceiling=1000, early=0.05, delivered_seconds=(0.0, 3.0), failed=0.06,
        failures=(131026, 131049, 131053, 131000), opted_out=0.01, lost=0.03, read=0.6, read_seconds=(0.0, 4.0),
        overtaking=0.2, repeated=0.2, repeated_seconds=(0.0, 4.0), receipt_forms=("both", "text", "tlvs"),
        buttons=0.12, contextless=0.25, clicks=0.1, previews=0.15, stop_texts=0.005, stop_preferences=0.005,
        nameless=0.2, reply_seconds=(0.0, 5.0), webhook_attempts=40, webhook_backoff_seconds=(0.2, 5.0),
    ),
}  # fmt: skip


def load_profile(name_or_file: str) -> Profile:
    """A named profile, or a JSON file of fields that differ from its `base` (`normal` where it names none)."""
    if name_or_file in PROFILES:
        return PROFILES[name_or_file]
    if not Path(name_or_file).is_file():
        raise BadSetting(f"profile must be one of {', '.join(PROFILES)} or a JSON file, not {name_or_file!r}")
    return change_profile(PROFILES["normal"], Path(name_or_file).read_bytes())


def change_profile(profile: Profile, change: bytes) -> Profile:
    """The profile with the fields of a JSON object, or the object's `base` with them."""
    try:
        fields = msgspec.json.decode(change, type=dict[str, Any])
        base = fields.pop("base", None)
        if base is not None:
            profile = PROFILES[base]
        return msgspec.convert({**msgspec.to_builtins(profile), **fields}, Profile)
    except KeyError as error:
        raise BadSetting(f"base must be one of {', '.join(PROFILES)}, not {error}") from None
    except (msgspec.ValidationError, msgspec.DecodeError, TypeError) as error:
        raise BadSetting(f"profile: {error}") from None
