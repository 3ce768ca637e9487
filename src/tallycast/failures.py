"""Why a campaign's messages failed, in the providers' words and in ours."""

import msgspec

from tallycast import db
from tallycast.providers import find_rule
from tallycast.providers.contract import Action, Rule
from tallycast.providers.refusals import read_words
from tallycast.sql import load

_SQL = load("failures")
_MAX_CAUSES = 50
# The codes that tallycast gives itself, since no provider was asked or a person has said so: what happened, what to do.
_OWN: dict[str, tuple[str, str]] = {
    "optedOut": (
        "The recipient had opted out when it was the message's turn.",
        "Leave them out: only they can opt in again.",
    ),
    "cancelled": (
        "The campaign was cancelled before it was the message's turn.",
        "Reach these recipients with another campaign, if they shall still have the message.",
    ),
    "erased": (
        "The recipient was erased before it was the message's turn.",
        "Leave them out: they do not want to be known any more.",
    ),
    "unfit": (
        "The message cannot be filled in or sent like this for its recipient; the title says why.",
        "Correct these recipients' values, and send them the message with another campaign.",
    ),
    "notSent": (
        "Nobody knew whether the message was sent, and a person has said that it was not.",
        "Reach these recipients with another campaign, if they shall still have the message.",
    ),
}
_SEND_AGAIN = "It may have passed: send the failed messages again with retry-failed."
_SAME_AGAIN = "The same message would fail again: correct the number or the message, or reach the recipient another way."
_STOPPED = "Mend the cause before more is sent like this."
_ASK = "The title has the provider's own words; its documentation or its support knows more."


class Cause(msgspec.Struct, frozen=True, rename="camel"):
    """How many failed with a code and title of a provider. `words`: what happened, empty for an unknown code.
    `whatToDo`: about those that have failed.

    `retryable`: `retry-failed` sends them again.
    """

    code: str
    title: str
    count: int
    words: str
    retryable: bool
    provider: str
    what_to_do: str


async def list_causes(connection: db.Connection, app_id: str, campaign_id: int) -> list[Cause]:
    params = {"app_id": app_id, "campaign_id": campaign_id, "limit": _MAX_CAUSES}
    rows = await db.fetch_rows(connection, _SQL["list_causes"], params)
    return [explain(code, title, provider, count) for code, title, provider, count in rows]


def explain(code: str, title: str, provider: str, count: int = 1) -> Cause:
    """What a failure means, by the provider's error table."""
    if code in _OWN:
        words, advice = _OWN[code]
        return Cause(code, title, count, words, False, provider, advice)
    rule = find_rule(provider, code)
    if rule is None:
        return Cause(code, title, count, "", False, provider, _ASK)
    words, advice = read_words(rule)
    return Cause(code, title, count, words, rule.is_passing, provider, _advise(rule, advice))


def _advise(rule: Rule, advice: str) -> str:
    """A passing failure would have been tried again by itself: all tries are used up by now."""
    if rule.is_passing:
        return _SEND_AGAIN
    is_stopped = rule.action in {Action.PAUSE_CAMPAIGN, Action.PAUSE_CHANNEL}
    return advice or (_STOPPED if is_stopped else _SAME_AGAIN)
