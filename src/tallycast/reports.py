"""Reports: what became of the sent campaigns, in all and per recipient."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from tallycast import db
from tallycast.campaigns import parse_id
from tallycast.errors import NotFound
from tallycast.moments import write_moment
from tallycast.sql import load

_SQL = load("reports")
UNSET = msgspec.UNSET
Missing = msgspec.UnsetType


class Sender(msgspec.Struct, frozen=True, rename="camel", gc=False):
    phone: str
    channel_name: str | Missing = UNSET
    source_name: str | Missing = UNSET
    sender_eid: str | Missing = msgspec.field(name="senderEID", default=UNSET)


class Summary(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """A sent campaign and its totals. An SMS campaign has no subject, read, replied, pending and failed."""

    id: str
    date: str
    campaign_name: str
    channel: str
    created_by: str
    sender: Sender
    subject: str | Missing = UNSET
    total_recipients: int = 0
    delivered: int = 0
    read: int | Missing = UNSET
    replied: int | Missing = UNSET
    pending: int | Missing = UNSET
    failed: int | Missing = UNSET


class Detail(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What became of one recipient. `date` is when the campaign was sent."""

    id: str
    date: str
    sender: Sender
    recipient: str
    recipient_country: str | Missing = UNSET
    subject: str | Missing = UNSET
    content: str | Missing = UNSET
    num_sms: int | Missing = msgspec.field(name="numSMS", default=UNSET)
    status: str = ""
    carrier_network_status: str | Missing = UNSET
    failed_reason: str | Missing = UNSET
    last_updated_date_time: str = msgspec.field(name="LastUpdatedDateTime", default="")


class Page(NamedTuple):
    """`rows` of a page, and whether more follow; `next_cursor` is where the detail goes on."""

    rows: list[Any]
    has_more: bool
    next_cursor: int = 0


class _Campaign(msgspec.Struct, frozen=True):
    campaign_id: int
    type: str
    sent_at: datetime | None
    phone: str
    channel_name: str
    source_name: str
    sender_eid: str
    subject: str
    content: str


async def summarize(
    connection: db.Connection,
    app_id: str,
    limit: int,
    offset: int,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
    channel_type: str | None = None,
) -> Page:
    """A page of the campaigns sent in `start_at <= date < end_at`, the newest first."""
    params = {
        "app_id": app_id,
        "start_at": start_at,
        "end_at": end_at,
        "type": channel_type,
        "limit": limit + 1,
        "offset": offset,
    }
    query = _SQL["summary_page_of_type" if channel_type else "summary_page"]
    rows = await db.fetch_rows(connection, query, params)
    return Page([_summary(*row) for row in rows[:limit]], len(rows) > limit)


def _summary(
    campaign_id: int,
    sent_at: datetime,
    name: str,
    channel_type: str,
    created_by: str,
    phone: str,
    channel_name: str,
    source_name: str,
    sender_eid: str,
    subject: str,
    total: int,
    delivered: int,
    read: int,
    replied: int,
    pending: int,
    failed: int,
) -> Summary:
    date = write_moment(sent_at)
    if channel_type == "sms":
        sender = Sender(phone, sender_eid=sender_eid)
        return Summary(
            str(campaign_id),
            date,
            name,
            "SMS",
            created_by,
            sender,
            total_recipients=total,
            delivered=delivered,
        )
    sender = Sender(phone, channel_name, source_name)
    return Summary(
        str(campaign_id), date, name, "WhatsApp", created_by, sender, subject,
        total, delivered, read, replied, pending, failed,
    )  # fmt: skip


# What a message's state is called, by channel. CINNOX documents SMS's words: Submitted, Delivered, Undelivered,
# Pending; a carrier has its own axis.
STATUSES: dict[str, dict[str, str]] = {
    "sms": {
        "queued": "Pending",
        "pending": "Submitted",
        "delivered": "Delivered",
        "read": "Delivered",
        "failed": "Undelivered",
    },
    "whatsApp": {
        "queued": "Queued",
        "pending": "Pending",
        "delivered": "Delivered",
        "read": "Read",
        "failed": "Failed",
    },
}
# Every word of every channel, as a parameter may spell it.
STATUS_WORDS = {word.lower(): word for words in STATUSES.values() for word in words.values()}
_CARRIER = {"Submitted": "Queued", "Delivered": "Delivered", "Undelivered": "Undelivered"}


async def detail(
    connection: db.Connection,
    app_id: str,
    history_id: str,
    limit: int,
    offset: int = 0,
    cursor: int = 0,
    status: str | None = None,
) -> Page:
    """A page of a campaign's recipients in the order of recording, from `cursor` on, `offset` of them skipped.

    `status` is a word of STATUSES, in any case; a word that the channel does not have finds nobody.
    """
    params = {"app_id": app_id, "campaign_id": parse_id(history_id)}
    campaign = await db.fetch_one(connection, _Campaign, _SQL["find_campaign"], params)
    if campaign is None:
        raise NotFound(f"no campaign {history_id}")
    rows = await _read_messages(connection, campaign, params, limit + 1, offset, cursor, status)
    write = _sms_detail if campaign.type == "sms" else _whatsapp_detail
    page = [write(campaign, *row) for row in rows[:limit]]
    return Page(page, len(rows) > limit, rows[limit][0] if len(rows) > limit else 0)


async def _read_messages(
    connection: db.Connection,
    campaign: _Campaign,
    params: dict[str, Any],
    limit: int,
    offset: int,
    cursor: int,
    status: str | None,
) -> Sequence[tuple[Any, ...]]:
    if status is None:
        # seq has no gaps, so skipping rows is starting later
        return await db.fetch_rows(
            connection, _SQL["detail_page"], {**params, "from_seq": cursor + offset, "limit": limit}
        )
    words = STATUSES[campaign.type]
    states = [state for state, word in words.items() if word.lower() == status.lower()]
    return await db.fetch_rows(
        connection,
        _SQL["detail_page_of_state"],
        {**params, "states": states, "from_seq": cursor, "limit": limit, "offset": offset},
    )


def _last_update(campaign: _Campaign, facts: tuple[datetime | None, ...]) -> str:
    """The latest fact; for a message without any, the campaign's date."""
    moments = [at for at in facts if at is not None] or [at for at in (campaign.sent_at,) if at is not None]
    return write_moment(max(moments)) if moments else ""


def _date(campaign: _Campaign) -> str:
    return write_moment(campaign.sent_at) if campaign.sent_at else ""


def _sms_detail(
    campaign: _Campaign,
    _seq: int,
    recipient: str,
    country: str | None,
    content: str | None,
    parts: int,
    state: str,
    accepted_at: datetime | None,
    delivered_at: datetime | None,
    read_at: datetime | None,
    failed_at: datetime | None,
    _error_code: str | None,
    _error_title: str | None,
) -> Detail:
    facts = (accepted_at, delivered_at, read_at, failed_at)
    status = STATUSES["sms"][state]
    return Detail(
        str(campaign.campaign_id),
        _date(campaign),
        Sender(campaign.phone, sender_eid=campaign.sender_eid),
        recipient,
        recipient_country=country or "",
        content=campaign.content if content is None else content,
        num_sms=parts,
        status=status,
        carrier_network_status=_CARRIER.get(status, ""),
        last_updated_date_time=_last_update(campaign, facts),
    )


def _whatsapp_detail(
    campaign: _Campaign,
    _seq: int,
    recipient: str,
    _country: str | None,
    _content: str | None,
    _parts: int,
    state: str,
    accepted_at: datetime | None,
    delivered_at: datetime | None,
    read_at: datetime | None,
    failed_at: datetime | None,
    error_code: str | None,
    error_title: str | None,
) -> Detail:
    facts = (accepted_at, delivered_at, read_at, failed_at)
    status = STATUSES["whatsApp"][state]
    reason = ": ".join(part for part in (error_code, error_title) if part)
    return Detail(
        str(campaign.campaign_id),
        _date(campaign),
        Sender(campaign.phone, campaign.channel_name, campaign.source_name),
        recipient,
        subject=campaign.subject,
        status=status,
        failed_reason=(reason or "failed") if status == "Failed" else UNSET,
        last_updated_date_time=_last_update(campaign, facts),
    )
