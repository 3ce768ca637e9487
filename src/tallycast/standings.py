"""How a campaign that we send stands: what it is, where it is in its life, and what became of its messages."""

from datetime import datetime
from typing import Annotated

import msgspec

from tallycast import db, failures, fallback, handovers, sendings, standstills
from tallycast.drafts import Fallback
from tallycast.failures import Cause
from tallycast.fallback import Split
from tallycast.moments import write_moment
from tallycast.sendings import Kind, Sending, Stage, Transition
from tallycast.standstills import WaitingFor
from tallycast.templates import TemplateUse

UNSET = msgspec.UNSET
Unset = msgspec.UnsetType
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class Totals(msgspec.Struct, frozen=True, rename="camel"):
    """`delivered` holds `read`; delivered, pending, failed and queued add up to all recipients."""

    total_recipients: int
    queued: int
    pending: int
    delivered: int
    read: int
    failed: int
    replied: int


class Standing(msgspec.Struct, frozen=True, rename="camel"):
    """A campaign that is sent from here. `unknown`: messages of which nobody knows whether they went out.

    `fallbackSplit`: what became of those that fell back to SMS; they are in the totals, each recipient once.
    `failures`: why messages failed, when one is asked for and some did. `waitingFor`: why it does not move, though it
    is sending or due.
    """

    id: str
    campaign_name: str
    kind: Kind
    stage: Stage
    channel_id: str = msgspec.field(name="channelID")
    created_by: str
    sender_eid: str = msgspec.field(name="senderEID")
    columns: list[str]
    track_links: bool
    created_as: str
    created_at: Moment
    totals: Totals
    content: str | Unset = UNSET
    template: TemplateUse | Unset = UNSET
    fallback: Fallback | Unset = UNSET
    paused_reason: str | Unset = UNSET
    submitted_as: str | Unset = UNSET
    approved_as: str | Unset = UNSET
    scheduled_at: Moment | Unset = UNSET
    started_at: Moment | Unset = UNSET
    ended_at: Moment | Unset = UNSET
    unknown: int | Unset = UNSET
    fallback_split: Split | Unset = UNSET
    failures: list[Cause] | Unset = UNSET
    waiting_for: WaitingFor | Unset = UNSET


class Step(msgspec.Struct, frozen=True, rename={"from_stage": "from", "to_stage": "to"}):
    """A change of a campaign's stage: who did it, when, and why."""

    action: str
    from_stage: str
    to_stage: str
    actor: str
    note: str
    at: Moment


def describe(sending: Sending, unknown: int | Unset = UNSET) -> Standing:
    return Standing(
        id=str(sending.campaign_id),
        campaign_name=sending.name,
        kind=sending.kind,
        stage=sending.stage,
        channel_id=sending.channel_id,
        created_by=sending.created_by,
        sender_eid=sending.sender_eid,
        columns=list(sending.columns),
        track_links=sending.track_links,
        created_as=sending.created_as,
        created_at=write_moment(sending.created_at),
        totals=_totals(sending),
        content=sending.content or UNSET,
        template=sending.template_use() or UNSET,
        fallback=_fallback(sending),
        paused_reason=UNSET if sending.paused_reason is None else sending.paused_reason,
        submitted_as=sending.submitted_as or UNSET,
        approved_as=sending.approved_as or UNSET,
        scheduled_at=_moment(sending.scheduled_at),
        started_at=_moment(sending.started_at),
        ended_at=_moment(sending.ended_at),
        unknown=unknown,
    )


def _totals(sending: Sending) -> Totals:
    return Totals(
        sending.total,
        sending.queued,
        sending.pending,
        sending.delivered,
        sending.read,
        sending.failed,
        sending.replied,
    )


def _fallback(sending: Sending) -> Fallback | Unset:
    if sending.fallback_channel_id is None or sending.fallback_text is None:
        return UNSET
    return Fallback(sending.fallback_channel_id, sending.fallback_text, sending.fallback_seconds or 0)


def _moment(moment: datetime | None) -> str | Unset:
    return UNSET if moment is None else write_moment(moment)


async def find(connection: db.Connection, app_id: str, campaign_id: int) -> Standing:
    """All that is known of one campaign."""
    sending = await sendings.find(connection, app_id, campaign_id)
    unknown = await handovers.count_unknown(connection, app_id, campaign_id)
    standing = describe(sending, unknown)
    if sending.fallback_channel is not None:
        split = await fallback.split(connection, app_id, campaign_id)
        standing = msgspec.structs.replace(standing, fallback_split=split)
    if sending.failed:
        causes = await failures.list_causes(connection, app_id, campaign_id)
        standing = msgspec.structs.replace(standing, failures=causes)
    waiting_for = await standstills.find(connection, sending)
    return msgspec.structs.replace(standing, waiting_for=waiting_for or UNSET)


async def list_steps(connection: db.Connection, app_id: str, campaign_id: int) -> list[Step]:
    """A campaign's history, in order."""
    await sendings.find(connection, app_id, campaign_id)
    return [_step(one) for one in await sendings.list_transitions(connection, app_id, campaign_id)]


def _step(one: Transition) -> Step:
    return Step(one.action, one.from_stage, one.to_stage, one.actor, one.note, write_moment(one.at))
