"""Standstills: why a campaign that is to go out, or an import that is to run, does not move."""

from datetime import datetime
from typing import Annotated, NamedTuple

import msgspec

from tallycast import db
from tallycast.moments import write_moment
from tallycast.sendings import Sending
from tallycast.sql import load

NO_WORKER = (
    "No worker looks after it: start `tallycast worker`, or serve with --background-workers 1 or more. "
    "Where one runs, its log says what keeps it"
)
_SQL = load("standstills")
# An idle worker takes what is new within half a second.
_PATIENCE_SECONDS = 3.0
_RECENT = 20


class WaitingFor(msgspec.Struct, frozen=True):
    """What something that does not move waits for. `until`: when it goes on by itself, where that is known."""

    reason: str
    until: Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})] | msgspec.UnsetType = (
        msgspec.UNSET
    )


class _Look(NamedTuple):
    """How a campaign stands over one channel. `due_at`, `reason`: of the first message that is put off until later.

    `has_more`: not all is taken up yet; `has_open`: some is on its way, or its time to be tried again has come.
    """

    channel_id: str
    is_own: bool
    paused: str | None
    has_worker: bool
    has_more: bool
    has_open: bool
    is_stuck: bool
    due_at: datetime | None
    reason: str | None

    @property
    def has_work(self) -> bool:
        return self.has_more or self.has_open or self.due_at is not None

    def find_delay(self) -> tuple[datetime, str] | None:
        """Until when, and why, nothing goes out; None where something does."""
        if self.due_at is None or ((self.has_more or self.has_open) and not self.is_stuck):
            return None
        return self.due_at, self.reason or ""


async def find(connection: db.Connection, sending: Sending) -> WaitingFor | None:
    """Why a campaign that is being sent, or is due, does not move; None where it does."""
    params = {
        "app_id": sending.app_id,
        "campaign_id": sending.campaign_id,
        "seconds": _PATIENCE_SECONDS,
        "recent": _RECENT,
    }
    looks = [_Look(*row) for row in await db.fetch_rows(connection, _SQL["look"], params)]
    busy = [one for one in looks if one.has_work]
    paused = [one for one in busy if one.paused is not None]
    if paused:
        return WaitingFor(_tell_pause(paused[0]))
    if not all(one.has_worker for one in looks if one.is_own or one.has_work):
        return WaitingFor(NO_WORKER)
    delays = [delay for one in busy if (delay := one.find_delay())]
    if delays and len(delays) == len(busy):
        due_at, reason = min(delays)
        return WaitingFor(f"What is left was put off: {reason}", write_moment(due_at))
    if looks and not busy and sending.fallback_channel is not None:
        return WaitingFor(_tell_fallback(sending))
    return None


async def list_untaken(connection: db.Connection, app_id: str, campaign_id: int) -> set[str]:
    """The ids of a campaign's imports that no worker does, although there was time to take them."""
    params = {"app_id": app_id, "campaign_id": campaign_id, "seconds": _PATIENCE_SECONDS}
    return {found for (found,) in await db.fetch_rows(connection, _SQL["list_untaken"], params)}


def _tell_pause(look: _Look) -> str:
    whose = "Its channel" if look.is_own else "Its fallback's channel"
    return (
        f"{whose} {look.channel_id} is paused ({look.paused}): mend that, then resume the channel, "
        "by POST …/channels/{channelID}/resume or `tallycast channel resume`"
    )


def _tell_fallback(sending: Sending) -> str:
    return (
        "All messages are handed over. What is not delivered falls back to SMS, "
        f"{sending.fallback_seconds} s after it was handed over"
    )
