"""Where things are, as URLs have it, and moments as the reports write them."""

import msgspec

from tallycast.errors import BadQuery
from tallycast.moments import parse_moment


def base_of(app_id: str, campaign_id: int) -> str:
    return f"/apps/{app_id}/campaigns/{campaign_id}"


def write_reason(provider: str, code: str, title: str) -> str:
    """Why messages failed, as one value of a form or URL."""
    return msgspec.json.encode([provider, code, title]).decode()


def read_reason(text: str) -> tuple[str, str, str]:
    """(provider, code, title). BadQuery."""
    try:
        return msgspec.json.decode(text, type=tuple[str, str, str])
    except (msgspec.MsgspecError, RecursionError):
        raise BadQuery.of(f"reason must be one that a page gave, not {text[:40]!r}") from None


def moment_of(text: object) -> object:
    """The moment that a report has written; None where it has none."""
    return parse_moment(text, "moment") if isinstance(text, str) else None
