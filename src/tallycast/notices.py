"""Notices: what endpoints of other systems are told, one for each event and endpoint, and the log of it.

A notice is written in the transaction of what it tells, so it is told if that happened, and only then. It is told at
least once; what is told twice has the same id.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import msgspec

from tallycast import apps, db
from tallycast.apps import random_text
from tallycast.errors import NotFound, Unprocessable
from tallycast.moments import write_moment
from tallycast.sql import load

Event = Literal[
    "campaign.scheduled",
    "campaign.started",
    "campaign.paused",
    "campaign.resumed",
    "campaign.sent",
    "campaign.cancelled",
    "campaign.figures",
    "channel.paused",
    "opt_out.added",
    "endpoint.disabled",
]
State = Literal["waiting", "delivered", "failed"]
STATES: tuple[State, ...] = get_args(State)
# A test is not listened to: it is sent to one endpoint.
TEST = "webhook.test"
FIGURES_SECONDS = 60
_KEPT_SECONDS = 30 * 86_400
_ANSWER_LENGTH = 500
_SQL = load("notices")
# What an action on a campaign is called for others; submitting one that needs an approval tells them nothing yet.
_EVENTS: dict[tuple[str, str], Event] = {
    ("submit", "scheduled"): "campaign.scheduled",
    ("approve", "scheduled"): "campaign.scheduled",
    ("schedule", "scheduled"): "campaign.scheduled",
    ("start", "sending"): "campaign.started",
    ("pause", "paused"): "campaign.paused",
    ("resume", "scheduled"): "campaign.resumed",
    ("resume", "sending"): "campaign.resumed",
    ("retry", "sending"): "campaign.resumed",
    ("finish", "sent"): "campaign.sent",
    ("cancel", "cancelled"): "campaign.cancelled",
}


class Notice(msgspec.Struct, frozen=True):
    """`answer` holds the first characters of what was answered last, or why there was no answer."""

    notice_id: str
    endpoint_id: str
    type: str
    campaign_id: int | None
    body: str
    state: State
    created_at: datetime
    due_at: datetime | None
    attempts: int
    attempted_at: datetime | None
    status: int | None
    answer: str


class Due(msgspec.Struct, frozen=True):
    notice_id: str
    campaign_id: int | None
    body: str
    attempts: int


class StageChange(msgspec.Struct, frozen=True, rename="camel"):
    """The data of campaign.scheduled and its kin. `actor` is who did it, `note` why, where that was said."""

    campaign_id: str = msgspec.field(name="campaignID")
    campaign_name: str
    stage: str
    was: str
    actor: str
    note: str


async def is_heard(connection: db.Connection, app_id: str, event: Event) -> bool:
    """Whether any endpoint of the app listens: where telling takes work, that may be spared."""
    return bool(await db.fetch_rows(connection, _SQL["is_heard"], {"app_id": app_id, "type": event}))


async def add(
    connection: db.Connection, app_id: str, event: Event, items: Iterable[tuple[int | None, object]]
) -> None:
    """Tell the endpoints that listen of (campaign or None, data) each, in the caller's transaction."""
    rows = [(campaign_id, _write_body(event, data)) for campaign_id, data in items]
    params = {
        "app_id": app_id,
        "type": event,
        "campaign_ids": [campaign_id for campaign_id, _ in rows],
        "bodies": [body for _, body in rows],
    }
    if await db.execute(connection, _SQL["add_notices"], params):
        await apps.wake(connection, app_id)


async def add_test(connection: db.Connection, app_id: str, endpoint_id: str) -> str:
    """Tell one endpoint something that did not happen; the notice's id."""
    notice_id = f"msg_{random_text(22)}"
    params = {
        "app_id": app_id,
        "notice_id": notice_id,
        "endpoint_id": endpoint_id,
        "type": TEST,
        "body": _write_body(TEST, {"endpointID": endpoint_id}),
    }
    await db.execute(connection, _SQL["add_notice"], params)
    await apps.wake(connection, app_id)
    return notice_id


def _write_body(event: str, data: object) -> str:
    """As Standard Webhooks has it: type, the moment of the event, data."""
    body = {"type": event, "timestamp": write_moment(datetime.now(UTC)), "data": data}
    return msgspec.json.encode(body).decode()


async def tell_stage(
    connection: db.Connection, app_id: str, campaign_id: int, action: str, change: StageChange
) -> None:
    event = _EVENTS.get((action, change.stage))
    if event is not None:
        await add(connection, app_id, event, [(campaign_id, change)])


async def find_next(connection: db.Connection, app_id: str) -> datetime | None:
    """When there is something to do for the app's endpoints; None for never."""
    params = {"app_id": app_id, "seconds": FIGURES_SECONDS}
    moment: datetime | None = (await db.fetch_rows(connection, _SQL["find_next"], params))[0][0]
    return moment


async def list_due_endpoints(connection: db.Connection, app_id: str) -> list[str]:
    rows = await db.fetch_rows(connection, _SQL["list_due_endpoints"], {"app_id": app_id})
    return [endpoint_id for (endpoint_id,) in rows]


async def list_due(connection: db.Connection, app_id: str, endpoint_id: str, limit: int) -> list[Due]:
    """What an endpoint is to be told now, in order."""
    params = {"app_id": app_id, "endpoint_id": endpoint_id, "limit": limit}
    return await db.fetch_all(connection, Due, _SQL["list_due"], params)


async def note_attempt(
    connection: db.Connection,
    app_id: str,
    notice_id: str,
    state: State,
    status: int | None,
    answer: str,
    delay: float | None = None,
) -> None:
    """What became of an attempt, and in how many seconds there is another."""
    params: dict[str, Any] = {
        "app_id": app_id,
        "notice_id": notice_id,
        "state": state,
        "status": status,
        "answer": answer.replace("\0", "\N{REPLACEMENT CHARACTER}")[:_ANSWER_LENGTH],
        "delay": delay,
    }
    await db.execute(connection, _SQL["note_attempt"], params)


async def list_page(
    connection: db.Connection, app_id: str, endpoint_id: str, state: str | None, limit: int, offset: int
) -> list[Notice]:
    """What an endpoint was told and is to be told, the latest first."""
    params = {
        "app_id": app_id,
        "endpoint_id": endpoint_id,
        "state": state,
        "limit": limit,
        "offset": offset,
    }
    query = _SQL["list_notices_of_state" if state else "list_notices"]
    return await db.fetch_all(connection, Notice, query, params)


async def find(connection: db.Connection, app_id: str, endpoint_id: str, notice_id: str) -> Notice:
    params = {"app_id": app_id, "endpoint_id": endpoint_id, "notice_id": notice_id}
    notice = None
    if notice_id.isascii() and notice_id.isprintable():
        notice = await db.fetch_one(connection, Notice, _SQL["find_notice"], params)
    if notice is None:
        raise NotFound(f"no delivery {notice_id}")
    return notice


async def send_again(connection: db.Connection, app_id: str, endpoint_id: str, notice_id: str) -> Notice:
    """Tell it once more, at once, in the caller's transaction. Unprocessable for one that is still waiting."""
    notice = await find(connection, app_id, endpoint_id, notice_id)
    if notice.state == "waiting":
        raise Unprocessable("the delivery is waiting for its next attempt already")
    params = {"app_id": app_id, "endpoint_id": endpoint_id, "notice_id": notice_id}
    await db.execute(connection, _SQL["send_again"], params)
    await apps.wake(connection, app_id)
    return await find(connection, app_id, endpoint_id, notice_id)


async def forget_old(connection: db.Connection, app_id: str) -> None:
    """The log goes back 30 days."""
    await db.execute(connection, _SQL["forget_notices"], {"app_id": app_id, "seconds": _KEPT_SECONDS})
