"""Why a campaign's messages failed, in the providers' words and in ours."""

import msgspec

from tallycast import db
from tallycast.providers import find_rule
from tallycast.sql import load

_SQL = load("failures")
_MAX_CAUSES = 50
# The codes that tallycast gives itself: no provider was asked, or a person has said so.
_OWN_WORDS = {
    "optedOut": "The recipient had opted out when it was the message's turn.",
    "cancelled": "The campaign was cancelled before it was the message's turn.",
    "unfit": "The message cannot be filled in or sent like this for its recipient; the title says why.",
    "notSent": "Nobody knew whether the message was sent, and a person has said that it was not.",
}


class Cause(msgspec.Struct, frozen=True):
    """How many failed with a code and title. `words`: what it means and what to do, empty for an unknown code.

    `retryable`: `retry-failed` sends them again.
    """

    code: str
    title: str
    count: int
    words: str
    retryable: bool


async def list_causes(connection: db.Connection, app_id: str, campaign_id: int) -> list[Cause]:
    params = {"app_id": app_id, "campaign_id": campaign_id, "limit": _MAX_CAUSES}
    return [_explain(*row) for row in await db.fetch_rows(connection, _SQL["list_causes"], params)]


def _explain(code: str, title: str, provider: str, count: int) -> Cause:
    rule = None if code in _OWN_WORDS else find_rule(provider, code)
    if rule is None:
        return Cause(code, title, count, _OWN_WORDS.get(code, ""), retryable=False)
    return Cause(code, title, count, rule.words, rule.is_passing)
