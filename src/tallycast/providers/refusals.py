"""What is the same in every provider's refusals: HTTP's own statuses, Retry-After, and what stays open."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from tallycast.providers.contract import Action, Rule

# No provider asks for more than a day; who writes more has a broken clock.
_MAX_WAIT_SECONDS = 86_400.0
_OPEN_FROM = 500

BUSY = Rule(Action.RETRY, "The provider was not available. The message is tried again by itself.", 10.0)
REFUSED = Rule(Action.FAIL, "The provider refused the message. Its own words say why.")
REDIRECTED = Rule(
    Action.PAUSE_CHANNEL,
    "The provider's address leads elsewhere. Correct the channel's baseURL, then resume.",
)
# By HTTP status, where the answer carries no code of the provider's own.
STATUSES: dict[str, Rule] = {
    "401": Rule(
        Action.PAUSE_CHANNEL,
        "The provider does not accept the channel's key. Put a valid one into its credentials, then resume.",
    ),
    "402": Rule(
        Action.PAUSE_CHANNEL, "The provider waits for a payment. Settle it there, then resume the channel."
    ),
    "403": Rule(
        Action.PAUSE_CHANNEL,
        "The provider does not let this channel send. Ask its support what is blocked, then resume.",
    ),
    "404": Rule(
        Action.PAUSE_CHANNEL,
        "The provider knows nothing at this address. Check the channel's baseURL and ids, then resume.",
    ),
    "405": Rule(
        Action.PAUSE_CHANNEL,
        "The address takes no messages. Check the channel's baseURL, then resume.",
    ),
    "429": Rule(
        Action.SLOW_DOWN, "The provider wants fewer messages a second. They go out slower by themselves."
    ),
}


def judge(
    rules: Mapping[str, Rule],
    status: int,
    code: str | None,
    *,
    is_temporary: bool = False,
    open_codes: Collection[str] = (),
) -> Rule | None:
    """The rule of an answer that is no success, or None where it stays open whether the message was taken.

    Nobody shall get a message twice, so a repetition needs a provider that says it did not take it: by a code of its
    table, by calling the error temporary, or by 503 (RFC 9110 section 15.6.4: it cannot handle the request now).
    500 and 504 can come after the message was passed on, and so can a 502 that a proxy wrote for a provider which
    broke off, a 408 of one that stopped reading, and any other status from 500: they stay open. `open_codes` are
    those of the table that leave it open as well when they come with such a status.
    """
    rule = rules.get(code or (str(status) if status < _OPEN_FROM else ""))
    if rule is not None and not (status >= _OPEN_FROM and code in open_codes):
        return rule
    if is_temporary or status == 503:  # noqa: PLR2004 - an HTTP status
        return BUSY
    if status >= _OPEN_FROM or status == 408 or status < 200:  # noqa: PLR2004 - the same
        return None
    return REDIRECTED if status < 400 else REFUSED  # noqa: PLR2004 - the same


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """How many seconds the provider asks to wait (RFC 9110 section 10.2.3: seconds, or a date); None if it does not."""
    text = (headers.get("retry-after") or headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _MAX_WAIT_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), _MAX_WAIT_SECONDS)


def title_of(rule: Rule) -> str:
    """The first sentence of a rule's words: what happened."""
    return rule.words.partition(". ")[0].removesuffix(".")


def read_words(rule: Rule) -> tuple[str, str]:
    """What happened, and what to do: the sentences after the first, or what follows its colon; empty where there is
    neither.
    """
    happened, _, advice = rule.words.partition(". ")
    if not advice:
        happened, _, advice = happened.partition(": ")
    return _sentence(happened), _sentence(advice)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].removesuffix(".") + "." * bool(text)
