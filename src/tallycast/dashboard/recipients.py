"""Recipients of a campaign: who is behind a figure, and what happened to each."""

from typing import NamedTuple

from litestar import Response, get

from tallycast import campaigns, db, insights, recipients, reports
from tallycast.dashboard import bubbles
from tallycast.dashboard.pages import render
from tallycast.dashboard.places import base_of, moment_of, read_reason, write_reason
from tallycast.errors import BadQuery
from tallycast.exports import STATES
from tallycast.recipients import STANDINGS, Filter
from tallycast.summaries import Campaign
from tallycast.web.answers import Asked, Query, read_choice, read_int, read_query, read_text
from tallycast.web.services import of

_PAGE = 50
# Stands in a URL for recipients of no known country.
_NO_COUNTRY = "none"


# Figures that count recipients: a state of this name lists just those.
_COUNTED = ("total", "queued", "sent", "pending", "delivered", "read", "failed")


class Choices(NamedTuple):
    """What there is to choose from: pairs of a value and what it is called; reasons are told apart by three words."""

    reasons: list[tuple[str, str]]
    countries: list[str]
    buttons: list[str]
    links: list[str]


@get("/apps/{appID:str}/campaigns/{campaignID:str}/recipients", role="viewer")
async def list_recipients(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    campaign_id, query = campaigns.parse_id(campaignID), read_query(request)
    asked = {name: read_text(query, name) or "" for name in ("reason", "country", "button", "link", "number")}
    asked["state"] = read_choice(query, "state", STANDINGS) or ""
    error, page = "", recipients.Page([], None)
    async with of(request).pool.connection() as connection:
        campaign = await reports.find_sent(connection, appID, campaign_id)
        choices = await _list_choices(connection, appID, campaign_id, asked, has_all="more" in query)
        wanted = _read_filter(query, asked)
        cursor = max(0, read_int(query, "cursor", 0))
        try:
            page = await recipients.list_page(connection, appID, campaign_id, wanted, cursor, _PAGE)
        except BadQuery as refused:
            error = refused.message.removeprefix("Bad query: ")
    return render(
        request,
        "recipients.html",
        status=422 if error else 200,
        campaign=campaign,
        base=base_of(appID, campaign_id),
        rows=page.rows,
        count=_find_count(campaign, asked),
        next_cursor=page.next_cursor,
        is_first=cursor == 0,
        asked=asked,
        error=error,
        choices=choices,
        has_more_filters="more" in query,
        states=STANDINGS,
        export_states=STATES,
        moment_of=moment_of,
    )


def _find_count(campaign: Campaign, asked: dict[str, str]) -> int | None:
    """Of those who are asked for, where a figure of the campaign tells it; None where only counting would."""
    state = asked["state"] or "total"
    if state not in _COUNTED or any(text for name, text in asked.items() if name != "state"):
        return None
    count: int = getattr(campaign, state)
    return count


def _read_filter(query: Query, asked: dict[str, str]) -> Filter:
    provider = code = title = None
    if asked["reason"]:
        provider, code, title = read_reason(asked["reason"])
    country = asked["country"]
    return Filter(
        state=read_choice(query, "state", STANDINGS),
        error_code=code,
        error_title=title,
        provider=provider,
        country="" if country == _NO_COUNTRY else country or None,
        button=asked["button"] or None,
        link=asked["link"] or None,
        number=asked["number"].strip() or None,
    )


async def _list_choices(
    connection: db.Connection, app_id: str, campaign_id: int, asked: dict[str, str], *, has_all: bool
) -> Choices:
    """All that the campaign has, which takes a look at every recipient; or only what is chosen."""
    key = (connection, app_id, campaign_id)
    if not has_all:
        reason = asked["reason"]
        return Choices(
            [(reason, " ".join(part for part in read_reason(reason) if part))] if reason else [],
            [asked["country"]] if asked["country"] else [],
            [asked["button"]] if asked["button"] else [],
            [asked["link"]] if asked["link"] else [],
        )
    causes = await insights.list_failures(*key)
    return Choices(
        [
            (write_reason(c.provider, c.code, c.title), c.words or f"{c.code} {c.title}".strip())
            for c in causes
        ],
        [one.country or _NO_COUNTRY for one in await insights.list_countries(*key)],
        [one.button for one in await insights.list_buttons(*key)],
        [one.url for one in await insights.list_links(*key)],
    )


@get("/apps/{appID:str}/campaigns/{campaignID:str}/recipients/{seq:str}", role="viewer")
async def show_recipient(request: Asked, appID: str, campaignID: str, seq: str) -> Response[bytes]:
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        campaign = await reports.find_sent(connection, appID, campaign_id)
        story = await recipients.tell_story(connection, appID, campaign_id, _read_seq(seq))
        base_url = of(request).settings.base_url
        bubble = await bubbles.draw_for(connection, campaign, story.recipient, appID, base_url)
    return render(
        request,
        "story.html",
        campaign=campaign,
        base=base_of(appID, campaign_id),
        recipient=story.recipient,
        events=story.events,
        bubble=bubble,
        moment_of=moment_of,
    )


def _read_seq(text: str) -> int:
    """NotFound for what cannot be a position: it is not one of this campaign."""
    seq = campaigns.parse_id(text)
    return min(seq, 2**31 - 1)
