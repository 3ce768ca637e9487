"""Where one can go in an app."""

from typing import NamedTuple

from tallycast.roles import OpenApp, Role

# Key of the text, path below the app, and the least role that may go there.
_PLACES: tuple[tuple[str, str, Role], ...] = (
    ("nav.campaigns", "/campaigns", "viewer"),
    ("nav.attention", "/attention", "viewer"),
    ("nav.settings", "/settings", "admin"),
)


class Entry(NamedTuple):
    key: str
    url: str
    is_here: bool


def home_of(app_id: str) -> str:
    """Where one is taken who opens an app."""
    return f"/apps/{app_id}/campaigns"


def entries(app: OpenApp | None, path: str) -> list[Entry]:
    """The places of an app that its viewer may go to."""
    if app is None:
        return []
    found = [(key, f"/apps/{app.app_id}{below}") for key, below, role in _PLACES if app.allows(role)]
    return [Entry(key, url, path == url or path.startswith(f"{url}/")) for key, url in found]
