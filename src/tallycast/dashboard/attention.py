"""What waits for a person: parked receipts, unknown outcomes, what is paused, what could not be read."""

from typing import get_args

from litestar import Response, get, post

from tallycast import attention, campaigns, db, handovers, receipts, reports, retries, sendings
from tallycast.dashboard.forms import form_of
from tallycast.dashboard.guard import person_of
from tallycast.dashboard.pages import is_partial, make_flash, redirect, render
from tallycast.dashboard.places import base_of, moment_of
from tallycast.errors import Unprocessable
from tallycast.retries import Verdict
from tallycast.web.answers import Asked, read_int, read_query
from tallycast.web.services import of

_PAGE = 50
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@get("/apps/{appID:str}/attention", role="viewer")
async def show_attention(request: Asked, appID: str) -> Response[bytes]:
    """All of it; as a part of a page only how much there is."""
    offset = max(0, read_int(read_query(request), "offset", 0))
    async with of(request).pool.connection() as connection:
        found = await attention.find(connection, appID)
        if is_partial(request):
            return render(request, "_attention.html", found=found)
        parked = await receipts.list_parked(connection, appID, _PAGE + 1, offset)
        unreadable = await receipts.list_unreadable(connection, appID, _PAGE, 0)
    return render(
        request,
        "attention.html",
        found=found,
        parked=parked[:_PAGE],
        unreadable=unreadable,
        previous={"offset": max(0, offset - _PAGE) or None} if offset else None,
        next={"offset": offset + _PAGE} if len(parked) > _PAGE else None,
        moment_of=moment_of,
    )


@get("/apps/{appID:str}/campaigns/{campaignID:str}/unknown", role="viewer")
async def list_unknown(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    offset = max(0, read_int(read_query(request), "offset", 0))
    return await _show_unknown(request, appID, campaignID, offset)


async def _show_unknown(
    request: Asked, app_id: str, campaign_text: str, offset: int = 0, status: int = 200, error: str = ""
) -> Response[bytes]:
    campaign_id = campaigns.parse_id(campaign_text)
    async with of(request).pool.connection() as connection:
        campaign = await reports.find_sent(connection, app_id, campaign_id)
        rows = await handovers.list_unknown(connection, app_id, campaign_id, _PAGE + 1, offset)
        total = await handovers.count_unknown(connection, app_id, campaign_id)
    return render(
        request,
        "unknown.html",
        status=status,
        campaign=campaign,
        base=base_of(app_id, campaign_id),
        rows=rows[:_PAGE],
        total=total,
        verdicts=VERDICTS,
        error=error,
        previous={"offset": max(0, offset - _PAGE) or None} if offset else None,
        next={"offset": offset + _PAGE} if len(rows) > _PAGE else None,
    )


@post("/apps/{appID:str}/campaigns/{campaignID:str}/unknown", role="editor", status_code=303)
async def settle_unknown(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """A person's word on all of them, or on those that are ticked."""
    form, campaign_id = form_of(request), campaigns.parse_id(campaignID)
    verdict = next((one for one in VERDICTS if one == form.text("verdict")), None)
    chosen = None if form.text("whom") == "all" else form.texts("recipient")
    if verdict is None or chosen == []:
        return await _show_unknown(request, appID, campaignID, 0, 422, "unknown.choose")

    async def work(connection: db.Connection) -> int:
        async with connection.transaction():
            await sendings.hold(connection, appID, campaign_id)
            actor = person_of(request).actor
            return await retries.settle(connection, appID, campaign_id, verdict, chosen, actor)

    try:
        async with of(request).pool.connection() as connection:
            settled = await db.retry_conflicts(lambda: work(connection))
    except Unprocessable:
        return await _show_unknown(request, appID, campaignID, 0, 422, "unknown.over")
    flash = make_flash(request, "unknown.settled", n=settled)
    return redirect(request, f"{base_of(appID, campaign_id)}/unknown", flash=flash)
