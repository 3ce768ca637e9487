"""Campaigns and their figures as reports give them to people: all figures of every channel, and rates beside them."""

from datetime import datetime
from typing import Literal, NamedTuple, get_args

import msgspec


def rate(part: int, whole: int) -> float | None:
    """A fraction with four digits; None of nothing."""
    return round(part / whole, 4) if whole else None


class Figures(msgspec.Struct, frozen=True):
    """What became of messages. `delivered` holds `read`; delivered, pending, failed and queued add up to `total`."""

    total: int
    delivered: int
    read: int
    replied: int
    pending: int
    failed: int
    queued: int

    @property
    def sent(self) -> int:
        """What left the queue."""
        return self.total - self.queued

    @property
    def delivered_rate(self) -> float | None:
        """Of what was sent."""
        return rate(self.delivered, self.sent)

    @property
    def failed_rate(self) -> float | None:
        return rate(self.failed, self.sent)


class Totals(Figures, frozen=True):
    """Of several campaigns. `readable`: what was delivered by channels that tell of reading."""

    campaigns: int
    readable: int

    @property
    def read_rate(self) -> float | None:
        return rate(self.read, self.readable)


class Sent(Figures, frozen=True):
    """A campaign and its totals, by channel type; `type` sms has no reading and no replies. `stage` where it is sent
    from here; `sent_at`: when the first message was handed over.
    """

    campaign_id: int
    sent_at: datetime | None
    name: str
    type: Literal["sms", "whatsApp"]
    created_by: str
    phone: str
    channel_name: str
    source_name: str
    sender_eid: str
    subject: str
    stage: str | None

    @property
    def has_reads(self) -> bool:
        return self.type == "whatsApp"

    @property
    def read_rate(self) -> float | None:
        """Of what was delivered."""
        return rate(self.read, self.delivered)


class Campaign(Sent, frozen=True):
    """A campaign with what it says and how it stands. `changed_at`: of its figures, name or stage."""

    content: str
    changed_at: datetime
    channel_id: str
    kind: str | None
    scheduled_at: datetime | None
    paused_reason: str | None


class Wanted(NamedTuple):
    """Which sent campaigns: None does not matter. `search`: a text in the name, in any case, or a whole id."""

    start_at: datetime | None = None
    end_at: datetime | None = None
    channel_type: str | None = None
    search: str | None = None


Key = Literal["date", "name", "total", "delivered", "read", "replied", "pending", "failed", "queued"]
KEYS: tuple[Key, ...] = get_args(Key)


class Position(NamedTuple):
    """A campaign's place in the list by date."""

    sent_at: datetime
    campaign_id: int
