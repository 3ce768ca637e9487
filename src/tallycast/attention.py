"""What of an app waits for a person: receipts without a message, unknown outcomes, what is paused, what is unreadable."""

from datetime import UTC, datetime
from typing import Annotated

import msgspec

from tallycast import db, receipts
from tallycast.moments import write_moment
from tallycast.sql import load

_SQL = load("attention")
_MAX_CAMPAIGNS = 100
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class Waiting(msgspec.Struct, frozen=True, rename="camel"):
    """How many wait, since when, and for how many seconds by now; null where none does."""

    count: int
    oldest_at: Moment | None
    age_seconds: float | None


class UnknownOutcomes(msgspec.Struct, frozen=True, rename="camel"):
    """Messages of a campaign of which nobody knows whether they went out."""

    campaign_id: str = msgspec.field(name="campaignID")
    count: int
    oldest_at: Moment | None


class UnreadableBodies(msgspec.Struct, frozen=True, rename="camel"):
    count: int
    latest_at: Moment | None


class PausedChannel(msgspec.Struct, frozen=True, rename="camel"):
    channel_id: str = msgspec.field(name="channelID")
    phone: str
    channel_name: str
    paused_at: Moment
    reason: str


class PausedCampaign(msgspec.Struct, frozen=True, rename="camel"):
    campaign_id: str = msgspec.field(name="campaignID")
    campaign_name: str
    paused_at: Moment | None
    reason: str


class Attention(msgspec.Struct, frozen=True, rename="camel"):
    """`unknown` is broken down in `unknownByCampaign`. Of paused campaigns the latest 100 are listed."""

    parked: Waiting
    unknown: Waiting
    unknown_by_campaign: list[UnknownOutcomes]
    unreadable: UnreadableBodies
    paused_channels: list[PausedChannel]
    paused_campaigns: list[PausedCampaign]


async def find(connection: db.Connection, app_id: str) -> Attention:
    """All of it; what there is nothing of is empty."""
    params = {"app_id": app_id, "limit": _MAX_CAMPAIGNS}
    unknown = await db.fetch_rows(connection, _SQL["list_unknown"], params)
    [(bodies, latest_at)] = await db.fetch_rows(connection, _SQL["count_unreadable"], params)
    channels = await db.fetch_rows(connection, _SQL["list_paused_channels"], params)
    campaigns = await db.fetch_rows(connection, _SQL["list_paused_campaigns"], params)
    return Attention(
        _wait(*await receipts.count_parked(connection, app_id)),
        _wait(sum(n for _, n, _ in unknown), min((at for *_, at in unknown if at), default=None)),
        [UnknownOutcomes(str(campaign_id), n, _moment(at)) for campaign_id, n, at in unknown],
        UnreadableBodies(bodies, _moment(latest_at)),
        [PausedChannel(one, phone, name, write_moment(at), why) for one, phone, name, at, why in channels],
        [PausedCampaign(str(one), name, _moment(at), why) for one, name, at, why in campaigns],
    )


def _wait(count: int, oldest_at: datetime | None) -> Waiting:
    age = None if oldest_at is None else max(0.0, (datetime.now(UTC) - oldest_at).total_seconds())
    return Waiting(count, _moment(oldest_at), age)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else write_moment(moment)
