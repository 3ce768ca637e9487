"""What became of one campaign in more depth, and which campaigns changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tallycast_client import exchange
from tallycast_client.campaigns import Cause
from tallycast_client.reading import extra, read
from tallycast_client.reports import SentCampaign
from tallycast_client.retries import Retries
from tallycast_client.steps import Call, Script


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """`sent` is what left the queue: pending, delivered and failed. `delivered` holds `read`, `pending` `unknown`.

    Rates are fractions, of `sent` (delivered, failed) or of `delivered`; None where that is 0. Those of replies and
    clicks count people.
    """

    total: int = 0
    queued: int = 0
    pending: int = 0
    sent: int = 0
    delivered: int = 0
    read: int = 0
    failed: int = 0
    unknown: int = 0
    replied: int = 0
    replied_people: int = 0
    clicked_people: int = 0
    delivered_rate: float | None = None
    failed_rate: float | None = None
    read_rate: float | None = None
    replied_rate: float | None = None
    clicked_rate: float | None = None
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What happened from `at` until the next point."""

    at: datetime | None = None
    accepted: int = 0
    delivered: int = 0
    read: int = 0
    failed: int = 0
    clicks: int = 0
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Points in order, `bucket_seconds` apart, without gaps."""

    bucket_seconds: int = 0
    points: tuple[Point, ...] = ()
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Country:
    """`country`: an ISO 3166 code, empty where the number tells none."""

    country: str = ""
    total: int = 0
    delivered: int = 0
    read: int = 0
    failed: int = 0
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUse:
    """`hits` are all: people's `clicks`, and those `set_aside`, by reason. `people`: recipients behind the clicks."""

    url: str = ""
    hits: int = 0
    clicks: int = 0
    people: int = 0
    set_aside: Mapping[str, int] | None = None
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class ButtonUse:
    """How many people chose a button."""

    button: str = ""
    people: int = 0
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Insights:
    """A campaign from every side, as it was at `computed_at` or later."""

    computed_at: datetime | None = None
    funnel: Funnel = Funnel()
    timeline: Timeline = Timeline()
    countries: tuple[Country, ...] = ()
    links: tuple[LinkUse, ...] = ()
    buttons: tuple[ButtonUse, ...] = ()
    failures: tuple[Cause, ...] = ()
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedCampaign(SentCampaign):
    """The summary's row as it is now; `stage` where tallycast sends it."""

    queued: int = 0
    stage: str | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What changed since a cursor, in the order of change; `cursor` is where the next look goes on."""

    campaigns: tuple[ChangedCampaign, ...] = ()
    cursor: str = ""
    has_more: bool = False
    extra: Mapping[str, Any] = extra()


def collect_changes(call: Call, retries: Retries) -> Script[Changes]:
    """All pages of the feed, as one answer."""
    found = read(Changes, (yield from exchange.ask(call, retries)).result)
    campaigns = list(found.campaigns)
    while found.has_more:
        call = call.at({**call.params, "since": found.cursor})
        found = read(Changes, (yield from exchange.ask(call, retries)).result)
        campaigns += found.campaigns
    return Changes(campaigns=tuple(campaigns), cursor=found.cursor, extra=found.extra)
