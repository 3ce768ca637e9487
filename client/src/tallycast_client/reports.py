"""What the reports answer with. Fields that a channel does not have, or a server leaves out, are None or empty."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tallycast_client.reading import extra, named


def rate(part: int | None, whole: int | None) -> float | None:
    """A fraction, of four digits as tallycast's own; None where one is not known, or nothing is there to compare with."""
    return round(part / whole, 4) if part is not None and whole else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """WhatsApp has a channel and its source, SMS the EID of the staff member who sent it."""

    phone: str = ""
    channel_name: str | None = None
    source_name: str | None = None
    sender_eid: str | None = named("senderEID", None)
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class SentCampaign:
    """A campaign with its totals. An SMS campaign has no subject, read, replied, pending and failed.

    `delivered` holds `read`. `replied` counts each button once per recipient and every click of a link.
    """

    id: str = ""
    date: datetime | None = None
    campaign_name: str = ""
    channel: str = ""
    created_by: str = ""
    sender: Sender = Sender()
    subject: str | None = None
    total_recipients: int = 0
    delivered: int = 0
    read: int | None = None
    replied: int | None = None
    pending: int | None = None
    failed: int | None = None
    extra: Mapping[str, Any] = extra()

    @property
    def sent(self) -> int:
        """What left the queue; of an SMS campaign, whose summary does not say it, all recipients."""
        if self.pending is None or self.failed is None:
            return self.total_recipients
        return self.delivered + self.pending + self.failed

    @property
    def delivered_rate(self) -> float | None:
        """Of the sent."""
        return rate(self.delivered, self.sent)

    @property
    def failed_rate(self) -> float | None:
        """Of the sent."""
        return rate(self.failed, self.sent)

    @property
    def read_rate(self) -> float | None:
        """Of the delivered."""
        return rate(self.read, self.delivered)

    @property
    def replies_per_delivered(self) -> float | None:
        """Not a share of people: who clicks twice counts twice. `Insights.funnel.replied_rate` counts people."""
        return rate(self.replied, self.delivered)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """What became of one recipient. `id` and `date` are the campaign's."""

    id: str = ""
    date: datetime | None = None
    sender: Sender = Sender()
    recipient: str = ""
    recipient_country: str | None = None
    subject: str | None = None
    content: str | None = None
    num_sms: int | None = named("numSMS", None)
    status: str = ""
    carrier_network_status: str | None = None
    failed_reason: str | None = None
    last_updated: datetime | None = named("LastUpdatedDateTime", None)
    extra: Mapping[str, Any] = extra()
