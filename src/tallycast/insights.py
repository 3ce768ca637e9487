"""Insights: what became of a campaign, seen from several sides: funnel, time, countries, links, buttons, failures.

Figures agree with the summary's: the funnel is its running totals, and whatever is counted from rows is counted by the
same rules. What takes a look at every row is kept and computed again only when the campaign has changed. While it
moves, a result that took a while may be as old as ten times what it took, at most ten seconds.
"""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec

from tallycast import db, failures, handovers
from tallycast.errors import NotFound
from tallycast.failures import Cause
from tallycast.moments import write_moment
from tallycast.sql import load
from tallycast.summaries import rate

_SQL = load("insights")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_POINTS = 150
_MAX_LISTED = 200
# Seconds that make a computation worth saving, and how long its result may be shown while the campaign moves: so many
# times what it took, at most so many seconds.
_COSTLY = 0.1
_PATIENCE = 10
_MAX_PATIENCE = 10.0
_DAY = 86_400
# Spans of a timeline's points that people read easily, in seconds.
_WIDTHS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200,
    _DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 28 * _DAY, 91 * _DAY, 364 * _DAY, 3640 * _DAY, 36_400 * _DAY,
)  # fmt: skip
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
Result = TypeVar("Result")
Compute = Callable[[db.Connection, str, int], Awaitable[Result]]


class Funnel(msgspec.Struct, frozen=True, rename="camel"):
    """`sent` is what left the queue: pending, delivered and failed. `delivered` holds `read`, `pending` holds `unknown`.

    `replied` counts as the summary does: each button once per recipient, and every click of a link by a person.
    `repliedPeople` are the recipients behind it, `clickedPeople` those of them who followed a link. Rates are fractions:
    delivered and failed ones of `sent`, read, replied and clicked ones of `delivered`; null where that is 0.
    """

    total: int
    queued: int
    pending: int
    sent: int
    delivered: int
    read: int
    failed: int
    unknown: int
    replied: int
    replied_people: int
    clicked_people: int
    delivered_rate: float | None
    failed_rate: float | None
    read_rate: float | None
    replied_rate: float | None
    clicked_rate: float | None


class Point(msgspec.Struct, frozen=True):
    """What happened from `at` until the next point. `accepted`: handed over; `clicks`: links that people followed."""

    at: Moment
    accepted: int = 0
    delivered: int = 0
    read: int = 0
    failed: int = 0
    clicks: int = 0


class Timeline(msgspec.Struct, frozen=True, rename="camel"):
    """Points in order, `bucketSeconds` apart, 150 at most, without gaps; their sums are the funnel's figures."""

    bucket_seconds: int
    points: list[Point]


class Country(msgspec.Struct, frozen=True):
    """`country`: an ISO 3166 code, empty where the number tells none. `delivered` holds `read`."""

    country: str
    total: int
    delivered: int
    read: int
    failed: int


class LinkUse(msgspec.Struct, frozen=True, rename="camel"):
    """`hits` are all: people's `clicks`, and those `setAside`, by reason. `people`: recipients behind the clicks."""

    url: str
    hits: int
    clicks: int
    people: int
    set_aside: dict[str, int]


class ButtonUse(msgspec.Struct, frozen=True):
    button: str
    people: int


class Insights(msgspec.Struct, frozen=True, rename="camel"):
    """All that is known of a campaign, as it was at `computedAt` or later."""

    computed_at: Moment
    funnel: Funnel
    timeline: Timeline
    countries: list[Country]
    links: list[LinkUse]
    buttons: list[ButtonUse]
    failures: list[Cause]


class _People(msgspec.Struct, frozen=True):
    replied: int
    clicked: int


class _Figures(msgspec.Struct, frozen=True):
    total: int
    queued: int
    pending: int
    delivered: int
    read: int
    failed: int
    replied: int
    unknown: int


class _Known(msgspec.Struct, frozen=True):
    changed_at: datetime
    is_sent: bool
    asked_at: datetime
    body: str | None
    computed_at: datetime | None
    seconds: float
    is_current: bool
    is_frozen: bool


class Insight(NamedTuple, Generic[Result]):
    value: Result
    computed_at: datetime


class _Side(NamedTuple, Generic[Result]):
    """A side of a campaign that is computed from its rows. `lasts`: how long it holds at most while the counts stay."""

    name: str
    kind: Any
    compute: Compute[Result]
    lasts: timedelta = timedelta.max


async def find_funnel(connection: db.Connection, app_id: str, campaign_id: int) -> Funnel:
    """The totals of this moment. NotFound."""
    return (await _find_funnel(connection, app_id, campaign_id)).value


async def find_timeline(connection: db.Connection, app_id: str, campaign_id: int) -> Timeline:
    return (await _recall(connection, app_id, campaign_id, _TIMELINE)).value


async def list_countries(connection: db.Connection, app_id: str, campaign_id: int) -> list[Country]:
    """The largest first."""
    return (await _recall(connection, app_id, campaign_id, _COUNTRIES)).value


async def list_links(connection: db.Connection, app_id: str, campaign_id: int) -> list[LinkUse]:
    """The most followed first, 200 at most."""
    return (await _recall(connection, app_id, campaign_id, _LINKS)).value


async def list_buttons(connection: db.Connection, app_id: str, campaign_id: int) -> list[ButtonUse]:
    """The most chosen first, 200 at most."""
    return (await _recall(connection, app_id, campaign_id, _BUTTONS)).value


async def list_failures(connection: db.Connection, app_id: str, campaign_id: int) -> list[Cause]:
    """The most frequent first, 50 at most."""
    return (await _recall(connection, app_id, campaign_id, _FAILURES)).value


async def find_all(connection: db.Connection, app_id: str, campaign_id: int) -> Insights:
    """Every side. NotFound."""
    key = (connection, app_id, campaign_id)
    timeline, countries = await _recall(*key, _TIMELINE), await _recall(*key, _COUNTRIES)
    links, buttons = await _recall(*key, _LINKS), await _recall(*key, _BUTTONS)
    causes, funnel = await _recall(*key, _FAILURES), await _find_funnel(*key)
    sides = (timeline, countries, links, buttons, causes, funnel)
    return Insights(
        write_moment(min(side.computed_at for side in sides)),
        funnel.value,
        timeline.value,
        countries.value,
        links.value,
        buttons.value,
        causes.value,
    )


async def _find_funnel(connection: db.Connection, app_id: str, campaign_id: int) -> Insight[Funnel]:
    people, computed_at = await _recall(connection, app_id, campaign_id, _PEOPLE)
    unknown = await handovers.count_unknown(connection, app_id, campaign_id)
    params = {"app_id": app_id, "campaign_id": campaign_id}
    figures = await db.fetch_one(connection, _Figures, _SQL["find_figures"], params)
    if figures is None:
        raise NotFound(f"no campaign {campaign_id}")
    sent = figures.total - figures.queued
    funnel = Funnel(
        total=figures.total,
        queued=figures.queued,
        pending=figures.pending,
        sent=sent,
        delivered=figures.delivered,
        read=figures.read,
        failed=figures.failed,
        unknown=unknown + figures.unknown,
        replied=figures.replied,
        replied_people=people.replied,
        clicked_people=people.clicked,
        delivered_rate=rate(figures.delivered, sent),
        failed_rate=rate(figures.failed, sent),
        read_rate=rate(figures.read, figures.delivered),
        replied_rate=rate(people.replied, figures.delivered),
        clicked_rate=rate(people.clicked, figures.delivered),
    )
    return Insight(funnel, computed_at)


async def _recall(
    connection: db.Connection, app_id: str, campaign_id: int, side: _Side[Result]
) -> Insight[Result]:
    """A side as it was kept, or anew; who comes while it is computed waits for that. NotFound."""
    params = {"app_id": app_id, "campaign_id": campaign_id, "name": side.name}
    known = await _look(connection, params)
    if not _holds(known, side):
        async with connection.transaction():
            await db.execute(connection, _SQL["hold"], params)
            known = await _look(connection, params)
            if not _holds(known, side):
                return await _compute(connection, app_id, campaign_id, side, known)
    assert known.body is not None
    assert known.computed_at is not None
    return Insight(msgspec.json.decode(known.body, type=side.kind), known.computed_at)


async def _look(connection: db.Connection, params: db.Params) -> _Known:
    known = await db.fetch_one(connection, _Known, _SQL["recall"], params)
    if known is None:
        raise NotFound(f"no campaign {params['campaign_id']}")
    return known


def _holds(known: _Known, side: _Side[Any]) -> bool:
    """Whether what is kept may be shown: it is up to date, or young for what it costs."""
    if known.computed_at is None or known.is_frozen:
        return known.computed_at is not None
    age = known.asked_at - known.computed_at
    patience = min(_PATIENCE * known.seconds, _MAX_PATIENCE) if known.seconds >= _COSTLY else 0
    return age.total_seconds() < patience or (known.is_current and age < side.lasts)


async def _compute(
    connection: db.Connection, app_id: str, campaign_id: int, side: _Side[Result], known: _Known
) -> Insight[Result]:
    """Compute it, and keep it unless nothing of the campaign was sent: a draft may be deleted, with all that is kept."""
    began = time.monotonic()
    value = await side.compute(connection, app_id, campaign_id)
    if known.is_sent:
        await _keep(connection, app_id, campaign_id, side, known, value, time.monotonic() - began)
    return Insight(value, known.asked_at)


async def _keep(
    connection: db.Connection,
    app_id: str,
    campaign_id: int,
    side: _Side[Result],
    known: _Known,
    value: Result,
    seconds: float,
) -> None:
    params = {
        "app_id": app_id,
        "campaign_id": campaign_id,
        "name": side.name,
        "body": msgspec.json.encode(value).decode(),
        # As known before the rows were read: what has changed since then makes it old.
        "computed_at": known.asked_at,
        "as_of": known.changed_at,
        "seconds": seconds,
    }
    await db.execute(connection, _SQL["keep"], params)


async def freeze(connection: db.Connection, app_id: str, campaign_id: int) -> None:
    """Compute every side once more, and keep it whatever the campaign is. In a transaction, before its rows go."""
    for side in _SIDES:
        params = {"app_id": app_id, "campaign_id": campaign_id, "name": side.name}
        await db.execute(connection, _SQL["hold"], params)
        known = await _look(connection, params)
        value = await side.compute(connection, app_id, campaign_id)
        await _keep(connection, app_id, campaign_id, side, known, value, 0.0)


async def _count_people(connection: db.Connection, app_id: str, campaign_id: int) -> _People:
    params = {"app_id": app_id, "campaign_id": campaign_id}
    people = await db.fetch_one(connection, _People, _SQL["count_people"], params)
    assert people is not None
    return people


async def _draw_timeline(connection: db.Connection, app_id: str, campaign_id: int) -> Timeline:
    params = {"app_id": app_id, "campaign_id": campaign_id}
    [(first_at, last_at)] = await db.fetch_rows(connection, _SQL["find_span"], params)
    if first_at is None:
        return Timeline(_WIDTHS[0], [])
    width = choose_width(first_at, last_at)
    rows = await db.fetch_rows(connection, _SQL["count_moments"], {**params, "seconds": width})
    counts: dict[int, dict[str, int]] = {}
    for kind, at, n in rows:
        counts.setdefault(_place(at, width), {})[kind] = n
    points = [
        Point(write_moment(_EPOCH + timedelta(seconds=place * width)), **counts.get(place, {}))
        for place in range(min(counts), max(counts) + 1)
    ]
    return Timeline(width, points)


def _place(at: datetime, width: int) -> int:
    """Which span of this width a moment lies in, counted from 1970."""
    return (at - _EPOCH) // timedelta(seconds=width)


def choose_width(first_at: datetime, last_at: datetime) -> int:
    """The shortest span, in seconds, that takes no more than 150 points from the first moment until the last."""
    fitting = (w for w in _WIDTHS if _place(last_at, w) - _place(first_at, w) < _MAX_POINTS)
    return next(fitting, _WIDTHS[-1])


async def _count_countries(connection: db.Connection, app_id: str, campaign_id: int) -> list[Country]:
    params = {"app_id": app_id, "campaign_id": campaign_id}
    return await db.fetch_all(connection, Country, _SQL["count_countries"], params)


async def _count_links(connection: db.Connection, app_id: str, campaign_id: int) -> list[LinkUse]:
    params = {"app_id": app_id, "campaign_id": campaign_id, "limit": _MAX_LISTED}
    rows = await db.fetch_rows(connection, _SQL["count_hits"], params)
    return [
        LinkUse(url, hits, clicks, people, msgspec.json.decode(set_aside))
        for url, hits, clicks, people, set_aside in rows
    ]


async def _count_buttons(connection: db.Connection, app_id: str, campaign_id: int) -> list[ButtonUse]:
    params = {"app_id": app_id, "campaign_id": campaign_id, "limit": _MAX_LISTED}
    return await db.fetch_all(connection, ButtonUse, _SQL["count_buttons"], params)


_PEOPLE = _Side("people", _People, _count_people)
_TIMELINE = _Side("timeline", Timeline, _draw_timeline)
_COUNTRIES = _Side("countries", list[Country], _count_countries)
# A hit that is set aside changes no count, and neither does an earlier failure with another code, which is rare.
_LINKS = _Side("links", list[LinkUse], _count_links, timedelta(0))
_BUTTONS = _Side("buttons", list[ButtonUse], _count_buttons)
_FAILURES = _Side("failures", list[Cause], failures.list_causes, timedelta(minutes=10))
_SIDES: tuple[_Side[Any], ...] = (_PEOPLE, _TIMELINE, _COUNTRIES, _LINKS, _BUTTONS, _FAILURES)
