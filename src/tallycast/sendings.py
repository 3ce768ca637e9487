"""Campaigns that tallycast sends itself: their rows. `drafts` makes and changes them, `stages` moves them on."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal, get_args

import msgspec

from tallycast import db
from tallycast.errors import NotFound, Unprocessable
from tallycast.sql import load
from tallycast.templates import TemplateUse

Kind = Literal["smsStandard", "smsDynamic", "whatsApp"]
Stage = Literal["draft", "pendingApproval", "scheduled", "sending", "paused", "sent", "cancelled"]
STAGES: tuple[Stage, ...] = get_args(Stage)
_SQL = load("sendings")
_PAGE = 2000


class Sending(msgspec.Struct, frozen=True):
    """A campaign with how it is sent, its channels as they are now, and its counts.

    `channel_paused` is why nothing is sent over its channel, None while something is.
    """

    app_id: str
    campaign_id: int
    channel_number: int
    kind: Kind
    stage: Stage
    template: str | None
    columns: Sequence[str]
    track_links: bool
    fallback_channel: int | None
    fallback_text: str | None
    fallback_seconds: int | None
    scheduled_at: datetime | None
    next_seq: int
    home: str
    paused_reason: str | None
    created_as: str
    submitted_as: str | None
    approved_as: str | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    name: str
    created_by: str
    sender_eid: str
    content: str
    subject: str
    type: Literal["sms", "whatsApp"]
    channel_id: str
    provider: str
    is_channel_deleted: bool
    channel_paused: str | None
    fallback_channel_id: str | None
    is_fallback_deleted: bool
    total: int
    queued: int
    pending: int
    delivered: int
    read: int
    failed: int
    replied: int

    def template_use(self) -> TemplateUse | None:
        return None if self.template is None else msgspec.json.decode(self.template, type=TemplateUse)


class Addressed(msgspec.Struct, frozen=True, gc=False):
    """What one recipient's message is made from."""

    seq: int
    recipient: str
    content: str | None
    variables: Sequence[str] | None


class Transition(msgspec.Struct, frozen=True):
    action: str
    from_stage: str
    to_stage: str
    actor: str
    note: str
    at: datetime


async def find(connection: db.Connection, app_id: str, campaign_id: int) -> Sending:
    params = {"app_id": app_id, "campaign_id": campaign_id}
    sending = await db.fetch_one(connection, Sending, _SQL["find_sending"], params)
    if sending is None:
        raise NotFound(f"no campaign {campaign_id} that is sent from here")
    return sending


async def refuse(connection: db.Connection, app_id: str, campaign_id: int) -> None:
    """Unprocessable for a campaign that is sent from here, where only those of other systems are wanted."""
    params = {"app_id": app_id, "campaign_id": campaign_id}
    if await db.fetch_rows(connection, _SQL["has_sending"], params):
        raise Unprocessable(
            f"campaign {campaign_id} is sent from here: its audience is imported by …/audience"
        )


async def hold(connection: db.Connection, app_id: str, campaign_id: int) -> Sending:
    """The same, locked until the caller's transaction ends."""
    params = {"app_id": app_id, "campaign_id": campaign_id}
    await db.fetch_rows(connection, _SQL["hold_sending"], params)
    return await find(connection, app_id, campaign_id)


async def list_page(
    connection: db.Connection, app_id: str, stage: str | None, limit: int, offset: int
) -> list[Sending]:
    """The newest first; of one stage, or of all."""
    params = {"app_id": app_id, "stage": stage, "limit": limit, "offset": offset}
    return await db.fetch_all(connection, Sending, _SQL["list_sendings"], params)


async def list_texts(
    connection: db.Connection, app_id: str, campaign_id: int, from_seq: int, limit: int
) -> list[Addressed]:
    params = {"app_id": app_id, "campaign_id": campaign_id, "from_seq": from_seq, "limit": limit}
    return await db.fetch_all(connection, Addressed, _SQL["list_texts"], params)


async def each_page(connect: db.Connect, app_id: str, campaign_id: int) -> AsyncIterator[list[Addressed]]:
    """The whole audience, in portions; no connection is held while the caller works on one."""
    position = 0
    while True:
        async with connect() as connection:
            page = await list_texts(connection, app_id, campaign_id, position, _PAGE)
        if not page:
            return
        yield page
        position = page[-1].seq + 1


async def list_transitions(connection: db.Connection, app_id: str, campaign_id: int) -> list[Transition]:
    params = {"app_id": app_id, "campaign_id": campaign_id}
    return await db.fetch_all(connection, Transition, _SQL["list_transitions"], params)
