"""A campaign's life over HTTP: one route per action, and what became of its messages' way out."""

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from tallycast import campaigns, db, handovers, readiness, retries, sendings, stages, standings
from tallycast.errors import (
    BadQuery,
    Forbidden,
    NotFound,
    Problem,
    Unprocessable,
    UnsupportedMediaType,
)
from tallycast.idempotency import Answer
from tallycast.moments import parse_moment, write_moment
from tallycast.numbers import InvalidNumber, parse_number
from tallycast.stages import Action
from tallycast.standings import Moment, Standing
from tallycast.web.answers import Asked, create, decode, encode, read_json, read_page, read_query, succeed
from tallycast.web.auth import actor_of
from tallycast.web.openapi import LIMIT, OFFSET, Doc
from tallycast.web.services import of

_ERRORS: tuple[type[Problem], ...] = (BadQuery, NotFound, Unprocessable, UnsupportedMediaType)


class Note(msgspec.Struct, forbid_unknown_fields=True):
    """`note`: why, for the campaign's history."""

    note: str = ""


class Objection(msgspec.Struct, forbid_unknown_fields=True):
    """`note`: what must be changed."""

    note: str


class Schedule(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """`scheduledAt`: RFC 3339 with an offset; what the draft says when left out."""

    scheduled_at: str | None = None
    note: str = ""
    accept_risk: bool = False


class Go(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """`acceptRisk`: go on although the database was restored from a backup, so that some may get it twice."""

    note: str = ""
    accept_risk: bool = False


Body = type[Note] | type[Objection] | type[Schedule] | type[Go]


def _route(
    action: Action, body: Body, summary: str, meaning: str, scope: str = "campaigns:write"
) -> HTTPRouteHandler:
    """The route of one action; its meaning is what the documentation says."""

    async def act(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
        return await _act(request, appID, campaignID, action, body)

    act.__doc__ = meaning
    return post(
        f"/campaigns/{{campaignID:str}}/{action}",
        status_code=200,
        scope=scope,
        doc=Doc(
            operation_id=f"{action}Campaign",
            summary=summary,
            tag="Sending",
            body=body,
            body_example={"note": "the second text is last year's"} if body is Objection else None,
            is_body_optional=body is not Objection,
            result=Standing,
            errors=(*_ERRORS, *((Forbidden,) if action == "approve" else ())),
            is_idempotent=True,
        ),
    )(act)


submit = _route(
    "submit",
    Note,
    "Submit a draft",
    "It is scheduled, or where the app requires approval it waits for another person to `approve` it. Everything "
    "is checked first: audience, channel, template and texts; the answer names what must be mended.",
)
approve = _route(
    "approve",
    Note,
    "Approve a submitted campaign",
    "It is scheduled then. Neither who created it nor who submitted it can approve it.",
    "campaigns:approve",
)
reject = _route(
    "reject",
    Objection,
    "Send a submitted campaign back",
    "It is a draft again; the note says what must be changed.",
    "campaigns:approve",
)
schedule = _route(
    "schedule",
    Schedule,
    "Give a campaign its moment",
    "A draft of an app without approval, or a campaign that is scheduled already and shall start at another moment.",
)
start = _route(
    "start",
    Go,
    "Start sending now",
    "A scheduled campaign, or a draft of an app without approval. Starting twice sends once.",
)
pause = _route(
    "pause",
    Note,
    "Pause a campaign",
    "Within two seconds nothing more is handed to the provider; what was handed over goes its way.",
)
resume = _route(
    "resume",
    Go,
    "Go on with a paused campaign",
    "Exactly the rest is sent. A campaign that had not begun waits for its moment again.",
)
cancel = _route(
    "cancel",
    Note,
    "Cancel a campaign for good",
    "What was not sent yet fails, with that reason; what was sent stays as it is.",
)
ACTIONS = [submit, approve, reject, schedule, start, pause, resume, cancel]


async def _act(
    request: Asked, app_id: str, campaign_id_text: str, action: Action, kind: Body
) -> Response[bytes]:
    campaign_id = campaigns.parse_id(campaign_id_text)
    services = of(request)
    async with services.pool.connection() as connection:
        await sendings.find(connection, app_id, campaign_id)
    body = await read_json(request)
    wanted = decode(body or b"{}", kind)
    stages.check_note(wanted.note)
    if isinstance(wanted, Objection) and not wanted.note.strip():
        raise BadQuery.of("note must say what is to be changed")
    moment = wanted.scheduled_at if isinstance(wanted, Schedule) else None
    scheduled_at = parse_moment(moment, "scheduledAt") if moment else None
    if stages.goes_onward(action):
        private_hosts = services.settings.private_hosts
        await readiness.relist(services.pool.connection, services.cipher, private_hosts, app_id, campaign_id)

    async def work(connection: db.Connection) -> Answer:
        moved = await stages.move(
            connection,
            app_id,
            campaign_id,
            action,
            actor_of(request),
            wanted.note,
            scheduled_at=scheduled_at,
            accepts_risk=isinstance(wanted, Go | Schedule) and wanted.accept_risk,
            cipher=services.cipher,
        )
        unknown = await handovers.count_unknown(connection, app_id, campaign_id)
        return Answer(200, encode(standings.describe(moved, unknown)))

    return await create(request, app_id, body, work)


class Retried(msgspec.Struct):
    retried: int


class UnknownView(msgspec.Struct, rename="camel"):
    """A message of which nobody knows whether it went out. A later receipt settles it, or a person."""

    recipient: str
    reason: str
    attempts: int
    since: Moment | None


class Verdict(msgspec.Struct, forbid_unknown_fields=True):
    """`sent`: they wait for their receipts. `notSent`: they failed. `resend`: send them again, at the risk that some
    get it twice. All that are unknown, or only these `recipients`.
    """

    verdict: Literal["sent", "notSent", "resend"]
    recipients: list[str] | None = None


class Settled(msgspec.Struct):
    settled: int


@post(
    "/campaigns/{campaignID:str}/retry-failed",
    status_code=200,
    scope="campaigns:write",
    doc=Doc(
        operation_id="retryFailed",
        summary="Send again what failed for a reason that may have passed",
        tag="Sending",
        result=Retried,
        example={"retried": 212},
        errors=_ERRORS,
        is_idempotent=True,
    ),
)
async def retry_failed(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Only failures that the provider's error table calls passing, and nobody who has the message."""

    async def work(connection: db.Connection, campaign_id: int) -> object:
        retried = await retries.retry_failed(connection, appID, campaign_id, actor_of(request))
        return Retried(retried)

    return await _settle(request, appID, campaignID, b"", work)


@get(
    "/campaigns/{campaignID:str}/unknown",
    scope="reports:read",
    doc=Doc(
        operation_id="listUnknown",
        summary="Messages of which nobody knows whether they went out",
        tag="Sending",
        query=(LIMIT, OFFSET),
        result=list[UnknownView],
        example=[
            {
                "recipient": "+85298765432",
                "reason": "no answer within 30 s",
                "attempts": 1,
                "since": "2026-11-23T03:06:00.000Z",
            }
        ],
        errors=(BadQuery, NotFound),
    ),
)
async def list_unknown(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """The connection or the worker broke between the call and its answer. They are never sent again by themselves."""
    campaign_id = campaigns.parse_id(campaignID)
    limit, offset = read_page(read_query(request))
    async with of(request).pool.connection() as connection:
        await sendings.find(connection, appID, campaign_id)
        found = await handovers.list_unknown(connection, appID, campaign_id, limit, offset)
    views = [
        UnknownView(one.recipient, one.reason, one.attempts, write_moment(one.since) if one.since else None)
        for one in found
    ]
    return succeed(request, views)


@post(
    "/campaigns/{campaignID:str}/unknown",
    status_code=200,
    scope="campaigns:write",
    doc=Doc(
        operation_id="settleUnknown",
        summary="Say what became of messages of unknown outcome",
        tag="Sending",
        body=Verdict,
        body_example={"verdict": "notSent", "recipients": ["+85298765432"]},
        result=Settled,
        example={"settled": 1},
        errors=_ERRORS,
        is_idempotent=True,
    ),
)
async def settle_unknown(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Look at the provider's own log first. A receipt that comes later still counts, whatever was said."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        await sendings.find(connection, appID, campaign_id)
    body = await read_json(request)
    said = decode(body, Verdict)
    numbers = None if said.recipients is None else [_read_number(one) for one in said.recipients]

    async def work(connection: db.Connection, campaign_id: int) -> object:
        actor = actor_of(request)
        return Settled(await retries.settle(connection, appID, campaign_id, said.verdict, numbers, actor))

    return await _settle(request, appID, campaignID, body, work)


def _read_number(recipient: str) -> str:
    try:
        return parse_number(recipient).e164
    except InvalidNumber as error:
        raise BadQuery.of(
            f"recipients must be phone numbers like +85298765432, not {recipient[:40]!r}: {error}"
        ) from None


async def _settle(
    request: Asked,
    app_id: str,
    campaign_id_text: str,
    body: bytes,
    settle: Callable[[db.Connection, int], Awaitable[object]],
) -> Response[bytes]:
    """Do it with the campaign held: it may end at this moment."""
    campaign_id = campaigns.parse_id(campaign_id_text)

    async def work(connection: db.Connection) -> Answer:
        await sendings.hold(connection, app_id, campaign_id)
        return Answer(200, encode(await settle(connection, campaign_id)))

    return await create(request, app_id, body, work)
