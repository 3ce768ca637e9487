"""What a draft will send: the first messages as they look, what all of them take, a test to a number, and when."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import NamedTuple
from zoneinfo import ZoneInfo

from litestar import Response, get, post

from tallycast import (
    campaigns,
    db,
    drafts,
    policies,
    previews,
    readiness,
    rendering,
    sendings,
    templates,
    trials,
)
from tallycast.dashboard import bubbles, mistakes, whens
from tallycast.dashboard.actions import act
from tallycast.dashboard.bubbles import Bubble
from tallycast.dashboard.forms import form_of
from tallycast.dashboard.guard import app_of, person_of, viewer_of
from tallycast.dashboard.pages import is_partial, make_flash, redirect, render
from tallycast.dashboard.places import base_of
from tallycast.dashboard.sayings import say
from tallycast.dashboard.whens import BadMoment
from tallycast.drafts import SendingChange
from tallycast.errors import BadQuery, Unprocessable
from tallycast.moments import parse_moment, write_moment
from tallycast.previews import Message
from tallycast.rendering import RenderError
from tallycast.sendings import Sending
from tallycast.web.answers import Asked, Query, read_query, read_text
from tallycast.web.services import of

_SHOWN = 3
_HIGHEST_PRICE = 1_000_000
_OUTCOMES = {
    "accepted": "review.test_accepted",
    "refused": "review.test_refused",
    "unknown": "review.test_unknown",
    "waiting": "review.test_waiting",
}


class Shown(NamedTuple):
    """One message as its recipient will see it."""

    message: Message
    bubble: Bubble | None


@get("/apps/{appID:str}/campaigns/{campaignID:str}/review", role="editor")
async def show_review(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    return await _show(request, appID, campaigns.parse_id(campaignID))


async def _show(
    request: Asked,
    app_id: str,
    campaign_id: int,
    status: int = 200,
    errors: dict[str, str] | None = None,
    **typed: str,
) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        sending = await sendings.find(connection, app_id, campaign_id)
        policy = await policies.find_policy(connection, app_id)
        shown, problem = await _preview(connection, sending, of(request).settings.base_url)
        obstacle = await _find_obstacle(request, connection, sending)
    return render(
        request,
        "review.html",
        status=status,
        sending=sending,
        policy=policy,
        base=base_of(app_id, campaign_id),
        shown=shown,
        problem=problem,
        obstacle=obstacle,
        price=_show_price(read_query(request)),
        zones=whens.list_zones(app_of(request).time_zone),
        when=_describe_when(request, sending) | typed,
        errors=mistakes.tell(request, errors or {}),
        recipient=typed.get("recipient", ""),
    )


async def _find_obstacle(request: Asked, connection: db.Connection, sending: Sending) -> str:
    """What is wrong with the channel of a campaign that is still to be sent: better said now than at its start."""
    if sending.stage in {"sent", "cancelled"}:
        return ""
    try:
        await readiness.check_channel(connection, sending, of(request).cipher)
    except Unprocessable as problem:
        return problem.message
    return ""


async def _preview(connection: db.Connection, sending: Sending, base_url: str) -> tuple[list[Shown], str]:
    """The first messages; or why none can be shown."""
    key = (connection, sending.app_id, sending.campaign_id)
    try:
        renderer = await rendering.load_renderer(*key, base_url)
        first = await sendings.list_texts(*key, 0, _SHOWN)
        listed = await templates.list_cached(connection, sending.app_id, sending.channel_number)
        found = previews.show(renderer, sending, first)
        return [Shown(one, bubbles.draw_message(one, listed)) for one in found], ""
    except RenderError as error:
        return [], str(error)
    except Unprocessable as problem:
        return [], problem.message


def _describe_when(request: Asked, sending: Sending) -> dict[str, str]:
    """The schedule as its form has it."""
    zone = app_of(request).time_zone
    if sending.scheduled_at is None:
        return {"at": "", "date": "", "time": "", "zone": zone}
    local = sending.scheduled_at.astimezone(ZoneInfo(zone))
    return {"at": "moment", "date": f"{local:%Y-%m-%d}", "time": f"{local:%H:%M}", "zone": zone}


def _show_price(query: Query) -> str:
    return (read_text(query, "price") or "")[:20]


@get("/apps/{appID:str}/campaigns/{campaignID:str}/size", role="editor")
async def show_size(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """What the whole audience takes: a part of pages that comes after them, for every message is filled in for it."""
    campaign_id, query, connect = (
        campaigns.parse_id(campaignID),
        read_query(request),
        of(request).pool.connection,
    )
    size, problem, price = previews.Size(), "", _read_price(query)
    async with connect() as connection:
        sending = await sendings.find(connection, appID, campaign_id)
        try:
            renderer = await rendering.load_renderer(
                connection, appID, campaign_id, of(request).settings.base_url
            )
        except (RenderError, Unprocessable) as error:
            problem = str(error)
    if not problem:
        size = await previews.measure(renderer, sendings.each_page(connect, appID, campaign_id))
    return render(
        request,
        "_size.html" if is_partial(request) else "size.html",
        sending=sending,
        base=base_of(appID, campaign_id),
        size=size,
        problem=problem,
        cost=None if price is None else price * size.parts,
    )


def _read_price(query: Query) -> Decimal | None:
    """None where none is given, or what is given is none."""
    try:
        price = Decimal(_show_price(query).replace(",", "."))
    except InvalidOperation:
        return None
    return price if price.is_finite() and 0 <= price <= _HIGHEST_PRICE else None


@post("/apps/{appID:str}/campaigns/{campaignID:str}/test", role="editor", status_code=303)
async def send_test(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Send the first recipient's message to a number, and wait a while for what becomes of it."""
    campaign_id, recipient = campaigns.parse_id(campaignID), form_of(request).text("recipient")
    services, connect = of(request), of(request).pool.connection
    async with connect() as connection:
        await sendings.find(connection, appID, campaign_id)
    try:
        hosts = services.settings.private_hosts
        await readiness.relist(connect, services.cipher, hosts, appID, campaign_id)
        async with connect() as connection, connection.transaction():
            sending = await sendings.hold(connection, appID, campaign_id)
            trial_id = await trials.ask(
                connection, sending, recipient, {}, person_of(request).actor, services.cipher
            )
    except (BadQuery, Unprocessable) as problem:
        errors = {"recipient": problem.message.removeprefix("Bad query: ")}
        return await _show(request, appID, campaign_id, 422, errors, recipient=recipient)
    outcome = await trials.wait_for(connect, appID, campaign_id, trial_id)
    flash = make_flash(
        request,
        _OUTCOMES[outcome.outcome],
        "bad" if outcome.outcome in {"refused", "unknown"} else "good",
        recipient=outcome.recipient,
        why=say(viewer_of(request).language, outcome.reason or ""),
    )
    return redirect(request, f"{base_of(appID, campaign_id)}/review", flash=flash)


@post("/apps/{appID:str}/campaigns/{campaignID:str}/when", role="editor", status_code=303)
async def change_moment(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """A draft's schedule, or none; a campaign that is scheduled already gets another moment."""
    campaign_id, form = campaigns.parse_id(campaignID), form_of(request)
    typed = {name: form.text(name) for name in ("at", "date", "time", "zone")}
    try:
        moment = write_moment(whens.read_moment(form)) if form.text("at") == "moment" else None
        await _schedule(request, appID, campaign_id, moment)
    except BadMoment as wrong:
        return await _show(request, appID, campaign_id, 422, {wrong.field: str(wrong)}, **typed)
    except (BadQuery, Unprocessable) as problem:
        errors = {"date": problem.message.removeprefix("Bad query: ")}
        return await _show(request, appID, campaign_id, 422, errors, **typed)
    return redirect(request, f"{base_of(appID, campaign_id)}/review", flash=make_flash(request, "form.saved"))


async def _schedule(request: Asked, app_id: str, campaign_id: int, moment: str | None) -> None:
    services = of(request)
    async with services.pool.connection() as connection:
        sending = await sendings.find(connection, app_id, campaign_id)
        due = None if moment is None else parse_moment(moment, "date")
        policy = await policies.find_policy(connection, app_id)
        if due is not None and policy.is_late(due, datetime.now(UTC)):
            raise BadMoment("date", "when.past")
        if sending.stage == "draft":
            async with connection.transaction():
                await drafts.change(connection, app_id, campaign_id, SendingChange(scheduled_at=moment))
            return
    if due is None:
        raise Unprocessable("a campaign that is scheduled needs a moment: pause or cancel it instead")
    await act(request, app_id, campaign_id, "schedule", scheduled_at=due)
