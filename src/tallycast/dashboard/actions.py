"""What a person does with a campaign: submit, approve, start, pause and so on, as the table of stages allows it."""

from datetime import UTC, datetime
from typing import Any

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from tallycast import campaigns, db, policies, readiness, reports, retries, sendings, stages
from tallycast.dashboard.forms import form_of
from tallycast.dashboard.guard import app_of, person_of, viewer_of
from tallycast.dashboard.pages import is_partial, make_flash, redirect, render
from tallycast.dashboard.places import base_of
from tallycast.dashboard.sayings import say
from tallycast.errors import BadQuery, Forbidden, ServiceUnavailable, Unprocessable
from tallycast.roles import Role
from tallycast.sendings import Sending
from tallycast.stages import Action
from tallycast.web.answers import Asked, read_query, read_text
from tallycast.web.services import of

# The least role for each; the moment of a schedule has a form of its own.
ROLES: dict[Action, Role] = {
    "submit": "editor",
    "approve": "approver",
    "reject": "approver",
    "start": "editor",
    "pause": "editor",
    "resume": "editor",
    "cancel": "editor",
}
DONE: dict[Action, str] = {
    "submit": "done.submit",
    "approve": "done.approve",
    "reject": "done.reject",
    "start": "done.start",
    "pause": "done.pause",
    "resume": "done.resume",
    "cancel": "done.cancel",
}
# What the domain says where a backup may make somebody get a message twice.
_RISK = "acceptRisk"


async def act(
    request: Asked, app_id: str, campaign_id: int, action: Action, note: str = "", **options: Any
) -> Sending:
    """Move the campaign on for whoever asks; errors as in `stages.move`."""
    services = of(request)
    stages.check_note(note)
    if stages.goes_onward(action):
        hosts = services.settings.private_hosts
        await readiness.relist(services.pool.connection, services.cipher, hosts, app_id, campaign_id)

    async def work(connection: db.Connection) -> Sending:
        async with connection.transaction():
            actor = person_of(request).actor
            return await stages.move(
                connection, app_id, campaign_id, action, actor, note, cipher=services.cipher, **options
            )

    async with services.pool.connection() as connection:
        await sendings.find(connection, app_id, campaign_id)
        return await db.retry_conflicts(lambda: work(connection))


@get("/apps/{appID:str}/campaigns/{campaignID:str}/actions", role="viewer")
async def list_actions(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """What is possible now and for this person; a part of the campaign's page."""
    return await _show(request, appID, campaigns.parse_id(campaignID))


async def _show(
    request: Asked, app_id: str, campaign_id: int, status: int = 200, error: str = "", asks_risk: str = ""
) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        sending = await sendings.find(connection, app_id, campaign_id)
        policy = await policies.find_policy(connection, app_id)
    found = _choose(request, sending, stages.list_possible(sending, policy, datetime.now(UTC)))
    return render(
        request,
        "_actions.html" if is_partial(request) else "actions.html",
        status=status,
        sending=sending,
        base=base_of(app_id, campaign_id),
        actions=[one for one in found if one != "approve" or _may_approve(request, sending)],
        needs_another="approve" in found and not _may_approve(request, sending),
        is_review=read_text(read_query(request), "on") == "review",
        error=error,
        asks_risk=asks_risk,
    )


def _choose(request: Asked, sending: Sending, possible: list[Action]) -> list[Action]:
    """What this person's role allows; what waits for a person alone has nothing to pause."""
    waits = sending.stage == "scheduled" and sending.scheduled_at is None
    allowed = [one for one in possible if app_of(request).allows(ROLES.get(one, "editor"))]
    return [one for one in allowed if not (waits and one == "pause")]


def _may_approve(request: Asked, sending: Sending) -> bool:
    return stages.may_approve(sending, person_of(request).actor)


async def _refuse(request: Asked, app_id: str, campaign_id: int, why: str) -> Response[bytes]:
    """Back to where the button was, with what is wrong; a draft's is on its review."""
    async with of(request).pool.connection() as connection:
        sending = await sendings.find(connection, app_id, campaign_id)
    page = "/review" if sending.stage == "draft" else ""
    flash = make_flash(request, "actions.refused", "bad", why=say(viewer_of(request).language, why))
    return redirect(request, base_of(app_id, campaign_id) + page, flash=flash)


@get("/apps/{appID:str}/campaigns/{campaignID:str}/start", role="editor")
async def ask_start(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """The question before messages go out: to how many, over which channel, for how much."""
    return await _ask_start(request, appID, campaigns.parse_id(campaignID))


async def _ask_start(
    request: Asked, app_id: str, campaign_id: int, status: int = 200, error: str = ""
) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        sending = await sendings.find(connection, app_id, campaign_id)
        policy = await policies.find_policy(connection, app_id)
    return render(
        request,
        "start.html",
        status=status,
        sending=sending,
        base=base_of(app_id, campaign_id),
        is_possible="start" in stages.list_possible(sending, policy, datetime.now(UTC)),
        price=(read_text(read_query(request), "price") or "")[:20],
        error=error,
        asks_risk=_RISK in error,
    )


def _route(action: Action) -> HTTPRouteHandler:
    async def do(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
        form, campaign_id = form_of(request), campaigns.parse_id(campaignID)
        options = {"accepts_risk": True} if form.text("accept_risk") else {}
        if action == "reject" and not form.text("note"):
            flash = make_flash(request, "actions.no_note", "bad")
            return redirect(request, base_of(appID, campaign_id), flash=flash)
        try:
            moved = await act(request, appID, campaign_id, action, form.text("note"), **options)
        except (BadQuery, Forbidden, Unprocessable, ServiceUnavailable) as problem:
            said = problem.message.removeprefix("Bad query: ")
            if action == "start":
                return await _ask_start(request, appID, campaign_id, problem.status, said)
            if _RISK in said:
                return await _show(request, appID, campaign_id, problem.status, said, asks_risk=action)
            return await _refuse(request, appID, campaign_id, said)
        flash = make_flash(request, DONE[action], name=moved.name)
        return redirect(request, base_of(appID, campaign_id), flash=flash)

    return post(
        f"/apps/{{appID:str}}/campaigns/{{campaignID:str}}/{action}", role=ROLES[action], status_code=303
    )(do)


ACTIONS = [_route(action) for action in ROLES]


@get(
    [
        f"/apps/{{appID:str}}/campaigns/{{campaignID:str}}/{action}"
        for action in (*ROLES, "retry-failed")
        if action != "start"
    ],
    role="viewer",
)
async def leave_action(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Somebody opens or reloads the address of an action: nothing is done, and it is the campaign that is meant."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        await reports.find_sent(connection, appID, campaign_id)
    return redirect(request, base_of(appID, campaign_id))


@post("/apps/{appID:str}/campaigns/{campaignID:str}/retry-failed", role="editor", status_code=303)
async def retry_failed(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Send again what failed for a reason that may have passed."""
    campaign_id = campaigns.parse_id(campaignID)

    async def work(connection: db.Connection) -> int:
        async with connection.transaction():
            await sendings.hold(connection, appID, campaign_id)
            actor = person_of(request).actor
            return await retries.retry_failed(connection, appID, campaign_id, actor)

    try:
        async with of(request).pool.connection() as connection:
            retried = await db.retry_conflicts(lambda: work(connection))
    except Unprocessable as problem:
        return await _refuse(request, appID, campaign_id, problem.message)
    flash = make_flash(request, "done.retry", n=retried)
    return redirect(request, base_of(appID, campaign_id), flash=flash)
