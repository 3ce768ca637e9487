"""What every provider's file offers, and what it is given."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

import msgspec

from tallycast.events import Event


class Signed(NamedTuple):
    """A webhook request, as far as its proof of origin needs it.

    `headers` have lower-case names. `urls` are the full URLs (with query) under which the provider may know
    us: Twilio signs the URL that it called, which a proxy in between may have changed.
    """

    headers: Mapping[str, str]
    urls: tuple[str, ...]
    body: bytes


class Provider(Protocol):
    def verify(self, secret: str, credentials: Mapping[str, str], request: Signed) -> bool:
        """Whether the request proves that it knows the channel's secret; compared in constant time."""

    def parse(self, body: bytes, content_type: str) -> list[Event]:
        """Everything that the body says; never raises, and keeps what it cannot read as `Unreadable`."""


class Action(StrEnum):
    """What a provider's refusal of a message means for what comes next: the whole of the retry policy."""

    RETRY = "retry"  # this message again after a while, a few times
    SLOW_DOWN = "slow down"  # the channel sends too fast: this message again, and all that follow slower
    FAIL = "fail"  # this message never; the others go on
    OPT_OUT = "opt out"  # the same, and the recipient wants no more
    PAUSE_CAMPAIGN = "pause campaign"  # every message of the campaign would meet the same
    PAUSE_CHANNEL = "pause channel"  # every message of the channel would


class Rule(NamedTuple):
    """A row of a provider's error table. `words` tell a person what happened and what to do.

    `wait_seconds` is before the first repetition; it is multiplied by `growth` for each one that follows.
    """

    action: Action
    words: str
    wait_seconds: float = 5.0
    growth: float = 2.0

    @property
    def is_passing(self) -> bool:
        """Whether the same message may well be taken later."""
        return self.action in {Action.RETRY, Action.SLOW_DOWN}


class SendError(msgspec.Struct, frozen=True):
    """A refusal: the message was certainly not sent. `retry_after` is what the provider asked for, in seconds."""

    code: str
    title: str
    rule: Rule
    retry_after: float | None = None


class TemplateMessage(msgspec.Struct, frozen=True):
    """A WhatsApp template with its parameters filled in; `components` as Meta's API takes them."""

    name: str
    language: str
    components: list[dict[str, Any]]


class Outgoing(msgspec.Struct, frozen=True):
    """One message as it goes to a provider: a text, or a template.

    `recipient` is E.164 with `+`. `reference` is tallycast's own id of the message, for providers that echo one.
    `callback_url` is where receipts shall come, for providers that are told with each message.
    """

    recipient: str
    sender: str
    reference: str
    text: str | None = None
    template: TemplateMessage | None = None
    callback_url: str = ""


class Accepted(msgspec.Struct, frozen=True):
    """The provider took the message, under these ids: one, or one for each part of an SMS."""

    message_ids: list[str]


class Refused(msgspec.Struct, frozen=True):
    error: SendError


class Unknown(msgspec.Struct, frozen=True):
    """Nobody can tell whether the message was taken: no answer, or one that says neither."""

    reason: str


Outcome = Accepted | Refused | Unknown


class Call(NamedTuple):
    """An HTTP request to a provider."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Carrier(Protocol):
    """A provider that messages are sent through by HTTP."""

    def compose(self, credentials: Mapping[str, str], message: Outgoing) -> Call:
        """The request that sends one message. ValueError names the credential that is missing."""

    def read_answer(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        """What the answer means, by the provider's error table; never raises."""
