"""Campaigns: recording those that another system sent."""

import secrets
import time
from datetime import datetime
from typing import Literal

import msgspec

from tallycast import db
from tallycast.channels import Channel
from tallycast.errors import BadQuery, NotFound, Unprocessable
from tallycast.moments import parse_moment, write_moment
from tallycast.sql import load

_SQL = load("campaigns")
_MAX_TEXT = 500
_MAX_CONTENT = 100_000
_MAX_ID = 2**63 - 1
_MAX_ID_DIGITS = 19


class SentCampaign(msgspec.Struct, frozen=True, rename="camel"):
    """What another system tells about a campaign; `date` is when it went out (RFC 3339)."""

    campaign_name: str
    channel_id: str = msgspec.field(name="channelID")
    created_by: str = ""
    sender_eid: str = msgspec.field(name="senderEID", default="")
    subject: str = ""
    content: str = ""
    date: str | None = None
    messages: list[msgspec.Raw] = []


def make_id() -> int:
    """A campaign's id: 43 bits of Unix milliseconds and 20 random ones, so that ids sort by creation."""
    return (time.time_ns() // 1_000_000) << 20 | secrets.randbits(20)


def parse_id(text: str) -> int:
    """The id in a URL or parameter; NotFound where it cannot be one."""
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_ID_DIGITS and int(text) <= _MAX_ID):
        raise NotFound(f"no campaign {text[:40]}")
    return int(text)


async def record(connection: db.Connection, app_id: str, channel: Channel, sent: SentCampaign) -> int:
    """Record a campaign without messages; its id."""
    check_texts(sent.campaign_name, sent.created_by, sent.sender_eid, sent.subject, sent.content)
    campaign_id = make_id()
    params = {
        "app_id": app_id,
        "campaign_id": campaign_id,
        "channel_number": channel.channel_number,
        "type": channel.type,
        "name": sent.campaign_name,
        "created_by": sent.created_by,
        "sender_eid": sent.sender_eid,
        "subject": sent.subject,
        "content": sent.content,
        "phone": channel.phone,
        "channel_name": channel.channel_name,
        "source_name": channel.source_name,
        "dated": _parse_date(sent.date),
    }
    await db.execute(connection, _SQL["add_campaign"], params)
    await db.execute(connection, _SQL["add_counts"], {"app_id": app_id, "campaign_id": campaign_id})
    return campaign_id


async def require(connection: db.Connection, app_id: str, campaign_id: int) -> None:
    params = {"app_id": app_id, "campaign_id": campaign_id}
    if not await db.fetch_rows(connection, _SQL["has_campaign"], params):
        raise NotFound(f"no campaign {campaign_id}")


class Retention(msgspec.Struct, frozen=True):
    """Since when a campaign's recipients are anonymous or deleted, or about to be: its figures are frozen."""

    mode: Literal["anonymise", "delete"]
    began_at: datetime

    def describe(self) -> str:
        done = "deleted" if self.mode == "delete" else "made anonymous"
        return f"its recipients were {done} on {write_moment(self.began_at)}, as the app's retention says"


async def find_retention(connection: db.Connection, app_id: str, campaign_id: int) -> Retention | None:
    params = {"app_id": app_id, "campaign_id": campaign_id}
    return await db.fetch_one(connection, Retention, _SQL["find_retention"], params)


async def refuse_retained(connection: db.Connection, app_id: str, campaign_id: int) -> None:
    """Unprocessable for a campaign whose figures are frozen."""
    retention = await find_retention(connection, app_id, campaign_id)
    if retention is not None:
        raise Unprocessable(f"campaign {campaign_id} cannot change any more: {retention.describe()}")


def _parse_date(text: str | None) -> datetime | None:
    if not text:
        return None
    date = parse_moment(text, "date")
    return date.replace(microsecond=date.microsecond // 1000 * 1000)


def check_texts(name: str, created_by: str, sender_eid: str, subject: str, content: str) -> None:
    if not name.strip():
        raise BadQuery.of("campaignName must not be empty")
    limits = {
        "campaignName": (name, _MAX_TEXT),
        "createdBy": (created_by, _MAX_TEXT),
        "senderEID": (sender_eid, _MAX_TEXT),
        "subject": (subject, _MAX_TEXT),
        "content": (content, _MAX_CONTENT),
    }
    for field, (text, limit) in limits.items():
        if len(text) > limit or "\0" in text:
            raise BadQuery.of(f"{field} must be at most {limit} characters, without NUL")
