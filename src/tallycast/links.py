"""Tracked links: codes that cost no row per message, redirects from memory, and who is counted as a person.

A code is `<app key: 4><link key: 4><message: 11>`. The last part seals the message's seq with the link's secret
(64 bits: 32 of a keyed digest, 32 of the seq masked by it), so a code cannot be guessed, and reading it needs only
the link, which is kept in memory.
"""

import hashlib
import re
import string
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from tallycast import apps, db
from tallycast.errors import BadQuery, NotFound
from tallycast.references import TRIAL_SEQ
from tallycast.sql import load

_SQL = load("links")
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_CODE = re.compile(r"([0-9A-Za-z]{4})([0-9A-Za-z]{4})([0-9A-Za-z]{11})")
_SEAL_DIGITS = 11
_MAX_URL = 2000
PRELOADED_LINKS = 20_000
_CACHE_SIZE = 200_000
_PATIENCE_SECONDS = 2.0


class Link(msgspec.Struct, frozen=True):
    app_id: str
    link_key: str
    campaign_id: int
    url: str
    secret: bytes


class Target(NamedTuple):
    link: Link
    seq: int


class Click(msgspec.Struct, frozen=True, tag=True):
    """One hit of a tracked link, as it came: also a line of the spool."""

    app_id: str
    click_id: str
    link_key: str
    campaign_id: int
    seq: int
    clicked_ms: int
    method: str
    user_agent: str
    purpose: str


# The sources of the agents' names: their vendors' crawler pages, and what link shorteners report of them.
_AGENTS = re.compile(
    r"whatsapp|facebookexternalhit|facebookcatalog|facebot|meta-external|twitterbot|telegrambot|slackbot|discordbot"
    r"|linkedinbot|skypeuripreview|viber|line-poker|googlebot|googlemessages|google-pagerenderer|google-safety"
    r"|bingbot|bingpreview|applebot|yandexbot|baiduspider|petalbot|bytespider|embedly|redditbot|pinterestbot|bitlybot"
    r"|iframely|mattermost|rocket\.chat|headlesschrome|phantomjs|^curl/|^wget/|python-requests|go-http-client"
    r"|safelinks|proofpoint|barracuda|mimecast|urlscan|virustotal",
    re.IGNORECASE,
)


def set_aside_reason(method: str, user_agent: str, purpose: str) -> str | None:
    """Why a hit is not a person's click, or None. A claim only: hits are kept, and this can be run again."""
    if method != "GET":
        return f"method {method}"
    if re.search(r"prefetch|prerender|preview", purpose, re.IGNORECASE):
        return f"prefetch: {purpose}"[:100]
    if not user_agent.strip():
        return "no user agent"
    match = _AGENTS.search(user_agent)
    return f"preview or crawler: {match[0].lower()}" if match else None


def _digest(secret: bytes, data: bytes, person: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=4, key=secret, person=person).digest()


def mint_code(link: Link, app_key: str, seq: int) -> str:
    plain = seq.to_bytes(4, "big")
    tag = _digest(link.secret, plain, b"tag")
    mask = _digest(link.secret, tag, b"mask")
    sealed = int.from_bytes(tag, "big") << 32 | (seq ^ int.from_bytes(mask, "big"))
    digits = []
    for _ in range(_SEAL_DIGITS):
        sealed, digit = divmod(sealed, 62)
        digits.append(_DIGITS[digit])
    return f"{app_key}{link.link_key}{''.join(digits)}"


def read_seal(link: Link, seal: str) -> int | None:
    """The seq that a code's last part seals; None where this link never made it."""
    sealed = 0
    for digit in reversed(seal):
        sealed = sealed * 62 + _VALUES[digit]
    if sealed >= 1 << 64:
        return None
    tag = (sealed >> 32).to_bytes(4, "big")
    mask = _digest(link.secret, tag, b"mask")
    seq = (sealed & 0xFFFFFFFF) ^ int.from_bytes(mask, "big")
    return seq if _digest(link.secret, seq.to_bytes(4, "big"), b"tag") == tag else None


def check_url(url: str, name: str = "url") -> str:
    """A target that may be redirected to: absolute http(s), without user info or control characters."""
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
        is_good = is_good and (parts.port is None or parts.port > 0)
    except ValueError:
        is_good = False
    if not is_good or len(url) > _MAX_URL or re.search(r"[\x00-\x20\x7f\\]", url) or not url.isascii():
        raise BadQuery.of(f"{name} must be an absolute http(s) URL of at most {_MAX_URL} ASCII characters")
    return url


async def create(connection: db.Connection, app_id: str, campaign_id: int, url: str) -> Link:
    """The tracked link of a campaign for a target; the same target gives the same link."""
    check_url(url)
    for _ in range(100):  # link keys are random: a clash is rare, and another key is drawn
        params = {"app_id": app_id, "campaign_id": campaign_id, "url": url}
        link = await db.fetch_one(connection, Link, _SQL["find_link_by_url"], params)
        if link is not None:
            return link
        secret = hashlib.blake2b(apps.random_text(43).encode(), digest_size=16).digest()
        await db.execute(
            connection, _SQL["add_link"], {**params, "link_key": apps.random_text(4), "secret": secret}
        )
    raise AssertionError("no free link key")


async def list_of(connection: db.Connection, app_id: str, campaign_id: int) -> dict[str, Link]:
    """The tracked links of a campaign, by target."""
    params = {"app_id": app_id, "campaign_id": campaign_id}
    found = await db.fetch_all(connection, Link, _SQL["list_links"], params)
    return {link.url: link for link in found}


async def count(connection: db.Connection, app_id: str, clicks: list[Click]) -> None:
    """Commit a batch of hits of one app: every hit is kept, people's hits are counted."""
    unique = {click.click_id: click for click in clicks}.values()
    params = {
        "app_id": app_id,
        "click_id": [click.click_id for click in unique],
        "link_key": [click.link_key for click in unique],
        "campaign_id": [click.campaign_id for click in unique],
        "seq": [click.seq for click in unique],
        "clicked_ms": [click.clicked_ms for click in unique],
        "method": [click.method for click in unique],
        "user_agent": [click.user_agent for click in unique],
        "purpose": [click.purpose for click in unique],
        "set_aside": [_judge(click) for click in unique],
    }
    await db.retry_conflicts(lambda: db.execute(connection, _SQL["fold_clicks"], params))


def _judge(click: Click) -> str | None:
    if click.seq == TRIAL_SEQ:
        return "test message"
    return set_aside_reason(click.method, click.user_agent, click.purpose)


async def reclassify(connection: db.Connection, app_id: str) -> int:
    """Run the classification again over all hits of an app; the number of hits whose verdict changed."""
    changed = 0
    for (campaign_id,) in await db.fetch_rows(connection, _SQL["list_click_campaigns"], {"app_id": app_id}):
        async with connection.transaction():
            changed += await _reclassify_campaign(connection, app_id, campaign_id)
    return changed


async def _reclassify_campaign(connection: db.Connection, app_id: str, campaign_id: int) -> int:
    changed = 0
    key = {"app_id": app_id, "campaign_id": campaign_id}
    await db.fetch_rows(connection, _SQL["hold_counts"], key)
    for method, user_agent, purpose, was in await db.fetch_rows(connection, _SQL["list_agents"], key):
        reason = set_aside_reason(method, user_agent, purpose)
        if reason == was:
            continue
        params = {
            **key,
            "method": method,
            "user_agent": user_agent,
            "purpose": purpose,
            "was": was,
            "set_aside": reason,
            "direction": (reason is None) - (was is None),
        }
        changed += (await db.fetch_rows(connection, _SQL["reclassify"], params))[0][0]
    return changed


class Targets:
    """One process's memory of links, so that a redirect needs no database."""

    def __init__(self, pool: db.Pool) -> None:
        self._pool = pool
        self._app_ids: dict[str, str] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._missing: dict[str, float] = {}

    async def resolve(self, code: str) -> Target:
        """The link and the message of a code. NotFound; `db.AWAY` where only the database could tell."""
        match = _CODE.fullmatch(code)
        link = await self._find(match[1], match[2]) if match else None
        seq = read_seal(link, match[3]) if link and match else None
        if link is None or seq is None:
            raise NotFound("no such link")
        return Target(link, seq)

    async def _find(self, app_key: str, link_key: str) -> Link | None:
        link = self._links.get((app_key, link_key))
        if link is not None or time.monotonic() < self._missing.get(app_key + link_key, 0):
            return link
        link = await db.within(_PATIENCE_SECONDS, self._look_up(app_key, link_key))
        if link is None:
            self._note_missing(app_key + link_key)
            return None
        return self.remember(app_key, link)

    async def _look_up(self, app_key: str, link_key: str) -> Link | None:
        async with self._pool.connection() as connection:
            app_id = self._app_ids.get(app_key)
            if app_id is None:
                app = await apps.find_app_by_key(connection, app_key)
                if app is None:
                    return None
                app_id = self._app_ids[app_key] = app.app_id
            params = {"app_id": app_id, "link_key": link_key}
            return await db.fetch_one(connection, Link, _SQL["find_link"], params)

    def _note_missing(self, key: str) -> None:
        """Guessed codes must not cost a query each; a link that is made a moment later is found soon."""
        if len(self._missing) >= _CACHE_SIZE:
            self._missing.clear()
        self._missing[key] = time.monotonic() + 1.0

    def remember(self, app_key: str, link: Link) -> Link:
        if len(self._links) >= _CACHE_SIZE:
            self._links.pop(next(iter(self._links)))
        self._links[app_key, link.link_key] = link
        return link

    async def preload(self, known: list[apps.App], limit: int) -> None:
        """Learn the latest links of each app, so that they redirect when the database is away."""
        async with self._pool.connection() as connection:
            for app in known:
                self._app_ids[app.app_key] = app.app_id
                params = {"app_id": app.app_id, "limit": limit}
                for link in await db.fetch_all(connection, Link, _SQL["list_recent_links"], params):
                    self.remember(app.app_key, link)
