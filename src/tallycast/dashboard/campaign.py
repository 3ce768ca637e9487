"""The page of a campaign: first what its counts tell, then what takes a look at every recipient, and all of it live."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import lru_cache
from time import monotonic
from typing import Any, NamedTuple

from litestar import Response, get
from litestar.response import Stream

from tallycast import campaigns, db, fallback, handovers, insights, reports, sendings, standings, standstills
from tallycast.dashboard import bubbles
from tallycast.dashboard.guard import app_of, viewer_of
from tallycast.dashboard.pages import is_partial, render, write_part
from tallycast.dashboard.places import base_of, moment_of, write_reason
from tallycast.errors import NotFound
from tallycast.sendings import Sending
from tallycast.summaries import Campaign
from tallycast.watches import is_moving
from tallycast.web.answers import Asked
from tallycast.web.services import Services, of

Side = Callable[[db.Connection, str, int], Awaitable[Any]]
# What is computed from recipients, in the order of the page.
SIDES: dict[str, Side] = {
    "people": insights.find_funnel,
    "timeline": insights.find_timeline,
    "failures": insights.list_failures,
    "countries": insights.list_countries,
    "links": insights.list_links,
    "buttons": insights.list_buttons,
}
# A browser asks again after so long: whoever may not look any more is found out then.
_LONGEST_SECONDS = 600.0
# How often what is computed from recipients is asked for anew while the campaign moves.
_SIDES_SECONDS = 30.0
_RETRY = b"retry: 3000\n\n"
_BEAT = b": \n\n"
_SIDES_NEWS = b"event: sides\ndata: \n\n"
_END = b"event: end\ndata: \n\n"


class Standing(NamedTuple):
    """How a campaign that is sent from here stands, beside its figures."""

    sending: Sending
    steps: list[standings.Step]
    unknown: int
    waiting_for: standstills.WaitingFor | None


@get("/apps/{appID:str}/campaigns/{campaignID:str}", role="viewer")
async def show_campaign(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Nothing here depends on how many recipients there are."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        campaign = await reports.find_sent(connection, appID, campaign_id)
        standing = None if campaign.stage is None else await _find_standing(connection, appID, campaign_id)
        bubble = await bubbles.draw(connection, campaign, standing and standing.sending)
    return render(
        request,
        "campaign.html",
        campaign=campaign,
        standing=standing,
        bubble=bubble,
        sides=_choose_sides(campaign, standing),
        is_moving=is_moving(campaign),
        base=base_of(appID, campaign_id),
        moment_of=moment_of,
    )


async def _find_standing(connection: db.Connection, app_id: str, campaign_id: int) -> Standing:
    sending = await sendings.find(connection, app_id, campaign_id)
    return Standing(
        sending,
        await standings.list_steps(connection, app_id, campaign_id),
        await handovers.count_unknown(connection, app_id, campaign_id),
        await standstills.find(connection, sending),
    )


def _choose_sides(campaign: Campaign, standing: Standing | None) -> list[str]:
    if not campaign.sent:
        return []
    has_fallback = standing is not None and standing.sending.fallback_channel is not None
    return [*SIDES, *(["fallback"] if has_fallback else [])]


@get("/apps/{appID:str}/campaigns/{campaignID:str}/insights/{side:str}", role="viewer")
async def show_side(request: Asked, appID: str, campaignID: str, side: str) -> Response[bytes]:
    """A part of the campaign's page that comes after it; without scripts a page of its own."""
    find = {**SIDES, "fallback": fallback.split}.get(side)
    if find is None:
        raise NotFound
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        campaign = await reports.find_sent(connection, appID, campaign_id)
        found = await find(connection, appID, campaign_id)
    template = "_side.html" if is_partial(request) else "side.html"
    return render(
        request,
        template,
        campaign=campaign,
        base=base_of(appID, campaign_id),
        side=side,
        found=found,
        moment_of=moment_of,
        reason_of=write_reason,
    )


@get("/apps/{appID:str}/campaigns/{campaignID:str}/notice", role="viewer")
async def show_notice(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Why it does not move, and what a person is asked for."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        campaign = await reports.find_sent(connection, appID, campaign_id)
        standing = None if campaign.stage is None else await _find_standing(connection, appID, campaign_id)
    template = "_notice.html" if is_partial(request) else "notice.html"
    base = base_of(appID, campaign_id)
    return render(request, template, campaign=campaign, standing=standing, base=base, moment_of=moment_of)


@get("/apps/{appID:str}/campaigns/{campaignID:str}/live", role="viewer")
async def follow_campaign(request: Asked, appID: str, campaignID: str) -> Stream:
    """Server-sent events: `figures` as they change, `sides` when the rest may be asked for again, `end` at rest."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        await campaigns.require(connection, appID, campaign_id)
    how = viewer_of(request).language, app_of(request).time_zone
    events = _write_events(of(request), appID, campaign_id, how)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return Stream(events, media_type="text/event-stream", headers=headers)


async def _write_events(
    services: Services, app_id: str, campaign_id: int, how: tuple[str, str]
) -> AsyncGenerator[bytes, None]:
    began = sides_at = monotonic()
    last: Campaign | None = None
    is_stale = False
    yield _RETRY
    looks = services.watches.follow(app_id, campaign_id)
    try:
        async for campaign in looks:
            yield _BEAT if campaign is None else _write_figures(app_id, campaign, *how)
            last, is_stale = campaign or last, is_stale or campaign is not None
            if is_stale and monotonic() - sides_at > _SIDES_SECONDS:
                is_stale, sides_at = False, monotonic()
                yield _SIDES_NEWS
            if monotonic() - began > _LONGEST_SECONDS:
                return
        if last is not None and not is_moving(last):  # else the server ends: another one goes on
            yield _SIDES_NEWS
            yield _END
    finally:
        await looks.aclose()


@lru_cache(maxsize=64)
def _write_figures(app_id: str, campaign: Campaign, language: str, time_zone: str) -> bytes:
    """The same bytes for all who look."""
    base = base_of(app_id, campaign.campaign_id)
    text = write_part("_figures.html", language, time_zone, campaign=campaign, base=base)
    lines = "".join(f"data: {line}\n" for line in text.splitlines() if line.strip())
    return f"event: figures\n{lines}\n".encode()
