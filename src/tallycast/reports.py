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
from tallycast.summaries import Campaign, Key, Position, Sent, Totals, Wanted

_SQL = load("reports")
# The columns of a summary's query, in their order.
_COLUMNS = (
    "campaign_id", "sent_at", "name", "type", "created_by", "phone", "channel_name", "source_name", "sender_eid", "subject",
    "total", "delivered", "read", "replied", "pending", "failed",
)  # fmt: skip
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
    search: str | None = None,
) -> Page:
    """A page of the campaigns sent in `start_at <= date < end_at`, the newest first."""
    if search is not None:
        wanted = Wanted(start_at, end_at, channel_type, search)
        found = await _list_by_date(connection, app_id, wanted, limit + 1, offset)
        return Page([_summary_of(one) for one in found[:limit]], len(found) > limit)
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
    return Page([write_summary(*row) for row in rows[:limit]], len(rows) > limit)


def write_summary(
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
    """From the columns of a summary's query, in their order."""
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


def _summary_of(one: Sent) -> Summary:
    return write_summary(*(getattr(one, name) for name in _COLUMNS))


async def list_sent(
    connection: db.Connection,
    app_id: str,
    wanted: Wanted,
    key: Key,
    limit: int,
    *,
    is_down: bool = True,
    offset: int = 0,
    after: Position | None = None,
    before: Position | None = None,
) -> list[Sent]:
    """The same campaigns with all their figures: in the order of `key`, `limit` of them, `offset` skipped.

    By date they can be those after a position, or those right before one: as fast at the end of a long list as at its
    beginning. By any other key all campaigns of the period are read.
    """
    if key != "date":
        params = {**_choose(app_id, wanted, limit, offset), "key": key, "is_down": is_down}
        return await db.fetch_all(connection, Sent, _SQL["sent_sorted"], params)
    if before is None:
        return await _list_by_date(connection, app_id, wanted, limit, offset, after, is_down=is_down)
    found = await _list_by_date(connection, app_id, wanted, limit, offset, before, is_down=not is_down)
    return found[::-1]


async def _list_by_date(
    connection: db.Connection,
    app_id: str,
    wanted: Wanted,
    limit: int,
    offset: int,
    after: Position | None = None,
    *,
    is_down: bool = True,
) -> list[Sent]:
    params = {
        **_choose(app_id, wanted, limit, offset),
        "position_at": after and after.sent_at,
        "position": after and after.campaign_id,
    }
    query = _SQL["sent_before" if is_down else "sent_after"]
    return await db.fetch_all(connection, Sent, query, params)


def _choose(app_id: str, wanted: Wanted, limit: int, offset: int) -> dict[str, Any]:
    return {
        "app_id": app_id,
        "start_at": wanted.start_at,
        "end_at": wanted.end_at,
        "type": wanted.channel_type,
        "search": wanted.search,
        "limit": limit,
        "offset": offset,
    }


async def add_up(connection: db.Connection, app_id: str, wanted: Wanted) -> Totals:
    """The figures of such campaigns together."""
    totals = await db.fetch_one(connection, Totals, _SQL["add_up"], _choose(app_id, wanted, 0, 0))
    assert totals is not None
    return totals


async def find_sent(connection: db.Connection, app_id: str, campaign_id: int) -> Campaign:
    """One campaign, sent or not, by its running totals. NotFound."""
    params = {"app_id": app_id, "campaign_id": campaign_id}
    campaign = await db.fetch_one(connection, Campaign, _SQL["find_sent"], params)
    if campaign is None:
        raise NotFound(f"no campaign {campaign_id}")
    return campaign


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
