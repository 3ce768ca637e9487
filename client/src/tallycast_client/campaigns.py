"""What tallycast answers about campaigns that it records or sends."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tallycast_client.reading import extra, named
from tallycast_client.reports import rate

ENDED_IMPORTS = frozenset({"done", "refused", "failed"})


@dataclass(frozen=True, slots=True)
class Message:
    """A message to record. With the provider's `message_id` it was handed over, without one it waits for it."""

    recipient: str
    message_id: str | None = None
    content: str | None = None

    def write(self) -> dict[str, str]:
        fields = {"recipient": self.recipient, "messageID": self.message_id, "content": self.content}
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A message that was not kept; `index` counts from 0, `line` (of a stream) from 1."""

    index: int = 0
    recipient: str = ""
    error: str = ""
    line: int | None = None
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """`accepted` counts the messages that are kept now, also those that were before."""

    id: str = ""
    accepted: int = 0
    rejected: tuple[Rejected, ...] = ()
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A recipient's own tracked link."""

    recipient: str = ""
    url: str = ""
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A number that campaigns are sent from, or reported for. `paused`: since when and why nothing is sent over it."""

    id: str = ""
    type: str = ""
    provider: str = ""
    phone: str = ""
    channel_name: str = ""
    source_name: str = ""
    webhook_url: str = named("webhookURL", "")
    has_webhook_secret: bool = False
    rate_per_second: float | None = None
    paused: Mapping[str, Any] | None = None
    created_at: datetime | None = None
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """delivered, pending, failed and queued add up to all recipients; `delivered` holds `read`."""

    total_recipients: int = 0
    queued: int = 0
    pending: int = 0
    delivered: int = 0
    read: int = 0
    failed: int = 0
    replied: int = 0
    extra: Mapping[str, Any] = extra()

    @property
    def delivered_rate(self) -> float | None:
        """Of what left the queue."""
        return rate(self.delivered, self.total_recipients - self.queued)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """How many failed for a reason. `words`: what it means, `what_to_do` about it; empty for an unknown code."""

    code: str = ""
    title: str = ""
    count: int = 0
    words: str = ""
    what_to_do: str = ""
    retryable: bool = False
    provider: str = ""
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """A campaign that tallycast sends, in every stage from draft to sent or cancelled.

    `unknown`: messages of which nobody knows whether they went out. `template`, `fallback` and `fallback_split` are as
    the API has them.
    """

    id: str = ""
    campaign_name: str = ""
    kind: str = ""
    stage: str = ""
    channel_id: str = named("channelID", "")
    created_by: str = ""
    sender_eid: str = named("senderEID", "")
    columns: tuple[str, ...] = ()
    track_links: bool = False
    created_as: str = ""
    created_at: datetime | None = None
    totals: Totals = Totals()
    content: str | None = None
    template: Mapping[str, Any] | None = None
    fallback: Mapping[str, Any] | None = None
    paused_reason: str | None = None
    submitted_as: str | None = None
    approved_as: str | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    unknown: int | None = None
    fallback_split: Mapping[str, Any] | None = None
    failures: tuple[Cause, ...] = ()
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """How an import goes: rows = accepted + duplicate + opted_out + invalid + landline.

    `state`: waiting, running, done, refused (the file's fault; nothing was kept) or failed; `reason` says why.
    """

    id: str = ""
    campaign_id: str = named("campaignID", "")
    state: str = ""
    percent: int = 0
    rows: int = 0
    accepted: int = 0
    duplicate: int = 0
    opted_out: int = 0
    invalid: int = 0
    landline: int = 0
    on_error: str = ""
    file_name: str = ""
    bytes: int = 0
    reason: str = ""
    created_as: str = ""
    created_at: datetime | None = None
    ended_at: datetime | None = None
    extra: Mapping[str, Any] = extra()

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED_IMPORTS


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewMessage:
    """What a recipient will get: a text with its SMS parts, or a template; `error` where it cannot be filled in."""

    recipient: str = ""
    text: str | None = None
    parts: int | None = None
    template: Mapping[str, Any] | None = None
    fallback_text: str | None = None
    fallback_parts: int | None = None
    error: str | None = None
    extra: Mapping[str, Any] = extra()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The first messages, and what all of them take. `failing` recipients' messages cannot be filled in."""

    messages: tuple[PreviewMessage, ...] = ()
    total_recipients: int = 0
    failing: int = 0
    error: str | None = None
    parts: int | None = None
    cost: float | None = None
    extra: Mapping[str, Any] = extra()
