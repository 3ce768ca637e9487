"""The list of campaigns: those that were sent, with their figures, and those on their way there."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Response, get

from tallycast import reports, sendings
from tallycast.dashboard.asking import CHANNELS, PERIODS, Asking, read_asking, write_position
from tallycast.dashboard.guard import app_of
from tallycast.dashboard.pages import is_partial, render
from tallycast.sendings import Stage
from tallycast.summaries import Sent
from tallycast.web.answers import Asked, read_choice, read_int, read_query
from tallycast.web.services import of

_PAGE = 50
# The tabs beside the list of those that were sent.
STAGES: tuple[Stage, ...] = ("draft", "pendingApproval", "scheduled", "sending", "paused", "cancelled")


@get("/apps/{appID:str}/campaigns", role="viewer")
async def list_campaigns(request: Asked, appID: str) -> Response[bytes]:
    stage = read_choice(read_query(request), "stage", STAGES)
    if stage is not None:
        return await _list_stage(request, appID, stage)
    asking = _read(request)
    rows = [] if asking.error else await _find(request, appID, asking)
    return render(
        request,
        "campaigns.html",
        status=422 if asking.error else 200,
        rows=rows[:_PAGE] if asking.before is None else rows[-_PAGE:],
        pages=_find_pages(asking, rows),
        asking=asking,
        channels=CHANNELS,
        periods=PERIODS,
        stages=STAGES,
    )


def _read(request: Asked) -> Asking:
    return read_asking(read_query(request), ZoneInfo(app_of(request).time_zone), datetime.now(UTC))


async def _find(request: Asked, app_id: str, asking: Asking) -> list[Sent]:
    """A page, and one more row where there is more in its direction."""
    async with of(request).readers.connection() as connection:
        return await reports.list_sent(
            connection,
            app_id,
            asking.wanted,
            asking.key,
            _PAGE + 1,
            is_down=asking.is_down,
            offset=asking.offset,
            after=asking.after,
            before=asking.before,
        )


def _find_pages(asking: Asking, rows: list[Sent]) -> dict[str, dict[str, Any]]:
    """What leads to the pages before and after this one: by place in the list by date, by number in others."""
    has_more = len(rows) > _PAGE
    none = {"cursor": None, "before": None, "offset": None}
    if asking.key != "date":
        first, last = max(0, asking.offset - _PAGE), asking.offset + _PAGE
        previous = {"previous": {**none, "offset": first or None}} if asking.offset else {}
        return previous | ({"next": {**none, "offset": last}} if has_more else {})
    pages = {}
    shown = rows[-_PAGE:] if asking.before else rows[:_PAGE]
    if shown and (has_more if asking.before else asking.after):
        pages["previous"] = {**none, "before": _position(shown[0])}
    if shown and (has_more or asking.before):
        pages["next"] = {**none, "cursor": _position(shown[-1])}
    return pages


def _position(one: Sent) -> str:
    assert one.sent_at is not None
    return write_position(one.sent_at, one.campaign_id)


@get("/apps/{appID:str}/campaigns/totals", role="viewer")
async def show_totals(request: Asked, appID: str) -> Response[bytes]:
    """The figures of all campaigns that are asked for, together: a part of their list, which comes after it."""
    asking = _read(request)
    async with of(request).readers.connection() as connection:
        totals = await reports.add_up(connection, appID, asking.wanted)
    template = "_totals.html" if is_partial(request) else "totals.html"
    return render(request, template, totals=totals, asking=asking)


async def _list_stage(request: Asked, app_id: str, stage: Stage) -> Response[bytes]:
    offset = max(0, read_int(read_query(request), "offset", 0))
    async with of(request).readers.connection() as connection:
        rows = await sendings.list_page(connection, app_id, stage, _PAGE + 1, offset)
    return render(
        request,
        "stage.html",
        rows=rows[:_PAGE],
        stage=stage,
        stages=STAGES,
        previous=None if not offset else {"offset": max(0, offset - _PAGE) or None},
        next={"offset": offset + _PAGE} if len(rows) > _PAGE else None,
    )
